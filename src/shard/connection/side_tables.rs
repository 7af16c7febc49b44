//! What only some connections have. It stands in tables beside the slab, by slot, so the other connections pay nothing
//! for it.

use crate::limits::{self, AddressKey};
use crate::shard::client::rate_limit::Senders;
use crate::shard::connection::client_address::ClientAddresses;
use crate::shard::connection::close::Counted;
use crate::shard::connection::inbox::Inbox;
use crate::shard::connection::sink::Sinks;
use std::os::fd::OwnedFd;

/// See the module.
#[derive(Default)]
pub(in crate::shard) struct SideTables {
    pub(in crate::shard) sinks: Sinks,
    pub(in crate::shard) limits: Limits,
    pub(in crate::shard) client_addresses: ClientAddresses,
}

impl SideTables {
    /// A connection has left the slab. `own`: the socket in its entry.
    pub(in crate::shard) fn end(&mut self, index: u32, own: Option<&OwnedFd>) {
        self.client_addresses.forget(index);
        self.sinks.end(index, own);
    }
}

/// The limits of this shard's clients, beside those that all shards share.
#[derive(Default)]
pub(in crate::shard) struct Limits {
    /// The address that each connection counts for under `max_per_address`; empty while none counts.
    pub(in crate::shard) addresses: Vec<Option<AddressKey>>,
    /// Clients that sent something a moment ago.
    pub(in crate::shard) senders: Senders,
    /// The sizes of unfinished messages and requests.
    pub(in crate::shard) inbox: Inbox,
}

impl Limits {
    /// The counts that connections have in these limits and in those that all shards share.
    pub(in crate::shard) fn counted<'s>(&'s mut self, shared: &'s limits::Limits) -> Counted<'s> {
        Counted { addresses: &mut self.addresses, limits: shared }
    }
}
