//! Takes new connections, decides which processes may attach, and bounds the number of those that have not sent their
//! hello frame yet ("half open").

use super::attachment::Attachment;
use super::{refuse, End, HubSide};
use crate::attach::wire::RefusedBecause;
use crate::config::Config;
use crate::sys::epoll::Watch;
use crate::sys::listener::{Round, REST_MS};
use crate::sys::passing::{self, Credentials};
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};

/// The largest number of attached hosts.
const MAX_ATTACHED: usize = 4096;
/// The largest number of half-open connections. Beyond it, one is closed for each new one.
const MAX_HALF_OPEN: usize = 64;
/// The number of connections that one turn accepts.
const ACCEPTS: usize = 64;
/// How long a connection may take to send its hello frame.
const HELLO_MS: u64 = if cfg!(test) { 60_000 } else { 5000 };

impl HubSide {
    /// Takes the new connections, as many as a turn may.
    pub(super) fn accept(&mut self) {
        let mut round = Round::new(ACCEPTS);
        while let Some(next) = self.listener.next(&mut round, &self.epoll, self.now) {
            match next {
                Ok(fd) => self.accepted(fd),
                Err(error) => {
                    let text = format_args!("a host can't be accepted: {error}; trying again in {REST_MS} ms");
                    return self.note_resources(text);
                }
            }
        }
    }

    /// Watches the listener again if it has rested.
    pub(super) fn resume_listener(&mut self) {
        if let Err(error) = self.listener.resume(&self.epoll, self.now) {
            let text = format_args!("the listener can't be watched: {error}; trying again in {REST_MS} ms");
            self.note_resources(text);
        }
    }

    /// Takes a new connection.
    fn accepted(&mut self, fd: OwnedFd) {
        let Ok(process) = passing::credentials(&fd) else { return };
        if !allowed(&self.context.config.get(), process) {
            let who = format!("user {} (group {}, process {})", process.uid, process.gid, process.pid);
            self.note_refusal(format_args!("{who} may not attach (options attach_uids, attach_gids)"));
            let text = "this user may not attach (the hub's options attach_uids, attach_gids)";
            return refuse(&fd, RefusedBecause::NotAllowed, text);
        }
        if self.attached.values().filter(|attachment| !attachment.half_open()).count() >= MAX_ATTACHED {
            self.note_refusal(format_args!("{MAX_ATTACHED} hosts are attached; one more is refused"));
            return refuse(&fd, RefusedBecause::Full, "the hub has reached its limit of attached hosts");
        }
        let half_open = self.attached.values().filter(|attachment| attachment.half_open());
        if let Some(id) =
            connection_to_close(half_open.map(|attachment| (attachment.id, attachment.process.uid)), process.uid)
        {
            self.end(id, &End::Fault("too many connections have not sent a hello frame".into()));
        }
        let id = self.next_id;
        self.next_id += 1;
        if let Err(error) = self.epoll.add(fd.as_raw_fd(), id, Watch::EdgeBoth) {
            return self.note_resources(format_args!("a host can't be watched: {error}"));
        }
        self.attached.insert(id, Attachment::new(id, fd, process, self.now));
    }

    /// Ends the connections that have not sent their hello frame in time.
    pub(super) fn end_half_open(&mut self) {
        let late = |attachment: &&Attachment| attachment.half_open() && self.now >= attachment.figures.since + HELLO_MS;
        let late: Vec<u64> = self.attached.values().filter(late).map(|attachment| attachment.id).collect();
        for id in late {
            self.end(id, &End::Fault("it sent no hello frame in time".into()));
        }
    }
}

/// True if a process may attach.
fn allowed(config: &Config, process: Credentials) -> bool {
    if config.attach_uids.is_empty() && config.attach_gids.is_empty() {
        return process.uid == passing::own_uid();
    }
    config.attach_uids.contains(&process.uid) || config.attach_gids.contains(&process.gid)
}

/// Which half-open connection is closed for one more of the user `newcomer`. `half_open` gives their ids and users,
/// oldest first.
///
/// It is a connection of the user that has the most, the newcomer counted, so no user can crowd out another user's
/// hosts. Of that user's connections it is the oldest one. A host sends its hello frame at once, so the oldest is the
/// least likely to do so.
fn connection_to_close(half_open: impl Iterator<Item = (u64, u32)>, newcomer: u32) -> Option<u64> {
    let mut users: BTreeMap<u32, (usize, Option<u64>)> = BTreeMap::from([(newcomer, (1, None))]);
    let mut all = 0;
    for (id, uid) in half_open {
        let (count, oldest) = users.entry(uid).or_default();
        *count += 1;
        oldest.get_or_insert(id);
        all += 1;
    }
    if all < MAX_HALF_OPEN {
        return None;
    }
    // If several users have equally many, it is the user of the oldest connection. A newcomer without any half-open
    // connection counts one, so then the others have one each as well.
    let most = users.into_values().filter_map(|(count, oldest)| Some((count, std::cmp::Reverse(oldest?)))).max();
    most.map(|(_, oldest)| oldest.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Accepts one connection after the other, and returns those that are left.
    fn accept_all(users: impl Iterator<Item = u32>) -> Vec<(u64, u32)> {
        let mut half_open: Vec<(u64, u32)> = Vec::new();
        for (id, uid) in (1..).zip(users) {
            if let Some(out) = connection_to_close(half_open.iter().copied(), uid) {
                let at = half_open.iter().position(|(id, _)| *id == out).expect("it is half open");
                half_open.remove(at);
            }
            half_open.push((id, uid));
            assert!(half_open.len() <= MAX_HALF_OPEN);
        }
        half_open
    }

    fn of(half_open: &[(u64, u32)], uid: u32) -> Vec<u64> {
        half_open.iter().filter(|(_, of)| *of == uid).map(|(id, _)| *id).collect()
    }

    #[test]
    fn no_connection_is_closed_while_there_is_room() {
        assert_eq!(accept_all([7; MAX_HALF_OPEN].into_iter()).len(), MAX_HALF_OPEN);
        assert_eq!(connection_to_close((1..MAX_HALF_OPEN as u64).map(|id| (id, 7)), 7), None);
    }

    #[test]
    fn a_flood_of_one_user_closes_only_its_own_connections() {
        let half_open = accept_all(std::iter::once(1).chain([7; 1000]));
        assert_eq!(of(&half_open, 1), [1]);
        // The newest are left.
        assert_eq!(of(&half_open, 7), (1001 - 62..=1001).collect::<Vec<u64>>());
    }

    #[test]
    fn a_new_user_gets_in_during_a_flood() {
        let half_open = accept_all([7; 1000].into_iter().chain([1]).chain([7; 1000]));
        assert_eq!(of(&half_open, 1), [1001]);
    }

    #[test]
    fn two_floods_share_the_room_equally() {
        let half_open = accept_all([7; 1000].into_iter().chain([8; 1000]).chain((0..1000).map(|n| 7 + n % 2)));
        assert_eq!((of(&half_open, 7).len(), of(&half_open, 8).len()), (MAX_HALF_OPEN / 2, MAX_HALF_OPEN / 2));
    }

    #[test]
    fn with_one_connection_per_user_the_oldest_is_closed() {
        let half_open = accept_all(100..101 + MAX_HALF_OPEN as u32);
        assert_eq!((of(&half_open, 100).len(), of(&half_open, 101), half_open.len()), (0, vec![2], MAX_HALF_OPEN));
    }
}
