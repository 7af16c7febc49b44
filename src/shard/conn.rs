//! A connection's entry in the slab. It is all that an idle subscriber costs, so every field is weighed.
#![allow(clippy::box_collection)] // 8 bytes instead of 24 for what most connections do not have

use super::outbox::Outbox;
use super::wheel::Tick;
use crate::grant::Grant;
use crate::hub::ChannelId;
use crate::metrics::Reason;
use crate::transport::ws::Partial;
use crate::transport::Format;
use crate::transport::Transport;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Names a connection among those of its shard. The generation tells it from earlier tenants of its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl Token {
    /// As an epoll event carries it.
    pub(super) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(super) fn from_bits(bits: u64) -> Self {
        Token { index: bits as u32, generation: (bits >> 32) as u32 }
    }
}

/// A connection's number for the host: shard, generation, slot. Never 0, since generations begin at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionId {
    pub(crate) shard: usize,
    pub(crate) token: Token,
}

const INDEX_BITS: u32 = 24;
const SHARD_BITS: u32 = 8;

impl ConnectionId {
    pub(crate) fn to_number(self) -> u64 {
        u64::from(self.token.generation) << (INDEX_BITS + SHARD_BITS)
            | (self.shard as u64) << INDEX_BITS
            | u64::from(self.token.index)
    }

    pub(crate) fn from_number(number: u64) -> Self {
        ConnectionId {
            shard: (number >> INDEX_BITS) as usize & ((1 << SHARD_BITS) - 1),
            token: Token {
                index: number as u32 & ((1 << INDEX_BITS) - 1),
                generation: (number >> (INDEX_BITS + SHARD_BITS)) as u32,
            },
        }
    }
}

/// A question's number for the host: shard and count. Never 0, since counts begin at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestId {
    pub(crate) shard: usize,
    pub(crate) count: u64,
}

impl RequestId {
    pub(crate) fn to_number(self) -> u64 {
        self.count << SHARD_BITS | self.shard as u64
    }

    pub(crate) fn from_number(number: u64) -> Self {
        RequestId { shard: number as usize & ((1 << SHARD_BITS) - 1), count: number >> SHARD_BITS }
    }
}

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// A request is awaited or half read.
    Head,
    /// The host was asked whether it may; the request waits in `unread`.
    Asked,
    /// Subscribed, or catching up to be.
    Open(Transport),
    /// Our last bytes are on their way; then the peer's end is awaited.
    Closing,
}

/// Small facts, one bit each.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flags {
    /// Handed over by the host.
    pub(super) adopted: bool,
    /// The peer reads chunks (SSE and stream on HTTP/1.1).
    pub(super) chunks: bool,
    /// The host has said yes to the request that is about to be read again.
    pub(super) allowed: bool,
    /// Another request may follow (poll).
    pub(super) keep_alive: bool,
    /// A heartbeat went out and nothing came back since.
    pub(super) unanswered: bool,
    /// The outbox made no progress since the last heartbeat.
    pub(super) stuck: bool,
    /// Messages reach it: it is not catching up.
    pub(super) live: bool,
    /// The host was told that it opened.
    pub(super) announced: bool,
    /// Not read from because the event queue is full.
    pub(super) paused: bool,
    /// The epoll tells when there is room to write; it was not needed before the first full socket.
    pub(super) writes_watched: bool,
    /// Not read from because it does not take our answers.
    pub(super) held: bool,
    /// In the list of those that are read from again in the next turn.
    pub(super) unfinished: bool,
    /// Came when there were enough, of what: its request is read, to be refused.
    pub(super) surplus: Option<Reason>,
    /// It must begin with a PROXY header.
    pub(super) proxy_header: bool,
    /// The peer is a proxy, whose requests say for whom they are.
    pub(super) proxied: bool,
    /// It counts for its user.
    pub(super) user_counted: bool,
    /// Not read from because it sends too fast.
    pub(super) throttled: bool,
    /// In the list of those that have staged messages.
    pub(super) staged: bool,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) fd: OwnedFd,
    pub(super) generation: u32,
    pub(super) phase: Phase,
    pub(super) format: Format,
    pub(super) flags: Flags,
    /// When to look at it next, whatever for.
    pub(super) deadline: Tick,
    /// The wheel's slot that counts; entries in others are stale.
    pub(super) wheel_at: Tick,
    /// The close code to tell the host.
    pub(super) code: u16,
    /// Everything up to here it has been given or never wanted: what the mailbox still holds of it is skipped. While
    /// the host is asked, the question's count.
    pub(super) joined: u64,
    pub(super) subs: Subs,
    /// What waits to be written; absent while nothing does.
    pub(super) outbox: Option<Box<Outbox>>,
    /// Read and not whole: of a request head, or of a request that came early.
    pub(super) unread: Option<Box<Vec<u8>>>,
    /// Read and not whole: of a WebSocket frame or message.
    pub(super) partial: Option<Box<Partial>>,
    /// What the host granted, if it did.
    pub(super) grant: Option<Arc<Grant>>,
    /// CORS lines for a poll's answer; absent for most.
    pub(super) cors: Option<Box<String>>,
    /// Messages of this turn: first and last in the shard's stage.
    pub(super) stage: (u32, u32),
}

/// One subscription among several.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sub {
    pub(super) channel: ChannelId,
    /// Its place in the channel's list.
    pub(super) slot: u32,
    /// As `Conn::joined`, for this channel.
    pub(super) joined: u64,
}

/// A connection's subscriptions: mostly one, which needs no heap.
#[derive(Debug, Default)]
pub(super) enum Subs {
    #[default]
    None,
    /// One, listed among the channel's solo subscribers.
    One { channel: ChannelId, slot: u32 },
    /// Any number, listed among the channels' other subscribers.
    Many(Box<Vec<Sub>>),
}

impl Subs {
    pub(super) fn len(&self) -> usize {
        match self {
            Subs::None => 0,
            Subs::One { .. } => 1,
            Subs::Many(subs) => subs.len(),
        }
    }
}

impl Conn {
    pub(super) fn new(fd: OwnedFd, generation: u32) -> Self {
        Conn {
            fd,
            generation,
            phase: Phase::Head,
            format: Format::Poll,
            flags: Flags::default(),
            deadline: 0,
            wheel_at: 0,
            code: 1006,
            joined: 0,
            subs: Subs::None,
            outbox: None,
            unread: None,
            partial: None,
            grant: None,
            cors: None,
            stage: (0, 0),
        }
    }

    /// Whether more requests may come over it. A connection from the host may carry requests for the host or, behind a
    /// proxy, of several clients; only the host knows, and says so in its grant.
    pub(super) fn may_go_on(&self) -> bool {
        !self.flags.adopted || self.grant.as_ref().is_some_and(|grant| grant.keep_alive())
    }

    pub(super) fn transport(&self) -> Option<Transport> {
        match self.phase {
            Phase::Open(transport) => Some(transport),
            Phase::Head | Phase::Asked | Phase::Closing => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_stays_small() {
        // The idle cost that the library is chosen for; look twice before you raise it.
        assert!(size_of::<Conn>() <= 136, "{}", size_of::<Conn>());
    }

    #[test]
    fn numbers_round_trip() {
        let id = ConnectionId { shard: 63, token: Token { index: (1 << 24) - 1, generation: u32::MAX } };
        assert_eq!(ConnectionId::from_number(id.to_number()), id);
        let token = Token { index: 7, generation: 9 };
        assert_eq!(Token::from_bits(token.to_bits()), token);
    }
}
