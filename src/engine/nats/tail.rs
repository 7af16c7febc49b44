//! Reads the entries of the log: in order, and no faster than the hub takes them.
//!
//! The hub's consumer has no acknowledgements and lives in the server's memory. The hub pulls: each request is for a
//! number of messages and bytes, and the next one is sent only when the hub has taken the messages that came. So the
//! number of messages that wait here is bounded.

use super::super::contract::Tailed;
use super::super::envelope::{self, Body};
use super::super::shared::connection::Failure;
use super::fences::{name_of_copy, COPY};
use super::session::Session;
use async_nats::{HeaderMap, Message, StatusCode, Subscriber};
use futures_util::{FutureExt, StreamExt};
use serde::Deserialize;
use serde_json::{json, Value};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout, Instant};

/// The most messages, and the most bytes, of a request.
const MESSAGES: usize = 512;
const BYTES: usize = 2 << 20;
/// How many requests are under way.
const REQUESTS: usize = 2;
/// A request ends after that time, and another one follows.
const EXPIRES: Duration = Duration::from_secs(60);
/// How long to wait before a consumer that is unknown is asked again.
const AGAIN: Duration = Duration::from_millis(20);
/// The server forgets a consumer if nobody pulls for this long.
const FORGOTTEN: Duration = Duration::from_secs(120);

/// A consumer, and the requests to it.
pub(super) struct Tail<'a> {
    session: &'a Session,
    consumer: String,
    inbox: String,
    messages: Subscriber,
    /// The requests under way: the name of each, and the number of messages that may still come.
    requests: VecDeque<(u64, usize)>,
    named: u64,
    /// The consumer's own count of messages.
    count: u64,
    /// The number of the last message that came.
    last: u64,
    /// How many messages wait in the log, as the last message said.
    pending: u64,
    /// Until then the consumer may be unknown to the server: in a cluster that is so for a moment after it was made.
    /// `None`: it has answered.
    unknown: Option<Instant>,
}

impl<'a> Tail<'a> {
    /// Makes a consumer for everything after a number. No other consumer has this `name`.
    pub(super) async fn begin(session: &'a Session, after: u64, name: &str) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Made {
            #[serde(default)]
            num_pending: u64,
        }
        let stream = &session.names.stream;
        let consumer = format!("push-{name}");
        let body = json!({
            "stream_name": stream,
            "action": "create",
            "config": {
                "name": consumer,
                "deliver_policy": "by_start_sequence",
                "opt_start_seq": after + 1,
                "ack_policy": "none",
                "replay_policy": "instant",
                "inactive_threshold": FORGOTTEN.as_nanos() as u64,
                "mem_storage": true,
                "num_replicas": 1,
            },
        });
        let inbox = session.client.new_inbox();
        let lost = |error| Failure(format!("the connection to the NATS server {} is lost: {error}", session.server));
        let messages = session.client.subscribe(format!("{inbox}.*")).await.map_err(|error| lost(error.to_string()))?;
        let made: Made = session
            .ask(&format!("CONSUMER.CREATE.{stream}.{consumer}"), &body, "make a consumer of the stream")
            .await?;
        let requests = VecDeque::with_capacity(REQUESTS);
        let pending = made.num_pending;
        let unknown = Some(Instant::now() + session.timeout);
        Ok(Tail { session, consumer, inbox, messages, requests, named: 0, count: 0, last: after, pending, unknown })
    }

    /// Gives the messages to the hub. Returns when something is wrong, or when nobody takes them any more. `received`
    /// gets the number of the last one.
    pub(super) async fn run(mut self, pieces: &mpsc::Sender<Vec<Tailed>>, received: &AtomicU64) -> Failure {
        let mut piece = Vec::new();
        if self.pending == 0 {
            piece.push(Tailed::Idle { end: self.last });
        }
        loop {
            if !piece.is_empty() && pieces.send(std::mem::take(&mut piece)).await.is_err() {
                return Failure("the hub has ended the connection".to_owned());
            }
            if self.unknown.is_some() && self.named > 0 && self.requests.is_empty() {
                sleep(AGAIN).await;
            }
            if let Err(why) = self.pull().await {
                return why;
            }
            let quiet = self.session.timeout;
            let Ok(first) = timeout(quiet, self.messages.next()).await else {
                let server = &self.session.server;
                return Failure(format!("the NATS server {server} has sent nothing for {quiet:?}"));
            };
            let mut next = first;
            let mut bytes = 0;
            loop {
                let Some(message) = next else {
                    return Failure(format!("the connection to the NATS server {} is lost", self.session.server));
                };
                bytes += message.payload.len();
                match self.take(message) {
                    Ok(taken) => piece.extend(taken),
                    Err(why) => return why,
                }
                if piece.len() >= MESSAGES || bytes >= BYTES {
                    break;
                }
                // More messages that are here already.
                match self.messages.next().now_or_never() {
                    Some(more) => next = more,
                    None => break,
                }
            }
            received.store(self.last, Ordering::Release);
            if self.pending == 0 && matches!(piece.last(), Some(Tailed::Entry { .. } | Tailed::Fence { .. })) {
                piece.push(Tailed::Idle { end: self.last });
            }
        }
    }

    /// Sends requests until there are enough.
    async fn pull(&mut self) -> Result<(), Failure> {
        while self.requests.len() < REQUESTS {
            self.named += 1;
            let session = self.session;
            let payload = session.client.max_payload();
            let body = json!({
                "batch": MESSAGES,
                // One message alone always fits.
                "max_bytes": BYTES.max(2 * payload),
                "expires": EXPIRES.as_nanos() as u64,
                "idle_heartbeat": (session.timeout / 3).clamp(Duration::from_millis(50), EXPIRES / 3).as_nanos() as u64,
            });
            let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", session.names.stream, self.consumer);
            let reply = format!("{}.{}", self.inbox, self.named);
            let sent = session.client.publish_with_reply(subject, reply, body.to_string().into());
            sent.await.map_err(|error| {
                Failure(format!("the connection to the NATS server {} is lost: {error}", session.server))
            })?;
            self.requests.push_back((self.named, MESSAGES));
        }
        Ok(())
    }

    /// Takes one message, or the server's word about a request.
    fn take(&mut self, message: Message) -> Result<Option<Tailed>, Failure> {
        if let Some(status) = message.status.filter(|_| message.payload.is_empty()) {
            return self.heed(status, &message);
        }
        let server = &self.session.server;
        self.unknown = None;
        let strange = || Failure(format!("the NATS server {server} sends messages that are not understood"));
        let place = message.reply.as_deref().and_then(place).ok_or_else(strange)?;
        // A new consumer begins to count from 1. If a number is skipped, messages before this one may be missing.
        if place.count != self.count + 1 || place.number <= self.last {
            return Err(Failure(format!("messages from the NATS server {server} are missing, or come again")));
        }
        (self.count, self.last, self.pending) = (place.count, place.number, place.pending);
        let oldest = self.requests.front_mut();
        if oldest.is_some_and(|(_, left)| {
            *left -= 1;
            *left == 0
        }) {
            self.requests.pop_front();
        }
        Ok(Some(self.tailed(place.number, message)))
    }

    fn tailed(&self, number: u64, message: Message) -> Tailed {
        if *message.subject != *self.session.names.fences {
            return Tailed::Entry { number, bytes: message.payload.into() };
        }
        if let Some(copy) = message.headers.as_ref().and_then(|headers| headers.get(COPY)) {
            // Its number counts, and says nothing.
            let id = name_of_copy(copy.as_str());
            return Tailed::Entry { number, bytes: envelope::write(id, &Body::Heartbeat(None)) };
        }
        match envelope::read(&message.payload) {
            Ok((id, Body::Fence(_))) => Tailed::Fence { number, id },
            // Somebody else's, or of a later version: the hub says so.
            _ => Tailed::Entry { number, bytes: message.payload.into() },
        }
    }

    /// The server's word about a request.
    fn heed(&mut self, status: StatusCode, message: &Message) -> Result<Option<Tailed>, Failure> {
        let said = message.description.as_deref().unwrap_or("");
        match status.as_u16() {
            // A heartbeat.
            100 => {
                self.unknown = None;
                Ok((self.pending == 0).then_some(Tailed::Idle { end: self.last }))
            }
            // The request has expired, or had enough.
            408 => Ok(self.ended(message)),
            409 if said.contains("MaxBytes") || said == "Batch Completed" => Ok(self.ended(message)),
            503 if self.unknown.is_some_and(|until| Instant::now() < until) => Ok(self.ended(message)),
            503 => Err(self.gone("it no longer exists")),
            _ => Err(self.gone(said)),
        }
    }

    /// A request is over.
    fn ended(&mut self, message: &Message) -> Option<Tailed> {
        let name = message.subject.rsplit('.').next().and_then(|name| name.parse::<u64>().ok());
        self.requests.retain(|(other, _)| Some(*other) != name);
        None
    }

    fn gone(&self, why: &str) -> Failure {
        let (server, stream) = (&self.session.server, &self.session.names.stream);
        Failure(format!("the consumer of the stream `{stream}` at the NATS server {server} has ended: {why}"))
    }
}

/// Has the server forget a consumer, if it hears that.
pub(super) async fn forget(session: &Session, name: &str) {
    let subject = format!("$JS.API.CONSUMER.DELETE.{}.push-{name}", session.names.stream);
    let _ = session.client.publish_with_headers(subject, HeaderMap::new(), Value::Null.to_string().into()).await;
}

/// The origin of a message.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    number: u64,
    /// Among those of the consumer.
    count: u64,
    pending: u64,
}

/// Reads where acknowledgements would go, in its old and in its new form.
fn place(reply: &str) -> Option<Place> {
    let parts: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
    // The new form has the domain and the account before the stream.
    let parts = match parts.len() {
        7 => &parts[..],
        9.. => &parts[2..],
        _ => return None,
    };
    let number = |at: usize| parts.get(at)?.parse().ok();
    Some(Place { number: number(3)?, count: number(4)?, pending: number(6)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_where_it_comes_from_in_both_forms() {
        let expected = Place { number: 7, count: 3, pending: 5 };
        assert_eq!(place("$JS.ACK.push_a.push-b.1.7.3.1700000000.5"), Some(expected));
        let expected = Place { number: 7, count: 3, pending: 5 };
        assert_eq!(place("$JS.ACK._.hash.push_a.push-b.1.7.3.1700000000.5.tok"), Some(expected));
        for strange in ["", "$JS.ACK.", "$JS.ACK.a.b.1.x.3.4.5", "_INBOX.x", "$JS.ACK.a.b.1"] {
            assert_eq!(place(strange), None, "{strange}");
        }
    }
}
