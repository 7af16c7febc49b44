//! A message. It is copied once from its publisher, and then shared by history, queues and outboxes.

use super::client_id::ClientId;
use super::mark::Mark;
use super::name::{check_channel, check_event, check_key, user_of};
use super::slow::SlowPolicy;
use crate::error::{Error, Kind};
use crate::trace::Traceparent;
use once_cell::race::OnceBox;
use std::fmt;
use std::sync::Arc;

/// A message that a host publishes, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct Publication<'a> {
    /// The channel. Empty for a broadcast.
    pub channel: &'a str,
    /// The payload.
    pub data: &'a [u8],
    /// The event type.
    pub event: Option<&'a str>,
    /// The idempotency key.
    pub key: Option<&'a str>,
    /// True if the payload must be sent as binary although it may be UTF-8.
    pub binary: bool,
    /// Set if this is no message, but the beginning or the end of the channel's stream.
    pub mark: Option<Mark>,
    /// Its place in a trace of the host.
    pub trace: Option<Traceparent>,
    /// True if it is for a user, and `channel` is the one of the user. A hub whose users have no channels refuses it.
    pub to_user: bool,
    /// The client that does not get it. It gets its position instead.
    pub except: Option<ClientId>,
}

impl<'a> Publication<'a> {
    /// A payload for a channel, without other fields.
    pub fn new(channel: &'a str, data: &'a [u8]) -> Self {
        Publication {
            channel,
            data,
            event: None,
            key: None,
            binary: false,
            mark: None,
            trace: None,
            to_user: false,
            except: None,
        }
    }

    /// The beginning or the end of a channel's stream.
    pub fn mark(channel: &'a str, mark: Mark) -> Self {
        Publication { mark: Some(mark), ..Publication::new(channel, b"") }
    }

    /// Checks everything but the channel of a broadcast.
    pub fn check(&self, max_message: usize, broadcast: bool) -> Result<(), Error> {
        if !broadcast {
            check_channel(self.channel)?;
        }
        if self.to_user && (broadcast || self.mark.is_some() || user_of(self.channel).is_none()) {
            return Err(Error::invalid("a message to a user has the channel of the user, and is no mark"));
        }
        let is_plain = self.data.is_empty() && self.event.is_none() && self.key.is_none() && self.except.is_none();
        if self.mark.is_some() && (broadcast || !is_plain) {
            return Err(Error::invalid("a mark has a channel, and no data, event, key or except"));
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

/// The payload is sent as binary.
const BINARY: u8 = 1;
/// The id of a client stands behind the payload.
const EXCEPT: u8 = 2;

/// A published message. It does not change, except that transports add encoded forms.
pub struct Message {
    seq: u64,
    channel: Option<Arc<str>>,
    event: Option<Box<str>>,
    /// A WebSocket frame header, and behind it the payload. A raw WebSocket sends both as they are. Behind them stands
    /// the id of the client that does not get it, if there is one: so other messages have no room for it.
    bytes: Box<[u8]>,
    prefix: u8,
    /// [`BINARY`] and [`EXCEPT`].
    flags: u8,
    slow: SlowPolicy,
    mark: Option<Mark>,
    stamp: u32,
    /// The shard that needs a form first encodes it. Two shards may both encode it, but neither waits for the other,
    /// which would stall all its connections. That is why these are `race` cells.
    forms: OnceBox<Encoded>,
}

/// The fields that a message gets from the hub.
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
    /// The part of the bytes that is the form without its framing (HTTP chunks), for clients without such framing.
    inner: (u32, u32),
}

/// A form of a message, and the next one. Mostly a message has one or two.
struct Encoded {
    key: u8,
    form: Form,
    next: OnceBox<Encoded>,
}

impl Form {
    /// A form without framing around it.
    pub fn plain(bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u32;
        Form { bytes: bytes.into(), inner: (0, len) }
    }

    /// A form with `before` bytes of framing in front of it and `after` bytes behind it.
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
    /// Copies a publication behind `prefix` (at most 16 bytes). The message has no number yet.
    pub fn new(publication: &Publication<'_>, binary: bool, prefix: &[u8]) -> Arc<Self> {
        debug_assert!(prefix.len() <= 16);
        let except = if publication.except.is_some() { ClientId::BYTES } else { 0 };
        let mut bytes = Vec::with_capacity(prefix.len() + publication.data.len() + except);
        bytes.extend_from_slice(prefix);
        bytes.extend_from_slice(publication.data);
        publication.except.iter().for_each(|id| bytes.extend_from_slice(&id.to_bytes()));
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        Arc::new(Message {
            seq: 0,
            channel: None,
            event: publication.event.map(Box::from),
            bytes: bytes.into_boxed_slice(),
            prefix: prefix.len() as u8,
            flags: flag(binary, BINARY) | flag(except > 0, EXCEPT),
            slow: SlowPolicy::Disconnect,
            mark: publication.mark,
            stamp: 0,
            forms: OnceBox::new(),
        })
    }

    /// Sets the fields from the hub. The message must not be shared yet.
    pub(super) fn place(this: &mut Arc<Self>, place: &Place<'_>) {
        if let Some(message) = Arc::get_mut(this) {
            message.seq = place.seq;
            message.channel = place.channel.cloned();
            // A mark never gives way to a slow client: a client that lacks it would wait for ever.
            message.slow = if message.mark.is_some() { SlowPolicy::Disconnect } else { place.slow };
            message.stamp = place.stamp;
        } else {
            debug_assert!(false, "a message is placed before it is shared");
        }
    }

    /// Its number in the hub's sequence.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Its channel. `None` for a broadcast.
    pub fn channel(&self) -> Option<&str> {
        self.channel.as_deref()
    }

    /// Its channel, as a shared name.
    pub(crate) fn channel_name(&self) -> Option<&Arc<str>> {
        self.channel.as_ref()
    }

    /// What happens to it if a client reads too slowly.
    pub fn slow(&self) -> SlowPolicy {
        self.slow
    }

    /// The time of its publication, in microseconds of a clock that wraps around. Only a sample of the messages has it;
    /// it is 0 otherwise.
    pub(crate) fn stamp(&self) -> u32 {
        self.stamp
    }

    /// Its event type.
    pub fn event(&self) -> Option<&str> {
        self.event.as_deref()
    }

    /// Its payload.
    pub fn data(&self) -> &[u8] {
        &self.prefixed()[usize::from(self.prefix)..]
    }

    /// Its payload, with the prefix in front.
    pub fn prefixed(&self) -> &[u8] {
        let except = if self.flags & EXCEPT == 0 { 0 } else { ClientId::BYTES };
        &self.bytes[..self.bytes.len() - except]
    }

    /// The client that does not get it.
    pub fn except(&self) -> Option<ClientId> {
        if self.flags & EXCEPT == 0 {
            return None;
        }
        self.bytes.last_chunk().copied().map(ClientId::from_bytes)
    }

    /// True if a client with this id does not get it.
    pub fn excepts(&self, id: Option<ClientId>) -> bool {
        id.is_some() && self.except() == id
    }

    /// Set if this is no message, but the beginning or the end of its channel's stream.
    pub fn mark(&self) -> Option<Mark> {
        self.mark
    }

    /// True if the payload is sent as binary.
    pub fn binary(&self) -> bool {
        self.flags & BINARY != 0
    }

    /// The form with this key, encoded at the first call. The keys are the caller's: one for each way to encode a
    /// message.
    pub fn form(&self, key: u8, encode: impl Fn(&Message) -> Form) -> &Form {
        let (mut place, mut encoded) = (&self.forms, None);
        loop {
            match place.get() {
                Some(found) if found.key == key => return &found.form,
                Some(found) => place = &found.next,
                None => {
                    let new = encoded
                        .take()
                        .unwrap_or_else(|| Box::new(Encoded { key, form: encode(self), next: OnceBox::new() }));
                    // Another thread may have put a form there meanwhile. Then this one goes behind it, and is not
                    // encoded again, unless both have the same key.
                    encoded = place.set(new).err();
                }
            }
        }
    }

    /// Its size in limits of bytes: the payload, and about what the other fields take.
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
