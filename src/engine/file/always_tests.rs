//! `engine_sync=always`: no message is delivered and no number told before the message is synced.

mod ends;
mod groups;
mod quiet;
mod rolled;
mod spans;

use super::memory::Memory;
use super::state::BOOT;
use super::*;
use crate::error::Kind;
use crate::hub::{Epoch, Key, Mailbox, OnSettled, Outgoing, Pending, Placing, Retention, Settled};
use crate::log::Level;
use std::sync::mpsc::{channel, Receiver};
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// A hub with a log on a test disk.
struct Running {
    hub: Arc<Hub>,
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    thread: JoinHandle<()>,
}

fn make(publication: &Publication<'_>) -> Arc<Message> {
    Message::new(publication, publication.binary, b"")
}

fn start(disk: &Memory) -> Running {
    start_with(disk, Sync::Always, 64, 1 << 20)
}

fn start_with(disk: &Memory, sync: Sync, mailbox: usize, buffer: usize) -> Running {
    let (hub, mailbox, writer) = prepare(disk, sync, mailbox, buffer);
    let (shared, of_writer) = (writer.shared().clone(), hub.clone());
    let thread = std::thread::spawn(move || writer.run(Box::new(of_writer)));
    Running { hub, shared, mailbox, thread }
}

/// A hub, and the writer of its log, which does not run yet.
fn prepare(disk: &Memory, sync: Sync, mailbox: usize, buffer: usize) -> (Arc<Hub>, Arc<Mailbox>, Writer) {
    let retention = Retention { count: 100_000, age_ms: 300_000, bytes: 64 << 20 };
    let hub_settings = crate::hub::Settings {
        total_bytes: 64 << 20,
        key_window_ms: 60_000,
        ..crate::hub::Settings::keeping(retention)
    };
    let settings = Settings { sync, kept: Kept { age_ms: 600_000, bytes: 64 << 20 }, buffer };
    let mailbox = Arc::new(Mailbox::new(mailbox, Box::new(|| {})));
    let mut hub = Hub::new(Epoch::from_random(getrandom::u64().unwrap()), &hub_settings, vec![mailbox.clone()]);
    let log = Log::new(None, Level::Info);
    let read = |each: &mut dyn FnMut(Step<'_>)| {
        Unwritten::read(Arc::new(disk.clone()), None, "log".into(), [b'1'; BOOT], each)
    };
    let writer = go_on(settings, &mut hub, make, &mut |_, _, _| {}, &log, read).unwrap();
    (Arc::new(hub), mailbox, writer)
}

impl Running {
    fn submit(&self, batch: &[(&str, Option<&str>, &str)]) -> Result<(Placing, Receiver<Settled>), Error> {
        let outgoing = batch.iter().map(|(channel, key, data)| {
            let message = make(&Publication::new(channel, data.as_bytes()));
            Outgoing::new(channel, key.map(Key::Host), message)
        });
        let (tell, settled) = channel();
        let on_settled: OnSettled = Box::new(move |settled| drop(tell.send(settled)));
        let placing = self.hub.submit(outgoing.collect(), None, clock::monotonic_ms(), Some(on_settled))?;
        Ok((placing, settled))
    }

    /// Publishes one message to the channel `a`. Its position comes over the returned channel.
    fn publish(&self, data: &str) -> Receiver<Settled> {
        let (placing, settled) = self.submit(&[("a", None, data)]).unwrap();
        assert_eq!(placing, Placing::Later);
        settled
    }

    fn delivered(&self) -> Vec<String> {
        let taken = std::iter::from_fn(|| self.mailbox.pop());
        taken.map(|delivery| String::from_utf8_lossy(delivery.message.data()).into_owned()).collect()
    }

    fn subscribe(&self, channel: &str) {
        let request = crate::hub::Request {
            shard: 0,
            names: &[channel],
            start: crate::hub::Start::New,
            limit: usize::MAX,
            broadcasts: false,
            cut: crate::hub::Cut::Tail,
            join: crate::hub::Join::Always,
        };
        self.hub.subscribe(&request, &mut Default::default(), &mut Vec::new());
    }

    fn stop(self) {
        self.shared.behind.stop(None);
        self.thread.join().unwrap();
    }
}

fn seqs(settled: &Receiver<Settled>) -> Vec<u64> {
    let settled = settled.recv_timeout(PATIENCE).unwrap();
    settled.places.iter().map(|published| published.seq).collect()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The messages of a log, as `channel data`. Cleared messages are left out.
fn logged(disk: &Memory) -> Vec<String> {
    let mut found: Vec<(String, String)> = Vec::new();
    reading::read(disk, "log", &mut |step| match step {
        Step::Entry { entry: Entry::Message(logged), .. } => {
            let data = String::from_utf8_lossy(logged.noted.data).into_owned();
            found.push((logged.noted.channel.to_owned(), data));
        }
        Step::Entry { entry: Entry::Cleared { channel }, .. } => found.retain(|(name, _)| name != channel),
        _ => {}
    })
    .unwrap();
    found.into_iter().map(|(channel, data)| format!("{channel} {data}")).collect()
}

#[test]
fn nothing_is_delivered_or_told_before_the_sync_and_all_of_it_after() {
    let disk = Memory::default();
    let running = start(&disk);
    running.subscribe("a");
    disk.hang(true);
    let before = disk.syncs();
    let first = running.publish("one");
    until("no sync", || disk.syncs() > before);
    // These messages share the next sync.
    let more: Vec<_> = ["two", "three", "four", "five"].map(|data| running.publish(data)).into();
    assert!(first.recv_timeout(Duration::from_millis(30)).is_err(), "it is not told");
    assert_eq!((running.delivered(), running.hub.seq()), (vec![], 0), "it is not delivered, and no position has it");
    assert!(running.shared.behind.waiting() > 0);
    disk.hang(false);
    assert_eq!(seqs(&first), [1]);
    let told: Vec<u64> = more.iter().flat_map(seqs).collect();
    assert_eq!(told, [2, 3, 4, 5]);
    assert_eq!(running.delivered(), ["one", "two", "three", "four", "five"]);
    assert!(disk.syncs() <= before + 4, "{} syncs for five messages", disk.syncs() - before);
    until("something waits", || running.shared.behind.waiting() == 0);
    running.stop();
    assert_eq!(logged(&disk).len(), 5);
}

#[test]
fn what_nobody_waits_for_is_delivered_in_the_order_of_the_calls() {
    let disk = Memory::default();
    let running = start(&disk);
    running.subscribe("a");
    for n in 0..40 {
        let data = n.to_string();
        let outgoing = Outgoing::new("a", None, make(&Publication::new("a", data.as_bytes())));
        let placing = running.hub.submit(vec![outgoing], None, clock::monotonic_ms(), None).unwrap();
        assert_eq!(placing, Placing::Later);
    }
    running.stop_and_check(|running| {
        let expected: Vec<String> = (0..40).map(|n| n.to_string()).collect();
        assert_eq!(running.delivered(), expected);
    });
}

impl Running {
    /// Waits until no request waits, checks, and stops.
    fn stop_and_check(self, check: impl FnOnce(&Running)) {
        until("something waits", || self.shared.behind.waiting() == 0);
        check(&self);
        self.stop();
    }
}

#[test]
fn a_key_that_waits_is_known_and_answered_with_its_own_number() {
    let disk = Memory::default();
    let running = start(&disk);
    disk.hang(true);
    let (_, first) = running.submit(&[("a", Some("k"), "one")]).unwrap();
    let (placing, again) = running.submit(&[("a", Some("k"), "one")]).unwrap();
    assert_eq!(placing, Placing::Later, "it is told when it lasts");
    let (_, batch) = running.submit(&[("a", None, "two"), ("a", Some("k"), "one"), ("b", Some("k"), "three")]).unwrap();
    assert!(again.recv_timeout(Duration::from_millis(30)).is_err());
    disk.hang(false);
    assert_eq!((seqs(&first), seqs(&again), seqs(&batch)), (vec![1], vec![1], vec![2, 1, 3]));
    let (placing, _) = running.submit(&[("a", Some("k"), "one")]).unwrap();
    let Placing::Now(settled) = placing else { panic!("it lasts already") };
    assert_eq!(settled.places[0].seq, 1);
    assert_eq!(running.hub.stats().duplicates, 3);
    running.stop();
    assert_eq!(logged(&disk), ["a one", "a two", "b three"]);
}

#[test]
fn a_channel_is_cleared_in_its_turn_and_lasts_so() {
    let disk = Memory::default();
    let running = start(&disk);
    disk.hang(true);
    running.publish("one");
    let (tell, cleared) = channel();
    let on_settled: OnSettled = Box::new(move |settled| drop(tell.send(settled)));
    // The channel does not exist yet, since its message waits.
    assert_eq!(running.hub.submit_clear("a", Some(on_settled)).unwrap(), Placing::Later);
    let two = running.publish("two");
    disk.hang(false);
    assert!(cleared.recv_timeout(PATIENCE).unwrap().cleared);
    assert_eq!(seqs(&two), [2]);
    assert_eq!(running.hub.channel("a").unwrap().messages, 1);
    until("something waits", || running.shared.behind.waiting() == 0);
    let placing = running.hub.submit_clear("never", None).unwrap();
    assert_eq!(placing, Placing::Now(Settled::default()));
    running.stop();
    assert_eq!(logged(&disk), ["a two"]);
}

#[test]
fn a_full_mailbox_makes_the_log_wait_and_then_publishers_and_nothing_is_dropped() {
    let disk = Memory::default();
    let running = start_with(&disk, Sync::Always, 4, 64 << 10);
    running.subscribe("a");
    let text = "x".repeat(1000);
    let mut accepted = 0;
    let error = loop {
        match running.submit(&[("a", None, &text)]) {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
        assert!(accepted < 1000);
    };
    assert!(error.kind() == Kind::Busy && error.to_string().contains("engine_buffer"), "{error}");
    let mut delivered = 0;
    until("it was not all delivered", || {
        delivered += running.delivered().len();
        delivered == accepted
    });
    // A batch that is too large for one mailbox is refused, as without a log.
    let batch = [("a", None, "x"); 5];
    assert_eq!(running.submit(&batch).unwrap_err().kind(), Kind::TooLarge);
    running.stop();
    assert_eq!(logged(&disk).len(), accepted);
}

#[test]
fn after_a_failed_sync_it_is_told_when_it_lasts_after_all() {
    let disk = Memory::default();
    let running = start(&disk);
    disk.fail_syncs(true, false);
    let first = running.publish("one");
    until("it does not say so", || running.shared.behind.failure().is_some());
    assert!(first.try_recv().is_err());
    let error = running.submit(&[("a", None, "two")]).unwrap_err();
    assert!(error.kind() == Kind::System && error.to_string().contains("nothing was published"), "{error}");
    disk.fail_syncs(false, false);
    assert_eq!(seqs(&first), [1]);
    until("it does not heal", || running.shared.behind.failure().is_none());
    assert_eq!(seqs(&running.publish("two")), [2]);
    running.stop();
    assert_eq!(logged(&disk), ["a one", "a two"]);
}

#[test]
fn what_was_accepted_before_a_stop_is_in_the_log() {
    for mailbox in [1, 64] {
        let disk = Memory::default();
        let running = start_with(&disk, Sync::Always, mailbox, 1 << 20);
        running.subscribe("a");
        for n in 0..20 {
            running.publish(&n.to_string());
        }
        // The shards have ended by then, so the mailbox stays full.
        running.stop();
        assert_eq!(logged(&disk).len(), 20);
    }
}

#[test]
fn a_loss_of_power_at_any_moment_takes_nothing_that_anybody_has_seen() {
    let mut lost = 0;
    for seed in 0..200u64 {
        let disk = Memory::default();
        let running = start(&disk);
        let seen: Mutex<Vec<(u64, String)>> = Mutex::default();
        let stop = std::sync::atomic::AtomicBool::new(false);
        let snapshot = std::thread::scope(|scope| {
            for publisher in 0..3 {
                let (running, seen, stop) = (&running, &seen, &stop);
                scope.spawn(move || {
                    for n in 0.. {
                        if stop.load(std::sync::atomic::Ordering::Relaxed) {
                            return;
                        }
                        let data = format!("{publisher}-{n}{}", "x".repeat(n % 50));
                        let told = running.publish(&data);
                        if n % 3 == 0 {
                            let number = seqs(&told)[0];
                            seen.lock().unwrap().push((number, data));
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_micros(500 + seed * 37));
            // First the messages that clients have seen, then the disk at that moment.
            let (told, applied) = (seen.lock().unwrap().clone(), running.hub.seq());
            let snapshot = (told, applied, running.hub.epoch().as_str().to_owned(), disk.copy());
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            snapshot
        });
        running.stop();
        let (told, applied, epoch, disk) = snapshot;
        let mut state = seed;
        disk.power_loss(&mut |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) as usize) % below.max(1)
        });
        let (mut messages, mut last) = (std::collections::BTreeMap::new(), 0);
        let unwritten = Unwritten::read(Arc::new(disk.clone()), None, "log".into(), [b'2'; BOOT], &mut |step| {
            if let Step::Entry { number, entry: Entry::Message(logged), .. } = step {
                messages.insert(number, String::from_utf8_lossy(logged.noted.data).into_owned());
                last = number;
            }
        })
        .unwrap();
        assert!(last >= applied, "seed {seed}: {last} of {applied}");
        for (number, data) in &told {
            assert_eq!(messages.get(number), Some(data), "seed {seed}");
        }
        lost += u64::from(last == applied);
        // No client is told of a gap, and every client's position is exact.
        let (_, chain) = unwritten.lineage();
        assert!(chain.len() == 1 && !chain[0].lossy && chain[0].last == last, "seed {seed}: {chain:?}");
        assert_eq!(chain[0].epoch.as_str(), epoch);
    }
    assert!(lost > 10, "power was lost between a write and its sync: {lost}");
}

#[test]
fn a_log_that_was_written_behind_its_delivery_stays_lossy_whatever_comes_after() {
    let disk = Memory::default();
    let running = start_with(&disk, Sync::Interval, 64, 1 << 20);
    let mut killed = disk.copy();
    // Soon the hub is quiet, and a copy says that nothing is missing.
    until("no copy is made in time", || {
        running.submit(&[("a", None, "one")]).unwrap();
        killed = disk.copy();
        !logged(&killed).is_empty() && super::disk::Disk::read(&killed, "state").unwrap()[52] == 0
    });
    running.stop();
    let running = start(&killed);
    seqs(&running.publish("two"));
    let killed = killed.copy();
    running.stop();
    let chain = Unwritten::read(Arc::new(killed), None, "log".into(), [b'2'; BOOT], &mut |_| {}).unwrap().lineage().1;
    assert_eq!(chain.iter().map(|link| link.lossy).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn those_who_publish_again_and_again_share_their_syncs() {
    const PUBLISHERS: usize = 8;
    let disk = Memory::default();
    let running = start(&disk);
    // The first waits for a sync that takes long. All others come meanwhile.
    disk.hang(true);
    let before = disk.syncs();
    let (_, first) = running.submit(&[("a", None, "x")]).unwrap();
    until("no sync begins", || disk.syncs() > before);
    let others: Vec<_> = (1..PUBLISHERS).map(|_| running.submit(&[("a", None, "x")]).unwrap().1).collect();
    disk.hang(false);
    for settled in others.into_iter().chain([first]) {
        settled.recv_timeout(PATIENCE).unwrap();
    }
    assert_eq!(disk.syncs() - before, 2, "one for the first, and one for all others");
    assert_eq!(running.hub.seq(), PUBLISHERS as u64);
    running.stop();
}

#[test]
fn a_request_that_is_never_told_is_let_go() {
    let disk = Memory::default();
    let running = start(&disk);
    let (_, settled) = running.submit(&[]).unwrap();
    assert!(settled.recv_timeout(PATIENCE).is_err(), "an empty batch is done at once");
    let mut none: std::collections::VecDeque<Pending> = Default::default();
    assert!(running.hub.settle(&mut none, 0, false));
    running.stop();
}
