//! Parsers of texts that clients and operators write.

use super::Source;
use crate::api::MAX_BATCH;
use crate::auth::Verifier;
use crate::config::{options, Builder, Config};
use crate::control::publishing;
use crate::dialect::push::requests::{payload, ClientRequest};
use crate::framing::Transport;
use crate::http::origin;
use crate::http::query::Query;
use crate::http::request::{self, Known, NamedBy, Wish};
use crate::hub::{check_channel, ChannelPattern, ClientId, Epoch, Position, Start};
use crate::presence::is_version;
use jsonwebtoken::{encode, Algorithm, EncodingKey, Header};
use std::sync::OnceLock;

/// A request head. A head that is accepted is checked with a second parser, which is strict and slow. Request smuggling
/// needs two parsers that read a head differently.
pub(super) fn head(data: &[u8]) {
    let config = config();
    let (sse, cors) = request::read_partly(data, config);
    let Ok(Some(head)) = request::read(data, config, &Known::default()) else { return };
    if head.size == data.len() && !matches!(head.wish, Ok(Wish::Elsewhere { .. })) {
        assert_eq!((sse, &cors), (head.sse, &head.cors), "a whole head tells as much as a part of it");
    }
    let whole = &data[..head.size];
    assert!(head.size - head.body <= config.max_head);
    assert!(whole.ends_with(b"\r\n\r\n"), "a head ends with an empty line");
    for cut in [head.size - 1, head.size / 2, head.size / 3] {
        assert!(
            !matches!(request::read(&data[..cut], config, &Known::default()), Ok(Some(_))),
            "the part up to {cut} counts as whole"
        );
    }
    let alone = request::read(whole, config, &Known::default());
    assert_eq!(format!("{alone:?}"), format!("{:?}", Ok::<_, ()>(Some(&head))), "bytes after a head change the result");
    if !matches!(head.wish, Ok(Wish::Elsewhere { .. } | Wish::Health { .. })) {
        check_lines(whole);
    }
    let Ok(Wish::Subscribe(subscribe)) = &head.wish else { return };
    let patterns = subscribe.channels.iter().position(|name| name.ends_with('*')).unwrap_or(subscribe.channels.len());
    let (channels, patterns) = subscribe.channels.split_at(patterns);
    check_channels(channels, config);
    check_patterns(patterns, config);
    assert!(patterns.is_empty() || subscribe.transport != Transport::Poll, "a poll can't have patterns");
    assert!(patterns.is_empty() || matches!(subscribe.start(), Start::New | Start::Since(_)), "{subscribe:?}");
    match (subscribe.start(), &subscribe.since) {
        (Start::Since(position), Some(since)) => assert_eq!(Position::parse(since), Some(position)),
        (Start::Last(count), None) => assert!((1..=10_000).contains(&count)),
        (Start::New, None) => {}
        (Start::Beginning, Some(since)) => assert_eq!(since, "start"),
        (start, since) => panic!("{start:?} for {since:?}"),
    }
    if let Some(follows) = &subscribe.follows {
        assert!(follows == "1" || is_version(follows), "{follows:?}");
        assert!(subscribe.json || subscribe.transport != Transport::WebSocket, "raw frames have no place for presence");
    }
    let origins = lines(whole).filter(|(name, _)| name == b"origin");
    let host = lines(whole).find(|(name, _)| name == b"host").map_or("".into(), |(_, value)| text(value));
    for (_, value) in origins {
        assert!(
            origin::allowed(text(value).trim(), host.trim(), &config.allowed_origins),
            "a request from another origin is accepted"
        );
    }
}

/// Checks a head's lines strictly by RFC 9112, sections 2.2 and 5.
fn check_lines(head: &[u8]) {
    let skipped = head.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    for (at, byte) in head.iter().enumerate().skip(skipped) {
        match byte {
            b'\n' => assert_eq!(head[at - 1], b'\r', "a bare LF"),
            b'\r' => assert_eq!(head[at + 1], b'\n', "a bare CR"),
            0 => panic!("a NUL"),
            _ => {}
        }
    }
    let (mut lengths, mut hosts, mut codings) = (0, 0, 0);
    for (name, value) in lines(head) {
        let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        assert!(!name.is_empty() && name.iter().all(token), "{:?} is no field name", text(&name));
        match &name[..] {
            b"transfer-encoding" => {
                assert!(text(value).trim().eq_ignore_ascii_case("chunked"), "a body of unknown length");
                codings += 1;
            }
            b"content-length" => {
                assert_eq!(text(value).trim(), "0", "a body");
                lengths += 1;
            }
            b"host" => hosts += 1,
            _ => {}
        }
    }
    assert!(lengths + codings <= 1 && hosts <= 1, "{lengths} lengths, {codings} codings, {hosts} hosts");
    assert!(codings == 0 || head.ends_with(b"\r\n\r\n0\r\n\r\n"), "a body that is not empty");
}

/// The field lines, with names in lower case.
fn lines(head: &[u8]) -> impl Iterator<Item = (Vec<u8>, &[u8])> {
    let skipped = head.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let lines = head[skipped..].split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.skip(1).take_while(|line| !line.is_empty()).map(|line| {
        let colon = line.iter().position(|byte| *byte == b':').expect("a field line has a colon");
        (line[..colon].to_ascii_lowercase(), &line[colon + 1..])
    })
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn check_channels(channels: &[std::borrow::Cow<'_, str>], config: &Config) {
    assert!(channels.len() <= config.max_channels);
    for (number, name) in channels.iter().enumerate() {
        assert!(check_channel(name).is_ok(), "{name:?}");
        assert!(!channels[..number].contains(name), "{name:?} is there twice");
    }
}

fn check_patterns(patterns: &[std::borrow::Cow<'_, str>], config: &Config) {
    assert!(patterns.len() <= config.max_patterns);
    for (number, text) in patterns.iter().enumerate() {
        let pattern = ChannelPattern::parse(text).expect("a pattern");
        assert!(pattern.name().is_none() && !pattern.is_of_users(), "{text:?}");
        assert!(!patterns[..number].contains(text), "{text:?} is there twice");
    }
}

/// The query of a subscriber's URL.
pub(super) fn query(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(query) = Query::read(text, config(), NamedBy::Request) {
        check_channels(&query.channels, config());
        check_patterns(&query.patterns, config());
    }
}

/// A position or an id from a client, an epoch from another process.
pub(super) fn position(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(position) = Position::parse(text) {
        assert!(text.len() <= crate::hub::MAX_POSITION);
        assert_eq!(Position::parse(&position.to_string()), Some(position));
    }
    if let Some(epoch) = Epoch::from_text(text) {
        let written = epoch.position(u64::MAX);
        assert_eq!(Position::parse(&written).map(|position| position.epoch), Some(text));
    }
    if let Some(id) = ClientId::parse(text) {
        assert!(id.to_string().eq_ignore_ascii_case(text));
    }
    if let Ok(pattern) = ChannelPattern::parse(text) {
        assert_eq!(pattern.to_string(), text);
        assert!(pattern.matches(text.trim_end_matches('*')) || text == "*");
    }
}

/// A client's message on a WebSocket with the subprotocol `push.v1.json`.
pub(super) fn push_v1(data: &[u8]) {
    let (_, Ok(request)) = ClientRequest::read(data) else { return };
    // A text frame is UTF-8. In a binary frame a field that is not read may have any bytes.
    if std::str::from_utf8(data).is_ok() {
        assert!(serde_json::from_slice::<serde_json::Value>(data).is_ok_and(|value| value["type"].is_string()));
    }
    let (data, base64) = match &request {
        ClientRequest::Publish(publication) => (&publication.data, publication.base64),
        ClientRequest::Message { data, base64 } | ClientRequest::Call { data, base64 } => (data, *base64),
        ClientRequest::Subscribe(subscription) => {
            if let (true, Ok(value)) = (subscription.follows, serde_json::from_slice::<serde_json::Value>(data)) {
                assert_eq!(value["presence"], true);
            }
            return;
        }
        ClientRequest::Unsubscribe { .. } | ClientRequest::Token { .. } | ClientRequest::Ping => return,
    };
    if let Ok(bytes) = payload(data, base64) {
        assert!(bytes.len() <= data.len());
    }
}

/// A batch of the control API. The first byte says how often the objects are repeated, so that the input can reach the
/// bound. The rest is the objects, separated by commas. A batch that is accepted is compared with untyped JSON.
pub(super) fn control_batch(data: &[u8]) {
    let mut source = Source(data);
    let times = match source.byte() {
        byte @ 0..=250 => 1 + usize::from(byte) % 3,
        byte => MAX_BATCH - 253 + usize::from(byte),
    };
    // If there are many repetitions, the objects must be short.
    let items = if times > 3 { &source.0[..source.0.len().min(64)] } else { source.0 };
    let body = [b"[", &vec![items; times].join(&b","[..])[..], b"]"].concat();
    let Some(batch) = publishing::read_batch(&body) else { return };
    assert!(batch.len() <= MAX_BATCH, "{} messages", batch.len());
    let plain: Vec<serde_json::Value> = serde_json::from_slice(&body).expect("an array");
    assert_eq!(batch.len(), plain.len());
    for ((channel, data, base64), value) in batch.iter().zip(&plain) {
        assert_eq!(value["channel"].as_str(), Some(&**channel));
        let text = value["data"].as_str().expect("a text");
        assert!(if *base64 { data.len() <= text.len() } else { data == text.as_bytes() });
    }
}

/// One option. The first byte chooses its name, or the name stands before `=`. The rest is its value.
pub(super) fn options(data: &[u8]) {
    let mut source = Source(data);
    let number = source.below(options::all().count() + 8);
    let Ok(rest) = std::str::from_utf8(source.0) else { return };
    let (name, value) = match options::all().nth(number) {
        Some(option) => (option.name, rest),
        None => rest.split_once('=').unwrap_or((rest, "")),
    };
    let mut builder = Builder::default();
    match builder.set(name, value) {
        Ok(()) => drop(builder.build()),
        Err(error) => {
            let text = error.to_string();
            // The error names a long unknown name by its beginning.
            let beginning = name.chars().take(16).collect::<String>().escape_debug().to_string();
            assert!(text.contains(name) || text.contains(&beginning), "{text} does not name {name:?}");
        }
    }
    if ["control_key", "jwt_secret"].contains(&name) && value.len() >= 16 {
        let shown = format!("{builder:?} {:?}", builder.set(name, &format!("{value} \n")));
        assert!(!shown.contains(value), "a secret is shown");
    }
}

/// A file of options: it sets all of them, or none.
pub(super) fn toml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut builder = Builder::default();
    let before = format!("{builder:?}");
    match builder.load_text(text) {
        Ok(()) => drop(builder.build()),
        Err(_) => assert_eq!(format!("{builder:?}"), before, "a file that was refused changed an option"),
    }
}

/// A token. If the first byte is even, the rest is a token that nobody has signed. If it is odd, the rest is claims,
/// and they are signed here.
pub(super) fn jwt(data: &[u8]) {
    static VERIFIER: OnceLock<(Verifier, EncodingKey)> = OnceLock::new();
    let (verifier, key) = VERIFIER.get_or_init(|| {
        let secret = format!("{:032x}", getrandom::u64().expect("random bits"));
        let mut builder = Builder::default();
        builder.set("jwt_secret", &secret).expect("a secret");
        (Verifier::new(builder.config()).expect("a verifier"), EncodingKey::from_secret(secret.as_bytes()))
    });
    let mut source = Source(data);
    if source.byte() % 2 == 0 {
        let Ok(token) = std::str::from_utf8(source.0) else { return };
        assert!(verifier.verify(token).is_err(), "a token was accepted, though nobody knows the secret");
        return;
    }
    // Only JSON can be signed with this crate. Claims that are not JSON come through the branch above.
    let Ok(claims) = serde_json::from_slice::<serde_json::Value>(source.0) else { return };
    let Ok(token) = encode(&Header::new(Algorithm::HS256), &claims, key) else { return };
    if let Ok(grant) = verifier.verify(&token) {
        let expires = claims["exp"].as_f64().expect("a token without expiry is refused");
        assert!(grant.expires_at().is_some_and(|at| at as f64 <= expires.max(0.0) + 6.0), "{expires} {grant:?}");
    }
}

/// A JWK set.
pub(super) fn jwks(data: &[u8]) {
    static PATH: OnceLock<std::path::PathBuf> = OnceLock::new();
    let path = PATH.get_or_init(|| std::env::temp_dir().join(format!("push-fuzz-{}.jwks", std::process::id())));
    if std::fs::write(path, data).is_err() {
        return;
    }
    let mut builder = Builder::default();
    builder.set("jwt_jwks", path.to_str().expect("UTF-8")).expect("a path");
    if let Ok(verifier) = Verifier::new(builder.config()) {
        assert!(verifier.verify("eyJhbGciOiJub25lIn0.eyJleHAiOjk5OTk5OTk5OTl9.").is_err());
    }
    let _ = std::fs::remove_file(path);
}

fn config() -> &'static Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    CONFIG.get_or_init(|| Config {
        allowed_origins: vec!["https://app.example".into()],
        compression: true,
        max_channels: 8,
        max_patterns: 3,
        max_head: 2048,
        ..Config::default()
    })
}
