//! Options: where is listened, and where subscribers find it.

use super::{list, Spec, Value};
use crate::config::{hosts, values};
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
            set: |c, text| is_path(text).then(|| c.path = text.into()),
        },
    },
    Spec {
        name: "health_path",
        default: "/healthz",
        live: live!(health_path),
        help: "A path at which `listen` answers load balancers: 200, or 503 while the server goes away. Empty: there is \
               none",
        value: Value::Text {
            allowed: "a path that begins with / and has no ?, # or spaces, or nothing",
            set: |c, text| (text.is_empty() || is_path(text)).then(|| c.health_path = text.into()),
        },
    },
    Spec {
        name: "allowed_hosts",
        default: "",
        live: live!(allowed_hosts),
        help: "The names by which clients may address `listen` (`Host`), without ports; `*.example.org`: all below \
               example.org; `*`: any. Names of the loopback, such as localhost, always pass. Empty: any, but on a \
               loopback address with `auth=none` only those, since the page of any site could point its own name there \
               (DNS rebinding)",
        value: Value::Text {
            allowed: "*, or a list of names such as push.example.org, *.example.org",
            set: |c, text| hosts::read_list(list(text)).map(|list| c.allowed_hosts = list),
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

fn is_path(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?' && byte != b'#');
    text.starts_with('/') && text.len() <= 255 && plain
}
