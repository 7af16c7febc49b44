//! The hubs that follow the log, as their signs of life show them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The number of hubs that are remembered.
const MAX_MEMBERS: usize = 4096;
/// After so many times `engine_timeout` without a heartbeat a hub is forgotten.
const FORGOTTEN: u32 = 10;

/// A hub that follows the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    /// Names this life of the hub.
    pub(crate) hub: u64,
    /// True if it is this one.
    pub(crate) here: bool,
    /// True if a heartbeat of it has come within `engine_timeout`.
    pub(crate) up: bool,
    /// The time since its last one.
    pub(crate) heard: Duration,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Members {
    this: u64,
    timeout: Duration,
    heard: Mutex<BTreeMap<u64, Instant>>,
    /// Since when signs of life of this hub have come without a pause, and the last one.
    own: Mutex<Option<(Instant, Instant)>>,
}

impl Members {
    pub(super) fn new(this: u64, timeout: Duration) -> Self {
        Members { this, timeout, heard: Mutex::default(), own: Mutex::default() }
    }

    /// These hubs have given signs of life.
    pub(super) fn hear(&self, hubs: Vec<u64>, now: Instant) {
        if hubs.is_empty() {
            return;
        }
        if hubs.contains(&self.this) {
            let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
            let goes_on = own.filter(|(_, last)| now.saturating_duration_since(*last) < self.timeout);
            *own = Some((goes_on.map_or(now, |(since, _)| since), now));
        }
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.retain(|_, at| now.saturating_duration_since(*at) < self.timeout * FORGOTTEN);
        for hub in hubs {
            if heard.len() < MAX_MEMBERS || heard.contains_key(&hub) {
                heard.insert(hub, now);
            }
        }
    }

    /// The hubs that are up, this one among them, and whether these are surely all: this hub has followed the log for
    /// long enough to have a heartbeat of each.
    pub(super) fn up(&self, now: Instant) -> (BTreeSet<u64>, bool) {
        let up = self.all(now).into_iter().filter(|member| member.up).map(|member| member.hub);
        let up = up.chain([self.this]).collect();
        let own = *self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let all = own.is_some_and(|(since, last)| {
            let lives = now.saturating_duration_since(last) < self.timeout;
            lives && now.saturating_duration_since(since) >= self.timeout
        });
        (up, all)
    }

    /// All that are not forgotten, this hub among them if the log has given one of its signs of life back.
    pub(super) fn all(&self, now: Instant) -> Vec<Member> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let members = heard.iter().map(|(hub, at)| (*hub, now.saturating_duration_since(*at)));
        let known = members.filter(|(_, heard)| *heard < self.timeout * FORGOTTEN);
        known.map(|(hub, heard)| Member { hub, here: hub == self.this, up: heard < self.timeout, heard }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hub_knows_all_others_after_a_while_without_a_pause() {
        let members = Members::new(7, Duration::from_secs(3));
        let up = || members.up(Instant::now());
        assert_eq!(up(), ([7].into(), false));
        for (beats, all) in [(vec![9], false), (vec![7], false), (vec![7, 9], false), (vec![7], false), (vec![7], true)]
        {
            members.hear(beats, Instant::now());
            assert_eq!(up(), ([7, 9].into(), all));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(up(), ([7].into(), false), "its signs of life do not come back");
        members.hear(vec![7], Instant::now());
        assert_eq!(up(), ([7].into(), false), "others may have lived meanwhile");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hub_is_up_while_it_gives_signs_of_life_and_forgotten_later() {
        let members = Members::new(7, Duration::from_secs(1));
        let shown = || {
            let show = |member: Member| (member.hub, member.here, member.up);
            members.all(Instant::now()).into_iter().map(show).collect::<Vec<_>>()
        };
        members.hear(vec![9, 7], Instant::now());
        assert_eq!(shown(), [(7, true, true), (9, false, true)]);
        tokio::time::advance(Duration::from_millis(1500)).await;
        members.hear(vec![7], Instant::now());
        assert_eq!(shown(), [(7, true, true), (9, false, false)]);
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(shown(), [(7, true, false)]);
        members.hear((0..2 * MAX_MEMBERS as u64).map(|hub| hub + 100).collect(), Instant::now());
        assert_eq!(shown().len(), MAX_MEMBERS);
    }
}
