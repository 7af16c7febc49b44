//! A publisher that knows which of its messages were accepted, and a check that a subscriber gets exactly these.

use super::pushd::{Pushd, ASLEEP};
use crate::common::{field, until, Client};
use std::net::TcpStream;

/// The channel of its messages. No other publisher uses it.
const CHANNEL: &str = "own";

/// See the module.
pub struct Publisher {
    /// The position before its messages.
    pub first: String,
    count: usize,
    /// The names of the messages that were accepted.
    accepted: Vec<String>,
    /// The names of the messages for which the hub did not say in time whether it accepted them.
    unknown: Vec<String>,
}

/// What a hub says to a message.
#[derive(PartialEq)]
enum Outcome {
    Accepted,
    /// With this answer.
    Refused(String),
    /// The hub did not learn in time whether the message is in the log.
    Unknown,
    /// The hub was quiet, and did not write in time that it no longer is. It has published nothing.
    Asleep,
}

impl Publisher {
    pub fn new(pushd: &Pushd) -> Self {
        // It may take longer than the hub waits for a slow disk. With its key the message is one.
        let mut body = String::new();
        until("nothing is accepted", || {
            let what = format!("POST /v1/publish?channel={CHANNEL}&key=first");
            let answer = pushd.request(&what, b"first").unwrap();
            body = answer.1;
            answer.0 == 200
        });
        Publisher { first: field(&body, "id"), count: 0, accepted: Vec::new(), unknown: Vec::new() }
    }

    /// Publishes one message.
    fn try_to_publish(&mut self, pushd: &Pushd) -> Outcome {
        self.count += 1;
        let name = format!("m{}", self.count);
        let text = format!("{name} {}", "x".repeat(1000));
        let (status, body) = pushd.request(&format!("POST /v1/publish?channel={CHANNEL}"), text.as_bytes()).unwrap();
        match status {
            200 => {
                self.accepted.push(name);
                Outcome::Accepted
            }
            503 if body.contains(ASLEEP) => Outcome::Asleep,
            503 => Outcome::Refused(body),
            504 => {
                self.unknown.push(name);
                Outcome::Unknown
            }
            _ => panic!("{status}: {body}"),
        }
    }

    /// Publishes until a message is accepted. Each time it may take longer than the hub waits for a slow disk.
    pub fn publish(&mut self, pushd: &Pushd) {
        until("nothing is accepted", || match self.try_to_publish(pushd) {
            Outcome::Refused(body) => panic!("it is refused: {body}"),
            outcome => outcome == Outcome::Accepted,
        });
    }

    /// Checks what a publisher, an operator and a subscriber are told while the log can't be written for a reason,
    /// after this has happened so many times before.
    pub fn is_refused(&mut self, pushd: &Pushd, reason: &str, before: usize) {
        let mut refused = String::new();
        until("nothing was refused", || match self.try_to_publish(pushd) {
            Outcome::Refused(body) => {
                refused = body;
                true
            }
            _ => false,
        });
        assert!(refused.contains("\"system\"") && refused.contains(reason), "{refused}");
        let (status, health) = pushd.request("GET /healthz", b"").unwrap();
        assert!(status == 503 && health.contains(reason), "{status}: {health}");
        let (_, metrics) = pushd.request("GET /metrics", b"").unwrap();
        assert!(metrics.contains("push_engine_up 0"), "{metrics}");
        until("no log line says why", || {
            let stderr = std::fs::read_to_string(&pushd.stderr).unwrap();
            let lines = stderr.lines().filter(|line| line.contains(reason));
            lines.filter(|line| line.contains("nothing is published until this is fixed")).count() > before
        });
        for _ in 0..10 {
            let outcome = self.try_to_publish(pushd);
            assert!(outcome != Outcome::Accepted, "it was accepted although the log can't be written");
        }
        // Subscribers are served as before.
        self.check(&mut subscribe(pushd, &self.first));
    }

    /// Waits until messages are accepted again, and checks what an operator is told then.
    pub fn is_accepted_again(&mut self, pushd: &Pushd) {
        until("it does not heal", || pushd.request("GET /healthz", b"").unwrap().0 == 200);
        until("nothing is accepted", || self.try_to_publish(pushd) == Outcome::Accepted);
        // A disk that is slow just now counts as one that does not answer.
        until("the metrics say that it is down", || {
            pushd.request("GET /metrics", b"").unwrap().1.contains("push_engine_up 1")
        });
    }

    /// Checks that a subscriber gets all accepted messages, in order and without a gap, and no message that was
    /// refused.
    pub fn check(&self, subscriber: &mut Client) {
        let all = subscriber.until(&format!("\"data\":\"{} ", self.accepted.last().unwrap()));
        assert!(!all.contains("\"gap\""), "{all}");
        let data = all.split("\"data\":\"").skip(1).map(|rest| rest.split(' ').next().unwrap());
        let received: Vec<&str> = data.filter(|name| !self.unknown.iter().any(|unknown| unknown == name)).collect();
        assert_eq!(received, self.accepted[..self.accepted.len() - 1]);
    }
}

/// A subscriber of the publisher's channel.
pub fn subscribe(pushd: &Pushd, since: &str) -> Client {
    let mut client = Client::over(TcpStream::connect(("127.0.0.1", pushd.port)).unwrap());
    let query = format!("channel={CHANNEL}&since={since}&transport=stream");
    client.send(format!("GET /push?{query} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes());
    client.head();
    client
}
