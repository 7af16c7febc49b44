//! A hub of tests: it asks a log, and waits for each answer.

use super::{Log, PATIENCE};
use crate::engine::contract::{Answer, Appending, Ask, EntryId, Fence, Identity, Placed, Tailed};
use crate::engine::entry::{Entry, Logged};
use crate::engine::envelope::{self, Body};
use crate::engine::shared::connection::Connection;
use crate::hub::{Epoch, Noted};
use std::time::Duration;
use tokio::time::{sleep, timeout};

pub(crate) struct Hub {
    pub(crate) connection: Connection,
    pub(crate) name: u64,
    attempt: u32,
    /// The last counter that was asked for over this connection.
    pub(crate) after: u64,
}

impl Hub {
    pub(crate) async fn connect(log: &dyn Log, name: u64) -> Self {
        Hub::over(log.connect(name).await, name)
    }

    pub(crate) fn over(connection: Connection, name: u64) -> Self {
        Hub { connection, name, attempt: 1, after: 0 }
    }

    /// The connection is dropped, and another one made.
    pub(crate) async fn reconnect(self, log: &dyn Log) -> Self {
        drop(self.connection);
        Hub { connection: log.connect(self.name).await, attempt: self.attempt + 1, after: 0, ..self }
    }

    pub(crate) async fn ask(&self, ask: Ask) {
        let sent = timeout(PATIENCE, self.connection.asks.send(ask)).await;
        sent.expect("the log takes no question").expect("the connection is lost");
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        match self.answer_if_connected().await {
            Some(answer) => answer,
            None => self.lost().await,
        }
    }

    /// The next answer; none once the connection is lost.
    pub(crate) async fn answer_if_connected(&mut self) -> Option<Answer> {
        timeout(PATIENCE, self.connection.answers.recv()).await.expect("the log does not answer")
    }

    async fn lost(&mut self) -> ! {
        let why = timeout(PATIENCE, &mut self.connection.end).await;
        panic!("the connection is lost: {why:?}")
    }

    /// The entry with this counter, as it is appended over this connection.
    pub(crate) fn entry(&self, counter: u64, body: &Body<'_>) -> Appending {
        let id = EntryId { hub: self.name, counter, attempt: self.attempt };
        Appending { id, key: "".into(), bytes: envelope::write(id, body) }
    }

    pub(crate) fn heartbeats(&self, counters: impl IntoIterator<Item = u64>) -> Vec<Appending> {
        counters.into_iter().map(|counter| self.entry(counter, &heartbeat())).collect()
    }

    /// Asks to append, and does not wait.
    pub(crate) async fn ask_append(&mut self, entries: Vec<Appending>) {
        let after = std::mem::replace(&mut self.after, entries.last().unwrap().id.counter);
        self.ask(Ask::Append { after, entries }).await;
    }

    /// Appends. A log may be busy: then it is asked again.
    pub(crate) async fn append(&mut self, entries: Vec<Appending>) -> Vec<Placed> {
        let after = self.after;
        loop {
            self.after = after;
            self.ask_append(entries.clone()).await;
            match self.answer().await {
                Answer::Appended(placed) => {
                    assert_eq!(placed.len(), entries.len());
                    return placed;
                }
                Answer::Busy => sleep(Duration::from_millis(10)).await,
                other => panic!("{other:?}"),
            }
        }
    }

    /// Appends one entry, and returns its number.
    pub(crate) async fn append_one(&mut self, counter: u64, body: &Body<'_>) -> u64 {
        let entry = self.entry(counter, body);
        match self.append(vec![entry]).await[..] {
            [Placed::At(number)] => number,
            ref other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn identify(&mut self, number: u64) -> Identity {
        self.ask(Ask::Identify { number }).await;
        match self.answer().await {
            Answer::Identity(identity) => identity,
            other => panic!("{other:?}"),
        }
    }

    /// Asks to append a fence with this epoch.
    pub(crate) async fn fence(&mut self, expected: u64, epoch: &str) -> (bool, Fence) {
        let log = self.identify(0).await.log;
        let fence = Fence { epoch: Epoch::from_text(epoch).unwrap(), log, chain: Vec::new() };
        self.ask(Ask::Fence { expected, fence: fence.clone() }).await;
        match self.answer().await {
            Answer::Fenced(done) => (done, fence),
            other => panic!("{other:?}"),
        }
    }

    /// The next items of the tail that are no sign of idleness, at least so many.
    pub(crate) async fn tailed(&mut self, count: usize) -> Vec<Tailed> {
        let mut items = Vec::new();
        while items.len() < count {
            match self.tailed_if_connected().await {
                Some(more) => items.extend(more),
                None => self.lost().await,
            }
        }
        items
    }

    /// The next piece of the tail, without the signs of idleness in it; none once the connection is lost.
    async fn tailed_if_connected(&mut self) -> Option<Vec<Tailed>> {
        let piece = timeout(PATIENCE, self.connection.tail.recv()).await.expect("the tail brings nothing");
        Some(piece?.into_iter().filter(|item| !matches!(item, Tailed::Idle { .. })).collect())
    }

    /// The numbers of the tail, up to this one. Each must be one more than the one before, or have come already.
    pub(crate) async fn tailed_to(&mut self, last: u64) -> Vec<(u64, EntryId)> {
        match self.tailed_to_if_connected(last).await {
            Some(all) => all,
            None => self.lost().await,
        }
    }

    /// The same; none if the connection is lost before that.
    pub(crate) async fn tailed_to_if_connected(&mut self, last: u64) -> Option<Vec<(u64, EntryId)>> {
        let mut all: Vec<(u64, EntryId)> = Vec::new();
        while all.last().is_none_or(|(number, _)| *number < last) {
            for item in self.tailed_if_connected().await? {
                let (number, id) = name_of(&item);
                match all.last() {
                    Some((before, _)) if number <= *before => assert!(all.contains(&(number, id)), "{number} changed"),
                    Some((before, _)) => {
                        assert_eq!(number, before + 1);
                        all.push((number, id));
                    }
                    None => all.push((number, id)),
                }
            }
        }
        Some(all)
    }
}

/// The number and the name of an item.
pub(super) fn name_of(item: &Tailed) -> (u64, EntryId) {
    match item {
        Tailed::Entry { number, bytes } => (*number, envelope::read(bytes).expect("an entry").0),
        Tailed::Fence { number, id } => (*number, *id),
        Tailed::Idle { .. } => panic!("idle"),
    }
}

pub(crate) fn heartbeat() -> Body<'static> {
    Body::Heartbeat(None)
}

/// A message with this payload.
pub(crate) fn message(data: &[u8]) -> Body<'_> {
    let (channel, binary) = ("news", true);
    let noted = Noted { channel, event: None, key: None, binary, mark: None, origin: None, except: None, data };
    Body::Entry(Entry::Message(Logged { time_ms: 1, more: false, noted }))
}

/// The payload of the message in an entry.
pub(crate) fn bytes_of(entry: &[u8]) -> &[u8] {
    match envelope::read(entry) {
        Ok((_, Body::Entry(Entry::Message(Logged { noted, .. })))) => noted.data,
        other => panic!("{other:?}"),
    }
}
