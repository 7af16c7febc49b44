//! The connections of this hub and its attached hosts, for operators.

use super::Api;
use crate::context::attached;
use crate::hub::ChannelId;
use crate::shard::client::listing::{Found, ListingQuery, Wanted};
use crate::shard::client::query::Tell;
use crate::shard::turn::command::Command;
use std::sync::Arc;

impl Api {
    /// Asks each shard for its connections. `tell` gets what all of them have found.
    pub(crate) fn ask_connections(&self, wanted: Wanted, tell: Tell<Found>) {
        let query = Arc::new(ListingQuery::new(wanted, tell));
        for shard in &self.shards {
            shard.tell(Command::List(query.clone()));
        }
    }

    /// Asks which hosts are attached.
    pub(crate) fn ask_hosts(&self, tell: attached::Tell) {
        self.context.hosts.ask(tell);
    }

    /// The number of a channel that exists.
    pub(crate) fn channel_id(&self, channel: &str) -> Option<ChannelId> {
        self.context.hub.channel_id(channel)
    }
}
