//! Options: how long something may take, or goes on.

use super::{Spec, Value, DAY, HOUR, MINUTE};

pub(super) static OPTIONS: &[Spec] = &[
    Spec {
        name: "head_timeout",
        default: "10s",
        live: live!(head_timeout_ms),
        help: "How long a client may take to send its request",
        value: Value::Time { min: 100, max: 10 * MINUTE, set: |c, n| c.head_timeout_ms = n },
    },
    Spec {
        name: "message_timeout",
        default: "60s",
        live: live!(message_timeout_ms),
        help: "How long a WebSocket client may take to send one message, and how long any client may take to send one \
               TLS record. Then it is closed with 4408. Pings in between do not extend it",
        value: Value::Time { min: 100, max: HOUR, set: |c, n| c.message_timeout_ms = n },
    },
    Spec {
        name: "heartbeat",
        default: "25s",
        live: live!(heartbeat_ms),
        help: "How often a connection gets a WebSocket ping, an SSE comment or an empty line, whether it is quiet or \
               not. Each interval is shorter by up to an eighth, by chance",
        value: Value::Time { min: 100, max: DAY, set: |c, n| c.heartbeat_ms = n },
    },
    Spec {
        name: "ping_timeout",
        default: "20s",
        live: live!(ping_timeout_ms),
        help: "How long a WebSocket client may take to answer a ping. Then it is closed with 4408. On other \
               transports: a client counts as gone if its machine acknowledges nothing for at least this time",
        value: Value::Time { min: 100, max: HOUR, set: |c, n| c.ping_timeout_ms = n },
    },
    Spec {
        name: "poll_timeout",
        default: "25s",
        live: live!(poll_timeout_ms),
        help: "How long a long-poll waits before it is answered without messages",
        value: Value::Time { min: 100, max: HOUR, set: |c, n| c.poll_timeout_ms = n },
    },
    Spec {
        name: "keep_alive",
        default: "60s",
        live: live!(keep_alive_ms),
        help: "How long a connection stays open between two polls",
        value: Value::Time { min: 100, max: HOUR, set: |c, n| c.keep_alive_ms = n },
    },
    Spec {
        name: "close_timeout",
        default: "5s",
        live: live!(close_timeout_ms),
        help: "How long a client may take to answer a close",
        value: Value::Time { min: 100, max: 10 * MINUTE, set: |c, n| c.close_timeout_ms = n },
    },
    Spec {
        name: "retry",
        default: "2s",
        live: live!(retry_ms),
        help:
            "How long a client is advised to wait before it comes back. A client that is sent away is told this time \
               plus a random time of up to as much again",
        value: Value::Time { min: 100, max: HOUR, set: |c, n| c.retry_ms = n },
    },
];
