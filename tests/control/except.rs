//! `except` of the control API: messages that leave a client out.

use super::ask;
use super::common::{eventually, field, Client, Host, CONTROL};

const ID: &str = "0a1b2c3d-0000-4000-8000-00000000000a";

fn stream(host: &Host, query: &str) -> Client {
    let mut client = host.get(&format!("transport=stream&channel=a&channel=b&{query}"), "");
    assert!(client.head().starts_with("HTTP/1.1 200 "));
    client
}

#[test]
fn each_request_that_publishes_may_leave_a_client_out() {
    let host = Host::start(&CONTROL);
    let (mut theirs, mut other) = (stream(&host, &format!("client={ID}")), stream(&host, ""));
    eventually(|| host.server.stats().unwrap().subscriptions == 4);
    let batch = format!(r#"[{{"channel":"a","data":"<own 5>","except":"{ID}"}},{{"channel":"a","data":"<for all>"}}]"#);
    let header = format!("Push-Except: {ID}\r\n");
    for (path, lines, body) in [
        (format!("/v1/publish?channel=a&except={ID}"), "", "<own 1>"),
        ("/v1/publish?channel=a".to_owned(), &*header, "<own 2>"),
        (format!("/v1/publish?channel=a&channel=b&except={ID}"), "", "<own 3>"),
        (format!("/v1/broadcast?except={}", ID.to_uppercase()), "", "<own 4>"),
        ("/v1/publish".to_owned(), "", &*batch),
    ] {
        let (status, answer) = ask(&host, "POST", &path, lines, body.as_bytes());
        assert_eq!(status, 200, "{path}: {answer}");
        if body == "<own 1>" {
            assert_eq!(field(&answer, "subscribers"), "2", "it counts those that are left out: {answer}");
        }
    }
    host.publish("a", "<end>");
    let got = theirs.until("<end>");
    assert!(got.contains("<for all>") && !got.contains("<own"), "{got}");
    let got = other.until("<end>");
    assert!((1..=5).all(|n| got.contains(&format!("<own {n}>"))), "{got}");
    assert_eq!(got.matches("<own 3>").count(), 2, "in both channels");
    host.stop();
}
