//! The power fails, or `pushd` is killed, again and again, under load. Clients are told of a gap where its log has lost
//! messages, and nowhere else.

use super::chance::Chance;
use super::content::Loss;
use super::ledger::{self, Disk};
use super::load::{Guard, Load, CHANNELS};
use super::pushd::Pushd;
use super::truth::{marks_of, Truth};
use super::{segments, Place};
use crate::common::until;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const ALWAYS: (&str, &str) = ("engine_sync", "always");
/// Segments of 512 KB. Nothing is deleted: a hub that ends [`FEW`] times gets less.
const SMALL: (&str, &str) = ("engine_retention_bytes", "4MB");
const FEW: usize = 3;
/// The bytes that a hub with small segments gets in each life, beside the usual ones.
const MUCH: usize = 800_000;
/// How many hubs run at once. They mostly wait.
const HUBS: usize = 4;

fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok()?.parse().ok()
}

/// The way in which hubs end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By SIGKILL. The disk keeps everything that was written.
    Killed,
    /// Mostly by a loss of power. Now and then they are only killed, or end in order before it.
    Power,
    /// By a loss of power, mostly after writes and syncs have failed for a while.
    Failing,
    /// In order.
    Ended,
}

/// Counts what happened in a run. A test asserts that the events occurred that it is about.
#[derive(Debug, Default)]
struct Seen {
    torn: AtomicUsize,
    lost: AtomicUsize,
    acknowledged: AtomicUsize,
    fences: AtomicUsize,
    survived_unsynced: AtomicUsize,
    synced: AtomicUsize,
    failed: AtomicUsize,
    healed: AtomicUsize,
    /// Segments that a hub has begun since its start.
    rolled: AtomicUsize,
}

impl Way {
    /// True if the disk may lose what was not synced.
    fn loses_power(self) -> bool {
        matches!(self, Way::Power | Way::Failing)
    }
}

/// One hub that ends so many times, and its clients.
struct Run {
    place: Place,
    seed: u64,
    chance: Chance,
    way: Way,
    /// True for `engine_sync=always`: no message may be lost that a client or publisher knows of.
    always: bool,
    pushd: Pushd,
    disk: Disk,
    /// The marks of the messages that must be in the log from now on.
    sure: BTreeSet<String>,
    /// The marks that were in its files after the power failed, also those behind a torn place, which count for
    /// nothing.
    there: BTreeSet<String>,
    /// True if a hub needs several segments in one life.
    rolls: bool,
    /// The number of segments before the present life.
    segments: usize,
}

impl Run {
    fn new(seed: u64, way: Way, options: &[(&str, &str)]) -> Self {
        let place = Place::new();
        std::fs::create_dir(place.log()).unwrap();
        let environment = match way {
            Way::Power | Way::Failing => ledger::environment(&place),
            Way::Killed | Way::Ended => Vec::new(),
        };
        let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (&**name, &**value)).collect();
        let mut chance = Chance::new(seed);
        ledger::boot_anew(&place, &mut chance);
        let pushd = Pushd::start_with(&place, options, &environment);
        let [sure, there] = [BTreeSet::new(), BTreeSet::new()];
        let (always, rolls) = (options.contains(&ALWAYS), options.contains(&SMALL));
        Run { place, seed, chance, way, always, pushd, disk: Disk::default(), sure, there, rolls, segments: 0 }
    }

    /// Ends it so many times under load. Then everything is judged that clients and publishers were told.
    fn under_load(&mut self, ends: usize, seen: &Seen) {
        let load = Load::new(self.pushd.port, self.pushd.control);
        let (load, first) = (&load, load.first.clone());
        let told: Vec<_> = std::thread::scope(|scope| {
            let follow = |channels: &'static [&'static str]| {
                let first = &first;
                scope.spawn(move || (channels, load.follow(channels, first)))
            };
            let followers: Vec<_> = [&CHANNELS[..1], &CHANNELS[..1], &CHANNELS[..]].into_iter().map(follow).collect();
            let guard = Guard(load);
            let publishers = [scope.spawn(|| load.publish_with_keys()), scope.spawn(|| load.publish_batches())];
            for end in 0..ends {
                load.publish_more(if self.rolls { MUCH } else { 0 });
                self.live(load, end, seen);
                self.end(load, end, seen);
                self.pushd.begin_again();
            }
            self.pushd.wait();
            load.stop();
            publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
            load.end();
            let told = followers.into_iter().map(|follower| follower.join().unwrap()).collect();
            drop(guard);
            told
        });
        self.pushd.restart("TERM");
        let oldest = segments(&self.place.log()).remove(0);
        assert!(oldest.ends_with(format!("{:020}.log", 1)), "{self}: nothing is deleted: {}", oldest.display());
        let truth = Truth::read(&self.place.log(), !self.always);
        load.judge(&truth, &told).unwrap_or_else(|error| panic!("{self}: {error}"));
        // Other clients come with any position that was ever told.
        let known = load.acknowledged.lock().unwrap();
        for _ in 0..20 {
            let (from, _) = &known[self.chance.below(known.len())];
            let told = load.follow(&CHANNELS, from);
            let judged = CHANNELS.iter().try_for_each(|channel| truth.judge(from, channel, &told));
            judged.unwrap_or_else(|error| panic!("{self}: from {}: {error}", from.text()));
        }
        let lost = known.iter().filter(|(id, mark)| truth.knows(id, mark) == Ok(false)).count();
        seen.acknowledged.fetch_add(known.len(), Ordering::Relaxed);
        seen.lost.fetch_add(lost, Ordering::Relaxed);
        seen.fences.fetch_add(truth.fences().len(), Ordering::Relaxed);
    }

    /// Lets it live: mostly for a short time, sometimes for long enough that its log is synced, and sometimes not even
    /// until it is ready.
    fn live(&mut self, load: &Load, end: usize, seen: &Seen) {
        let ms = match self.chance.below(10) {
            0 => return std::thread::sleep(Duration::from_millis(self.chance.below(40) as u64)),
            1..=6 => self.chance.below(200),
            _ => 900 + self.chance.below(500),
        };
        self.pushd.wait();
        let before = load.answered.load(Ordering::Relaxed);
        until(&format!("{self}: nothing is published in life {end}"), || {
            load.answered.load(Ordering::Relaxed) > before + 2
        });
        std::thread::sleep(Duration::from_millis(ms as u64));
        if self.way == Way::Failing {
            self.fail_disk(seen);
        }
    }

    /// Makes the disk fail for a while, mostly. The power may fail before that ends.
    fn fail_disk(&mut self, seen: &Seen) {
        let health = |run: &Run| run.pushd.request("GET /healthz", b"").map(|(status, _)| status);
        let chosen: Vec<&str> = ["fsync", "ftruncate"].into_iter().filter(|_| self.chance.below(2) == 0).collect();
        let calls = match self.chance.below(4) {
            0 => return,
            1 => &["write"][..],
            2 => &["fdatasync"],
            _ => &["write", "fdatasync"],
        };
        ledger::set_faults(&self.place, &[calls, &chosen].concat());
        let seen_failing = self.chance.below(3) > 0;
        if seen_failing {
            until(&format!("{self}: it does not fail"), || health(self) == Some(503));
            seen.failed.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(self.chance.below(300) as u64));
        if self.chance.below(4) == 0 {
            return;
        }
        ledger::clear_faults(&self.place);
        if self.chance.below(3) == 0 {
            return;
        }
        until(&format!("{self}: it does not heal"), || health(self) == Some(200));
        seen.healed.fetch_add(seen_failing.into(), Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(self.chance.below(300) as u64));
    }

    fn end(&mut self, load: &Load, end: usize, seen: &Seen) {
        let (in_order, power) = match self.way {
            Way::Killed => (false, false),
            Way::Ended => (true, false),
            Way::Power => (self.chance.below(8) == 0, self.chance.below(8) != 0),
            Way::Failing => (false, self.chance.below(8) != 0),
        };
        let known = load.acknowledged.lock().unwrap().clone();
        if in_order {
            self.pushd.wait();
        }
        self.pushd.end(if in_order { "TERM" } else { "KILL" });
        ledger::clear_faults(&self.place);
        // The first of them may be that of the start.
        let begun = segments(&self.place.log()).len().saturating_sub(self.segments + 1);
        seen.rolled.fetch_add(begun, Ordering::Relaxed);
        if self.way.loses_power() {
            self.disk.follow_ledger(&self.place);
        }
        if power {
            self.fail_power(seen);
        }
        self.segments = segments(&self.place.log()).len();
        let truth = Truth::read(&self.place.log(), !self.always);
        let there = truth.marks();
        let missing: Vec<&String> = self.sure.iter().filter(|mark| !there.contains(&***mark)).collect();
        let (count, some) = (missing.len(), &missing[..missing.len().min(5)]);
        assert!(count == 0, "{self}: {count} messages were on the disk, and are lost with end {end}: {some:?}…");
        if power || !self.way.loses_power() {
            self.sure = there.into_iter().map(str::to_owned).collect();
        }
        if in_order {
            assert!(truth.closed, "{self}: end {end} was in order");
            for (id, mark) in &known {
                truth.knows(id, mark).unwrap_or_else(|error| panic!("{self}: {error}"));
            }
        }
        seen.torn.fetch_add(truth.torn.into(), Ordering::Relaxed);
    }

    /// Cuts the power: the synced bytes stay, and a part of the others.
    fn fail_power(&mut self, seen: &Seen) {
        let synced = marks_of(&self.disk.synced());
        let new: Vec<String> = synced.into_iter().filter(|mark| !self.there.contains(mark)).collect();
        seen.synced.fetch_add(new.len(), Ordering::Relaxed);
        self.sure.extend(new);
        let loss = Loss::ALL[self.chance.below(4)];
        let files = self.disk.fail(loss, &mut self.chance);
        let files = ledger::write_directory(&self.place.log(), &files);
        ledger::boot_anew(&self.place, &mut self.chance);
        self.there = marks_of(&files).into_iter().collect();
        let unsynced = self.there.len().saturating_sub(self.sure.len());
        seen.survived_unsynced.fetch_add(unsynced, Ordering::Relaxed);
        self.disk = Disk::with(files);
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PUSH_SEED={} (all is left in {})", self.seed, self.place.0.display())
    }
}

/// Runs several hubs at once, each with its own seed. Together they end so many times, or `PUSH_ENDS` times. With small
/// segments each ends a few times only, and then another begins with a new log.
fn run(way: Way, options: &[(&str, &str)], ends: usize) -> Seen {
    let (seen, first) = (Seen::default(), number("PUSH_SEED").unwrap_or(1));
    let ends = number("PUSH_ENDS").unwrap_or(ends).div_ceil(HUBS);
    let few = if options.contains(&SMALL) { FEW } else { ends };
    std::thread::scope(|scope| {
        for hub in 0..HUBS {
            let seen = &seen;
            scope.spawn(move || {
                for log in 0..ends.div_ceil(few) {
                    let seed = (first + hub + log * HUBS) as u64;
                    Run::new(seed, way, options).under_load(few.min(ends - log * few), seen);
                }
            });
        }
    });
    println!("{way:?} {options:?}: {seen:?}");
    // Lives before a sync may lose everything, on a slow machine those of a whole log. Among all lives some are longer.
    let most = count(&seen.lost) * 10 >= count(&seen.acknowledged) * 9;
    assert!(!most || options.contains(&SMALL), "most acknowledged messages were lost: {seen:?}");
    seen
}

fn count(counted: &AtomicUsize) -> usize {
    counted.load(Ordering::Relaxed)
}

#[test]
fn killed_at_any_moment_it_tells_of_a_gap_where_something_may_be_missing_and_nowhere_else() {
    let seen = run(Way::Killed, &[], 100);
    assert!(count(&seen.fences) > 0 && count(&seen.lost) > 0, "{seen:?}");
}

#[test]
fn ended_in_order_under_load_it_loses_nothing_and_tells_of_no_gap() {
    let seen = run(Way::Ended, &[], 20);
    assert_eq!((count(&seen.fences), count(&seen.lost)), (0, 0), "{seen:?}");
}

#[test]
fn a_loss_of_power_takes_nothing_that_was_synced_and_is_told_as_a_gap() {
    let seen = run(Way::Power, &[], 100);
    let all = [&seen.torn, &seen.lost, &seen.fences, &seen.survived_unsynced, &seen.synced];
    assert!(all.into_iter().all(|counted| count(counted) > 0), "it did not come to all that it is about: {seen:?}");
}

#[test]
fn with_sync_always_a_loss_of_power_takes_nothing_that_anybody_knows_of() {
    let seen = run(Way::Power, &[ALWAYS], 60);
    assert_eq!((count(&seen.fences), count(&seen.lost)), (0, 0), "{seen:?}");
    assert!(count(&seen.torn) > 0 && count(&seen.synced) > 0, "{seen:?}");
}

#[test]
fn a_loss_of_power_after_writes_and_syncs_have_failed_is_told_as_a_gap() {
    let seen = run(Way::Failing, &[], 40);
    let all = [&seen.failed, &seen.healed, &seen.lost, &seen.fences, &seen.synced];
    assert!(all.into_iter().all(|counted| count(counted) > 0), "it did not come to all that it is about: {seen:?}");
}

#[test]
fn with_sync_always_a_loss_of_power_after_failed_writes_and_syncs_takes_nothing_that_anybody_knows_of() {
    let seen = run(Way::Failing, &[ALWAYS], 40);
    assert_eq!((count(&seen.fences), count(&seen.lost)), (0, 0), "{seen:?}");
    let all = [&seen.failed, &seen.healed, &seen.torn, &seen.synced];
    assert!(all.into_iter().all(|counted| count(counted) > 0), "it did not come to all that it is about: {seen:?}");
}

#[test]
fn with_sync_always_killed_at_any_moment_it_has_lost_nothing_and_tells_of_no_gap() {
    let seen = run(Way::Killed, &[ALWAYS], 40);
    assert_eq!((count(&seen.fences), count(&seen.lost)), (0, 0), "{seen:?}");
}

#[test]
fn a_loss_of_power_takes_nothing_that_was_synced_also_if_the_log_has_gone_on_in_another_segment() {
    let seen = run(Way::Power, &[SMALL], 36);
    let all = [&seen.rolled, &seen.lost, &seen.fences, &seen.survived_unsynced, &seen.synced];
    assert!(all.into_iter().all(|counted| count(counted) > 0), "it did not come to all that it is about: {seen:?}");
}

#[test]
fn with_sync_always_a_loss_of_power_takes_nothing_also_if_the_log_has_gone_on_in_another_segment() {
    let seen = run(Way::Power, &[SMALL, ALWAYS], 36);
    assert_eq!((count(&seen.fences), count(&seen.lost)), (0, 0), "{seen:?}");
    assert!(count(&seen.rolled) > 0 && count(&seen.synced) > 0, "{seen:?}");
}
