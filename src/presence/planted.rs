//! Mistakes for the tests that must find them.

use std::cell::Cell;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// A second connection of a user is a join.
    TabIsJoin,
    /// A member whose last connection has gone leaves at once.
    NoGrace,
    /// A member that gave way still counts.
    EvictedCounts,
    /// A change is promised to nobody while anybody has not looked at the one before.
    LookIsLost,
    /// Only one of the shards that follow a channel is woken.
    OneShardIsWoken,
    /// A shard is woken that does not follow the channel.
    OthersAreWoken,
    /// A connection that ends has not left the channels that it had entered.
    NobodyLeaves,
    /// A follower that has no room is not told later.
    NotPutOff,
}

thread_local! {
    static PLANTED: Cell<Option<Mistake>> = const { Cell::new(None) };
}

pub(crate) fn is(mistake: Mistake) -> bool {
    PLANTED.get() == Some(mistake)
}

/// Runs something with a mistake in this thread.
pub(crate) fn with<T>(mistake: Mistake, run: impl FnOnce() -> T) -> T {
    /// Takes it back also if a panic is the find.
    struct Back;
    impl Drop for Back {
        fn drop(&mut self) {
            PLANTED.set(None);
        }
    }
    PLANTED.set(Some(mistake));
    let _back = Back;
    run()
}
