//! A shard: one thread with the connections it serves.
//!
//! Subscribers are entries of a slab, and their sockets are watched by one epoll, on which the thread sleeps. So an
//! idle subscriber costs an entry and no task, buffer or timer. A turn of the loop takes commands, reads what is
//! readable, takes the whole mailbox, and writes once to each connection that has something.

pub(crate) mod client;
pub(crate) mod connection;
#[cfg(test)]
mod crowd_client_tests;
#[cfg(test)]
mod crowd_tests;
pub(crate) mod delivery;
#[cfg(test)]
mod ending_tests;
#[cfg(test)]
mod heartbeat_tests;
#[cfg(test)]
mod inbox_tests;
#[cfg(test)]
mod listing_tests;
#[cfg(test)]
mod new_keys_tests;
#[cfg(test)]
mod order_tests;
#[cfg(test)]
pub(crate) mod panic_tests;
#[cfg(test)]
mod pipelining_tests;
#[cfg(test)]
mod published_tests;
#[cfg(all(test, feature = "tls"))]
mod secure_tests;
#[cfg(all(test, feature = "tls"))]
mod short_tests;
#[cfg(test)]
mod sink_tests;
#[cfg(test)]
mod sweep_tests;
#[cfg(test)]
mod time_tests;
pub(crate) mod turn;

use crate::config::Config;
use crate::context::Context;
use crate::dialect::Encoder;
use crate::events::Unannounced;
use crate::framing::inflate::Inflater;
use crate::hub::{ChannelId, Replay};
use crate::limits::{self, AddressKey};
use crate::sys::clock;
use crate::sys::epoll::{Epoll, Watch};
use client::listing::Walks;
use client::rate_limit::Senders;
use client::sweep::Sweeps;
use connection::accept::Arrivals;
use connection::client_address::ClientAddresses;
use connection::close::Counted;
use connection::conn::{Conn, Token};
use connection::drain::Drain;
use connection::inbox::Inbox;
use connection::patience::Patience;
use connection::sink::Sinks;
use delivery::channels::Channels;
use delivery::fan_out::Delivering;
use rustc_hash::FxHashMap;
use slab::Slab;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use turn::command::ShardHandle;
use turn::wheel::Wheel;

/// One read takes at most this much.
const SCRATCH: usize = 64 * 1024;

/// See the module. Nothing in it is shared; other threads have its [`ShardHandle`].
pub(crate) struct Shard {
    number: usize,
    context: Arc<Context>,
    config: Arc<Config>,
    /// With the epoch of the positions that are written here.
    encoder: Arc<Encoder>,
    handle: Arc<ShardHandle>,
    epoll: Arc<Epoll>,
    arrivals: Arrivals,
    conns: Slab<Conn>,
    channels: Channels,
    sinks: Sinks,
    limits: Limits,
    client_addresses: ClientAddresses,
    timers: Timers,
    /// Monotonic milliseconds, read once a turn.
    now: u64,
    reading: Reading,
    recovery: Recovery,
    delivery: Delivering,
    questions: Questions,
    /// Listings of connections that are under way.
    walks: Walks,
    /// All connections that were there are being closed.
    sweeps: Sweeps,
    /// Events of this turn that the host was not woken for yet.
    unannounced: Unannounced,
    /// Clients are being sent away, or have been.
    drain: Option<Drain>,
    /// The thread is to end.
    ending: bool,
}

/// The limits of this shard's clients, beside those that all shards share.
#[derive(Default)]
struct Limits {
    /// The address that each connection counts for under `max_per_address`, by slot; empty while none counts.
    addresses: Vec<Option<AddressKey>>,
    /// Clients that sent something a moment ago.
    senders: Senders,
    /// The sizes of unfinished messages and requests.
    inbox: Inbox,
}

impl Limits {
    /// The counts that connections have in these limits and in those that all shards share.
    fn counted<'s>(&'s mut self, shared: &'s limits::Limits) -> Counted<'s> {
        Counted { addresses: &mut self.addresses, limits: shared }
    }
}

/// The timers, and the measure of turns. Times are monotonic milliseconds.
struct Timers {
    wheel: Wheel,
    /// When the thread wakes up by itself.
    wakes_at: u64,
    /// When history is looked through next.
    expires_at: u64,
    /// Spreads heartbeats, and the return of clients that are sent away.
    jitter: u32,
    /// Counts turns.
    turns: u8,
}

/// Buffers and lists for reading.
struct Reading {
    /// All reads go through here.
    scratch: Box<[u8]>,
    /// Inflates clients' messages. It is there since compression was first allowed.
    inflater: Option<Inflater>,
    /// Connections whose sockets may hold more than one turn's share of reads.
    unfinished: Vec<Token>,
    /// Connections that are not read from because the event queue is full.
    paused: Vec<Token>,
}

/// The hub's answer to a subscription. Both lists are used again and again.
#[derive(Default)]
struct Recovery {
    /// The messages that the subscriber missed.
    replay: Replay,
    /// The channels that it is subscribed to now.
    channels: Vec<(ChannelId, Arc<str>)>,
    /// Work of other threads, in a test, while this shard subscribes a live connection to one more channel.
    #[cfg(test)]
    meanwhile: Option<fn(&crate::hub::Hub)>,
}

/// Questions to the host whether a client may subscribe.
struct Questions {
    /// Those that wait for an answer, by their count, and the connection that each is about.
    open: FxHashMap<u64, Token>,
    /// The last count given.
    last: u64,
    /// Requests that wait for the hub.
    patience: Patience,
}

impl Shard {
    /// A shard with its listeners; called on the thread that starts the server, so that errors are its.
    pub(crate) fn new(
        number: usize,
        context: Arc<Context>,
        handle: Arc<ShardHandle>,
        listeners: Vec<Arc<OwnedFd>>,
    ) -> io::Result<Self> {
        let epoll = Arc::new(Epoll::new()?);
        epoll.add(handle.wake.as_raw_fd(), turn::run::WAKE, Watch::EdgeRead)?;
        // An attached host may keep a number longer than the hub runs. Then it should be the number of no connection.
        let arrivals = Arrivals::new(listeners, &epoll, getrandom::u32().unwrap_or(0))?;
        let now = clock::monotonic_ms();
        let shard = Shard {
            number,
            config: context.config.get(),
            encoder: context.encoder.clone(),
            context,
            handle,
            epoll,
            arrivals,
            conns: Slab::new(),
            channels: Channels::default(),
            sinks: Sinks::default(),
            limits: Limits::default(),
            client_addresses: ClientAddresses::default(),
            timers: Timers {
                wheel: Wheel::new(now),
                wakes_at: 0,
                expires_at: now,
                jitter: 0x9e37_79b9 ^ number as u32,
                turns: 0,
            },
            now,
            reading: Reading {
                scratch: vec![0; SCRATCH].into(),
                inflater: None,
                unfinished: Vec::new(),
                paused: Vec::new(),
            },
            recovery: Recovery::default(),
            delivery: Delivering::default(),
            // As above: a late answer to a question of the hub before must not let in somebody else. 48 bits, since the
            // number for the host has eight more, and room to count.
            questions: Questions {
                open: FxHashMap::default(),
                last: getrandom::u64().unwrap_or(0) >> 16,
                patience: Patience::default(),
            },
            walks: Walks::default(),
            sweeps: Sweeps::default(),
            unannounced: Unannounced::default(),
            drain: None,
            ending: false,
        };
        shard.probe_listeners();
        Ok(shard)
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
