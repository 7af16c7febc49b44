//! Whether a request on the library's own listener may subscribe: the name by which it addresses the server is checked,
//! and a host or a token decides.

use crate::auth::Decision;
use crate::config::{hosts, Auth};
use crate::events::{Event, EventKind};
use crate::grant::Grant;
use crate::http::refusal::Refusal;
use crate::http::request::{self, Subscribe};
use crate::shard::connection::conn::{Flags, Phase, RequestId};
use crate::shard::Shard;
use crate::sys::socket;
use bytes::Bytes;
use std::sync::Arc;

/// The first decision about a request.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::shard) enum Admission {
    /// It goes on; the connection has its grant.
    Admitted,
    /// The host must be asked.
    Asked,
}

impl Shard {
    /// Checks the name by which a client addresses the server. A request that a host hands over was routed by the
    /// host's own rules. A request without a name passes, since no browser leaves it out.
    pub(in crate::shard) fn check_host(&self, index: u32, host: &str) -> Result<(), Refusal> {
        let config = self.config();
        let open = matches!(config.auth, Auth::Unset | Auth::None);
        if host.is_empty()
            || (config.allowed_hosts.is_empty() && !open)
            || self.conns[index as usize].is(Flags::ADOPTED)
        {
            return Ok(());
        }
        let passes = hosts::is_loopback(host)
            || hosts::is_listed(host, &config.allowed_hosts)
            || (config.allowed_hosts.is_empty() && !self.is_on_loopback(index));
        if passes {
            return Ok(());
        }
        let message = format!("the server may not be addressed as {host:.80}; the option allowed_hosts can allow it");
        Err(Refusal::forbidden("host", message))
    }

    /// Whether a connection came through a listener on the loopback. Asked only for names that are not the loopback's.
    /// One with TLS does not count: a page can't point its own name there, since there is no certificate for that.
    fn is_on_loopback(&self, index: u32) -> bool {
        let mut listeners = self.registry.on_loopback().peekable();
        if listeners.peek().is_none() {
            return false;
        }
        let local = self.socket_of(index).and_then(socket::loopback_address);
        local.is_some_and(|local| listeners.any(|listener| listener == local))
    }

    /// Decides by the option `auth`, anew for every request: polls of several users may share a proxy's connection.
    pub(in crate::shard) fn authorize(&mut self, index: u32, subscribe: &Subscribe<'_>) -> Result<Admission, Refusal> {
        self.check_surplus(index)?;
        let conn = &mut self.conns[index as usize];
        if conn.is(Flags::ADOPTED) || conn.unmark(Flags::ALLOWED) {
            return Ok(Admission::Admitted);
        }
        match self.context.authority().decide(subscribe.token.as_deref())? {
            Decision::Open => {}
            Decision::Granted(grant) => conn.grant = Some(Arc::new(grant)),
            Decision::AskHost if self.context.events.wanted() && !self.context.events.full() => {
                return Ok(Admission::Asked);
            }
            Decision::AskHost => {
                return Err(Refusal::unavailable(
                    "unanswered",
                    "the host does not read its events, or too many wait, so nobody can decide about this client",
                ));
            }
        }
        Ok(Admission::Admitted)
    }

    /// Asks the host, and keeps the request (the first `size` of `bytes`, with what came after it) until it answers.
    pub(in crate::shard) fn ask_host(&mut self, index: u32, channel: Option<&str>, bytes: &[u8], size: usize) {
        self.questions.last += 1;
        let request = self.questions.last;
        let token = self.token(index);
        self.questions.open.insert(request, token);
        let conn = &mut self.conns[index as usize];
        conn.phase = Phase::Asked;
        conn.joined = request;
        conn.received.unread = Some(Box::new(bytes.to_vec()));
        self.schedule(index, self.config().auth_timeout_ms);
        self.tell(Event {
            connection: self.number_of(index),
            request: RequestId { shard: self.handle.number, count: request }.to_number(),
            channel: channel.map(Arc::from),
            data: Bytes::copy_from_slice(&bytes[..size]),
            ..Event::new(EventKind::Request)
        });
    }

    /// The host said yes.
    pub(in crate::shard) fn allowed(&mut self, request: u64, grant: Arc<Grant>) {
        let Some(index) = self.answered(request) else { return };
        let conn = &mut self.conns[index as usize];
        conn.phase = Phase::Head;
        conn.flags.insert(Flags::ALLOWED);
        conn.grant = Some(grant);
        self.read_early(index);
    }

    /// The host said no.
    pub(in crate::shard) fn denied(&mut self, request: u64, refusal: &Refusal) {
        match self.answered(request) {
            Some(index) => self.refuse_asked(index, refusal),
            None if self.deny_publish(request, refusal) => {}
            None => self.refuse_call(request, refusal),
        }
    }

    /// The host said nothing.
    pub(in crate::shard) fn ask_timeout(&mut self, index: u32) {
        let refusal = self.out_of_patience(index).unwrap_or_else(|| {
            Refusal::unavailable("unanswered", "the host did not answer in time (option auth_timeout)")
        });
        self.forget_request(index);
        self.refuse_asked(index, &refusal);
    }

    /// A question that nobody needs answered any more.
    pub(in crate::shard) fn forget_request(&mut self, index: u32) {
        let conn = &self.conns[index as usize];
        if conn.phase == Phase::Asked {
            self.questions.open.remove(&conn.joined);
        }
    }

    /// The connection that a question was about, if it still waits for the answer. Each question is answered once: a
    /// late second answer must not let in the next request of the connection, which may be another user's.
    fn answered(&mut self, request: u64) -> Option<u32> {
        let token = self.questions.open.remove(&request)?;
        self.find(token).filter(|index| self.conns[*index as usize].phase == Phase::Asked)
    }

    /// Refuses the request that waits, in the form that its client understands.
    pub(in crate::shard) fn refuse_asked(&mut self, index: u32, refusal: &Refusal) {
        let unread = self.conns[index as usize].received.unread.take().unwrap_or_default();
        let config = self.config.clone();
        let conn = &self.conns[index as usize];
        let grant = conn.grant_that_subscribes();
        match request::read(&unread, &config, &self.known(conn, grant.as_deref())) {
            Ok(Some(head)) => {
                self.note_request(index, &head);
                self.refuse(index, refusal, &head.cors, head.sse);
                self.forget_wish();
            }
            _ => self.refuse(index, refusal, "", false),
        }
    }
}
