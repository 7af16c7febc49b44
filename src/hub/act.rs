//! Acts: what all hubs of a log do to a user's connections. An act is an entry of the log, between messages. Shards get
//! it through their mailboxes, in the same order.

use super::mailbox::{Delivery, Mailbox};
use super::message::{Message, Place, Publication};
use super::{check_text, ChannelId, ChannelPattern, SlowPolicy};
use crate::trace::Ticket;
use std::str;
use std::sync::Arc;

/// Marks an act in a mailbox, in place of a channel.
pub(super) const ACT: ChannelId = super::applying::BREAK - 1;

const DISCONNECT: u8 = 1;
const REVOKE: u8 = 2;

/// The longest reason of a close frame (RFC 6455, section 5.5).
const MAX_REASON: usize = 123;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act<'a> {
    /// Close all connections of a user.
    Disconnect { user: &'a str, code: u16, reason: &'a str },
    /// Take a channel, or all channels that match a prefix, from all connections of a user.
    Revoke { user: &'a str, channels: &'a str, reason: &'a str },
    /// One of a kind that only a later version of libpush knows. It is passed over, and the hub's log says so.
    Later(u8),
}

impl<'a> Act<'a> {
    /// Appends its bytes: the kind, and texts that each have their length before them. The channels of a revocation go to
    /// the end: a prefix may have 255 bytes, and a `*` behind it.
    pub(crate) fn write(&self, into: &mut Vec<u8>) {
        into.push(match self {
            Act::Disconnect { .. } => DISCONNECT,
            Act::Revoke { .. } => REVOKE,
            Act::Later(kind) => *kind,
        });
        let mut text = |text: &str| {
            debug_assert!(text.len() <= 255);
            into.push(text.len() as u8);
            into.extend_from_slice(text.as_bytes());
        };
        match self {
            Act::Disconnect { user, code, reason } => {
                text(user);
                text(reason);
                into.extend_from_slice(&code.to_le_bytes());
            }
            Act::Revoke { user, channels, reason } => {
                text(user);
                text(reason);
                into.extend_from_slice(channels.as_bytes());
            }
            Act::Later(_) => {}
        }
    }

    /// Reads an act. `None` if the bytes are not one that a call of a host can have made.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        if !matches!(*kind, DISCONNECT | REVOKE) {
            return Some(Act::Later(*kind));
        }
        let (user, rest) = short(rest)?;
        let (reason, rest) = short(rest)?;
        if check_text("user", user, 255).is_err() || reason.len() > MAX_REASON {
            return None;
        }
        match *kind {
            DISCONNECT => {
                let code = u16::from_le_bytes(rest.try_into().ok()?);
                (1000..5000).contains(&code).then_some(Act::Disconnect { user, code, reason })
            }
            _ => {
                let channels = str::from_utf8(rest).ok()?;
                ChannelPattern::written(channels).is_ok().then_some(Act::Revoke { user, channels, reason })
            }
        }
    }
}

fn short(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (len, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(*len))?;
    Some((str::from_utf8(text).ok()?, rest))
}

/// Leaves an act to all shards. Their mailboxes have room.
pub(super) fn leave(act: &Act<'_>, number: u64, mailboxes: &[Arc<Mailbox>]) {
    let mut bytes = Vec::new();
    act.write(&mut bytes);
    let mut message = Message::new(&Publication::new("", &bytes), true, b"");
    Message::place(&mut message, &Place { seq: number, channel: None, slow: SlowPolicy::Disconnect, stamp: 0 });
    for mailbox in mailboxes {
        mailbox.push(Delivery { channel: ACT, ticket: Ticket::default(), message: message.clone() });
    }
}

impl Delivery {
    /// True if this is no message: an act, or a break.
    pub(crate) fn is_marker(&self) -> bool {
        self.channel >= ACT
    }

    /// True if this is an act.
    pub(crate) fn is_act(&self) -> bool {
        self.channel == ACT
    }

    /// The act, if this is one.
    pub(crate) fn as_act(&self) -> Option<Act<'_>> {
        self.is_act().then(|| Act::read(self.message.data())).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acts_are_read_as_they_were_written_and_others_are_none() {
        let long = "r".repeat(MAX_REASON);
        let (name, prefix) = ("n".repeat(255), format!("{}*", "p".repeat(255)));
        for act in [
            Act::Revoke { user: &name, channels: &name, reason: &long },
            Act::Revoke { user: &name, channels: &prefix, reason: &long },
            Act::Disconnect { user: "ada", code: 4403, reason: "" },
            Act::Disconnect { user: "\u{e4}", code: 1000, reason: &long },
            Act::Revoke { user: "ada", channels: "news.*", reason: "moved" },
            Act::Revoke { user: "ada", channels: "a*b", reason: "" },
            Act::Later(77),
        ] {
            let mut bytes = Vec::new();
            act.write(&mut bytes);
            assert_eq!(Act::read(&bytes), Some(act));
            for len in 0..bytes.len() {
                assert_ne!(Act::read(&bytes[..len]), Some(act));
            }
        }
        let long = "r".repeat(MAX_REASON + 1);
        for act in [
            Act::Disconnect { user: "", code: 4403, reason: "" },
            Act::Disconnect { user: "a", code: 999, reason: "" },
            Act::Disconnect { user: "a", code: 5000, reason: "" },
            Act::Disconnect { user: "a", code: 4403, reason: &long },
            Act::Revoke { user: "a\n", channels: "news", reason: "" },
            Act::Revoke { user: "a", channels: "a*b*", reason: "" },
            Act::Revoke { user: "a", channels: "", reason: "" },
        ] {
            let mut bytes = Vec::new();
            act.write(&mut bytes);
            assert_eq!(Act::read(&bytes), None, "{act:?}");
        }
        let mut more = Vec::new();
        Act::Disconnect { user: "a", code: 4403, reason: "" }.write(&mut more);
        more.push(0);
        assert_eq!(Act::read(&more), None);
        assert_eq!(Act::read(&[]), None);
    }
}
