//! `GET /v1/tail`: what is published, as it is published, in the form of Server-Sent Events.
//!
//! The task looks at its tap a few times in a tenth of a second, so a publish never has to wake it. It writes a bounded
//! amount each time. While the client takes nothing, it is not asked for more, and the tap loses messages.

use super::parameters::Known::Once;
use super::parameters::Parameters;
use super::routes::{refusal, Answer, Shown};
use crate::api::{unix_ms, Api, Tail};
use crate::dialect::push::json;
use crate::http::refusal::Refusal;
use crate::hub::{check_channel, ChannelPattern, Seen};
use bytes::Bytes;
use http_body_util::Either;
use hyper::body::{Body, Frame};
use hyper::header::{self, HeaderValue};
use hyper::Response;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// How often the tap is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// About how many bytes one look writes. One message it always writes.
const AT_ONCE: usize = 256 << 10;
/// The bytes of one message's data that are written.
const MAX_DATA: usize = 64 << 10;
/// How often something is written, so that a client that has gone is found out.
const BEAT: Duration = Duration::from_secs(15);

/// Completes with the reason why no request may go on.
pub(super) type End = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The body of an answer.
pub(super) struct Stream {
    tail: Tail,
    /// The key or session that the client has shown. `None`: the end was told.
    shown: Option<Shown>,
    end: End,
    look: Pin<Box<Sleep>>,
    beat_at: Instant,
    begun: bool,
}

partial_debug!(Stream { tail });

/// Begins a tail, for a client that has shown this. `end` completes when the connection has to end.
pub(super) fn tail(api: &Arc<Api>, query: &str, shown: Shown, end: End) -> Result<Answer, Refusal> {
    let parameters = Parameters::read(query, &[Once("channel"), Once("pattern")])?;
    let pattern = match (parameters.one("channel"), parameters.one("pattern")) {
        (Some(channel), None) => {
            check_channel(channel).map_err(|error| Refusal::malformed("channel", error.to_string()))?;
            ChannelPattern::written(channel).map_err(|error| refusal(&error))?
        }
        (None, Some(pattern)) if pattern.ends_with('*') => {
            ChannelPattern::written(pattern).map_err(|error| Refusal::malformed("pattern", error.to_string()))?
        }
        (None, Some(_)) => {
            return Err(Refusal::malformed("pattern", "pattern: a prefix and * at its end; use channel= for one name"));
        }
        _ => return Err(Refusal::malformed("channel", "one of ?channel= and ?pattern= is needed, and not both")),
    };
    let tail = Tail::begin(api, pattern).map_err(|error| refusal(&error))?;
    let (look, now) = (Box::pin(tokio::time::sleep(Duration::ZERO)), Instant::now());
    let stream = Stream { tail, shown: Some(shown), end, look, beat_at: now + BEAT, begun: false };
    let mut answer = Response::new(Either::Right(stream));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}

impl Stream {
    /// The events that wait, a bounded amount of them.
    fn events(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if !std::mem::replace(&mut self.begun, true) {
            event(br#"{"type":"open"}"#, &mut out);
        }
        while out.len() < AT_ONCE {
            match self.tail.take() {
                None => break,
                Some(Seen::Lost(count)) => {
                    event(format!("{{\"type\":\"lost\",\"count\":{count}}}").as_bytes(), &mut out)
                }
                Some(Seen::Message { message, epoch, since }) => {
                    out.extend_from_slice(b"data: ");
                    json::seen(&message, self.tail.epoch(epoch), unix_ms(since), MAX_DATA, &mut out);
                    out.extend_from_slice(b"\n\n");
                }
            }
        }
        out
    }

    /// Tells the end, after some of the events that wait if the client may still have them, and the number of the others.
    fn last(&mut self, reason: &str, may_have_more: bool) -> Vec<u8> {
        self.shown = None;
        let mut out = if may_have_more { self.events() } else { Vec::new() };
        let left = std::iter::from_fn(|| self.tail.take());
        let lost: u64 = left.map(|seen| if let Seen::Lost(count) = seen { count } else { 1 }).sum();
        if lost > 0 {
            event(format!("{{\"type\":\"lost\",\"count\":{lost}}}").as_bytes(), &mut out);
        }
        event(format!("{{\"type\":\"end\",\"reason\":\"{reason}\"}}").as_bytes(), &mut out);
        out
    }
}

fn event(json: &[u8], out: &mut Vec<u8>) {
    for part in [b"data: ", json, b"\n\n"] {
        out.extend_from_slice(part);
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        let out = loop {
            let Some(shown) = &this.shown else { return Poll::Ready(None) };
            if this.end.as_mut().poll(cx).is_ready() {
                break this.last("the hub ends, or clients have to connect again", true);
            }
            if let Some(reason) = shown.over(&this.tail.api().config()) {
                break this.last(reason, false);
            }
            ready!(this.look.as_mut().poll(cx));
            let now = Instant::now();
            this.look.as_mut().reset(now + LOOK);
            let mut out = this.events();
            if out.is_empty() && now >= this.beat_at {
                out = b":\n\n".to_vec();
            }
            if !out.is_empty() {
                this.beat_at = now + BEAT;
                break out;
            }
        };
        Poll::Ready(Some(Ok(Frame::data(out.into()))))
    }
}
