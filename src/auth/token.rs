//! The header (RFC 7515, section 4) and the claims (RFC 7519, section 4) of a token.
//!
//! They are parsed here, and the crate that knows the algorithms only verifies the signature. That crate's parser
//! expects every parameter of a header to be a string, and a key in it to be of a kind that it knows. But a parameter
//! that is not understood must be ignored (RFC 7515, section 4), whatever its value is.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine as _;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny};
use serde::Deserialize;
use serde_json::Value;

/// The most by which the clocks of the issuer and of this host may differ.
pub(super) const LEEWAY_SECONDS: i64 = 5;

/// A token in its three parts.
pub(super) struct Token<'t> {
    pub(super) header: Header,
    /// The signed part: header and claims in base64, as they came.
    pub(super) signed: &'t str,
    /// The signature in base64, as it came.
    pub(super) signature: &'t str,
    claims: &'t str,
}

/// The parameters of a header that are used. `jku`, `jwk`, `x5u` and `x5c` are ignored.
#[derive(Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    /// Whether the header has this parameter, with any value.
    #[serde(default, deserialize_with = "is_there")]
    pub(super) crit: bool,
}

/// The claims that are used.
#[derive(Deserialize)]
pub(super) struct Claims {
    pub(super) sub: Option<String>,
    /// Seconds since 1970, perhaps with a fraction (RFC 7519, section 2).
    pub(super) exp: f64,
    #[serde(default, deserialize_with = "number")]
    nbf: Option<f64>,
    /// It may have any form, since it is checked only if the option `jwt_audience` is set.
    aud: Option<Value>,
    iss: Option<Value>,
    #[serde(default)]
    push: Option<Push>,
    #[serde(rename = "push.subscribe", default)]
    flat_subscribe: Option<Vec<String>>,
    #[serde(rename = "push.publish", default)]
    flat_publish: Option<Vec<String>>,
    #[serde(rename = "push.info", default)]
    flat_info: Option<String>,
}

#[derive(Deserialize, Default)]
struct Push {
    #[serde(default)]
    subscribe: Vec<String>,
    #[serde(default)]
    publish: Vec<String>,
    #[serde(default)]
    info: Option<String>,
}

impl<'t> Token<'t> {
    /// Parses a token, but not its claims. `None`: the text is not a token.
    pub(super) fn read(text: &'t str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        Some(Token { header: object(header)?, signed, signature, claims })
    }

    /// The claims, or what is wrong with them. To be believed only once the signature is verified.
    pub(super) fn claims(&self) -> Result<Claims, &'static str> {
        // Which of them it was, only a parser's words could say.
        object(self.claims).ok_or(
            "its claims are not as they must be: exp and nbf are numbers, sub and push.info are texts, push.subscribe \
             and push.publish are lists of texts",
        )
    }
}

impl Claims {
    /// Checks that the claims are valid now, and that audience and issuer are the right ones. An empty audience or
    /// issuer is not checked.
    pub(super) fn check(&self, audience: &str, issuer: &str, now: i64) -> Result<(), &'static str> {
        let (now, leeway) = (now as f64, LEEWAY_SECONDS as f64);
        if !(0.0..i64::MAX as f64).contains(&self.exp) {
            return Err("exp is not a time");
        }
        if self.exp + leeway < now {
            return Err("it has expired (exp)");
        }
        if self.nbf.is_some_and(|from| from > now + leeway) {
            return Err("it is not valid yet (nbf)");
        }
        // The claim is a string or a list of strings (RFC 7519, section 4.1.3).
        let for_us = |value: &Value| match value {
            Value::Array(several) => several.iter().any(|one| one == audience),
            one => one == audience,
        };
        if !audience.is_empty() && !self.aud.as_ref().is_some_and(for_us) {
            return Err("it is for another audience (aud)");
        }
        if !issuer.is_empty() && !self.iss.as_ref().is_some_and(|value| value == issuer) {
            return Err("it is from another issuer (iss)");
        }
        Ok(())
    }

    /// What those who follow the presence of a channel are told of the user. The flat claim has precedence.
    pub(super) fn take_info(&mut self) -> Option<String> {
        self.flat_info.take().or_else(|| self.push.as_mut()?.info.take())
    }

    /// The channels that the token allows to subscribe and to publish to. The flat claims have precedence.
    pub(super) fn into_lists(self) -> (Vec<String>, Vec<String>) {
        let push = self.push.unwrap_or_default();
        (self.flat_subscribe.unwrap_or(push.subscribe), self.flat_publish.unwrap_or(push.publish))
    }
}

/// A part that is a JSON object.
fn object<T: DeserializeOwned>(part: &str) -> Option<T> {
    let json = URL_SAFE_NO_PAD.decode(part).ok()?;
    // An array would be taken for the fields in their order.
    if !json.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    serde_json::from_slice(&json).ok()
}

fn is_there<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

/// A field that must be a number if it is there. Null is not a number.
fn number<'de, D: Deserializer<'de>>(value: D) -> Result<Option<f64>, D::Error> {
    f64::deserialize(value).map(Some)
}
