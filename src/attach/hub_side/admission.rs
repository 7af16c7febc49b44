//! Who may attach, and how many may stand in the door: connections that have not said hello yet.

use super::attachment::Attachment;
use super::{refuse, End, HubSide};
use crate::attach::wire::RefusedBecause;
use crate::config::Config;
use crate::sys::epoll::Watch;
use crate::sys::passing::{self, Credentials};
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};

/// Hosts at once.
const MAX_ATTACHED: usize = 4096;
/// Connections at once that have not said hello; beyond it one gives way to the next.
const MAX_HALF_OPEN: usize = 64;
/// How long a hello may take.
const HELLO_MS: u64 = 5000;

impl HubSide {
    /// Somebody has connected.
    pub(super) fn accepted(&mut self, fd: OwnedFd) {
        let Ok(peer) = passing::credentials(&fd) else { return };
        if !allowed(&self.context.config.get(), peer) {
            let who = format!("user {} (group {}, process {})", peer.uid, peer.gid, peer.pid);
            self.note_refusal(format_args!("{who} may not attach (options attach_uids, attach_gids)"));
            let text = "this user may not attach (the hub's options attach_uids, attach_gids)";
            return refuse(&fd, RefusedBecause::NotAllowed, text);
        }
        if self.attached.values().filter(|attachment| !attachment.half_open()).count() >= MAX_ATTACHED {
            self.note_refusal(format_args!("{MAX_ATTACHED} hosts are attached; one more is turned away"));
            return refuse(&fd, RefusedBecause::Full, "the hub has as many hosts as it takes");
        }
        let half_open = self.attached.values().filter(|attachment| attachment.half_open());
        if let Some(id) = gives_way(half_open.map(|attachment| (attachment.id, attachment.peer.uid)), peer.uid) {
            self.end(id, &End::Fault("too many have connected and not said hello".into()));
        }
        let id = self.next_id;
        self.next_id += 1;
        if let Err(error) = self.epoll.add(fd.as_raw_fd(), id, Watch::EdgeBoth) {
            return self.note_resources(format_args!("a host can't be watched: {error}"));
        }
        self.attached.insert(id, Attachment::new(id, fd, peer, self.now));
    }

    /// Lets go of those that had the time to say hello and did not.
    pub(super) fn end_silent(&mut self) {
        let late = |attachment: &&Attachment| attachment.half_open() && self.now >= attachment.since + HELLO_MS;
        let late: Vec<u64> = self.attached.values().filter(late).map(|attachment| attachment.id).collect();
        for id in late {
            self.end(id, &End::Fault("it did not say hello".into()));
        }
    }
}

/// Whether a process may attach.
fn allowed(config: &Config, peer: Credentials) -> bool {
    if config.attach_uids.is_empty() && config.attach_gids.is_empty() {
        return peer.uid == passing::own_uid();
    }
    config.attach_uids.contains(&peer.uid) || config.attach_gids.contains(&peer.gid)
}

/// Which of the connections without a hello (their numbers and users, oldest first) gives way to one more of a user.
///
/// It is one of the user who has the most, the newcomer counted, so that nobody can crowd out another user's hosts. Of
/// these the oldest: whoever says hello does so at once, and those that wait longest are the least likely to.
fn gives_way(half_open: impl Iterator<Item = (u64, u32)>, newcomer: u32) -> Option<u64> {
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
    // Of users with equally many the one whose turn came first. A newcomer with nobody to give way has one, and others
    // as many.
    let most = users.into_values().filter_map(|(count, oldest)| Some((count, std::cmp::Reverse(oldest?)))).max();
    most.map(|(_, oldest)| oldest.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A door that only ever opens: what stands in it after many have come.
    fn door(comers: impl Iterator<Item = u32>) -> Vec<(u64, u32)> {
        let mut standing: Vec<(u64, u32)> = Vec::new();
        for (id, uid) in (1..).zip(comers) {
            if let Some(out) = gives_way(standing.iter().copied(), uid) {
                let at = standing.iter().position(|(id, _)| *id == out).expect("it stands there");
                standing.remove(at);
            }
            standing.push((id, uid));
            assert!(standing.len() <= MAX_HALF_OPEN);
        }
        standing
    }

    fn of(standing: &[(u64, u32)], uid: u32) -> Vec<u64> {
        standing.iter().filter(|(_, of)| *of == uid).map(|(id, _)| *id).collect()
    }

    #[test]
    fn nobody_gives_way_while_there_is_room() {
        assert_eq!(door([7; MAX_HALF_OPEN].into_iter()).len(), MAX_HALF_OPEN);
        assert_eq!(gives_way((1..MAX_HALF_OPEN as u64).map(|id| (id, 7)), 7), None);
    }

    #[test]
    fn a_flood_of_one_user_crowds_out_its_own() {
        let standing = door(std::iter::once(1).chain([7; 1000]));
        assert_eq!(of(&standing, 1), [1]);
        // The newest are left.
        assert_eq!(of(&standing, 7), (1001 - 62..=1001).collect::<Vec<u64>>());
    }

    #[test]
    fn who_comes_into_a_flood_gets_in() {
        let standing = door([7; 1000].into_iter().chain([1]).chain([7; 1000]));
        assert_eq!(of(&standing, 1), [1001]);
    }

    #[test]
    fn two_floods_get_half_each() {
        let standing = door([7; 1000].into_iter().chain([8; 1000]).chain((0..1000).map(|n| 7 + n % 2)));
        assert_eq!((of(&standing, 7).len(), of(&standing, 8).len()), (MAX_HALF_OPEN / 2, MAX_HALF_OPEN / 2));
    }

    #[test]
    fn of_as_many_users_as_there_is_room_the_oldest_goes() {
        let standing = door(100..101 + MAX_HALF_OPEN as u32);
        assert_eq!((of(&standing, 100).len(), of(&standing, 101), standing.len()), (0, vec![2], MAX_HALF_OPEN));
    }
}
