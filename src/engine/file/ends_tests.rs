//! Restarts after which the log no longer has the oldest messages. Clients are told of a gap where a message is missing,
//! and nowhere else, however many channels have come and gone.

use super::memory::Memory;
use super::state::BOOT;
use super::*;
use crate::hub::{
    ChannelPattern, Cut, Epoch, Item, Join, Mailbox, Outgoing, Position, Replay, Request, Retention, Start,
};
use crate::log::Level;
use std::collections::BTreeMap;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const DAY_MS: u64 = 86_400_000;
/// Eight segments of 64 KB.
const KEPT: Kept = Kept { age_ms: 600_000, bytes: 512 << 10 };

/// A hub with a log, and everything that was published.
struct Life {
    hub: Arc<Hub>,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

/// The numbers of the messages of each channel.
type Truth = BTreeMap<String, Vec<u64>>;

fn make(publication: &Publication<'_>) -> Arc<Message> {
    Message::new(publication, publication.binary, b"")
}

impl Life {
    fn begin(disk: &Memory) -> Self {
        let few = Retention { count: 3, age_ms: 300_000, bytes: 64 << 20 };
        let none = (ChannelPattern::parse("none-*").unwrap(), Retention { count: 0, ..few });
        let hub_settings = crate::hub::Settings {
            patterns: &[none],
            total_bytes: 64 << 20,
            key_window_ms: 60_000,
            ..crate::hub::Settings::keeping(few)
        };
        let settings = Settings { sync: Sync::Interval, kept: KEPT, buffer: 1 << 20 };
        let mailbox = Arc::new(Mailbox::new(64, Box::new(|| {})));
        let mut hub = Hub::new(Epoch::from_random(getrandom::u64().unwrap()), &hub_settings, vec![mailbox]);
        let read = |each: &mut dyn FnMut(Step<'_>)| {
            Unwritten::read(Arc::new(disk.clone()), None, "log".into(), [b'1'; BOOT], each)
        };
        let log = Log::new(None, Level::Info);
        let writer = go_on(settings, &mut hub, make, &mut |_, _, _| {}, &log, read).unwrap();
        let (shared, hub) = (writer.shared().clone(), Arc::new(hub));
        let of_writer = hub.clone();
        let thread = std::thread::spawn(move || writer.run(Box::new(of_writer)));
        Life { hub, shared, thread }
    }

    /// Publishes until the log has none of the messages that it has now.
    fn push_out_all(&self, disk: &Memory, truth: &mut Truth) {
        let gone = self.hub.seq();
        while first(disk) <= gone {
            self.publish("busy", 4000, truth);
            self.write();
        }
    }

    fn publish(&self, channel: &str, bytes: usize, truth: &mut Truth) {
        let data = "x".repeat(bytes);
        let message = make(&Publication::new(channel, data.as_bytes()));
        let published = self.hub.publish(Outgoing::new(channel, None, message), clock::monotonic_ms()).unwrap();
        truth.entry(channel.into()).or_default().push(published.seq);
    }

    /// Waits until everything is written. What comes later is written by another call.
    fn write(&self) {
        let began = Instant::now();
        while self.shared.behind.waiting() > 0 {
            assert!(began.elapsed() < PATIENCE, "it is not written");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Makes all messages too old.
    fn let_all_expire(&self) {
        self.write();
        while self.hub.expire(clock::monotonic_ms() + DAY_MS) {}
    }

    /// Whether a client with a position is told of a gap, and the numbers of the messages that it gets.
    fn told(&self, channel: &str, seq: u64) -> (bool, Vec<u64>) {
        let (mut replay, mut ids) = (Replay::default(), Vec::new());
        let request = Request {
            shard: 0,
            names: if channel.is_empty() { &[] } else { &[channel][..] },
            start: Start::Since(Position { epoch: self.hub.epoch().as_str(), seq }),
            limit: usize::MAX,
            broadcasts: true,
            cut: Cut::Tail,
            join: Join::Never,
        };
        self.hub.subscribe(&request, &mut replay, &mut ids);
        let of_channel = |item: &&Item| item.channel().unwrap_or_default() == channel;
        let items = || replay.items.iter().filter(of_channel);
        let messages = items().filter(|item| matches!(item, Item::Message(_))).map(Item::seq).collect();
        (items().any(|item| item.is_gap()), messages)
    }

    /// For each position before and after each message: whether the client is told of a gap, and whether a message is
    /// missing.
    fn gaps<'t>(&'t self, truth: &'t Truth) -> impl Iterator<Item = (&'t str, u64, bool, bool)> + 't {
        let last = self.hub.seq();
        truth.iter().flat_map(move |(channel, numbers)| {
            let places = numbers.iter().flat_map(|number| [number - 1, *number, number + 1]).chain([0, last]);
            places.filter(move |place| *place <= last).map(move |place| {
                let (gap, got) = self.told(channel, place);
                let missing = numbers.iter().any(|number| *number > place && !got.contains(number));
                (&**channel, place, gap, missing)
            })
        })
    }

    fn end(self) {
        self.shared.behind.stop(None);
        self.thread.join().unwrap();
    }
}

/// The number of the first message in the log.
fn first(disk: &Memory) -> u64 {
    segment::first_of(disk.segments().iter().min().unwrap()).unwrap()
}

#[test]
fn channels_that_have_come_and_gone_are_told_of_no_gap_where_nothing_is_missing() {
    let disk = Memory::default();
    let (life, mut truth) = (Life::begin(&disk), Truth::from([("never".to_owned(), vec![])]));
    for n in 0..500 {
        life.publish(&format!("short-{n}"), 10, &mut truth);
    }
    life.publish("", 10, &mut truth);
    life.let_all_expire();
    life.push_out_all(&disk, &mut truth);
    life.end();
    // Also after another restart: the first one has begun a segment.
    for _ in 0..2 {
        let life = Life::begin(&disk);
        for (channel, place, gap, missing) in life.gaps(&truth) {
            assert_eq!(gap, missing, "{channel:?} since {place}");
        }
        assert!(!life.told("short-0", 1).0 && life.told("short-1", 1).0 && !life.told("never", 0).0);
        life.end();
    }
}

#[test]
fn whatever_happens_a_gap_is_told_where_a_message_is_missing_and_nowhere_else() {
    let mut gone = 0;
    for seed in 0..10u64 {
        let mut state = seed;
        let mut chance = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let disk = Memory::default();
        let mut truth = Truth::from([("never".to_owned(), vec![])]);
        for _ in 0..3 {
            let life = Life::begin(&disk);
            let which = chance(4) as usize;
            for (channel, place, gap, missing) in life.gaps(&truth).skip(which).step_by(4) {
                assert_eq!(gap, missing, "seed {seed}: after a start, {channel:?} since {place}");
            }
            for _ in 0..40 + chance(200) {
                let channel = match chance(20) {
                    0 => String::new(),
                    1..=4 => format!("none-{}", chance(30)),
                    5..=12 => format!("some-{}", chance(200)),
                    _ => "busy".into(),
                };
                life.publish(&channel, chance(6000) as usize, &mut truth);
                match chance(60) {
                    0 => life.let_all_expire(),
                    1 => drop(life.hub.submit_clear(&format!("some-{}", chance(200)), None).unwrap()),
                    2..=30 => life.write(),
                    _ => {}
                }
            }
            for (channel, place, gap, missing) in life.gaps(&truth).skip(which).step_by(4) {
                assert_eq!(gap, missing, "seed {seed}: {channel:?} since {place}");
            }
            life.end();
        }
        gone += first(&disk) - 1;
    }
    assert!(gone > 300, "of {gone} messages nothing but the last numbers was left");
}

#[test]
fn where_not_all_ends_fit_the_lowest_are_told_of_too_many_gaps_and_nobody_of_too_few() {
    let disk = Memory::default();
    let (life, mut truth) = (Life::begin(&disk), Truth::new());
    for n in 0..3000 {
        life.publish(&format!("short-lived-{n}"), 10, &mut truth);
    }
    life.let_all_expire();
    life.end();
    // In the second life the hub knows only a part of the ends, and a floor. Its segments have them as well.
    for _ in 0..2 {
        let life = Life::begin(&disk);
        life.let_all_expire();
        life.push_out_all(&disk, &mut truth);
        life.end();
        let life = Life::begin(&disk);
        let mut unnecessary = Vec::new();
        for (channel, place, gap, missing) in life.gaps(&truth) {
            assert!(gap || !missing, "{channel:?} since {place}");
            if gap && !missing {
                unnecessary.push(place);
            }
        }
        // An end takes some 25 bytes, and 16 KB of a segment are for them.
        let highest = unnecessary.into_iter().max().unwrap();
        assert!((1000..2600).contains(&highest), "{highest}");
        life.end();
    }
}
