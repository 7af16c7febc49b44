//! The frames that the hub sends to a host.

use super::fields::{self, Fields};
use super::{framed, Malformed};
use crate::api::MAX_BATCH;
use crate::error::Kind;
use crate::events::{Event, EventKind, Publishing};
use crate::users::Users;
use bytes::Bytes;
use std::sync::Arc;

const WELCOME: u8 = 65;
const REFUSED: u8 = 66;
const PUBLISHED: u8 = 67;
const BATCHED: u8 = 68;
const FAILED: u8 = 69;
const STATS: u8 = 70;
const EVENT: u8 = 71;
const LIMITS: u8 = 72;
const USERS: u8 = 73;
const EPOCH: u8 = 74;

/// The reason why a hub refuses a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusedBecause {
    /// The hub and the host speak different versions.
    Version,
    /// The host's user may not attach.
    NotAllowed,
    /// The hub has as many attachments as it allows.
    Full,
}

/// A frame from the hub. [`FromHub::Refused`] is the same in all versions of the protocol.
#[derive(Debug, Clone)]
pub(crate) enum FromHub<'a> {
    /// The host is attached. The results that the host lacks follow.
    Welcome {
        /// The epoch of the hub's history.
        epoch: &'a str,
        /// The last request of this host's session that the hub has done.
        done: u64,
        /// The option `max_message` of the hub.
        max_message: u64,
        /// The largest payload that `push_send` may send.
        max_send: u64,
        /// The largest batch that the hub can publish however many subscribers there are: its option `mailbox`. Hosts
        /// that speak an older version are not told.
        max_batch: Option<u64>,
        /// Names this life of the hub's process, which has the connections that frames may be about. Hosts that speak an
        /// older version are not told.
        life: Option<u64>,
        /// The option `user_channel` of the hub. Hosts that speak an older version are not told.
        user_channel: Option<bool>,
    },
    Refused {
        because: RefusedBecause,
        text: &'a str,
    },
    /// A message is published. Every request up to this number that publishes is done.
    Published {
        number: u64,
        seq: u64,
        subscribers: u32,
    },
    /// The messages of a batch are published.
    Batched {
        number: u64,
        seqs: Vec<u64>,
    },
    /// The request failed, and nothing was done.
    Failed {
        number: u64,
        kind: Kind,
        text: &'a str,
    },
    /// Counters and gauges as JSON.
    Stats {
        number: u64,
        json: &'a [u8],
    },
    /// A page of the users on a channel.
    Users {
        number: u64,
        users: Users,
    },
    Event(Event),
    /// New limits, in place of those in the welcome.
    Limits {
        max_message: u64,
        max_send: u64,
    },
    /// The log has a new epoch. The numbers of messages that follow are of this epoch.
    Epoch {
        epoch: &'a str,
    },
}

impl<'a> FromHub<'a> {
    /// Appends the frame.
    pub(crate) fn write(&self, into: &mut Vec<u8>) {
        match self {
            FromHub::Welcome { epoch, done, max_message, max_send, max_batch, life, user_channel } => {
                framed(into, WELCOME, |into| {
                    fields::text(into, epoch);
                    // A host that knows the last one knows the one before it, too.
                    for number in [done, max_message, max_send].into_iter().chain(max_batch).chain(life) {
                        into.extend_from_slice(&number.to_le_bytes());
                    }
                    user_channel.iter().for_each(|is_on| fields::flag(into, *is_on));
                })
            }
            FromHub::Refused { because, text } => framed(into, REFUSED, |into| {
                into.push(match because {
                    RefusedBecause::Version => 1,
                    RefusedBecause::NotAllowed => 2,
                    RefusedBecause::Full => 3,
                });
                fields::text(into, text);
            }),
            FromHub::Published { number, seq, subscribers } => framed(into, PUBLISHED, |into| {
                into.extend_from_slice(&number.to_le_bytes());
                into.extend_from_slice(&seq.to_le_bytes());
                into.extend_from_slice(&subscribers.to_le_bytes());
            }),
            FromHub::Batched { number, seqs } => framed(into, BATCHED, |into| {
                into.extend_from_slice(&number.to_le_bytes());
                into.extend_from_slice(&(seqs.len() as u32).to_le_bytes());
                seqs.iter().for_each(|seq| into.extend_from_slice(&seq.to_le_bytes()));
            }),
            FromHub::Failed { number, kind, text } => framed(into, FAILED, |into| {
                into.extend_from_slice(&number.to_le_bytes());
                into.push(KINDS.iter().position(|known| known == kind).unwrap_or(KINDS.len()) as u8);
                fields::text(into, text);
            }),
            FromHub::Stats { number, json } => framed(into, STATS, |into| {
                into.extend_from_slice(&number.to_le_bytes());
                fields::bytes(into, json);
            }),
            FromHub::Users { number, users } => framed(into, USERS, |into| {
                into.extend_from_slice(&number.to_le_bytes());
                fields::users(into, users);
            }),
            FromHub::Limits { max_message, max_send } => framed(into, LIMITS, |into| {
                into.extend_from_slice(&max_message.to_le_bytes());
                into.extend_from_slice(&max_send.to_le_bytes());
            }),
            FromHub::Epoch { epoch } => framed(into, EPOCH, |into| fields::text(into, epoch)),
            FromHub::Event(event) => framed(into, EVENT, |into| {
                into.push(event.kind as u8);
                into.extend_from_slice(&event.connection.to_le_bytes());
                into.extend_from_slice(&event.request.to_le_bytes());
                fields::flag(into, event.binary);
                into.extend_from_slice(&event.code.to_le_bytes());
                fields::optional_text(into, event.user.as_deref());
                fields::optional_text(into, event.channel.as_deref());
                fields::bytes(into, &event.data);
                if event.kind == EventKind::Publish {
                    let publishing = event.publishing.as_deref();
                    fields::optional_text(into, publishing.and_then(|rest| rest.event.as_deref()));
                    fields::optional_text(into, publishing.and_then(|rest| rest.key.as_deref()));
                }
            }),
        }
    }

    /// Reads a frame: type and body, without the length.
    pub(crate) fn read(frame: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(frame);
        let read = match fields.u8()? {
            WELCOME => FromHub::Welcome {
                epoch: fields.text()?,
                done: fields.u64()?,
                max_message: fields.u64()?,
                max_send: fields.u64()?,
                max_batch: fields.has_more().then(|| fields.u64()).transpose()?,
                life: fields.has_more().then(|| fields.u64()).transpose()?,
                user_channel: fields.has_more().then(|| fields.flag()).transpose()?,
            },
            REFUSED => {
                let because = match fields.u8()? {
                    1 => RefusedBecause::Version,
                    3 => RefusedBecause::Full,
                    _ => RefusedBecause::NotAllowed,
                };
                // A later version may add fields.
                return Ok(FromHub::Refused { because, text: fields.text()? });
            }
            PUBLISHED => FromHub::Published { number: fields.u64()?, seq: fields.u64()?, subscribers: fields.u32()? },
            BATCHED => {
                let (number, count) = (fields.u64()?, fields.u32()? as usize);
                if count > MAX_BATCH {
                    return Err(Malformed("a batch of too many messages"));
                }
                FromHub::Batched { number, seqs: (0..count).map(|_| fields.u64()).collect::<Result<_, _>>()? }
            }
            FAILED => FromHub::Failed {
                number: fields.u64()?,
                kind: KINDS.get(usize::from(fields.u8()?)).copied().unwrap_or(Kind::Unsupported),
                text: fields.text()?,
            },
            STATS => FromHub::Stats { number: fields.u64()?, json: fields.bytes()? },
            USERS => FromHub::Users { number: fields.u64()?, users: fields.users()? },
            LIMITS => FromHub::Limits { max_message: fields.u64()?, max_send: fields.u64()? },
            EPOCH => FromHub::Epoch { epoch: fields.text()? },
            EVENT => FromHub::Event(read_event(&mut fields)?),
            _ => return Err(Malformed("a frame of unknown type")),
        };
        fields.end()?;
        Ok(read)
    }
}

/// The numbers of the kinds on the wire are their places here. New ones are only appended.
const KINDS: &[Kind] = &[
    Kind::Invalid,
    Kind::Config,
    Kind::TooLarge,
    Kind::Busy,
    Kind::NotFound,
    Kind::Closed,
    Kind::Timeout,
    Kind::Descriptor,
    Kind::System,
    Kind::Unsupported,
    Kind::Limit,
];

fn read_event(fields: &mut Fields<'_>) -> Result<Event, Malformed> {
    let kind = match fields.u8()? {
        1 => EventKind::Open,
        2 => EventKind::Message,
        3 => EventKind::Close,
        4 => EventKind::Request,
        5 => EventKind::Drain,
        6 => EventKind::Drained,
        7 => EventKind::Subscribe,
        8 => EventKind::Unsubscribe,
        9 => EventKind::Call,
        10 => EventKind::Publish,
        _ => return Err(Malformed("an event of unknown kind")),
    };
    let mut event = Event {
        kind,
        connection: fields.u64()?,
        request: fields.u64()?,
        binary: fields.flag()?,
        code: fields.u16()?,
        user: fields.optional_text()?.map(Arc::from),
        channel: fields.optional_text()?.map(Arc::from),
        data: Bytes::copy_from_slice(fields.bytes()?),
        publishing: None,
        host: 0,
    };
    if kind == EventKind::Publish {
        let mut text = || Ok::<_, Malformed>(fields.optional_text()?.map(Box::from));
        event.publishing = Some(Box::new(Publishing { event: text()?, key: text()? }));
    }
    Ok(event)
}
