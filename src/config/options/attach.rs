//! Options: hubs in another process, from both sides.

use super::{numbers, Spec, Value, GB, KB, MINUTE};
use crate::config::showing::Raw;
use crate::config::values;

pub(super) static OPTIONS: &[Spec] = &[
    Spec {
        name: "attach",
        default: "none",
        live: fixed!(attach),
        help:
            "Attaches to the hub of another process, at its `attach_listen`, instead of starting one here. Then only \
               these other options apply: `auth=none`, `events`, `event_queue`, `log`, `log_fd`, `log_level`, \
               `log_addresses`, `attach_name`, `attach_timeout` and `attach_buffer`, and for `push_refusal` also \
               `allowed_origins` and `retry`. `attach_listen`, `control`, `engine` and `trace` are errors",
        value: Value::Text {
            allowed: "none, or unix:PATH",
            set: |c, text| values::unix_path(text).map(|path| c.attach = path),
        },
    },
    Spec {
        name: "attach_name",
        default: "host",
        live: fixed!(attach_name),
        help: "The name of this host at the hub. Hosts of the same name stand in for each other: when one is gone, \
               its clients' events go to another",
        value: Value::Text {
            allowed: "1 to 64 bytes without control characters",
            set: |c, text| {
                let fits = (1..=64).contains(&text.len()) && !text.chars().any(char::is_control);
                fits.then(|| c.attach_name = text.into())
            },
        },
    },
    Spec {
        name: "attach_timeout",
        default: "2s",
        live: live!(attach_timeout_ms),
        help: "How long a call that needs the hub's answer waits for it. Then the call returns PUSH_ERR_BUSY if \
               nothing was done, else PUSH_ERR_TIMEOUT. A connection that is handed over waits for the same time if \
               the hub can't be reached or takes nothing. After that the client gets 503, and is told to come back",
        value: Value::Time { min: 0, max: MINUTE, set: |c, n| c.attach_timeout_ms = n },
    },
    Spec {
        name: "attach_buffer",
        default: "16MB",
        live: live!(attach_buffer),
        help: "Bytes that may wait for the hub while it is slow or can't be reached. Beyond that, publishing returns \
               PUSH_ERR_BUSY. Other calls have 1 MB more",
        value: Value::Size { min: 64 * KB, max: 16 * GB, set: |c, n| c.attach_buffer = n as usize },
    },
    Spec {
        name: "attach_listen",
        default: "none",
        live: fixed!(attach_listen),
        help: "Where hosts of other processes may attach to this hub. Events then go to them",
        value: Value::Text {
            allowed: "none, or unix:PATH",
            set: |c, text| values::unix_path(text).map(|path| c.attach_listen = path),
        },
    },
    Spec {
        name: "attach_mode",
        default: "0600",
        live: fixed!(attach_mode, |config| Raw::Text(format!("{:04o}", config.attach_mode))),
        help: "The mode of that socket's file",
        value: Value::Text {
            allowed: "an octal number from 0600 to 0777",
            set: |c, text| {
                let mode = u32::from_str_radix(text, 8).ok()?;
                (mode & !0o777 == 0 && mode & 0o600 == 0o600).then(|| c.attach_mode = mode)
            },
        },
    },
    Spec {
        name: "attach_uids",
        default: "",
        live: live!(attach_uids),
        help: "Users, by number, whose processes may attach. If this and `attach_gids` are empty: the hub's own user",
        value: Value::Text {
            allowed: "a list of numbers",
            set: |c, text| numbers(text).map(|list| c.attach_uids = list),
        },
    },
    Spec {
        name: "attach_gids",
        default: "",
        live: live!(attach_gids),
        help: "Groups, by number, whose processes may attach. Only a process's primary group counts",
        value: Value::Text {
            allowed: "a list of numbers",
            set: |c, text| numbers(text).map(|list| c.attach_gids = list),
        },
    },
];
