//! Clients of all transports, as a shard serves them. They have no sockets, but the events on their way may be lost.

use super::{id_of, mistakes, Content, World, CHANNELS};
use crate::engine::log_model::{Place, Random};
use crate::hub::{ChannelId, Cut, Item, Join, Leave, Position, Replay, Request, Start};
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

/// How a client is connected, and how it keeps its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// It gets its position with each message, and at the beginning: WebSocket and NDJSON.
    Live,
    /// It comes back with its last event ID only: an EventSource.
    EventSource,
    /// Each answer ends its request, and has the position for the next one.
    Poll,
}

/// The point after which a client has received everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// It has received this entry.
    Entry(Place),
    /// It has begun at this number of the history that it reads, or was told of a gap there.
    Number(u64),
}

/// Something on its way to a client.
#[derive(Debug)]
pub(super) enum Event {
    Message {
        channel: usize,
        place: Place,
        content: Content,
        id: String,
    },
    /// Everything up to there is gone.
    Gap {
        channel: usize,
        from: From,
        /// The entries that were lost before the hub told of it.
        covers: Rc<HashSet<Place>>,
        /// The client's new position, if it has one.
        id: Option<String>,
    },
    /// The client's new position.
    Position(String),
    /// The answer to a poll ends.
    End,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) at: usize,
    pub(super) transport: Transport,
    pub(super) channels: Vec<usize>,
    pub(super) hub: usize,
    pub(super) phase: Phase,
    /// Its position. `None` if it was never connected.
    position: Option<String>,
    /// The position of the next part, if its replay comes in parts.
    part: Option<String>,
    pub(super) ids: Vec<ChannelId>,
    /// The number of breaks, the last number, and the epoch when it subscribed.
    pub(super) breaks: u32,
    pub(super) joined: u64,
    epoch: String,
    pub(super) wire: VecDeque<Event>,
    /// For each channel: the points after which it has received everything, and the messages since the last gap.
    pub(super) has: Vec<Vec<From>>,
    pub(super) told: Vec<HashSet<Content>>,
    /// For each channel: the first message since the last gap, and the entries that the gap stands for.
    pub(super) began: Vec<(Option<Place>, Rc<HashSet<Place>>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Away,
    /// Its request is read. It waits, or gets the messages that it has missed in parts.
    CatchingUp,
    Subscribed,
    /// The answer to its poll is on the way.
    Answered,
}

impl Client {
    pub(super) fn new(at: usize, random: &mut Random) -> Self {
        let transport = match random.below(3) {
            0 => Transport::Live,
            1 => Transport::EventSource,
            _ => Transport::Poll,
        };
        let mut channels: Vec<usize> = (1..CHANNELS.len()).filter(|_| random.one_in(2)).collect();
        if channels.is_empty() {
            channels.push(1);
        }
        Client {
            at,
            transport,
            channels,
            hub: 0,
            phase: Phase::Away,
            position: None,
            part: None,
            ids: Vec::new(),
            breaks: 0,
            joined: 0,
            epoch: String::new(),
            wire: VecDeque::new(),
            has: vec![Vec::new(); CHANNELS.len()],
            told: vec![HashSet::new(); CHANNELS.len()],
            began: vec![Default::default(); CHANNELS.len()],
        }
    }

    pub(super) fn end_poll(&mut self, position: String) {
        self.wire.push_back(Event::Position(position));
        self.wire.push_back(Event::End);
        self.phase = Phase::Answered;
    }
}

impl World {
    pub(super) fn move_a_client(&mut self) {
        let at = self.random.below(self.clients.len());
        match self.random.below(12) {
            0 => {
                let hub = self.random.below(self.plan.hubs);
                self.move_client(at, hub);
            }
            1 if self.clients[at].transport == Transport::Poll => self.poll_times_out(at),
            _ => {
                self.go_on(at);
            }
        }
    }

    /// Has a client come to a hub. Everything on its way is lost.
    pub(super) fn move_client(&mut self, at: usize, hub: usize) {
        self.disconnect(at);
        self.clients[at].hub = hub;
    }

    /// Lets a client do its next step. True if it has nothing to do.
    pub(super) fn go_on(&mut self, at: usize) -> bool {
        if let Some(event) = self.clients[at].wire.pop_front() {
            self.receive(at, event);
            return false;
        }
        match self.clients[at].phase {
            Phase::Away => {
                self.clients[at].phase = Phase::CatchingUp;
                self.subscribe(at);
                false
            }
            Phase::CatchingUp => {
                self.subscribe(at);
                false
            }
            Phase::Subscribed => true,
            Phase::Answered => false,
        }
    }

    pub(super) fn settle_clients(&mut self) -> bool {
        let mut quiet = true;
        for at in 0..self.clients.len() {
            for _ in 0..200 {
                if self.broken.is_some() || self.go_on(at) {
                    break;
                }
                quiet = false;
                if self.clients[at].phase == Phase::CatchingUp && self.clients[at].wire.is_empty() {
                    break;
                }
            }
        }
        quiet
    }

    /// Ends a client's connection. Everything on its way is lost.
    fn disconnect(&mut self, at: usize) {
        self.leave(at);
        let client = &mut self.clients[at];
        client.wire.clear();
        client.part = None;
        client.phase = Phase::Away;
    }

    pub(super) fn leave_clients(&mut self, hub: usize) {
        for at in 0..self.clients.len() {
            if self.clients[at].hub == hub {
                self.disconnect(at);
            }
        }
    }

    pub(super) fn leave(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let hub = &mut self.hubs[client.hub];
        for channel in client.ids.drain(..) {
            let left = hub.shard.subscriptions.entry(channel).or_insert(1);
            *left -= 1;
            hub.hub.leave(0, &[Leave { channel, count: 1, last: *left == 0 }]);
        }
    }

    fn poll_times_out(&mut self, at: usize) {
        if self.clients[at].phase != Phase::Subscribed {
            return;
        }
        self.leave(at);
        let client = &mut self.clients[at];
        let shard = &self.hubs[client.hub].shard;
        // The shard may not have come to the break before the subscription yet. Then the client has only its replay.
        let ahead = client.breaks != shard.breaks;
        let seq = if ahead { client.joined } else { client.joined.max(shard.delivered) };
        let epoch = if ahead { &client.epoch } else { &shard.epoch };
        let position = format!("{epoch}-{seq}");
        client.end_poll(position);
    }

    fn subscribe(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let position = client.part.clone().or(client.position.clone());
        let position = mistakes::position(self.mistake, position, &self.hubs[client.hub].hub);
        let names: Vec<&str> = client.channels.iter().map(|channel| CHANNELS[*channel]).collect();
        let start = match position.as_deref() {
            None => Start::New,
            Some(text) => Start::Since(Position::parse(text).unwrap()),
        };
        let request = Request {
            shard: 0,
            names: &names,
            start,
            limit: 100 + self.random.below(2000),
            broadcasts: true,
            cut: Cut::Tail,
            join: if client.transport == Transport::Poll { Join::IfEmpty } else { Join::Always },
        };
        let (mut replay, mut ids) = (Replay::default(), Vec::new());
        self.hubs[client.hub].hub.subscribe(&request, &mut replay, &mut ids);
        for (id, _) in &ids {
            *self.hubs[client.hub].shard.subscriptions.entry(*id).or_insert(0) += 1;
        }
        client.ids = ids.iter().map(|(id, _)| *id).collect();
        if replay.wait {
            if self.mistake == Some(mistakes::Mistake::NoPatience) && start != Start::New {
                client.position = Some(crate::hub::ELSEWHERE.to_owned());
            }
            self.mark("a client waits for its hub");
            self.leave(at);
            return;
        }
        self.subscribed(at, replay);
    }

    /// Sends a client the messages that it has missed.
    fn subscribed(&mut self, at: usize, mut replay: Replay) {
        let mut positions = mistakes::tell_gaps(self.mistake, &mut replay).into_iter();
        let (epoch, breaks) = replay.life.clone().unwrap();
        let hub = &self.hubs[self.clients[at].hub];
        let begins = hub.view.get(replay.position as usize).copied().flatten();
        let begins = begins.map_or(From::Number(replay.position), From::Entry);
        let covers = self.lost_for(self.clients[at].hub);
        let mut events = Vec::new();
        let gaps = replay.items.iter().filter(|item| item.is_gap() && item.channel().is_some()).count();
        let gaps = gaps + replay.later_gaps.iter().flatten().count();
        if gaps >= self.clients[at].channels.len() {
            // A replay has no gap for the broadcasts of another life. The gaps of the channels imply it.
            let (from, covers) = (From::Number(replay.position), covers.clone());
            events.push(Event::Gap { channel: 0, from, covers, id: None });
        }
        for item in &replay.items {
            let id = epoch.position(item.seq());
            let channel = CHANNELS.iter().position(|name| *name == item.channel().unwrap_or("")).unwrap();
            events.extend(match item {
                Item::Gap(_, seq) | Item::Loss(_, seq) => {
                    let id = positions.next().unwrap().text(&epoch);
                    Some(Event::Gap { channel, from: From::Number(*seq), covers: covers.clone(), id: Some(id) })
                }
                // A new client is told of an end at its own position. That is no entry of the log.
                Item::Message(message) if message.data().is_empty() => None,
                Item::Message(message) if message.excepts(Some(id_of(at))) => Some(Event::Position(id)),
                Item::Message(message) => Some(message_event(channel, message.data(), id)),
            });
        }
        let is_new = self.clients[at].position.is_none();
        let position = epoch.position(replay.position);
        self.tell(|| format!("client {at} at hub {}: {replay:?}", self.clients[at].hub));
        let client = &mut self.clients[at];
        if is_new {
            // The head of the answer has the position.
            (0..CHANNELS.len()).for_each(|channel| client.has[channel] = vec![begins]);
            client.position = Some(position.clone());
        }
        client.wire.extend(events);
        (client.breaks, client.joined, client.epoch) = (breaks, replay.position, epoch.as_str().to_owned());
        client.part = None;
        match client.transport {
            Transport::Poll if !client.wire.is_empty() || client.ids.is_empty() => {
                self.leave(at);
                self.clients[at].end_poll(position);
            }
            _ if !replay.complete => client.part = Some(position),
            _ => {
                client.phase = Phase::Subscribed;
                if client.transport == Transport::Live {
                    client.wire.push_back(Event::Position(position));
                }
            }
        }
    }

    fn receive(&mut self, at: usize, event: Event) {
        self.tell(|| format!("client {at} is told {event:?}"));
        match event {
            Event::Message { channel, place, content, id } => {
                self.check_message(at, channel, place, content);
                self.clients[at].position = Some(id);
            }
            Event::Gap { channel, from, covers, id } => {
                self.check_gap(at, channel, from, covers);
                self.clients[at].position = id.or(self.clients[at].position.take());
            }
            Event::Position(position) => self.clients[at].position = Some(position),
            Event::End => self.clients[at].phase = Phase::Away,
        }
    }
}

pub(super) fn message_event(channel: usize, data: &[u8], id: String) -> Event {
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    Event::Message { channel, content: number(&data[..4]), place: number(&data[4..8]), id }
}
