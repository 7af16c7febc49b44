//! Walks through all connections of a shard, for operators. A turn does a part of each, so that clients are served
//! meanwhile.

use crate::shard::client::listing::Walk;
use crate::shard::client::presence::Roll;
use crate::shard::client::sweep::Sweep;
use std::collections::VecDeque;

/// The walks that a shard is at.
#[derive(Debug, Default)]
pub(in crate::shard) struct Scans {
    /// Connections are listed.
    pub(in crate::shard) listings: VecDeque<Walk>,
    /// The subscribers of channels are looked at.
    pub(in crate::shard) rolls: VecDeque<Roll>,
    /// All connections that were there are being closed.
    pub(in crate::shard) sweeps: VecDeque<Sweep>,
}

impl Scans {
    /// Gives up all of them. Their askers do not wait for this shard any more.
    pub(in crate::shard) fn clear(&mut self) {
        self.listings.clear();
        self.rolls.clear();
        self.sweeps.clear();
    }
}
