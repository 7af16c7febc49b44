//! Messages of attached hosts to users. The hub's option `user_channel` counts, not the host's.

use super::{adopt, attached, hub, logged_hub, path, websocket};
use crate::common::until;
use push::error::Kind;
use push::grant::{Grant, Terms};
use push::hub::Publication;

fn of_user(user: &str) -> Grant {
    Grant::new(Some(user), &[], &["news".into()], 0, false, false).unwrap()
}

#[test]
fn a_host_publishes_to_a_user_of_any_host_in_the_order_of_its_calls() {
    let path = path();
    let hub = hub(&path, &[("user_channel", "true")]);
    // What its own options say does not matter.
    let hosts = [attached(&path, &[]), attached(&path, &[("user_channel", "false")])];
    let mut clients = [0, 1].map(|host| websocket(&hosts[host], "channel=news", Some(of_user("ada"))));
    let mut own =
        adopt(&hub.server, "GET /push?transport=stream HTTP/1.1\r\nHost: localhost\r\n\r\n", Some(of_user("ada")));
    own.head();
    until("all are there", || hub.server.stats().unwrap().subscriptions == 5);
    let message = |data: &'static str| Publication::new("", data.as_bytes());
    hosts[0].post_user("ada", &message("1")).unwrap();
    hosts[0].post(&Publication::new("news", b"2")).unwrap();
    let placed = hosts[0].publish_user("ada", &Publication { key: Some("k"), ..message("3") }).unwrap();
    assert_eq!((placed.seq, placed.subscribers), (3, 3));
    assert_eq!(hosts[0].publish_user("ada", &Publication { key: Some("k"), ..message("3") }).unwrap().seq, 3);
    hosts[0].post_user("bob", &message("not hers")).unwrap();
    hosts[0].post_batch(&[Publication::new("user:ada", b"4"), Publication::new("news", b"5")]).unwrap();
    for client in &mut clients {
        assert_eq!([(); 5].map(|()| client.text()), ["1", "2", "3", "4", "5"]);
    }
    let got = own.until("\"4\"");
    assert!(
        got.contains("\"1\"") && got.contains(&hosts[0].position_of(&placed)) && !got.contains("not hers"),
        "{got}"
    );
}

#[test]
fn a_hub_whose_option_is_off_publishes_nothing_and_says_so() {
    let path = path();
    let hub = hub(&path, &[]);
    let host = attached(&path, &[("user_channel", "true")]);
    let message = Publication::new("", b"x");
    for error in [host.publish_user("ada", &message).map(drop), host.post_user("ada", &message)] {
        let error = error.unwrap_err();
        assert!(
            error.kind() == Kind::Invalid && error.to_string().contains("hub's option user_channel is off"),
            "{error}"
        );
    }
    assert_eq!(hub.server.stats().unwrap().seq, 0);
    // There a name that begins so is like any other.
    let named = Grant::new(Some("ada"), &["user:ada".into()], &[], 0, false, false).unwrap();
    let mut client = websocket(&host, "channel=user:ada", Some(named));
    host.post(&Publication::new("user:ada", b"plain")).unwrap();
    assert_eq!(client.text(), "plain");
}

#[test]
fn what_waits_for_a_hub_is_refused_by_the_one_that_comes() {
    let path = path();
    let host = attached(&path, &[]);
    let names = ["user:bob".to_owned()];
    let bad = || Grant::of(&Terms { subscribe: &names, ..Terms::default() }).unwrap();
    // No hub is there yet: nobody knows its option.
    host.post_user("ada", &Publication::new("", b"early")).unwrap();
    host.post(&Publication::new("news", b"fine")).unwrap();
    let head = "GET /push?channel=news&transport=stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut client = adopt(&host, head, Some(bad()));
    let (off, lines) = logged_hub(&path, &[]);
    until("the hub has refused it", || host.stats().is_ok_and(|stats| stats.undone == 1));
    assert_eq!(off.server.stats().unwrap().seq, 1, "only the one to news");
    let says = |line: &String| line.contains("publishing for process ") && line.contains("option user_channel is off");
    until("its log says so", || lines.lock().unwrap().iter().any(says));
    assert!(client.head().starts_with("HTTP/1.1 200 "));
    off.stop();
    until("the host has noticed", || host.post_user("ada", &Publication::new("", b"x")).is_ok());
    // The same with a hub whose users have channels: this grant can't be.
    let mut client = adopt(&host, head, Some(bad()));
    let (_on, lines) = logged_hub(&path, &[("user_channel", "true")]);
    let (head, body) = client.response();
    assert!(head.starts_with("HTTP/1.1 403 ") && body.contains("denied"), "{head}{body}");
    let says = |line: &String| line.contains("names that begin with user: belong to the library");
    until("its log says why", || lines.lock().unwrap().iter().any(says));
    // From now on the host knows.
    let error = host.renew(1 << 40, bad()).unwrap_err();
    assert!(error.kind() == Kind::Invalid && error.to_string().contains("user:bob"), "{error}");
    host.publish_user("ada", &Publication::new("", b"now")).unwrap();
}
