//! Clients that were handed over and that no hub has taken in time: they are told to come back.

use super::queue::Overdue;
use super::Link;
use crate::attach::wire::{framed_len, FromHost};
use crate::config::Config;
use crate::context::client::Client;
use crate::http::refusal::Refusal;
use crate::http::unserved;
use crate::log::Level;
use crate::sys::socket;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{LazyLock, PoisonError};
use std::time::{Duration, Instant};

/// How often it is looked who has waited for too long, while anybody waits.
pub(super) const LOOK_MS: u64 = 50;
/// How long a client may take to end its side. A connection closed before that may be reset, and the answer lost.
const LINGER: Duration = Duration::from_secs(1);
/// How many are given that time at once.
const MAX_LINGERING: usize = 1024;

/// Refused clients that have not ended their side, and since when.
pub(super) type Lingering = VecDeque<(OwnedFd, Instant)>;

/// How heads are read here. What the hub allows is not known, and needs not be: the answer is the same for every page.
static ANY_HEAD: LazyLock<Config> = LazyLock::new(|| Config { allowed_origins: vec!["*".into()], ..Config::default() });

impl Link {
    /// Refuses who has waited for longer than `attach_timeout`, and lets go of who has gone. Says after how many
    /// milliseconds to look again, if anybody is left.
    pub(super) fn look_after_clients(&self) -> Option<u64> {
        let overdue = self.queue().take_overdue(Some(self.timeout()));
        if !overdue.is_empty() {
            self.refuse_all(overdue);
        }
        let mut lingering = self.lingering.lock().unwrap_or_else(PoisonError::into_inner);
        lingering.retain(|(fd, since)| since.elapsed() < LINGER && !has_ended(fd));
        (!lingering.is_empty() || self.queue().has_connections()).then_some(LOOK_MS)
    }

    /// Refuses everybody who still waits: the server ends.
    pub(super) fn refuse_those_left(&self) {
        let left = self.queue().take_overdue(None);
        self.refuse_all(left);
    }

    fn refuse_all(&self, overdue: Vec<Overdue>) {
        let mut lingering = self.lingering.lock().unwrap_or_else(PoisonError::into_inner);
        let refusal = Refusal::unavailable("busy", "the hub is away, or takes nothing");
        for Overdue { frame, fd } in overdue {
            // Written here, as a whole.
            let mut granted = None;
            if let Ok(FromHost::Adopt { head, grant }) = FromHost::read(&frame[framed_len(&[])..]) {
                unserved::refuse(&fd, head, &ANY_HEAD, &refusal);
                granted = grant;
            }
            Client::of(&fd).granted(granted.as_ref()).log(
                &self.log,
                Level::Warn,
                "no hub for a client",
                format_args!("a client is refused with 503: the hub has not taken it (option attach_timeout)"),
            );
            lingering.push_back((fd, Instant::now()));
        }
        let too_many = lingering.len().saturating_sub(MAX_LINGERING);
        lingering.drain(..too_many);
    }
}

/// Whether a client has ended its side. What it still says is dropped.
fn has_ended(fd: &OwnedFd) -> bool {
    let mut dropped = [0; 4096];
    match socket::recv(fd, &mut dropped) {
        Ok(len) => len == 0,
        Err(error) => !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted),
    }
}
