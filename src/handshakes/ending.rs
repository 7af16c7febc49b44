//! The end of handshakes that are not completed. Each end is counted and logged, unless the client only closed its
//! connection.

use super::thread::{Connecting, Stage, Thread};
use crate::context::client::Client;
use crate::limits::AddressKey;
use crate::log::Level;
use crate::metrics::Reason;
use crate::sys::clock;
use crate::sys::socket;
use crate::tls::outcome::Failure;
use std::fmt;
use std::os::fd::OwnedFd;

/// The most bytes that are read and dropped of a client that is refused.
const LEFT: usize = 64 * 1024;

impl Thread {
    /// Ends the clients that took too long.
    pub(super) fn end_late(&mut self) {
        let limit = self.context.config.get().head_timeout_ms;
        let now = clock::monotonic_ms();
        while let Some((came, token)) = self.order.front() {
            let there = |client: &&Connecting| client.token == *token;
            if self.clients.get(*token as u32 as usize).filter(there).is_none() {
                self.order.pop_front();
            } else if came + limit <= now {
                self.end_oldest(Reason::Timeout, "it was not done within head_timeout");
            } else {
                return;
            }
        }
    }

    /// Ends the client whose handshake takes longest.
    fn end_oldest(&mut self, reason: Reason, why: &str) {
        while let Some((_, token)) = self.order.pop_front() {
            if self.end_early(token, reason, why) {
                return;
            }
        }
    }

    /// Ends a client, so that another one has its place.
    pub(super) fn make_room(&mut self) {
        const WHY: &str = "too many handshakes were under way, and it was the oldest";
        match self.crowd.oldest_of_most() {
            Some(token) => drop(self.end_early(token, Reason::Busy, WHY)),
            None => self.end_oldest(Reason::Busy, WHY),
        }
    }

    /// Ends a client whose handshake is not done. False: it is no longer there.
    pub(super) fn end_early(&mut self, token: u64, reason: Reason, why: &str) -> bool {
        let index = token as u32 as usize;
        let there = self.clients.get(index).is_some_and(|client| client.token == token);
        if there {
            self.note(index, reason, format_args!("its TLS handshake was ended: {why}"));
            self.end(index);
        }
        there
    }

    /// Counts and logs why a handshake has failed. A client that only closed its connection has done nothing
    /// wrong.
    pub(super) fn note_failure(&self, index: usize) {
        let Stage::ShakesHands(session) = &self.clients[index].stage else { return };
        let Some(failure) = session.failure() else { return };
        let reason = match failure {
            Failure::Name => Reason::TlsName,
            Failure::TooMuch(_) => Reason::TooLarge,
            Failure::Tls(_) => Reason::Tls,
        };
        self.note(index, reason, format_args!("the TLS handshake failed: {failure}"));
    }

    pub(super) fn end(&mut self, index: usize) {
        let Some(client) = self.clients.try_remove(index) else { return };
        // Unread data would turn the close into a reset, and the alert might be lost.
        self.scratch.resize(self.scratch.len().max(LEFT), 0);
        let _ = socket::recv(client.socket(), &mut self.scratch);
        self.forget(&client);
    }

    /// A client is no longer among the others. Its connection ends.
    fn forget(&mut self, client: &Connecting) {
        // A forked child may hold the descriptor too; closing ours alone would not end the connection.
        socket::shutdown_both(client.socket());
        self.crowd_leaves(client.address, client.token);
        if let Some(address) = &client.counted {
            self.context.limits.addresses.leave(address);
        }
        self.uncount();
    }

    pub(super) fn crowd_leaves(&mut self, address: Option<AddressKey>, token: u64) {
        if let Some(address) = address {
            self.crowd.leave(address, token);
        }
    }

    pub(super) fn note(&self, index: usize, reason: Reason, text: fmt::Arguments<'_>) {
        let Some(client) = self.clients.get(index) else { return };
        self.context.note_refusal_of(Client::at(client.peer), Level::Info, reason, text);
    }

    /// The same for a connection that is not among the others.
    pub(super) fn note_at(&self, fd: &OwnedFd, reason: Reason, text: fmt::Arguments<'_>) {
        self.context.note_refusal_of(Client::of(fd), Level::Info, reason, text);
    }

    /// A connection that was counted is gone.
    pub(super) fn uncount(&self) {
        self.context.limits.connections.leave();
    }

    pub(super) fn forget_all(&mut self) {
        let all: Vec<usize> = self.clients.iter().map(|(index, _)| index).collect();
        for index in all {
            if let Some(client) = self.clients.try_remove(index) {
                self.forget(&client);
            }
        }
        self.order.clear();
        // A panic may have left it in any state.
        self.crowd.clear();
    }
}
