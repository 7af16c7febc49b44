//! A connection's entry in the slab. It is all that an idle subscriber costs, so every field is weighed. What only some
//! connections have stands in tables beside the slab.
#![allow(clippy::box_collection)] // 8 bytes instead of 24 for what most connections do not have

use crate::dialect::Format;
use crate::framing::ws::Partial;
use crate::framing::Transport;
use crate::grant::Grant;
use crate::hub::ChannelId;
use crate::limits::{self, AddressKey};
use crate::metrics::Reason;
use crate::shard::client::rate_limit::Senders;
use crate::shard::connection::client_address::ClientAddresses;
use crate::shard::connection::client_ids::ClientIds;
use crate::shard::connection::close::Counted;
use crate::shard::connection::inbox::Inbox;
use crate::shard::connection::sink::Sinks;
use crate::shard::delivery::merging::List;
use crate::shard::delivery::outbox::Outbox;
use crate::shard::presence::follows::Follows;
use crate::shard::presence::visits::Visits;
use crate::shard::turn::wheel::Tick;
use bitflags::bitflags;
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
    pub(in crate::shard) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(in crate::shard) fn from_bits(bits: u64) -> Self {
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
pub(in crate::shard) enum Phase {
    /// A request is awaited or half read.
    Head,
    /// The host was asked whether the client may subscribe. The request waits in `unread`.
    Asked,
    /// Subscribed, or catching up to be.
    Open(Transport),
    /// Our last bytes are on their way; then the peer's end is awaited.
    Closing,
}

bitflags! {
    /// Small facts about a connection, one bit each.
    #[derive(Debug, Clone, Copy, Default)]
    pub(in crate::shard) struct Flags: u16 {
        /// Handed over by the host.
        const ADOPTED = 1 << 0;
        /// The peer reads chunks (SSE and stream on HTTP/1.1).
        const CHUNKS = 1 << 1;
        /// The host has said yes to the request that is about to be read again.
        const ALLOWED = 1 << 2;
        /// Another request may follow (poll).
        const KEEP_ALIVE = 1 << 3;
        /// A heartbeat went out and nothing came back since.
        const UNANSWERED = 1 << 4;
        /// The outbox made no progress since the last heartbeat.
        const STUCK = 1 << 5;
        /// Messages reach it: it is not catching up.
        const LIVE = 1 << 6;
        /// The host was told that it opened.
        const ANNOUNCED = 1 << 7;
        /// Not read from because the event queue is full.
        const PAUSED = 1 << 8;
        /// The epoll tells when there is room to write; it was not needed before the first full socket.
        const WRITES_WATCHED = 1 << 9;
        /// Not read from because it does not take our answers.
        const HELD = 1 << 10;
        /// In the list of those that are read from again in the next turn.
        const UNFINISHED = 1 << 11;
        /// It must begin with a PROXY header.
        const PROXY_HEADER = 1 << 12;
        /// The peer is a proxy. Each of its requests names the client.
        const PROXIED = 1 << 13;
        /// It counts for its user.
        const USER_COUNTED = 1 << 14;
        /// Not read from because it sends too fast.
        const THROTTLED = 1 << 15;
    }
}

/// A connection.
#[derive(Debug)]
pub(in crate::shard) struct Conn {
    /// Its socket. A connection of another kind has none here, but a sink in the shard's table.
    pub(in crate::shard) socket: Option<OwnedFd>,
    pub(in crate::shard) generation: u32,
    pub(in crate::shard) phase: Phase,
    pub(in crate::shard) format: Format,
    pub(in crate::shard) flags: Flags,
    /// The limit that was reached when it came. Its request is read, to be refused.
    pub(in crate::shard) surplus: Option<Reason>,
    pub(in crate::shard) timer: Timer,
    /// The close code to tell the host.
    pub(in crate::shard) code: u16,
    /// The connection needs no message up to this number, so the shard skips those that the mailbox still holds. While
    /// the host is asked, this is the question's count.
    pub(in crate::shard) joined: u64,
    pub(in crate::shard) subs: Subs,
    /// Pieces that wait to be written. Absent while there are none.
    pub(in crate::shard) outbox: Option<Box<Outbox>>,
    pub(in crate::shard) received: Received,
    /// Its grant, if it has one.
    pub(in crate::shard) grant: Option<Arc<Grant>>,
    /// What a poll's answer has beside its messages; absent for most.
    pub(in crate::shard) beside: Option<Box<Beside>>,
    /// Its messages of a batch, while they are merged.
    pub(in crate::shard) merged: List,
}

/// A connection's timer.
#[derive(Debug, Default)]
pub(in crate::shard) struct Timer {
    /// When to look at it next.
    pub(in crate::shard) deadline: Tick,
    /// The wheel's slot that counts; entries in others are stale.
    pub(in crate::shard) wheel_at: Tick,
}

/// Bytes of a client that were read and can't be acted upon yet.
#[derive(Debug, Default)]
pub(in crate::shard) struct Received {
    /// A part of a request head, or a request that came early.
    pub(in crate::shard) unread: Option<Box<Vec<u8>>>,
    /// A part of a WebSocket frame or message.
    pub(in crate::shard) partial: Option<Box<Partial>>,
}

/// What the answers to some polls have beside their messages.
#[derive(Debug, Default)]
pub(in crate::shard) struct Beside {
    /// CORS lines of the head.
    pub(in crate::shard) cors: String,
    /// The version of presence that the client has, if it follows that.
    pub(in crate::shard) presence: Option<Box<str>>,
}

impl Beside {
    /// The lines, and the version.
    pub(in crate::shard) fn parts(&self) -> (&str, Option<&str>) {
        (&self.cors, self.presence.as_deref())
    }
}

/// One subscription among several.
#[derive(Debug, Clone, Copy)]
pub(in crate::shard) struct Sub {
    pub(in crate::shard) channel: ChannelId,
    /// Its place in the channel's list.
    pub(in crate::shard) slot: u32,
    /// As `Conn::joined`, for this channel.
    pub(in crate::shard) joined: u64,
}

/// A connection's subscriptions: mostly one, which needs no heap.
#[derive(Debug, Default)]
pub(in crate::shard) enum Subs {
    #[default]
    None,
    /// One, listed among the channel's solo subscribers.
    One { channel: ChannelId, slot: u32 },
    /// Any number, listed among the channels' other subscribers.
    Many(Box<Vec<Sub>>),
}

impl Subs {
    pub(in crate::shard) fn len(&self) -> usize {
        match self {
            Subs::None => 0,
            Subs::One { .. } => 1,
            Subs::Many(subs) => subs.len(),
        }
    }
}

impl Conn {
    pub(in crate::shard) fn new(socket: Option<OwnedFd>, generation: u32) -> Self {
        Conn {
            socket,
            generation,
            phase: Phase::Head,
            format: Format::POLL,
            flags: Flags::empty(),
            surplus: None,
            timer: Timer::default(),
            code: 1006,
            joined: 0,
            subs: Subs::None,
            outbox: None,
            received: Received::default(),
            grant: None,
            beside: None,
            merged: List::EMPTY,
        }
    }

    /// Whether more requests may come over it. A connection from the host may carry requests for the host or, behind a
    /// proxy, of several clients; only the host knows, and says so in its grant.
    pub(in crate::shard) fn may_go_on(&self) -> bool {
        !self.is(Flags::ADOPTED) || self.grant.as_ref().is_some_and(|grant| grant.keep_alive())
    }

    /// True if the grant is for the next request. Without the host's word a grant is left from the request before.
    pub(in crate::shard) fn is_granted(&self) -> bool {
        self.is(Flags::ADOPTED) || self.is(Flags::ALLOWED)
    }

    /// The grant for the next request, if it names the channels of that request.
    pub(in crate::shard) fn grant_that_subscribes(&self) -> Option<Arc<Grant>> {
        let grant = self.grant.as_ref().filter(|_| self.is_granted());
        grant.filter(|grant| !grant.at_once().is_empty()).cloned()
    }

    pub(in crate::shard) fn is(&self, flag: Flags) -> bool {
        self.flags.contains(flag)
    }

    /// Sets a flag; true when it was not set.
    pub(in crate::shard) fn mark(&mut self, flag: Flags) -> bool {
        let is_new = !self.is(flag);
        self.flags.insert(flag);
        is_new
    }

    /// Clears a flag; true when it was set.
    pub(in crate::shard) fn unmark(&mut self, flag: Flags) -> bool {
        let was_set = self.is(flag);
        self.flags.remove(flag);
        was_set
    }

    /// The channels that it will be on when it has caught up.
    pub(in crate::shard) fn awaited(&self) -> &[Box<str>] {
        self.outbox.as_ref().and_then(|outbox| outbox.catch_up.as_ref()).map_or(&[], |to| &to.names)
    }

    pub(in crate::shard) fn transport(&self) -> Option<Transport> {
        match self.phase {
            Phase::Open(transport) => Some(transport),
            Phase::Head | Phase::Asked | Phase::Closing => None,
        }
    }
}

/// What only some connections have. It stands in tables beside the slab, by slot, so the other connections pay nothing
/// for it.
#[derive(Default)]
pub(in crate::shard) struct SideTables {
    pub(in crate::shard) sinks: Sinks,
    pub(in crate::shard) limits: Limits,
    pub(in crate::shard) client_addresses: ClientAddresses,
    pub(in crate::shard) client_ids: ClientIds,
    /// The channels that connections of users have entered.
    pub(in crate::shard) visits: Visits,
    /// The channels whose presence connections follow.
    pub(in crate::shard) follows: Follows,
}

impl SideTables {
    /// A connection has left the slab. `own`: the socket in its entry.
    pub(in crate::shard) fn end(&mut self, index: u32, own: Option<&OwnedFd>) {
        self.client_addresses.forget(index);
        self.client_ids.forget(index);
        self.sinks.end(index, own);
    }
}

/// The limits of this shard's clients, beside those that all shards share.
#[derive(Default)]
pub(in crate::shard) struct Limits {
    /// The address that each connection counts for under `max_per_address`; empty while none counts.
    pub(in crate::shard) addresses: Vec<Option<AddressKey>>,
    /// Clients that sent something a moment ago.
    pub(in crate::shard) senders: Senders,
    /// The sizes of unfinished messages and requests.
    pub(in crate::shard) inbox: Inbox,
}

impl Limits {
    /// The counts that connections have in these limits and in those that all shards share.
    pub(in crate::shard) fn counted<'s>(&'s mut self, shared: &'s limits::Limits) -> Counted<'s> {
        Counted { addresses: &mut self.addresses, limits: shared }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_stays_small() {
        // The idle cost that the library is chosen for; look twice before you raise it.
        assert!(size_of::<Conn>() <= 96, "{}", size_of::<Conn>());
        // The slab's entry: a place that is free, too, costs no more.
        #[allow(dead_code)]
        enum Entry {
            Vacant(usize),
            Occupied(Conn),
        }
        assert!(size_of::<Entry>() <= 96, "{}", size_of::<Entry>());
    }

    #[test]
    fn numbers_round_trip() {
        let id = ConnectionId { shard: 63, token: Token { index: (1 << 24) - 1, generation: u32::MAX } };
        assert_eq!(ConnectionId::from_number(id.to_number()), id);
        let token = Token { index: 7, generation: 9 };
        assert_eq!(Token::from_bits(token.to_bits()), token);
    }
}
