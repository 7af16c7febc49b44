//! Who is at the other end of a connection, and whether that one has too many.
//!
//! A direct client is counted from the moment it connects; one behind a trusted proxy while its subscription is open,
//! since only the request says whose it is, and the next request of the proxy's connection may be another's. Addresses
//! stand beside the slab and not in its entries: while no option asks for them they cost nothing.

use crate::config::Config;
use crate::http::forwarded;
use crate::http::proxy_header;
use crate::http::refusal::Refusal;
use crate::limits::{AddressKey, Peer};
use crate::metrics::Reason;
use crate::shard::connection::conn::{Conn, Flags, Phase};
use crate::shard::Shard;
use crate::transport::Transport;

/// How many connections of an address beyond `max_per_address` are heard, to be refused in their own way.
const SURPLUS: usize = 8;

impl Shard {
    /// A connection is there. Who is at its other end matters only where an option says so.
    pub(in crate::shard) fn meet(&mut self, index: u32, reads_header: bool) {
        let config = self.config();
        let (reads_header, limited) = (reads_header && config.proxy_protocol, self.limits_addresses());
        if !config.surplus_is_possible() {
            return;
        }
        if config.connect_rate > 0 && !self.context.limits.connects.take(config.connect_rate, self.now) {
            self.conns[index as usize].surplus.get_or_insert(Reason::ConnectRate);
        }
        if !reads_header && !limited {
            return;
        }
        let Some(peer) = Peer::of(&self.conns[index as usize].fd) else { return self.drop_conn(index) };
        if !reads_header {
            return self.met(index, peer, &[]);
        }
        if !self.config().trusted_proxies.contains(peer) {
            let text = format_args!("not from one of trusted_proxies, from which alone connections are taken");
            self.note_refusal(self.client(index), Reason::ProxyHeader, text);
            return self.drop_conn(index);
        }
        self.conns[index as usize].flags.insert(Flags::PROXY_HEADER);
    }

    /// Reads the PROXY header that a connection begins with; says how many bytes it took, or nothing while it is
    /// incomplete or when the connection has ended over it.
    pub(in crate::shard) fn take_proxy_header(&mut self, index: u32, bytes: &[u8]) -> Option<usize> {
        let conn = &mut self.conns[index as usize];
        match proxy_header::read(bytes) {
            Ok(None) => {
                conn.unread = Some(Box::new(bytes.to_vec()));
                None
            }
            Ok(Some(header)) => {
                conn.flags.remove(Flags::PROXY_HEADER);
                self.note_source(index, header.source);
                if self.limits_addresses() {
                    // Without a source the proxy speaks for itself, as with its health checks.
                    let peer = header.source.or_else(|| Peer::of(&self.conns[index as usize].fd));
                    if let Some(peer) = peer {
                        self.met(index, peer, &bytes[header.size..]);
                    }
                }
                Some(header.size)
            }
            Err(text) => {
                self.refuse(index, &Refusal::malformed("proxy_header", text), "", false);
                None
            }
        }
    }

    /// Counts a direct client; of one that is a proxy its requests will say whose they are.
    /// `head`: what was read of its request.
    fn met(&mut self, index: u32, peer: Peer, head: &[u8]) {
        if self.config().trusted_proxies.contains(peer) {
            self.conns[index as usize].flags.insert(Flags::PROXIED);
            return;
        }
        let Some(address) = peer.address() else { return };
        let (max, rate) = (self.config().max_per_address, self.config().connect_rate_per_address);
        if rate > 0 && !self.context.limits.address_rates.take(address, rate, self.now) {
            self.conns[index as usize].surplus.get_or_insert(Reason::ConnectRatePerAddress);
        }
        if max == 0 {
            return;
        }
        match self.context.limits.addresses.enter(&address, max + SURPLUS) {
            Some(count) => {
                self.note_address(index, address);
                if count > max {
                    self.conns[index as usize].surplus.get_or_insert(Reason::MaxPerAddress);
                }
            }
            None => {
                self.turn_away(
                    &self.conns[index as usize].fd,
                    head,
                    &surplus(Reason::MaxPerAddress),
                    self.client(index),
                );
                self.drop_conn(index);
            }
        }
    }

    /// Whether a connection came when there were enough, and why it is then refused.
    pub(in crate::shard) fn check_surplus(&self, index: u32) -> Result<(), Refusal> {
        self.conns[index as usize].surplus.map_or(Ok(()), |reason| Err(surplus(reason)))
    }

    /// Counts a subscription that is about to open, for its user and, behind a proxy, its address. The last question
    /// before it does: what is counted here is taken back when it ends.
    pub(in crate::shard) fn count_subscription(&mut self, index: u32, forwarded: &[&str]) -> Result<(), Refusal> {
        let shared = self.context.clone();
        let (limits, config) = (&shared.limits, self.config());
        let (max, rate) = (config.max_per_address, config.connect_rate_per_address);
        let conn = &self.conns[index as usize];
        let user = conn.grant.as_ref().and_then(|grant| grant.user()).filter(|_| config.max_per_user > 0);
        let address = if conn.is(Flags::PROXIED) {
            forwarded::client(forwarded, config.forwarded_header, &config.trusted_proxies).map(AddressKey::of)
        } else {
            None
        };
        if let Some(address) = address {
            if rate > 0 && !limits.address_rates.take(address, rate, self.now) {
                return Err(surplus(Reason::ConnectRatePerAddress));
            }
            if max > 0 && limits.addresses.enter(&address, max).is_none() {
                return Err(surplus(Reason::MaxPerAddress));
            }
        }
        if let Some(user) = user {
            if limits.users.enter(user, config.max_per_user).is_none() {
                if let Some(address) = address.filter(|_| max > 0) {
                    limits.addresses.leave(&address);
                }
                return Err(Refusal::limit("max_per_user", "the user has too many connections (option max_per_user)"));
            }
            self.conns[index as usize].flags.insert(Flags::USER_COUNTED);
        }
        if let Some(address) = address.filter(|_| max > 0) {
            self.note_address(index, address);
        }
        Ok(())
    }

    /// Takes back what [`Self::count_subscription`] counted.
    pub(in crate::shard) fn uncount_subscription(&mut self, index: u32) {
        self.uncount_user(index);
        if self.conns[index as usize].is(Flags::PROXIED) {
            self.uncount_address(index);
        }
    }

    /// The same for a poll that is about to be answered: with the answer its client may come back at once, on another
    /// connection.
    pub(in crate::shard) fn uncount_poll(&mut self, index: u32) {
        if self.conns[index as usize].transport() == Some(Transport::Poll) {
            self.uncount_subscription(index);
        }
    }

    /// Takes back what was counted for an address, if anything.
    pub(in crate::shard) fn uncount_address(&mut self, index: u32) {
        if let Some(address) = self.limits.addresses.get_mut(index as usize).and_then(Option::take) {
            self.context.limits.addresses.leave(&address);
        }
    }

    fn uncount_user(&mut self, index: u32) {
        let conn = &mut self.conns[index as usize];
        if conn.unmark(Flags::USER_COUNTED) {
            if let Some(user) = conn.grant.as_ref().and_then(|grant| grant.user()) {
                self.context.limits.users.leave(user);
            }
        }
    }

    /// Takes back what was counted for a connection that has no entry any more.
    pub(in crate::shard) fn uncount_removed(&mut self, index: u32, conn: &Conn) {
        self.uncount_address(index);
        let user = conn.grant.as_ref().and_then(|grant| grant.user()).filter(|_| conn.is(Flags::USER_COUNTED));
        if let Some(user) = user {
            self.context.limits.users.leave(user);
        }
    }

    /// Counts a connection for its new user instead of the one it had, who must not lose it for that one's limit.
    pub(in crate::shard) fn change_user(&mut self, index: u32, change: impl FnOnce(&mut Self)) {
        let counted = self.conns[index as usize].is(Flags::USER_COUNTED);
        self.uncount_user(index);
        change(self);
        if counted || self.config.max_per_user > 0 {
            self.count_user(index);
        }
    }

    /// Counts who is there already, for limits that a reload has turned on. Nobody is closed for them.
    ///
    /// What a proxy said of a client was not kept: who came through one counts from the next request on, or, where a
    /// PROXY header has named it, not at all.
    pub(in crate::shard) fn count_those_there(&mut self, before: &Config) {
        let config = self.config.clone();
        let limits_users = before.max_per_user == 0 && config.max_per_user > 0;
        let limits_addresses = (before.max_per_address == 0 && config.max_per_address > 0)
            || (before.connect_rate_per_address == 0 && config.connect_rate_per_address > 0);
        if !limits_users && !limits_addresses {
            return;
        }
        let there: Vec<u32> = self.conns.iter().map(|(index, _)| index as u32).collect();
        for index in there {
            if limits_users && !self.conns[index as usize].is(Flags::USER_COUNTED) {
                self.count_user(index);
            }
            if limits_addresses {
                self.count_address(index);
            }
        }
    }

    /// Counts the subscription of a connection, if it is one, for its user, who may have enough.
    fn count_user(&mut self, index: u32) {
        let Some(conn) = self.conns.get_mut(index as usize) else { return };
        let user = conn.grant.as_ref().and_then(|grant| grant.user());
        if let Some(user) = user.filter(|_| matches!(conn.phase, Phase::Open(_))) {
            self.context.limits.users.enter(user, usize::MAX);
            conn.flags.insert(Flags::USER_COUNTED);
        }
    }

    /// Counts a connection that is not counted for its address, which may have enough.
    fn count_address(&mut self, index: u32) {
        let config = self.config.clone();
        let conn = &mut self.conns[index as usize];
        let is_counted = self.limits.addresses.get(index as usize).is_some_and(Option::is_some);
        let names_itself = config.proxy_protocol && !conn.is(Flags::ADOPTED);
        if is_counted || names_itself {
            return;
        }
        let Some(peer) = Peer::of(&conn.fd) else { return };
        if config.trusted_proxies.contains(peer) {
            conn.flags.insert(Flags::PROXIED);
        } else if let Some(address) = peer.address().filter(|_| config.max_per_address > 0) {
            self.context.limits.addresses.enter(&address, usize::MAX);
            self.note_address(index, address);
        }
    }

    fn limits_addresses(&self) -> bool {
        self.config().max_per_address > 0 || self.config().connect_rate_per_address > 0
    }

    fn note_address(&mut self, index: u32, address: AddressKey) {
        let place = index as usize;
        if place >= self.limits.addresses.len() {
            self.limits.addresses.resize(place + 1, None);
        }
        self.limits.addresses[place] = Some(address);
    }
}

/// Why one too many is refused.
fn surplus(reason: Reason) -> Refusal {
    let too_fast = |message| Refusal::limit("connect_rate", message).counted_as(reason);
    match reason {
        Reason::MaxPerAddress => {
            Refusal::limit("max_per_address", "the address has too many connections (option max_per_address)")
        }
        Reason::ConnectRate => too_fast("too many connections a second (option connect_rate)"),
        Reason::ConnectRatePerAddress => {
            too_fast("too many connections a second from one address (option connect_rate_per_address)")
        }
        _ => Refusal::full(),
    }
}
