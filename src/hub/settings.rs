//! The settings of a hub.

use super::{ChannelPattern, Retention, SlowPolicy};

/// How much a hub keeps.
#[derive(Debug)]
pub struct Settings<'a> {
    /// Bounds for channels that match no pattern.
    pub retention: Retention,
    /// Bounds for channels that match a pattern. The closest pattern counts.
    pub patterns: &'a [(ChannelPattern, Retention)],
    /// What is dropped for slow clients in channels that match no pattern, and in broadcasts.
    pub slow_policy: SlowPolicy,
    /// The same for channels that match a pattern. The closest pattern counts.
    pub slow_patterns: &'a [(ChannelPattern, SlowPolicy)],
    /// Bytes of all history together.
    pub total_bytes: usize,
    /// How long idempotency keys are remembered. 0 means not at all.
    pub key_window_ms: u64,
    /// How many different patterns clients may subscribe to, all together. 0: none, and nothing is kept for them.
    pub client_patterns: usize,
    /// A clock in microseconds, for the time stamps of a sample of the messages.
    pub clock_us: fn() -> u64,
}

#[cfg(any(test, fuzzing))]
impl Settings<'_> {
    /// The same for all channels, and nothing else: no keys, no time stamps.
    pub(crate) fn keeping(retention: Retention) -> Self {
        Settings {
            retention,
            patterns: &[],
            slow_policy: SlowPolicy::Disconnect,
            slow_patterns: &[],
            total_bytes: retention.bytes,
            key_window_ms: 0,
            client_patterns: 0,
            clock_us: || 0,
        }
    }
}
