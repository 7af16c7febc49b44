//! What requests do to clients, at each kind of hub: one that hands its clients over itself, one with an attached host
//! that does, and two that share a log.

use super::common::nats::Nats;
use super::common::redis::Redis;
use super::common::{attached, socket_path, until, Client, Host, CONTROL, UPGRADE};
use super::{ask, got, post};
use push::grant::Grant;
use push::Server;
use serde_json::{json, Value};
use std::net::{TcpListener, TcpStream};

/// A connection of ada, which this server hands over, and the head of the response.
fn handed_over(server: &Server, query: &str, lines: &str) -> (Client, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = Client::over(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let head = format!("GET /push?{query} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
    let channels = ["news", "other", "answer"].map(str::to_owned);
    let grant = Grant::new(Some("ada"), &channels, &[], 0, false, false).unwrap();
    server.adopt(listener.accept().unwrap().0.into(), head.as_bytes(), Some(grant)).unwrap();
    let head = client.head();
    (client, head)
}

/// A WebSocket on all three channels.
fn websocket(server: &Server) -> Client {
    let lines = format!("{UPGRADE}Sec-WebSocket-Protocol: push.v1.json\r\n");
    let (mut client, head) = handed_over(server, "channel=news&channel=other&channel=answer", &lines);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    for _ in 0..3 {
        assert_eq!(told(&mut client)["type"], "subscribed");
    }
    client
}

fn told(client: &mut Client) -> Value {
    serde_json::from_str(&client.text()).unwrap()
}

/// Asks one hub, and looks at the clients that these servers hand over. `hubs` are all hubs of the log.
fn each_request(asked: &Host, hubs: &[&Host], servers: &[&Server]) {
    let mut clients: Vec<Client> = servers.iter().map(|server| websocket(server)).collect();
    let mut ids = Vec::new();
    for (path, body, mut seen) in [
        ("/v1/publish?channel=news", "one", json!({"type": "message", "channel": "news", "data": "one"})),
        ("/v1/broadcast?event=tick", "to all", json!({"type": "broadcast", "event": "tick", "data": "to all"})),
        ("/v1/begin?channel=answer", "", json!({"type": "begin", "channel": "answer"})),
        ("/v1/publish?channel=answer", "42", json!({"type": "message", "channel": "answer", "data": "42"})),
        ("/v1/end?channel=answer", "", json!({"type": "end", "channel": "answer"})),
        (
            "/v1/revoke?user=ada&channel=other&reason=over",
            "",
            json!({"type": "unsubscribed", "channel": "other", "code": 4403, "reason": "over"}),
        ),
        ("/v1/publish?channel=news", "two", json!({"type": "message", "channel": "news", "data": "two"})),
    ] {
        let (status, body) = post(asked, path, body);
        assert_eq!(status, 200, "{path}: {body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        if let Some(id) = answer.get("id") {
            seen["id"] = id.clone();
            ids.push(id.as_str().unwrap().to_owned());
        }
        for client in &mut clients {
            assert_eq!(told(client), seen, "{path}");
        }
    }
    assert_eq!(ids.len(), 6, "only revoking has no position");

    // A stream that has ended is all there, at each hub, for a client that comes later.
    for server in servers {
        let (mut late, head) = handed_over(server, "channel=answer&since=start&transport=sse", "");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let text = late.rest();
        let places = ["event: push-begin", "data: 42", "event: push-end"].map(|part| text.find(part));
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{text}");
    }
    // What is deleted is gone at each hub, and a client that comes back is told.
    assert_eq!(ask(asked, "DELETE", "/v1/channels/news", "", b""), (204, String::new()));
    for hub in hubs {
        until("the history is there", || got(hub, "/v1/channels/news/messages")["messages"] == json!([]));
    }
    for server in servers {
        let (mut back, head) = handed_over(server, &format!("channel=news&since={}&transport=stream", ids[0]), "");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        back.until("{\"type\":\"gap\",\"channel\":\"news\"");
    }
    assert_eq!(ask(asked, "DELETE", "/v1/channels/nothing", "", b"").0, 404);
    // Subscribers stay, and get nothing of the channel that was taken away.
    assert_eq!(post(asked, "/v1/publish?channel=other", "no more").0, 200);
    assert_eq!(post(asked, "/v1/publish?channel=news", "three").0, 200);
    for client in &mut clients {
        assert_eq!(told(client)["data"], "three");
    }
}

fn hub(options: &[(&str, &str)]) -> Host {
    let host = Host::start(&[&CONTROL[..], options].concat());
    until("it does not follow its log", || ask(&host, "GET", "/healthz", "", b"").0 == 200);
    host
}

#[test]
fn each_request_reaches_clients_that_the_hub_hands_over_itself() {
    let host = hub(&[]);
    each_request(&host, &[&host], &[&host.server]);
    host.stop();
}

#[test]
fn each_request_reaches_clients_that_an_attached_host_has_handed_over() {
    let attach = format!("unix:{}", socket_path());
    let hub = hub(&[("attach_listen", &attach)]);
    let web = attached(&attach, &[]);
    each_request(&hub, &[&hub], &[&web, &hub.server]);
    web.stop(std::time::Duration::ZERO);
    hub.stop();
}

fn each_request_reaches_the_clients_of_two_hubs(log: &str) {
    let options = [("engine", log), ("engine_timeout", "1m")];
    let (one, two) = (hub(&options), hub(&options));
    each_request(&one, &[&one, &two], &[&one.server, &two.server]);
    one.stop();
    two.stop();
}

#[test]
fn each_request_reaches_the_clients_of_two_hubs_over_redis() {
    each_request_reaches_the_clients_of_two_hubs(&Redis::started().url());
}

#[test]
fn each_request_reaches_the_clients_of_two_hubs_over_nats() {
    each_request_reaches_the_clients_of_two_hubs(&Nats::started().url());
}
