//! How much may wait, of one connection and of all.

use super::*;
use std::time::Duration;

/// Nothing waits any more, and a client can publish again.
fn has_room_again(host: &Host, client: &mut Client, reference: u64) {
    until("nothing waits", || host.server.stats().unwrap().inbox_bytes == 0);
    publish(client, reference, "chat.1", "x");
    host.server.allow_publish(next(&host.server).request, None).unwrap();
    expect(client, "published", reference);
}

#[test]
fn what_waits_is_bounded_for_a_connection_and_for_all() {
    let host = start(&[("max_calls", "2"), ("events", "call,publish"), ("client_publish", "true")]);
    let mut client = host.websocket("", true);
    client.say(r#"{"type":"call","ref":1,"data":"x"}"#);
    publish(&mut client, 2, "chat.1", "x");
    publish(&mut client, 3, "chat.1", "x");
    expect(&mut client, "calls", 3);
    publish(&mut client, 4, "open", "it would have to wait, too");
    expect(&mut client, "calls", 4);
    client.say(r#"{"type":"call","ref":5,"data":"x"}"#);
    expect(&mut client, "calls", 5);
    let call = host.server.next_event(Some(PATIENCE)).unwrap();
    host.server.answer_call(call.request, b"y", false).unwrap();
    expect(&mut client, "answer", 1);
    publish(&mut client, 6, "open", "behind");
    host.server.allow_publish(next(&host.server).request, None).unwrap();
    expect(&mut client, "published", 2);
    expect(&mut client, "published", 6);
    host.stop();
    let host = start(&[("inbox_total", "1MB"), ("max_client_message", "1MB")]);
    let mut clients = [(); 2].map(|()| host.websocket("", true));
    let large = "x".repeat(600_000);
    publish(&mut clients[0], 1, "chat.1", &large);
    let first = next(&host.server);
    publish(&mut clients[1], 1, "chat.1", &large);
    let second = next(&host.server);
    assert!(host.server.stats().unwrap().inbox_bytes > 1_200_000);
    publish(&mut clients[0], 2, "chat.1", "x");
    expect(&mut clients[0], "busy", 2);
    // What a client that has gone leaves counts as well.
    let [mut client, gone] = clients;
    drop(gone);
    until_left(&host, 1);
    publish(&mut client, 3, "chat.1", "x");
    expect(&mut client, "busy", 3);
    host.server.deny(second.request, 403, "").unwrap();
    host.server.allow_publish(first.request, None).unwrap();
    expect(&mut client, "published", 1);
    has_room_again(&host, &mut client, 4);
    host.stop();
}

/// What a client has published waits for the host though the client has gone. So it may come again and publish more.
#[test]
fn a_client_that_comes_again_and_again_takes_no_more_than_the_bound_for_all() {
    let host = start(&[("inbox_total", "1MB"), ("max_calls", "4"), ("client_rate", "0"), ("threads", "1")]);
    let (data, mut questions, mut is_full) = ("x".repeat(60_000), Vec::new(), false);
    while !is_full {
        let mut client = host.websocket("", true);
        (1..=5).for_each(|reference| publish(&mut client, reference, "chat.1", &data));
        client.say(r#"{"type":"ping"}"#);
        let errors = std::iter::from_fn(|| Some(client.text()).filter(|told| !told.contains("pong")));
        let codes: Vec<String> = errors.map(|told| field(&told, "code")).collect();
        is_full = codes.iter().any(|code| code == "busy");
        assert!(is_full || codes == ["calls"], "{codes:?}");
        questions.extend(std::iter::from_fn(|| host.server.next_event(Some(Duration::ZERO)).ok()));
        drop(client);
        until_left(&host, 0);
        let stats = host.server.stats().unwrap();
        assert_eq!(stats.publish_checks_waiting, questions.len() as u64);
        assert!(stats.inbox_bytes < (1 << 20) + 61_000, "{}", stats.inbox_bytes);
    }
    assert!(questions.len() > 4, "they are of several connections");
    let mut other = host.websocket("", true);
    publish(&mut other, 1, "chat.1", "x");
    expect(&mut other, "busy", 1);
    questions.iter().for_each(|event| host.server.deny(event.request, 403, "").unwrap());
    has_room_again(&host, &mut other, 2);
    host.stop();
}

/// Clients that publish as fast as they can are not read from while the host is behind.
#[test]
fn a_host_that_takes_no_events_is_not_buried_in_messages() {
    const MESSAGES: u64 = 40;
    let host = start(&[("event_queue", "16"), ("max_calls", "1000"), ("threads", "1"), ("client_rate", "0")]);
    let (data, mut clients) = ("x".repeat(10_000), [(); 8].map(|()| host.websocket("", true)));
    let senders = clients.each_mut().map(|client| {
        let (mut stream, data) = (client.stream.try_clone().unwrap(), data.clone());
        std::thread::spawn(move || {
            for reference in 0..MESSAGES {
                let text = format!(r#"{{"type":"publish","ref":{reference},"channel":"chat.1","data":"{data}"}}"#);
                stream.write_all(&common::masked::frame(0x81, text.as_bytes(), [1, 2, 3, 4])).unwrap();
            }
        })
    });
    let waiting = || host.server.stats().unwrap().events_waiting;
    until("the queue is full", || waiting() >= 16);
    // A client that the host hears nothing of is still read. With each of its answers the shard has done a turn, in which
    // it could read the others.
    let mut other = host.websocket("channel=other", false);
    for _ in 0..50 {
        other.frame(0x89, b"x");
        assert_eq!(other.next_frame(), (0x8a, b"x".to_vec()));
        assert!(waiting() < 16 + 8, "{}", waiting());
    }
    for _ in 0..8 * MESSAGES {
        host.server.allow_publish(next(&host.server).request, None).unwrap();
        assert!(waiting() < 16 + 8, "{}", waiting());
    }
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    for client in &mut clients {
        (0..MESSAGES).for_each(|reference| expect(client, "published", reference));
    }
    let stats = host.server.stats().unwrap();
    assert_eq!((stats.publish_checks_waiting, stats.inbox_bytes, stats.published), (0, 0, 8 * MESSAGES));
    host.stop();
}
