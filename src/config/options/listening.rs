//! Options: where is listened, and where subscribers find it.

use super::{Spec, Value};
use crate::config::values;
use std::slice;

pub(super) static OPTIONS: &[Spec] = &[
    Spec {
        name: "listen",
        default: "127.0.0.1:8090",
        live: fixed!(listen),
        help: "Where the library itself accepts subscribers. `none` where the host hands its connections over",
        value: Value::Text {
            allowed: "none, or a list of IP:PORT, localhost:PORT and unix:PATH",
            set: |c, text| values::addresses(text).map(|list| c.listen = list),
        },
    },
    Spec {
        name: "path",
        default: "/push",
        live: live!(path),
        help: "The path of the subscribers' URL",
        value: Value::Text {
            allowed: "a path that begins with / and has no ?, # or spaces",
            set: |c, text| {
                let fits = text.starts_with('/') && text.len() <= 255;
                let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?' && byte != b'#');
                (fits && plain).then(|| c.path = text.into())
            },
        },
    },
    Spec {
        name: "control",
        default: "none",
        live: fixed!(control),
        help: "Where the control API listens. A TCP address needs `control_key`",
        value: Value::Text {
            allowed: "none, or a list of IP:PORT, localhost:PORT and unix:PATH",
            set: |c, text| values::addresses(text).map(|list| c.control = list),
        },
    },
    Spec {
        name: "control_key",
        default: "",
        live: live!(control_key),
        help: "The key that control requests carry as `Authorization: Bearer`. A file is read at the start and at a reload",
        value: Value::Secret {
            allowed: "16 to 255 characters without spaces, file:PATH, or nothing",
            several: false,
            fits: |key| (16..=255).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic),
            set: |c, mut keys| c.control_key = keys.pop().unwrap_or_default(),
            all: |c| slice::from_mut(&mut c.control_key),
        },
    },
];
