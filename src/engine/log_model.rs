//! A model of a log, in memory. It misbehaves in every way that the contract allows.
//!
//! It can't be reached, is slow or busy, acknowledges late, and delivers entries twice. Its servers diverge, lose their
//! newest entries, or start from an older copy or an empty one. The model remembers every entry that was ever appended
//! on any server, together with the entry before it. So it knows of any two entries whether one came after the other.

use super::contract::{Answer, Appending, Ask, EntryId, Fence, Identity, LogId, Placed, Tailed};
use super::entry::{Entry, Logged};
use super::envelope::{self, Body};
use std::collections::{HashMap, VecDeque};

/// A generator of random numbers. The same seed gives the same numbers (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True once in so many times.
    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// The index of an entry among all entries that were ever appended.
pub(super) type Place = u32;

/// An entry that was appended on any server.
#[derive(Debug)]
pub(super) struct Appended {
    /// The entry before it.
    pub(super) before: Option<Place>,
    pub(super) number: u64,
    pub(super) id: EntryId,
    pub(super) bytes: Vec<u8>,
    /// Empty if it has none.
    key: Box<str>,
    is_fence: bool,
}

#[derive(Debug, Clone)]
struct Server {
    log: LogId,
    /// The entries from number 1 on, including those that were trimmed.
    entries: Vec<Place>,
    first: u64,
    fence: Option<(u64, Fence)>,
    counters: HashMap<u64, u64>,
    keys: HashMap<Box<str>, u64>,
}

/// A hub's connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) server: usize,
    asks: VecDeque<(u64, Ask)>,
    answers: VecDeque<(u64, Answer)>,
    items: VecDeque<(u64, Vec<Tailed>)>,
    /// The number after which the tail goes on.
    tail: Option<u64>,
    /// The time until which every answer is held back.
    late: u64,
    /// The counter up to which all appends are done.
    dealt_with: u64,
    lost: bool,
}

#[derive(Debug)]
pub(crate) struct LogModel {
    pub(super) random: Random,
    pub(super) all: Vec<Appended>,
    servers: Vec<Server>,
    /// The server to which new connections go.
    pub(super) present: usize,
    /// Appends of lost connections that have not arrived yet: the time of their arrival, the server, and the entries.
    strays: VecDeque<(u64, usize, Vec<Appending>)>,
    logs: u64,
    /// The time until which no hub can connect.
    pub(crate) away: u64,
    /// The longest time that a question or an answer is on its way, in milliseconds.
    pub(crate) delay: usize,
    pub(super) recognises_entries: bool,
    pub(super) recognises_keys: bool,
    /// It writes the place of a message behind its payload.
    pub(super) marks_messages: bool,
}

impl LogModel {
    pub(super) fn new(seed: u64) -> Self {
        let mut model = LogModel {
            random: Random(seed),
            all: Vec::new(),
            servers: Vec::new(),
            present: 0,
            strays: VecDeque::new(),
            logs: 0,
            away: 0,
            delay: 1,
            recognises_entries: true,
            recognises_keys: true,
            marks_messages: true,
        };
        model.add_server(&[], 1);
        model
    }

    pub(super) fn connect(&mut self, now: u64) -> Option<Connection> {
        (now >= self.away).then(|| Connection {
            server: self.present,
            asks: VecDeque::new(),
            answers: VecDeque::new(),
            items: VecDeque::new(),
            tail: None,
            late: 0,
            dealt_with: 0,
            lost: false,
        })
    }

    /// A server takes over that has only the first entries of the present one. Connections to the present one stay.
    pub(super) fn fork(&mut self, lost: usize) {
        let present = &self.servers[self.present];
        let kept = present.entries.len().saturating_sub(lost);
        let (entries, first) = (present.entries[..kept].to_vec(), present.first);
        self.add_server(&entries, first.min(kept as u64 + 1));
    }

    /// Another log takes the place of this one.
    pub(super) fn replace(&mut self) {
        self.add_server(&[], 1);
    }

    /// A new server takes over that has the entries of an earlier one.
    pub(super) fn go_back(&mut self) {
        let server = &self.servers[self.random.below(self.servers.len())];
        let (entries, first) = (server.entries.clone(), server.first);
        self.add_server(&entries, first);
    }

    /// The entries of the present server, including those that were trimmed.
    pub(super) fn entries(&self) -> &[Place] {
        self.entries_of(self.present)
    }

    pub(super) fn entries_of(&self, server: usize) -> &[Place] {
        &self.servers[server].entries
    }

    /// The present server forgets the entries before a number.
    pub(super) fn forget(&mut self, before: u64) {
        self.servers[self.present].first = before;
    }

    pub(super) fn first(&self) -> u64 {
        self.servers[self.present].first
    }

    pub(super) fn place(&self, server: usize, number: u64) -> Option<Place> {
        self.servers[server].entries.get(number.checked_sub(1)? as usize).copied()
    }

    fn add_server(&mut self, entries: &[Place], first: u64) {
        self.logs += 1;
        let mut log = [0; 16];
        log[..8].copy_from_slice(&self.logs.to_le_bytes());
        let mut server = Server {
            log: LogId(log),
            entries: Vec::new(),
            first,
            fence: None,
            counters: HashMap::new(),
            keys: HashMap::new(),
        };
        for place in entries {
            server.remember(*place, &self.all);
        }
        self.present = self.servers.len();
        self.servers.push(server);
    }

    /// Makes appends arrive whose connections are lost.
    pub(super) fn pass(&mut self, now: u64) {
        while self.strays.front().is_some_and(|(due, ..)| *due <= now) {
            if let Some((_, server, batch)) = self.strays.pop_front() {
                self.append(server, batch);
            }
        }
    }

    fn append(&mut self, server: usize, batch: Vec<Appending>) -> Vec<Placed> {
        batch.into_iter().map(|entry| self.append_one(server, entry)).collect()
    }

    fn append_one(&mut self, at: usize, entry: Appending) -> Placed {
        let server = &self.servers[at];
        if let Some(number) = server.keys.get(&entry.key).filter(|_| self.recognises_keys) {
            return Placed::Known(*number);
        }
        let counted = server.counters.get(&entry.id.hub).copied().unwrap_or(0);
        if entry.id.counter <= counted && self.recognises_entries {
            return Placed::Repeated;
        }
        let mut bytes = entry.bytes;
        // The payload is the last field. So each message ends with its own place.
        if self.marks_messages && matches!(envelope::read(&bytes), Ok((_, Body::Entry(Entry::Message(_))))) {
            bytes.extend_from_slice(&(self.all.len() as Place).to_le_bytes());
        }
        Placed::At(self.add(at, entry.id, bytes, entry.key, false))
    }

    fn add(&mut self, at: usize, id: EntryId, bytes: Vec<u8>, key: Box<str>, is_fence: bool) -> u64 {
        let place = self.all.len() as Place;
        let before = self.servers[at].entries.last().copied();
        let number = self.servers[at].entries.len() as u64 + 1;
        self.all.push(Appended { before, number, id, bytes, key, is_fence });
        self.servers[at].remember(place, &self.all);
        number
    }
}

impl Server {
    fn remember(&mut self, place: Place, all: &[Appended]) {
        self.entries.push(place);
        let number = self.entries.len() as u64;
        let entry = &all[place as usize];
        let counter = self.counters.entry(entry.id.hub).or_insert(0);
        *counter = entry.id.counter.max(*counter);
        if !entry.key.is_empty() {
            self.keys.entry(entry.key.clone()).or_insert(number);
        }
        if let Ok((_, Body::Fence(fence))) = envelope::read(&entry.bytes) {
            self.fence = Some((number, fence));
        }
    }

    fn identity(&self, number: u64, all: &[Appended]) -> Identity {
        let place = self.entries.get(number.wrapping_sub(1) as usize).filter(|_| number >= self.first);
        Identity {
            log: self.log,
            first: self.first,
            end: self.entries.len() as u64,
            entry: place.map(|place| all[*place as usize].id),
            fence: self.fence.clone(),
        }
    }
}

/// The key of a message in the form in which the log compares keys. A message of an attached host has one even if the
/// host gave it none.
pub(super) fn key_of(logged: &Logged<'_>) -> Option<Box<str>> {
    use crate::hub::Key;
    match (logged.noted.key, logged.noted.origin) {
        (Some(Key::Host(key)), _) => Some(format!("{} {key}", logged.noted.channel).into()),
        (None, Some(origin)) => Some(format!("{:?} {}", &origin.session[..4], origin.number).into()),
        _ => None,
    }
}

impl Connection {
    pub(super) fn ask(&mut self, model: &mut LogModel, ask: Ask, now: u64) {
        let earliest = self.asks.back().map_or(now, |(due, _)| *due);
        self.asks.push_back((earliest.max(now + model.random.below(model.delay) as u64), ask));
    }

    /// Does the server's part, up to this time.
    pub(super) fn serve(&mut self, model: &mut LogModel, now: u64, is_calm: bool) {
        if !is_calm && model.random.one_in(40) {
            self.late = now + model.random.below(20 * model.delay) as u64;
        }
        while self.asks.front().is_some_and(|(due, _)| *due <= now) && !self.lost {
            let Some((_, ask)) = self.asks.pop_front() else { break };
            if let Some(answer) = self.served(model, ask, is_calm) {
                let earliest = self.answers.back().map_or(now, |(due, _)| *due).max(self.late);
                self.answers.push_back((earliest.max(now + model.random.below(model.delay) as u64), answer));
            }
        }
        self.serve_tail(model, now, is_calm);
    }

    fn served(&mut self, model: &mut LogModel, ask: Ask, is_calm: bool) -> Option<Answer> {
        match ask {
            Ask::Identify { number } => Some(Answer::Identity(model.servers[self.server].identity(number, &model.all))),
            Ask::Append { after, entries } if after <= self.dealt_with && (is_calm || !model.random.one_in(15)) => {
                self.dealt_with = entries.last().map_or(0, |last| last.id.counter).max(self.dealt_with);
                Some(Answer::Appended(model.append(self.server, entries)))
            }
            Ask::Append { .. } => Some(Answer::Busy),
            Ask::Tail { after } => {
                self.tail = Some(after);
                None
            }
            Ask::Fence { expected, fence } => {
                let last = model.servers[self.server].fence.as_ref().map_or(0, |(number, _)| *number);
                if last == expected {
                    let bytes = envelope::write(fence.id(), &Body::Fence(fence.clone()));
                    model.add(self.server, fence.id(), bytes, "".into(), true);
                }
                Some(Answer::Fenced(last == expected))
            }
            Ask::Trim { before } => {
                let server = &mut model.servers[self.server];
                server.first = server.first.max(before.min(server.entries.len() as u64 + 1));
                None
            }
            Ask::HangUp => {
                self.lost = true;
                None
            }
        }
    }

    fn serve_tail(&mut self, model: &mut LogModel, now: u64, is_calm: bool) {
        let Some(after) = self.tail else { return };
        let server = &model.servers[self.server];
        let from = after.max(server.first - 1);
        let most = 1 + model.random.below(8);
        let mut items: Vec<Tailed> = Vec::new();
        for place in server.entries.iter().skip(from as usize).take(most) {
            let (number, entry) = (from + 1 + items.len() as u64, &model.all[*place as usize]);
            items.push(match entry.is_fence {
                true => Tailed::Fence { number, id: entry.id },
                false => Tailed::Entry { number, bytes: entry.bytes.clone() },
            });
        }
        let end = from + items.len() as u64;
        self.tail = Some(end);
        match items.is_empty() {
            true if !self.items.is_empty() => return,
            true => items.push(Tailed::Idle { end }),
            false if !is_calm && model.random.one_in(8) => items.extend(items.clone()),
            false => {}
        }
        let earliest = self.items.back().map_or(now, |(due, _)| *due);
        self.items.push_back((earliest.max(now + model.random.below(model.delay) as u64), items));
    }

    /// The next answer to the hub.
    pub(super) fn answer(&mut self, now: u64, tail: bool) -> Option<Answer> {
        if self.lost {
            return Some(Answer::Lost);
        }
        if self.answers.front().is_some_and(|(due, _)| *due <= now) {
            return self.answers.pop_front().map(|(_, answer)| answer);
        }
        if tail && self.items.front().is_some_and(|(due, _)| *due <= now) {
            return self.items.pop_front().map(|(_, items)| Answer::Tail(items));
        }
        None
    }

    /// Loses the connection. Some of the appends that are on their way still arrive, some of them later.
    pub(super) fn lose(&mut self, model: &mut LogModel, now: u64) {
        self.lost = true;
        let mut due = now;
        for (_, ask) in self.asks.drain(..) {
            let Ask::Append { after, entries: batch } = ask else { continue };
            if after > self.dealt_with || model.random.one_in(3) {
                break;
            }
            self.dealt_with = batch.last().map_or(0, |last| last.id.counter);
            due += model.random.below(10 * model.delay) as u64;
            model.strays.push_back((due, self.server, batch));
        }
        model.strays.make_contiguous().sort_by_key(|(due, ..)| *due);
    }
}
