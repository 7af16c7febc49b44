//! Connections that wait for a hub which does not take them: each has a client at its other end.

use super::{Content, Entry, Queue};
use crate::attach::MAX_IN_FLIGHT;
use crate::sys::passing;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// A connection that does not wait any longer, with its frame.
#[derive(Debug)]
pub(in crate::attach::host_side) struct Overdue {
    pub(in crate::attach::host_side) frame: Vec<u8>,
    pub(in crate::attach::host_side) fd: OwnedFd,
}

impl Queue {
    /// Whether connections are left that a hub which is there has not taken: its socket is full, or it does not answer.
    pub(in crate::attach::host_side) fn has_stuck_connections(&self) -> bool {
        self.adopts > 0 && self.socket.is_some()
    }

    /// Whether any connection waits.
    pub(in crate::attach::host_side) fn has_connections(&self) -> bool {
        self.adopts > 0
    }

    /// Takes out the connections that have waited for this long because the hub is away or takes nothing, and closes
    /// those that their clients have left. Without a time: takes out all of them.
    pub(in crate::attach::host_side) fn take_overdue(&mut self, timeout: Option<Duration>) -> Vec<Overdue> {
        if self.adopts == 0 {
            return Vec::new();
        }
        let fds = self.waiting.iter().filter_map(|entry| match &entry.content {
            Content::Adopt { fd, .. } => Some(fd.as_raw_fd()),
            _ => None,
        });
        let gone = passing::gone(fds);
        let now = Instant::now();
        // A hub that takes what it gets is given the connection by the next flush, whenever the host comes to that.
        let stuck = self.socket.is_none() || self.blocked || self.broken || self.in_flight.len() >= MAX_IN_FLIGHT;
        let is_overdue =
            |since: Instant| timeout.is_none_or(|timeout| stuck && now.saturating_duration_since(since) >= timeout);
        let any = gone.contains(&true)
            || self
                .waiting
                .iter()
                .any(|entry| matches!(entry.content, Content::Adopt { since, .. } if is_overdue(since)));
        if !any {
            return Vec::new();
        }
        let (mut overdue, mut gone) = (Vec::new(), gone.into_iter());
        for entry in std::mem::take(&mut self.waiting) {
            let weight = entry.weight();
            match entry.content {
                Content::Adopt { fd, since } => {
                    let has_gone = gone.next().unwrap_or(false);
                    if !has_gone && !is_overdue(since) {
                        self.waiting.push_back(Entry { frame: entry.frame, content: Content::Adopt { fd, since } });
                        continue;
                    }
                    self.adopts -= 1;
                    self.bytes -= weight;
                    if !has_gone {
                        overdue.push(Overdue { frame: entry.frame, fd });
                    }
                }
                content => self.waiting.push_back(Entry { frame: entry.frame, content }),
            }
        }
        overdue
    }
}
