//! Options that can't be, and a log that is looked at and broken.

use super::{segments, Place};
use crate::common::{builder, Host};
use push::{Kind, Server};
use std::process::{Command, Output};

fn pushd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pushd")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn options_say_what_is_allowed() {
    let mut builder = builder(&[]);
    for (name, value, allowed) in [
        ("engine", "disk", "memory, or file:DIRECTORY"),
        ("engine", "file:", "memory, or file:DIRECTORY"),
        ("engine_sync", "always", "interval or never"),
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
    host.stop();
    let directory = place.log().display().to_string();
    let shown = pushd(&["log", &directory]);
    let lines = text(&shown.stdout);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    assert!(lines.contains(" 1 2") && lines.contains("\"news\" 5 bytes \"hello\""), "{lines}");
    assert!(lines.contains("\"b c\" 100 bytes \"xxx") && lines.contains("x\"…"), "{lines}");
    assert!(
        lines.contains("1 segments of ") && lines.contains("2 messages, numbers 1 to 2; closed in order"),
        "{lines}"
    );
    let checked = pushd(&["log", "-q", &directory]);
    assert_eq!(text(&checked.stdout).lines().count(), 1);
    // A byte is changed: it says where, and so does a start.
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
