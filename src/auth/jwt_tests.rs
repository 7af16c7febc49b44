use super::*;
use crate::config::Builder;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine as _;
use jsonwebtoken::{encode, EncodingKey, Header};
use serde_json::{json, Value};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const OTHER: &str = "another-secret-of-thirty-two-bytes!";

fn verifier(options: &[(&str, &str)]) -> Result<Verifier, Error> {
    Verifier::new(Builder::with(options).with_secrets()?.config())
}

fn now() -> i64 {
    crate::sys::clock::unix_seconds()
}

fn token(secret: &str, claims: &Value) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

fn good() -> Value {
    json!({"sub": "ann", "exp": now() + 60, "push": {"subscribe": ["news.*", "me"], "publish": ["me"]}})
}

#[test]
fn a_token_grants_the_channels_that_it_names() {
    let verifier = verifier(&[("jwt_secret", SECRET)]).unwrap();
    let grant = verifier.verify(&token(SECRET, &good())).unwrap();
    assert_eq!(grant.user().map(|user| &**user), Some("ann"));
    assert!(grant.allows("news.sport") && grant.allows("me") && !grant.allows("you"));
    assert!(grant.allows_publish("me") && !grant.allows_publish("news.sport"));
    assert!(grant.expires_at().is_some());
    let flat = json!({"exp": now() + 60, "push.subscribe": ["a"]});
    assert!(verifier.verify(&token(SECRET, &flat)).unwrap().allows("a"));
    let nothing = json!({"exp": now() + 60});
    assert!(!verifier.verify(&token(SECRET, &nothing)).unwrap().allows("a"), "other channels are not allowed");
}

#[test]
fn a_token_may_say_something_of_its_user() {
    let verifier = verifier(&[("jwt_secret", SECRET)]).unwrap();
    let with = |info: Value| {
        let mut claims = good();
        claims["push.info"] = info;
        claims
    };
    let verify = |claims: &Value| verifier.verify(&token(SECRET, claims));
    assert_eq!(verify(&good()).unwrap().info(), None);
    let longest = "\u{fc}".repeat(512);
    for info in [r#"{"name":"Ada"}"#, &*longest] {
        assert_eq!(verify(&with(json!(info))).unwrap().info(), Some(info));
    }
    assert_eq!(verify(&with(json!(null))).unwrap().info(), None, "as with sub");
    let nested = json!({"exp": now() + 60, "sub": "ada", "push": {"info": "Ada"}, "info": {"name": "not ours"}});
    assert_eq!(verify(&nested).unwrap().info(), Some("Ada"), "a claim of another name says nothing");
    for (info, says) in [
        (json!(""), "info: empty; 1 to 1024 bytes are allowed"),
        (json!(longest + "x"), "info: 1025 bytes; at most 1024 are allowed"),
        (json!("a\nb"), "info: control characters are not allowed"),
        (json!(7), "sub and push.info are texts"),
        (json!({"name": "Ada"}), "sub and push.info are texts"),
    ] {
        let refusal = verify(&with(info)).unwrap_err();
        assert!(refusal.status == 401 && refusal.message.contains(says), "{}", refusal.message);
    }
    let nobody = json!({"exp": now() + 60, "push.info": "Ada"});
    let refusal = verify(&nobody).unwrap_err();
    assert!(refusal.status == 401 && refusal.message.contains("the grant has none"), "{}", refusal.message);
}

#[test]
fn tokens_of_several_secrets_are_accepted_while_keys_are_rotated() {
    let both = format!("{OTHER},{SECRET}");
    let verifier = verifier(&[("jwt_secret", &both)]).unwrap();
    assert!(verifier.verify(&token(SECRET, &good())).is_ok() && verifier.verify(&token(OTHER, &good())).is_ok());
}

#[test]
fn invalid_tokens_are_refused() {
    let options = [("jwt_secret", SECRET), ("jwt_audience", "push"), ("jwt_issuer", "login")];
    let verifier = verifier(&options).unwrap();
    let with = |change: &[(&str, Value)]| {
        let mut claims = good();
        claims["aud"] = json!("push");
        claims["iss"] = json!("login");
        for (name, value) in change {
            claims[*name] = value.clone();
        }
        claims
    };
    for good in [&[][..], &[("aud", json!(["other", "push"]))], &[("nbf", json!(now() - 60))], &[("nbf", json!(now()))]]
    {
        assert!(verifier.verify(&token(SECRET, &with(good))).is_ok(), "{good:?}");
    }
    let no_expiry = {
        let mut claims = with(&[]);
        claims.as_object_mut().unwrap().remove("exp");
        claims
    };
    let none = "eyJhbGciOiJub25lIn0.eyJleHAiOjk5OTk5OTk5OTl9.";
    let cases = [
        ("another secret", token(OTHER, &with(&[]))),
        ("expired", token(SECRET, &with(&[("exp", json!(now() - 60))]))),
        ("not yet", token(SECRET, &with(&[("nbf", json!(now() + 60))]))),
        ("audience", token(SECRET, &with(&[("aud", json!("other"))]))),
        ("audiences", token(SECRET, &with(&[("aud", json!(["other", ["push"], 7]))]))),
        ("no audience", token(SECRET, &with(&[("aud", json!(null))]))),
        ("issuer", token(SECRET, &with(&[("iss", json!("other"))]))),
        ("issuers", token(SECRET, &with(&[("iss", json!({"login": "login"}))]))),
        ("no time", token(SECRET, &with(&[("exp", json!("9999999999"))]))),
        ("never", token(SECRET, &with(&[("exp", json!(1e300))]))),
        ("before all time", token(SECRET, &with(&[("exp", json!(-5))]))),
        ("from no time", token(SECRET, &with(&[("nbf", json!("0"))]))),
        ("from nothing", token(SECRET, &with(&[("nbf", json!(null))]))),
        ("no expiry", token(SECRET, &no_expiry)),
        ("alg none", none.into()),
        ("no token", "x.y.z".into()),
        ("empty", String::new()),
        ("bad channel", token(SECRET, &with(&[("push", json!({"subscribe": ["a*b*"]}))]))),
        ("large", "x".repeat(10_000)),
    ];
    for (what, token) in cases {
        assert_eq!(verifier.verify(&token).unwrap_err().status, 401, "{what}");
    }
}

const RSA: &str = include_str!("../../tests/keys/rsa.pem");
const EC: &str = include_str!("../../tests/keys/ec.pem");
const ED: &str = include_str!("../../tests/keys/ed.pem");

fn signed(algorithm: Algorithm, id: Option<&str>) -> String {
    let key = match algorithm {
        Algorithm::RS256 => EncodingKey::from_rsa_pem(include_bytes!("../../tests/keys/rsa.private.pem")),
        Algorithm::ES256 => EncodingKey::from_ec_pem(include_bytes!("../../tests/keys/ec.private.pem")),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(include_bytes!("../../tests/keys/ed.private.pem")),
        _ => Ok(EncodingKey::from_secret(SECRET.as_bytes())),
    };
    encode(&Header { kid: id.map(Into::into), ..Header::new(algorithm) }, &good(), &key.unwrap()).unwrap()
}

const ALGORITHMS: [Algorithm; 4] = [Algorithm::HS256, Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

/// The only key of a text.
fn public_key(text: &[u8]) -> Option<Key> {
    let mut keys = public_keys(text)?;
    assert_eq!(keys.len(), 1);
    keys.pop()
}

/// The public part of a test key as a JWK.
fn as_jwk(algorithm: Algorithm, more: Value) -> Value {
    let pem = |text: &str| public_key(text.as_bytes()).unwrap().key.as_bytes().to_vec();
    let mut jwk = match algorithm {
        Algorithm::RS256 => {
            // SEQUENCE { INTEGER n, INTEGER e }: the modulus has 256 bytes and a zero before it, the exponent is 65537.
            let der = pem(RSA);
            json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(&der[9..265]), "e": "AQAB"})
        }
        Algorithm::ES256 => {
            let point = pem(EC);
            let [x, y] = [&point[1..33], &point[33..]].map(|half| URL_SAFE_NO_PAD.encode(half));
            json!({"kty": "EC", "crv": "P-256", "x": x, "y": y})
        }
        Algorithm::EdDSA => json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(pem(ED))}),
        _ => json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET)}),
    };
    jwk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    jwk
}

#[test]
fn each_key_verifies_only_tokens_of_its_algorithm() {
    for algorithm in ALGORITHMS {
        let set = json!({"keys": [as_jwk(algorithm, json!({}))]}).to_string();
        let as_set = verifier(&[("jwt_jwks", &set)]).unwrap();
        let plain = match algorithm {
            Algorithm::RS256 => verifier(&[("jwt_keys", RSA)]),
            Algorithm::ES256 => verifier(&[("jwt_keys", EC)]),
            Algorithm::EdDSA => verifier(&[("jwt_keys", ED)]),
            _ => verifier(&[("jwt_secret", SECRET)]),
        };
        let plain = plain.unwrap();
        for other in ALGORITHMS {
            let token = signed(other, None);
            assert_eq!(plain.verify(&token).is_ok(), other == algorithm, "{algorithm:?} {other:?}");
            assert_eq!(as_set.verify(&token).is_ok(), other == algorithm, "{algorithm:?} {other:?} in a set");
        }
    }
}

#[test]
fn keys_come_by_value_and_by_file_and_several_are_used_at_once() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys");
    let both = format!("{folder}/rsa.pem, {EC}, {folder}/ed.pem");
    let file = std::env::temp_dir().join(format!("push-jwt-secret-{}", std::process::id()));
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    let secrets = format!("file:{},{OTHER}", file.display());
    let verifier = verifier(&[("jwt_keys", &both), ("jwt_secret", &secrets)]).unwrap();
    std::fs::remove_file(&file).unwrap();
    for algorithm in ALGORITHMS {
        assert!(verifier.verify(&signed(algorithm, None)).is_ok(), "{algorithm:?}");
    }
    assert!(verifier.verify(&token(OTHER, &good())).is_ok());
}

#[test]
fn a_key_of_a_set_is_used_only_for_its_id_use_and_algorithm() {
    let set = |keys: &[Value]| json!({ "keys": keys }).to_string();
    let bytes = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let ed = |more: Value| as_jwk(Algorithm::EdDSA, more);
    let two = set(&[
        ed(json!({"kid": "new", "use": "sig", "alg": "EdDSA"})),
        as_jwk(Algorithm::ES256, json!({"kid": "old"})),
    ]);
    let verifier_of = |set: &str| verifier(&[("jwt_jwks", set)]);
    let verifier = verifier_of(&two).unwrap();
    assert!(verifier.verify(&signed(Algorithm::EdDSA, Some("new"))).is_ok());
    assert!(verifier.verify(&signed(Algorithm::ES256, Some("old"))).is_ok());
    assert!(verifier.verify(&signed(Algorithm::EdDSA, None)).is_ok(), "a token need not name its key");
    assert!(verifier.verify(&signed(Algorithm::EdDSA, Some("old"))).is_err(), "another key's name");
    assert!(verifier.verify(&signed(Algorithm::EdDSA, Some("gone"))).is_err(), "a key that is in no set");
    let unfit = [
        ("for encryption", ed(json!({"use": "enc"}))),
        ("another algorithm", as_jwk(Algorithm::RS256, json!({"alg": "RS512"}))),
        ("a short secret", json!({"kty": "oct", "k": "c2hvcnQ"})),
        ("a short modulus", json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"})),
        ("another curve", json!({"kty": "EC", "crv": "P-384", "x": "AQAB", "y": "AQAB"})),
        // These have the right size but are not keys. Without a check, each token would fail.
        ("a modulus that is too long", as_jwk(Algorithm::RS256, json!({"n": bytes(&[0xff; 513])}))),
        ("an even modulus", as_jwk(Algorithm::RS256, json!({"n": bytes(&[0xfe; 256])}))),
        ("an exponent of one", as_jwk(Algorithm::RS256, json!({"e": "AQ"}))),
        ("an even exponent", as_jwk(Algorithm::RS256, json!({"e": "AQAC"}))),
        ("an exponent that is too long", as_jwk(Algorithm::RS256, json!({"e": bytes(&[3, 0, 0, 0, 1])}))),
        ("a point beside the curve", as_jwk(Algorithm::ES256, json!({"x": bytes(&[1; 32]), "y": bytes(&[1; 32])}))),
        ("no point of the curve", ed(json!({"x": bytes(&[&[2][..], &[0; 31]].concat())}))),
        // With these keys anybody can make valid signatures.
        ("a point of order four", ed(json!({"x": bytes(&[0; 32])}))),
        ("the neutral point", ed(json!({"x": bytes(&[&[1][..], &[0; 31]].concat())}))),
    ];
    for (what, key) in unfit {
        assert_eq!(verifier_of(&set(&[key])).unwrap_err().kind(), Kind::Config, "{what}");
    }
    for wrong in ["{", "{}", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct"}]}"#, r#"{"keys":"c2VjcmV0"}"#] {
        let error = verifier_of(wrong).unwrap_err();
        assert_eq!(error.kind(), Kind::Config, "{wrong}");
        assert!(!error.to_string().contains("c2VjcmV0"), "a key must not be repeated: {error}");
    }
}

#[test]
fn an_unknown_key_of_a_set_is_ignored_and_the_others_are_used() {
    let good = as_jwk(Algorithm::EdDSA, json!({"kid": "good"}));
    let strange = [
        ("another kind", json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AQAB"})),
        ("a curve for agreements", json!({"kty": "OKP", "crv": "X25519", "x": "AQAB", "use": "enc"})),
        ("another curve", json!({"kty": "EC", "crv": "secp256k1", "x": "AQAB", "y": "AQAB"})),
        ("a part is missing", json!({"kty": "RSA", "n": "AQAB"})),
        ("no text", json!({"kty": "RSA", "n": 7, "e": "AQAB", "kid": 7})),
        ("no key", json!(null)),
    ];
    for (what, key) in strange {
        let set = json!({"keys": [key, good]}).to_string();
        let verifier = verifier(&[("jwt_jwks", &set)]).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(verifier.verify(&signed(Algorithm::EdDSA, Some("good"))).is_ok(), "{what}");
        let error = super::jwks(&json!({"keys": [key]}).to_string()).err().unwrap();
        assert!(error.to_string().contains("no key for signatures"), "{what}: {error}");
    }
}

#[test]
fn a_public_key_is_never_used_as_an_hmac_secret() {
    // The tokens are signed with HS256, and a public key as the secret: the classic attack (RFC 8725, section 2.1).
    let der = public_key(RSA.as_bytes()).unwrap().key.as_bytes().to_vec();
    let hs256 =
        |secret: &[u8]| encode(&Header::new(Algorithm::HS256), &good(), &EncodingKey::from_secret(secret)).unwrap();
    let set = json!({"keys": [as_jwk(Algorithm::RS256, json!({"kid": "k"}))]}).to_string();
    for options in [[("jwt_keys", RSA)], [("jwt_jwks", set.as_str())]] {
        let verifier = verifier(&options).unwrap();
        for secret in [RSA.as_bytes(), RSA.trim().as_bytes(), &der, set.as_bytes(), b""] {
            assert_eq!(verifier.verify(&hs256(secret)).unwrap_err().status, 401);
        }
    }
}

#[test]
fn keys_in_a_token_are_ignored() {
    let verifier = verifier(&[("jwt_keys", ED)]).unwrap();
    let own =
        serde_json::from_value(json!({"kty": "oct", "k": "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE"})).unwrap();
    let header = Header { jwk: Some(own), ..Header::new(Algorithm::HS256) };
    let stranger = encode(&header, &good(), &EncodingKey::from_secret(&[b'A'; 32])).unwrap();
    assert!(verifier.verify(&stranger).is_err());
    let key = EncodingKey::from_ed_pem(include_bytes!("../../tests/keys/ed.private.pem")).unwrap();
    let header = Header { crit: Some(vec!["exp".into()]), ..Header::new(Algorithm::EdDSA) };
    let critical = encode(&header, &good(), &key).unwrap();
    assert!(verifier.verify(&critical).unwrap_err().message.contains("crit"), "RFC 7515, section 4.1.11");
}

/// A signed token with exactly this header.
fn with_header(header: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(good().to_string()));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{signed}.{signature}")
}

#[test]
fn unknown_parameters_of_a_header_are_ignored_and_wrong_ones_refused() {
    let verifier = verifier(&[("jwt_secret", SECRET)]).unwrap();
    for header in [
        r#"{"alg":"HS256"}"#,
        r#"{"typ":"at+jwt","alg":"HS256","kid":"any"}"#,
        // Parameters that are no strings, and keys of unknown kinds.
        r#"{"exp":17,"b64":true,"alg":"HS256","more":{"list":[1]}}"#,
        r#"{"jwk":{"kty":"AKP"},"alg":"HS256","x5c":7,"jku":null}"#,
    ] {
        assert!(verifier.verify(&with_header(header)).is_ok(), "{header}");
    }
    for header in [
        r#"{"alg":"HS256","crit":null}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"HS256","crit":"b64"}"#,
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":"HS256","kid":7}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":"HS384"}"#,
        r#"{"alg":""}"#,
        r#"{"kid":"any"}"#,
        r#"["HS256"]"#,
        r#""HS256""#,
        "",
    ] {
        assert_eq!(verifier.verify(&with_header(header)).unwrap_err().status, 401, "{header}");
    }
    let good = with_header(r#"{"alg":"HS256"}"#);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    for wrong in [
        signed.to_owned(),
        format!("{signed}."),
        format!("{signed}.{signature}="),
        format!("{signed}.{signature}."),
        format!(".{good}"),
        format!("{signed}.{}", &signature[..signature.len() - 1]),
        format!(" {good}"),
    ] {
        assert_eq!(verifier.verify(&wrong).unwrap_err().status, 401, "{wrong}");
    }
}

#[path = "keys_tests.rs"]
mod keys;
