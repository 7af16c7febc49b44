//! The hubs that follow the log, as their signs of life show them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The number of hubs that are remembered.
const MAX_MEMBERS: usize = 4096;
/// After so many times `engine_timeout` without a sign of life a hub is forgotten.
const FORGOTTEN: u32 = 10;

/// A hub that follows the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    /// Names this life of the hub.
    pub(crate) hub: u64,
    /// True if it is this one.
    pub(crate) here: bool,
    /// True if it has given a sign of life within `engine_timeout`.
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
}

impl Members {
    pub(super) fn new(this: u64, timeout: Duration) -> Self {
        Members { this, timeout, heard: Mutex::default() }
    }

    /// These hubs have given signs of life.
    pub(super) fn hear(&self, hubs: Vec<u64>, now: Instant) {
        if hubs.is_empty() {
            return;
        }
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.retain(|_, at| now.saturating_duration_since(*at) < self.timeout * FORGOTTEN);
        for hub in hubs {
            if heard.len() < MAX_MEMBERS || heard.contains_key(&hub) {
                heard.insert(hub, now);
            }
        }
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
