//! `GET /v1/channels/{c}/messages`: what is kept of a channel.

use super::common::{Host, CONTROL};
use super::connections::is_refused;
use super::{ask, got, post};
use serde_json::{json, Value};

fn kept(host: &Host, query: &str) -> Value {
    got(host, &format!("/v1/channels/a/messages{query}"))
}

/// The payloads of the messages, and a dot for each gap.
fn data(answer: &Value) -> Vec<&str> {
    let items = answer["messages"].as_array().unwrap().iter();
    items.map(|item| if item["type"] == "gap" { "." } else { item["data"].as_str().unwrap() }).collect()
}

fn ends(answer: &Value) -> (bool, bool) {
    (answer["gap"].as_bool().unwrap(), answer["more"].as_bool().unwrap())
}

#[test]
fn the_messages_are_as_subscribers_get_them() {
    let host = Host::start(&CONTROL);
    let mut client = host.websocket("channel=a", true);
    client.text();
    assert_eq!(data(&kept(&host, "")), [""; 0], "the channel is there, and empty");
    post(&host, "/v1/publish?channel=a&event=tick", "one \"<b>\u{1f600}");
    ask(&host, "POST", "/v1/publish?channel=a", "Content-Type: application/octet-stream\r\n", b"two");
    ask(&host, "POST", "/v1/publish?channel=a", "", b"\xff\x00");
    post(&host, "/v1/publish?channel=b", "another channel's");
    post(&host, "/v1/broadcast", "for all");
    let answer = kept(&host, "");
    let got: Vec<Value> = (0..3).map(|_| serde_json::from_str(&client.text()).unwrap()).collect();
    assert_eq!(answer["messages"], Value::from(got));
    assert_eq!(answer["messages"][0]["event"], "tick");
    assert_eq!((&answer["messages"][1]["data"], &answer["messages"][1]["base64"]), (&json!("dHdv"), &json!(true)));
    assert_eq!(ends(&answer), (false, false));
    // Its position is where a subscriber would go on: behind the broadcast.
    let position = answer["position"].as_str().unwrap();
    assert_eq!(data(&kept(&host, &format!("?since={position}"))), [""; 0]);
    host.publish("a", "later");
    assert_eq!(data(&kept(&host, &format!("?since={position}"))), ["later"]);
    host.stop();
}

#[test]
fn pages_have_each_message_once_and_gaps_are_told() {
    let host = Host::start(&[&CONTROL[..], &[("history_count", "5")]].concat());
    let ids: Vec<String> = (0..9).map(|number| host.publish("a", &number.to_string())).collect();
    for (query, found, gap, more) in [
        (String::new(), &["4", "5", "6", "7", "8"][..], false, false),
        ("?last=5".into(), &["4", "5", "6", "7", "8"], false, false),
        ("?last=2".into(), &["7", "8"], false, true),
        ("?limit=1".into(), &["8"], false, true),
        ("?last=3&limit=2".into(), &["7", "8"], false, true),
        ("?last=2&limit=3".into(), &["7", "8"], false, true),
        (format!("?since={}", ids[5]), &["6", "7", "8"], false, false),
        (format!("?since={}&limit=2", ids[5]), &["6", "7"], false, true),
        (format!("?since={}", ids[8]), &[], false, false),
        (format!("?since={}", ids[0]), &[".", "4", "5", "6", "7", "8"], true, false),
        (format!("?since={}&limit=1", ids[0]), &[".", "4"], true, true),
        // Positions that this hub has not given.
        ("?since=0-0".into(), &[".", "4", "5", "6", "7", "8"], true, false),
        (format!("?since={}0", ids[8]), &[".", "4", "5", "6", "7", "8"], true, false),
    ] {
        let answer = kept(&host, &query);
        assert_eq!((data(&answer), ends(&answer)), (found.to_vec(), (gap, more)), "{query}");
    }
    let (mut seen, mut after) = (Vec::new(), "0-0".to_owned());
    loop {
        let answer = kept(&host, &format!("?since={after}&limit=2"));
        seen.extend(data(&answer).into_iter().map(str::to_owned));
        after = answer["position"].as_str().unwrap().to_owned();
        if answer["more"] == false {
            break;
        }
    }
    assert_eq!(seen, [".", "4", "5", "6", "7", "8"]);
    host.stop();
}

#[test]
fn an_answer_has_a_bounded_number_of_bytes_and_one_message_at_least() {
    let host = Host::start(&[&CONTROL[..], &[("max_message", "4MB"), ("history_bytes", "64MB")]].concat());
    let before = host.publish("a", "before");
    // Three of these are more than 1 MB.
    let payload = "x".repeat(400_000);
    let ids: Vec<String> = (0..4).map(|_| host.publish("a", &payload)).collect();
    let large = host.publish("a", &"y".repeat(3 << 20));
    let since = |id: &str| kept(&host, &format!("?since={id}"));
    let sizes = |answer: &Value| data(answer).iter().map(|data| data.len()).collect::<Vec<_>>();
    let answer = since(&before);
    assert_eq!((sizes(&answer), ends(&answer)), (vec![400_000; 2], (false, true)));
    assert_eq!(answer["position"], *ids[1]);
    let answer = since(&ids[3]);
    assert_eq!((sizes(&answer), ends(&answer)), (vec![3 << 20], (false, false)));
    for query in ["", "?last=3"] {
        let answer = kept(&host, query);
        assert_eq!((sizes(&answer), ends(&answer)), (vec![3 << 20], (false, true)), "{query}");
    }
    host.publish("a", "small");
    let answer = kept(&host, "?last=3");
    assert_eq!((sizes(&answer), ends(&answer)), (vec![5], (false, true)), "the large one does not fit with it");
    assert_eq!(sizes(&since(&large)), [5]);
    host.stop();
}

#[test]
fn a_wrong_request_is_refused_with_what_is_allowed() {
    let host = Host::start(&CONTROL);
    let id = host.publish("a", "x");
    let (name, digits) = ("x".repeat(256), "1".repeat(255));
    for (path, told) in [
        ("/messages", "1 to 255 bytes are allowed"),
        (&*format!("{name}/messages"), "at most 255 are allowed"),
        ("%ff/messages", "not UTF-8"),
        ("a%00/messages", "control characters are not allowed"),
        ("a*/messages", "can't end in *"),
        ("a/messages?limit=0", "limit must be a number from 1 to 1000"),
        ("a/messages?limit=1001", "limit must be a number from 1 to 1000"),
        ("a/messages?last=-1", "last must be a number from 1 to 1000"),
        (&*format!("a/messages?last={digits}"), "last must be a number from 1 to 1000"),
        ("a/messages?since=", "since must be a position"),
        ("a/messages?since=7", "since must be a position"),
        (&*format!("a/messages?since={id}x"), "since must be a position"),
        (&*format!("a/messages?since=a-{digits}"), "since must be a position"),
        (&*format!("a/messages?since={id}&last=1"), "not together with since"),
        (&*format!("a/messages?since={id}&since={id}"), "takes it only once"),
        ("a/messages?after=1", "unknown parameter after; allowed: since, last, limit"),
    ] {
        is_refused(&host, &format!("/v1/channels/{path}"), told);
    }
    let (status, body) = ask(&host, "GET", "/v1/channels/nobody/messages", "", b"");
    assert!(status == 404 && body.contains("no such channel"), "{status} {body}");
    host.stop();
}

#[test]
fn the_name_of_a_channel_may_have_any_letters() {
    let host = Host::start(&CONTROL);
    let longest = "\u{1f600}".repeat(63) + "abc";
    for (name, encoded) in [
        ("a/b", "a%2Fb".to_owned()),
        ("a/b", "a/b".to_owned()),
        ("a/messages", "a%2Fmessages".into()),
        ("messages", "messages".into()),
        ("<script>\"?&#%", "%3Cscript%3E%22%3F%26%23%25".into()),
        (&*longest, "%F0%9F%98%80".repeat(63) + "abc"),
    ] {
        host.publish(name, name);
        let answer = got(&host, &format!("/v1/channels/{encoded}/messages?last=1"));
        assert_eq!((&answer["messages"][0]["data"], &answer["messages"][0]["channel"]), (&json!(name), &json!(name)));
        let about = got(&host, &format!("/v1/channels/{}", encoded.replace('/', "%2F")));
        assert_eq!(about["channel"], name);
    }
    host.stop();
}
