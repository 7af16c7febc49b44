//! Moves frames from the queue into the socket, as far as the socket takes them: many frames in one call, and many
//! descriptors.

use super::{Content, Entry, Queue};
use crate::attach::MAX_IN_FLIGHT;
use crate::sys::{passing, socket};
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// About how many bytes one send takes.
const SEND: usize = 256 * 1024;

impl Queue {
    /// Sends what fits. True if the thread must go on with it.
    pub(in crate::attach::host_side) fn flush(&mut self) -> bool {
        if self.blocked || self.broken {
            return false;
        }
        let Some(socket) = self.socket.clone() else { return false };
        loop {
            match self.out.flush(&socket) {
                Ok(true) => {}
                Ok(false) => {
                    self.blocked = true;
                    return true;
                }
                Err(_) => {
                    self.break_off(&socket);
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
        self.blocked = false;
        self.flush();
    }

    /// Moves waiting frames into the send buffer, up to the first one with a descriptor. False if there were none.
    fn fill(&mut self) -> bool {
        let mut any = false;
        while self.out.len() < SEND && self.in_flight.len() < MAX_IN_FLIGHT {
            match self.waiting.front() {
                None | Some(Entry { content: Content::Adopt { .. }, .. }) => break,
                Some(_) => {}
            }
            let Some(mut entry) = self.waiting.pop_front() else { break };
            any = true;
            self.out.tail().extend_from_slice(&entry.frame);
            if let Content::Request { sent, .. } = &mut entry.content {
                *sent = true;
                self.in_flight.push_back(entry);
            } else {
                self.bytes -= entry.weight();
            }
        }
        any
    }

    /// Sends consecutive connections, with all their descriptors in one call. The send buffer must be empty. `None` if
    /// no connection waits.
    fn send_adopts(&mut self, socket: &OwnedFd) -> Option<bool> {
        let (mut bytes, mut fds) = (Vec::new(), Vec::<RawFd>::new());
        for entry in self.waiting.iter().take(passing::MAX_PASSED) {
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
                for entry in self.waiting.drain(..fds.len()) {
                    self.bytes -= entry.weight();
                }
                self.adopts -= fds.len();
                self.out.tail().extend_from_slice(&bytes[sent..]);
                Some(true)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Some(true),
            // ETOOMANYREFS (unix(7)): the hub is slow to receive the descriptors that we pass.
            Err(error) if error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ETOOMANYREFS) => {
                self.blocked = true;
                Some(false)
            }
            Err(_) => {
                self.break_off(socket);
                Some(false)
            }
        }
    }

    /// Gives this attachment up. The hub may still be there, for example if only memory was short. It must see the end,
    /// too. Then we read what it has answered, see the end, and attach again.
    fn break_off(&mut self, socket: &OwnedFd) {
        self.broken = true;
        socket::shutdown_write(socket);
    }
}
