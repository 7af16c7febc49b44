//! Options: how the library does its work, and what clients may.

use super::{Spec, Value};
use crate::config::origins;
use crate::log::{Level, LogTo};

pub(super) static OPTIONS: &[Spec] = &[
    Spec {
        name: "log",
        default: "callback",
        live: fixed!(log),
        help: "How the host gets the log. `callback`: its function gets each line (push_config_on_log); without a \
               function and without `log_fd` there is no log. `pull`: it takes the lines with push_next_log, as hosts \
               need that can't be called from a thread of the library (LuaJIT, Ruby). Up to 4,096 lines wait; further \
               ones are dropped and counted",
        value: Value::Text {
            allowed: "callback or pull",
            set: |c, text| {
                c.log = match text {
                    "callback" => LogTo::Callback,
                    "pull" => LogTo::Pull,
                    _ => return None,
                };
                Some(())
            },
        },
    },
    Spec {
        name: "log_fd",
        default: "none",
        live: fixed!(log_fd),
        help: "The number of an open descriptor to which the log is written, such as 2 for stderr: a file, pipe, \
               terminal or connected socket. Each line is one write with time, level and text, of at most 4,096 bytes. \
               Up to 4,096 lines wait for a slow reader; further ones are dropped and counted. The descriptor is \
               duplicated at the start, so a log file that is rotated needs copytruncate or a pipe, and the end of \
               the server drops the program's fcntl locks on that file. It is not allowed beside a callback or \
               `log=pull`",
        value: Value::Text {
            allowed: "none, or the number of a descriptor",
            set: |c, text| {
                c.log_fd = match text {
                    "none" => None,
                    // The standard library's numbers may begin with a sign, or with zeros.
                    number => Some(number.parse().ok().filter(|fd: &i32| *fd >= 0 && fd.to_string() == number)?),
                };
                Some(())
            },
        },
    },
    Spec {
        name: "log_level",
        default: "info",
        live: live!(log_level),
        help: "The least severe level that is logged. At most 10 log lines of one kind about refusals and ends of \
               connections are written in 10 seconds",
        value: Value::Text {
            allowed: "error, warn, info or debug",
            set: |c, text| {
                c.log_level = match text {
                    "error" => Level::Error,
                    "warn" => Level::Warn,
                    "info" => Level::Info,
                    "debug" => Level::Debug,
                    _ => return None,
                };
                Some(())
            },
        },
    },
    Spec {
        name: "log_addresses",
        default: "true",
        live: live!(log_addresses),
        help: "Whether log lines about clients give their addresses",
        value: Value::Flag { set: |c, flag| c.log_addresses = flag },
    },
    Spec {
        name: "threads",
        default: "0",
        live: fixed!(threads),
        help: "Threads that serve subscribers. 0: one for each core, at most 8",
        value: Value::Count { min: 0, max: 64, set: |c, n| c.threads = n as usize },
    },
    Spec {
        name: "allowed_origins",
        default: "",
        live: live!(allowed_origins),
        help: "Web origins that may subscribe besides the host's own, written as browsers send them. \
               `https://*.example.org`: all subdomains of example.org, but not example.org itself. `*`: all origins",
        value: Value::Text {
            allowed: "*, or a list of origins such as https://example.org, https://*.example.org",
            set: |c, text| origins::read(text).ok().map(|list| c.allowed_origins = list),
        },
    },
    Spec {
        name: "client_publish",
        default: "false",
        live: live!(client_publish),
        help: "Whether clients without a grant may publish (subprotocol push.v1.json)",
        value: Value::Flag { set: |c, flag| c.client_publish = flag },
    },
    Spec {
        name: "user_channel",
        default: "false",
        live: fixed!(user_channel),
        help: "Whether each user has a channel, `user:NAME`, to which push_publish_user publishes. A connection whose \
               grant or token names a user has it beside its other channels, without asking. Then no client can name a \
               channel that begins with `user:`, and no grant or token may. Hubs that share a log need the same value",
        value: Value::Flag { set: |c, flag| c.user_channel = flag },
    },
    Spec {
        name: "compression",
        default: "false",
        live: live!(compression),
        help: "Whether messages to and from WebSocket clients that offer it are compressed (permessage-deflate). Each \
               published message is compressed once for all of them. It is off by default for two reasons. First, \
               sizes leak: if a message contains a secret and also text that an attacker can choose, the attacker can \
               guess the secret from the sizes on the wire (CRIME, BREACH), even through TLS. Second, an uncompressed \
               message needs no copy. Compression costs about 350 KB for each of `threads`, and nothing per client",
        value: Value::Flag { set: |c, flag| c.compression = flag },
    },
];
