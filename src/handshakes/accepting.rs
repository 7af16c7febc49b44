//! New clients: accepted, and checked against the limits before anything is done for them.

use super::thread::{Connecting, Thread};
use crate::limits::{Peer, SURPLUS_PER_ADDRESS};
use crate::log::Level;
use crate::metrics::Reason;
use crate::sys::clock;
use crate::sys::epoll::Watch;
use crate::sys::listener::{Round, REST_MS};
use crate::sys::socket;
use std::os::fd::{AsRawFd, OwnedFd};

/// How many handshakes may be under way. When one more comes, one is ended: the oldest of the address with the most.
const UNDER_WAY: usize = 4096;
/// As many may be under way of one address, if that is more than there are places left. So one address can't take the
/// places of all others.
const OF_ONE_ADDRESS: usize = UNDER_WAY / 16;
/// How many connections are accepted before existing ones have their turn.
const ACCEPTS: usize = 64;
/// As in a shard: how many connections beyond `max_connections` are heard, to be refused in their own way.
const SURPLUS: usize = 64;

/// Why a client is closed before its handshake. A refusal in words would cost a handshake.
pub(super) type Denied = (Reason, &'static str);

impl Thread {
    pub(super) fn accept_from(&mut self, number: usize) {
        let (mut round, now) = (Round::new(ACCEPTS), clock::monotonic_ms());
        loop {
            let Some(listener) = self.listeners.get_mut(number) else { return };
            match listener.next(&mut round, &self.epoll, now) {
                Some(Ok(fd)) => self.accepted(fd),
                Some(Err(error)) => {
                    let text = format_args!("accept: {error}; trying again in {REST_MS} ms");
                    return self.context.note_refusal(Level::Warn, Reason::Resources, text);
                }
                None => return,
            }
        }
    }

    /// Wakes listeners that have rested.
    pub(super) fn resume_listeners(&mut self) {
        for listener in &mut self.listeners {
            if let Err(error) = listener.resume(&self.epoll, clock::monotonic_ms()) {
                let text = format_args!("a listener can't be watched: {error}; trying again in {REST_MS} ms");
                self.context.note_refusal(Level::Warn, Reason::Resources, text);
            }
        }
    }

    pub(super) fn accepted(&mut self, fd: OwnedFd) {
        let (config, now) = (self.context.config.get(), clock::monotonic_ms());
        let open = self.context.limits.connections.enter();
        // `None`: the client has gone again already.
        let Some(peer) = Peer::of(&fd) else {
            socket::shutdown_both(&fd);
            return self.uncount();
        };
        let max = config.max_connections;
        let refused = if max > 0 && open >= max + SURPLUS {
            Some((Reason::MaxConnections, "there are too many connections (option max_connections)"))
        } else if config.connect_rate > 0 && !self.context.limits.connects.take(config.connect_rate, now) {
            Some((Reason::ConnectRate, "too many new connections (option connect_rate)"))
        } else if config.proxy_protocol && !config.trusted_proxies.contains(peer) {
            Some((
                Reason::ProxyHeader,
                "the connection does not come from one of trusted_proxies; the option proxy_protocol requires that",
            ))
        } else {
            None
        };
        if let Some((reason, text)) = refused {
            self.note_at(&fd, reason, format_args!("closed before its TLS handshake: {text}"));
            socket::shutdown_both(&fd);
            return self.uncount();
        }
        if self.clients.len() >= UNDER_WAY {
            self.make_room();
        }
        self.generation = self.generation.wrapping_add(1) & 0x3fff_ffff;
        let entry = self.clients.vacant_entry();
        let index = entry.key();
        let token = u64::from(self.generation) << 32 | index as u64;
        if let Err(error) = self.epoll.add(fd.as_raw_fd(), token, Watch::EdgeBoth) {
            self.note_at(&fd, Reason::Resources, format_args!("a connection can't be watched: {error}"));
            socket::shutdown_both(&fd);
            return self.uncount();
        }
        let mut client = Connecting::new(token, fd, peer, config.proxy_protocol);
        client.surplus = (max > 0 && open >= max).then_some(Reason::MaxConnections);
        entry.insert(client);
        self.forget_those_gone();
        self.order.push_back((now, token));
        if !config.proxy_protocol {
            if let Err(denied) = self.admit(index) {
                self.deny(index, denied);
            }
        }
    }

    /// Behind a slow client the places of those that have gone since would add up for all of its `head_timeout`.
    fn forget_those_gone(&mut self) {
        if self.order.len() >= 2 * self.clients.len() + UNDER_WAY {
            let Thread { order, clients, .. } = self;
            order.retain(|(_, token)| clients.get(*token as u32 as usize).is_some_and(|client| client.token == *token));
        }
    }

    /// Counts a client for its address, unless that has too many already. A trusted proxy is not counted, since each of
    /// its requests names the client.
    pub(super) fn admit(&mut self, index: usize) -> Result<(), Denied> {
        let config = self.context.config.get();
        let Connecting { token, peer, .. } = self.clients[index];
        let Some(address) = peer.address().filter(|_| !config.trusted_proxies.contains(peer)) else { return Ok(()) };
        let (max, rate) = (config.max_per_address, config.connect_rate_per_address);
        let limits = &self.context.limits;
        if rate > 0 && !limits.address_rates.take(address, rate, clock::monotonic_ms()) {
            let text = "too many new connections of its address (option connect_rate_per_address)";
            return Err((Reason::ConnectRatePerAddress, text));
        }
        if max > 0 {
            let Some(count) = limits.addresses.enter(&address, max + SURPLUS_PER_ADDRESS) else {
                return Err((Reason::MaxPerAddress, "its address has too many connections (option max_per_address)"));
            };
            let client = &mut self.clients[index];
            client.counted = Some(address);
            if count > max {
                client.surplus.get_or_insert(Reason::MaxPerAddress);
            }
        }
        // As for outboxes: at most as much for one as is left for all (see `Bounds::of_one`).
        let most = UNDER_WAY.saturating_sub(self.clients.len()).max(OF_ONE_ADDRESS);
        if let Some(oldest) = self.crowd.oldest_of(address, most) {
            self.end_early(
                oldest,
                Reason::Busy,
                "too many handshakes of its address were under way, and it was the oldest",
            );
        }
        self.crowd.enter(address, token);
        self.clients[index].address = Some(address);
        Ok(())
    }

    /// Closes a client that may not connect.
    pub(super) fn deny(&mut self, index: usize, (reason, text): Denied) {
        self.note(index, reason, format_args!("closed before its TLS handshake: {text}"));
        self.end(index);
    }
}
