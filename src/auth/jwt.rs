//! JSON web tokens (RFC 7519) as grants.
//!
//! Each key is bound to the one algorithm that its kind allows, and a token is checked against the keys of the algorithm that
//! its header names. So `alg: none` has no key, and a public key can't be taken for an HMAC secret (RFC 8725, section 2.1).

use crate::config::Config;
use crate::error::{Error, Kind};
use crate::grant::Grant;
use crate::http::refusal::Refusal;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet};
use jsonwebtoken::{decode, decode_header, Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use std::path::Path;

/// How far clocks may differ.
const LEEWAY_SECONDS: u64 = 5;
/// A token larger than this is not looked at.
const MAX_TOKEN: usize = 8 * 1024;

/// The keys, and what tokens must say.
pub struct Verifier {
    keys: Vec<Key>,
    /// With audience and issuer; the algorithm is each key's.
    validation: Validation,
}

struct Key {
    algorithm: Algorithm,
    /// The key's name in a JWK set; a token that names another is not tried against it.
    id: Option<String>,
    key: DecodingKey,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    /// Seconds since 1970, perhaps with a fraction (RFC 7519, section 2).
    exp: f64,
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

impl Verifier {
    /// Reads the keys that the options `jwt_secret`, `jwt_keys` and `jwt_jwks` name. At least one must be there.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let mut keys = Vec::new();
        for secret in &config.jwt_secret {
            let key = DecodingKey::from_secret(secret.as_bytes());
            keys.push(Key { algorithm: Algorithm::HS256, id: None, key });
        }
        for path in &config.jwt_keys {
            keys.push(public_key(&read(path)?).ok_or_else(|| bad_key(path))?);
        }
        if !config.jwt_jwks.is_empty() {
            let path = &config.jwt_jwks;
            let set: JwkSet = serde_json::from_slice(&read(path)?)
                .map_err(|error| Error::new(Kind::Config, format!("option jwt_jwks: {path}: {error}")))?;
            keys.extend(set.keys.iter().filter_map(jwk));
        }
        if keys.is_empty() {
            let text = "option auth: jwt needs a key: jwt_secret (HS256), jwt_keys (PEM files) or jwt_jwks";
            return Err(Error::new(Kind::Config, text));
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.validate_aud = !config.jwt_audience.is_empty();
        if validation.validate_aud {
            validation.set_audience(&[&config.jwt_audience]);
        }
        if !config.jwt_issuer.is_empty() {
            validation.set_issuer(&[&config.jwt_issuer]);
        }
        let required = [Some("exp"), validation.validate_aud.then_some("aud"), validation.iss.as_ref().map(|_| "iss")];
        validation.set_required_spec_claims(&required.into_iter().flatten().collect::<Vec<_>>());
        Ok(Verifier { keys, validation })
    }

    /// The grant that a token stands for.
    pub fn verify(&self, token: &str) -> Result<Grant, Refusal> {
        if token.len() > MAX_TOKEN {
            return Err(Refusal::unauthorized(format!("the token is larger than {MAX_TOKEN} bytes")));
        }
        let header = decode_header(token).map_err(|_| Refusal::unauthorized("the token is no JSON web token"))?;
        let named = |key: &&Key| {
            let same_id = key.id.is_none() || header.kid.is_none() || key.id == header.kid;
            key.algorithm == header.alg && same_id
        };
        let mut reason = "no key for its algorithm".to_owned();
        for key in self.keys.iter().filter(named) {
            let mut validation = self.validation.clone();
            validation.algorithms = vec![key.algorithm];
            match decode::<Claims>(token, &key.key, &validation) {
                Ok(token) => return grant(token.claims),
                Err(error) => reason = error.to_string(),
            }
        }
        Err(Refusal::unauthorized(format!("the token is not valid: {reason}")))
    }
}

fn grant(claims: Claims) -> Result<Grant, Refusal> {
    let push = claims.push.unwrap_or_default();
    let subscribe = claims.flat_subscribe.unwrap_or(push.subscribe);
    let publish = claims.flat_publish.unwrap_or(push.publish);
    // With the leeway, as the token itself was checked.
    let expires_at = (claims.exp as i64).saturating_add(LEEWAY_SECONDS as i64);
    Grant::from_lists(claims.sub.as_deref(), &subscribe, &publish, expires_at)
        .map_err(|error| Refusal::unauthorized(format!("the token's claims: {error}")))
}

/// A public key in PEM; its kind says its algorithm.
fn public_key(pem: &[u8]) -> Option<Key> {
    let rsa = DecodingKey::from_rsa_pem(pem).map(|key| (Algorithm::RS256, key));
    let found = rsa
        .or_else(|_| DecodingKey::from_ec_pem(pem).map(|key| (Algorithm::ES256, key)))
        .or_else(|_| DecodingKey::from_ed_pem(pem).map(|key| (Algorithm::EdDSA, key)));
    found.ok().map(|(algorithm, key)| Key { algorithm, id: None, key })
}

/// A key of a set; `None` for those of other algorithms, which a set may have.
fn jwk(jwk: &Jwk) -> Option<Key> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::OctetKey(_) => Algorithm::HS256,
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        _ => return None,
    };
    Some(Key { algorithm, id: jwk.common.key_id.clone(), key: DecodingKey::from_jwk(jwk).ok()? })
}

fn read(path: &str) -> Result<Vec<u8>, Error> {
    std::fs::read(Path::new(path)).map_err(|error| Error::system(format_args!("key file {path}"), &error))
}

fn bad_key(path: &str) -> Error {
    let text = format!("option jwt_keys: {path} has no public key of RSA, P-256 or Ed25519 in PEM");
    Error::new(Kind::Config, text)
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys belong in no log.
        f.debug_struct("Verifier").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
