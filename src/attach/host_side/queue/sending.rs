//! Moves frames from the queue into the socket, as far as the socket takes them: many frames in one call, and many
//! descriptors.

use super::{Content, Entry, Lane, Queue, RequestKind};
use crate::attach::wire::{append, FromHost, ANSWERS_AT_ONCE, NAMES_TIME, NUMBERS_COMMANDS, TRACES};
use crate::sys::passing;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Instant;

/// About how many bytes one send takes.
const SEND: usize = 256 * 1024;

impl Queue {
    /// Sends what fits. True if the thread must go on with it.
    pub(in crate::attach::host_side) fn flush(&mut self) -> bool {
        let Some(socket) = self.connection.ready().cloned() else { return false };
        loop {
            let flushed = self.connection.out.flush(&socket);
            self.bytes -= self.connection.let_go();
            match flushed {
                Ok(true) => {}
                Ok(false) => {
                    self.connection.blocked = true;
                    return true;
                }
                Err(_) => {
                    self.connection.break_off(&socket);
                    return true;
                }
            }
            if !self.fill() {
                match self.send_adopts(&socket) {
                    Some(true) => {}
                    Some(false) => return true,
                    None => return false,
                }
            }
        }
    }

    /// There is room in the socket again.
    pub(in crate::attach::host_side) fn unblock(&mut self) {
        self.connection.blocked = false;
        self.flush();
    }

    /// Moves waiting frames into the send buffer, up to the first one with a descriptor. False if there were none.
    fn fill(&mut self) -> bool {
        let mut any = false;
        while self.connection.out.len() < SEND {
            let Some(lane) = self.next_lane() else { break };
            if let Some(Entry { content: Content::Adopt { .. }, .. }) = self.waiting.of(lane).front() {
                break;
            }
            let Some(mut entry) = self.waiting.of(lane).pop_front() else { break };
            any = true;
            let start = self.connection.out.tail().len();
            let untraced = if self.connection.version < TRACES { FromHost::untraced(&entry.frame) } else { None };
            self.connection.out.tail().extend_from_slice(untraced.as_ref().unwrap_or(&entry.frame));
            let Content::Request { sent, kind, number, .. } = &mut entry.content else {
                match entry.content {
                    Content::OfThisHub => self.connection.keep(entry),
                    _ => self.bytes -= entry.weight(),
                }
                continue;
            };
            *sent = true;
            match *kind {
                RequestKind::Asks(Some(until)) if self.connection.version >= NAMES_TIME => {
                    let left = until.saturating_duration_since(Instant::now()).as_millis();
                    append(self.connection.out.tail(), start, &(left.min(u128::from(u32::MAX)) as u32).to_le_bytes());
                }
                RequestKind::Commands => {
                    if self.connection.version >= NUMBERS_COMMANDS {
                        append(self.connection.out.tail(), start, &number.to_le_bytes());
                    }
                    FromHost::Batch { number: *number, publications: Vec::new() }.write(self.connection.out.tail());
                }
                RequestKind::Publishes | RequestKind::Asks(_) | RequestKind::Nothing => {}
            }
            self.in_flight.push(entry);
        }
        any
    }

    /// The lane with the next frame that may be sent. Too many requests may be unanswered, or their bytes. Then frames
    /// that are not requests that publish pass those that are.
    fn next_lane(&self) -> Option<Lane> {
        self.waiting.next(self.publishing_may_go(), self.free_may_go())
    }

    pub(super) fn publishing_may_go(&self) -> bool {
        self.waiting.publishing.front().is_some_and(|next| self.in_flight.may_publish(next))
    }

    /// True if nothing may pass the messages. An older hub numbers all requests in one row: it takes a message for done
    /// once it has done a later request.
    fn is_in_one_row(&self) -> bool {
        self.connection.version < ANSWERS_AT_ONCE
    }

    /// False if the next frame is a request, and too many are unanswered, or if it must wait for a message.
    pub(super) fn free_may_go(&self) -> bool {
        let Some(next) = self.waiting.free.front() else { return true };
        let is_behind = |message: &Entry| message.place < next.place;
        if self.is_in_one_row() && self.waiting.publishing.front().is_some_and(is_behind) {
            return false;
        }
        let is_request = |entry: &Entry| matches!(entry.content, Content::Request { .. });
        self.in_flight.may_ask() || !is_request(next)
    }

    /// Sends consecutive connections, with all their descriptors in one call. The send buffer must be empty. `None` if
    /// no connection waits.
    fn send_adopts(&mut self, socket: &OwnedFd) -> Option<bool> {
        let (mut bytes, mut fds) = (Vec::new(), Vec::<RawFd>::new());
        // A message that may be sent now keeps its place among them.
        let message = self.waiting.publishing.front().filter(|_| self.is_in_one_row() || self.publishing_may_go());
        let end = message.map_or(u64::MAX, |entry| entry.place);
        for entry in self.waiting.free.iter().take(passing::MAX_PASSED).take_while(|entry| entry.place < end) {
            let Content::Adopt { fd, .. } = &entry.content else { break };
            fds.push(fd.as_raw_fd());
            bytes.extend_from_slice(&entry.frame);
        }
        if fds.is_empty() {
            return None;
        }
        match passing::send_with(socket, &bytes, &fds) {
            Ok(sent) => {
                // The descriptors have gone with the first byte. Our copies are closed here.
                for entry in self.waiting.free.drain(..fds.len()) {
                    self.bytes -= entry.weight();
                }
                self.adopts -= fds.len();
                self.connection.out.tail().extend_from_slice(&bytes[sent..]);
                Some(true)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Some(true),
            // ETOOMANYREFS (unix(7)): the hub is slow to receive the descriptors that we pass.
            Err(error) if error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ETOOMANYREFS) => {
                self.connection.blocked = true;
                Some(false)
            }
            Err(_) => {
                self.connection.break_off(socket);
                Some(false)
            }
        }
    }
}
