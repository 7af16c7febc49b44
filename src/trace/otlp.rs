//! Spans in the form of OTLP: the messages of `opentelemetry/proto/trace/v1/trace.proto`, with the fields that are used
//! here. The numbers of the fields are a stable part of that protocol.

use super::span::{Begun, Ended, Handed, Progress};
use prost::{Message, Oneof};

/// A request with spans.
#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    of_resources: Vec<OfResource>,
}

#[derive(Clone, PartialEq, Message)]
struct OfResource {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    of_scopes: Vec<OfScope>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct OfScope {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_ns: u64,
    #[prost(fixed64, tag = "8")]
    end_ns: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<Attribute>,
    #[prost(message, repeated, tag = "11")]
    events: Vec<Event>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(fixed64, tag = "1")]
    at_ns: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "3")]
    attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 2, 3")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Flag(bool),
    #[prost(int64, tag = "3")]
    Number(i64),
}

/// The answer of a collector.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Response {
    #[prost(message, optional, tag = "1")]
    pub(super) partial: Option<Partial>,
}

/// What a collector says of spans that it has not taken, or warns of.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Partial {
    #[prost(int64, tag = "1")]
    pub(super) rejected: i64,
    #[prost(string, tag = "2")]
    pub(super) error: String,
}

/// SPAN_KIND_PRODUCER.
const PRODUCER: i32 = 4;
/// The flags of a span: sampled, as in a traceparent.
const SAMPLED: u32 = 1;
/// Whether the parent is of another process is known, and it is.
const PARENT_KNOWN: u32 = 0x100;
const PARENT_REMOTE: u32 = 0x200;

/// A request with these spans, as bytes. It has no `telemetry.sdk.*`: they name an SDK of OpenTelemetry, and here is
/// none. The scope says what makes the spans.
pub(super) fn request(service: &str, instance: &str, spans: Vec<Ended>) -> Vec<u8> {
    let attributes = vec![text("service.name", service), text("service.instance.id", instance)];
    let resource = Resource { attributes };
    let scope = Scope { name: "libpush".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let of_scope = OfScope { scope: Some(scope), spans: spans.into_iter().map(span).collect() };
    let of_resource = OfResource { resource: Some(resource), of_scopes: vec![of_scope] };
    Request { of_resources: vec![of_resource] }.encode_to_vec()
}

/// A name for this run of the hub among those of the same service: a random UUID, as the specification proposes.
pub(super) fn new_instance() -> String {
    // Without random bits there are no spans.
    let half = || u128::from(getrandom::u64().unwrap_or(0));
    let version = (((half() << 64) | half()) & !(0xf << 76)) | (4 << 76);
    let hex = format!("{:032x}", (version & !(0x3 << 62)) | (2 << 62));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn span(ended: Ended) -> Span {
    let Ended { begun, progress } = ended;
    let events = progress.handed.iter().map(|handed| event(&begun, handed)).collect();
    let end_ns = begun.unix_ns_of(progress.last_us);
    let remote = if begun.parent.is_some() { PARENT_REMOTE } else { 0 };
    Span {
        trace_id: begun.trace.to_vec(),
        span_id: begun.id.to_vec(),
        parent_span_id: begun.parent.map_or_else(Vec::new, |parent| parent.to_vec()),
        // The specification wants no names of many values here, and those of channels are.
        name: "publish".to_owned(),
        kind: PRODUCER,
        start_ns: begun.unix_ns,
        end_ns,
        attributes: attributes(&begun, progress),
        events,
        flags: SAMPLED | PARENT_KNOWN | remote,
    }
}

fn attributes(begun: &Begun, progress: Progress) -> Vec<Attribute> {
    let mut all = vec![
        text("messaging.system", "libpush"),
        text("messaging.operation.name", "publish"),
        text("messaging.operation.type", "send"),
    ];
    match &*begun.channel {
        "" => all.push(flag("push.broadcast")),
        channel => all.push(text("messaging.destination.name", channel)),
    }
    all.extend(progress.position.map(|position| text("messaging.message.id", &position)));
    all.push(number("messaging.message.body.size", begun.bytes as u64));
    all.push(number("push.subscribers", progress.subscribers.into()));
    all.extend(progress.is_duplicate.then(|| flag("push.duplicate")));
    all.extend(progress.is_unfinished.then(|| flag("push.unfinished")));
    all
}

fn event(begun: &Begun, handed: &Handed) -> Event {
    let connections = number("push.connections", handed.connections.into());
    Event {
        at_ns: begun.unix_ns_of(handed.at_us),
        name: "delivered".to_owned(),
        attributes: vec![number("push.shard", handed.shard as u64), connections],
    }
}

fn text(key: &str, value: &str) -> Attribute {
    attribute(key, Value::Text(value.to_owned()))
}

fn number(key: &str, value: u64) -> Attribute {
    attribute(key, Value::Number(value.try_into().unwrap_or(i64::MAX)))
}

fn flag(key: &str) -> Attribute {
    attribute(key, Value::Flag(true))
}

fn attribute(key: &str, value: Value) -> Attribute {
    Attribute { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_a_random_uuid() {
        let (one, other) = (new_instance(), new_instance());
        assert!(one != other && one.len() == 36);
        for (at, letter) in one.char_indices() {
            match at {
                8 | 13 | 18 | 23 => assert_eq!(letter, '-'),
                14 => assert_eq!(letter, '4'),
                19 => assert!("89ab".contains(letter), "{one}"),
                _ => assert!(letter.is_ascii_hexdigit() && !letter.is_ascii_uppercase(), "{one}"),
            }
        }
    }
}
