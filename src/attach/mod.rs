//! A hub in a process of its own, and hosts that attach to it.
//!
//! `hub_side` runs in the process that has the hub: `pushd`, or any server with the option `attach_listen`. `host_side`
//! runs in the host, behind `push_start` with the option `attach`. A Unix stream socket connects them. [`wire`] is its
//! protocol.
//!
//! **A message is published once.** A host numbers its requests. Each run of a host is a *session*, named by random
//! bits. Requests that publish are done in the order of their numbers. For each session the hub keeps the number of the
//! last one that it has done, and the latest results. When a host has lost its connection, it attaches again and says
//! which results it has. The hub sends the missing results, and the host sends the requests again that the hub has not
//! done. So a request is done once as long as the hub runs. After a restart of the hub, the host publishes again the
//! messages that the old hub had not answered. They enter a new history, after a gap that clients are told of.
//!
//! **Messages hold up messages only.** A request that publishes may have to wait for the hub's log. It waits in its
//! session, and those that publish after it wait behind it. Everything else that the host sends passes them: connections,
//! what is done to them or to users, answers to events, credit, and questions. None of these counts for the number of the
//! last request that is done, so the order in which requests that publish are done stays that of their numbers.
//!
//! **A command is done once** in each life of the hub: disconnecting a user, revoking a channel. A host sends it until the
//! hub has answered the empty batch behind it. The session has the number of the last command that is done.
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
/// Of these, as many are left for requests that do not publish.
pub(crate) const RESERVED: usize = 512;
/// The bytes of requests of one host that publish and are unanswered. A larger one goes alone. The hub keeps those that
/// wait for its log, and keeps no more than these.
pub(crate) const MAX_IN_FLIGHT_BYTES: usize = 4 << 20;
