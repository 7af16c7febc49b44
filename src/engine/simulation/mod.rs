//! A simulation of several hubs over one log that misbehaves, with clients that move between the hubs. A seed decides
//! everything, and the simulation has its own time.
//!
//! | file | what is in it |
//! |---|---|
//! | `hubs` | a hub with its replica, its connection to the log, and a shard without sockets |
//! | `clients` | clients of all transports: their requests, and the messages and gaps that they get |
//! | `shards` | give the messages and the breaks of their mailboxes to the clients |
//! | `acts` | acts on users: each hub does those of the others, once, in their place |
//! | `hosts` | hosts that publish, and that send a message again if it was not answered |
//! | `scenes` | sequences of steps that random steps hardly ever come to |
//! | `checks` | the promises: for each client at each message, and for all hubs in the end |
//! | `mistakes` | planted mistakes. The checks must find each of them |
//!
//! A run has a time with faults, and then a time without faults, in which everything must come to rest.
//! `PUSH_SIM_SEED=N` runs one seed, and prints each step.

mod acts;
mod checks;
mod clients;
mod hosts;
mod hubs;
mod mistakes;
mod scenes;
mod shards;

use super::envelope::Body;
use super::log_model::{LogModel, Random};
use crate::hub::{ClientId, Mark};
use clients::Client;
use hosts::Host;
use hubs::SimHub;
use mistakes::Mistake;
use std::collections::BTreeMap;

/// The channels. The empty name stands for the broadcasts.
const CHANNELS: [&str; 4] = ["", "a", "b", "c"];
const KEPT: usize = 8;
const AGE_MS: u64 = 20_000;
/// The largest difference between a hub's wall clock and the simulation's time.
const SKEW_MS: u64 = 40;

/// The content of a message: its index among all messages that hosts have published.
type Content = u32;

/// A message that a host has published.
#[derive(Debug)]
struct Sent {
    channel: usize,
    key: Option<String>,
    mark: Option<Mark>,
    /// The number of the client that does not get it. There may be no such client.
    except: Option<usize>,
    host: usize,
    /// The life of the hub that has confirmed it.
    confirmed_by: Option<u64>,
}

/// The id of a client, by its number.
fn id_of(client: usize) -> ClientId {
    ClientId::from_bytes([client as u8; 16])
}

/// The parameters of a run.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// True if no entry is ever lost, trimmed or cleared. Then no client may be told of a gap.
    gentle: bool,
    hubs: usize,
    steps: usize,
}

struct World {
    random: Random,
    plan: Plan,
    mistake: Option<Mistake>,
    now: u64,
    log: LogModel,
    hubs: Vec<SimHub>,
    clients: Vec<Client>,
    hosts: Vec<Host>,
    sent: Vec<Sent>,
    /// The acts, by the life of the hub that was asked for each.
    acts: Vec<u64>,
    /// The messages of the log, by the places of their entries.
    messages: Vec<Option<checks::LogMessage>>,
    lives: u64,
    calm: bool,
    /// The first promise that was found to be broken.
    broken: Option<String>,
    notes: Notes,
}

/// What a run tells.
struct Notes {
    /// It prints each step.
    talks: bool,
    /// Counts rare events.
    marks: BTreeMap<&'static str, u64>,
}

/// Runs a seed. The error says which promise was broken.
fn run(seed: u64, mistake: Option<Mistake>, talks: bool) -> Result<BTreeMap<&'static str, u64>, String> {
    let world = World::new(seed, mistake, talks).run();
    world.broken.map_or(Ok(world.notes.marks), Err)
}

impl World {
    /// Does all steps, or those up to a broken promise.
    fn run(mut self) -> Self {
        for _ in 0..self.plan.steps {
            self.step();
            if self.broken.is_some() {
                return self;
            }
        }
        self.settle();
        self
    }

    fn new(seed: u64, mistake: Option<Mistake>, talks: bool) -> Self {
        let mut random = Random(seed);
        let plan = Plan { gentle: random.one_in(4), hubs: 1 + random.below(3), steps: 30 + random.below(90) };
        let mut log = LogModel::new(random.next());
        log.delay = 1 + random.below(60);
        let mut world = World {
            random,
            plan,
            mistake,
            now: 100_000,
            log,
            hubs: Vec::new(),
            clients: Vec::new(),
            hosts: Vec::new(),
            sent: Vec::new(),
            acts: Vec::new(),
            messages: Vec::new(),
            lives: 0,
            calm: false,
            broken: None,
            notes: Notes { talks, marks: BTreeMap::new() },
        };
        mistakes::plant(&mut world);
        for _ in 0..plan.hubs {
            let hub = world.new_hub();
            world.hubs.push(hub);
        }
        world.clients = (0..1 + world.random.below(5)).map(|at| Client::new(at, &mut world.random)).collect();
        world.hosts = (0..3).map(|at| Host::new(at, at % plan.hubs)).collect();
        world
    }

    fn step(&mut self) {
        self.now += self.random.below(20) as u64;
        self.log.pass(self.now);
        match self.random.below(20) {
            0..=5 => self.publish(),
            6..=12 => self.move_a_client(),
            13 => self.misbehave(),
            14 => self.act(),
            15 => {
                let hub = self.random.below(self.plan.hubs);
                self.write_ends(hub);
            }
            _ => {}
        }
        let hub = self.random.below(self.plan.hubs);
        self.turn(hub);
        if self.random.one_in(2) {
            self.deliver(hub, 1 + self.random.clone().below(6));
        }
    }

    /// Makes a random fault.
    fn misbehave(&mut self) {
        let hub = self.random.below(self.plan.hubs);
        match self.random.below(if self.plan.gentle { 4 } else { 17 }) {
            0 => self.cut(hub),
            1 => {
                self.log.away = self.now + self.random.below(500) as u64;
                self.note("the log is away");
                (0..self.plan.hubs).for_each(|hub| self.cut(hub));
            }
            2 if self.random.one_in(2) => self.kill(hub),
            2 | 3 => {}
            4 => self.fail_over(0, "a server starts again"),
            5 | 6 => {
                let lost = 1 + self.random.below(12);
                self.fail_over(lost, "the log loses its end");
            }
            7 => {
                let lost = self.random.below(6);
                self.log.fork(lost);
                self.note("the log forks");
                (0..self.plan.hubs).filter(|_| self.random.one_in(2)).collect::<Vec<_>>().iter().for_each(|hub| {
                    self.cut(*hub);
                });
            }
            8 => match self.random.below(3) {
                0 => {
                    self.log.replace();
                    self.note("another log");
                    (0..self.plan.hubs).for_each(|hub| self.cut(hub));
                }
                _ => {
                    self.go_back();
                    self.note("an earlier server");
                    (0..self.plan.hubs).for_each(|hub| self.cut(hub));
                }
            },
            9 => {
                let kept = self.random.below(15) as u64;
                self.trim(hub, kept);
                self.note("the log is trimmed");
            }
            10 | 13 => self.lose_with_its_hub(),
            11 | 14 | 15 => self.start_behind_last_numbers(),
            16 => self.come_back_to_hubs_that_differ(),
            _ => self.clear(hub),
        }
    }

    fn fail_over(&mut self, lost: usize, what: &'static str) {
        self.log.fork(lost);
        self.note(what);
        (0..self.plan.hubs).for_each(|hub| self.cut(hub));
    }

    /// Ends the faults, lets everything come to rest, and checks all promises.
    fn settle(&mut self) {
        self.calm = true;
        (self.log.delay, self.log.away) = (1, 0);
        for hub in 0..self.plan.hubs {
            // Some hubs may still follow an earlier server.
            self.cut(hub);
        }
        self.rest();
        // These are the last messages of each channel. From them each client learns what it has missed. Then each stream
        // ends.
        for mark in [None, None, Some(Mark::End)] {
            for channel in 0..CHANNELS.len() {
                self.publish_in(channel, None, mark.filter(|_| channel > 0), 0);
            }
            self.rest();
        }
        if self.broken.is_none() {
            self.check_all();
        }
        if self.broken.is_none() && self.random.one_in(3) {
            self.grow_old();
        }
    }

    /// Lets messages become too old, also on a hub that reads them late.
    fn grow_old(&mut self) {
        self.now += AGE_MS * 6 / 10;
        self.kill(0);
        self.rest();
        self.check_hubs();
        self.now += AGE_MS * 6 / 10;
        (0..self.plan.hubs).for_each(|hub| _ = self.turn(hub));
        self.check_hubs();
    }

    fn rest(&mut self) {
        for round in 0..400 {
            self.now += 1000;
            self.log.pass(self.now);
            self.now -= 980;
            if round % 20 == 19 {
                // An entry that was appended and trimmed counts as gone when a later entry comes back.
                self.hubs.iter_mut().for_each(|hub| _ = hub.replica.publish("", &Body::Heartbeat(None)));
            }
            let mut quiet = true;
            for hub in 0..self.plan.hubs {
                quiet &= self.turn(hub);
                quiet &= self.deliver(hub, usize::MAX);
            }
            quiet &= self.settle_clients();
            quiet &= self.hosts_are_answered();
            if self.broken.is_some() || quiet {
                return;
            }
        }
        self.fail("it does not come to rest".to_owned());
    }

    fn fail(&mut self, why: String) {
        if self.notes.talks {
            println!("{:>7} BROKEN: {why}", self.now);
        }
        self.broken.get_or_insert(why);
    }

    fn mark(&mut self, what: &'static str) {
        *self.notes.marks.entry(what).or_insert(0) += 1;
    }

    fn note(&mut self, what: &'static str) {
        self.mark(what);
        self.tell(|| what.to_owned());
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.notes.talks {
            println!("{:>7} {}", self.now, what());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of schedules in a test run.
    const SCHEDULES: u64 = 10_000;

    #[test]
    fn the_promises_hold_in_ten_thousand_schedules() {
        if let Some(seed) = std::env::var("PUSH_SIM_SEED").ok().and_then(|seed| seed.parse().ok()) {
            println!("{:?}", run(seed, None, true).unwrap());
            return;
        }
        let many = std::env::var("PUSH_SIM_SCHEDULES").ok().and_then(|many| many.parse().ok());
        let (mut marks, mut broken) = (BTreeMap::new(), Vec::new());
        for seed in 0..many.unwrap_or(SCHEDULES) {
            match std::panic::catch_unwind(|| run(seed, None, false)) {
                Ok(Ok(more)) => more.into_iter().for_each(|(mark, count)| *marks.entry(mark).or_insert(0) += count),
                Ok(Err(why)) => broken.push(format!("PUSH_SIM_SEED={seed} shows it: {why}")),
                Err(_) => broken.push(format!("PUSH_SIM_SEED={seed} shows the panic")),
            }
        }
        assert!(broken.is_empty(), "{} schedules break a promise: {:#?}", broken.len(), &broken[..broken.len().min(9)]);
        println!("{marks:?}");
    }

    #[test]
    fn a_seed_replays_exactly() {
        // If two runs differ anywhere, they soon take different chances.
        let end = |seed| {
            let mut world = World::new(seed, None, false).run();
            let entries = world.log.entries().len();
            (world.notes.marks, world.now, entries, world.sent.len(), world.lives, world.random.next())
        };
        (0..300).for_each(|seed| assert_eq!(end(seed), end(seed), "PUSH_SIM_SEED={seed}"));
    }
}
