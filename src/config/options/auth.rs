//! Options: who may subscribe.

use super::{list, MINUTE};
use crate::config::{Auth, MIN_SECRET};

options! {
    /// Who may subscribe on the library's own listeners. `none`: everybody. `jwt`: clients with a JSON web token.
    /// `host`: clients that the host allows; an event asks it. Connections that the host hands over carry its grant,
    /// and this option does not apply to them. A connection may be handed over without a grant only if this option was
    /// set to `none`; it is not enough that `none` is the default. This holds with `attach`, too
    auth = "none", live, Word("none, jwt or host", "none" => Auth::None, "jwt" => Auth::Jwt, "host" => Auth::Host);

    /// How long the host may take to answer with auth=host. Then the client gets 503
    auth_timeout = "5s", live, Time(100, 10 * MINUTE) in auth_timeout_ms;

    /// Secrets for tokens signed with HS256. There may be several, so that keys can be rotated. Files are read at the
    /// start and at a reload
    jwt_secret = "", live, Secret {
        allowed: "a list of secrets of at least 32 bytes, or of file:PATH",
        several: true,
        fits: |secret| secret.len() >= MIN_SECRET,
        set: |c, secrets| c.jwt_secret = secrets,
        all: |c| &mut c.jwt_secret,
    };

    /// Public keys or certificates in PEM, as paths or inline: RSA of 2048 to 4096 bits for RS256, P-256 for ES256,
    /// Ed25519 for EdDSA. All keys of a file are used, but only the first certificate of a chain
    jwt_keys = "", live, Text("a list of paths and PEM texts", keys);

    /// A JWK set, as a path or inline
    jwt_jwks = "", live, Secret {
        allowed: "a path, or a JSON object",
        several: false,
        fits: |text| std::str::from_utf8(text).is_ok_and(is_local),
        set: |c, mut secrets| c.jwt_jwks = secrets.pop().unwrap_or_default(),
        // The prefix alone also means a path. The file is read together with the other keys.
        all: |_| &mut [],
    };

    /// What a token's `aud` must name. Empty: it is not checked
    jwt_audience = "", live, Text("text", |text| Some(text.into()));

    /// What a token's `iss` must be. Empty: it is not checked
    jwt_issuer = "", live, Text("text", |text| Some(text.into()));

    /// The cookie that may carry a token, as `Authorization: Bearer` and `?token=` may
    token_cookie = "push_token", live, Text("a cookie's name", cookie);
}

/// Paths, and texts in PEM.
fn keys(text: &str) -> Option<Vec<String>> {
    let keys = list(text);
    keys.iter().all(|key| is_local(key)).then_some(keys)
}

/// Keys are not fetched over a network: the connection itself would need a key to be trusted.
fn is_local(text: &str) -> bool {
    !text.starts_with("http://") && !text.starts_with("https://")
}

/// The name of a cookie.
fn cookie(text: &str) -> Option<String> {
    let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    fits.then(|| text.into())
}
