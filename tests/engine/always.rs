//! `engine_sync=always`: through each door a message is delivered, and its position told, when it is synced. Whatever
//! happens after that, no client loses a message that any client has seen.

use super::killed::{follow, kills, Told};
use super::pushd::Pushd;
use super::{segments, stop, Place};
use crate::common::{attached, builder, field, socket_path, until, Host, PATIENCE};
use push::hub::Publication;
use push::Kind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const ALWAYS: (&str, &str) = ("engine_sync", "always");

/// A time limit that no slow disk reaches.
const PATIENT: (&str, &str) = ("engine_timeout", "1m");

fn start(place: &Place, more: &[(&str, &str)]) -> Host {
    Host::start(&[&[("engine", &*place.engine()), ALWAYS, ("threads", "2"), PATIENT], more].concat())
}

/// The library of `disk.c`, compiled for this run of the tests.
fn disk() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("disk-{}.so", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engine/disk.c");
        let mut command = Command::new("cc");
        command.args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).arg("-ldl");
        assert!(command.status().unwrap().success());
        library
    })
}

/// A machine with a `pushd`. Its disk hangs while the file `hangs` exists, and its power can be cut.
struct Machine {
    place: Place,
    hangs: PathBuf,
    synced: PathBuf,
}

impl Machine {
    fn new() -> Self {
        let place = Place::new();
        let (hangs, synced) = (place.0.join("hangs"), place.0.join("synced"));
        std::fs::create_dir(&synced).unwrap();
        Machine { place, hangs, synced }
    }

    fn start(&self, more: &[(&str, &str)]) -> Pushd {
        let text = |path: &Path| path.display().to_string();
        let (library, hangs, synced) = (text(disk()), text(&self.hangs), text(&self.synced));
        let environment = [("LD_PRELOAD", &*library), ("PUSH_DISK_HANGS", &hangs), ("PUSH_DISK_SYNCED", &synced)];
        Pushd::start_with(&self.place, &[&[ALWAYS], more].concat(), &environment)
    }

    fn hang(&self) {
        std::fs::write(&self.hangs, "").unwrap();
    }

    fn go_on(&self) {
        std::fs::remove_file(&self.hangs).unwrap();
    }

    /// Cuts the power: the bytes that were not synced are gone, or some of them, or they are zeros.
    fn cut_power(&self, chance: u64) {
        for segment in segments(&self.place.log()) {
            let inode = std::fs::metadata(&segment).unwrap().ino();
            let noted = std::fs::read_to_string(self.synced.join(inode.to_string())).unwrap_or_default();
            let mut bytes = std::fs::read(&segment).unwrap();
            let synced: usize = noted.parse().unwrap_or(0).min(bytes.len());
            match chance % 4 {
                0 => bytes.truncate(synced),
                1 => bytes.truncate(synced + (bytes.len() - synced) / 2),
                2 => bytes[synced..].fill(0),
                _ => {}
            }
            std::fs::write(&segment, bytes).unwrap();
        }
    }
}

#[test]
fn through_every_door_a_message_has_its_place_and_comes_in_order() {
    let place = Place::new();
    let attach = format!("unix:{}", socket_path());
    let control = [("control", "127.0.0.1:0"), ("control_key", "a-key-of-some-length"), ("client_publish", "true")];
    let host = start(&place, &[&control[..], &[("attach_listen", &*attach)]].concat());
    let attached = attached(&attach, &[]);
    let mut client = host.get("channel=a&transport=stream", "");
    client.head();
    let message = |data: &'static str| Publication::new("a", data.as_bytes());
    assert_eq!(host.server.publish(&message("1")).unwrap().seq, 1);
    host.server.post(&message("2")).unwrap();
    host.server.post_batch(&[message("3"), message("4")]).unwrap();
    let batch = host.server.publish_batch(&[message("5"), message("6")]).unwrap();
    assert_eq!(batch.iter().map(|placed| (placed.seq, placed.subscribers)).collect::<Vec<_>>(), [(5, 1), (6, 1)]);
    assert_eq!(host.server.broadcast(&Publication::new("", b"7")).unwrap().seq, 7);
    host.server.post_broadcast(&Publication::new("", b"8")).unwrap();
    assert_eq!(attached.publish(&message("9")).unwrap().seq, 9);
    attached.post(&message("10")).unwrap();
    attached.post_batch(&[message("11"), message("12")]).unwrap();
    assert!(attached.stats().is_ok(), "it is answered after those before it");
    let batch = attached.publish_batch(&[message("13"), message("14")]).unwrap();
    assert_eq!(batch.iter().map(|placed| placed.seq).collect::<Vec<_>>(), [13, 14]);
    assert_eq!(attached.broadcast(&Publication::new("", b"15")).unwrap().seq, 15);
    let mut socket = host.websocket("channel=b", true);
    socket.frame(0x81, br#"{"type":"publish","channel":"a","data":"16"}"#);
    socket.until(r#""type":"published","channel":"a","id":""#);
    assert!(socket.until("\"}").ends_with("-16"));
    // A key belongs to its client. The second message has the key of the first, so it is the same message.
    for _ in 0..2 {
        socket.frame(0x81, br#"{"type":"publish","channel":"a","data":"17","key":"k"}"#);
        socket.until(r#""type":"published","channel":"a","id":""#);
        assert!(socket.until("\"}").ends_with("-17"));
    }
    client.until("\"data\":\"17\"");
    assert_eq!(host.server.stats().unwrap().seq, 17);
    attached.stop(PATIENCE);
    stop(host);
    let host = start(&place, &[]);
    let mut client = host.get("channel=a&last=100&transport=stream", "");
    let text = client.until("\"data\":\"17\"");
    let datas: Vec<&str> = text.split("\"data\":\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(datas, ["1", "2", "3", "4", "5", "6", "9", "10", "11", "12", "13", "14", "16"]);
    stop(host);
}

#[test]
fn a_call_that_waits_too_long_says_so_and_with_a_key_it_can_be_repeated() {
    let place = Place::new();
    let host = start(&place, &[("engine_timeout", "0")]);
    let keys: Vec<String> = (0..1000).map(|n| format!("key-{n}")).collect();
    let message = |key| Publication { key: Some(key), ..Publication::new("a", b"x") };
    // A message may be synced before its call begins to wait.
    let late = keys.iter().position(|key| host.server.publish(&message(key)).is_err()).unwrap();
    let error = host.server.publish(&message("another")).err().filter(|error| error.kind() == Kind::Timeout);
    if let Some(error) = error {
        assert!(error.to_string().contains("engine_timeout") && error.to_string().contains("key"), "{error}");
    }
    let reload = [("engine", &*place.engine()), ALWAYS, ("threads", "2"), PATIENT];
    host.server.reload(&builder(&reload)).unwrap();
    assert_eq!(host.server.publish(&message(&keys[late])).unwrap().seq, late as u64 + 1);
    assert_eq!(host.server.publish(&Publication::new("a", b"next")).unwrap().seq, late as u64 + 3);
    stop(host);
}

#[test]
fn while_the_disk_hangs_every_request_is_answered_in_time() {
    let machine = Machine::new();
    let mut pushd = machine.start(&[("engine_timeout", "300ms"), ("engine_buffer", "64KB")]);
    let publish = |pushd: &Pushd, data: &str, key: &str| {
        pushd.request(&format!("POST /v1/publish?channel=a&key={key}"), data.as_bytes()).unwrap()
    };
    let mut position = String::new();
    until("it never answers in time", || {
        let (status, body) = publish(&pushd, "0", "k0");
        status == 200 && {
            position = field(&body, "id");
            true
        }
    });
    machine.hang();
    let (status, body) = publish(&pushd, "1", "k1");
    assert!(status == 504 && body.contains("\"timeout\"") && body.contains("engine_timeout"), "{status} {body}");
    let (status, body) = pushd.request("DELETE /v1/channels/other", b"").unwrap();
    assert!(status == 504, "{status} {body}");
    // Requests that change nothing do not wait, and clients are served.
    assert_eq!(pushd.request("GET /v1/stats", b"").unwrap().0, 200);
    let text = "x".repeat(20_000);
    let refused = (0..10).map(|n| pushd.request(&format!("POST /v1/publish?channel=b&key=b{n}"), text.as_bytes()));
    let statuses: Vec<u16> = refused.map(|answer| answer.unwrap().0).collect();
    assert!(statuses[0] == 504 && statuses[9] == 503, "too much waits then: {statuses:?}");
    until("health says nothing", || pushd.request("GET /healthz", b"").unwrap().1.contains("disk has not answered"));
    machine.go_on();
    until("it does not go on", || publish(&pushd, "1", "k1").0 == 200);
    pushd.restart("TERM");
    until("it does not answer in time", || publish(&pushd, "end", "k2").0 == 200);
    assert_eq!(follow(pushd.port, position, &AtomicBool::new(false)), [Told::Message(1)], "once");
}

#[test]
fn a_stop_ends_in_time_while_the_disk_hangs_and_says_what_is_not_in_the_log() {
    for sync in ["always", "interval"] {
        let machine = Machine::new();
        let mut pushd = machine.start(&[("engine_timeout", "100ms"), ("engine_sync", sync)]);
        pushd.drain_s = "0";
        pushd.restart("TERM");
        // A slow disk may answer too late. With its key a message is one, however often it is sent.
        let publish =
            |pushd: &Pushd, key: &str| pushd.request(&format!("POST /v1/publish?channel=a&key={key}"), b"x").unwrap().0;
        until("it never answers in time", || publish(&pushd, "first") == 200);
        machine.hang();
        // With `interval` a hub that was quiet may take a moment before it accepts anything.
        let expected = if sync == "always" { 504 } else { 200 };
        until("the second has another answer", || publish(&pushd, "second") == expected);
        pushd.signal("TERM");
        until("it does not end", || pushd.child.try_wait().unwrap().is_some());
        let said = std::fs::read_to_string(&pushd.stderr).unwrap();
        // With `interval` the second is mostly written. But the sync of the first may have hung before that.
        let is_missing = said.contains("the messages 2 to 2");
        let is_told = is_missing || (sync == "interval" && said.contains("not closed cleanly"));
        assert!(said.contains("the disk does not answer") && is_told, "{sync}: {said}");
        machine.go_on();
        pushd.start_again();
        until("it does not answer in time", || publish(&pushd, "third") == 200);
    }
}

#[test]
fn what_a_host_sends_again_after_its_hub_was_killed_is_published_once() {
    let machine = Machine::new();
    let attach = format!("unix:{}", socket_path());
    let mut pushd = machine.start(&[("attach_listen", &*attach), PATIENT]);
    let host = attached(&attach, &[]);
    let position = host.position_of(&host.publish(&Publication::new("a", b"0")).unwrap());
    let mut count = 0;
    // A log remembers the epochs of 64 lives.
    for n in 0..kills().min(50) {
        for _ in 0..50 {
            count += 1;
            host.post(&Publication::new("a", count.to_string().as_bytes())).unwrap();
        }
        pushd.restart_after("KILL", || machine.cut_power(n));
    }
    host.publish(&Publication::new("a", b"end")).unwrap();
    let told = follow(pushd.port, position, &AtomicBool::new(false));
    assert!(told == (1..=count).map(Told::Message).collect::<Vec<_>>(), "{} of {count}: {:?}…", told.len(), &told[..9]);
    let began = Instant::now();
    host.stop(Duration::from_secs(5));
    assert!(began.elapsed() < PATIENCE);
}
