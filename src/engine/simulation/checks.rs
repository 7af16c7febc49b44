//! The promises of hubs over one log, checked.

use super::clients::From;
use super::{Content, World, AGE_MS, CHANNELS, KEPT, SKEW_MS};
use crate::engine::entry::{Entry, Logged};
use crate::engine::envelope::{self, Body};
use crate::engine::log_model::Place;
use crate::hub::{Cut, Item, Join, Key, Mark, Replay, Request, Start};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

/// A message of the log.
#[derive(Debug, Clone)]
pub(super) struct LogMessage {
    channel: usize,
    content: Content,
    time_ms: u64,
    key: Option<String>,
    mark: Option<Mark>,
}

impl LogMessage {
    /// True if a client need not get it once something has come after it in its channel.
    fn is_end(&self) -> bool {
        self.mark == Some(Mark::End)
    }
}

impl World {
    /// Checks a message that a client gets: it must have got all messages of the channel between its last one and this
    /// one.
    pub(super) fn check_message(&mut self, at: usize, channel: usize, place: Place, content: Content) {
        self.learn();
        if self.is_excepted(at, content) {
            self.fail(format!("client {at}, channel {:?}: message {content} is not for it", CHANNELS[channel]));
        }
        let client = &self.clients[at];
        // After a gap, the messages may also continue from the point before the gap.
        let missed = client.has[channel].iter().map(|has| self.missed(at, *has, channel, place));
        let mut missed: Vec<Option<String>> = missed.collect();
        missed.sort();
        let wrong = missed.into_iter().next().flatten();
        let wrong = wrong.or_else(|| client.told[channel].contains(&content).then(|| "it was told before".to_owned()));
        if let Some(wrong) = wrong {
            self.fail(format!("client {at}, channel {:?}: message {content}: {wrong}", CHANNELS[channel]));
        }
        let client = &mut self.clients[at];
        client.told[channel].insert(content);
        client.began[channel].0.get_or_insert(place);
        client.has[channel] = vec![From::Entry(place)];
    }

    /// Whether a message leaves a client out.
    fn is_excepted(&self, at: usize, content: Content) -> bool {
        self.sent[content as usize].except == Some(at)
    }

    /// The message that a client misses between a point and a message.
    fn missed(&self, at: usize, has: From, channel: usize, place: Place) -> Option<String> {
        let mut before = self.log.all[place as usize].before;
        loop {
            match (has, before) {
                (From::Entry(entry), Some(place)) if entry == place => return None,
                (From::Number(number), Some(place)) if self.log.all[place as usize].number <= number => return None,
                (From::Number(_), None) => return None,
                (From::Entry(_), None) => return Some("it is not after what it had".to_owned()),
                (_, Some(place)) => {
                    let is_due = |message: &&LogMessage| {
                        message.channel == channel && !message.is_end() && !self.is_excepted(at, message.content)
                    };
                    if let Some(message) = self.message(place).filter(is_due) {
                        return Some(format!("{} was not told", message.content));
                    }
                    before = self.log.all[place as usize].before;
                }
            }
        }
    }

    pub(super) fn check_gap(&mut self, at: usize, channel: usize, from: From, covers: Rc<HashSet<Place>>) {
        self.mark("a gap");
        if self.plan.gentle {
            self.fail(format!("client {at}, channel {:?}: a gap, but nothing is missing", CHANNELS[channel]));
        }
        let client = &mut self.clients[at];
        client.told[channel].clear();
        client.began[channel] = (None, covers);
        client.has[channel].push(from);
    }

    /// The entries that a gap stands for if a hub tells of it now: those that were lost before. The client may get older
    /// messages again behind the gap. So the order of the places does not say whether a loss was before it.
    pub(super) fn lost_for(&self, hub: usize) -> Rc<HashSet<Place>> {
        let present = self.log.entries().iter().copied();
        // What the hub has, or may still read, the client may get. Then it is to be told of the loss later.
        let read = self.hubs[hub].applied().chain(self.hubs[hub].may_read(&self.log));
        let there: HashSet<Place> = present.chain(read).collect();
        Rc::new((0..self.log.all.len() as Place).filter(|place| !there.contains(place)).collect())
    }

    /// Checks everything in the end.
    pub(super) fn check_all(&mut self) {
        self.learn();
        self.check_log();
        self.check_clients();
        self.check_losses();
        self.check_hubs();
        self.check_acts();
    }

    /// Checks that a client that goes on from before a message to after it has got that message or a gap, also if the
    /// log has lost the message. A loss is known if a hub that lives has read the message.
    fn check_losses(&mut self) {
        let present: HashSet<Place> = self.log.entries().iter().copied().collect();
        let messages: Vec<&LogMessage> = present.iter().filter_map(|place| self.message(*place)).collect();
        let contents: HashSet<Content> = messages.iter().map(|message| message.content).collect();
        let keys: HashSet<_> =
            messages.iter().filter_map(|message| Some((message.channel, message.key.as_ref()?))).collect();
        let read: HashSet<Place> = self.hubs.iter().flat_map(|hub| &hub.read).copied().collect();
        let mut wrong = None;
        for place in read.difference(&present).copied() {
            let is_lost = |message: &&LogMessage| !message.is_end() && !contents.contains(&message.content);
            let Some(message) = self.message(place).filter(is_lost) else {
                continue;
            };
            // Another message with its key has come into the log since then, and counts in its place.
            if message.key.as_ref().is_some_and(|key| keys.contains(&(message.channel, key))) {
                continue;
            }
            for client in &self.clients {
                let (began, covered) = &client.began[message.channel];
                let began = began.filter(|began| self.is_before(*began, place));
                let is_covered = covered.contains(&place);
                let is_due = !is_covered && !self.is_excepted(client.at, message.content);
                if began.is_some() && is_due && !client.told[message.channel].contains(&message.content) {
                    wrong = Some(format!(
                        "message {} is lost, and client {} was not told of a gap in {:?}",
                        message.content, client.at, CHANNELS[message.channel]
                    ));
                }
            }
        }
        wrong.into_iter().for_each(|wrong| self.fail(wrong));
    }

    /// An earlier server takes over. Entries of it that had been lost come back. If they are lost again before a hub has
    /// read them again, nobody knows that they were there.
    pub(super) fn go_back(&mut self) {
        let before: HashSet<Place> = self.log.entries().iter().copied().collect();
        self.log.go_back();
        let back: HashSet<Place> = self.log.entries().iter().copied().filter(|place| !before.contains(place)).collect();
        for hub in &mut self.hubs {
            let view: HashSet<Place> = hub.applied().collect();
            hub.read.retain(|place| !back.contains(place) || view.contains(place));
        }
    }

    /// True if one entry was in the log when the other was appended.
    fn is_before(&self, one: Place, other: Place) -> bool {
        let mut before = self.log.all[other as usize].before;
        while let Some(place) = before.filter(|place| *place != one) {
            before = self.log.all[place as usize].before;
        }
        before.is_some()
    }

    /// Checks that the log has each message and each key once, has all messages that a living hub has confirmed, and
    /// has the messages of each host in their order.
    fn check_log(&mut self) {
        let mut seen = HashSet::new();
        let mut keys = HashMap::new();
        let mut last: HashMap<usize, Content> = HashMap::new();
        let mut wrong = None;
        for place in self.log.entries() {
            let Some(LogMessage { content, channel, key, .. }) = self.message(*place).cloned() else { continue };
            if !seen.insert(content) {
                wrong = Some(format!("message {content} is in the log twice"));
            }
            if let Some(other) = key.and_then(|key| keys.insert((channel, Some(key)), content)) {
                wrong = Some(format!("messages {content} and {other} have the same key"));
            }
            let host = self.sent[content as usize].host;
            // A message that the log has lost comes again later.
            if last.insert(host, content).is_some_and(|before| before > content && self.plan.gentle) {
                wrong = Some(format!("message {content} of host {host} is not in its order"));
            }
        }
        let lives: HashSet<u64> = self.hubs.iter().map(|hub| hub.life).collect();
        for (content, sent) in self.sent.iter().enumerate() {
            // If the log lost it, another message with its key may have come first. Then that one counts.
            let other = sent.key.is_some() && keys.contains_key(&(sent.channel, sent.key.clone()));
            let told = sent.confirmed_by.is_some_and(|life| lives.contains(&life)) && !other;
            if told && !seen.contains(&(content as Content)) {
                wrong = Some(format!("message {content} was published, and is lost"));
            }
        }
        wrong.into_iter().for_each(|wrong| self.fail(wrong));
    }

    /// Checks that each client has the last message of each of its channels.
    fn check_clients(&mut self) {
        for at in 0..self.clients.len() {
            let mut newest: BTreeMap<usize, Place> = BTreeMap::new();
            for place in self.log.entries() {
                let theirs = self.message(*place).filter(|message| !self.is_excepted(at, message.content));
                theirs.into_iter().for_each(|message| _ = newest.insert(message.channel, *place));
            }
            for channel in self.clients[at].channels.iter().copied().chain([0]).collect::<Vec<_>>() {
                let has = &self.clients[at].has[channel];
                if !newest.get(&channel).is_some_and(|place| has.contains(&From::Entry(*place))) {
                    let has = format!("{has:?}");
                    self.fail(format!("client {at} has not the last message of {:?}: {has}", CHANNELS[channel]));
                }
            }
        }
    }

    /// Checks that all hubs hold the same history: the messages of the log that are neither too many nor too old.
    pub(super) fn check_hubs(&mut self) {
        self.learn();
        let keeps = if self.plan.gentle { usize::MAX } else { KEPT };
        let mut expected: Vec<Vec<(u64, Content, u64)>> = vec![Vec::new(); CHANNELS.len()];
        let mut cleared = [0; CHANNELS.len()];
        let mut ended = [false; CHANNELS.len()];
        for place in self.log.entries() {
            let number = self.log.all[*place as usize].number;
            if let Some(message) = self.message(*place) {
                let of_channel = &mut expected[message.channel];
                if message.mark == Some(Mark::Begin) {
                    of_channel.clear();
                } else if ended[message.channel] {
                    of_channel.pop();
                }
                ended[message.channel] = message.is_end();
                expected[message.channel].push((number, message.content, message.time_ms));
            } else if let Ok((_, Body::Entry(Entry::Cleared { channel }))) =
                envelope::read(&self.log.all[*place as usize].bytes)
            {
                cleared[CHANNELS.iter().position(|name| *name == channel).unwrap()] = number;
            }
        }
        let first = self.log.first();
        let mut wrong = None;
        for (at, hub) in self.hubs.iter().enumerate() {
            for (channel, expected) in expected.iter().enumerate().skip(1) {
                let held = held(&hub.hub, CHANNELS[channel]);
                let wall = (self.now as i64 + hub.skew) as u64;
                let from = expected.len().saturating_sub(keeps);
                for (number, content, time_ms) in &expected[from..] {
                    let age = wall.saturating_sub(*time_ms);
                    let is_there = held.contains(&(*number, *content));
                    if *number >= first && *number > cleared[channel] && age + 3 * SKEW_MS < AGE_MS && !is_there {
                        wrong = Some(format!("hub {at} has not message {content} of age {age}"));
                    }
                    if is_there && age > AGE_MS + 3 * SKEW_MS {
                        wrong = Some(format!("hub {at} has message {content} of age {age}"));
                    }
                }
                let all: HashSet<_> = expected[from..].iter().map(|(number, content, _)| (*number, *content)).collect();
                if let Some(more) = held.iter().find(|message| !all.contains(message)) {
                    wrong = Some(format!("hub {at} has message {more:?} of channel {:?}", CHANNELS[channel]));
                }
            }
        }
        wrong.into_iter().for_each(|wrong| self.fail(wrong));
    }

    /// The content of the message at a place.
    pub(super) fn content(&self, place: Place) -> Option<Content> {
        self.message(place).map(|message| message.content)
    }

    fn message(&self, place: Place) -> Option<&LogMessage> {
        self.messages[place as usize].as_ref()
    }

    /// Reads the new entries of the log.
    pub(super) fn learn(&mut self) {
        let new = self.log.all[self.messages.len()..].iter().map(|entry| message_of(&entry.bytes));
        self.messages.extend(new);
    }
}

fn message_of(bytes: &[u8]) -> Option<LogMessage> {
    let Ok((_, Body::Entry(Entry::Message(Logged { time_ms, noted, .. })))) = envelope::read(bytes) else {
        return None;
    };
    Some(LogMessage {
        channel: CHANNELS.iter().position(|name| *name == noted.channel)?,
        content: Content::from_le_bytes(noted.data[..4].try_into().ok()?),
        time_ms,
        key: noted.key.map(|key| match key {
            Key::Host(key) | Key::Client(_, key) => key.to_owned(),
        }),
        mark: noted.mark,
    })
}

/// The messages of a channel that a hub holds: their numbers and contents.
fn held(hub: &crate::hub::Hub, channel: &str) -> Vec<(u64, Content)> {
    let request = Request {
        shard: 0,
        names: &[channel],
        start: Start::Last(usize::MAX),
        limit: usize::MAX,
        broadcasts: false,
        cut: Cut::Head,
        join: Join::Never,
    };
    let mut replay = Replay::default();
    hub.subscribe(&request, &mut replay, &mut Vec::new());
    let message = |item: &Item| match item {
        Item::Message(message) => Some((message.seq(), Content::from_le_bytes(message.data()[..4].try_into().ok()?))),
        Item::Gap(..) | Item::Loss(..) => None,
    };
    replay.items.iter().filter_map(message).collect()
}
