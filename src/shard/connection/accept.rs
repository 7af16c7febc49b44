//! New connections: from the library's own listeners, and from the host. From here on they are the same.

use crate::grant::Grant;
use crate::http::refusal::Refusal;
use crate::log::Level;
use crate::metrics::Reason;
use crate::shard::connection::conn::{Conn, Flags, Token};
use crate::shard::turn::command::Adopted;
use crate::shard::turn::live_set::LiveSet;
use crate::shard::Shard;
use crate::sys::epoll::Watch;
use crate::sys::listener::{Round, REST_MS};
use crate::sys::socket;
use std::os::fd::OwnedFd;

/// How many connections one turn takes from a listener, before others get theirs.
const ACCEPTS: usize = 256;
/// How many connections beyond `max_connections` are heard, to be refused in their own way.
const SURPLUS: usize = 64;

impl Shard {
    /// Accepts connections from a listener. It is watched by level, so the rest is told again.
    pub(in crate::shard) fn accept_from(&mut self, number: usize) {
        let mut round = Round::new(ACCEPTS);
        loop {
            match self.registry.accept(number, &mut round, self.turn.now) {
                Some(Ok(fd)) => self.accepted(fd),
                Some(Err(error)) => {
                    let text = format_args!("accept: {error}; trying again in {REST_MS} ms");
                    return self.context.note_refusal(Level::Warn, Reason::Resources, text);
                }
                None => return,
            }
        }
    }

    pub(in crate::shard) fn accepted(&mut self, fd: OwnedFd) {
        self.handle.metrics.accepted.add(1);
        let max = self.config().max_connections;
        let open = self.context.limits.connections.enter();
        if max > 0 && open >= max + SURPLUS {
            return self.leave_out(&fd, &[], &Refusal::full(), None);
        }
        if let Some(index) = self.enter(fd, &[], None) {
            self.conns[index as usize].surplus = (max > 0 && open >= max).then_some(Reason::MaxConnections);
            self.schedule(index, self.config().head_timeout_ms);
            self.check_peer(index, true);
        }
    }

    /// Takes over a connection that the host accepted, with the bytes that the host has read of the request.
    pub(in crate::shard) fn adopt(&mut self, Adopted { fd, head, grant, delays }: Adopted<'_>) {
        self.handle.metrics.adopted.add(1);
        self.do_acts_first();
        if delays {
            socket::set_nodelay(&fd);
        }
        // The host may have set it, on the connection or on its listener. It would hold up all clients of this shard.
        socket::end_in_background(&fd);
        let Some(index) = self.enter(fd, &head, grant.as_deref()) else { return };
        let conn = &mut self.conns[index as usize];
        conn.flags.insert(Flags::ADOPTED);
        conn.grant = grant;
        self.schedule(index, self.config().head_timeout_ms);
        // The host has read a PROXY header if there was one.
        self.check_peer(index, false);
        // As if it had just been read.
        let mut scratch = std::mem::take(&mut self.reading.scratch);
        match scratch.get_mut(..head.len()) {
            Some([]) => {}
            Some(bytes) => {
                bytes.copy_from_slice(&head);
                self.received(index, bytes);
            }
            None => self.received(index, &mut head.into_owned()),
        }
        self.recount(index);
        self.reading.scratch = scratch;
    }

    /// Gives a connection, which is counted already, its place and watches it. `head`: the bytes that the host has
    /// read.
    fn enter(&mut self, fd: OwnedFd, head: &[u8], grant: Option<&Grant>) -> Option<u32> {
        match self.place(&fd, Watch::EdgeRead) {
            Ok(Token { index, .. }) => {
                self.conns[index as usize].socket = Some(fd);
                Some(index)
            }
            Err(refusal) => {
                self.leave_out(&fd, head, &refusal, grant);
                None
            }
        }
    }

    /// A place for a connection, and its socket in the epoll. The caller puts the socket or the sink there.
    pub(in crate::shard) fn place(&mut self, fd: &OwnedFd, watch: Watch) -> Result<Token, Refusal> {
        if self.conns.len() >= LiveSet::CAPACITY {
            return Err(Refusal::unavailable("full", "a thread has as many connections as it can have"));
        }
        let entry = self.conns.vacant_entry();
        let token = self.registry.add(entry.key() as u32, fd, watch).map_err(|error| {
            // fs.epoll.max_user_watches is reached, or memory is out.
            Refusal::unavailable("resources", format!("a connection can't be watched: {error}"))
        })?;
        entry.insert(Conn::new(None, token.generation));
        self.handle.live.enter(token);
        self.handle.metrics.connections.add(1);
        Ok(token)
    }

    /// Has the kernel probe the connections that are accepted from now on.
    pub(in crate::shard) fn probe_listeners(&self) {
        self.registry.probe(self.config().probes());
    }

    /// Wakes listeners that have rested.
    pub(in crate::shard) fn resume_listeners(&mut self) {
        for error in self.registry.resume(self.turn.now) {
            let text = format_args!("a listener can't be watched: {error}; trying again in {REST_MS} ms");
            self.context.note_refusal(Level::Warn, Reason::Resources, text);
        }
    }

    pub(in crate::shard) fn listener_resumes_in(&self) -> Option<u64> {
        Some(self.registry.rests_until()?.saturating_sub(self.turn.now).max(1))
    }
}
