//! A hub with its replica, its connection to the log, and one shard that has no sockets.

use super::{acts, mistakes, Sent, World, AGE_MS, KEPT, SKEW_MS};
use crate::engine::contract::{Answer, Tailed};
use crate::engine::entry::Entry;
use crate::engine::envelope::{Body, Known};
use crate::engine::log_model::{Connection, LogModel, Place};
use crate::engine::replica::{Environment, Now, Replica};
use crate::hub::{ChannelId, Hub, Mailbox, Message, Publication, Retention, Settings};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

/// Messages that fit into a mailbox.
const ROOM: usize = 12;

pub(super) struct SimHub {
    pub(super) life: u64,
    pub(super) hub: Hub,
    pub(super) replica: Replica,
    pub(super) mailbox: Arc<Mailbox>,
    connection: Option<Connection>,
    /// Its wall clock is ahead of the simulation's time by so many milliseconds.
    pub(super) skew: i64,
    /// Its monotonic clock is behind the simulation's time by so many milliseconds.
    pub(super) behind: u64,
    /// The entries that came from the log, by number, and those of them that are applied.
    came: Vec<Option<Place>>,
    pub(super) view: Vec<Option<Place>>,
    /// All entries that it has ever applied.
    pub(super) read: HashSet<Place>,
    breaks: u32,
    /// How many entries had ever been appended when it began, and when it first could serve clients.
    pub(super) born: Place,
    pub(super) served: Option<Place>,
    pub(super) fooled: mistakes::Fooled,
    pub(super) shard: Shard,
}

/// The state of a shard.
#[derive(Debug, Default)]
pub(super) struct Shard {
    /// The number of breaks that it has come to, and the epoch since the last one.
    pub(super) breaks: u32,
    pub(super) epoch: String,
    /// The entries that were lost when the hub met each break.
    pub(super) lost: HashMap<u32, Rc<HashSet<Place>>>,
    /// The last number that it has delivered.
    pub(super) delivered: u64,
    pub(super) subscriptions: HashMap<ChannelId, u32>,
    pub(super) acts: acts::Done,
}

impl SimHub {
    /// The entry that came with a number.
    pub(super) fn came_at(&self, number: u64) -> Option<Place> {
        self.came.get(number as usize).copied().flatten()
    }

    /// The entries that are applied, since the last break with a loss.
    pub(super) fn applied(&self) -> impl Iterator<Item = Place> + '_ {
        self.view.iter().take(self.hub.seq() as usize + 1).copied().flatten()
    }

    /// The entries of the server to which it is connected. This may be an earlier one.
    pub(super) fn may_read<'l>(&self, log: &'l LogModel) -> impl Iterator<Item = Place> + 'l {
        let server = self.connection.as_ref().map(|connection| connection.server);
        server.into_iter().flat_map(|server| log.entries_of(server)).copied()
    }
}

fn make(publication: &Publication<'_>) -> Arc<Message> {
    Message::new(publication, publication.binary, b"")
}

impl World {
    pub(super) fn new_hub(&mut self) -> SimHub {
        self.lives += 1;
        let mailbox = Arc::new(Mailbox::new(ROOM, Box::new(|| {})));
        let count = if self.plan.gentle { 1000 } else { KEPT };
        let settings = Settings {
            total_bytes: 1 << 24,
            key_window_ms: 1 << 40,
            ..Settings::keeping(Retention { count, age_ms: AGE_MS, bytes: 1 << 20 })
        };
        let mut random = self.random.clone();
        random.0 ^= self.lives << 32;
        let environment =
            Environment { hub: self.lives, random: Box::new(move || random.next()), make, buffer: 1 << 20 };
        SimHub {
            life: self.lives,
            hub: Hub::replica(&settings, vec![mailbox.clone()]),
            replica: Replica::new(environment),
            mailbox,
            connection: None,
            skew: self.random.below(2 * SKEW_MS as usize) as i64 - SKEW_MS as i64,
            behind: self.random.below(1000) as u64,
            came: Vec::new(),
            view: Vec::new(),
            read: HashSet::new(),
            breaks: 0,
            born: self.log.all.len() as Place,
            served: None,
            fooled: mistakes::Fooled::default(),
            shard: Shard::default(),
        }
    }

    /// Kills a hub, and starts another one in its place.
    pub(super) fn kill(&mut self, at: usize) {
        self.note("a hub is killed");
        self.cut(at);
        self.leave_clients(at);
        let hub = self.new_hub();
        self.hubs[at] = hub;
        self.leave_hub(at);
    }

    /// Loses a hub's connection.
    pub(super) fn cut(&mut self, at: usize) {
        let hub = &mut self.hubs[at];
        if let Some(connection) = &mut hub.connection {
            connection.lose(&mut self.log, self.now);
        }
    }

    pub(super) fn clear(&mut self, at: usize) {
        let channel = super::CHANNELS[1 + self.random.below(super::CHANNELS.len() - 1)];
        self.hubs[at].replica.publish("", &Body::Entry(Entry::Cleared { channel }));
        self.note("a channel is cleared");
    }

    /// Has a hub write down the last numbers of the channels. Now and then not all of them fit.
    pub(super) fn write_ends(&mut self, at: usize) {
        let hub = &mut self.hubs[at];
        if !hub.replica.is_open() || hub.replica.has_unapplied() || !hub.hub.has_caught_up() {
            return;
        }
        let until = hub.hub.seq();
        let ends = hub.hub.ends(until + 1).fitting(if self.random.one_in(2) { 20 } else { 1000 });
        let channels = ends.channels.iter().map(|(number, channel)| (*number, &**channel)).collect();
        let known = Known { epoch: hub.hub.present_epoch(), until, floor: ends.floor, channels };
        let known = mistakes::known(self.mistake, known);
        hub.replica.publish("", &Body::Ends(known));
        self.note("the last numbers are written down");
    }

    /// Has a hub trim the log, up to the last entries. A log that loses everything then may not get the others back.
    pub(super) fn trim(&mut self, at: usize, kept: u64) {
        self.learn();
        let before = self.hubs[at].hub.seq().saturating_sub(kept);
        let places: Vec<Place> = self.hubs[at].view.iter().take(before as usize).copied().flatten().collect();
        let contents: Vec<_> = places.into_iter().filter_map(|place| self.content(place)).collect();
        for content in contents {
            let Sent { channel, key, .. } = &self.sent[content as usize];
            let (channel, key) = (*channel, key.clone());
            self.sent[content as usize].confirmed_by = None;
            // It also stands for the other messages with its key.
            let same = |sent: &&mut Sent| key.is_some() && sent.channel == channel && sent.key == key;
            self.sent.iter_mut().filter(same).for_each(|sent| sent.confirmed_by = None);
        }
        self.hubs[at].replica.trim(before);
    }

    /// Lets a hub ask, take answers, and apply entries. True if it had nothing to do.
    pub(super) fn turn(&mut self, at: usize) -> bool {
        let (now, calm) = (self.now, self.calm);
        let hub = &mut self.hubs[at];
        let Some(connection) = &mut hub.connection else {
            hub.connection = self.log.connect(now);
            if hub.connection.is_some() {
                hub.replica.connected();
            }
            return false;
        };
        let mut quiet = hub.replica.is_open();
        while let Some(ask) = hub.replica.ask() {
            quiet = false;
            if self.notes.talks {
                println!("{now:>7} hub {at}, life {}, asks server {}: {ask}", hub.life, connection.server);
            }
            let ask = mistakes::asked(&mut hub.fooled, ask);
            connection.ask(&mut self.log, ask, now);
        }
        connection.serve(&mut self.log, now, calm);
        let mut lost = false;
        while let Some(answer) = connection.answer(now, hub.replica.takes_more()) {
            lost = answer == Answer::Lost;
            quiet &= matches!(&answer, Answer::Tail(items) if matches!(items[..], [Tailed::Idle { .. }]));
            let answer = mistakes::answered(self.mistake, answer, &mut hub.fooled);
            if self.notes.talks && !matches!(answer, Answer::Tail(_)) {
                println!("{now:>7} hub {at}, life {}, is told {answer:?}", hub.life);
            }
            note_tail(&mut hub.came, &answer, &self.log, connection.server);
            hub.replica.answer(answer);
            if lost {
                break;
            }
        }
        if lost {
            hub.connection = None;
        }
        quiet &= hub.replica.pending_bytes() == 0;
        if let Some(unreadable) = self.hubs[at].replica.unreadable() {
            self.fail(format!("hub {at} can't read {unreadable:?}"));
        }
        let mut again = true;
        while again {
            again = self.apply(at);
            while let Some((counter, outcome)) = self.hubs[at].replica.outcome() {
                self.answered(at, counter, outcome);
            }
        }
        self.note_served(at);
        quiet
    }

    /// True: what was published so far is to be told first.
    fn apply(&mut self, at: usize) -> bool {
        let hub = &mut self.hubs[at];
        let before = hub.hub.seq();
        let wall = (self.now as i64 + hub.skew) as u64;
        let own = self.now - hub.behind;
        let now = Now { hub: own, wall: mistakes::wall(self.mistake, wall, own) };
        let again = hub.replica.apply(&hub.hub, now, &mut |_| {});
        let (seq, breaks) = (hub.hub.seq(), hub.hub.breaks());
        let from = if breaks == hub.breaks { before as usize + 1 } else { 0 };
        let met = hub.breaks.wrapping_add(1)..=breaks;
        hub.breaks = breaks;
        hub.view.resize((seq as usize + 1).max(hub.view.len()), None);
        for number in from..=seq as usize {
            hub.view[number] = hub.came.get(number).copied().flatten();
            hub.read.extend(hub.view[number]);
        }
        while hub.hub.expire(own) {}
        if !met.is_empty() {
            let lost = self.lost_for(at);
            self.hubs[at].shard.lost.extend(met.map(|number| (number, lost.clone())));
        }
        again
    }
}

/// Notes the entries that a hub gets from its tail.
fn note_tail(came: &mut Vec<Option<Place>>, answer: &Answer, log: &LogModel, server: usize) {
    let Answer::Tail(items) = answer else { return };
    for item in items {
        let number = match item {
            Tailed::Entry { number, .. } | Tailed::Fence { number, .. } => *number,
            Tailed::Idle { .. } => continue,
        };
        if came.len() <= number as usize {
            came.resize(number as usize + 1, None);
        }
        came[number as usize] = log.place(server, number);
    }
}
