//! Clients that want the newest messages (`last=N`), where these are more than an outbox takes.

mod common;

use common::{field, Host, UPGRADE};

const SSE: &str = "Accept: text/event-stream\r\n";
const STREAM: &str = "Accept: application/x-ndjson\r\n";

#[test]
fn a_client_that_gets_fewer_of_the_newest_messages_than_it_wants_comes_back_for_all_of_them() {
    let host = Host::start(&[("outbox", "64KB")]);
    let ids: Vec<String> = ["0", "1", "2"].iter().map(|text| host.publish("a", &text.repeat(40_000))).collect();
    // A client that is cut off before it is told of the gap must not come back behind what is missing.
    for lines in [SSE, STREAM] {
        let told = host.get("channel=a&last=3", lines).until("2222");
        assert!(!told.contains("Push-Position") && told.contains(r#""type":"gap""#), "{told}");
        let positions: Vec<usize> = ids.iter().filter_map(|id| told.find(&**id)).collect();
        assert!(positions.len() == 2 && told.find(&*ids[1]) < told.find(&*ids[2]), "{told}");
        assert!(!told.contains(&*ids[0]), "the gap ends with the last message that is missing: {told}");
    }
    // Raw frames have no place for the gap, so the head has both.
    let head = host.get("channel=a&last=3", UPGRADE).head();
    assert!(head.contains("Push-Gap: 1") && head.contains(&format!("Push-Position: {}\r\n", ids[1])), "{head}");
    let head = host.get("channel=a&last=1", UPGRADE).head();
    assert!(!head.contains("Push-Gap") && head.ends_with(&format!("Push-Position: {}", ids[1])), "{head}");
    host.stop();
}

#[test]
fn a_client_that_is_cut_off_between_two_gaps_asks_for_the_newest_messages_of_both_channels_again() {
    let host = Host::start(&[("outbox", "64KB")]);
    let publish = |channel, text: &str| host.publish(channel, &text.repeat(40_000));
    let ids = [publish("a", "0"), publish("b", "1"), publish("b", "2")];
    // Nothing that comes before the second gap has a position: with any, the hub would not tell the client of what it
    // still has up to there.
    let query = "channel=a&channel=b&last=10";
    let of_gap = |channel: &str| format!(r#"{{"type":"gap","channel":"{channel}""#);
    for (lines, form) in [(SSE, ""), (SSE, "&format=json"), (STREAM, "")] {
        let mut client = host.get(&format!("{query}{form}"), lines);
        let head = client.head();
        assert!(!head.contains("Push-Position"), "{head}");
        let before = client.until(&of_gap("b"));
        assert!(before.contains(&format!("{}}}", of_gap("a"))), "{before}");
        assert!(!before.contains("0-0") && !before.contains(&*ids[0]), "{before}");
        // The id of an SSE event comes before its data.
        assert_eq!(before.matches("id: ").count(), usize::from(lines == SSE), "{before}");
        let after = client.until("2222");
        assert!(after.contains(&*ids[1]) && after.contains(&*ids[2]), "{after}");
        // It comes back as it came.
        let again = host.get(&format!("{query}{form}"), lines).until("2222");
        assert!(again.contains(&of_gap("a")) && again.contains(&of_gap("b")), "{again}");
    }
    let mut socket = host.websocket(query, true);
    assert_eq!(socket.text(), format!("{}}}", of_gap("a")));
    assert_eq!(socket.text(), format!(r#"{},"id":"{}"}}"#, of_gap("b"), ids[1]));
    assert_eq!(field(&socket.text(), "id"), ids[2]);
    let (_, body) = host.get(query, "").response();
    let told: serde_json::Value = serde_json::from_str(&body).unwrap();
    let told: Vec<_> =
        told["messages"].as_array().unwrap().iter().map(|item| (&item["channel"], &item["id"])).collect();
    let (a, b) = ("a".into(), "b".into());
    assert_eq!(told, [(&a, &serde_json::Value::Null), (&b, &ids[1].clone().into()), (&b, &ids[2].clone().into())]);
    host.stop();
}
