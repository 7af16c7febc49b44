//! A shard: one thread with the connections it serves.
//!
//! Subscribers are entries of a slab, and their sockets are watched by one epoll, on which the thread sleeps. So an
//! idle subscriber costs an entry and no task, buffer or timer. A turn of the loop takes commands, reads what is
//! readable, takes the whole mailbox, and writes once to each connection that has something.

mod accept;
mod authorize;
mod channels;
mod closing;
pub(crate) mod command;
pub(crate) mod conn;
#[cfg(test)]
mod crowd_tests;
pub(crate) mod drain;
pub(crate) mod driver;
mod encoded;
mod fanout;
mod frames;
mod open;
#[cfg(test)]
mod order_tests;
mod outbox;
mod pace;
#[cfg(test)]
pub(crate) mod panic_tests;
mod peers;
#[cfg(test)]
mod pipelining_tests;
pub(crate) mod presence;
pub(crate) mod push_v1;
mod read;
mod relief;
#[cfg(any(test, fuzzing))]
pub(crate) mod relief_model;
mod rights;
mod roster;
mod run;
mod stage;
#[cfg(test)]
mod time_tests;
mod timers;
mod wheel;
mod write;

use crate::config::Config;
use crate::context::Context;
use crate::events::Unannounced;
use crate::hub::{ChannelId, Delivery, Replay};
use crate::limits::AddressKey;
use crate::sys::clock;
use crate::sys::epoll::{Epoll, Watch};
use crate::transport::inflate::Inflater;
use accept::Listener;
use channels::Channels;
use command::ShardHandle;
use conn::{Conn, Token};
use drain::Drain;
use pace::Senders;
use rustc_hash::FxHashMap;
use slab::Slab;
use stage::Stage;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use wheel::Wheel;

/// One read takes at most this much.
const SCRATCH: usize = 64 * 1024;

/// See the module. Nothing in it is shared; other threads have its [`ShardHandle`].
pub(crate) struct Shard {
    number: usize,
    shared: Arc<Context>,
    config: Arc<Config>,
    handle: Arc<ShardHandle>,
    epoll: Arc<Epoll>,
    listeners: Vec<Listener>,
    conns: Slab<Conn>,
    channels: Channels,
    /// What the connections are counted by for `max_per_address`, by slot; empty while none is.
    addresses: Vec<Option<AddressKey>>,
    senders: Senders,
    wheel: Wheel,
    /// The last generation given to a connection.
    generation: u32,
    /// Monotonic milliseconds, read once a turn.
    now: u64,
    /// When its thread will look by itself, in the same milliseconds.
    wakes_at: u64,
    /// When history is looked through next, likewise.
    expires_at: u64,
    /// All reads go through here.
    scratch: Box<[u8]>,
    /// For what clients send compressed; there since compression was first allowed.
    inflater: Option<Inflater>,
    /// Connections whose sockets may hold more than one turn's share of reads.
    unfinished: Vec<Token>,
    /// Connections not read from because the event queue is full.
    paused: Vec<Token>,
    /// Used again and again, so that a turn allocates nothing.
    batch: Vec<Delivery>,
    stage: Stage,
    replay: Replay,
    ids: Vec<(ChannelId, Arc<str>)>,
    /// Connections that ended in the middle of a fan-out, and how.
    doomed: Vec<(Token, Fate)>,
    /// No connection joined after this number, so later broadcasts are everybody's.
    settled: u64,
    /// Taken from the mailbox and not delivered yet: the first message of the next batch.
    held: Option<Delivery>,
    /// What others do, in a test, while this shard subscribes a live connection to one more channel.
    #[cfg(test)]
    meanwhile: Option<fn(&crate::hub::Hub)>,
    /// The newest message taken from the mailbox: up to here everybody was served.
    delivered: u64,
    /// Events of this turn that the host was not woken for yet.
    told: Unannounced,
    /// Questions to the host that wait for an answer, and about whom.
    requests: FxHashMap<u64, Token>,
    last_request: u64,
    /// Counts turns.
    turn: u8,
    /// Clients are being sent away, or have been.
    drain: Option<Drain>,
    /// The thread is to end.
    ending: bool,
    /// Spreads heartbeats, and the return of clients that are sent away.
    jitter: u32,
}

/// What a fan-out found out about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The peer is gone.
    Gone,
    /// Its outbox is full.
    Slow,
    /// Its poll is answered.
    Answered,
}

impl Shard {
    /// A shard with its listeners; called on the thread that starts the server, so that errors are its.
    pub(crate) fn new(
        number: usize,
        shared: Arc<Context>,
        handle: Arc<ShardHandle>,
        listeners: Vec<Arc<OwnedFd>>,
    ) -> io::Result<Self> {
        let epoll = Arc::new(Epoll::new()?);
        epoll.add(handle.wake.as_raw_fd(), run::WAKE, Watch::EdgeRead)?;
        let listeners = Listener::watch_all(listeners, &epoll)?;
        let now = clock::monotonic_ms();
        Ok(Shard {
            number,
            config: shared.config.get(),
            shared,
            handle,
            epoll,
            listeners,
            conns: Slab::new(),
            channels: Channels::default(),
            addresses: Vec::new(),
            senders: Senders::default(),
            wheel: Wheel::new(now),
            // An attached host may keep a number longer than the hub lives; it should then be nobody's.
            generation: getrandom::u32().unwrap_or(0),
            now,
            wakes_at: 0,
            expires_at: now,
            scratch: vec![0; SCRATCH].into(),
            inflater: None,
            unfinished: Vec::new(),
            paused: Vec::new(),
            batch: Vec::new(),
            stage: Stage::default(),
            replay: Replay::default(),
            ids: Vec::new(),
            doomed: Vec::new(),
            settled: 0,
            held: None,
            #[cfg(test)]
            meanwhile: None,
            delivered: 0,
            told: Unannounced::default(),
            requests: FxHashMap::default(),
            // As above: a late answer to a question of the hub before must not let in somebody else. 48 bits, since the
            // number for the host has eight more, and room to count.
            last_request: getrandom::u64().unwrap_or(0) >> 16,
            turn: 0,
            drain: None,
            ending: false,
            jitter: 0x9e37_79b9 ^ number as u32,
        })
    }

    fn config(&self) -> &Config {
        &self.config
    }

    /// The slot of a connection, if that still lives.
    fn find(&self, token: Token) -> Option<u32> {
        let conn = self.conns.get(token.index as usize)?;
        (conn.generation == token.generation).then_some(token.index)
    }

    /// The name of a connection that lives.
    fn token(&self, index: u32) -> Token {
        Token { index, generation: self.conns.get(index as usize).map_or(0, |conn| conn.generation) }
    }
}
