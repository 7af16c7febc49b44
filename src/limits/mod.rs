//! Limits that all shards share: the number of connections of each address and user, the rate of new connections, and
//! the bytes of unfinished messages and requests.
//!
//! A limit costs nothing while its option is 0. The count of an address or a user is forgotten with its last
//! connection. The rate of an address is forgotten when it no longer makes a difference, and the number of remembered
//! rates is bounded. So an attacker with 2^64 addresses can't fill the memory.

mod address;
mod counts;
mod inboxes;
mod rates;

pub(crate) use address::AddressKey;
pub use address::Peer;
use counts::Counts;
pub(crate) use inboxes::Inboxes;
use rates::Rates;
pub(crate) use rates::{Bucket, Meter};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

/// How many connections of an address beyond `max_per_address` are heard, to be refused in their own way.
pub(crate) const SURPLUS_PER_ADDRESS: usize = 8;

/// Counts the connections of a server, for `max_connections`: those of all shards, and those that are on their way there.
#[derive(Debug, Default)]
pub(crate) struct Connections(AtomicUsize);

impl Connections {
    /// Counts one more. Returns how many there were before.
    pub(crate) fn enter(&self) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes back the count of one.
    pub(crate) fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// The limits of one server.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    pub(crate) connections: Connections,
    /// The connections of each address.
    pub(crate) addresses: Counts<AddressKey>,
    /// The subscriptions of each user.
    pub(crate) users: Counts<Arc<str>>,
    /// The rate of new connections of each address.
    pub(crate) address_rates: Rates<AddressKey>,
    /// The rate of all new connections.
    pub(crate) connects: Meter,
}
