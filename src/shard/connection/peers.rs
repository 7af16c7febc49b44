//! The peer of a connection, and the limits on the number of its connections.
//!
//! A direct client is counted from the moment it connects. A client behind a trusted proxy is counted while its
//! subscription is open: only the request names the client, and the next request on the proxy's connection may name
//! another. Addresses stand beside the slab and not in its entries, so they cost nothing while no option asks for them.

use crate::config::Config;
use crate::http::forwarded;
use crate::http::proxy_header;
use crate::http::refusal::Refusal;
use crate::limits::{AddressKey, Peer, SURPLUS_PER_ADDRESS};
use crate::metrics::Reason;
use crate::shard::connection::close::uncount_user;
use crate::shard::connection::conn::{Flags, Phase};
use crate::shard::Shard;

impl Shard {
    /// Checks the peer of a new connection, if an option asks for that. Clients of TLS were checked before their
    /// handshake.
    pub(in crate::shard) fn check_peer(&mut self, index: u32, reads_header: bool) {
        let config = self.config();
        let (reads_header, limited) = (reads_header && config.proxy_protocol, self.limits_addresses());
        if !config.checks_new_connections() {
            return;
        }
        if config.connect_rate > 0 && !self.context.limits.connects.take(config.connect_rate, self.turn.now) {
            self.conns[index as usize].surplus.get_or_insert(Reason::ConnectRate);
        }
        if !reads_header && !limited {
            return;
        }
        let Some(peer) = self.socket_of(index).and_then(Peer::of) else { return self.drop_conn(index) };
        if !reads_header {
            return self.count_peer(index, peer, &[]);
        }
        if !self.config().trusted_proxies.contains(peer) {
            let text = format_args!(
                "the connection does not come from one of trusted_proxies; the option proxy_protocol requires that"
            );
            self.note_refusal(self.client(index), Reason::ProxyHeader, text);
            return self.drop_conn(index);
        }
        self.conns[index as usize].flags.insert(Flags::PROXY_HEADER);
    }

    /// Reads the PROXY header that a connection begins with, and returns its length. `None`: it is incomplete, or it
    /// was refused.
    pub(in crate::shard) fn take_proxy_header(&mut self, index: u32, bytes: &[u8]) -> Option<usize> {
        let conn = &mut self.conns[index as usize];
        match proxy_header::read(bytes) {
            Ok(None) => {
                conn.received.unread = Some(Box::new(bytes.to_vec()));
                None
            }
            Ok(Some(header)) => {
                conn.flags.remove(Flags::PROXY_HEADER);
                self.note_source(index, header.source);
                if self.limits_addresses() {
                    // Without a source the proxy speaks for itself, as with its health checks.
                    let peer = header.source.or_else(|| self.socket_of(index).and_then(Peer::of));
                    if let Some(peer) = peer {
                        self.count_peer(index, peer, &bytes[header.size..]);
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

    /// Counts a direct client. A trusted proxy is not counted, since each of its requests names the client.
    /// `head`: the bytes that were read of its request.
    fn count_peer(&mut self, index: u32, peer: Peer, head: &[u8]) {
        if self.config().trusted_proxies.contains(peer) {
            self.conns[index as usize].flags.insert(Flags::PROXIED);
            return;
        }
        let Some(address) = peer.address() else { return };
        let (max, rate) = (self.config().max_per_address, self.config().connect_rate_per_address);
        if rate > 0 && !self.context.limits.address_rates.take(address, rate, self.turn.now) {
            self.conns[index as usize].surplus.get_or_insert(Reason::ConnectRatePerAddress);
        }
        if max == 0 {
            return;
        }
        match self.context.limits.addresses.enter(&address, max + SURPLUS_PER_ADDRESS) {
            Some(count) => {
                self.note_address(index, address);
                if count > max {
                    self.conns[index as usize].surplus.get_or_insert(Reason::MaxPerAddress);
                }
            }
            None => {
                if let Some(fd) = self.socket_of(index) {
                    self.turn_away(fd, head, &surplus(Reason::MaxPerAddress), self.client(index));
                }
                self.drop_conn(index);
            }
        }
    }

    /// Notes the address of a client that was checked before its TLS handshake, and counted if the limit was there.
    #[cfg(feature = "tls")]
    pub(in crate::shard) fn note_checked_peer(&mut self, index: u32, peer: Peer, counted: Option<AddressKey>) {
        let is_proxy = self.limits_addresses() && self.config().trusted_proxies.contains(peer);
        self.conns[index as usize].flags.set(Flags::PROXIED, is_proxy);
        let is_late = self.config().max_per_address > 0 && !is_proxy;
        let address = counted.or_else(|| {
            let address = peer.address().filter(|_| is_late)?;
            self.context.limits.addresses.enter(&address, usize::MAX);
            Some(address)
        });
        if let Some(address) = address {
            self.note_address(index, address);
        }
    }

    /// Refuses a connection that came when a limit was reached.
    pub(in crate::shard) fn check_surplus(&self, index: u32) -> Result<(), Refusal> {
        self.conns[index as usize].surplus.map_or(Ok(()), |reason| Err(surplus(reason)))
    }

    /// Counts a subscription that is about to open, for its user and, behind a proxy, its address. This is the last
    /// check before it opens. When it ends, the counts are taken back.
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
            if rate > 0 && !limits.address_rates.take(address, rate, self.turn.now) {
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

    /// Counts a connection for its new user instead of the old one. The new user's limit does not end it.
    pub(in crate::shard) fn change_user(&mut self, index: u32, change: impl FnOnce(&mut Self)) {
        let counted = self.conns[index as usize].is(Flags::USER_COUNTED);
        uncount_user(&mut self.conns[index as usize], &self.context.limits);
        change(self);
        if counted || self.config.max_per_user > 0 {
            self.count_user(index);
        }
    }

    /// Counts the connections that exist, for limits that a reload has turned on. None is closed for them.
    ///
    /// The addresses that proxies named were not kept. A client behind a proxy counts from its next request on. If a
    /// PROXY header has named it, it does not count at all.
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

    /// Counts the subscription of a connection, if it has one, for its user. A limit that is reached does not matter.
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
        let is_counted = self.side.limits.addresses.get(index as usize).is_some_and(Option::is_some);
        let names_itself = config.proxy_protocol && !conn.is(Flags::ADOPTED);
        if is_counted || names_itself {
            return;
        }
        let Some(peer) = self.side.sinks.socket(index, conn.socket.as_ref()).and_then(Peer::of) else { return };
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
        if place >= self.side.limits.addresses.len() {
            self.side.limits.addresses.resize(place + 1, None);
        }
        self.side.limits.addresses[place] = Some(address);
    }
}

/// The refusal of a connection that is one too many.
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
