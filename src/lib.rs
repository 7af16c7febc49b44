//! libpush: live push for an HTTP server that already exists.
//!
//! A host loads this library, publishes messages to channels, and hands over the client connections that it has
//! accepted; browsers subscribe over WebSocket, Server-Sent Events, an NDJSON stream or long-polling, and get exactly
//! what they missed when they come back. The C API in `include/push.h` is the front door; the Rust API is what it is
//! made of, and what tests and benchmarks use.
//!
//! # Map
//!
//! The rooms, from the top down. A room may import those that stand below it, and no other; `tests/rooms.rs` reads this
//! table and the imports, and fails on one that goes up.
//!
//! | room | what it does |
//! |---|---|
//! | `fuzzing` | what fuzzers and tests drive the parsers and the hub with; in no release |
//! | `ffi` | the C ABI |
//! | [`server`] | a server as its host sees it, with its hub in this process or in another: start, reload, drain, stop |
//! | `control` | the control API, over HTTP |
//! | `attach` | a hub in another process: the socket between, and both its sides |
//! | [`api`] | what a hub in this process can be asked, whoever asks |
//! | `callbacks` | the thread of the host's functions |
//! | `listeners` | listening sockets |
//! | `shard` | the connections of one thread: slab, readiness, fan-out, outbox, timers |
//! | `context` | what all parts of a server share |
//! | [`auth`] | who may subscribe: tokens, or the host's word |
//! | [`http`] | request heads, refusals, the Origin rule |
//! | [`config`] | the table of options |
//! | [`metrics`] | counters and gauges |
//! | [`transport`] | WebSocket, SSE, NDJSON and poll as bytes |
//! | [`grant`] | what one client may do |
//! | [`users`] | who is on a channel |
//! | [`engine`] | where history is kept when not in memory alone: the log on disk |
//! | [`hub`] | channels, sequence, history, subscriptions |
//! | [`limits`] | what one address, one user and all new connections together may have |
//! | [`events`] | what the host is told of its clients |
//! | [`log`] | log lines |
//! | [`process`] | what the program `pushd` needs of the system |
//! | `runtime` | how threads are made |
//! | `waiter` | where one thread waits for another |
//! | `panics` | what panics say |
//! | [`error`] | what a call that fails returns |
//! | `sys` | system calls made safe |
//!
//! `docs/internals.md` follows one connection from accept to close.
#![deny(unsafe_code)]

// What the tests from outside share with those in here names the library from outside.
#[cfg(test)]
extern crate self as push;

pub mod api;
mod attach;
pub mod auth;
mod callbacks;
pub mod config;
mod context;
mod control;
pub mod engine;
pub mod error;
pub mod events;
#[allow(unsafe_code)]
pub mod ffi;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod grant;
pub mod http;
pub mod hub;
pub mod limits;
mod listeners;
pub mod log;
pub mod metrics;
mod panics;
pub mod process;
mod runtime;
pub mod server;
mod shard;
#[allow(unsafe_code)]
mod sys;
pub mod transport;
pub mod users;
mod waiter;

pub use config::{Builder, Config};
pub use error::{Error, Kind};
pub use server::Server;
