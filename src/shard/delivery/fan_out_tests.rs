//! A fan-out without a shard and without sockets. Sinks take their bytes in whatever parts, fill up, and go; each gets
//! the messages of its channels, once and in order, up to its end; but those that leave it out.

use super::channels::Channels;
use super::delivering::Delivering;
use super::fan_out::{deliver_batch, FanOut, Fate, Subscribers};
use super::outbox::Wire;
use super::write::Bounds;
use crate::dialect::{Compression, Dialect, Encoder, Format};
use crate::framing::Transport;
use crate::fuzzing::random::Random;
use crate::hub::{
    ChannelId, ClientId, Cut, Epoch, Hub, Join, Message, Outgoing, Publication, Replay, Request, Retention, Settings,
    Start,
};
use crate::limits::Limits;
use crate::shard::connection::client_ids::ClientIds;
use crate::shard::connection::close::Counted;
use crate::shard::connection::conn::{Conn, Flags, Phase, Token};
use crate::shard::connection::sink::Sinks;
use crate::shard::sink_tests::Recorder;
use crate::shard::turn::command::ShardHandle;
use slab::Slab;
use std::sync::Arc;

const CHANNELS: [&str; 3] = ["a", "b", "c"];
/// Of an outbox.
const BOUND: usize = 4096;

struct World {
    random: Random,
    hub: Hub,
    handle: Arc<ShardHandle>,
    /// It is on all channels, so that each message can be seen.
    witness: ShardHandle,
    encoder: Encoder,
    limits: Limits,
    conns: Slab<Conn>,
    channels: Channels,
    sinks: Sinks,
    ids: ClientIds,
    state: Delivering,
    clients: Vec<Client>,
}

struct Client {
    index: u32,
    sink: Recorder,
    format: Format,
    chunks: bool,
    id: Option<ClientId>,
    on: Vec<&'static str>,
    expected: Vec<u8>,
    ended: Option<Fate>,
}

impl Subscribers for World {
    fn fan_out(&mut self) -> FanOut<'_> {
        FanOut {
            conns: &mut self.conns,
            channels: &mut self.channels,
            sinks: &mut self.sinks,
            ids: &self.ids,
            state: &mut self.state,
            counted: Counted { addresses: &mut [], limits: &self.limits },
            encoder: &self.encoder,
            handle: &self.handle,
            bounds: Bounds { outbox: BOUND, all: 1 << 30 },
            tracer: None,
        }
    }

    fn have_ended(&mut self, _channels: &[ChannelId]) {
        panic!("nothing ends");
    }

    fn settle_fates(&mut self) {
        while let Some((Token { index, .. }, fate)) = self.state.fates.pop() {
            let Some(conn) = self.conns.get_mut(index as usize) else { continue };
            match fate {
                Fate::Blocked => assert!(conn.mark(Flags::WRITES_WATCHED), "it is watched already"),
                Fate::Gone | Fate::Slow => {
                    self.channels.leave_all(&mut self.conns, index);
                    self.conns.remove(index as usize);
                    self.ids.forget(index);
                    let client = self.clients.iter_mut().find(|client| client.index == index);
                    client.unwrap().ended = Some(fate);
                }
                Fate::Answered | Fate::GivenUp => panic!("nobody polls"),
            }
        }
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let handle = Arc::new(ShardHandle::new(0, 4096).unwrap());
        let witness = ShardHandle::new(1, 4096).unwrap();
        let settings = Settings::keeping(Retention { count: 0, age_ms: 1000, bytes: 0 });
        let hub = Hub::new(Epoch::from_random(1), &settings, vec![handle.mailbox.clone(), witness.mailbox.clone()]);
        let encoder = Encoder::new(hub.epoch().clone());
        let mut world = World {
            random: Random(seed),
            hub,
            handle,
            witness,
            encoder,
            limits: Limits::default(),
            conns: Slab::new(),
            channels: Channels::default(),
            sinks: Sinks::default(),
            ids: ClientIds::default(),
            state: Delivering::default(),
            clients: Vec::new(),
        };
        world.join_hub(1, &CHANNELS);
        (0..8).for_each(|_| world.subscribe());
        world
    }

    fn subscribe(&mut self) {
        let mut conn = Conn::new(None, 1);
        conn.format = [
            Format::STREAM,
            Format::new(Transport::Sse, Dialect::Push, Compression::None),
            Format::new(Transport::WebSocket, Dialect::Push, Compression::None),
        ][self.random.below(3)];
        let id = (self.random.below(3) == 0).then(|| id(self.random.below(2) as u8));
        if id.is_some() {
            // Raw frames have no place for a position. So nothing comes in place of a message that leaves a client out.
            conn.format = Format::new(Transport::WebSocket, Dialect::Raw, Compression::None);
        }
        conn.flags.set(Flags::CHUNKS, conn.format.transport().is_chunked() && self.random.below(2) == 0);
        conn.flags.insert(Flags::LIVE);
        conn.phase = Phase::Open(Transport::Stream);
        let (format, chunks) = (conn.format, conn.is(Flags::CHUNKS));
        let index = self.conns.insert(conn) as u32;
        let (first, count) = (self.random.below(3), 1 + self.random.below(3));
        let on: Vec<&str> = (first..first + count).map(|n| CHANNELS[n % 3]).collect();
        let (position, channels) = self.join_hub(0, &on);
        self.channels.join(&mut self.conns, index, &channels, position);
        self.ids.set(index, id);
        let sink = Recorder::default();
        self.sinks.insert(index, Box::new(sink.clone()));
        self.clients.push(Client { index, sink, format, chunks, id, on, expected: Vec::new(), ended: None });
    }

    fn join_hub(&self, shard: usize, names: &[&str]) -> (u64, Vec<(ChannelId, Arc<str>)>) {
        let (start, cut, join) = (Start::New, Cut::Tail, Join::Always);
        let request = Request { shard, names, start, limit: 0, broadcasts: true, cut, join };
        let (mut replay, mut channels) = (Replay::default(), Vec::new());
        self.hub.subscribe(&request, &mut replay, &mut channels);
        (replay.position, channels)
    }

    fn step(&mut self) {
        let client = self.random.below(self.clients.len());
        match self.random.below(16) {
            0..=6 => self.publish(),
            7..=9 => while deliver_batch(self, u64::MAX) {},
            10 if self.random.below(8) == 0 => self.clients[client].sink.with(|sink| sink.gone = true),
            _ => {
                let room = self.random.below(BOUND);
                self.make_room(client, room);
            }
        }
    }

    fn publish(&mut self) {
        let channel = ["a", "b", "c", ""][self.random.below(4)];
        let data = "xy".repeat(self.random.below(300));
        // Nobody has the last id.
        let except = [None, None, Some(id(0)), Some(id(1)), Some(id(7))][self.random.below(5)];
        let message = Message::new(&Publication { except, ..Publication::new("", data.as_bytes()) }, false, b"");
        self.hub.publish(Outgoing::new(channel, None, message), 0).unwrap();
        let message = self.witness.mailbox.pop().unwrap().message;
        let gets = |client: &&mut Client| {
            let is_on = channel.is_empty() || client.on.contains(&channel);
            client.ended.is_none() && is_on && !message.excepts(client.id)
        };
        for client in self.clients.iter_mut().filter(gets) {
            client.expected.extend_from_slice(client.format.encode(&message, &self.encoder, client.chunks));
        }
    }

    /// A sink takes so much more, of what waits and what will come.
    fn make_room(&mut self, client: usize, room: usize) {
        let Client { index, sink, ended, .. } = &self.clients[client];
        sink.with(|sink| sink.room += room);
        if ended.is_some() {
            return;
        }
        let conn = &mut self.conns[*index as usize];
        let wire = Wire { format: conn.format, chunks: conn.is(Flags::CHUNKS), encoder: &self.encoder };
        let Some(outbox) = &mut conn.outbox else { return };
        let (sinks, index) = (&mut self.sinks, *index);
        if outbox.flush(&wire, |slices| sinks.write_several(index, None, slices)).is_ok() && outbox.is_empty() {
            conn.outbox = None;
        }
    }
}

fn id(n: u8) -> ClientId {
    ClientId::from_bytes([n; 16])
}

#[test]
fn each_sink_gets_the_messages_of_its_channels_in_whatever_parts_it_takes_them() {
    let mut ends = [0; 3];
    for seed in 1..=200 {
        let mut world = World::new(seed * 0x9e37_79b9);
        (0..300).for_each(|_| world.step());
        while deliver_batch(&mut world, u64::MAX) {}
        for client in 0..world.clients.len() {
            world.make_room(client, 1 << 20);
        }
        for client in &world.clients {
            let written = client.sink.with(|sink| std::mem::take(&mut sink.bytes));
            assert!(client.expected.starts_with(&written), "seed {seed}: {}", String::from_utf8_lossy(&written));
            match client.ended {
                None if client.sink.with(|sink| sink.gone) => {}
                None => assert_eq!(written.len(), client.expected.len(), "seed {seed}: something is missing"),
                Some(Fate::Slow) => {
                    assert!(client.expected.len() - written.len() > BOUND / 2, "seed {seed}: too early")
                }
                Some(_) => assert!(client.sink.with(|sink| sink.gone), "seed {seed}: it is there"),
            }
            ends[client.ended.map_or(0, |fate| if fate == Fate::Slow { 1 } else { 2 })] += 1;
        }
        let left: usize = world.conns.iter().filter_map(|(_, conn)| conn.outbox.as_ref()).map(|left| left.held()).sum();
        assert_eq!(world.handle.metrics.outbox_bytes.get() as usize, left, "seed {seed}: the gauge");
    }
    assert!(ends.iter().all(|count| *count > 20), "each way was gone: {ends:?}");
}
