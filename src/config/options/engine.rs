//! Options: whether what was published outlives the process.

use super::{Spec, Value, DAY, GB, KB, MB, MINUTE};
use crate::config::values::{self, Engine};
use crate::engine::Sync;

pub(super) static OPTIONS: &[Spec] = &[
    Spec {
        name: "engine",
        default: "memory",
        live: fixed!(engine),
        help: "Where history is kept. `file:DIRECTORY`: in a log on disk, too, so that it survives a restart; the \
               directory belongs to this hub alone, and is made if only it is missing. See docs/engines.md",
        value: Value::Text {
            allowed: "memory, or file:DIRECTORY",
            set: |c, text| {
                c.engine = match text.strip_prefix("file:") {
                    _ if text == "memory" => Engine::Memory,
                    Some(path) if !path.is_empty() && !path.contains('\0') => Engine::File(path.into()),
                    _ => return None,
                };
                Some(())
            },
        },
    },
    Spec {
        name: "engine_sync",
        default: "interval",
        live: fixed!(engine_sync),
        help: "When the log is made to outlast a loss of power. `interval`: each second. `never`: when the system \
               sees fit",
        value: Value::Text {
            allowed: "interval or never",
            set: |c, text| {
                c.engine_sync = match text {
                    "interval" => Sync::Interval,
                    "never" => Sync::Never,
                    _ => return None,
                };
                Some(())
            },
        },
    },
    Spec {
        name: "engine_retention_age",
        default: "auto",
        live: live!(engine_retention_age_ms),
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
        live: live!(engine_retention_bytes),
        help: "Bytes of the log, beyond which its oldest segments go. `auto`: four times `history_total`, and at \
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
        help: "Bytes that may wait to be written to the log; beyond that publishing answers PUSH_ERR_BUSY",
        value: Value::Size { min: 64 * KB, max: 16 * GB, set: |c, n| c.engine_buffer = n as usize },
    },
];
