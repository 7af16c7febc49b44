//! `POST /v1/close`: ends one connection.

use super::common::{until, Host, CONTROL};
use super::{ask, got, post};

/// The number of the only connection on a channel.
fn on(host: &Host, channel: &str) -> String {
    let found = got(host, &format!("/v1/connections?channel={channel}"));
    assert_eq!(found["count"], 1, "{found}");
    found["connections"][0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn one_connection_is_closed_and_the_others_stay() {
    let host = Host::start(&CONTROL);
    let (mut one, mut other, mut third) =
        (host.websocket("channel=a", false), host.websocket("channel=b", false), host.websocket("channel=c", false));
    let (a, b) = (on(&host, "a"), on(&host, "b"));
    assert_eq!(
        post(&host, &format!("/v1/close?connection={a}&code=4000&reason=b%20y%C3%A9"), ""),
        (200, "{}\n".into())
    );
    assert_eq!(one.end(), (4000, "b y\u{e9}".into()));
    assert_eq!(post(&host, &format!("/v1/close?connection={b}"), "").0, 200);
    assert_eq!(other.end(), (4403, "disconnected".into()));
    host.publish("c", "still there");
    assert_eq!(third.text(), "still there");
    drop((one, other));
    until("both are gone", || {
        [&a, &b].iter().all(|id| post(&host, &format!("/v1/close?connection={id}"), "").0 == 404)
    });
    host.stop();
}

#[test]
fn a_wrong_request_closes_nothing() {
    let host = Host::start(&CONTROL);
    let mut client = host.websocket("channel=a", false);
    let id = on(&host, "a");
    let (long, digits) = ("x".repeat(124), "1".repeat(255));
    let codes = "1000, 1001, 1008, 1009, 1011 to 1013 and 3000 to 4999 are allowed";
    let number = "connection must be a number from 1 to 18446744073709551615";
    for (query, status, told) in [
        (String::new(), 400, "?connection= is needed"),
        ("code=4000".into(), 400, "?connection= is needed"),
        ("connection=".into(), 400, number),
        ("connection=0".into(), 400, number),
        ("connection=-1".into(), 400, number),
        (format!("connection=%2B{id}"), 400, number),
        (format!("connection={id}x"), 400, number),
        ("connection=18446744073709551616".into(), 400, number),
        (format!("connection={digits}"), 400, number),
        ("connection=1".into(), 404, "no such connection"),
        ("connection=18446744073709551615".into(), 404, "no such connection"),
        (format!("connection={id}&connection=1"), 400, "takes it only once"),
        (format!("connection={id}&user=ada"), 400, "unknown parameter user"),
        (format!("connection={id}&code="), 400, codes),
        (format!("connection={id}&code=x"), 400, codes),
        (format!("connection={id}&code=-4000"), 400, codes),
        (format!("connection={id}&code=%2B4000"), 400, codes),
        (format!("connection={id}&code=04000"), 400, codes),
        (format!("connection={id}&code=70000"), 400, codes),
        (format!("connection={id}&code=1006"), 400, codes),
        (format!("connection={id}&code=999"), 400, codes),
        (format!("connection={id}&reason={long}"), 400, "at most 123 are allowed"),
        (format!("connection={id}&reason=%ff"), 400, "not UTF-8"),
    ] {
        let (got, body) = post(&host, &format!("/v1/close?{query}"), "");
        assert!(got == status && body.contains(told), "{query}: {got} {body}");
        if query.contains("code=") && query.contains("connection=") {
            let query = query.replace(&format!("connection={id}"), "user=ada");
            let (got, body) = post(&host, &format!("/v1/disconnect?{query}"), "");
            assert!(got == 400 && body.contains(told), "disconnect {query}: {got} {body}");
        }
    }
    assert_eq!(ask(&host, "POST", &format!("/v1/close?connection={id}"), "", b"{}").0, 413);
    assert_eq!(ask(&host, "GET", &format!("/v1/close?connection={id}"), "", b"").0, 405);
    let no_key = ask(&host, "POST", &format!("/v1/close?connection={id}"), "Authorization: Bearer x\r\n", b"");
    assert_eq!(no_key.0, 401);
    host.publish("a", "still there");
    assert_eq!(client.text(), "still there");
    host.stop();
}

#[test]
fn everybody_is_disconnected_with_or_without_a_user() {
    const CLIENTS: usize = 300;
    let options = [("auth", "jwt"), ("jwt_secret", super::SECRET), ("threads", "3")];
    let host = Host::start(&[&CONTROL[..], &options].concat());
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|n| host.websocket(&format!("channel=a&token={}", super::token(&format!("user {n}"))), false))
        .collect();
    let token = super::token("eve");
    let mut stream = host.get(&format!("channel=a&transport=sse&token={token}"), "");
    stream.head();
    let mut poll = host.get(&format!("channel=a&transport=poll&wait=600&token={token}"), "");
    until("all are there", || got(&host, "/v1/connections?limit=1")["count"] == CLIENTS as u64 + 2);
    let codes = "1000, 1001, 1008, 1009, 1011 to 1013 and 3000 to 4999 are allowed";
    for (query, told) in [
        ("all=1&user=ada", "not together with user"),
        ("all=0", "?user= is needed, or ?all=1"),
        ("", "?user= is needed, or ?all=1"),
        ("all=2", "all must be 0 or 1"),
        ("all=true", "all must be 0 or 1"),
        ("all=1&all=1", "takes it only once"),
        ("all=1&code=1006", codes),
        ("all=1&code=x", codes),
        ("all=1&channel=a", "unknown parameter channel"),
    ] {
        let (status, body) = post(&host, &format!("/v1/disconnect?{query}"), "");
        assert!(status == 400 && body.contains(told), "{query}: {status} {body}");
    }
    let long = format!("/v1/disconnect?all=1&reason={}", "x".repeat(124));
    assert_eq!(post(&host, &long, "").0, 400);
    host.publish("a", "still there");
    assert_eq!(clients[0].text(), "still there");
    let (status, body) = post(&host, "/v1/disconnect?all=1&code=4001&reason=out", "");
    let closed: u64 = super::field(&body, "closed").parse().unwrap();
    // The poll may have got the message, and be gone or not.
    assert!(status == 200 && (CLIENTS as u64 + 1..=CLIENTS as u64 + 2).contains(&closed), "{status} {body}");
    for client in &mut clients {
        assert_eq!(client.end(), (4001, "out".into()));
    }
    assert!(stream.rest().contains("4001"));
    poll.head();
    drop((clients, stream, poll));
    until("nobody is left", || got(&host, "/v1/connections?limit=1")["count"] == 0);
    assert_eq!(post(&host, "/v1/disconnect?all=1", "").1, "{\"closed\":0}\n");
    // Who comes after that may stay.
    let mut later = host.websocket(&format!("channel=a&token={token}"), false);
    host.publish("a", "later");
    assert_eq!(later.text(), "later");
    host.stop();
}
