//! libpush: live push for an HTTP server that already exists.
//!
//! A host loads this library, publishes messages to channels, and hands over the client connections that it has
//! accepted. Browsers subscribe over WebSocket, Server-Sent Events, an NDJSON stream or long-polling. When a browser
//! comes back, it gets exactly the messages that it missed. The C API in `include/push.h` is the main interface. The
//! Rust API is its base, and is what tests and benchmarks use.
//!
//! # Map
//!
//! These are the rooms, the top-level modules, from the top down. A room may import only rooms below it. `tests/rooms.rs`
//! reads this table and the imports, and fails on an import in the other direction.
//!
//! | room | what it does |
//! |---|---|
//! | `fuzzing` | drivers of the parsers and the hub for fuzzers and tests; not in a release |
//! | `ffi` | the C ABI |
//! | [`server`] | a server as its host sees it, with its hub in this process or in another: start, reload, drain, stop |
//! | `control` | the control API, over HTTP |
//! | `attach` | a hub in another process: the socket between hub and host, and both its sides |
//! | [`api`] | the calls to a hub in this process |
//! | `callbacks` | the threads that tell the host: by its functions, and by the descriptor of its log |
//! | `listeners` | listening sockets |
//! | `handshakes` | the thread that does the handshakes of TLS clients, and hands the connections to the shards |
//! | `shard` | the connections of one thread: slab, readiness, fan-out, outbox, timers |
//! | `context` | what all parts of a server share |
//! | `tls` | TLS: certificates, and one connection's records |
//! | [`auth`] | who may subscribe: tokens, or the host decides |
//! | [`http`] | request heads, refusals, the Origin rule |
//! | [`config`] | the options, and the table that defines them |
//! | `cluster` | questions to all hubs of a log, and their answers added up |
//! | [`metrics`] | counters and gauges |
//! | [`dialect`] | the meaning of messages: the JSON of push.v1.json, and a message in each format |
//! | [`framing`] | WebSocket, SSE, NDJSON and poll as bytes, and compression |
//! | [`grant`] | the rights of one client |
//! | [`users`] | answers to those who ask who is on a channel |
//! | `presence` | who is on a channel, for subscribers who follow that |
//! | [`engine`] | history that outlives the process: the log on disk; a log that many hubs share |
//! | [`hub`] | channels, sequence, history, subscriptions |
//! | [`limits`] | limits for an address, for a user and for all new connections |
//! | [`events`] | events for the host, about its clients |
//! | `trace` | spans of messages, for a collector of OpenTelemetry |
//! | [`log`] | log lines |
//! | [`process`] | what the program `pushd` needs of the system |
//! | `runtime` | starts threads |
//! | `waiter` | lets one thread wait for another |
//! | `certificates` | certificates and keys in PEM |
//! | `panics` | messages of panics |
//! | [`number`] | whole numbers as people write them |
//! | [`error`] | the errors of calls |
//! | `sys` | safe wrappers of system calls |
//!
//! `docs/internals.md` follows one connection from accept to close.
#![deny(unsafe_code)]

// Modules that are shared with the tests outside name the library `push`.
#[cfg(test)]
extern crate self as push;

/// `Debug` for a type. It shows these fields only: the others have none, or say nothing.
macro_rules! partial_debug {
    ($name:ident $({ $($field:ident),+ })?) => {
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name))$($(.field(stringify!($field), &self.$field))+)?.finish_non_exhaustive()
            }
        }
    };
}

pub mod api;
mod attach;
pub mod auth;
mod callbacks;
#[cfg(any(feature = "tls", feature = "redis", feature = "nats", feature = "trace"))]
mod certificates;
mod cluster;
pub mod config;
mod context;
mod control;
pub mod dialect;
pub mod engine;
pub mod error;
pub mod events;
#[allow(unsafe_code)]
pub mod ffi;
pub mod framing;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod grant;
#[cfg(feature = "tls")]
mod handshakes;
pub mod http;
pub mod hub;
pub mod limits;
mod listeners;
pub mod log;
pub mod metrics;
pub mod number;
mod panics;
mod presence;
pub mod process;
mod runtime;
pub mod server;
mod shard;
#[allow(unsafe_code)]
mod sys;
#[cfg(feature = "tls")]
mod tls;
#[cfg_attr(not(feature = "trace"), allow(dead_code))]
mod trace;
pub mod users;
mod waiter;

pub use config::{Builder, Config};
pub use error::{Error, Kind};
pub use server::Server;
