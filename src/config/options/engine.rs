//! Options: whether what was published outlives the process.

use super::{Spec, Value, DAY, GB, KB, MB, MINUTE};
use crate::config::showing::or_auto;
use crate::config::values::{self, Engine};
use crate::engine::{Sync, Url};

pub(super) static OPTIONS: &[Spec] = &[
    Spec {
        name: "engine",
        default: "memory",
        live: fixed!(engine),
        help: "Where history is kept. `file:DIRECTORY`: in a log on disk as well, so that it survives a restart. \
               The directory belongs to this hub alone. If it does not exist, the hub makes it, but not the \
               directories above it. The URL of a Redis (`redis://`, `rediss://`, `redis+sentinel://`) or of a NATS \
               with JetStream (`nats://`, `tls://`): in a log that the hubs of several machines share. \
               Secrets in the URL may be `file:PATH`. See docs/engines.md",
        value: Value::Text {
            allowed: "memory, file:DIRECTORY, or a URL with redis://, rediss://, redis+sentinel://, nats:// or tls://",
            set: |c, text| {
                c.engine = match text.strip_prefix("file:") {
                    _ if text == "memory" => Engine::Memory,
                    Some(path) if !path.is_empty() && !path.contains('\0') => Engine::File(path.into()),
                    _ => Engine::Log(Url::parse(text)?),
                };
                Some(())
            },
        },
    },
    Spec {
        name: "engine_namespace",
        default: "push",
        live: fixed!(engine_namespace),
        help: "Names the log that hubs share, among other logs on the same servers. All hubs with the same namespace \
               are one cluster: each of them applies every message",
        value: Value::Text {
            allowed: "1 to 64 letters, digits, - and _",
            set: |c, text| {
                let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
                let fits = (1..=64).contains(&text.len()) && text.bytes().all(fits);
                fits.then(|| c.engine_namespace = text.into())
            },
        },
    },
    Spec {
        name: "engine_sync",
        default: "interval",
        live: fixed!(engine_sync),
        help: "When the log is synced, so that it outlasts a loss of power. `interval`: each second. `always`: before \
               a message is delivered, many messages at once. `never`: when the system decides to",
        value: Value::Text {
            allowed: "interval, always or never",
            set: |c, text| {
                c.engine_sync = match text {
                    "interval" => Sync::Interval,
                    "always" => Sync::Always,
                    "never" => Sync::Never,
                    _ => return None,
                };
                Some(())
            },
        },
    },
    Spec {
        name: "engine_timeout",
        default: "5s",
        live: live!(engine_timeout_ms),
        help:
            "With `engine_sync=always`, or with a log that hubs share: how long a call that returns a position waits \
               for that position. After this time it returns PUSH_ERR_TIMEOUT: the message may have been published, or \
               may be published later. With a log that hubs share this is also how long its servers may take to \
               answer; less than 100 ms counts as 100 ms",
        value: Value::Time { min: 0, max: MINUTE, set: |c, n| c.engine_timeout_ms = n },
    },
    Spec {
        name: "engine_retention_age",
        default: "auto",
        live: live!(engine_retention_age_ms, |c| or_auto(c.engine_retention_age_ms, values::show_time)),
        help: "How long the log keeps messages. `auto`: as long as the longest `history_age`, or `key_window`",
        value: Value::Text {
            allowed: "auto, or a time from 1m to 365d",
            set: |c, text| {
                let age = values::time_ms(text).filter(|ms| (MINUTE..=365 * DAY).contains(ms));
                c.engine_retention_age_ms = if text == "auto" { None } else { Some(age?) };
                Some(())
            },
        },
    },
    Spec {
        name: "engine_retention_bytes",
        default: "auto",
        live: live!(engine_retention_bytes, |c| or_auto(c.engine_retention_bytes, values::show_size)),
        help: "Bytes of the log. Beyond that, its oldest segments go. `auto`: four times `history_total`, and at \
               least 256MB",
        value: Value::Text {
            allowed: "auto, or a size from 1MB to 1048576GB",
            set: |c, text| {
                let bytes = values::size(text).filter(|bytes| (MB..=(GB << 20)).contains(bytes));
                c.engine_retention_bytes = if text == "auto" { None } else { Some(bytes?) };
                Some(())
            },
        },
    },
    Spec {
        name: "engine_buffer",
        default: "16MB",
        live: live!(engine_buffer),
        help: "Bytes that may wait for the log: to be written, to be synced before they are delivered (`always`), or \
               to come back from a log that hubs share. Beyond that, publishing returns PUSH_ERR_BUSY",
        value: Value::Size { min: 64 * KB, max: 16 * GB, set: |c, n| c.engine_buffer = n as usize },
    },
];
