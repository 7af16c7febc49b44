//! Presence: which users are on a channel, for subscribers who want to know. The owner of all that is known: who is
//! there, how many connections each has, who has just gone and may come back, and what has changed since when.
//!
//! It has no thread, no clock and no connections. Times are passed in, as milliseconds of any clock that does not go
//! back. The shards tell it who comes and goes, and look at what has changed; it wakes a shard that has something to
//! look at, once until that has looked. So however many come at once, there is one promise for each channel and shard.

mod changes;
mod following;
mod looks;
#[cfg(test)]
mod model_tests;
mod places;
#[cfg(test)]
pub(crate) mod planted;
mod state;
#[cfg(test)]
mod tests;
mod version;

pub(crate) use changes::Change;
pub(crate) use looks::{Asked, Look, Member};
use state::State;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
pub(crate) use version::is_version;
use version::Life;

/// The bounds of presence, from the options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// How long a member stays after its last connection has gone.
    pub(crate) grace_ms: u64,
    /// The most members of a channel who are told by name.
    pub(crate) detail: usize,
    /// The most bytes of all members.
    pub(crate) total: usize,
}

/// What is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// The members of all channels.
    pub(crate) members: u64,
    /// The bytes that they count for.
    pub(crate) bytes: u64,
    /// How often there was no room for one, or for what is told of one.
    pub(crate) refused: u64,
}

/// A connection of a user that begins to have a channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Visit<'a> {
    pub(crate) channel: &'a str,
    pub(crate) user: &'a Arc<str>,
    pub(crate) info: Option<&'a str>,
}

/// See the module.
pub(crate) struct Presence {
    state: Mutex<State>,
    life: Life,
    /// By shard: whether it has news. It is looked at without the lock.
    news: Box<[AtomicBool]>,
    /// Has a shard look. It is called with the shard's number, on the thread of another and without the lock.
    wake: Box<dyn Fn(usize) + Send + Sync>,
}

impl Presence {
    /// For so many shards.
    pub(crate) fn new(bounds: Bounds, shards: usize, wake: Box<dyn Fn(usize) + Send + Sync>) -> Self {
        let news = (0..shards).map(|_| AtomicBool::new(false)).collect();
        Presence { state: Mutex::new(State::new(bounds, shards)), life: Life::new(), news, wake }
    }

    /// One more connection of a user has a channel. Returns the channel's name, which all that are there share. `None`:
    /// there is no room for one more member; try again later.
    pub(crate) fn enter(&self, visit: Visit<'_>, now: u64) -> Option<Arc<str>> {
        self.change(now, |state| state.enter(visit))
    }

    /// A connection that has entered has the channel no more. Returns when its member leaves unless it comes back, if
    /// that was its last connection.
    pub(crate) fn leave(&self, channel: &str, user: &str, now: u64) -> Option<u64> {
        self.change(now, |state| state.leave(channel, user))
    }

    /// Has members leave whose time is over, some hundred at once. Returns when the next one's time is over; if it is
    /// over already, call it again.
    pub(crate) fn expire(&self, now: u64) -> Option<u64> {
        self.change(now, State::expire)
    }

    /// Other bounds count from now on. `switched`: other channels have presence, too, so that no version of before says
    /// what a client knows.
    pub(crate) fn reconfigure(&self, bounds: Bounds, switched: bool, now: u64) {
        self.change(now, |state| state.reconfigure(bounds, switched));
    }

    /// One more shard has options by which other channels have presence. Until now it has told its clients what was so
    /// by those of before, with versions that are newer than [`Self::reconfigure`] by another shard.
    pub(crate) fn switch(&self, now: u64) {
        self.change(now, State::switch);
    }

    /// A shard has followers of a channel, and gets news of it.
    pub(crate) fn follow(&self, shard: usize, channel: &str) -> Arc<str> {
        self.lock().follow(shard, channel)
    }

    /// It has none any more.
    pub(crate) fn unfollow(&self, shard: usize, channel: &str, now: u64) {
        self.change(now, |state| state.unfollow(shard, channel));
    }

    /// A shard has forgotten all of its followers.
    pub(crate) fn forget_shard(&self, shard: usize, now: u64) {
        self.change(now, |state| state.forget_shard(shard));
    }

    /// Whether there is news for a shard.
    pub(crate) fn has_news(&self, shard: usize) -> bool {
        self.news.get(shard).is_some_and(|news| news.load(Ordering::SeqCst))
    }

    /// The channels with news for a shard, each once until the shard looks at it.
    pub(crate) fn take_news(&self, shard: usize) -> Vec<Arc<str>> {
        if let Some(news) = self.news.get(shard) {
            news.store(false, Ordering::SeqCst);
        }
        self.lock().take_news(shard)
    }

    /// What there is to tell of a channel.
    pub(crate) fn look(&self, channel: &str, asked: &Asked<'_>) -> Look {
        self.lock().look(channel, asked)
    }

    /// The version of everything now, for a poll's answer. What comes later has a greater one.
    pub(crate) fn version(&self) -> u64 {
        self.lock().version()
    }

    /// A version as a client gets it.
    pub(crate) fn version_text(&self, version: u64) -> String {
        self.life.text(version)
    }

    /// The version that a client has sent. `None`: it is of another life, or it says nothing since the options have
    /// changed, so the client is told everything.
    pub(crate) fn known_version(&self, text: &str) -> Option<u64> {
        let version = self.life.read(text)?;
        self.lock().knows(version).then_some(version)
    }

    /// What is counted.
    pub(crate) fn figures(&self) -> Figures {
        self.lock().figures()
    }

    /// Changes something, and wakes those who follow it, after the lock is released.
    fn change<T>(&self, now: u64, work: impl FnOnce(&mut State) -> T) -> T {
        let (done, mut woken) = {
            let mut state = self.lock();
            state.note_time(now);
            (work(&mut state), state.take_woken())
        };
        while woken != 0 {
            let shard = woken.trailing_zeros() as usize;
            if let Some(news) = self.news.get(shard) {
                news.store(true, Ordering::SeqCst);
            }
            (self.wake)(shard);
            woken &= woken - 1;
        }
        done
    }

    /// A panic under the lock can leave counts slightly wrong. To tell nobody anything any more would be worse.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asserts that all counts agree.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        self.lock().check();
    }
}

partial_debug!(Presence { life });
