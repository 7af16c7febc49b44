//! Options: who may subscribe.

use super::{list, Spec, Value, MINUTE};
use crate::config::{Auth, MIN_SECRET};

pub(super) static OPTIONS: &[Spec] = &[
    Spec {
        name: "auth",
        default: "none",
        live: live!(auth),
        help: "Who may subscribe on the library's own listeners. `none`: everybody. `jwt`: clients with a JSON web \
               token. `host`: clients that the host allows; an event asks it. Connections that the host hands over \
               carry its grant, and this option does not apply to them. A connection may be handed over without a \
               grant only if this option was set to `none`; it is not enough that `none` is the default. This holds \
               with `attach`, too",
        value: Value::Text {
            allowed: "none, jwt or host",
            set: |c, text| {
                c.auth = match text {
                    "none" => Auth::None,
                    "jwt" => Auth::Jwt,
                    "host" => Auth::Host,
                    _ => return None,
                };
                Some(())
            },
        },
    },
    Spec {
        name: "auth_timeout",
        default: "5s",
        live: live!(auth_timeout_ms),
        help: "How long the host may take to answer with auth=host. Then the client gets 503",
        value: Value::Time { min: 100, max: 10 * MINUTE, set: |c, n| c.auth_timeout_ms = n },
    },
    Spec {
        name: "jwt_secret",
        default: "",
        live: live!(jwt_secret),
        help: "Secrets for tokens signed with HS256. There may be several, so that keys can be rotated. Files are \
               read at the start and at a reload",
        value: Value::Secret {
            allowed: "a list of secrets of at least 32 bytes, or of file:PATH",
            several: true,
            fits: |secret| secret.len() >= MIN_SECRET,
            set: |c, secrets| c.jwt_secret = secrets,
            all: |c| &mut c.jwt_secret,
        },
    },
    Spec {
        name: "jwt_keys",
        default: "",
        live: live!(jwt_keys),
        help: "Public keys or certificates in PEM, as paths or inline: RSA of 2048 to 4096 bits for RS256, P-256 \
               for ES256, Ed25519 for EdDSA. All keys of a file are used, but only the first certificate of a chain",
        value: Value::Text {
            allowed: "a list of paths and PEM texts",
            set: |c, text| {
                let keys = list(text);
                keys.iter().all(|key| is_local(key)).then(|| c.jwt_keys = keys)
            },
        },
    },
    Spec {
        name: "jwt_jwks",
        default: "",
        live: live!(jwt_jwks),
        help: "A JWK set, as a path or inline",
        value: Value::Secret {
            allowed: "a path, or a JSON object",
            several: false,
            fits: |text| std::str::from_utf8(text).is_ok_and(is_local),
            set: |c, mut secrets| c.jwt_jwks = secrets.pop().unwrap_or_default(),
            // The prefix alone also means a path. The file is read together with the other keys.
            all: |_| &mut [],
        },
    },
    Spec {
        name: "jwt_audience",
        default: "",
        live: live!(jwt_audience),
        help: "What a token's `aud` must name. Empty: it is not checked",
        value: Value::Text {
            allowed: "text",
            set: |c, text| {
                c.jwt_audience = text.into();
                Some(())
            },
        },
    },
    Spec {
        name: "jwt_issuer",
        default: "",
        live: live!(jwt_issuer),
        help: "What a token's `iss` must be. Empty: it is not checked",
        value: Value::Text {
            allowed: "text",
            set: |c, text| {
                c.jwt_issuer = text.into();
                Some(())
            },
        },
    },
    Spec {
        name: "token_cookie",
        default: "push_token",
        live: live!(token_cookie),
        help: "The cookie that may carry a token, as `Authorization: Bearer` and `?token=` may",
        value: Value::Text {
            allowed: "a cookie's name",
            set: |c, text| {
                let fits =
                    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
                fits.then(|| c.token_cookie = text.into())
            },
        },
    },
];

/// Keys are not fetched over a network: the connection itself would need a key to be trusted.
fn is_local(text: &str) -> bool {
    !text.starts_with("http://") && !text.starts_with("https://")
}
