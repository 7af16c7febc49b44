//! Messages that leave a client out (`except`): over all transports, live and from the history, with two connections of
//! one id and with ids that nobody has; what clients publish without an echo; ids that are none.

mod common;

use common::folder::Folder;
use common::{eventually, field, until, Client, Host, PATIENCE, UPGRADE};
use push::error::Kind;
use push::events::EventKind;
use push::grant::Grant;
use push::hub::{ClientId, Mark, Publication, Replacement};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

const JSON: &str = "Sec-WebSocket-Protocol: push.v1.json\r\n";
/// Those that tell a message as soon as it comes, on a connection that stays.
const STREAMING: [&str; 4] = ["ws", "raw", "sse", "stream"];
const OWN: &str = "0a1b2c3d-0000-4000-8000-00000000000a";
const OTHER: &str = "0a1b2c3d-0000-4000-8000-00000000000b";

/// A client of one of the transports, which has sent its request. `raw`: a WebSocket without a subprotocol.
fn open(host: &Host, transport: &str, query: &str) -> Client {
    let lines = match transport {
        "ws" => format!("{UPGRADE}{JSON}"),
        "raw" => UPGRADE.to_owned(),
        _ => String::new(),
    };
    let name = if transport == "raw" { "ws" } else { transport };
    host.get(&format!("transport={name}&channel=a&{query}"), &lines)
}

fn subscriptions(host: &Host, count: u64) {
    eventually(|| host.server.stats().unwrap().subscriptions == count);
}

/// All clients that are there go, and the hub sees it.
fn all_leave<const N: usize>(host: &Host, clients: [Client; N]) {
    drop(clients);
    subscriptions(host, 0);
}

fn except<'a>(id: &str, data: &'a str) -> Publication<'a> {
    Publication { except: Some(ClientId::parse(id).unwrap()), ..Publication::new("a", data.as_bytes()) }
}

/// Publishes a message that leaves a client out, and returns its position.
fn publish_except(host: &Host, id: &str, data: &str) -> String {
    host.server.position_of(&host.server.publish(&except(id, data)).unwrap())
}

/// The object that tells a position.
fn told(position: &str) -> String {
    format!(r#"{{"type":"position","channel":"a","id":"{position}"}}"#)
}

/// The answer to a poll: its position, and the payloads of its messages.
fn poll(client: &mut Client) -> (String, Vec<String>) {
    let (head, body) = client.response();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}{body}");
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    let messages = answer["messages"].as_array().unwrap();
    assert!(messages.iter().all(|message| message["type"] == "message"), "{body}");
    let data = messages.iter().map(|message| message["data"].as_str().unwrap().to_owned());
    (answer["position"].as_str().unwrap().to_owned(), data.collect())
}

#[test]
fn a_message_leaves_out_all_connections_with_its_id_over_each_transport() {
    let host = Host::start(&[("threads", "2")]);
    // A tab that was duplicated has the id of the other.
    let again = OWN.to_uppercase();
    let ids = [OWN, &again, OTHER, ""];
    for transport in STREAMING {
        for format in ["raw", "json"] {
            let mut clients = ids.map(|id| open(&host, transport, &format!("format={format}&client={id}")));
            subscriptions(&host, 4);
            let own = publish_except(&host, OWN, "<own>");
            let nobodys = publish_except(&host, "0a1b2c3d-0000-4000-8000-00000000000c", "<nobody's>");
            host.publish("a", "<next>");
            for (client, id) in clients.iter_mut().zip(ids) {
                let got = client.until("<next>");
                let is_left_out = id.eq_ignore_ascii_case(OWN);
                assert_eq!(got.contains("<own>"), !is_left_out, "{transport} {id}: {got}");
                assert_eq!(got.contains(&told(&own)), is_left_out && transport != "raw", "{transport} {id}: {got}");
                assert!(got.contains("<nobody's>") && !got.contains(&told(&nobodys)), "{transport} {id}: {got}");
                let event = format!("id: {own}\nevent: push-position\n");
                assert_eq!(got.contains(&event), is_left_out && transport == "sse", "{transport} {id}: {got}");
                assert!(!got.to_lowercase().contains(OWN), "nobody is told an id: {got}");
            }
            all_leave(&host, clients);
        }
    }
    host.stop();
}

#[test]
fn a_connection_with_several_channels_is_left_out_too_and_so_is_one_of_a_broadcast() {
    let host = Host::start(&[]);
    for transport in STREAMING {
        let ids = [OWN, OTHER];
        let mut clients = ids.map(|id| open(&host, transport, &format!("channel=b&channel=c&client={id}")));
        subscriptions(&host, 6);
        let own = host.server.broadcast(&except(OWN, "<to all>")).unwrap();
        let all = [except(OWN, "<in a>"), Publication { channel: "b", ..except(OWN, "<in b>") }];
        host.server.publish_batch(&[&all[..], &[Publication::new("c", b"<in c>")][..]].concat()).unwrap();
        host.publish("c", "<end>");
        for (client, id) in clients.iter_mut().zip(ids) {
            let got = client.until("<end>");
            for data in ["<to all>", "<in a>", "<in b>"] {
                assert_eq!(got.contains(data), id != OWN, "{transport} {data}: {got}");
            }
            assert!(got.contains("<in c>"), "{transport}: {got}");
            let told = format!(r#"{{"type":"position","id":"{}"}}"#, host.server.position_of(&own));
            let tells = id == OWN && transport != "raw";
            assert_eq!(got.contains(&told), tells, "{transport}: {got}");
            assert_eq!(got.matches(r#"{"type":"position""#).count(), if tells { 3 } else { 0 }, "{transport}: {got}");
        }
        all_leave(&host, clients);
    }
    host.stop();
}

#[test]
fn a_poll_is_answered_with_the_position_and_then_waits() {
    let host = Host::start(&[]);
    let start = host.publish("a", "<start>");
    for channels in ["", "&channel=b"] {
        let query = |id: &str, since: &str| format!("client={id}&since={since}{channels}");
        let count = if channels.is_empty() { 1 } else { 2 };
        let since = host.publish("a", "<before>");
        let mut waits = [OWN, OTHER].map(|id| open(&host, "poll", &query(id, &since)));
        subscriptions(&host, 2 * count);
        let own = publish_except(&host, OWN, "<own>");
        assert_eq!(poll(&mut waits[0]), (own.clone(), vec![]), "{channels}");
        assert_eq!(poll(&mut waits[1]), (own.clone(), vec!["<own>".into()]), "{channels}");
        // With the position that it has got, it waits. It would be answered at once from behind the message.
        let mut again = open(&host, "poll", &query(OWN, &own));
        subscriptions(&host, count);
        assert!(!again.has_come());
        let next = host.publish("a", "<next>");
        assert_eq!(poll(&mut again), (next, vec!["<next>".into()]));
        subscriptions(&host, 0);
    }
    // One that comes with an older position gets what it is to have, and the newest position.
    let own = publish_except(&host, OWN, "<last>");
    let (position, messages) = poll(&mut open(&host, "poll", &format!("client={OWN}&since={start}")));
    assert_eq!(position, own);
    assert!(!messages.iter().any(|data| ["<own>", "<last>"].contains(&&**data)), "{messages:?}");
    assert_eq!(poll(&mut open(&host, "poll", "last=1")), (own.clone(), vec!["<last>".into()]));
    assert_eq!(poll(&mut open(&host, "poll", &format!("last=1&client={OWN}"))), (own.clone(), vec![]));
    assert_eq!(poll(&mut open(&host, "poll", &format!("wait=0&since={own}&client={OWN}"))), (own, vec![]));
    host.stop();
}

#[test]
fn each_poll_of_a_connection_has_the_id_that_it_names() {
    let host = Host::start(&[]);
    let mut client = host.connect();
    let start = host.publish("a", "<start>");
    publish_except(&host, OWN, "<own>");
    for (id, gets) in [(OWN, false), ("", true), (OTHER, true), (OWN, false)] {
        let request = format!(
            "GET /push?transport=poll&channel=a&since={start}&client={id} HTTP/1.1\r\nHost: {}\r\n\r\n",
            host.address()
        );
        client.send(request.as_bytes());
        assert_eq!(poll(&mut client).1.len(), usize::from(gets), "{id}");
    }
    host.stop();
}

#[test]
fn a_client_that_comes_back_does_not_get_it_from_the_history_either() {
    for transport in STREAMING {
        for query in ["since=POSITION", "since=start", "last=4"] {
            let host = Host::start(&[]);
            let start = host.publish("a", "<start>");
            let first = publish_except(&host, OWN, "<own 1>");
            host.publish("a", "<between>");
            publish_except(&host, OWN, "<own 2>");
            let last = publish_except(&host, OWN, "<own 3>");
            let query = query.replace("POSITION", &start);
            let mut clients = [OWN, ""].map(|id| open(&host, transport, &format!("{query}&client={id}&format=json")));
            subscriptions(&host, 2);
            host.publish("a", "<live>");
            let [got, all] = clients.each_mut().map(|client| client.until("<live>"));
            assert!(got.contains("<between>") && !got.contains("<own "), "{transport} {query}: {got}");
            assert!(all.contains("<own 1>") && all.contains("<own 3>"), "{transport} {query}: {all}");
            if transport != "raw" {
                // Of neighbours the last position says it all.
                assert!(got.contains(&told(&first)) && got.contains(&told(&last)), "{transport} {query}: {got}");
                assert_eq!(got.matches(r#""type":"position""#).count(), 2, "{transport} {query}: {got}");
            }
            host.stop();
        }
    }
}

#[test]
fn a_client_that_was_told_positions_is_told_of_no_gap_when_it_comes_back() {
    let host = Host::start(&[("history_count", "2")]);
    for transport in ["ws", "sse", "stream"] {
        let start = host.publish("a", "<start>");
        let mut client = open(&host, transport, &format!("since={start}&client={OWN}"));
        subscriptions(&host, 1);
        let own: Vec<String> = (0..5).map(|n| publish_except(&host, OWN, &format!("<own {n}>"))).collect();
        client.until(&told(&own[4]));
        drop(client);
        subscriptions(&host, 0);
        let mut back = open(&host, transport, &format!("since={}&client={OWN}", own[4]));
        subscriptions(&host, 1);
        host.publish("a", "<next>");
        let got = back.until("<next>");
        assert!(!got.contains("gap") && !got.contains("<own"), "{transport}: {got}");
        drop(back);
        subscriptions(&host, 0);
    }
    host.stop();
}

/// The numbers in angle brackets, as they came.
fn numbers(got: &str) -> Vec<u32> {
    got.split('<').skip(1).filter_map(|rest| rest.split_once('>')?.0.parse().ok()).collect()
}

#[test]
fn a_history_that_comes_in_parts_leaves_it_out_in_each() {
    let host = Host::start(&[("outbox", "16KB"), ("history_count", "1000"), ("history_bytes", "4MB")]);
    for n in 0..300 {
        let data = format!("<{n}>{}", "x".repeat(1000));
        if n % 3 == 0 {
            publish_except(&host, OWN, &data);
        } else {
            host.publish("a", &data);
        }
    }
    let expected = |id: &str| (0..300).filter(|n: &u32| id != OWN || !n.is_multiple_of(3)).collect::<Vec<u32>>();
    for transport in STREAMING {
        for id in [OWN, OTHER] {
            let mut client = open(&host, transport, &format!("since=start&client={id}"));
            assert_eq!(numbers(&client.until("<299>")), expected(id)[..expected(id).len() - 1], "{transport} {id}");
        }
    }
    for id in [OWN, OTHER] {
        let (mut since, mut got) = ("start".to_owned(), Vec::new());
        while got.last() != Some(&299) {
            let (position, messages) = poll(&mut open(&host, "poll", &format!("wait=0&since={since}&client={id}")));
            assert_ne!(position, since, "it does not get on");
            got.extend(messages.iter().flat_map(|data| numbers(data)));
            since = position;
        }
        assert_eq!(got, expected(id));
    }
    host.stop();
}

/// An open WebSocket of push.v1.json, behind its confirmation.
fn json(host: &Host, query: &str) -> Client {
    let mut client = open(host, "ws", query);
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let told = client.text();
    assert_eq!(field(&told, "type"), "subscribed", "{told}");
    client
}

const WITHOUT_ECHO: &str = r#"{"type":"publish","ref":1,"channel":"a","data":"<own>","echo":false}"#;

/// The position of a message that this client has published without an echo.
fn answered_without_echo(client: &mut Client) -> String {
    let mut both = [client.text(), client.text()];
    both.sort();
    assert_eq!(both.each_ref().map(|told| field(told, "type")), ["position", "published"], "{both:?}");
    assert_eq!(field(&both[0], "id"), field(&both[1], "id"), "{both:?}");
    field(&both[0], "id")
}

#[test]
fn what_a_client_publishes_without_an_echo_comes_to_the_others() {
    let host = Host::start(&[("client_publish", "true")]);
    for id in [OWN, ""] {
        let start = host.publish("a", "<start>");
        let query = format!("client={id}");
        let (mut publisher, mut twin, mut other) = (json(&host, &query), json(&host, &query), json(&host, ""));
        publisher.say(WITHOUT_ECHO);
        answered_without_echo(&mut publisher);
        let twins = twin.text();
        // Without an id of its own, a connection is the only one that it speaks for.
        assert_eq!(field(&twins, "type"), if id.is_empty() { "message" } else { "position" }, "{twins}");
        assert_eq!(field(&other.text(), "data"), "<own>");
        publisher.say(r#"{"type":"publish","ref":2,"channel":"a","data":"<with>","echo":true}"#);
        let mut both = [publisher.text(), publisher.text()];
        both.sort();
        assert_eq!((field(&both[0], "data"), field(&both[1], "type")), ("<with>".into(), "published".into()));
        drop((publisher, twin, other));
        subscriptions(&host, 0);
        // With its id it does not get it when it comes back. Without one it is another client then.
        let got = open(&host, "stream", &format!("since={start}&{query}")).until("<with>");
        assert_eq!(got.contains("<own>"), id.is_empty(), "{got}");
    }
    host.stop();
}

#[test]
fn a_message_that_the_host_has_checked_leaves_its_connection_out() {
    let host = Host::start(&[("client_publish", "host"), ("events", "publish"), ("call_timeout", "10m")]);
    host.server.event_fd().unwrap();
    let (mut publisher, mut other) = (json(&host, &format!("client={OWN}")), json(&host, ""));
    for instead in [None, Some(Replacement { data: b"<replaced>", event: None, binary: false })] {
        publisher.say(WITHOUT_ECHO);
        let event = host.server.next_event(Some(PATIENCE)).unwrap();
        assert_eq!(event.kind, EventKind::Publish);
        host.server.allow_publish(event.request, instead.as_ref()).unwrap();
        answered_without_echo(&mut publisher);
        let data = if instead.is_some() { "<replaced>" } else { "<own>" };
        assert_eq!(field(&other.text(), "data"), data);
    }
    host.stop();
}

#[test]
fn a_message_to_a_user_leaves_out_the_tab_that_has_sent_it() {
    let host = Host::start(&[("user_channel", "true")]);
    let grant = || Grant::new(Some("ada"), &[], &[], 0, false, false).unwrap();
    let mut tabs = [OWN, OTHER].map(|id| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let head = format!("GET /push?transport=stream&client={id} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        host.server.adopt(theirs.into(), head.as_bytes(), Some(grant())).unwrap();
        Client::over(OwnedFd::from(ours).into())
    });
    subscriptions(&host, 2);
    let own = host.server.publish_user("ada", &Publication { channel: "", ..except(OWN, "<own>") }).unwrap();
    host.server.publish_user("ada", &Publication::new("", b"<next>")).unwrap();
    let [got, all] = tabs.each_mut().map(|client| client.until("<next>"));
    assert!(!got.contains("<own>") && got.contains(&host.server.position_of(&own)), "{got}");
    assert!(all.contains("<own>"), "{all}");
    host.stop();
}

#[test]
fn a_log_on_the_disk_keeps_whom_a_message_leaves_out() {
    let log = Folder::new("except");
    let before = Host::start(&[("engine", &log.engine())]);
    let start = before.publish("a", "<start>");
    publish_except(&before, OWN, "<own>");
    // From this size on, it goes into the log in another way.
    publish_except(&before, OWN, &format!("<large>{}", "x".repeat(5000)));
    before.server.publish_batch(&[except(OWN, "<in a batch>"), except(OTHER, "<other>")]).unwrap();
    before.publish("a", "<next>");
    before.server.stop(PATIENCE);
    let host = Host::start(&[("engine", &log.engine())]);
    for transport in STREAMING {
        let get = |id: &str| open(&host, transport, &format!("since={start}&client={id}")).until("<next>");
        let [own, all] = [get(OWN), get("")];
        for data in ["<own>", "<large>", "<in a batch>"] {
            assert!(!own.contains(data) && all.contains(data), "{transport} {data}: {own} {all}");
        }
        assert!(own.contains("<other>") && !own.contains("gap"), "{transport}: {own}");
    }
    host.stop();
}

#[test]
fn what_is_no_id_is_refused_or_ignored_where_a_refusal_would_be_final() {
    let (host, lines) = Host::logged(&[]);
    for wrong in ["1", "0a1b2c3d000040008000000000000000a", "%FF", "%7B0a1b2c3d-0000-4000-8000-00000000000a%7D"] {
        for transport in ["ws", "raw", "stream", "poll"] {
            let (head, body) = open(&host, transport, &format!("client={wrong}")).response();
            assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
            let wanted = r#"{"error":{"code":"client","message":"client must be a UUID: 32 hexadecimal digits, as in"#;
            assert!(body.starts_with(wanted), "{body}");
        }
    }
    // An EventSource would not come back. It gets all messages.
    let mut client = open(&host, "sse", "client=1");
    assert!(client.head().starts_with("HTTP/1.1 200 "));
    subscriptions(&host, 1);
    publish_except(&host, OWN, "<own>");
    client.until("<own>");
    let says = |line: &String| line.contains("the parameter client of an SSE connection is no UUID");
    until("the log says so", || lines.lock().unwrap().iter().any(says));
    host.stop();
}

#[test]
fn a_key_counts_once_whomever_it_leaves_out_and_a_mark_is_for_all() {
    let host = Host::start(&[]);
    let mut clients = [OWN, OTHER].map(|id| open(&host, "stream", &format!("client={id}")));
    subscriptions(&host, 2);
    let keyed = |publication| Publication { key: Some("k"), ..publication };
    let first = host.server.publish(&keyed(except(OWN, "<once>"))).unwrap();
    assert_eq!(host.server.publish(&keyed(except(OTHER, "<once>"))).unwrap().seq, first.seq);
    assert_eq!(host.server.publish(&keyed(Publication::new("a", b"<once>"))).unwrap().seq, first.seq);
    host.publish("a", "<end>");
    let got = clients.each_mut().map(|client| client.until("<end>").matches("<once>").count());
    assert_eq!(got, [0, 1]);
    let mark = Publication { mark: Some(Mark::End), ..except(OWN, "") };
    assert_eq!(host.server.publish(&mark).unwrap_err().kind(), Kind::Invalid);
    host.stop();
}

#[test]
fn ids_cost_nothing_once_their_clients_have_gone() {
    let host = Host::start(&[("threads", "1")]);
    let mut clients: Vec<Client> = (0..50).map(|_| open(&host, "sse", &format!("client={OWN}"))).collect();
    subscriptions(&host, 50);
    // They go in any order, and the others are found all the same.
    while clients.len() > 1 {
        clients.swap_remove(clients.len() / 2);
        subscriptions(&host, clients.len() as u64);
    }
    publish_except(&host, OWN, "<own>");
    host.publish("a", "<next>");
    assert!(!clients[0].until("<next>").contains("<own>"));
    host.stop();
}
