//! A connection to a server, and the requests to JetStream over it.
//!
//! JetStream's interface is requests and answers in JSON. Each request is bounded in time. Each failure is a sentence
//! that names the server.

use super::super::contract::LogId;
use super::super::shared::connection::Failure;
use super::life::Life;
use super::words::SUBJECTS;
use async_nats::client::RequestErrorKind;
use async_nats::{Client, HeaderMap, Request};
use base64::Engine;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{json, Value};
use std::time::Duration;

/// The names of a stream and its subjects.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) stream: String,
    /// The subject of the fences.
    pub(super) fences: String,
    /// The subject of the entries of this life of the hub.
    pub(super) own: String,
    /// The subject of words to all hubs, and the beginning of those of words to one.
    pub(super) all: String,
    pub(super) each: String,
    pub(super) hub: u64,
}

impl Names {
    pub(super) fn new(namespace: &str, hub: u64) -> Self {
        Names {
            stream: format!("push_{namespace}"),
            fences: format!("push.{namespace}.fence"),
            own: format!("push.{namespace}.hub.{hub:016x}"),
            all: format!("{SUBJECTS}{namespace}.all"),
            each: format!("{SUBJECTS}{namespace}.hub."),
            hub,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    /// Name and port, for sentences.
    pub(super) server: String,
    /// The process of the server.
    pub(super) process: String,
    pub(super) timeout: Duration,
    pub(super) names: Names,
}

/// The reason why a request to JetStream failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// JetStream refused it, with a code.
    Said(u64, String),
    /// There is no answer.
    Lost(Failure),
}

/// An error of JetStream.
#[derive(Debug, Deserialize)]
struct Wrong {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// The state of a stream at one moment.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    pub(super) config: Value,
    created: String,
    pub(super) state: State,
    #[serde(default)]
    cluster: Cluster,
}

#[derive(Debug, Deserialize)]
pub(super) struct State {
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    #[serde(default)]
    pub(super) bytes: u64,
}

#[derive(Debug, Default, Deserialize)]
struct Cluster {
    #[serde(default)]
    leader: String,
    leader_since: Option<String>,
}

/// A message of the stream.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) subject: String,
    pub(super) number: u64,
    pub(super) headers: String,
    pub(super) bytes: Vec<u8>,
}

impl Info {
    /// Before which number the stream forgets everything so that it does not become full: it keeps at most half of its
    /// own `max_bytes` and `max_msgs`. `None`: there is room. All hubs come to the same number, so it does no harm that
    /// each of them asks for it.
    pub(super) fn makes_room_before(&self) -> Option<u64> {
        let bound = |name: &str| self.config[name].as_u64().filter(|bound| *bound > 0);
        let State { first_seq, last_seq, bytes } = self.state;
        let count = (last_seq + 1).saturating_sub(first_seq);
        // How many entries, if all are of one size.
        let excess = |has: u64, most: Option<u64>| {
            let over = has.saturating_sub(most? / 2);
            (over > 0).then(|| (u128::from(count) * u128::from(over) / u128::from(has)) as u64 + 1)
        };
        let most = excess(bytes, bound("max_bytes")).max(excess(count, bound("max_msgs")))?;
        Some(first_seq + most)
    }

    pub(super) fn replicas(&self) -> u64 {
        self.config["num_replicas"].as_u64().unwrap_or(1)
    }
}

impl Session {
    /// Asks, and reads the answer. `what` completes the sentence "the server refuses to ...".
    pub(super) async fn ask<T: for<'a> Deserialize<'a>>(
        &self,
        subject: &str,
        body: &Value,
        what: &str,
    ) -> Result<T, Failure> {
        self.try_ask(subject, body).await.map_err(|refusal| self.failure(what, refusal))
    }

    pub(super) async fn try_ask<T: for<'a> Deserialize<'a>>(&self, subject: &str, body: &Value) -> Result<T, Refusal> {
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        self.request(format!("$JS.API.{subject}"), HeaderMap::new(), body).await
    }

    /// Sends to a subject, and reads JetStream's answer.
    pub(super) async fn request<T: for<'a> Deserialize<'a>>(
        &self,
        subject: String,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<T, Refusal> {
        let mut request = Request::new().payload(body).timeout(Some(self.timeout));
        if !headers.is_empty() {
            request = request.headers(headers);
        }
        let answer = self.client.send_request(subject, request).await.map_err(|error| {
            Refusal::Lost(Failure(match error.kind() {
                RequestErrorKind::TimedOut => {
                    format!("the NATS server {} did not answer within {:?}", self.server, self.timeout)
                }
                RequestErrorKind::NoResponders => format!(
                    "nobody answers for the stream `{}` at the NATS server {}: JetStream is not enabled there, or not \
                     for this account, or the stream has no leader now",
                    self.names.stream, self.server
                ),
                _ => format!("the connection to the NATS server {} is lost: {error}", self.server),
            }))
        })?;
        let strange = || {
            Refusal::Lost(Failure(format!("the NATS server {} sends an answer that is not understood", self.server)))
        };
        let value: Value = serde_json::from_slice(&answer.payload).map_err(|_| strange())?;
        if let Some(wrong) = value.get("error") {
            let wrong = Wrong::deserialize(wrong).map_err(|_| strange())?;
            return Err(Refusal::Said(wrong.err_code, wrong.description));
        }
        T::deserialize(value).map_err(|_| strange())
    }

    /// A sentence for a refused request. `what` completes "the server refuses to ...".
    pub(super) fn failure(&self, what: &str, refusal: Refusal) -> Failure {
        let (server, stream) = (&self.server, &self.names.stream);
        match refusal {
            Refusal::Lost(failure) => failure,
            Refusal::Said(code::NOT_ENABLED | code::NOT_FOR_ACCOUNT, why) => {
                Failure(format!("JetStream is not enabled at the NATS server {server}: {why}"))
            }
            Refusal::Said(code, why) if code::FULL.contains(&code) => {
                Failure(format!("the stream `{stream}` at the NATS server {server} is full: {why}"))
            }
            Refusal::Said(code, why) => Failure(format!("the NATS server {server} refuses to {what}: {why} ({code})")),
        }
    }

    pub(super) async fn info(&self) -> Result<Info, Failure> {
        self.ask(&format!("STREAM.INFO.{}", self.names.stream), &Value::Null, "show the stream").await
    }

    /// The life of the log. A stream without replicas says nothing of its server's lives, so it has to be on the server
    /// that this is connected to.
    pub(super) fn life(&self, info: &Info) -> Result<LogId, Failure> {
        let Cluster { leader, leader_since } = &info.cluster;
        let connected = self.client.server_info();
        let since = match leader_since {
            Some(since) => since.clone(),
            None if info.replicas() > 1 => {
                let stream = &self.names.stream;
                return Err(Failure(format!("the stream `{stream}` at the NATS server {} has no leader", self.server)));
            }
            None if *leader == connected.server_name => self.process.clone(),
            None => {
                return Err(Failure(format!(
                    "the stream `{}` is only on the NATS server `{leader}`, and {} is `{}`: give the stream 3 \
                     replicas, or name only that server in the URL",
                    self.names.stream, self.server, connected.server_name
                )))
            }
        };
        Ok(Life { created: info.created.clone(), leader: leader.clone(), since }.id())
    }

    /// A message by its number.
    pub(super) async fn message(&self, number: u64) -> Result<Option<Stored>, Failure> {
        self.stored(&json!({ "seq": number })).await
    }

    /// The last message of a subject.
    pub(super) async fn last(&self, subject: &str) -> Result<Option<Stored>, Failure> {
        self.stored(&json!({ "last_by_subj": subject })).await
    }

    /// Only the leader of a stream answers this, so an answer is never older than the answer before.
    async fn stored(&self, which: &Value) -> Result<Option<Stored>, Failure> {
        #[derive(Deserialize)]
        struct Answer {
            message: Message,
        }
        #[derive(Deserialize)]
        struct Message {
            subject: String,
            seq: u64,
            #[serde(default)]
            hdrs: String,
            #[serde(default)]
            data: String,
        }
        let decoded = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
        match self.try_ask::<Answer>(&format!("STREAM.MSG.GET.{}", self.names.stream), which).await {
            Ok(Answer { message: Message { subject, seq, hdrs, data } }) => {
                let headers = String::from_utf8_lossy(&decoded(&hdrs)).into_owned();
                Ok(Some(Stored { subject, number: seq, headers, bytes: decoded(&data) }))
            }
            Err(Refusal::Said(code::NO_MESSAGE, _)) => Ok(None),
            Err(refusal) => Err(self.failure("read a message of the stream", refusal)),
        }
    }

    /// Removes the messages before a number.
    pub(super) async fn purge(&self, before: u64) -> Result<(), Failure> {
        let subject = format!("STREAM.PURGE.{}", self.names.stream);
        self.ask::<Value>(&subject, &json!({ "seq": before }), "purge the stream").await.map(|_| ())
    }

    /// Removes one message. False: it is not there.
    pub(super) async fn delete(&self, number: u64) -> Result<bool, Failure> {
        let body = json!({ "seq": number, "no_erase": true });
        match self.try_ask::<Value>(&format!("STREAM.MSG.DELETE.{}", self.names.stream), &body).await {
            Ok(_) => Ok(true),
            Err(Refusal::Said(..)) => Ok(false),
            Err(refusal) => Err(self.failure("delete a message of the stream", refusal)),
        }
    }
}

/// JetStream's answer to a message that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Acknowledged {
    pub(super) seq: u64,
    #[serde(default)]
    pub(super) duplicate: bool,
    /// The number of messages in the batch.
    #[serde(default)]
    pub(super) count: u64,
}

/// JetStream's codes of errors.
pub(super) mod code {
    pub(in super::super) const NOT_ENABLED: u64 = 10076;
    pub(in super::super) const NOT_FOR_ACCOUNT: u64 = 10039;
    pub(in super::super) const NO_STREAM: u64 = 10059;
    pub(in super::super) const NO_MESSAGE: u64 = 10037;
    pub(in super::super) const STREAM_NAME_IN_USE: u64 = 10058;
    /// Another message than the expected one is the subject's last.
    pub(in super::super) const WRONG_LAST: [u64; 2] = [10071, 10164];
    /// A message with that id is there, or is being stored.
    pub(in super::super) const HAS_DUPLICATES: u64 = 10201;
    pub(in super::super) const DUPLICATE_COMES: u64 = 10158;
    pub(in super::super) const NO_ROLLUP: u64 = 10111;
    /// The batch was given up, or there are too many.
    pub(in super::super) const BATCH_AGAIN: [u64; 3] = [10176, 10210, 10211];
    /// No more room: in the server, in its account, in the stream.
    pub(in super::super) const FULL: [u64; 5] = [10023, 10002, 10028, 10047, 10077];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_with_bounds_keeps_half() {
        let before = |config: Value, bytes: u64| {
            let state = State { first_seq: 101, last_seq: 200, bytes };
            let cluster = Cluster::default();
            Info { config, created: String::new(), state, cluster }.makes_room_before()
        };
        assert_eq!(before(json!({ "max_bytes": -1, "max_msgs": -1 }), 1 << 40), None);
        assert_eq!(before(json!({ "max_bytes": 1000 }), 500), None);
        assert_eq!(before(json!({ "max_bytes": 1000 }), 1000), Some(152));
        assert_eq!(before(json!({ "max_bytes": 1000 }), 501), Some(102), "at least one");
        assert_eq!(before(json!({ "max_bytes": 1000, "max_msgs": 100 }), 501), Some(152));
    }
}
