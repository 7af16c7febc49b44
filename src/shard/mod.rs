//! A shard: one thread with the connections it serves.
//!
//! Subscribers are entries of a slab, and their sockets are watched by one epoll, on which the thread sleeps. So an
//! idle subscriber costs an entry and no task, buffer or timer. A turn of the loop takes commands, reads what is
//! readable, takes the whole mailbox, and writes once to each connection that has something.

#[cfg(test)]
mod checking_tests;
pub(crate) mod client;
pub(crate) mod connection;
#[cfg(test)]
mod crowd_client_tests;
#[cfg(test)]
mod crowd_polling_tests;
#[cfg(test)]
mod crowd_presence_tests;
#[cfg(test)]
mod crowd_reading_tests;
#[cfg(test)]
mod crowd_tests;
pub(crate) mod delivery;
#[cfg(all(test, feature = "tls"))]
mod encrypted_tests;
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
mod presence;
#[cfg(test)]
mod published_tests;
#[cfg(test)]
mod refused_tests;
#[cfg(test)]
mod revocation_tests;
#[cfg(test)]
mod roll_tests;
#[cfg(all(test, feature = "tls"))]
mod secure_tests;
#[cfg(all(test, feature = "tls"))]
mod short_tests;
#[cfg(test)]
mod sink_tests;
#[cfg(test)]
mod streams_tests;
#[cfg(test)]
mod sweep_tests;
#[cfg(test)]
mod time_tests;
pub(crate) mod turn;

use crate::config::Config;
use crate::context::Context;
use crate::dialect::Encoder;
use crate::framing::inflate::Inflater;
use client::calls::Calls;
use client::checks::Checks;
use client::scans::Scans;
use connection::accept::Registry;
use connection::conn::{Conn, SideTables, Token};
use connection::drain::Shutdown;
use connection::patience::Patience;
use delivery::delivering::Delivering;
use delivery::subscriptions::Subscriptions;
use rustc_hash::FxHashMap;
use slab::Slab;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use turn::command::ShardHandle;
use turn::run::Turn;
use turn::wheel::Wheel;

/// One read takes at most this much.
const SCRATCH: usize = 64 * 1024;

/// See the module. Nothing in it is shared; other threads have its [`ShardHandle`].
pub(crate) struct Shard {
    context: Arc<Context>,
    config: Arc<Config>,
    /// With the epoch of the positions that are written here.
    encoder: Arc<Encoder>,
    handle: Arc<ShardHandle>,
    registry: Registry,
    conns: Slab<Conn>,
    subscriptions: Subscriptions,
    side: SideTables,
    timers: Timers,
    turn: Turn,
    reading: Reading,
    delivery: Delivering,
    questions: Questions,
    scans: Scans,
    shutdown: Shutdown,
}

/// The timers. Times are monotonic milliseconds.
struct Timers {
    wheel: Wheel,
    /// When history is looked through next.
    expires_at: u64,
    /// Spreads heartbeats, and the return of clients that are sent away.
    jitter: u32,
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

/// Questions to the host whether a client may subscribe.
struct Questions {
    /// Those that wait for an answer, by their count, and the connection that each is about.
    open: FxHashMap<u64, Token>,
    /// The last count given.
    last: u64,
    /// Requests that wait for the hub.
    patience: Patience,
    /// Calls of live clients.
    calls: Calls,
    /// Messages of clients that the host checks.
    checks: Checks,
    /// The bytes of these, as they were noted last.
    check_bytes: usize,
}

impl Shard {
    /// A shard with its listeners; called on the thread that starts the server, so that errors are its.
    pub(crate) fn new(
        context: Arc<Context>,
        handle: Arc<ShardHandle>,
        listeners: Vec<Arc<OwnedFd>>,
    ) -> io::Result<Self> {
        // An attached host may keep a number longer than the hub runs. Then it should be the number of no connection.
        let registry = Registry::new(&*handle.wake, listeners, getrandom::u32().unwrap_or(0))?;
        let mut turn = Turn::default();
        turn.begin();
        let shard = Shard {
            config: context.config.get(),
            encoder: context.encoder.clone(),
            context,
            registry,
            conns: Slab::new(),
            subscriptions: Subscriptions::default(),
            side: SideTables::default(),
            timers: Timers {
                wheel: Wheel::new(turn.now),
                expires_at: turn.now,
                jitter: 0x9e37_79b9 ^ handle.number as u32,
            },
            handle,
            turn,
            reading: Reading {
                scratch: vec![0; SCRATCH].into(),
                inflater: None,
                unfinished: Vec::new(),
                paused: Vec::new(),
            },
            delivery: Delivering::default(),
            // As above: a late answer to a question of the hub before must not let in somebody else. 48 bits, since the
            // number for the host has eight more, and room to count.
            questions: Questions {
                open: FxHashMap::default(),
                last: getrandom::u64().unwrap_or(0) >> 16,
                patience: Patience::default(),
                calls: Calls::default(),
                checks: Checks::default(),
                check_bytes: 0,
            },
            scans: Scans::default(),
            shutdown: Shutdown::default(),
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
