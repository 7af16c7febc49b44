//! Options: what may wait for slow clients, busy threads and the host.

use super::{Spec, Value, GB, KB, MB};
use crate::events::EventKinds;
use crate::hub::SlowPolicy;

pub(super) static OPTIONS: &[Spec] = &[
    Spec {
        name: "outbox",
        default: "1MB",
        live: live!(outbox),
        help: "Bytes that may wait for a client that reads slowly; beyond that `slow_policy` decides",
        value: Value::Size { min: 4 * KB, max: GB, set: |c, n| c.outbox = n as usize },
    },
    Spec {
        name: "slow_policy",
        default: "disconnect",
        live: live!(slow_policy),
        help: "What gives way when a client's outbox is full: the connection, which is closed with 4429 and recovers \
               with its position; the messages that have waited longest, with a gap in their place; all waiting \
               messages of a channel but the newest. `channel.PATTERN.slow_policy` sets it for the channels that \
               match",
        value: Value::Text {
            allowed: "disconnect, drop-oldest or latest",
            set: |c, text| {
                c.slow_policy = match text {
                    "disconnect" => SlowPolicy::Disconnect,
                    "drop-oldest" => SlowPolicy::DropOldest,
                    "latest" => SlowPolicy::Latest,
                    _ => return None,
                };
                Some(())
            },
        },
    },
    Spec {
        name: "outbox_total",
        default: "1GB",
        live: live!(outbox_total),
        help: "Bytes that may wait for all slow clients together, a share for each thread. The less of it is left, \
               the less may wait for one client: those with the most give way first",
        value: Value::Size { min: MB, max: 1024 * GB, set: |c, n| c.outbox_total = n as usize },
    },
    Spec {
        name: "mailbox",
        default: "8192",
        live: fixed!(mailbox),
        help: "Messages that may wait for a thread; beyond that publishing answers PUSH_ERR_BUSY",
        value: Value::Count { min: 16, max: 1 << 20, set: |c, n| c.mailbox = n as usize },
    },
    Spec {
        name: "events",
        default: "open,message,close",
        live: live!(events),
        help: "Which events about connections the host gets. Naming only those that it uses saves waking it for the \
               rest; questions with auth=host and those about draining always come",
        value: Value::Text {
            allowed: "none, or a list of open, message and close",
            set: |c, text| EventKinds::read(text).map(|kinds| c.events = kinds),
        },
    },
    Spec {
        name: "event_queue",
        default: "4096",
        live: fixed!(event_queue),
        help: "Events that may wait for the host, each with up to `max_client_message` bytes; beyond that the clients \
               that cause them are not read",
        value: Value::Count { min: 16, max: 1 << 20, set: |c, n| c.event_queue = n as usize },
    },
];
