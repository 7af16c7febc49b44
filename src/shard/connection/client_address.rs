//! The client's address of a connection, for lines of the log.
//!
//! A direct client's address is asked for when a line about it is written. That of one behind a proxy is remembered
//! beside the slab, from its PROXY header or its latest request, and only while the log names addresses.

use crate::context::client::{AddressSource, Client};
use crate::framing::Transport;
use crate::http::forwarded;
use crate::http::request::{Head, Wish};
use crate::limits::Peer;
use crate::log::Level;
use crate::shard::connection::conn::Flags;
use crate::shard::Shard;
use rustc_hash::FxHashMap;
use std::fmt;
use std::net::IpAddr;

/// Addresses of clients, remembered for the log.
#[derive(Debug, Default)]
pub(in crate::shard) struct ClientAddresses {
    /// The addresses that proxies have told, by slot.
    addresses: FxHashMap<u32, IpAddr>,
    /// The transport that the request under way asks for.
    asked: Option<Transport>,
}

impl ClientAddresses {
    /// A connection is no longer in the slab, or its address is no longer known.
    pub(in crate::shard) fn forget(&mut self, index: u32) {
        if self.addresses.remove(&index).is_some() {
            // A crowd that was here must not keep its room for ever.
            if self.addresses.capacity() > 1024 && self.addresses.len() * 8 < self.addresses.capacity() {
                self.addresses.shrink_to(self.addresses.len() * 2);
            }
        }
    }
}

impl Shard {
    /// Logs a line about a client, which it names at its end.
    pub(in crate::shard) fn log_about(
        &self,
        index: u32,
        transport: Option<Transport>,
        level: Level,
        kind: &'static str,
        text: fmt::Arguments<'_>,
    ) {
        let client = Client { transport, ..self.client(index) };
        client.log(&self.context.log, level, kind, text);
    }

    /// The client of a connection, as the log names it.
    pub(in crate::shard) fn client(&self, index: u32) -> Client<'_> {
        let Some(conn) = self.conns.get(index as usize) else { return Client::default() };
        let named = self.side.client_addresses.addresses.get(&index).map(|ip| AddressSource::Known(Peer::Ip(*ip)));
        let client = Client {
            connection: self.number_of(index),
            address: named.or(self.socket_of(index).map(AddressSource::Of)).unwrap_or_default(),
            transport: conn.transport().or(self.side.client_addresses.asked),
            ..Client::default()
        };
        client.granted(conn.grant.as_deref())
    }

    /// A request was read: which client it is of, where a proxy speaks for it, and how it wants to be served.
    pub(in crate::shard) fn note_request(&mut self, index: u32, head: &Head<'_>) {
        self.side.client_addresses.asked = match &head.wish {
            Ok(Wish::Subscribe(subscribe)) => Some(subscribe.transport),
            _ => head.sse.then_some(Transport::Sse),
        };
        if self.config.trusted_proxies.is_empty() || self.is_named(index) {
            return;
        }
        // The next request of a proxy's connection may be another client's.
        self.side.client_addresses.forget(index);
        if head.forwarded.is_empty() || !self.context.log.names_addresses() {
            return;
        }
        let (config, conn) = (&self.config, &self.conns[index as usize]);
        let from_proxy =
            || self.socket_of(index).and_then(Peer::of).is_some_and(|peer| config.trusted_proxies.contains(peer));
        if conn.is(Flags::PROXIED) || from_proxy() {
            let client = forwarded::client(&head.forwarded, config.forwarded_header, &config.trusted_proxies);
            self.side.client_addresses.addresses.extend(client.map(|ip| (index, ip.to_canonical())));
        }
    }

    /// The request under way is answered, or waits.
    pub(in crate::shard) fn forget_wish(&mut self) {
        self.side.client_addresses.asked = None;
    }

    /// A PROXY header was read. It names a client, or one more proxy with requests that name the client.
    pub(in crate::shard) fn note_source(&mut self, index: u32, source: Option<Peer>) {
        if !self.context.log.names_addresses() {
            return;
        }
        let Some(peer) = source.or_else(|| self.socket_of(index).and_then(Peer::of)) else { return };
        if self.config.trusted_proxies.contains(peer) {
            self.conns[index as usize].flags.insert(Flags::PROXIED);
        } else if let Peer::Ip(ip) = peer {
            self.side.client_addresses.addresses.insert(index, ip);
        }
    }

    /// Whether its PROXY header has named the client of a connection, so that no request can.
    fn is_named(&self, index: u32) -> bool {
        let conn = &self.conns[index as usize];
        self.config.proxy_protocol && !conn.is(Flags::ADOPTED) && !conn.is(Flags::PROXIED)
    }
}
