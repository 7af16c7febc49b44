//! Hosts of other processes that check messages.

use super::*;

/// The answer says so at once, whatever the reason is that nobody checks it.
#[test]
fn a_message_that_nobody_can_check_is_refused_and_may_be_sent_again() {
    let refused = |client: &mut Client| {
        publish(client, 1, "chat.1", "x");
        let told = client.text();
        let fields = ["code", "status", "channel", "ref"].map(|name| field(&told, name));
        assert_eq!(fields, ["refused", "503", "chat.1", "1"], "{told}");
    };
    // No host has asked for events yet.
    let host = Host::start(&[EVENTS, ASKS, ("call_timeout", "10m")]);
    let mut client = host.websocket("", true);
    refused(&mut client);
    host.server.event_fd().unwrap();
    publish(&mut client, 2, "chat.1", "x");
    host.server.allow_publish(next(&host.server).request, None).unwrap();
    expect(&mut client, "published", 2);
    host.stop();
    // No host is attached; the hosts of its name are gone, and another one is there; a host does not take such events.
    let path = format!("unix:{}", socket_path());
    let hub = Host::start(&[("attach_listen", &path), EVENTS, ASKS, ("call_timeout", "10m")]);
    refused(&mut hub.websocket("", true));
    let [gone, other] = ["gone", "other"].map(|name| attached(&path, &[EVENTS, ("attach_name", name)]));
    for host in [&gone, &other] {
        host.event_fd().unwrap();
        host.stats().unwrap();
    }
    let mut client = adopted(&gone, None);
    publish(&mut client, 7, "chat.1", "x");
    gone.allow_publish(next(&gone).request, None).unwrap();
    expect(&mut client, "published", 7);
    gone.stop(PATIENCE);
    // A message that was on its way to it would be lost with it.
    until("the hub sees that it has gone", || hub.server.stats().unwrap().hosts == 1);
    refused(&mut client);
    let options = [("attach", &*path), ("attach_timeout", "1m"), ("attach_name", "other"), ("events", "none")];
    other.reload(&common::builder(&options)).unwrap();
    refused(&mut hub.websocket("", true));
    other.stop(PATIENCE);
    hub.stop();
}

#[test]
fn an_attached_host_checks_messages() {
    let path = format!("unix:{}", socket_path());
    let hub = Host::start(&[("attach_listen", &path), EVENTS, ASKS, ("call_timeout", "10m")]);
    let host = attached(&path, &[EVENTS]);
    host.event_fd().unwrap();
    // The hub knows by now that the host wants events.
    host.stats().unwrap();
    let mut reader = hub.websocket("channel=chat.1", false);
    let mut client = adopted(&host, None);
    client.say(r#"{"type":"publish","ref":1,"channel":"chat.1","data":"1","event":"said","key":"k"}"#);
    (2..=4).for_each(|reference| publish(&mut client, reference, "chat.1", &reference.to_string()));
    let asked = [(); 4].map(|()| next(&host));
    let rest = Publishing { event: Some("said".into()), key: Some("k".into()) };
    assert_eq!((asked[0].channel.as_deref(), asked[0].publishing.as_deref()), (Some("chat.1"), Some(&rest)));
    let long = "x".repeat(2 << 20);
    assert_eq!(host.allow_publish(asked[3].request, Some(&text(&long))).unwrap_err().kind(), Kind::TooLarge);
    host.allow_publish(asked[3].request, Some(&text("four"))).unwrap();
    host.deny(asked[2].request, 401, "no").unwrap();
    expect(&mut client, "refused", 3);
    host.allow_publish(asked[0].request, None).unwrap();
    expect(&mut client, "published", 1);
    // This host ends before it has answered. Another one of its name may know the number.
    host.stop(PATIENCE);
    let host = attached(&path, &[EVENTS]);
    host.event_fd().unwrap();
    // It is attached by now. An answer that comes before would not be for this life of the hub.
    host.stats().unwrap();
    host.allow_publish(asked[1].request, Some(&text("two"))).unwrap();
    host.allow_publish(asked[1].request, Some(&text("again"))).unwrap();
    expect(&mut client, "published", 2);
    expect(&mut client, "published", 4);
    host.stats().unwrap();
    assert_eq!(all(&hub, &mut reader, "chat.1"), ["1", "two", "four"]);
    host.stop(PATIENCE);
    hub.stop();
}

/// The grant of such a client is made by the hub.
#[test]
fn a_client_that_is_handed_over_without_a_grant_may_publish_what_the_options_say_now() {
    let path = format!("unix:{}", socket_path());
    let hub = Host::start(&[("attach_listen", &path)]);
    let host = attached(&path, &[]);
    let mut client = adopted(&host, None);
    publish(&mut client, 1, "a", "x");
    expect(&mut client, "publish", 1);
    let options = [("attach_listen", &*path), ("channel.a.client_publish", "true")];
    hub.server.reload(&common::builder(&options)).unwrap();
    until("the shard has the options", || {
        publish(&mut client, 2, "a", "x");
        answer(&mut client).0 == "published"
    });
    publish(&mut client, 3, "b", "x");
    expect(&mut client, "publish", 3);
    host.stop(PATIENCE);
    hub.stop();
}
