//! The users on a channel, of all hubs together.

mod merging;
#[cfg(test)]
mod tests;

use super::hashes::hash;
use super::words::MAX_ANSWER;
use crate::engine::entry::short;
use crate::users::{Named, Sorted};
pub(crate) use merging::MergingUsers;
use std::sync::Arc;

/// The bytes of an answer that names may take. The hashes get the rest.
const NAMES: usize = MAX_ANSWER / 2;
/// The most hashes in an answer.
const MAX_HASHES: usize = (MAX_ANSWER - NAMES) / 8 - 64;

/// The answer of a hub while it is made, in steps: its page, its counts, and a hash of each name.
#[derive(Debug)]
pub(crate) struct Answering {
    names: Sorted<Arc<str>>,
    made: Made,
}

/// What is made of an answer so far.
#[derive(Debug)]
struct Made {
    /// The bits of the question.
    key: u64,
    after: Box<str>,
    limit: usize,
    /// The user who is being counted, and the connections that were seen.
    last: Option<(Arc<str>, u64)>,
    connections: u64,
    anonymous: u64,
    count: u64,
    listed: u32,
    more: bool,
    page: Vec<u8>,
    hashes: Vec<u8>,
}

impl Answering {
    /// The answer about users and connections without one. `key`: the bits of the question.
    pub(crate) fn new(key: u64, (named, anonymous): (Named, usize), after: &str, limit: usize) -> Self {
        let connections = (named.iter().map(Vec::len).sum::<usize>() + anonymous) as u64;
        let mut names = Sorted::default();
        named.into_iter().for_each(|some| names.add(some));
        let made = Made {
            key,
            after: after.into(),
            limit,
            last: None,
            connections,
            anonymous: anonymous as u64,
            count: 0,
            listed: 0,
            more: false,
            page: Vec::new(),
            hashes: Vec::new(),
        };
        Answering { names, made }
    }

    /// The answer of a hub that does not have the channel.
    pub(crate) fn no_channel() -> Vec<u8> {
        vec![0]
    }

    /// Goes on. Returns true if there is more to do.
    pub(crate) fn step(&mut self) -> bool {
        self.names.step(|name| self.made.note(name))
    }

    /// The answer, after the last step.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.made.list_last();
        let Made { connections, anonymous, count, listed, more, page, hashes, .. } = self.made;
        let mut answer = vec![1, more.into()];
        for number in [connections, anonymous, count] {
            answer.extend_from_slice(&number.to_le_bytes());
        }
        answer.extend_from_slice(&listed.to_le_bytes());
        answer.extend_from_slice(&page);
        answer.extend_from_slice(&hashes);
        answer
    }

    /// The name after which the page begins.
    #[cfg(test)]
    pub(crate) fn after(&self) -> &str {
        &self.made.after
    }
}

impl Made {
    fn note(&mut self, name: Arc<str>) {
        if let Some((last, connections)) = &mut self.last {
            if *last == name {
                *connections += 1;
                return;
            }
        }
        self.list_last();
        self.last = Some((name, 1));
    }

    fn list_last(&mut self) {
        let Some((name, connections)) = self.last.take() else { return };
        self.count += 1;
        if self.hashes.len() < MAX_HASHES * 8 {
            self.hashes.extend_from_slice(&hash(self.key, &name).to_le_bytes());
        }
        if *name <= *self.after || self.more {
            return;
        }
        // A name takes at most 264 bytes.
        if self.listed as usize == self.limit || self.page.len() + 264 > NAMES {
            self.more = true;
            return;
        }
        short(&mut self.page, &name);
        self.page.extend_from_slice(&connections.to_le_bytes());
        self.listed += 1;
    }
}

/// The answer of a hub, in one go. `None`: it does not have the channel.
#[cfg(any(test, fuzzing))]
pub(crate) fn users(key: u64, present: Option<(Vec<Arc<str>>, usize)>, after: &str, limit: usize) -> Vec<u8> {
    let Some((named, anonymous)) = present else { return Answering::no_channel() };
    let mut answering = Answering::new(key, (vec![named], anonymous), after, limit);
    while answering.step() {}
    answering.end()
}
