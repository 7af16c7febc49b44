//! Options: where is listened, and where subscribers find it.

use super::{list, Spec, Value, DAY, SECOND};
use crate::config::showing::Raw;
use crate::config::{hosts, values};
use std::slice;

pub(super) static OPTIONS: &[Spec] = &[
    Spec {
        name: "listen",
        default: "127.0.0.1:8090",
        live: fixed!(listen),
        help: "Where the library itself accepts subscribers. `none`: nowhere; the host hands its connections over. At \
               `tls:` addresses it speaks HTTPS and WSS, with `tls_certificate`",
        value: Value::Text {
            allowed: "none, or a list of IP:PORT, localhost:PORT, tls:IP:PORT and unix:PATH",
            set: |c, text| values::addresses(text).map(|list| c.listen = list),
        },
    },
    Spec {
        name: "tls_certificate",
        default: "",
        live: live!(tls_certificate),
        help: "The file with the certificate in PEM, and those of its issuers behind it (Let's Encrypt's \
               `fullchain.pem`). Several files: the client gets the one for the name that it asks for. They are read \
               at the start and at a reload",
        value: Value::Text {
            allowed: "a list of paths, or nothing",
            set: |c, text| paths(text).map(|list| c.tls_certificate = list),
        },
    },
    Spec {
        name: "tls_key",
        default: "",
        live: live!(tls_key),
        help: "The file with the private key of the certificate in PEM (`privkey.pem`), without a passphrase. One for \
               each file in `tls_certificate`, in the same order",
        value: Value::Text {
            allowed: "a list of paths, or nothing",
            set: |c, text| paths(text).map(|list| c.tls_key = list),
        },
    },
    Spec {
        name: "tls_client_ca",
        default: "",
        live: live!(tls_client_ca),
        help: "A file with the certificates of authorities in PEM. At `tls:` addresses of `control` each client then \
               needs a certificate of one of them. Then every TCP address of `control` must begin with `tls:`",
        value: Value::Text {
            allowed: "a path, or nothing",
            set: |c, text| (!text.contains('\0')).then(|| c.tls_client_ca = text.into()),
        },
    },
    Spec {
        name: "tls_kernel",
        default: "off",
        live: live!(tls_kernel, |config| Raw::Text(if config.tls_kernel { "auto" } else { "off" }.into())),
        help: "`auto`: after the handshake the kernel encrypts and decrypts the connections to `listen`, where it has \
               TLS (module `tls`) and their cipher. The library does it for all others. `off`: the library does it \
               for all",
        value: Value::Text {
            allowed: "off or auto",
            set: |c, text| {
                c.tls_kernel = match text {
                    "off" => false,
                    "auto" => true,
                    _ => return None,
                };
                Some(())
            },
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
        help: "A path at which `listen` answers load balancers: with 200, or with 503 while the server goes away. \
               Empty: there is no such path",
        value: Value::Text {
            allowed: "a path that begins with / and has no ?, # or spaces, or nothing",
            set: |c, text| (text.is_empty() || is_path(text)).then(|| c.health_path = text.into()),
        },
    },
    Spec {
        name: "allowed_hosts",
        default: "",
        live: live!(allowed_hosts),
        help: "The names by which clients may address `listen` (`Host`), without ports. `*.example.org`: all names \
               below example.org. `*`: any name. Names of the loopback, such as localhost, are always allowed. \
               Empty: any name, except on a loopback address with `auth=none`: there only the loopback's names are \
               allowed, since the page of any site could point its own name there (DNS rebinding). The console takes \
               the same names at loopback addresses and Unix sockets of `control`",
        value: Value::Text {
            allowed: "*, or a list of names such as push.example.org, *.example.org",
            set: |c, text| hosts::read_list(list(text)).map(|list| c.allowed_hosts = list),
        },
    },
    Spec {
        name: "control",
        default: "none",
        live: fixed!(control),
        help: "Where the control API listens. A TCP address needs `control_key`. At `tls:` addresses it speaks HTTPS",
        value: Value::Text {
            allowed: "none, or a list of IP:PORT, localhost:PORT, tls:IP:PORT and unix:PATH",
            set: |c, text| values::addresses(text).map(|list| c.control = list),
        },
    },
    Spec {
        name: "control_key",
        default: "",
        live: live!(control_key),
        help: "The key that control requests carry as `Authorization: Bearer`. A file is read at the start and at a \
               reload",
        value: Value::Secret {
            allowed: "16 to 255 characters without spaces, file:PATH, or nothing",
            several: false,
            fits: |key| (16..=255).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic),
            set: |c, mut keys| c.control_key = keys.pop().unwrap_or_default(),
            all: |c| slice::from_mut(&mut c.control_key),
        },
    },
    Spec {
        name: "console",
        default: "false",
        live: live!(console),
        help: "Whether the addresses of `control` also have the console, a page for people, at `/console`. It needs \
               `control_key`, with which they log in",
        value: Value::Flag { set: |c, flag| c.console = flag },
    },
    Spec {
        name: "console_session",
        default: "12h",
        live: live!(console_session_ms),
        help: "How long a login to the console lasts. All end when the hub does, or `control_key` changes",
        value: Value::Time { min: SECOND, max: 7 * DAY, set: |c, n| c.console_session_ms = n },
    },
];

/// The paths in a list.
fn paths(text: &str) -> Option<Vec<String>> {
    let paths: Vec<_> = list(text).into_iter().filter(|path| !path.is_empty()).collect();
    paths.iter().all(|path| !path.contains('\0')).then_some(paths)
}

fn is_path(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?' && byte != b'#');
    text.starts_with('/') && text.len() <= 255 && plain
}
