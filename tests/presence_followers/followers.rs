//! Followers over each transport, and members.

use super::common::{adopted, Client, Host, UPGRADE};
use super::room::{is_news, Rooms};
use push::grant::{Grant, Terms};
use serde::Deserialize;
use serde_json::Value;

const JSON: &str = "Sec-WebSocket-Protocol: push.v1.json\r\n";
/// The forms in which followers are told of each change. `sse-raw`: the messages are no JSON.
pub const FOLLOWING: [&str; 4] = ["ws", "stream", "sse", "sse-raw"];

/// The head of a request. `raw` is a WebSocket without a subprotocol.
pub fn head(transport: &str, query: &str) -> String {
    let (name, format, lines) = match transport {
        "ws" => ("ws", "json", format!("{UPGRADE}{JSON}")),
        "raw" => ("ws", "json", UPGRADE.to_owned()),
        "sse-raw" => ("sse", "raw", String::new()),
        other => (other, "json", String::new()),
    };
    format!("GET /push?transport={name}&format={format}&{query} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

/// A grant of all channels.
pub fn grant(user: Option<&str>, info: Option<&str>) -> Grant {
    let all = ["*".to_owned()];
    Grant::of(&Terms { user, info, patterns: &all, keep_alive: true, ..Terms::default() }).unwrap()
}

/// A client of this user, or of none, that has sent its request.
pub fn ask(host: &Host, transport: &str, user: Option<&str>, query: &str) -> Client {
    adopted(&host.server, &head(transport, query), Some(grant(user, None)))
}

/// A connection of this user to `room`, which does not follow. It is subscribed.
pub fn enter(host: &Host, transport: &str, user: &str, info: Option<&str>) -> Client {
    let mut client = adopted(&host.server, &head(transport, "channel=room"), Some(grant(Some(user), info)));
    is_served(&mut client);
    client
}

/// Reads the head of a response that goes on.
pub fn is_served(client: &mut Client) {
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 200 ") || head.starts_with("HTTP/1.1 101 "), "{head}");
}

/// An event of SSE with data.
#[derive(Debug, Default)]
struct Event {
    name: Option<String>,
    id: Option<String>,
    data: Option<String>,
}

/// The next one. The lines of the chunks around it are skipped.
fn event(client: &mut Client) -> Event {
    let mut event = Event::default();
    loop {
        let line = client.until("\n");
        match line.split_once(": ") {
            Some(("event", name)) => event.name = Some(name.into()),
            Some(("id", id)) => event.id = Some(id.into()),
            Some(("data", data)) => event.data = Some(data.into()),
            _ if line.is_empty() && event.data.is_some() => return event,
            _ => {}
        }
    }
}

/// A connection that follows, and is told of each change.
pub struct Follower {
    pub client: Client,
    pub rooms: Rooms,
    transport: &'static str,
}

impl Follower {
    /// One of `room` with this query beside.
    pub fn new(host: &Host, transport: &'static str, user: Option<&str>, query: &str) -> Self {
        Self::of(ask(host, transport, user, &format!("channel=room&presence=1&{query}")), transport)
    }

    pub fn of(mut client: Client, transport: &'static str) -> Self {
        is_served(&mut client);
        Follower { client, rooms: Rooms::default(), transport }
    }

    /// The next object, or the data of a message. If it is about presence, it is heard.
    pub fn object(&mut self) -> String {
        let text = match self.transport {
            "ws" => self.client.text(),
            "stream" => loop {
                let line = self.client.until("\n");
                if line.starts_with('{') {
                    break line;
                }
            },
            _ => {
                let event = event(&mut self.client);
                let data = event.data.unwrap();
                let kind = data.split('"').nth(3).unwrap_or_default();
                if is_news(&data) {
                    assert_eq!((event.name, event.id), (Some(format!("push-{kind}")), None), "{data}");
                }
                data
            }
        };
        if is_news(&text) {
            self.rooms.hear(&text);
        }
        text
    }

    /// Reads until this is known of `room`. [`Rooms::shown`] has the form.
    pub fn until(&mut self, state: &str) {
        self.until_in("room", state);
    }

    pub fn until_in(&mut self, channel: &str, state: &str) {
        while self.rooms.shown(channel) != state {
            self.object();
        }
    }

    /// Reads until a message, or another object, has this text in it. Returns what came, and the last of it.
    pub fn until_text(&mut self, part: &str) -> Vec<String> {
        let mut all = vec![self.object()];
        while !all[all.len() - 1].contains(part) {
            all.push(self.object());
        }
        all
    }
}

/// Polls of one client over one connection.
pub struct Poller {
    pub client: Client,
    pub rooms: Rooms,
    pub query: String,
    pub version: String,
    position: String,
}

#[derive(Deserialize)]
struct Answer {
    position: String,
    messages: Vec<Value>,
    presence: Option<String>,
}

impl Poller {
    /// One of `room`. It has not asked yet.
    pub fn new(host: &Host, user: Option<&str>, query: &str) -> Self {
        let (client, fd) = super::common::tcp_pair();
        host.server.adopt(fd, b"", Some(grant(user, None))).unwrap();
        let query = format!("channel=room&{query}");
        Poller { client, rooms: Rooms::default(), query, version: "1".into(), position: String::new() }
    }

    /// Asks for what comes after the last answer.
    pub fn send(&mut self, more: &str) {
        let since = if self.position.is_empty() { String::new() } else { format!("&since={}", self.position) };
        let query = format!("{}{since}&presence={}{more}", self.query, self.version);
        self.client.send(head("poll", &query).as_bytes());
    }

    /// Reads an answer. Returns the data of its messages.
    pub fn answer(&mut self) -> Vec<String> {
        let (head, body) = self.client.response();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head} {body}");
        let answer: Answer = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
        let version = answer.presence.unwrap_or_else(|| panic!("no version: {body}"));
        let is_part = |c: char| c.is_ascii_digit() || c.is_ascii_lowercase() || c == '-';
        assert!((1..=40).contains(&version.len()) && version.chars().all(is_part), "{body}");
        assert!(body.contains(&format!(r#"],"presence":"{version}""#)), "it stands behind the messages: {body}");
        (self.position, self.version) = (answer.position, version);
        let mut data = Vec::new();
        for message in answer.messages {
            match message["type"].as_str().unwrap() {
                "presence" => self.hear(message, &body),
                "join" | "leave" => panic!("a poll is told no change: {body}"),
                _ => data.extend(message["data"].as_str().map(str::to_owned)),
            }
        }
        data
    }

    /// The object of a body. As a value it has lost the order of its members, and so its text is looked for.
    fn hear(&mut self, object: Value, body: &str) {
        let news: super::room::News = serde_json::from_value(object).unwrap_or_else(|error| panic!("{error}: {body}"));
        let text = news.written();
        assert!(body.contains(&text), "the members of an object have one order: {body}");
        self.rooms.hear(&text);
    }

    pub fn poll(&mut self, more: &str) -> Vec<String> {
        self.send(more);
        self.answer()
    }

    /// Polls until this is known of `room`.
    pub fn until(&mut self, state: &str) {
        while self.rooms.shown("room") != state {
            self.poll("");
        }
    }
}
