//! JSON web tokens (RFC 7519) as grants.
//!
//! Each key is bound to the one algorithm that its kind allows. A token is checked only against keys of the algorithm
//! that its header names. So `alg: none` has no key, and a public key can't be used as an HMAC secret (RFC 8725,
//! section 2.1). Keys are found by algorithm and by `kid` alone. `jku`, `jwk`, `x5u` and `x5c` in a token's header are
//! ignored: a stranger could use them to bring his own key (section 3.10).

use super::token::{Claims, Token, LEEWAY_SECONDS};
use super::{edwards, public_key};
use crate::config::{secrets, Config, MIN_SECRET};
use crate::error::{Error, Kind};
use crate::grant::Grant;
use crate::http::refusal::Refusal;
use crate::sys::clock;
use aws_lc_rs::signature::{ParsedPublicKey, ECDSA_P256_SHA256_FIXED};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{crypto, Algorithm, DecodingKey, DecodingKeyKind};
use serde::Deserialize;
use std::borrow::Cow;

/// The size of the largest token, in bytes. Larger ones are refused unread.
const MAX_TOKEN: usize = 8 * 1024;
/// The beginning of a key in PEM. A path does not begin with this.
const PEM: &str = "-----BEGIN";

/// Verifies tokens: it has the keys, and the audience and issuer that tokens must name.
pub struct Verifier {
    keys: Vec<Key>,
    /// The options `jwt_audience` and `jwt_issuer`.
    audience: String,
    issuer: String,
}

struct Key {
    algorithm: Algorithm,
    /// The key's name in a JWK set. A token that names another key is not checked against this one.
    id: Option<String>,
    key: DecodingKey,
}

impl Verifier {
    /// Reads the keys that the options `jwt_secret`, `jwt_keys` and `jwt_jwks` name. There must be at least one.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let mut keys = Vec::new();
        for given in &config.jwt_secret {
            let key = DecodingKey::from_secret(given.as_bytes());
            keys.push(Key { algorithm: Algorithm::HS256, id: None, key });
        }
        for given in &config.jwt_keys {
            let file = || secrets::read("jwt_keys", secrets::path_of(given).unwrap_or(given));
            let pem = if given.starts_with(PEM) { Cow::Borrowed(given.as_bytes()) } else { file()?.into() };
            keys.extend(public_keys(&pem).ok_or_else(|| bad_key(given))?);
        }
        if !config.jwt_jwks.is_empty() {
            keys.extend(jwks(&String::from_utf8_lossy(config.jwt_jwks.as_bytes()))?);
        }
        if keys.is_empty() {
            let text = "option auth: jwt needs a key: jwt_secret (HS256), jwt_keys (PEM) or jwt_jwks";
            return Err(Error::new(Kind::Config, text));
        }
        Ok(Verifier { keys, audience: config.jwt_audience.clone(), issuer: config.jwt_issuer.clone() })
    }

    /// Verifies a token and returns the grant that it stands for.
    pub fn verify(&self, token: &str) -> Result<Grant, Refusal> {
        if token.len() > MAX_TOKEN {
            return Err(Refusal::unauthorized(format!("the token is larger than {MAX_TOKEN} bytes")));
        }
        let token = Token::read(token).ok_or_else(|| Refusal::unauthorized("the token is not a JSON web token"))?;
        // A token must be refused if it has critical parameters that are not understood (RFC 7515, section 4.1.11), and
        // none are understood here.
        if token.header.crit {
            return Err(Refusal::unauthorized("the token's header has crit, and no critical parameter is supported"));
        }
        let invalid = |reason: &str| Refusal::unauthorized(format!("the token is not valid: {reason}"));
        let mut fitting = self.keys.iter().filter(|key| key.fits(&token)).peekable();
        if fitting.peek().is_none() {
            return Err(invalid("there is no key for its algorithm and key id"));
        }
        if !fitting.any(|key| key.has_signed(&token)) {
            return Err(invalid("its signature is wrong"));
        }
        let claims = token.claims().map_err(invalid)?;
        claims.check(&self.audience, &self.issuer, clock::unix_seconds()).map_err(invalid)?;
        grant(claims)
    }
}

impl Key {
    /// Whether the token's header fits this key's algorithm and id.
    fn fits(&self, token: &Token<'_>) -> bool {
        let kid = &token.header.kid;
        let same_id = self.id.is_none() || kid.is_none() || self.id == *kid;
        same_id && name(self.algorithm) == Some(&*token.header.alg)
    }

    fn has_signed(&self, token: &Token<'_>) -> bool {
        let verified = crypto::verify(token.signature, token.signed.as_bytes(), &self.key, self.algorithm);
        verified.is_ok_and(|good| good)
    }
}

/// The name of an algorithm in a header (RFC 7518, section 3.1; RFC 8037, section 3.1). `None`: no key has it here.
fn name(algorithm: Algorithm) -> Option<&'static str> {
    match algorithm {
        Algorithm::HS256 => Some("HS256"),
        Algorithm::RS256 => Some("RS256"),
        Algorithm::ES256 => Some("ES256"),
        Algorithm::EdDSA => Some("EdDSA"),
        _ => None,
    }
}

fn grant(mut claims: Claims) -> Result<Grant, Refusal> {
    // The token was checked with the same leeway.
    let expires_at = (claims.exp as i64).saturating_add(LEEWAY_SECONDS);
    let (user, info) = (claims.sub.take(), claims.take_info());
    let (subscribe, publish) = claims.into_lists();
    Grant::from_lists(user.as_deref(), info.as_deref(), &subscribe, &publish, expires_at).map_err(bad_claims)
}

/// The refusal of a token that is valid, and claims what can't be.
pub(super) fn bad_claims(error: Error) -> Refusal {
    Refusal::unauthorized(format!("the token's claims: {error}"))
}

/// The public keys in a PEM text. The kind of each determines its algorithm. A text with a private key is refused:
/// private keys do not belong here.
fn public_keys(pem: &[u8]) -> Option<Vec<Key>> {
    if pem.windows(7).any(|word| word == b"PRIVATE") {
        return None;
    }
    let keys = public_key::read(pem)?;
    let is_good = keys.iter().all(|(algorithm, key)| is_good(*algorithm, key));
    is_good.then(|| keys.into_iter().map(|(algorithm, key)| Key { algorithm, id: None, key }).collect())
}

/// Whether a key has the size that its algorithm requires (RFC 7518, sections 3.2 to 3.4; RFC 8032, section 5.1.5), and
/// can verify tokens at all. Without this check, a bad key would show only when tokens are verified: each would fail,
/// and no client could come in.
fn is_good(algorithm: Algorithm, key: &DecodingKey) -> bool {
    match (algorithm, key.kind()) {
        (Algorithm::HS256, DecodingKeyKind::SecretOrDer(secret)) => secret.len() >= MIN_SECRET,
        (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => is_rsa(n, e),
        (Algorithm::RS256, DecodingKeyKind::SecretOrDer(der)) => {
            public_key::rsa_parts(der).is_some_and(|(n, e)| is_rsa(n, e))
        }
        // A point of another curve has another size, or does not satisfy the equation.
        (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => {
            point.len() == 65 && point[0] == 4 && ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).is_ok()
        }
        (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(key)) => edwards::is_good(key),
        _ => false,
    }
}

/// Whether modulus and exponent, in big-endian, are acceptable to the crate that verifies: at most 4096 and 33 bits.
fn is_rsa(n: &[u8], e: &[u8]) -> bool {
    const BYTES: std::ops::RangeInclusive<usize> = 2048 / 8..=4096 / 8;
    fn plain(number: &[u8]) -> &[u8] {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        &number[zeros..]
    }
    let (n, e) = (plain(n), plain(e));
    let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    let exponent = e.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    BYTES.contains(&n.len()) && is_odd(n) && e.len() <= 5 && is_odd(e) && (3..1 << 33).contains(&exponent)
}

/// A JWK set. Each key is parsed by itself. A key of an unknown kind or curve is ignored (RFC 7517, section 5), and the
/// others are used.
#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

/// The keys of a set, from its JSON (RFC 7517) or from a file with the JSON. A set without any usable key is an error:
/// no client could come in, and nobody would know why.
fn jwks(given: &str) -> Result<Vec<Key>, Error> {
    let by_value = given.starts_with('{');
    let name = if by_value { "the set" } else { given };
    let wrong = |text: String| Error::new(Kind::Config, format!("option jwt_jwks: {name}: {text}"));
    let file = || secrets::read("jwt_jwks", secrets::path_of(given).unwrap_or(given));
    let json = if by_value { Cow::Borrowed(given.as_bytes()) } else { file()?.into() };
    // serde's own message repeats the value, which may be a secret.
    let at = |error: serde_json::Error| format!("not a JWK set (line {}, column {})", error.line(), error.column());
    let set: Set = serde_json::from_slice(&json).map_err(|error| wrong(at(error)))?;
    let keys: Vec<Key> = set.keys.into_iter().filter_map(|key| jwk(&serde_json::from_value(key).ok()?)).collect();
    if keys.is_empty() {
        return Err(wrong("it has no key for signatures with HS256, RS256, ES256 or EdDSA".into()));
    }
    Ok(keys)
}

/// A key of a set. `None`: the key is for another algorithm or use, which is no error (RFC 7517, sections 4.2, 4.4 and
/// 5).
fn jwk(jwk: &Jwk) -> Option<Key> {
    let (algorithm, name) = match &jwk.algorithm {
        AlgorithmParameters::OctetKey(_) => (Algorithm::HS256, KeyAlgorithm::HS256),
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    let common = &jwk.common;
    let signs = common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
    let fits = common.key_algorithm.is_none_or(|known| known == name);
    let key = DecodingKey::from_jwk(jwk).ok().filter(|key| signs && fits && is_good(algorithm, key))?;
    Some(Key { algorithm, id: common.key_id.clone(), key })
}

fn bad_key(given: &str) -> Error {
    let name = if given.starts_with(PEM) { "the text" } else { given };
    let text = format!("option jwt_keys: {name} has no RSA (2048 to 4096 bits), P-256 or Ed25519 public key in PEM");
    Error::new(Kind::Config, text)
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys must not get into a log.
        f.debug_struct("Verifier").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
