//! A hub in a process of its own, and hosts that attach to it.
//!
//! `hub_side` runs in the process with the hub (`pushd`, or any server with the option `attach_listen`), `host_side` is
//! behind `push_start` with the option `attach`. Between them is a Unix stream socket that speaks [`wire`].
//!
//! **Publishing once.** A host numbers its requests. The hub keeps, for each life of a host (a *session*, named by
//! random bits), the last number done and the latest results. A host that lost its connection says which results it
//! has; it gets those it lacks, and sends again what the hub has not done. So a request is done once as long as the hub
//! lives. When the hub was started anew, what it had not answered is published again: into a new history, after a gap
//! that clients are told of.
//!
//! **Events.** A connection's events go to the attachment that handed it over, else to another of the same name. A host
//! gives credit for as many events as it has room for; while it gives none only its own clients are not read from.
//!
//! **Descriptors** travel with the first byte of the frame that speaks of them, so both sides find them by counting.

pub(crate) mod host_side;
pub(crate) mod hub_side;
mod inbox;
mod outbuf;
pub(crate) mod wire;

/// Requests of one host that may be unanswered. The hub keeps as many results.
pub(crate) const MAX_IN_FLIGHT: usize = 8192;
