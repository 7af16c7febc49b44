//! Options: what may wait for slow clients, busy threads and the host.

use super::{Spec, Value, GB, KB, MB};
use crate::events::EventKinds;
use crate::hub::SlowPolicy;

pub(super) static OPTIONS: &[Spec] = &[
    Spec {
        name: "outbox",
        default: "1MB",
        live: live!(outbox),
        help: "Bytes that may wait for a client that reads slowly. Beyond that, `slow_policy` decides",
        value: Value::Size { min: 4 * KB, max: GB, set: |c, n| c.outbox = n as usize },
    },
    Spec {
        name: "slow_policy",
        default: "disconnect",
        live: live!(slow_policy),
        help: "What gives way when a client's outbox is full. `disconnect`: the connection; it is closed with 4429, \
               and the client recovers with its position. `drop-oldest`: the messages that have waited longest; a \
               gap stands in their place. `latest`: all waiting messages of a channel but the newest. \
               `channel.PATTERN.slow_policy` sets it for the channels that match",
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
        help:
            "Bytes that may wait for all slow clients together, a share for each thread. The less of it is left, the \
               smaller is the bound for each client. So the clients with the most waiting bytes reach the bound first",
        value: Value::Size { min: MB, max: 1024 * GB, set: |c, n| c.outbox_total = n as usize },
    },
    Spec {
        name: "inbox_total",
        default: "64MB",
        live: live!(inbox_total),
        help: "Bytes of unfinished messages and requests that may be kept for all clients together. Beyond that, the \
               largest is closed with 4429, or gets 503. The bodies of control API requests may take as much again",
        value: Value::Size { min: MB, max: 1024 * GB, set: |c, n| c.inbox_total = n as usize },
    },
    Spec {
        name: "mailbox",
        default: "8192",
        live: fixed!(mailbox),
        help: "Messages that may wait for a thread. Beyond that, publishing returns PUSH_ERR_BUSY",
        value: Value::Count { min: 16, max: 1 << 20, set: |c, n| c.mailbox = n as usize },
    },
    Spec {
        name: "events",
        default: "open,message,close",
        live: live!(events),
        help: "Which events about connections the host gets. Name only those that the host uses: then the rest do \
               not wake it. `subscribe` and `unsubscribe` tell each channel that a connection gets and loses. \
               With `call` clients may call the host and wait for its answer. With `attach` a kind must stand in \
               the hub's option and in the host's. \
               Questions with auth=host, and events about draining, always come",
        value: Value::Text {
            allowed: "none, or a list of open, message, close, subscribe, unsubscribe and call",
            set: |c, text| EventKinds::read(text).map(|kinds| c.events = kinds),
        },
    },
    Spec {
        name: "event_queue",
        default: "4096",
        live: fixed!(event_queue),
        help: "Events that may wait for the host, each with up to `max_client_message` bytes. Beyond that, the \
               clients that cause them are not read. Ends are told all the same: of connections, and with `unsubscribe` \
               of each of their channels. At four times the number new clients get 503",
        value: Value::Count { min: 16, max: 1 << 20, set: |c, n| c.event_queue = n as usize },
    },
];
