//! The hubs that follow the log, as their heartbeats show them.
//!
//! Each heartbeat says how long it is good for: the `engine_timeout` of its hub, which may differ from that of this one
//! and change with a reload.

use super::super::replica::HubBeat;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The number of hubs that are remembered.
const MAX_MEMBERS: usize = 4096;
/// After so many times the time of its last heartbeat a hub is forgotten.
const FORGOTTEN: u32 = 10;
/// No heartbeat is good for longer. It is more than `engine_timeout` may be.
const LONGEST: Duration = Duration::from_secs(600);

/// A hub that follows the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// The random id that the hub chose at its start.
    pub(crate) hub: u64,
    /// Its name for operators. `None`: it is of an older version.
    pub(crate) name: Option<Arc<str>>,
    /// True if it is this one.
    pub(crate) here: bool,
    /// True if its last heartbeat is still good.
    pub(crate) up: bool,
    /// The time since its last one.
    pub(crate) heard: Duration,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Members {
    this: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The option `engine_timeout` of this hub. Heartbeats that say no time are good for it.
    timeout: Duration,
    /// The last new heartbeat of each hub.
    heard: BTreeMap<u64, Good>,
    /// Hubs of which this one has read only heartbeats that were in the log before. They may live, and send one soon.
    expected: BTreeMap<u64, Good>,
    /// The names of both, as far as they have told them.
    names: BTreeMap<u64, Arc<str>>,
    /// Since when heartbeats of this hub have come without a pause, and the last one.
    own: Option<(Instant, Good)>,
}

/// A heartbeat: when it was read, and how long it is good for.
#[derive(Debug, Clone, Copy)]
struct Good {
    at: Instant,
    time: Duration,
}

impl Good {
    fn is_good(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < self.time
    }

    fn is_remembered(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < self.time * FORGOTTEN
    }
}

impl Members {
    pub(super) fn new(this: u64, timeout: Duration) -> Self {
        let (heard, expected, names) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Members { this, state: Mutex::new(State { timeout, heard, expected, names, own: None }) }
    }

    /// This hub has another `engine_timeout` from now on.
    pub(super) fn set_timeout(&self, timeout: Duration) {
        self.lock().timeout = timeout;
    }

    /// These heartbeats were read.
    pub(super) fn hear(&self, beats: Vec<HubBeat>, now: Instant) {
        if beats.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.heard.retain(|_, good| good.is_remembered(now));
        state.expected.retain(|_, good| good.is_good(now));
        let State { heard, expected, names, .. } = &mut *state;
        names.retain(|hub, _| heard.contains_key(hub) || expected.contains_key(hub));
        for HubBeat { hub, good_for, name, is_new } in beats {
            let good = Good { at: now, time: good_for.unwrap_or(state.timeout).min(LONGEST) };
            if hub == self.this && is_new {
                let goes_on = state.own.filter(|(_, last)| last.is_good(now));
                state.own = Some((goes_on.map_or(now, |(since, _)| since), good));
            }
            // The hub has ended.
            if good.time.is_zero() {
                state.heard.remove(&hub);
                state.expected.remove(&hub);
                state.names.remove(&hub);
                continue;
            }
            let State { heard, expected, names, .. } = &mut *state;
            if is_new {
                expected.remove(&hub);
            } else if heard.get(&hub).is_some_and(|last| last.is_good(now)) {
                continue;
            }
            let among = if is_new { heard } else { expected };
            if among.len() < MAX_MEMBERS || among.contains_key(&hub) {
                among.insert(hub, good);
                if let Some(name) = name {
                    names.insert(hub, name);
                }
            }
        }
    }

    /// The hubs that are up, this one among them, and whether these are surely all: this hub has followed the log for
    /// long enough to have a heartbeat of each.
    pub(super) fn up(&self, now: Instant) -> (BTreeSet<u64>, bool) {
        let up = self.all(now).into_iter().filter(|member| member.up).map(|member| member.hub);
        let up = up.chain([self.this]).collect();
        let state = self.lock();
        let follows = state.own.is_some_and(|(since, last)| {
            last.is_good(now) && now.saturating_duration_since(since) >= state.timeout.max(last.time)
        });
        // Another hub may send heartbeats more rarely.
        let all = follows && !state.expected.values().any(|good| good.is_good(now));
        (up, all)
    }

    /// All that are not forgotten, this hub among them if the log has given one of its heartbeats back.
    pub(super) fn all(&self, now: Instant) -> Vec<Member> {
        let state = self.lock();
        let known = state.heard.iter().filter(|(_, good)| good.is_remembered(now));
        let member = |(hub, good): (&u64, &Good)| Member {
            hub: *hub,
            name: state.names.get(hub).cloned(),
            here: *hub == self.this,
            up: good.is_good(now),
            heard: now.saturating_duration_since(good.at),
        };
        known.map(member).collect()
    }

    /// The names of those that have told them.
    pub(super) fn names(&self) -> BTreeMap<u64, Arc<str>> {
        self.lock().names.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beats(hubs: &[u64], good_for: Option<Duration>) -> Vec<HubBeat> {
        hubs.iter().map(|hub| HubBeat { hub: *hub, good_for, name: None, is_new: true }).collect()
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[tokio::test(start_paused = true)]
    async fn a_hub_knows_all_others_after_a_while_without_a_pause() {
        let members = Members::new(7, seconds(3));
        let up = || members.up(Instant::now());
        assert_eq!(up(), ([7].into(), false));
        for (hubs, all) in [(vec![9], false), (vec![7], false), (vec![7, 9], false), (vec![7], false), (vec![7], true)]
        {
            members.hear(beats(&hubs, None), Instant::now());
            assert_eq!(up(), ([7, 9].into(), all));
            tokio::time::advance(seconds(1)).await;
        }
        tokio::time::advance(seconds(3)).await;
        assert_eq!(up(), ([7].into(), false), "its heartbeats do not come back");
        members.hear(beats(&[7], None), Instant::now());
        assert_eq!(up(), ([7].into(), false), "others may have lived meanwhile");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hub_is_up_while_it_gives_heartbeats_and_forgotten_later() {
        let members = Members::new(7, seconds(1));
        let shown = || {
            let show = |member: Member| (member.hub, member.here, member.up);
            members.all(Instant::now()).into_iter().map(show).collect::<Vec<_>>()
        };
        members.hear(beats(&[9, 7], None), Instant::now());
        assert_eq!(shown(), [(7, true, true), (9, false, true)]);
        tokio::time::advance(Duration::from_millis(1500)).await;
        members.hear(beats(&[7], None), Instant::now());
        assert_eq!(shown(), [(7, true, true), (9, false, false)]);
        tokio::time::advance(seconds(9)).await;
        assert_eq!(shown(), [(7, true, false)]);
        let many: Vec<u64> = (0..2 * MAX_MEMBERS as u64).map(|hub| hub + 100).collect();
        members.hear(beats(&many, None), Instant::now());
        assert_eq!(shown().len(), MAX_MEMBERS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_counts_for_as_long_as_its_hub_says() {
        // This hub sends a heartbeat each second, and the others each 20 seconds and each tenth of a second.
        let members = Members::new(7, seconds(3));
        let up = || members.up(Instant::now());
        members.hear(beats(&[8], Some(seconds(60))), Instant::now());
        members.hear(beats(&[9], Some(Duration::from_millis(300))), Instant::now());
        for second in 0..19 {
            members.hear(beats(&[7], Some(seconds(3))), Instant::now());
            let expected = if second == 0 { [7, 8, 9].into() } else { [7, 8].into() };
            assert_eq!(up(), (expected, second >= 3), "{second}");
            tokio::time::advance(seconds(1)).await;
        }
        // A reload makes this hub's own heartbeats rare, too.
        members.set_timeout(seconds(60));
        members.hear(beats(&[7], Some(seconds(60))), Instant::now());
        tokio::time::advance(seconds(20)).await;
        members.hear(beats(&[7, 8], Some(seconds(60))), Instant::now());
        assert_eq!(up(), ([7, 8].into(), false), "it has followed the log for 40 seconds");
        tokio::time::advance(seconds(20)).await;
        members.hear(beats(&[7], Some(seconds(60))), Instant::now());
        assert_eq!(up(), ([7, 8].into(), false));
        tokio::time::advance(seconds(20)).await;
        members.hear(beats(&[7, 8], Some(seconds(60))), Instant::now());
        assert_eq!(up(), ([7, 8].into(), true));
    }

    #[tokio::test(start_paused = true)]
    async fn hubs_of_which_the_log_had_heartbeats_are_waited_for() {
        let members = Members::new(7, seconds(3));
        let up = || members.up(Instant::now());
        let old = |hub, good_for| HubBeat { hub, good_for: Some(seconds(good_for)), name: None, is_new: false };
        // The third one has ended, the fourth one comes at once.
        members.hear(vec![old(1, 20), old(2, 60), old(3, 60), old(4, 60), old(3, 0)], Instant::now());
        members.hear(beats(&[4], Some(seconds(60))), Instant::now());
        for second in 0..40 {
            members.hear(beats(&[7], Some(seconds(3))), Instant::now());
            if second == 30 {
                members.hear(beats(&[2], Some(seconds(60))), Instant::now());
            }
            assert_eq!(up().1, second >= 30, "{second}");
            tokio::time::advance(seconds(1)).await;
        }
        assert_eq!(up().0, [2, 4, 7].into());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hub_that_was_heard_before_this_one_was_cut_off_is_waited_for_again() {
        let members = Members::new(7, seconds(5));
        let all = || members.up(Instant::now()).1;
        let own = || members.hear(beats(&[7], Some(seconds(5))), Instant::now());
        members.hear(beats(&[8], Some(seconds(60))), Instant::now());
        for _ in 0..6 {
            own();
            tokio::time::advance(seconds(1)).await;
        }
        assert!(all());
        // For a minute and more this hub reads nothing. Then come the heartbeats that the other one has sent meanwhile.
        tokio::time::advance(seconds(65)).await;
        let late = HubBeat { hub: 8, good_for: Some(seconds(60)), name: None, is_new: false };
        members.hear(vec![late], Instant::now());
        for second in 0..30 {
            own();
            if second == 20 {
                members.hear(beats(&[8], Some(seconds(60))), Instant::now());
            }
            assert_eq!(all(), second >= 20, "{second}");
            tokio::time::advance(seconds(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hub_has_the_name_that_it_says_until_it_is_forgotten() {
        let members = Members::new(7, seconds(1));
        let named = |hub, name: Option<&str>, is_new| {
            let (good_for, name) = (Some(seconds(1)), name.map(Arc::from));
            HubBeat { hub, good_for, name, is_new }
        };
        let hear = |beats| members.hear(beats, Instant::now());
        let shown = || {
            let show = |(hub, name): (u64, Arc<str>)| format!("{hub} {name}");
            members.names().into_iter().map(show).collect::<Vec<_>>()
        };
        // The last one was there before. It is no member yet, but may be missing in answers.
        hear(vec![named(7, Some("web-1:9099"), true), named(8, None, true), named(9, Some("web-3:9099"), false)]);
        assert_eq!(shown(), ["7 web-1:9099", "9 web-3:9099"]);
        let all = members.all(Instant::now());
        assert_eq!((all.len(), all[0].name.as_deref(), all[1].name.as_deref()), (2, Some("web-1:9099"), None));
        hear(beats(&[7], Some(Duration::ZERO)));
        assert_eq!(shown(), ["9 web-3:9099"]);
        tokio::time::advance(seconds(1)).await;
        hear(vec![named(8, Some("web-2:9099"), true)]);
        assert_eq!(shown(), ["8 web-2:9099"], "the others are forgotten");
        hear((0..2 * MAX_MEMBERS as u64).map(|hub| named(hub + 100, Some("many"), true)).collect());
        assert_eq!(shown().len(), MAX_MEMBERS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hub_that_has_said_that_it_ends_is_forgotten_at_once_and_one_that_was_killed_is_not() {
        let members = Members::new(7, seconds(3));
        members.hear(beats(&[7, 8, 9], Some(seconds(3))), Instant::now());
        members.hear(beats(&[8], Some(Duration::ZERO)), Instant::now());
        assert_eq!(members.up(Instant::now()).0, [7, 9].into());
        assert_eq!(members.all(Instant::now()).len(), 2);
        tokio::time::advance(Duration::from_millis(2900)).await;
        assert_eq!(members.up(Instant::now()).0, [7, 9].into());
        members.hear(beats(&[8], Some(Duration::MAX)), Instant::now());
        tokio::time::advance(LONGEST).await;
        assert_eq!(members.up(Instant::now()).0, [7].into());
    }
}
