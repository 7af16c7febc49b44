//! A hub in a process of its own, and hosts that attach to it.
//!
//! `hub_side` runs in the process that has the hub: `pushd`, or any server with the option `attach_listen`. `host_side`
//! runs in the host, behind `push_start` with the option `attach`. A Unix stream socket connects them. [`wire`] is its
//! protocol.
//!
//! **A message is published once.** A host numbers its requests. Each run of a host is a *session*, named by random
//! bits. For each session the hub keeps the number of the last request that it has done, and the latest results. When a
//! host has lost its connection, it attaches again and says which results it has. The hub sends the missing results,
//! and the host sends the requests again that the hub has not done. So a request is done once as long as the hub runs.
//! After a restart of the hub, the host publishes again the messages that the old hub had not answered. They enter a
//! new history, after a gap that clients are told of.
//!
//! **Events.** A connection's events go to the attachment that handed the connection over, else to an attachment of the
//! same name. A host gives credit for as many events as it has room for. While a host gives no credit, the hub stops
//! reading from the clients of that host only.
//!
//! **Descriptors** travel with the first byte of their frame. So both sides match descriptors to frames by counting.

pub(crate) mod host_side;
pub(crate) mod hub_side;
mod inbox;
mod outbuf;
pub(crate) mod wire;

/// The number of requests of one host that may be unanswered. The hub keeps as many results.
pub(crate) const MAX_IN_FLIGHT: usize = 8192;
