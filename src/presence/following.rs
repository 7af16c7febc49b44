//! Which shards follow a channel, and what they are promised.

#[cfg(test)]
use super::planted;
use super::state::State;
use std::sync::Arc;

impl State {
    /// It has no news of the channel yet: who begins to follow looks in any case.
    pub(super) fn follow(&mut self, shard: usize, channel: &str) -> Arc<str> {
        let name = self.awake(channel);
        if let Some(channel) = self.channels.get_mut(&name) {
            if channel.followed == 0 {
                channel.log.restart(channel.version);
            }
            channel.followed |= bit(shard);
        }
        name
    }

    pub(super) fn unfollow(&mut self, shard: usize, channel: &str) {
        let Some((name, _)) = self.channels.get_key_value(channel) else { return };
        let name = name.clone();
        if let Some(channel) = self.channels.get_mut(&name) {
            channel.followed &= !bit(shard);
            channel.promised &= !bit(shard);
        }
        self.rest_if_idle(&name);
    }

    pub(super) fn forget_shard(&mut self, shard: usize) {
        let followed = self.channels.iter().filter(|(_, channel)| channel.followed & bit(shard) != 0);
        for name in followed.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.unfollow(shard, &name);
        }
        self.take_news(shard);
    }

    /// Promises each shard that follows a channel that it may look, unless it has not looked since it was promised that
    /// last.
    pub(super) fn promise(&mut self, name: &Arc<str>) {
        let Some(channel) = self.channels.get_mut(name) else { return };
        let followed = channel.followed;
        #[cfg(test)]
        let followed = match () {
            () if planted::is(planted::Mistake::OneShardIsWoken) => followed & followed.wrapping_neg(),
            () if planted::is(planted::Mistake::LookIsLost) && channel.promised != 0 => 0,
            () => followed,
        };
        let mut new = followed & !channel.promised;
        channel.promised |= new;
        #[cfg(test)]
        if planted::is(planted::Mistake::OthersAreWoken) {
            new |= 1;
        }
        self.woken |= new;
        while new != 0 {
            if let Some(news) = self.news.get_mut(new.trailing_zeros() as usize) {
                news.push(name.clone());
            }
            new &= new - 1;
        }
    }

    pub(super) fn take_news(&mut self, shard: usize) -> Vec<Arc<str>> {
        self.news.get_mut(shard).map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn take_woken(&mut self) -> u64 {
        std::mem::take(&mut self.woken)
    }
}

/// The bit of a shard.
pub(super) fn bit(shard: usize) -> u64 {
    1_u64.checked_shl(shard as u32).unwrap_or(0)
}
