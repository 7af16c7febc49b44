//! Options: what is kept.

use super::{Spec, Value, DAY, GB};

pub(super) static OPTIONS: &[Spec] = &[
    Spec {
        name: "key_window",
        default: "2m",
        live: live!(key_window_ms),
        help: "How long an idempotency key is remembered. The hub remembers the latest 100,000 keys of hosts, and as \
               many keys of clients",
        value: Value::Time { min: 0, max: DAY, set: |c, n| c.key_window_ms = n },
    },
    Spec {
        name: "history_count",
        default: "100",
        live: live!(history.count),
        help: "Messages kept for each channel. 0: no history",
        value: Value::Count { min: 0, max: 1_000_000, set: |c, n| c.history.count = n as usize },
    },
    Spec {
        name: "history_age",
        default: "5m",
        live: live!(history.age_ms),
        help: "How long a message is kept",
        value: Value::Time { min: 100, max: 365 * DAY, set: |c, n| c.history.age_ms = n },
    },
    Spec {
        name: "history_bytes",
        default: "4MB",
        live: live!(history.bytes),
        help: "Bytes kept for each channel",
        value: Value::Size { min: 0, max: 16 * GB, set: |c, n| c.history.bytes = n as usize },
    },
    Spec {
        name: "history_total",
        default: "64MB",
        live: live!(history_total),
        help: "Bytes kept for all channels together. Beyond that, the oldest messages go. A message counts with its \
               payload, its event type and 160 bytes more, here and in `history_bytes`. The hub also keeps each \
               encoded form in which the message was sent. These forms do not count; each is about as large as the \
               payload, or up to six times as large if JSON has to escape all of it",
        value: Value::Size { min: 0, max: 1024 * GB, set: |c, n| c.history_total = n as usize },
    },
];
