//! Whether a request on the library's own listener may subscribe, where a host or a token decides.

use super::conn::{Phase, Token};
use super::Shard;
use crate::auth::Decision;
use crate::events::{Event, EventKind};
use crate::grant::Grant;
use crate::http::refusal::Refusal;
use crate::http::request::Subscribe;
use bytes::Bytes;
use std::sync::Arc;

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It goes on; the connection has its grant.
    Admitted,
    /// The host must be asked.
    Asked,
}

impl Shard {
    /// Decides by the option `auth`, anew for every request: polls of several users may share a proxy's connection.
    pub(super) fn authorize(&mut self, index: u32, subscribe: &Subscribe<'_>) -> Result<Admission, Refusal> {
        let conn = &mut self.conns[index as usize];
        if conn.flags.adopted || std::mem::take(&mut conn.flags.allowed) {
            return Ok(Admission::Admitted);
        }
        match self.shared.authority.decide(subscribe.token.as_deref())? {
            Decision::Open => {}
            Decision::Granted(grant) => conn.grant = Some(Arc::new(grant)),
            Decision::AskHost if self.shared.events.wanted() => return Ok(Admission::Asked),
            Decision::AskHost => {
                return Err(Refusal::unavailable("unanswered", "the host does not answer for its clients yet"));
            }
        }
        Ok(Admission::Admitted)
    }

    /// Asks the host, and keeps the request (the first `size` of `bytes`, with what came after it) until it answers.
    pub(super) fn ask_host(&mut self, index: u32, channel: Option<&str>, bytes: &[u8], size: usize) {
        let conn = &mut self.conns[index as usize];
        conn.phase = Phase::Asked;
        conn.unread = Some(Box::new(bytes.to_vec()));
        self.schedule(index, self.config().auth_timeout_ms);
        self.tell(Event {
            kind: EventKind::Request,
            connection: self.number_of(index),
            user: None,
            channel: channel.map(Arc::from),
            data: Bytes::copy_from_slice(&bytes[..size]),
            binary: false,
            code: 0,
            host: 0,
        });
    }

    /// The host said yes.
    pub(super) fn allowed(&mut self, to: Token, grant: Arc<Grant>) {
        let Some(index) = self.asked(to) else { return };
        let conn = &mut self.conns[index as usize];
        conn.phase = Phase::Head;
        conn.flags.allowed = true;
        conn.grant = Some(grant);
        self.read_early(index);
    }

    /// The host said no.
    pub(super) fn denied(&mut self, to: Token, refusal: &Refusal) {
        if let Some(index) = self.asked(to) {
            self.refuse(index, refusal, "", false);
        }
    }

    /// The host said nothing.
    pub(super) fn ask_timeout(&mut self, index: u32) {
        let refusal = Refusal::unavailable("unanswered", "the host did not answer in time (option auth_timeout)");
        self.refuse(index, &refusal, "", false);
    }

    fn asked(&self, to: Token) -> Option<u32> {
        self.find(to).filter(|index| self.conns[*index as usize].phase == Phase::Asked)
    }
}
