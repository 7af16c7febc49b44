//! Limits that all shards share: the number of connections of each address and user, and the rate of new connections.
//!
//! A limit costs nothing while its option is 0. The count of an address or a user is forgotten with its last
//! connection. The rate of an address is forgotten when it no longer makes a difference, and the number of remembered
//! rates is bounded. So an attacker with 2^64 addresses can't fill the memory.

mod address;
mod counts;
mod rates;

pub(crate) use address::AddressKey;
pub use address::Peer;
use counts::Counts;
use rates::Rates;
pub(crate) use rates::{Bucket, Meter};
use std::sync::Arc;

/// The limits of one server.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    /// The connections of each address.
    pub(crate) addresses: Counts<AddressKey>,
    /// The subscriptions of each user.
    pub(crate) users: Counts<Arc<str>>,
    /// The rate of new connections of each address.
    pub(crate) address_rates: Rates<AddressKey>,
    /// The rate of all new connections.
    pub(crate) connects: Meter,
}
