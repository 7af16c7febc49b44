//! Connections that wait for a hub that does not take them. Each has a client at its other end.

use super::{Content, Entry, Queue};
use crate::sys::passing;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// A connection that has waited long enough, with its frame.
#[derive(Debug)]
pub(in crate::attach::host_side) struct Overdue {
    pub(in crate::attach::host_side) frame: Vec<u8>,
    pub(in crate::attach::host_side) fd: OwnedFd,
    /// The message for its client, and the line for the log.
    pub(in crate::attach::host_side) why: (&'static str, &'static str),
}

/// The hub has not taken the connection in time.
const NOT_TAKEN: (&str, &str) = (
    "the hub can't be reached, or does not take connections",
    "a client is refused with 503: the hub has not taken it (option attach_timeout)",
);
/// The connection waited for a hub, and the hub that came is too old for its grant.
const TOO_OLD: (&str, &str) = (
    "the hub can't do that now",
    "a client is refused with 503: the hub is older than this library, and does not support a field of its grant \
     (subscribe, info)",
);

impl Queue {
    /// True if a hub is there, but has not taken some connections: its socket is full, or the hub does not answer.
    pub(in crate::attach::host_side) fn has_stuck_connections(&self) -> bool {
        self.adopts > 0 && self.is_attached() || !self.not_for_this_hub.is_empty()
    }

    /// Whether any connection waits.
    pub(in crate::attach::host_side) fn has_connections(&self) -> bool {
        self.adopts > 0 || !self.not_for_this_hub.is_empty()
    }

    /// Takes out the frames that a hub of this version does not know.
    pub(super) fn take_out_newer(&mut self, version: u16) {
        for entry in self.waiting.take_out(|entry| entry.version > version) {
            self.bytes -= entry.weight();
            match entry.content {
                Content::Request { waiter: Some(waiter), .. } => waiter.tell(Err(super::older_hub())),
                Content::Adopt { fd, .. } => {
                    self.adopts -= 1;
                    self.not_for_this_hub.push(Overdue { frame: entry.frame, fd, why: TOO_OLD });
                }
                _ => {}
            }
        }
    }

    /// Removes and returns the connections that have waited for `timeout` because the hub can't be reached or takes
    /// nothing. Closes those that their clients have left. Without a timeout, it removes all connections.
    pub(in crate::attach::host_side) fn take_overdue(&mut self, timeout: Option<Duration>) -> Vec<Overdue> {
        let mut overdue = std::mem::take(&mut self.not_for_this_hub);
        if self.adopts == 0 {
            return overdue;
        }
        let fds = self.waiting.free.iter().filter_map(|entry| match &entry.content {
            Content::Adopt { fd, .. } => Some(fd.as_raw_fd()),
            _ => None,
        });
        let gone = passing::gone(fds);
        let now = Instant::now();
        // A hub that takes frames gets the connection with the next flush, whenever the host calls that.
        let stuck = self.connection.ready().is_none() || !self.free_may_go();
        let is_overdue =
            |since: Instant| timeout.is_none_or(|timeout| stuck && now.saturating_duration_since(since) >= timeout);
        let any = gone.contains(&true)
            || self
                .waiting
                .free
                .iter()
                .any(|entry| matches!(entry.content, Content::Adopt { since, .. } if is_overdue(since)));
        if !any {
            return overdue;
        }
        let mut gone = gone.into_iter();
        for entry in std::mem::take(&mut self.waiting.free) {
            let weight = entry.weight();
            let Entry { frame, content, version, place } = entry;
            match content {
                Content::Adopt { fd, since } => {
                    let has_gone = gone.next().unwrap_or(false);
                    if !has_gone && !is_overdue(since) {
                        let content = Content::Adopt { fd, since };
                        self.waiting.free.push_back(Entry { frame, content, version, place });
                        continue;
                    }
                    self.adopts -= 1;
                    self.bytes -= weight;
                    if !has_gone {
                        overdue.push(Overdue { frame, fd, why: NOT_TAKEN });
                    }
                }
                content => self.waiting.free.push_back(Entry { frame, content, version, place }),
            }
        }
        overdue
    }
}
