//! Requests that are refused before a shard has them: no hub is there, or it has no room.

use super::refusal::Refusal;
use crate::config::Config;
use crate::sys::socket;
use std::os::fd::OwnedFd;

/// How much of a request is read, to find out how its client wants to be refused.
const ENOUGH: usize = 16 * 1024;

/// Answers a request of which `head` was read, perhaps not all of it, and ends our side of the connection. Never waits:
/// what the socket does not take at once is lost.
pub(crate) fn refuse(fd: &OwnedFd, head: &[u8], config: &Config, refusal: &Refusal) {
    let mut head = head.to_vec();
    // What is left unread would make the end a reset, and the answer might be lost with it.
    while head.len() < ENOUGH {
        let len = head.len();
        head.resize(ENOUGH, 0);
        let read = socket::recv(fd, &mut head[len..]).unwrap_or(0);
        head.truncate(len + read);
        if read == 0 {
            break;
        }
    }
    let _ = socket::send(fd, &refusal.response_to(&head, config));
    socket::shutdown_write(fd);
}
