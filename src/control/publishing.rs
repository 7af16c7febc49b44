//! `POST /v1/publish` and `/v1/broadcast`: one message for one channel or several, or a batch of them.

use super::parameters::Known::{Once, Several};
use super::parameters::Parameters;
use super::routes::{json, refusal, Answer};
use crate::api::{Api, MAX_BATCH};
use crate::http::members::Member::{self, Base64, Channel, Data, Event, Key};
use crate::http::members::{self, Members};
use crate::http::refusal::Refusal;
use crate::hub::{Placed, Publication};
use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use std::borrow::Cow;

/// The largest batch, in bytes of its JSON; and the most that one message may become in several channels.
const MAX_BATCH_BYTES: usize = 64 << 20;

/// One message of a batch.
struct Item<'a> {
    channel: Cow<'a, str>,
    data: Cow<'a, [u8]>,
    event: Option<Cow<'a, str>>,
    key: Option<Cow<'a, str>>,
    base64: bool,
}

impl<'a> Item<'a> {
    const MEMBERS: [Member; 5] = [Channel, Data, Event, Key, Base64];

    fn new(mut members: Members<'a>) -> Result<Self, String> {
        let (channel, data, base64) = (members.needed(Channel)?, members.needed(Data)?, members.flag(Base64));
        let data = match data {
            data if base64 => STANDARD.decode(&*data).map_err(|_| "data is not base64")?.into(),
            Cow::Borrowed(data) => data.as_bytes().into(),
            Cow::Owned(data) => data.into_bytes().into(),
        };
        Ok(Item { channel, data, event: members.text(Event), key: members.text(Key), base64 })
    }

    fn publication(&self) -> Publication<'_> {
        Publication {
            event: self.event.as_deref(),
            key: self.key.as_deref(),
            binary: self.base64,
            ..Publication::new(&self.channel, &self.data)
        }
    }
}

fn batch(body: &[u8]) -> Result<Vec<Item<'_>>, String> {
    members::read_list(body, &Item::MEMBERS, MAX_BATCH, Item::new)
}

/// The channels and data of a batch as it is read, for the fuzzers.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_batch(body: &[u8]) -> Option<Vec<(String, Vec<u8>, bool)>> {
    let items = batch(body).ok()?;
    Some(items.into_iter().map(|item| (item.channel.into_owned(), item.data.into_owned(), item.base64)).collect())
}

/// What is said of a message beside its channel and its body: in the query, or in headers.
struct Said<'r> {
    event: Option<&'r str>,
    key: Option<&'r str>,
}

impl<'r> Said<'r> {
    fn read(asked: &'r Parameters<'_>, headers: &'r HeaderMap) -> Result<Self, Refusal> {
        let stranger = headers
            .keys()
            .find(|name| name.as_str().starts_with("push-") && !matches!(name.as_str(), "push-event" | "push-key"));
        if let Some(name) = stranger {
            let message = format!("unknown header {name:.60}; allowed are Push-Event and Push-Key");
            return Err(Refusal::malformed("header", message));
        }
        let one = |name: &'static str, header: &'static str| {
            let mut given = asked.one(name).into_iter().map(Ok).chain(header_texts(headers, header));
            let first = given.next().transpose()?;
            match given.next() {
                None => Ok(first),
                Some(_) => Err(Refusal::malformed("twice", format!("{name}: a message has one at most"))),
            }
        };
        Ok(Said { event: one("event", "push-event")?, key: one("key", "push-key")? })
    }
}

fn header_texts<'h>(headers: &'h HeaderMap, name: &'static str) -> impl Iterator<Item = Result<&'h str, Refusal>> {
    headers.get_all(name).into_iter().map(move |value| {
        let wrong = |_| Refusal::malformed("header", format!("{name}: not UTF-8"));
        std::str::from_utf8(value.as_bytes()).map_err(wrong)
    })
}

/// `POST /v1/publish`.
pub(super) async fn publish(api: &Api, query: &str, headers: &HeaderMap, body: Incoming) -> Result<Answer, Refusal> {
    check_coding(headers)?;
    let asked = Parameters::read(query, &[Several("channel"), Once("event"), Once("key")])?;
    let said = Said::read(&asked, headers)?;
    match asked.all("channel")[..] {
        [] if said.event.is_some() || said.key.is_some() => {
            let message = "without ?channel= the body is a batch, whose messages have their own event and key";
            Err(Refusal::malformed("channel", message))
        }
        [] => publish_batch(api, body).await,
        [channel] => {
            let data = collect(body, api.max_message(), "the option max_message").await?;
            let published = api.publish(&publication(channel, &said, headers, &data));
            Ok(json(format!("{}\n", place(api, published.map_err(|error| refusal(&error))?))))
        }
        ref channels => {
            let data = collect(body, api.max_message(), "the option max_message").await?;
            if data.len() * channels.len() > MAX_BATCH_BYTES {
                let message = format!("in so many channels the message is larger than {MAX_BATCH_BYTES} bytes");
                return Err(Refusal::too_large(message));
            }
            let publications: Vec<_> =
                channels.iter().map(|channel| publication(channel, &said, headers, &data)).collect();
            publish_all(api, &publications)
        }
    }
}

/// `POST /v1/broadcast`.
pub(super) async fn broadcast(api: &Api, query: &str, headers: &HeaderMap, body: Incoming) -> Result<Answer, Refusal> {
    check_coding(headers)?;
    let asked = Parameters::read(query, &[Several("channel"), Once("event"), Once("key")])?;
    if asked.one("channel").is_some() {
        // Whoever names a channel means it alone, and everybody would get it.
        return Err(Refusal::malformed("channel", "channel: a broadcast has none; POST /v1/publish has"));
    }
    let said = Said::read(&asked, headers)?;
    let data = collect(body, api.max_message(), "the option max_message").await?;
    let published = api.broadcast(&publication("", &said, headers, &data));
    Ok(json(format!("{}\n", place(api, published.map_err(|error| refusal(&error))?))))
}

fn publication<'p>(channel: &'p str, said: &Said<'p>, headers: &HeaderMap, data: &'p [u8]) -> Publication<'p> {
    Publication { event: said.event, key: said.key, binary: is_binary(headers), ..Publication::new(channel, data) }
}

async fn publish_batch(api: &Api, body: Incoming) -> Result<Answer, Refusal> {
    let body = collect(body, MAX_BATCH_BYTES, "the bound of a batch").await?;
    let items = batch(&body).map_err(|what| {
        let message = format!("not a JSON array of {{channel, data, event, key, base64}}: {what}");
        Refusal::malformed("batch", message)
    })?;
    publish_all(api, &items.iter().map(Item::publication).collect::<Vec<_>>())
}

fn publish_all(api: &Api, publications: &[Publication<'_>]) -> Result<Answer, Refusal> {
    let published = api.publish_batch(publications).map_err(|error| refusal(&error))?;
    let places: Vec<_> = published.into_iter().map(|published| place(api, published)).collect();
    Ok(json(format!("[{}]\n", places.join(","))))
}

fn place(api: &Api, published: Placed) -> String {
    format!("{{\"id\":\"{}\",\"subscribers\":{}}}", api.position(&published), published.subscribers)
}

/// Nothing is unpacked here: what is packed would be published as it is.
fn check_coding(headers: &HeaderMap) -> Result<(), Refusal> {
    let codings = headers.get_all(header::CONTENT_ENCODING);
    let is_plain = |value: &HeaderValue| value.is_empty() || value.as_bytes().eq_ignore_ascii_case(b"identity");
    if codings.iter().all(is_plain) {
        return Ok(());
    }
    Err(Refusal::content_coding("Content-Encoding: a message is published as it comes; send it without"))
}

/// The whole body. Its sender has its time, and the body its bound.
pub(super) async fn collect(body: Incoming, max: usize, bound: &str) -> Result<Bytes, Refusal> {
    let collected = tokio::time::timeout(super::BODY_TIMEOUT, Limited::new(body, max).collect());
    match collected.await.map_err(|_| Refusal::timeout_of_body())? {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Refusal::too_large(format!("the body is larger than {max} bytes ({bound})")))
        }
        Err(_) => Err(Refusal::malformed("body", "the body is not whole, or its chunks are malformed")),
    }
}

/// Whether the body is declared to be bytes: a media type in whatever case, with or without parameters (RFC 9110,
/// section 8.3.1).
fn is_binary(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(b"application/octet-stream")
}
