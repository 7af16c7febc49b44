//! Logs in real directories, with the thread that writes them.

use super::opening::Unwritten;
use super::*;
use crate::error::Kind;
use crate::hub::{Cut, Epoch, Item, Join, Key, Mailbox, Outgoing, Position, Replay, Request, Retention, Start};
use crate::log::Level;
use crate::shard::panic_tests::common::until;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread::JoinHandle;

/// A directory that is removed at the end of the test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("push-log-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Place(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A hub with a log, and the thread that writes it.
struct Running {
    hub: Arc<Hub>,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

const SETTINGS: Settings =
    Settings { sync: Sync::Interval, kept: Kept { age_ms: 600_000, bytes: 64 << 20 }, buffer: 1 << 20 };

fn make(publication: &Publication<'_>) -> Arc<Message> {
    Message::new(publication, publication.binary, b"")
}

fn start(path: &Path) -> Result<Running, Error> {
    start_with(path, SETTINGS)
}

fn start_with(path: &Path, settings: Settings) -> Result<Running, Error> {
    let hub_settings = crate::hub::Settings {
        key_window_ms: 60_000,
        ..crate::hub::Settings::keeping(Retention { count: 1000, age_ms: 300_000, bytes: 1 << 20 })
    };
    let mailbox = Arc::new(Mailbox::new(64, Box::new(|| {})));
    let mut hub = Hub::new(Epoch::from_random(1), &hub_settings, vec![mailbox]);
    let writer = open(path, settings, &mut hub, make, &mut |_, _, _| {}, &Log::new(None, Level::Info))?;
    let (shared, hub) = (writer.shared().clone(), Arc::new(hub));
    let of_writer = hub.clone();
    let thread = std::thread::spawn(move || writer.run(Box::new(of_writer)));
    Ok(Running { hub, shared, thread })
}

impl Running {
    fn publish(&self, channel: &str, key: Option<&str>, data: &str) -> Result<u64, Error> {
        let message = make(&Publication::new(channel, data.as_bytes()));
        let outgoing = Outgoing::new(channel, key.map(Key::Host), message);
        self.hub.publish(outgoing, clock::monotonic_ms()).map(|published| published.seq)
    }

    /// The replay for a client that has seen everything up to a position.
    fn since(&self, epoch: &str, seq: u64, channel: &str) -> Vec<String> {
        let (mut replay, mut ids) = (Replay::default(), Vec::new());
        let start = Start::Since(Position { epoch, seq });
        let request = Request {
            shard: 0,
            names: &[channel],
            start,
            limit: usize::MAX,
            broadcasts: false,
            cut: Cut::Tail,
            join: Join::Always,
        };
        self.hub.subscribe(&request, &mut replay, &mut ids);
        let show = |item: &Item| match item {
            Item::Gap(_, seq) | Item::Loss(_, seq) => format!("gap {seq}"),
            Item::Message(message) => String::from_utf8_lossy(message.data()).into_owned(),
        };
        replay.items.iter().map(show).collect()
    }

    fn epoch(&self) -> String {
        self.hub.epoch().as_str().into()
    }

    fn stop(self) {
        self.shared.behind.stop(None);
        self.thread.join().unwrap();
    }
}

/// A copy of the log, in another directory, as if the hub were killed now.
fn killed(path: &Path, name: &str) -> Place {
    let place = Place::new(name);
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), place.0.join(entry.file_name())).unwrap();
    }
    take_over(&place.0);
    place
}

/// The same, when the file `state` says that the log is complete (1), or that it may lack messages (0). The hub may
/// change that before the file is copied, so the copy has to say it. `publish` comes before each copy.
fn killed_while(path: &Path, name: &str, says: u8, mut publish: impl FnMut()) -> Place {
    let says_it = |path: &Path| fs::read(path.join("state")).unwrap()[52] == says;
    let mut copy: Option<Place> = None;
    until("it never says so", || {
        publish();
        // It removes its directory, which the next one has as well.
        drop(copy.take());
        says_it(path) && says_it(copy.insert(killed(path, name)).0.as_path())
    });
    copy.unwrap()
}

#[test]
fn history_keys_and_positions_survive_a_restart() {
    let place = Place::new("restart");
    let first = start(&place.0).unwrap();
    let epoch = first.epoch();
    let one = first.publish("a", Some("k"), "one").unwrap();
    let large = "x".repeat(100_000);
    first.publish("a", None, &large).unwrap();
    first.publish("b", None, "cleared").unwrap();
    first.hub.submit_clear("b", None).unwrap();
    let batch = ["three", "four"].map(|data| {
        let message = make(&Publication::new("a", data.as_bytes()));
        Outgoing::new("a", Some(Key::Client("ann", data)), message)
    });
    first.hub.publish_batch(batch.into(), clock::monotonic_ms()).unwrap();
    first.stop();
    let second = start(&place.0).unwrap();
    assert_eq!(second.epoch(), epoch);
    assert_eq!(second.since(&epoch, 1, "a"), [&*large, "three", "four"]);
    assert_eq!(second.since(&epoch, 5, "a"), [""; 0]);
    assert_eq!(second.since(&epoch, 1, "b"), ["gap 3"], "what was cleared stays so");
    assert_eq!(second.publish("a", Some("k"), "again").unwrap(), one, "a key is remembered");
    assert_eq!(second.publish("a", None, "five").unwrap(), 6);
    assert_eq!(second.hub.stats().published, 1, "counters are of this process");
    second.stop();
}

#[test]
fn a_hub_that_was_killed_while_it_was_quiet_has_lost_nothing() {
    let place = Place::new("quiet");
    let hub = start(&place.0).unwrap();
    hub.publish("a", None, "one").unwrap();
    let copy = killed_while(&place.0, "quiet-killed", 1, || {});
    let next = start(&copy.0).unwrap();
    assert_eq!((next.epoch(), next.since(&hub.epoch(), 1, "a")), (hub.epoch(), vec![]));
    // It is no longer quiet when it publishes.
    let mut published = 0;
    let copy = killed_while(&place.0, "loud-killed", 0, || {
        hub.publish("a", None, "two").unwrap();
        published += 1;
    });
    let other = start(&copy.0).unwrap();
    assert_ne!(other.epoch(), hub.epoch());
    let seen = other.since(&hub.epoch(), 1, "a");
    // The copy has as many of them as were written by then.
    let there = seen.len() - 1;
    assert!(there <= published && seen[..there].iter().all(|data| data == "two"), "{seen:?}");
    assert_eq!(seen[there], format!("gap {}", there + 2));
    let beyond = other.since(&hub.epoch(), 9, "a");
    assert!(beyond.iter().any(|item| item.starts_with("gap")), "{beyond:?}");
    hub.stop();
    next.stop();
    other.stop();
}

#[test]
fn a_copy_of_an_earlier_day_does_not_go_on_with_numbers_that_were_given_since() {
    let place = Place::new("today");
    let hub = start(&place.0).unwrap();
    let epoch = hub.epoch();
    hub.publish("a", None, "one").unwrap();
    hub.stop();
    let copy = Place::new("yesterday");
    let all = |from: &Path, to: &Path| {
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    };
    all(&place.0, &copy.0);
    let hub = start(&place.0).unwrap();
    assert_eq!(hub.epoch(), epoch);
    hub.publish("a", None, "two").unwrap();
    hub.stop();
    // An operator puts the copy back, over what is there.
    for entry in fs::read_dir(&place.0).unwrap().map(Result::unwrap) {
        if entry.path().extension().is_some() {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    all(&copy.0, &place.0);
    let hub = start(&place.0).unwrap();
    assert_ne!(hub.epoch(), epoch);
    hub.publish("a", None, "another two").unwrap();
    let told = hub.since(&epoch, 2, "a");
    assert!(told.first().is_some_and(|first| first.starts_with("gap")), "{told:?}");
    hub.stop();
}

#[test]
fn a_directory_is_for_one_hub_and_is_made_but_not_its_parent() {
    let place = Place::new("lock");
    let path = place.0.join("log");
    let hub = start(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    let error = start(&path).map(Running::stop).unwrap_err();
    let process = format!("process {}", std::process::id());
    assert!(error.to_string().contains("another hub uses") && error.to_string().contains(&process), "{error}");
    hub.stop();
    start(&path).unwrap().stop();
    let error = start(&place.0.join("not/there")).map(Running::stop).unwrap_err();
    assert!(error.kind() == Kind::System && error.to_string().contains("makes only the last directory"), "{error}");
    fs::write(place.0.join("file"), "x").unwrap();
    let error = start(&place.0.join("file")).map(Running::stop).unwrap_err();
    assert!(error.to_string().ends_with("not a directory"), "{error}");
    // A place where nobody can write, not even root.
    let error = start(Path::new("/proc/self/task")).map(Running::stop).unwrap_err();
    assert!(error.to_string().contains("/proc/self/task/lock: it can't be opened to write"), "{error}");
}

#[test]
fn a_full_buffer_refuses_before_anything_is_done() {
    let place = Place::new("buffer");
    let hub = start_with(&place.0, Settings { buffer: 10_000, ..SETTINGS }).unwrap();
    let text = "x".repeat(2000);
    let (mut published, mut busy) = (0, 0);
    for _ in 0..10_000 {
        match hub.publish("a", None, &text) {
            Ok(_) => published += 1,
            Err(error) => {
                assert!(error.kind() == Kind::Busy && error.to_string().contains("engine_buffer"), "{error}");
                busy += 1;
            }
        }
    }
    assert!(published > 0 && busy > 0);
    assert_eq!(hub.hub.seq(), published);
    hub.stop();
    let again = start(&place.0).unwrap();
    assert_eq!(again.hub.seq(), published);
    again.stop();
}

#[test]
fn ages_count_from_the_time_of_the_message() {
    let place = Place::new("ages");
    let hub = start(&place.0).unwrap();
    hub.publish("a", Some("k"), "one").unwrap();
    hub.stop();
    // The machine's clock says that the messages are two hours old, or in the future.
    for (shift, expected) in [(-7_200_000i64, vec!["gap 1".to_string()]), (7_200_000, vec!["one".to_string()])] {
        let copy = killed(&place.0, "ages-shifted");
        let name = fs::read_dir(&copy.0).unwrap().map(|entry| entry.unwrap().path());
        let segment = name.into_iter().find(|path| path.extension().is_some_and(|end| end == "log")).unwrap();
        shift_times(&segment, shift);
        let again = start(&copy.0).unwrap();
        assert_eq!(again.since(&again.epoch(), 0, "a"), expected);
        let same = again.publish("a", Some("k"), "two").unwrap() == 1;
        assert_eq!(same, shift > 0, "a key ages as messages do");
        again.stop();
    }
}

/// Rewrites the times of all messages of a segment.
fn shift_times(segment: &Path, shift: i64) {
    use super::segment::Header;
    let mut bytes = fs::read(segment).unwrap();
    let (header, mut at) = Header::read(&bytes).unwrap();
    while let Some(record) = record::at(&bytes, at, header.salt) {
        let (offset, end) = (record.offset, record.end);
        if let Some(Entry::Message(logged)) = Entry::read(record.entry) {
            let time = logged.time_ms.saturating_add_signed(shift).to_le_bytes();
            let start = offset + record::HEAD + 2;
            bytes[start..start + 8].copy_from_slice(&time);
            record::seal(&mut bytes[offset..end], header.salt);
        }
        at = end;
    }
    fs::write(segment, bytes).unwrap();
}

#[test]
fn a_strange_file_is_left_alone() {
    let place = Place::new("strange");
    fs::write(place.0.join("notes.txt"), "mine").unwrap();
    start(&place.0).unwrap().stop();
    assert_eq!(fs::read(place.0.join("notes.txt")).unwrap(), b"mine");
    let read = Unwritten::open(&place.0, &mut |_| {}).unwrap();
    assert!(format!("{read:?}").contains("notes.txt"));
}
