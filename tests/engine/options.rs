//! Values that the options refuse, and `pushd log` on a good log and on a broken one.

use super::pushd::Pushd;
use super::{segments, stop, Place};
use crate::common::{builder, field, Host};
use push::hub::{Mark, Publication};
use push::{Kind, Server};
use std::process::{Command, Output};

fn pushd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pushd")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn errors_of_engine_options_say_what_is_allowed() {
    let mut builder = builder(&[]);
    for (name, value, allowed) in [
        ("engine", "disk", "memory, file:DIRECTORY, or a URL"),
        ("engine", "file:", "memory, file:DIRECTORY, or a URL"),
        ("engine_sync", "often", "interval, always or never"),
        ("engine_timeout", "1h", "a time from 0 to 1m"),
        ("engine_retention_age", "1s", "auto, or a time from 1m to 365d"),
        ("engine_retention_bytes", "1KB", "auto, or a size from 1MB to 1048576GB"),
        ("engine_buffer", "1", "a size from 64KB to 16GB"),
    ] {
        let error = builder.set(name, value).unwrap_err();
        assert!(error.kind() == Kind::Config && error.to_string().contains(allowed), "{error}");
    }
    builder.set("attach", "unix:/run/nobody.sock").unwrap();
    builder.set("engine", "file:/tmp/never").unwrap();
    assert!(Server::start(builder).unwrap_err().to_string().contains("set engine there"));
}

#[test]
fn a_log_is_printed_and_checked() {
    let place = Place::new();
    let host = Host::start(&[("engine", &place.engine())]);
    host.publish("news", "hello");
    host.publish("b c", &"x".repeat(100));
    host.place(&Publication::mark("news", Mark::End));
    host.place(&Publication::mark("b c", Mark::Begin));
    stop(host);
    let directory = place.log().display().to_string();
    let shown = pushd(&["log", &directory]);
    let lines = text(&shown.stdout);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    assert!(lines.contains(" 1 2") && lines.contains("\"news\" 5 bytes \"hello\""), "{lines}");
    assert!(lines.contains("\"b c\" 100 bytes \"xxx") && lines.contains("x\"…"), "{lines}");
    assert!(
        lines.contains(": 1 segment of ") && lines.contains("4 messages, numbers 1 to 4; closed cleanly"),
        "{lines}"
    );
    assert!(lines.contains("\"news\" end\n") && lines.contains("\"b c\" begin\n"), "{lines}");
    let checked = pushd(&["log", "-q", &directory]);
    assert_eq!(text(&checked.stdout).lines().count(), 1);
    // After a byte is changed, `pushd log` says where, and so does a start.
    let segment = segments(&place.log()).remove(0);
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(5).position(|word| word == b"hello").unwrap();
    bytes[at] = b'j';
    std::fs::write(&segment, &bytes).unwrap();
    let checked = pushd(&["log", "-q", &directory]);
    let error = text(&checked.stderr);
    assert_eq!(checked.status.code(), Some(1), "{error}");
    assert!(error.contains(&format!("{}: byte ", segment.display())) && error.contains("checksum is wrong"), "{error}");
    let error = Server::start(builder(&[("engine", &place.engine())])).unwrap_err();
    assert!(error.to_string().contains("checksum is wrong") && error.to_string().contains("start again"), "{error}");
    assert_eq!(std::fs::read(&segment).unwrap(), bytes, "nothing was changed");
    for wrong in [&["log"][..], &["log", "-q"], &["log", "a", "b"]] {
        assert_eq!(pushd(wrong).status.code(), Some(2), "{wrong:?}");
    }
    let missing = pushd(&["log", "/nowhere"]);
    assert!(missing.status.code() == Some(1) && text(&missing.stderr).contains("/nowhere"));
}

#[test]
fn the_fences_of_a_log_are_shown_and_counted_as_what_they_are() {
    let place = Place::new();
    let directory = place.log().display().to_string();
    // With `always` each kill leaves a fence, however long the hub was quiet before.
    let mut pushd = Pushd::start_with(&place, &[("engine_sync", "always"), ("engine_timeout", "1m")], &[]);
    let mut epochs = Vec::new();
    let mut publish = |pushd: &Pushd| {
        let answer = pushd.publish("a", "hello");
        epochs.push(field(&answer, "id").split('-').next().unwrap().to_owned());
    };
    publish(&pushd);
    pushd.restart("KILL");
    publish(&pushd);
    // Without this file, the next hub can't know whether messages are missing.
    pushd.restart_after("KILL", || std::fs::remove_file(place.log().join("state")).unwrap());
    publish(&pushd);
    pushd.end("TERM");
    // The messages have the numbers 1, 3 and 5.
    let lines = text(&self::pushd(&["log", &directory]).stdout);
    let whole = format!(".log:0 2 fence: epoch {} begins; nothing is missing", epochs[1]);
    let lossy = format!(".log:0 4 fence: epoch {} begins; messages before it may be missing", epochs[2]);
    for fence in [whole, lossy] {
        assert_eq!(lines.lines().filter(|line| line.ends_with(&fence)).count(), 1, "{fence:?}: {lines}");
    }
    let about = "3 messages and 2 fences, numbers 1 to 5; closed cleanly";
    let order = format!("epoch {}, before it {} up to 3, before it {} up to 1", epochs[2], epochs[1], epochs[0]);
    let last = lines.lines().last().unwrap();
    assert!(last.contains(": 3 segments of ") && last.contains(about) && last.ends_with(&order), "{last}");
    assert_eq!(text(&self::pushd(&["log", "-q", &directory]).stdout).trim_end(), last);
}
