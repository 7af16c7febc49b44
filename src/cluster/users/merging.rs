//! The answers of all hubs, read and put together in steps.

use super::super::table::Outcome;
use super::super::words::MAX_COUNT;
use crate::engine::entry::Fields;
use crate::hub::check_text;
use crate::users::{Sorted, User, Users, AT_ONCE, MAX_USERS};
use std::cmp::Reverse;
use std::collections::binary_heap::{BinaryHeap, PeekMut};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::vec;

/// The figures at the beginning of a hub's answer.
#[derive(Debug, Clone, Copy)]
struct Figures {
    more: bool,
    connections: u64,
    anonymous: u64,
    count: u64,
    listed: u32,
}

impl Figures {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let more = fields.u8()? != 0;
        let (connections, anonymous, count) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let listed = fields.u32()?;
        let named = connections.checked_sub(anonymous)?;
        // Each user has a connection.
        let good =
            listed as usize <= MAX_USERS && connections <= MAX_COUNT && count <= named && u64::from(listed) <= count;
        good.then_some(Figures { more, connections, anonymous, count, listed })
    }
}

/// The answer of a hub while it is read. Nothing of it counts before all of it is known to be good.
struct Reading {
    hub: u64,
    bytes: Vec<u8>,
    figures: Figures,
    /// Where the page begins, and where its next user stands.
    page: usize,
    at: usize,
    /// The users of the page that are not read yet, and the connections that they may have.
    unread: u32,
    left: u64,
    /// Where the name stands that was read last.
    last: Range<usize>,
}

/// How an answer begins.
enum Begun {
    /// The hub does not have the channel.
    NoChannel,
    Reading(Box<Reading>),
}

impl Reading {
    /// `None`: it is no answer.
    fn begin(hub: u64, bytes: Vec<u8>) -> Option<Begun> {
        let mut fields = Fields(&bytes);
        match fields.u8()? {
            0 => return fields.0.is_empty().then_some(Begun::NoChannel),
            1 => {}
            _ => return None,
        }
        let figures = Figures::read(&mut fields)?;
        let page = bytes.len() - fields.0.len();
        let left = figures.connections - figures.anonymous;
        let reading = Reading { hub, bytes, figures, page, at: page, unread: figures.listed, left, last: 0..0 };
        Some(Begun::Reading(Box::new(reading)))
    }

    /// Reads some of the page. `Some(true)`: there is more of it. `None`: it is no answer.
    fn step(&mut self) -> Option<bool> {
        for _ in 0..AT_ONCE {
            if self.unread == 0 {
                return Some(false);
            }
            let mut fields = Fields(&self.bytes[self.at..]);
            let (name, connections) = (fields.short()?, fields.u64()?);
            let end = self.bytes.len() - fields.0.len();
            // The number of the connections stands behind the name.
            let last = end - 8 - name.len()..end - 8;
            let is_first = self.unread == self.figures.listed;
            let follows = is_first || name.as_bytes() > &self.bytes[self.last.clone()];
            if check_text("user", name, 255).is_err() || !follows || connections == 0 {
                return None;
            }
            self.left = self.left.checked_sub(connections)?;
            (self.at, self.last) = (end, last);
            self.unread -= 1;
        }
        Some(self.unread > 0)
    }

    /// The hashes behind the page.
    fn hashes(&self) -> Option<Vec<u64>> {
        let (hashes, rest) = self.bytes[self.at..].as_chunks::<8>();
        let good = rest.is_empty() && hashes.len() as u64 <= self.figures.count;
        good.then(|| hashes.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect())
    }

    /// The name at the end of the page.
    fn last_name(&self) -> Arc<str> {
        String::from_utf8_lossy(&self.bytes[self.last.clone()]).into()
    }
}

/// The users of a page that was read.
struct Page {
    bytes: Vec<u8>,
    at: usize,
    left: u32,
}

impl Iterator for Page {
    type Item = (Arc<str>, u64);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let mut fields = Fields(self.bytes.get(self.at..)?);
        let (name, connections) = (fields.short()?.into(), fields.u64()?);
        self.at = self.bytes.len() - fields.0.len();
        Some((name, connections))
    }
}

/// The answers of all hubs while they are put together, in steps: each hub may list thousands of users.
///
/// First the answers are read. Then their hashes are sorted, to count each user once. Then the pages are merged.
pub(crate) struct MergingUsers {
    outcome: Outcome,
    limit: usize,
    answers: vec::IntoIter<(u64, Vec<u8>)>,
    reading: Option<Box<Reading>>,
    pages: Vec<Page>,
    hashes: Sorted<u64>,
    last_hash: Option<u64>,
    /// The next user of each page that has one, with the number of the page. The lowest is on top.
    next: BinaryHeap<Reverse<(Arc<str>, u64, usize)>>,
    /// A hub that has more names than it lists says nothing of the names after its last one.
    until: Option<Arc<str>>,
    /// Users of whom there is no hash.
    beyond: u64,
    has_channel: bool,
    merged: Users,
}

impl MergingUsers {
    /// Puts the answers of an outcome together, in a page of at most `limit` users.
    pub(crate) fn new(mut outcome: Outcome, limit: usize) -> Self {
        let answers = std::mem::take(&mut outcome.answers).into_iter();
        MergingUsers {
            outcome,
            limit,
            answers,
            reading: None,
            pages: Vec::new(),
            hashes: Sorted::default(),
            last_hash: None,
            next: BinaryHeap::new(),
            until: None,
            beyond: 0,
            has_channel: false,
            merged: Users::default(),
        }
    }

    /// Goes on. Returns true if there is more to do.
    pub(crate) fn step(&mut self) -> bool {
        if let Some(reading) = self.reading.take() {
            self.go_on_reading(reading);
            return true;
        }
        if let Some((hub, bytes)) = self.answers.next() {
            match Reading::begin(hub, bytes) {
                Some(Begun::Reading(reading)) => self.reading = Some(reading),
                Some(Begun::NoChannel) => {}
                None => self.outcome.hubs.not_readable(hub),
            }
            return true;
        }
        let (last, count) = (&mut self.last_hash, &mut self.merged.count);
        let more = self.hashes.step(|hash| {
            if last.replace(hash) != Some(hash) {
                *count += 1;
            }
        });
        more || self.merge_some()
    }

    fn go_on_reading(&mut self, mut reading: Box<Reading>) {
        let hub = reading.hub;
        match reading.step() {
            Some(true) => self.reading = Some(reading),
            Some(false) => match reading.hashes() {
                Some(hashes) => self.add(*reading, hashes),
                None => self.outcome.hubs.not_readable(hub),
            },
            None => self.outcome.hubs.not_readable(hub),
        }
    }

    /// Adds an answer that is good.
    fn add(&mut self, reading: Reading, hashes: Vec<u64>) {
        let Figures { more, connections, anonymous, count, listed } = reading.figures;
        let merged = &mut self.merged;
        merged.connections = merged.connections.saturating_add(connections);
        merged.anonymous = merged.anonymous.saturating_add(anonymous);
        self.beyond = self.beyond.saturating_add(count.saturating_sub(hashes.len() as u64));
        self.hashes.add(hashes);
        self.has_channel = true;
        if more {
            let last = reading.last_name();
            self.until = Some(self.until.take().map_or(last.clone(), |until| until.min(last)));
            merged.more = true;
        }
        let mut page = Page { bytes: reading.bytes, at: reading.page, left: listed };
        let first = page.next();
        self.next.extend(first.map(|(name, connections)| Reverse((name, connections, self.pages.len()))));
        self.pages.push(page);
    }

    /// Adds some users to the page. Returns true if there are more that belong to it.
    fn merge_some(&mut self) -> bool {
        for _ in 0..AT_ONCE {
            let Some((name, connections)) = self.next_user() else { return false };
            let page = &mut self.merged.page;
            if let Some(user) = page.last_mut().filter(|user| user.name == name) {
                user.connections = user.connections.saturating_add(connections);
                continue;
            }
            if page.len() == self.limit || self.until.as_ref().is_some_and(|until| name > *until) {
                self.merged.more = true;
                return false;
            }
            page.push(User { name, connections });
        }
        true
    }

    fn next_user(&mut self) -> Option<(Arc<str>, u64)> {
        let mut lowest = self.next.peek_mut()?;
        let number = lowest.0 .2;
        let Reverse((name, connections, _)) = match self.pages[number].next() {
            Some((name, connections)) => std::mem::replace(&mut *lowest, Reverse((name, connections, number))),
            None => PeekMut::pop(lowest),
        };
        Some((name, connections))
    }

    /// The users, after the last step. `None`: no hub that has answered has the channel.
    pub(crate) fn end(mut self) -> (Option<Users>, Outcome) {
        if self.beyond > 0 {
            let text = "there are too many users to tell which are on several hubs: these count several times";
            self.outcome.hubs.note(text);
        }
        self.merged.count = self.merged.count.saturating_add(self.beyond);
        (self.has_channel.then_some(self.merged), self.outcome)
    }

    /// The users, in one go.
    pub(crate) fn all(mut self) -> (Option<Users>, Outcome) {
        while self.step() {}
        self.end()
    }
}

impl Default for MergingUsers {
    fn default() -> Self {
        MergingUsers::new(Outcome::default(), 0)
    }
}

impl fmt::Debug for MergingUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MergingUsers").field("pages", &self.pages.len()).finish_non_exhaustive()
    }
}
