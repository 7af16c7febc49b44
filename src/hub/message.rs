//! A message: copied once from its publisher, then shared by history, queues and outboxes.

use super::name::{check_channel, check_event, check_key};
use super::slow::SlowPolicy;
use crate::error::{Error, Kind};
use once_cell::race::OnceBox;
use std::fmt;
use std::sync::Arc;

/// How many encoded forms a message can carry beside its own bytes; the transports number them.
pub const FORMS: usize = 7;

/// What a host publishes, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct Publication<'a> {
    /// The channel; empty for a broadcast.
    pub channel: &'a str,
    /// The payload.
    pub data: &'a [u8],
    /// The event type.
    pub event: Option<&'a str>,
    /// The idempotency key.
    pub key: Option<&'a str>,
    /// Whether the payload must travel as binary though it may be UTF-8.
    pub binary: bool,
}

impl<'a> Publication<'a> {
    /// A payload for a channel, nothing else.
    pub fn new(channel: &'a str, data: &'a [u8]) -> Self {
        Publication { channel, data, event: None, key: None, binary: false }
    }

    /// Checks everything but the channel of a broadcast.
    pub fn check(&self, max_message: usize, broadcast: bool) -> Result<(), Error> {
        if !broadcast {
            check_channel(self.channel)?;
        }
        if let Some(event) = self.event {
            check_event(event)?;
        }
        if let Some(key) = self.key {
            check_key(key)?;
        }
        if self.data.len() > max_message {
            let len = self.data.len();
            return Err(Error::new(
                Kind::TooLarge,
                format!("payload: {len} bytes; the option max_message allows {max_message}"),
            ));
        }
        Ok(())
    }
}

/// A published message, immutable but for the forms that transports add.
pub struct Message {
    seq: u64,
    channel: Option<Arc<str>>,
    event: Option<Box<str>>,
    /// The payload, after a prefix that lets the most common transport send it as it is.
    bytes: Box<[u8]>,
    prefix: u8,
    binary: bool,
    slow: SlowPolicy,
    stamp: u32,
    /// Encoded by whichever shard needs a form first. Two shards may both encode; neither waits for the other,
    /// which would stall all its connections. That is why these are `race` cells.
    forms: [OnceBox<Form>; FORMS],
}

/// What a message gets from the hub.
pub(super) struct Place<'a> {
    pub(super) seq: u64,
    pub(super) channel: Option<&'a Arc<str>>,
    pub(super) slow: SlowPolicy,
    pub(super) stamp: u32,
}

/// A message as one transport sends it.
#[derive(Debug)]
pub struct Form {
    bytes: Box<[u8]>,
    /// Where the form lies within its framing (HTTP chunks), for peers that take none.
    inner: (u32, u32),
}

impl Form {
    /// A form without framing around it.
    pub fn plain(bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u32;
        Form { bytes: bytes.into(), inner: (0, len) }
    }

    /// A form with `before` bytes of framing before and `after` behind it.
    pub fn framed(bytes: Vec<u8>, before: usize, after: usize) -> Self {
        let end = bytes.len() - after;
        Form { bytes: bytes.into(), inner: (before as u32, end as u32) }
    }

    /// The form with its framing.
    pub fn framed_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The form without its framing.
    pub fn inner_bytes(&self) -> &[u8] {
        &self.bytes[self.inner.0 as usize..self.inner.1 as usize]
    }
}

impl Message {
    /// Copies a publication behind `prefix` (at most 16 bytes). It has no place in the sequence yet.
    pub fn new(publication: &Publication<'_>, binary: bool, prefix: &[u8]) -> Arc<Self> {
        debug_assert!(prefix.len() <= 16);
        let mut bytes = Vec::with_capacity(prefix.len() + publication.data.len());
        bytes.extend_from_slice(prefix);
        bytes.extend_from_slice(publication.data);
        Arc::new(Message {
            seq: 0,
            channel: None,
            event: publication.event.map(Box::from),
            bytes: bytes.into_boxed_slice(),
            prefix: prefix.len() as u8,
            binary,
            slow: SlowPolicy::Disconnect,
            stamp: 0,
            forms: Default::default(),
        })
    }

    /// Gives the message its place, before anyone shares it.
    pub(super) fn place(this: &mut Arc<Self>, place: &Place<'_>) {
        if let Some(message) = Arc::get_mut(this) {
            message.seq = place.seq;
            message.channel = place.channel.cloned();
            message.slow = place.slow;
            message.stamp = place.stamp;
        } else {
            debug_assert!(false, "a message is placed before it is shared");
        }
    }

    /// Its number in the hub's sequence.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Its channel; `None` for a broadcast.
    pub fn channel(&self) -> Option<&str> {
        self.channel.as_deref()
    }

    /// The same, to be kept.
    pub(crate) fn channel_name(&self) -> Option<&Arc<str>> {
        self.channel.as_ref()
    }

    /// Whether it gives way to a client that reads too slowly.
    pub fn slow(&self) -> SlowPolicy {
        self.slow
    }

    /// When it was published, in microseconds of a clock that goes round, for a sample of the messages; else 0.
    pub(crate) fn stamp(&self) -> u32 {
        self.stamp
    }

    /// Its event type.
    pub fn event(&self) -> Option<&str> {
        self.event.as_deref()
    }

    /// Its payload.
    pub fn data(&self) -> &[u8] {
        &self.bytes[usize::from(self.prefix)..]
    }

    /// Its payload behind the prefix that it was made with.
    pub fn prefixed(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the payload travels as binary.
    pub fn binary(&self) -> bool {
        self.binary
    }

    /// The form of that number, encoded at the first call.
    pub fn form(&self, number: usize, encode: impl FnOnce(&Message) -> Form) -> &Form {
        self.forms[number].get_or_init(|| Box::new(encode(self)))
    }

    /// What it counts for in bounds of bytes: the payload, and about what the rest takes.
    pub fn weight(&self) -> usize {
        self.bytes.len() + self.event.as_ref().map_or(0, |event| event.len()) + 160
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("seq", &self.seq)
            .field("channel", &self.channel)
            .field("event", &self.event)
            .field("bytes", &self.data().len())
            .finish_non_exhaustive()
    }
}
