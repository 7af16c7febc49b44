//! Limits that all shards keep together: how many connections an address and a user have, and how many new ones come.
//!
//! Nothing here is looked at while its option is 0. What is remembered of an address or a user ends with its last
//! connection; what is remembered of its rate ends when it would count no more, and is bounded besides. So an attacker
//! with 2^64 addresses fills no memory.

mod address;
mod counts;
mod rates;

pub(crate) use address::Address;
pub use address::Peer;
use counts::Counts;
use rates::Rates;
pub(crate) use rates::{Meter, Pace};
use std::sync::Arc;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    /// Connections of each address.
    pub(crate) addresses: Counts<Address>,
    /// Subscriptions of each user.
    pub(crate) users: Counts<Arc<str>>,
    /// New connections of each address.
    pub(crate) address_rates: Rates<Address>,
    /// New connections of all.
    pub(crate) connects: Meter,
}
