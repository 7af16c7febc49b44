//! Refuses clients that were handed over and that no hub has taken in time. The answer tells them to come back.

use super::queue::Overdue;
use super::Link;
use crate::attach::wire::{framed_len, FromHost};
use crate::context::client::Client;
use crate::http::refusal::Refusal;
use crate::http::unserved;
use crate::log::Level;
use crate::sys::socket;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// The time between two checks, while a client waits.
pub(super) const CHECK_MS: u64 = 50;
/// How long a client may take to close its side. If we close earlier, the connection may be reset and the answer lost.
const LINGER: Duration = Duration::from_secs(1);
/// The number of clients that get this time at once.
const MAX_LINGERING: usize = 1024;

/// Refused clients that have not closed their side, each with the time of the refusal.
pub(super) type Lingering = VecDeque<(OwnedFd, Instant)>;

impl Link {
    /// Refuses the clients that have waited for longer than `attach_timeout`, and closes those that have gone. Returns
    /// the milliseconds until the next check, or `None` if no client is left.
    pub(super) fn check_waiting_clients(&self) -> Option<u64> {
        let overdue = self.queue().take_overdue(Some(self.timeout()));
        if !overdue.is_empty() {
            self.refuse_all(overdue);
        }
        let mut lingering = self.lingering.lock().unwrap_or_else(PoisonError::into_inner);
        lingering.retain(|(fd, since)| since.elapsed() < LINGER && !has_ended(fd));
        (!lingering.is_empty() || self.queue().has_connections()).then_some(CHECK_MS)
    }

    /// Refuses all clients that still wait, since the server ends.
    pub(super) fn refuse_waiting_clients(&self) {
        let left = self.queue().take_overdue(None);
        self.refuse_all(left);
    }

    fn refuse_all(&self, overdue: Vec<Overdue>) {
        let mut lingering = self.lingering.lock().unwrap_or_else(PoisonError::into_inner);
        for Overdue { frame, fd, why: (told, logged) } in overdue {
            let refusal = Refusal::unavailable("busy", told);
            // We wrote this frame, so it is complete.
            let mut granted = None;
            if let Ok(FromHost::Adopt { head, grant }) = FromHost::read(&frame[framed_len(&[])..]) {
                unserved::refuse(&fd, head, &unserved::ANY_ORIGIN, &refusal);
                granted = grant;
            }
            Client::of(&fd).granted(granted.as_ref()).log(
                &self.log,
                Level::Warn,
                "no hub for a client",
                format_args!("{logged}"),
            );
            lingering.push_back((fd, Instant::now()));
        }
        let too_many = lingering.len().saturating_sub(MAX_LINGERING);
        lingering.drain(..too_many);
    }
}

/// True if a client has closed its side. Its remaining data is dropped.
fn has_ended(fd: &OwnedFd) -> bool {
    let mut dropped = [0; 4096];
    match socket::recv(fd, &mut dropped) {
        Ok(len) => len == 0,
        Err(error) => !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted),
    }
}
