//! A reload changes which channels have presence, or its bounds.

use crate::config::Config;
use crate::context::presence::{bounds, has_members, is_switched, is_used};
use crate::shard::connection::conn::Phase;
use crate::shard::Shard;

/// A grace is no longer than this, in milliseconds.
const LONGEST_GRACE_MS: u64 = 3_600_000;

impl Shard {
    /// Options have changed. Connections enter the channels that have presence now, and leave those that have none any
    /// more. Those who follow are told anew. If other channels have presence, this looks at all connections in one
    /// turn.
    pub(in crate::shard) fn reconfigure_presence(&mut self, before: &Config) {
        let (config, now) = (self.config.clone(), self.turn.now);
        let switched = is_switched(before, &config);
        if self.handle.number == 0 && (switched || bounds(before) != bounds(&config)) {
            // One shard does it. It also looks after the members that leave earlier or later because of that.
            self.context.presence.reconfigure(bounds(&config), switched, now);
            self.side.visits.await_end(Some(now + LONGEST_GRACE_MS));
            self.side.visits.ends_at = Some(now);
        }
        if !switched || !(is_used(before) || is_used(&config)) {
            return;
        }
        if self.handle.number != 0 {
            self.context.presence.switch(now);
        }
        let open = self.conns.iter().filter(|(_, conn)| matches!(conn.phase, Phase::Open(_)));
        for index in open.map(|(index, _)| index as u32).collect::<Vec<_>>() {
            self.leave_switched_off(index, &config);
            self.enter_all(index);
        }
        for channel in self.side.follows.names() {
            if has_members(before, &channel) != has_members(&config, &channel) {
                self.side.follows.forget_known(&channel, now);
            }
        }
    }

    fn leave_switched_off(&mut self, index: u32, config: &Config) {
        let Some(visitor) = self.side.visits.of(index) else { return };
        let channels = visitor.places.iter().map(|place| place.channel.clone());
        let off: Vec<_> = channels.filter(|channel| !has_members(config, channel)).collect();
        // The last one first: no other has to be moved for it.
        off.iter().rev().for_each(|channel| self.leave_one_place(index, channel));
    }
}
