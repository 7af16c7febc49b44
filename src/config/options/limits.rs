//! Options: how many connections, how fast, how large; and the proxies that say whose they are.

use super::{Spec, Value, KB, MB, MINUTE};
use crate::config::values::{ForwardedHeader, TrustedProxies};

pub(super) static OPTIONS: &[Spec] = &[
    Spec {
        name: "max_connections",
        default: "0",
        live: live!(max_connections),
        help: "Open connections. Further clients get 503. 0: as many as descriptors allow",
        value: Value::Count { min: 0, max: 10_000_000, set: |c, n| c.max_connections = n as usize },
    },
    Spec {
        name: "max_per_address",
        default: "0",
        live: live!(max_per_address),
        help: "Open connections of one IPv4 address or one IPv6 network of 64 bits. Further ones get 429. 0: no \
               limit, since an address may be a proxy's or a whole town's",
        value: Value::Count { min: 0, max: 10_000_000, set: |c, n| c.max_per_address = n as usize },
    },
    Spec {
        name: "max_per_user",
        default: "0",
        live: live!(max_per_user),
        help: "Open subscription connections of one user. Further ones get 429. 0: no limit",
        value: Value::Count { min: 0, max: 10_000_000, set: |c, n| c.max_per_user = n as usize },
    },
    Spec {
        name: "connect_rate",
        default: "0",
        live: live!(connect_rate),
        help: "New connections per second. Further ones get 429. A second's worth may come at once. 0: no limit",
        value: Value::Count { min: 0, max: 1_000_000, set: |c, n| c.connect_rate = n },
    },
    Spec {
        name: "connect_rate_per_address",
        default: "0",
        live: live!(connect_rate_per_address),
        help: "The same for each address. Behind a trusted proxy it counts requests, not connections",
        value: Value::Count { min: 0, max: 1_000_000, set: |c, n| c.connect_rate_per_address = n },
    },
    Spec {
        name: "client_rate",
        default: "1000",
        live: live!(client_rate),
        help: "Messages and pings per second of one WebSocket client. A second's worth may come at once. A client \
               that sends more is read more slowly; one that is ten seconds ahead is closed with 4429. Each token \
               that it sends takes a tenth of a second. 0: no limit",
        value: Value::Count { min: 0, max: 1_000_000, set: |c, n| c.client_rate = n },
    },
    Spec {
        name: "trusted_proxies",
        default: "",
        live: live!(trusted_proxies),
        help: "Proxies that may say what a client's address is, in `forwarded_header` and with `proxy_protocol`",
        value: Value::Text {
            allowed: "a list of IP addresses, networks such as 10.0.0.0/8, and unix for those that come through a \
                      Unix socket",
            set: |c, text| TrustedProxies::read(text).map(|trusted| c.trusted_proxies = trusted),
        },
    },
    Spec {
        name: "forwarded_header",
        default: "x-forwarded-for",
        live: live!(forwarded_header),
        help: "The header that these proxies write. The other one is ignored, because it may be the client's own",
        value: Value::Text {
            allowed: "x-forwarded-for or forwarded",
            set: |c, text| {
                c.forwarded_header = match text {
                    "x-forwarded-for" => ForwardedHeader::XForwardedFor,
                    "forwarded" => ForwardedHeader::Forwarded,
                    _ => return None,
                };
                Some(())
            },
        },
    },
    Spec {
        name: "proxy_protocol",
        default: "false",
        live: fixed!(proxy_protocol),
        help: "Whether connections to `listen` begin with a PROXY header, version 1 or 2. If it is true, every \
               connection must begin with one, and must come from `trusted_proxies`",
        value: Value::Flag { set: |c, flag| c.proxy_protocol = flag },
    },
    Spec {
        name: "max_channels",
        default: "100",
        live: live!(max_channels),
        help: "Channels of one connection",
        value: Value::Count { min: 1, max: 10_000, set: |c, n| c.max_channels = n as usize },
    },
    Spec {
        name: "max_calls",
        default: "16",
        live: live!(max_calls),
        help:
            "Calls of one connection that wait for the host's answer (`events` with `call`). Further ones are refused",
        value: Value::Count { min: 1, max: 1000, set: |c, n| c.max_calls = n as usize },
    },
    Spec {
        name: "call_timeout",
        default: "10s",
        live: live!(call_timeout_ms),
        help: "How long a client's call waits for the host's answer. Then the client gets an error",
        value: Value::Time { min: 100, max: 10 * MINUTE, set: |c, n| c.call_timeout_ms = n },
    },
    Spec {
        name: "max_message",
        default: "1MB",
        live: live!(max_message),
        help: "The largest payload that may be published. If it is not set and `engine` is a NATS: 1020KB, which fits \
               the defaults there",
        value: Value::Size {
            min: 1,
            max: 64 * MB,
            set: |c, n| (c.max_message, c.sets_max_message) = (n as usize, true),
        },
    },
    Spec {
        name: "max_client_message",
        default: "64KB",
        live: live!(max_client_message),
        help: "The largest message that a client may send. For a larger one the connection is closed with 1009",
        value: Value::Size { min: 1, max: 64 * MB, set: |c, n| c.max_client_message = n as usize },
    },
    Spec {
        name: "max_head",
        default: "16KB",
        live: live!(max_head),
        help: "The largest request head. For a larger one the client gets 413, or 414 if the URL is the reason",
        value: Value::Size { min: KB, max: 64 * KB, set: |c, n| c.max_head = n as usize },
    },
];
