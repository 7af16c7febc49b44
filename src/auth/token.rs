//! What stands in a token: its header (RFC 7515, section 4) and claims (RFC 7519, section 4).
//!
//! Read here, and only its signature by the crate that knows the algorithms. That one would have every parameter of a
//! header be a text, and a key in it one of its own kinds; but what is not understood must be ignored (RFC 7515,
//! section 4), and what nobody looks at can't be wrong.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine as _;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny};
use serde::Deserialize;
use serde_json::Value;

/// How far clocks may differ.
pub(super) const LEEWAY_SECONDS: i64 = 5;

/// A token in its three parts.
pub(super) struct Token<'t> {
    pub(super) header: Header,
    /// What is signed: header and claims, as they came.
    pub(super) signed: &'t str,
    /// In base64, as it came.
    pub(super) signature: &'t str,
    claims: &'t str,
}

/// What is looked at of a header. `jku`, `jwk`, `x5u` and `x5c` are not.
#[derive(Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    /// Whether there is one, whatever it says.
    #[serde(default, deserialize_with = "is_there")]
    pub(super) crit: bool,
}

/// What is looked at of the claims.
#[derive(Deserialize)]
pub(super) struct Claims {
    pub(super) sub: Option<String>,
    /// Seconds since 1970, perhaps with a fraction (RFC 7519, section 2).
    pub(super) exp: f64,
    #[serde(default, deserialize_with = "number")]
    nbf: Option<f64>,
    /// Of any form: it matters only where it is asked for.
    aud: Option<Value>,
    iss: Option<Value>,
    #[serde(default)]
    push: Option<Push>,
    #[serde(rename = "push.subscribe", default)]
    flat_subscribe: Option<Vec<String>>,
    #[serde(rename = "push.publish", default)]
    flat_publish: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
struct Push {
    #[serde(default)]
    subscribe: Vec<String>,
    #[serde(default)]
    publish: Vec<String>,
}

impl<'t> Token<'t> {
    /// Takes a token apart; `None`: it is none.
    pub(super) fn read(text: &'t str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        Some(Token { header: object(header).ok()?, signed, signature, claims })
    }

    /// The claims, or what is wrong with them. To be believed only once the signature is verified.
    pub(super) fn claims(&self) -> Result<Claims, String> {
        object(self.claims)
    }
}

impl Claims {
    /// Whether they hold now, and are for whom they should be; an audience or issuer that is empty is not asked for.
    pub(super) fn check(&self, audience: &str, issuer: &str, now: i64) -> Result<(), &'static str> {
        let (now, leeway) = (now as f64, LEEWAY_SECONDS as f64);
        if !(0.0..i64::MAX as f64).contains(&self.exp) {
            return Err("exp is no time");
        }
        if self.exp + leeway < now {
            return Err("it has expired (exp)");
        }
        if self.nbf.is_some_and(|from| from > now + leeway) {
            return Err("it is not valid yet (nbf)");
        }
        // One text, or a list of them (RFC 7519, section 4.1.3).
        let for_us = |value: &Value| match value {
            Value::Array(several) => several.iter().any(|one| one == audience),
            one => one == audience,
        };
        if !audience.is_empty() && !self.aud.as_ref().is_some_and(for_us) {
            return Err("it is for somebody else (aud)");
        }
        if !issuer.is_empty() && !self.iss.as_ref().is_some_and(|value| value == issuer) {
            return Err("it is from somebody else (iss)");
        }
        Ok(())
    }

    /// What it lets subscribe and publish to. The flat claims win.
    pub(super) fn into_lists(self) -> (Vec<String>, Vec<String>) {
        let push = self.push.unwrap_or_default();
        (self.flat_subscribe.unwrap_or(push.subscribe), self.flat_publish.unwrap_or(push.publish))
    }
}

/// A part that is a JSON object.
fn object<T: DeserializeOwned>(part: &str) -> Result<T, String> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|error| error.to_string())?;
    // An array would be taken for the fields in their order.
    if !json.trim_ascii_start().starts_with(b"{") {
        return Err("no JSON object".into());
    }
    serde_json::from_slice(&json).map_err(|error| error.to_string())
}

fn is_there<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

/// What must be a number if it is there: null is none.
fn number<'de, D: Deserializer<'de>>(value: D) -> Result<Option<f64>, D::Error> {
    f64::deserialize(value).map(Some)
}
