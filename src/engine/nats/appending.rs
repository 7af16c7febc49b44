//! Appends the entries of this hub to the log: in their order, and each once.
//!
//! Every message that is stored names the number of the one before it on the hub's own subject
//! (`Nats-Expected-Last-Subject-Sequence`). If that is not the last one there, JetStream refuses it. So no message
//! overtakes another, and a message on its way from an earlier connection either comes first or is refused. The last
//! message of the subject tells which entries of this hub the log has.

use super::super::contract::{Appending, Placed};
use super::super::envelope;
use super::super::shared::connection::Failure;
use super::super::shared::pause;
use super::session::{code, Acknowledged, Refusal, Session};
use async_nats::HeaderMap;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::{sleep, Instant};

/// How many entries go in one batch, and how many bytes. A server allows a thousand.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 4 << 20;
/// The pause before an append is tried again that another append was in the way of.
const PAUSE: Duration = Duration::from_millis(2);

/// How many keys are asked for at once.
const KEYS: usize = 64;

const EXPECTED_LAST: &str = "Nats-Expected-Last-Subject-Sequence";
const MESSAGE_ID: &str = "Nats-Msg-Id";

/// The progress of this hub's entries.
#[derive(Debug)]
pub(super) struct Appender {
    /// A part of each batch's id. It differs from that of other connections.
    connection: u64,
    batches: u64,
    /// The last entry of this hub that the log has, or has refused for its key.
    counter: u64,
    /// The number of the last message on the hub's subject. 0: there is none.
    last: u64,
    /// The counter in the last message that was found or stored there.
    stored: u64,
    /// The last entry that was asked for over this connection and is dealt with.
    dealt_with: u64,
}

impl Appender {
    /// Asks the log for the last entry of this hub.
    pub(super) async fn begin(session: &Session, connection: u64) -> Result<Self, Failure> {
        let mut appender = Appender { connection, batches: 0, counter: 0, last: 0, stored: 0, dealt_with: 0 };
        appender.look(session).await?;
        Ok(appender)
    }

    async fn look(&mut self, session: &Session) -> Result<(), Failure> {
        let other = || {
            let (stream, server) = (&session.names.stream, &session.server);
            Failure(format!(
                "the stream `{stream}` at the NATS server {server} was replaced by another one: it has lost entries of this hub"
            ))
        };
        let Some(stored) = session.last(&session.names.own).await? else {
            return if self.last == 0 { Ok(()) } else { Err(other()) };
        };
        let (id, _) = envelope::read(&stored.bytes).map_err(|_| {
            let subject = &session.names.own;
            Failure(format!(
                "message {} of `{subject}` at the NATS server {} is not an entry of libpush",
                stored.number, session.server
            ))
        })?;
        // Entries must not go into another life of the log than the one that the hub has identified.
        if stored.number < self.last || id.counter < self.stored {
            return Err(other());
        }
        (self.last, self.stored) = (stored.number, id.counter);
        self.counter = self.counter.max(id.counter);
        Ok(())
    }

    /// Appends entries. `None`: the entry before them has no result yet.
    pub(super) async fn append(
        &mut self,
        session: &Session,
        after: u64,
        entries: Vec<Appending>,
    ) -> Result<Option<Vec<Placed>>, Failure> {
        if after > self.dealt_with {
            return Ok(None);
        }
        let mut placed = vec![None; entries.len()];
        let mut from = 0;
        while from < entries.len() {
            let until = from + piece(&entries[from..]);
            self.append_piece(session, &entries[from..until], &mut placed[from..until]).await?;
            from = until;
        }
        self.dealt_with = entries.last().map_or(0, |last| last.id.counter).max(self.dealt_with);
        Ok(Some(placed.into_iter().flatten().collect()))
    }

    /// Tries again and again until each entry has its place.
    async fn append_piece(
        &mut self,
        session: &Session,
        entries: &[Appending],
        placed: &mut [Option<Placed>],
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + session.timeout;
        loop {
            self.recognise(session, entries, placed).await?;
            let left: Vec<usize> = (0..entries.len()).filter(|at| placed[*at].is_none()).collect();
            let Some((first, last)) = left.first().zip(left.last()) else { break };
            let refusal = match self.publish(session, entries, &left).await {
                Ok(Acknowledged { seq, duplicate: true, .. }) => {
                    placed[*first] = Some(Placed::Known(seq));
                    continue;
                }
                Ok(Acknowledged { seq, .. }) => {
                    for (at, number) in left.iter().rev().zip((0..=seq).rev()) {
                        placed[*at] = Some(Placed::At(number));
                    }
                    (self.last, self.counter) = (seq, entries[*last].id.counter);
                    self.stored = self.counter;
                    break;
                }
                Err(refusal) => refusal,
            };
            match &refusal {
                Refusal::Said(why, _) if code::WRONG_LAST.contains(why) => self.look(session).await?,
                // The whole batch is refused if one of its keys is known.
                Refusal::Said(code::HAS_DUPLICATES, _) => {
                    let keyed = left.iter().copied().filter(|at| !entries[*at].key.is_empty()).collect();
                    for (at, number) in keys(session, entries, keyed).await? {
                        placed[at] = number.map(Placed::Known);
                    }
                    if left.iter().any(|at| placed[*at].is_some()) {
                        continue;
                    }
                }
                Refusal::Said(code::DUPLICATE_COMES, _) => {}
                Refusal::Said(why, _) if code::BATCH_AGAIN.contains(why) => self.look(session).await?,
                _ => return Err(session.failure("take an entry", refusal)),
            }
            if Instant::now() > deadline {
                return Err(session.failure("take an entry", refusal));
            }
            sleep(pause::about(PAUSE)).await;
        }
        self.counter = self.counter.max(entries.last().map_or(0, |last| last.id.counter));
        Ok(())
    }

    /// Entries with a result, over this connection or an earlier one.
    async fn recognise(
        &self,
        session: &Session,
        entries: &[Appending],
        placed: &mut [Option<Placed>],
    ) -> Result<(), Failure> {
        let is_done = |at: &usize| placed[*at].is_none() && entries[*at].id.counter <= self.counter;
        let done: Vec<usize> = (0..entries.len()).filter(is_done).collect();
        let keyed = done.iter().copied().filter(|at| !entries[*at].key.is_empty()).collect();
        let known = keys(session, entries, keyed).await?;
        done.into_iter().for_each(|at| placed[at] = Some(Placed::Repeated));
        for (at, number) in known {
            placed[at] = Some(number.map_or(Placed::Repeated, Placed::Known));
        }
        Ok(())
    }

    /// One message, or several as a batch: all of it is stored, or nothing.
    async fn publish(
        &mut self,
        session: &Session,
        entries: &[Appending],
        which: &[usize],
    ) -> Result<Acknowledged, Refusal> {
        let subject = &session.names.own;
        self.batches += 1;
        let batch = format!("{:016x}-{}", self.connection, self.batches);
        let (count, mut position) = (which.len(), 0);
        let mut rest = which.iter();
        let last = rest.next_back();
        for at in rest {
            position += 1;
            let headers = self.headers(&entries[*at], Some(&batch), position);
            let sent = session.client.publish_with_headers(subject.clone(), headers, bytes(&entries[*at]));
            sent.await.map_err(|error| {
                Refusal::Lost(Failure(format!("the connection to the NATS server {} is lost: {error}", session.server)))
            })?;
        }
        let Some(entry) = last.map(|at| &entries[*at]) else {
            return Ok(Acknowledged { seq: 0, duplicate: false, count: 0 });
        };
        let mut headers = self.headers(entry, (count > 1).then_some(&batch), position + 1);
        if count > 1 {
            headers.insert("Nats-Batch-Commit", "1");
        }
        session.request(subject.clone(), headers, bytes(entry)).await
    }

    fn headers(&self, entry: &Appending, batch: Option<&String>, position: usize) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(batch) = batch {
            headers.insert("Nats-Batch-Id", batch.as_str());
            headers.insert("Nats-Batch-Sequence", position.to_string());
        }
        if position <= 1 {
            headers.insert(EXPECTED_LAST, self.last.to_string());
        }
        if !entry.key.is_empty() {
            headers.insert(MESSAGE_ID, message_id(&entry.key));
        }
        headers
    }
}

/// The number of entries that go together: a batch has each key once.
fn piece(entries: &[Appending]) -> usize {
    let (mut bytes, mut keys) = (0, HashSet::new());
    let mut fits = |entry: &Appending| {
        bytes += entry.bytes.len();
        bytes <= BATCH_BYTES && (entry.key.is_empty() || keys.insert(entry.key.clone()))
    };
    entries.iter().take(BATCH).take_while(|entry| fits(entry)).count().max(1)
}

fn bytes(entry: &Appending) -> Bytes {
    entry.bytes.clone().into()
}

/// A key in the form for a header: in hexadecimal where it is not plain.
fn message_id(key: &str) -> String {
    if key.bytes().all(|byte| byte.is_ascii_graphic()) && !key.starts_with('%') {
        return key.to_owned();
    }
    let mut id = String::from("%");
    key.bytes().for_each(|byte| id.push_str(&format!("{byte:02x}")));
    id
}

/// Which messages have the keys of some of the entries. Many are asked for at once: one after the other would take a
/// round trip for each.
async fn keys(
    session: &Session,
    entries: &[Appending],
    which: Vec<usize>,
) -> Result<Vec<(usize, Option<u64>)>, Failure> {
    let ask = |at: usize| async move { key(session, &entries[at].key).await.map(|found| (at, found)) };
    let asked: Vec<_> = which.into_iter().map(ask).collect();
    futures_util::stream::iter(asked).buffered(KEYS).try_collect().await
}

/// Which message has a key. A message that JetStream never stores asks for it: streams that are a log refuse roll-ups,
/// and JetStream looks for the key before that.
async fn key(session: &Session, key: &str) -> Result<Option<u64>, Failure> {
    let deadline = Instant::now() + session.timeout;
    loop {
        let mut headers = HeaderMap::new();
        headers.insert(MESSAGE_ID, message_id(key));
        headers.insert("Nats-Rollup", "sub");
        let asked = session.request::<Acknowledged>(session.names.own.clone(), headers, Bytes::new()).await;
        match asked {
            Ok(Acknowledged { seq, duplicate: true, .. }) => return Ok(Some(seq)),
            Err(Refusal::Said(code::NO_ROLLUP, _)) => return Ok(None),
            // It is being stored.
            Err(Refusal::Said(code::DUPLICATE_COMES, _)) if Instant::now() < deadline => sleep(PAUSE).await,
            Ok(_) => {
                return Err(Failure(format!(
                    "the stream `{}` has stored a request as if it were an entry",
                    session.names.stream
                )))
            }
            Err(refusal) => return Err(session.failure("look for a key", refusal)),
        }
    }
}

/// Appends one message to a subject if the subject's last message is `last`. `Ok(None)`: it is another one.
pub(super) async fn swap(
    session: &Session,
    subject: &str,
    last: u64,
    mut headers: HeaderMap,
    bytes: Vec<u8>,
) -> Result<Option<u64>, Refusal> {
    headers.insert(EXPECTED_LAST, last.to_string());
    match session.request::<Acknowledged>(subject.to_owned(), headers, bytes.into()).await {
        Ok(acknowledged) => Ok(Some(acknowledged.seq)),
        Err(Refusal::Said(why, _)) if code::WRONG_LAST.contains(&why) => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::contract::EntryId;
    use super::*;

    fn entry(key: &str, len: usize) -> Appending {
        Appending { id: EntryId { hub: 1, counter: 1, attempt: 1 }, key: key.into(), bytes: vec![0; len] }
    }

    #[test]
    fn a_batch_has_each_key_once_and_is_bounded() {
        let many = vec![entry("", 1); BATCH + 1];
        assert_eq!(piece(&many), BATCH);
        assert_eq!(piece(&[entry("a", 1), entry("", 1), entry("b", 1), entry("a", 1), entry("c", 1)]), 3);
        assert_eq!(piece(&[entry("", BATCH_BYTES + 1), entry("", 1)]), 1, "one that is larger goes alone");
        assert_eq!(piece(&[entry("", BATCH_BYTES), entry("", 1)]), 1);
    }

    #[test]
    fn different_keys_have_different_ids_that_fit_a_header() {
        let keys = ["a", "a b", "ä", "%61", "", "a\r\nX: y", "6120"];
        let ids: HashSet<String> = keys.iter().map(|key| message_id(key)).collect();
        assert_eq!(ids.len(), keys.len());
        assert!(ids.iter().all(|id| id.bytes().all(|byte| byte.is_ascii_graphic())));
    }
}
