//! Messages that leave a client out which has their channels by a pattern.

use super::common::{field, Client, Host};
use super::{counted, open, subscriptions, GAP, ON, TRANSPORTS};
use push::hub::{ClientId, Publication};

const OWN: &str = "0a1b2c3d-0000-4000-8000-00000000000a";
const OTHER: &str = "0a1b2c3d-0000-4000-8000-00000000000b";

fn except<'a>(channel: &'a str, data: &'a str) -> Publication<'a> {
    Publication { channel, except: ClientId::parse(OWN), ..Publication::new("", data.as_bytes()) }
}

/// Publishes a message that leaves `OWN` out, and returns its position.
fn publish_except(host: &Host, channel: &str, data: &str) -> String {
    host.server.position_of(&host.server.publish(&except(channel, data)).unwrap())
}

/// The object that tells a position. Its channel is that of the message.
fn told(channel: &str, position: &str) -> String {
    format!(r#"{{"type":"position","channel":"{channel}","id":"{position}"}}"#)
}

/// Where each of these stands in a text. They must stand there once.
fn places(text: &str, all: &[&str]) -> Vec<usize> {
    assert_eq!(counted(text, all), vec![1; all.len()], "{all:?}: {text}");
    all.iter().filter_map(|one| text.find(one)).collect()
}

#[test]
fn a_client_that_has_the_channel_by_a_pattern_only_is_left_out_and_told_the_position_in_its_place() {
    let host = Host::start(&[ON, ("threads", "2"), ("channel.news.unkept.history_count", "0")]);
    host.publish("news.old", "before");
    for query in [
        "pattern=news.*",
        "pattern=news.*&pattern=news.o*&pattern=*",
        "channel=news.old&pattern=news.*",
        "channel=other&pattern=news.*",
    ] {
        for transport in TRANSPORTS {
            // A tab that was duplicated has the id of the other.
            let ids = [OWN, OWN, OTHER, ""];
            let mut clients = ids.map(|id| open(&host, transport, &format!("{query}&client={id}")));
            let each = query.matches("channel=").count() + query.matches("pattern=").count();
            subscriptions(&host, 4 * each as u64);
            let new = format!("news.{}", host.server.stats().unwrap().seq);
            let all = [Publication::new("news.old", b"<1>"), except(&new, "<own 1>"), Publication::new(&new, b"<2>")];
            let batch = host.server.publish_batch(&all).unwrap();
            let second = publish_except(&host, "news.unkept", "<own 2>");
            host.publish("news.unkept", "<3>");
            let to_all = host.server.broadcast(&except("", "<own 3>")).unwrap();
            host.publish("news.old", "<end>");
            let told = [
                told(&new, &host.server.position_of(&batch[1])),
                told("news.unkept", &second),
                format!(r#"{{"type":"position","id":"{}"}}"#, host.server.position_of(&to_all)),
            ];
            for (client, id) in clients.iter_mut().zip(ids) {
                let got = client.until("<end>");
                let is_left_out = id == OWN;
                assert_eq!(got.contains("<own"), !is_left_out, "{transport} {query} {id}: {got}");
                let expected = match (is_left_out, transport) {
                    (true, "raw") => vec!["<1>", "<2>", "<3>"],
                    (true, _) => vec!["<1>", &told[0], "<2>", &told[1], "<3>", &told[2]],
                    (false, _) => vec!["<1>", "<own 1>", "<2>", "<own 2>", "<3>", "<own 3>"],
                };
                assert!(places(&got, &expected).is_sorted(), "{transport} {query} {id}: {got}");
                let positions = if is_left_out && transport != "raw" { 3 } else { 0 };
                assert_eq!(got.matches(r#""type":"position""#).count(), positions, "{transport} {query} {id}: {got}");
            }
            drop(clients);
            subscriptions(&host, 0);
        }
    }
    host.stop();
}

#[test]
fn a_client_that_comes_back_by_a_pattern_does_not_get_it_from_the_histories_either() {
    for transport in TRANSPORTS {
        for query in ["pattern=news.*", "channel=news.a&pattern=news.*", "pattern=*&pattern=news.b*"] {
            let host = Host::start(&[ON, ("threads", "2")]);
            let since = host.publish("news.a", "<start>");
            let first = publish_except(&host, "news.a", "<own 1>");
            host.publish("news.b", "<1>");
            publish_except(&host, "news.b", "<own 2>");
            let last = publish_except(&host, "news.b", "<own 3>");
            let query = format!("{query}&since={since}");
            let mut clients = [OWN, OTHER].map(|id| open(&host, transport, &format!("{query}&client={id}")));
            let each = query.matches("channel=").count() + query.matches("pattern=").count();
            subscriptions(&host, 2 * each as u64);
            host.publish("news.c", "<live>");
            let [got, all] = clients.each_mut().map(|client| client.until("<live>"));
            assert_eq!(counted(&got, &["<own", "<1>", "<start>", GAP]), [0, 1, 0, 0], "{transport} {query}: {got}");
            assert!(places(&all, &["<own 1>", "<1>", "<own 2>", "<own 3>"]).is_sorted(), "{transport} {query}: {all}");
            assert_eq!(counted(&all, &[GAP, r#""type":"position""#]), [0, 0], "{transport} {query}: {all}");
            let positions = got.matches(r#""type":"position""#).count();
            if transport == "raw" {
                assert_eq!(positions, 0, "{got}");
            } else {
                // Of neighbours the last position says it all.
                let expected = [&*told("news.a", &first), "<1>", &told("news.b", &last)];
                assert!(places(&got, &expected).is_sorted(), "{transport} {query}: {got}");
                assert_eq!(positions, 2, "{transport} {query}: {got}");
            }
            host.stop();
        }
    }
}

#[test]
fn a_client_by_a_pattern_that_was_told_positions_is_told_of_no_gap_when_it_comes_back() {
    let host = Host::start(&[ON, ("history_count", "2"), ("channel.news.unkept.history_count", "0")]);
    for transport in ["ws", "sse", "stream"] {
        let start = host.publish("news.a", "<start>");
        let mut client = open(&host, transport, &format!("pattern=news.*&since={start}&client={OWN}"));
        subscriptions(&host, 1);
        let own = |n: usize| publish_except(&host, ["news.a", "news.b"][n % 2], &format!("<own {n}>"));
        let own: Vec<String> = (0..10).map(own).collect();
        client.until(&told("news.b", &own[9]));
        let last = publish_except(&host, "news.unkept", "<own>");
        client.until(&told("news.unkept", &last));
        drop(client);
        subscriptions(&host, 0);
        let mut back = open(&host, transport, &format!("pattern=news.*&since={last}&client={OWN}"));
        // From behind what is kept there is a gap, also if it can stand for its own messages only.
        let mut behind = open(&host, transport, &format!("pattern=news.*&since={start}&client={OWN}"));
        subscriptions(&host, 2);
        host.publish("news.c", "<next>");
        let got = back.until("<next>");
        assert_eq!(counted(&got, &[GAP, "<own", r#""type":"position""#]), [0, 0, 0], "{transport}: {got}");
        let got = behind.until("<next>");
        assert_eq!(
            counted(&got, &[GAP, r#""type":"gap","channel":"news.*""#, "<own"]),
            [1, 1, 0],
            "{transport}: {got}"
        );
        assert!(got.find(GAP) < got.find(r#""type":"position""#), "{transport}: {got}");
        drop((back, behind));
        subscriptions(&host, 0);
    }
    host.stop();
}

#[test]
fn what_a_client_publishes_without_an_echo_to_a_channel_of_its_pattern_comes_to_the_others() {
    let host = Host::start(&[ON, ("client_publish", "true")]);
    for id in [OWN, ""] {
        let start = host.publish("news.a", "<start>");
        let query = format!("pattern=news.*&client={id}");
        let mut clients = [&*query, &query, "pattern=news.*"].map(|query| {
            let mut client = open(&host, "ws", query);
            client.head();
            assert_eq!(field(&client.text(), "type"), "subscribed");
            client
        });
        let [publisher, twin, other] = &mut clients;
        publisher.say(r#"{"type":"publish","ref":1,"channel":"news.new","data":"<own>","echo":false}"#);
        let next_two = |client: &mut Client| {
            let mut both = [client.text(), client.text()];
            both.sort();
            both.map(|told| (field(&told, "type"), field(&told, "id")))
        };
        let [(position, at), (published, id_of_it)] = next_two(publisher);
        assert_eq!((&*position, &*published, &at), ("position", "published", &id_of_it));
        // Without an id of its own, a connection is the only one that it speaks for.
        assert_eq!(field(&twin.text(), "type"), if id.is_empty() { "message" } else { "position" });
        assert_eq!(field(&other.text(), "data"), "<own>");
        drop(clients);
        subscriptions(&host, 0);
        host.publish("news.new", "<end>");
        let got = open(&host, "stream", &format!("{query}&since={start}")).until("<end>");
        assert_eq!(got.contains("<own>"), id.is_empty(), "{got}");
        subscriptions(&host, 0);
    }
    host.stop();
}
