//! libpush: live push for an HTTP server that already exists.
//!
//! A host loads this library, publishes messages to channels, and hands over the client connections that it has
//! accepted; browsers subscribe over WebSocket, Server-Sent Events, an NDJSON stream or long-polling, and get exactly
//! what they missed when they come back. The C API in `include/push.h` is the front door; the Rust API is what it is
//! made of, and what tests and benchmarks use.
//!
//! # Map
//!
//! | room | what it does |
//! |---|---|
//! | `ffi` | the C ABI |
//! | [`server`] | a server, wherever its hub is |
//! | `embedded` | a hub in this process, put together: start, drain, stop |
//! | `attach` | a hub in another process: the socket between, and both its sides |
//! | [`api`] | what a server can be asked, whoever asks |
//! | [`config`] | the table of options |
//! | [`http`] | request heads, refusals, the Origin rule, the control API |
//! | `shard` | the connections of one thread: slab, readiness, fan-out, outbox, timers |
//! | [`transport`] | WebSocket, SSE, NDJSON and poll as bytes |
//! | [`hub`] | channels, sequence, history, subscriptions |
//! | [`auth`] | who may subscribe: tokens, or the host's word |
//! | [`process`] | what the program `pushd` needs of the system |
//! | `fuzzing` | what fuzzers and tests drive the parsers and the hub with; in no release |
//! | [`limits`] | what one address, one user and all new connections together may have |
//! | [`events`], [`grant`], [`metrics`], [`users`], [`log`], [`error`] | leaves |
//! | `listeners`, `callbacks` | listening sockets, the thread of the host's functions |
//! | `runtime`, `panics`, `waiter` | how threads are made, what panics say, where a thread waits for another |
//! | `sys` | system calls made safe |
//!
//! Imports go one way: ffi, server, embedded and attach, http and shard, transport, hub, leaves.
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
mod control;
mod embedded;
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
