//! `POST /v1/publish` and `/v1/broadcast`: one message for one or several channels, or a batch of messages.

use super::body::collect;
use super::parameters::Known::{Once, Several};
use super::parameters::Parameters;
use super::routes::{json, refusal, Answer};
use crate::api::{not_in_time, places, Api, MAX_BATCH};
use crate::dialect::members::Member::{self, Base64, Channel, Data, Event, Except, Key, User};
use crate::dialect::members::{self, Members};
use crate::error::Error;
use crate::http::refusal::Refusal;
use crate::hub::{channel_of_user, ClientId, Mark, OnSettled, Placed, Placing, Publication, Settled, Traceparent};
use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use std::borrow::Cow;
use tokio::sync::oneshot;

/// The largest batch, in bytes of JSON. Also the largest size of one message, counted once for each of its channels.
const MAX_BATCH_BYTES: usize = 64 << 20;

/// One message of a batch.
struct Item<'a> {
    channel: Cow<'a, str>,
    /// True if the channel is that of a user.
    to_user: bool,
    data: Cow<'a, [u8]>,
    event: Option<Cow<'a, str>>,
    key: Option<Cow<'a, str>>,
    except: Option<ClientId>,
    base64: bool,
}

impl<'a> Item<'a> {
    const MEMBERS: [Member; 7] = [Channel, User, Data, Event, Key, Base64, Except];

    fn new(mut members: Members<'a>) -> Result<Self, String> {
        let (channel, to_user) = match members.text(User) {
            None => (members.needed(Channel)?, false),
            Some(_) if members.text(Channel).is_some() => return Err(EITHER.to_owned()),
            Some(user) => (channel_of_user(&user).map_err(|error| error.to_string())?.into(), true),
        };
        let (data, base64) = (members.needed(Data)?, members.flag(Base64));
        let data = match data {
            data if base64 => STANDARD.decode(&*data).map_err(|_| "data is not base64")?.into(),
            Cow::Borrowed(data) => data.as_bytes().into(),
            Cow::Owned(data) => data.into_bytes().into(),
        };
        let except = members.text(Except).map(|id| ClientId::named("except", &id)).transpose();
        let except = except.map_err(|error| error.to_string())?;
        Ok(Item { channel, to_user, data, event: members.text(Event), key: members.text(Key), except, base64 })
    }

    fn publication(&self, trace: Option<Traceparent>) -> Publication<'_> {
        Publication {
            trace,
            event: self.event.as_deref(),
            key: self.key.as_deref(),
            binary: self.base64,
            to_user: self.to_user,
            except: self.except,
            ..Publication::new(&self.channel, &self.data)
        }
    }
}

/// The error about a message that has both.
const EITHER: &str = "channel and user: a message goes to one of the two";

fn batch(body: &[u8]) -> Result<Vec<Item<'_>>, String> {
    members::read_list(body, &Item::MEMBERS, MAX_BATCH, Item::new)
}

/// The channels and data of a batch, for the fuzzers.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_batch(body: &[u8]) -> Option<Vec<(String, Vec<u8>, bool)>> {
    let items = batch(body).ok()?;
    Some(items.into_iter().map(|item| (item.channel.into_owned(), item.data.into_owned(), item.base64)).collect())
}

/// The attributes of a message, from the query or from headers.
struct Attributes<'r> {
    event: Option<&'r str>,
    key: Option<&'r str>,
    except: Option<ClientId>,
    trace: Option<Traceparent>,
}

impl<'r> Attributes<'r> {
    fn read(parameters: &'r Parameters<'_>, headers: &'r HeaderMap) -> Result<Self, Refusal> {
        let is_known = |name: &str| matches!(name, "push-event" | "push-key" | "push-except");
        let ours = headers.keys().find(|name| name.as_str().starts_with("push-") && !is_known(name.as_str()));
        if let Some(name) = ours {
            let message = format!("unknown header {name:.60}; allowed are Push-Event, Push-Key and Push-Except");
            return Err(Refusal::malformed("header", message));
        }
        let one = |name: &'static str, header: &'static str| {
            let mut given = parameters.one(name).into_iter().map(Ok).chain(header_texts(headers, header));
            let first = given.next().transpose()?;
            match given.next() {
                None => Ok(first),
                Some(_) => Err(Refusal::malformed("twice", format!("{name}: a message has at most one"))),
            }
        };
        let except = one("except", "push-except")?.map(|id| ClientId::named("except", id)).transpose();
        Ok(Attributes {
            event: one("event", "push-event")?,
            key: one("key", "push-key")?,
            except: except.map_err(|error| refusal(&error))?,
            trace: traceparent(headers),
        })
    }
}

/// The caller's place in a trace. What is not valid is ignored, as W3C Trace Context demands, and so are several: nobody
/// knows which of them counts.
fn traceparent(headers: &HeaderMap) -> Option<Traceparent> {
    let mut given = headers.get_all("traceparent").iter();
    let first = given.next()?;
    given.next().is_none().then(|| Traceparent::parse(first.as_bytes().trim_ascii())).flatten()
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
    let known = [Several("channel"), Several("user"), Once("event"), Once("key"), Once("except")];
    let parameters = Parameters::read(query, &known)?;
    let attributes = Attributes::read(&parameters, headers)?;
    let (channels, to_users) = channels(&parameters)?;
    match channels[..] {
        [] if attributes.event.is_some() || attributes.key.is_some() || attributes.except.is_some() => {
            let message =
                "without ?channel= or ?user= the body is a batch, whose messages have their own event, key and except";
            Err(Refusal::malformed("channel", message))
        }
        [] => publish_batch(api, body, attributes.trace).await,
        [ref channel] => {
            let data = collect(api, body, api.max_message(), "the option max_message").await?;
            let publication = publication((channel, to_users), &attributes, headers, &data);
            let settled = settled(api, |on_settled| api.submit(&publication, on_settled)).await?;
            Ok(json(format!("{}\n", shown(api, settled)?.concat())))
        }
        ref channels => {
            let data = collect(api, body, api.max_message(), "the option max_message").await?;
            if data.len() * channels.len() > MAX_BATCH_BYTES {
                let what = if to_users { "users" } else { "channels" };
                let message = format!("the message times the number of {what} is larger than {MAX_BATCH_BYTES} bytes");
                return Err(Refusal::too_large(message));
            }
            let publications: Vec<_> =
                channels.iter().map(|channel| publication((channel, to_users), &attributes, headers, &data)).collect();
            publish_all(api, &publications).await
        }
    }
}

/// The channels that a request publishes to, and whether they are those of the users that it names.
fn channels<'p>(parameters: &'p Parameters<'_>) -> Result<(Vec<Cow<'p, str>>, bool), Refusal> {
    let (channels, users) = (parameters.all("channel"), parameters.all("user"));
    if users.is_empty() {
        return Ok((channels.into_iter().map(Cow::Borrowed).collect(), false));
    }
    if !channels.is_empty() {
        return Err(Refusal::malformed("user", EITHER));
    }
    let of_users = users.into_iter().map(|user| channel_of_user(user).map(Cow::Owned));
    of_users.collect::<Result<_, _>>().map(|channels| (channels, true)).map_err(|error| refusal(&error))
}

/// `POST /v1/broadcast`.
pub(super) async fn broadcast(api: &Api, query: &str, headers: &HeaderMap, body: Incoming) -> Result<Answer, Refusal> {
    check_coding(headers)?;
    let known = [Several("channel"), Once("event"), Once("key"), Once("except")];
    let parameters = Parameters::read(query, &known)?;
    if parameters.one("channel").is_some() {
        // A caller who names a channel means that one alone. The broadcast would reach everybody.
        return Err(Refusal::malformed("channel", "channel: a broadcast has no channel; use POST /v1/publish"));
    }
    let attributes = Attributes::read(&parameters, headers)?;
    let data = collect(api, body, api.max_message(), "the option max_message").await?;
    let publication = publication(("", false), &attributes, headers, &data);
    let settled = settled(api, |on_settled| api.submit_broadcast(&publication, on_settled)).await?;
    Ok(json(format!("{}\n", shown(api, settled)?.concat())))
}

/// `POST /v1/begin` and `POST /v1/end`: the beginning or the end of a channel's stream.
pub(super) async fn mark(api: &Api, query: &str, mark: Mark) -> Result<Answer, Refusal> {
    let parameters = Parameters::read(query, &[Once("channel")])?;
    let channel = parameters.needed("channel")?[0];
    let publication = Publication::mark(channel, mark);
    let settled = settled(api, |on_settled| api.submit(&publication, on_settled)).await?;
    Ok(json(format!("{}\n", shown(api, settled)?.concat())))
}

/// `channel`: its name, and whether it is that of a user.
fn publication<'p>(
    channel: (&'p str, bool),
    attributes: &Attributes<'p>,
    headers: &HeaderMap,
    data: &'p [u8],
) -> Publication<'p> {
    Publication {
        event: attributes.event,
        key: attributes.key,
        binary: is_binary(headers),
        trace: attributes.trace,
        except: attributes.except,
        to_user: channel.1,
        ..Publication::new(channel.0, data)
    }
}

async fn publish_batch(api: &Api, body: Incoming, trace: Option<Traceparent>) -> Result<Answer, Refusal> {
    let body = collect(api, body, MAX_BATCH_BYTES, "the limit of a batch").await?;
    let items = batch(&body).map_err(|what| {
        let message = format!("not a JSON array of {{channel or user, data, event, key, except, base64}}: {what}");
        Refusal::malformed("batch", message)
    })?;
    publish_all(api, &items.iter().map(|item| item.publication(trace)).collect::<Vec<_>>()).await
}

async fn publish_all(api: &Api, publications: &[Publication<'_>]) -> Result<Answer, Refusal> {
    let settled = settled(api, |on_settled| api.submit_batch(publications, on_settled)).await?;
    Ok(json(format!("[{}]\n", shown(api, settled)?.join(","))))
}

/// Waits until a request is done. Other requests go on meanwhile.
pub(super) async fn settled(
    api: &Api,
    submit: impl FnOnce(OnSettled) -> Result<Placing, Error>,
) -> Result<Settled, Refusal> {
    settled_or(api, not_in_time, submit).await
}

/// The same with an error of the caller's for a request that is not done in time.
pub(super) async fn settled_or(
    api: &Api,
    late: fn() -> Error,
    submit: impl FnOnce(OnSettled) -> Result<Placing, Error>,
) -> Result<Settled, Refusal> {
    let (tell, on_settled) = oneshot::channel();
    let placing = submit(Box::new(move |settled| drop(tell.send(settled)))).map_err(|error| refusal(&error))?;
    match placing {
        Placing::Now(settled) => Ok(settled),
        Placing::Later => match tokio::time::timeout(api.engine_timeout(), on_settled).await {
            Ok(Ok(settled)) => Ok(settled),
            _ => Err(refusal(&late())),
        },
    }
}

fn shown(api: &Api, settled: Settled) -> Result<Vec<String>, Refusal> {
    let places = places(settled).map_err(|error| refusal(&error))?;
    Ok(places.into_iter().map(|placed| place(api, placed)).collect())
}

fn place(api: &Api, published: Placed) -> String {
    format!("{{\"id\":\"{}\",\"subscribers\":{}}}", api.position(&published), published.subscribers)
}

/// The API does not decompress. A compressed body would be published as it is.
fn check_coding(headers: &HeaderMap) -> Result<(), Refusal> {
    let codings = headers.get_all(header::CONTENT_ENCODING);
    let is_plain = |value: &HeaderValue| value.is_empty() || value.as_bytes().eq_ignore_ascii_case(b"identity");
    if codings.iter().all(is_plain) {
        return Ok(());
    }
    Err(Refusal::content_coding("Content-Encoding: the body must not be compressed, as it is published unchanged"))
}

/// True if the body is declared to be bytes. The media type may have any case, and parameters (RFC 9110, section
/// 8.3.1).
fn is_binary(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(b"application/octet-stream")
}
