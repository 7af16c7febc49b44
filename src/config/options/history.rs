//! Options: what is kept.

use super::{DAY, GB};

options! {
    /// How long an idempotency key is remembered. The hub remembers the latest 100,000 keys of hosts, and as many keys
    /// of clients
    key_window = "2m", live, Time(0, DAY) in key_window_ms;

    /// Messages kept for each channel. 0: no history
    history_count = "100", live, Count(0, 1_000_000) in history.count;

    /// How long a message is kept
    history_age = "5m", live, Time(100, 365 * DAY) in history.age_ms;

    /// Bytes kept for each channel
    history_bytes = "4MB", live, Size(0, 16 * GB) in history.bytes;

    /// Bytes kept for all channels together. Beyond that, the oldest messages go. A message counts with its payload,
    /// its event type and 160 bytes more, here and in `history_bytes`. The hub also keeps each encoded form in which
    /// the message was sent. These forms do not count; each is about as large as the payload, or up to six times as
    /// large if JSON has to escape all of it
    history_total = "64MB", live, Size(0, 1024 * GB);
}
