use super::*;
use crate::config::Builder;
use jsonwebtoken::{encode, EncodingKey, Header};
use serde_json::{json, Value};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const OTHER: &str = "another-secret-of-thirty-two-bytes!";

fn verifier(options: &[(&str, &str)]) -> Result<Verifier, Error> {
    let mut builder = Builder::default();
    for (name, value) in options {
        builder.set(name, value).unwrap();
    }
    Verifier::new(builder.config())
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
fn a_token_is_a_grant_for_what_it_names() {
    let verifier = verifier(&[("jwt_secret", SECRET)]).unwrap();
    let grant = verifier.verify(&token(SECRET, &good())).unwrap();
    assert_eq!(grant.user().map(|user| &**user), Some("ann"));
    assert!(grant.allows("news.sport") && grant.allows("me") && !grant.allows("you"));
    assert!(grant.allows_publish("me") && !grant.allows_publish("news.sport"));
    assert!(grant.expires_at().is_some());
    let flat = json!({"exp": now() + 60, "push.subscribe": ["a"]});
    assert!(verifier.verify(&token(SECRET, &flat)).unwrap().allows("a"));
    let nothing = json!({"exp": now() + 60});
    assert!(!verifier.verify(&token(SECRET, &nothing)).unwrap().allows("a"), "what is not named is not allowed");
}

#[test]
fn several_secrets_are_good_while_keys_are_rotated() {
    let both = format!("{OTHER},{SECRET}");
    let verifier = verifier(&[("jwt_secret", &both)]).unwrap();
    assert!(verifier.verify(&token(SECRET, &good())).is_ok() && verifier.verify(&token(OTHER, &good())).is_ok());
}

#[test]
fn what_is_not_good_is_refused() {
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
    assert!(verifier.verify(&token(SECRET, &with(&[]))).is_ok());
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
        ("issuer", token(SECRET, &with(&[("iss", json!("other"))]))),
        ("no expiry", token(SECRET, &no_expiry)),
        ("alg none", none.into()),
        ("no token", "x.y.z".into()),
        ("empty", String::new()),
        ("bad channel", token(SECRET, &with(&[("push", json!({"subscribe": ["a*b"]}))]))),
        ("large", "x".repeat(10_000)),
    ];
    for (what, token) in cases {
        assert_eq!(verifier.verify(&token).unwrap_err().status, 401, "{what}");
    }
}

#[test]
fn a_public_key_is_no_secret() {
    // Signed with HS256 and the text of the public key: the classic confusion.
    let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    let path = std::env::temp_dir().join(format!("push-jwt-{}.pem", std::process::id()));
    std::fs::write(&path, pem).unwrap();
    let verifier = verifier(&[("jwt_keys", path.to_str().unwrap())]).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(verifier.verify(&token(pem, &good())).unwrap_err().status, 401);
}

#[test]
fn no_keys_or_bad_keys_are_found_at_the_start() {
    assert_eq!(verifier(&[]).unwrap_err().kind(), Kind::Config);
    assert_eq!(verifier(&[("jwt_keys", "/nowhere.pem")]).unwrap_err().kind(), Kind::System);
    assert!(Builder::default().set("jwt_secret", "short").is_err());
}
