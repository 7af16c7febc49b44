//! `POST /v1/publish?user=`: messages to users (option `user_channel`).

use super::common::{eventually, field, Client, Host, CONTROL};
use super::{ask, post, published};
use push::grant::Grant;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

/// A stream of a user without any channel.
fn stream(host: &Host, user: &str) -> Client {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let head = b"GET /push?transport=stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
    host.server.adopt(theirs.into(), head, Some(Grant::new(Some(user), &[], &[], 0, false, false).unwrap())).unwrap();
    let mut client = Client::over(OwnedFd::from(ours).into());
    assert!(client.head().starts_with("HTTP/1.1 200 "));
    client
}

#[test]
fn a_message_goes_to_one_user_or_to_several() {
    let host = Host::start(&[&CONTROL[..], &[("user_channel", "true")]].concat());
    let names = ["ada", "b\u{f6}b, 100% & more", "c*d"];
    let mut clients = names.map(|user| stream(&host, user));
    eventually(|| host.server.stats().unwrap().subscriptions == 3);
    let (status, body) = ask(&host, "POST", "/v1/publish?user=ada&event=tick", "Push-Key: k\r\n", b"one");
    assert_eq!((status, field(&body, "subscribers")), (200, "1".into()), "{body}");
    let told = clients[0].until("one");
    assert!(told.contains(&format!(r#""channel":"user:ada","id":"{}","event":"tick""#, field(&body, "id"))), "{told}");
    let again = ask(&host, "POST", "/v1/publish?user=ada", "Push-Key: k\r\n", b"twice").1;
    assert_eq!((field(&again, "id"), field(&again, "subscribers")), (field(&body, "id"), "0".into()));
    // Several users, each in its place.
    let (status, body) =
        post(&host, "/v1/publish?user=ada&user=b%C3%B6b%2C%20100%25%20%26%20more&user=c*d", "to three");
    let places: Vec<serde_json::Value> = serde_json::from_str(&body).unwrap();
    assert_eq!((status, places.len()), (200, 3), "{body}");
    for (client, place) in clients.iter_mut().zip(&places) {
        assert_eq!(place["subscribers"], 1);
        assert!(client.until("to three").contains(place["id"].as_str().unwrap()));
    }
    // In a batch each message has a channel or a user.
    let batch = r#"[{"user":"ada","data":"last","event":"e"},{"channel":"c","data":"x"},{"data":"AA==","base64":true,"user":"c*d"}]"#;
    assert_eq!(post(&host, "/v1/publish", batch).0, 200);
    assert!(clients[0].until("last").contains("user:ada"));
    assert!(clients[2].until("AA==").contains("user:c*d"));
    // It is shown as any other channel.
    assert!(host.control("/v1/channels").contains(r#""channel":"user:ada","subscribers":1,"messages":3"#));
    assert!(host.control("/v1/users?channel=user:ada").contains(r#"{"user":"ada","connections":1}"#));
    assert!(host.control("/v1/connections?user=ada").contains(r#""names":["user:ada"]"#));
    assert!(host.control("/v1/channels/user:ada/messages").contains("to three"));
    host.stop();
}

#[test]
fn what_is_wrong_with_a_user_is_said() {
    let host = Host::start(&[&CONTROL[..], &[("user_channel", "true")]].concat());
    let long = "u".repeat(251);
    let both = "channel and user: a message goes to one of the two";
    for (path, body, told) in [
        ("/v1/publish?user=ada&channel=c", "x", both),
        ("/v1/publish", r#"[{"user":"ada","channel":"c","data":"x"}]"#, both),
        ("/v1/publish", r#"[{"data":"x"}]"#, "message 1: channel is missing"),
        ("/v1/publish?user=", "x", "user: empty"),
        ("/v1/publish?user=ada*", "x", "no channel's name ends in *"),
        ("/v1/publish?user=a%0A", "x", "control characters"),
        ("/v1/publish?user=%FF", "x", "user: not UTF-8"),
        (&format!("/v1/publish?user={long}"), "x", "a user with more than 250 has no channel"),
        ("/v1/publish?user=ada&user=*", "x", "no channel's name ends in *"),
        ("/v1/publish", r#"[{"user":"*","data":"x"}]"#, "message 1: user: "),
        ("/v1/broadcast?user=ada", "x", "unknown parameter user"),
        ("/v1/end?channel=user:ada", "", "no beginning and no end"),
    ] {
        let (status, answer) = post(&host, path, body);
        assert!(status == 400 && answer.contains(told), "{path} {body}: {status} {answer}");
    }
    assert_eq!(published(&host), 0);
    host.stop();
    let host = Host::start(&CONTROL);
    for (path, body) in [("/v1/publish?user=ada", "x"), ("/v1/publish", r#"[{"user":"ada","data":"x"}]"#)] {
        let (status, answer) = post(&host, path, body);
        assert!(status == 400 && answer.contains("option user_channel is off"), "{path}: {status} {answer}");
    }
    assert_eq!(published(&host), 0);
    host.stop();
}
