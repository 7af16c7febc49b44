//! A `pushd` that is killed while it is quiet, and one that can't write its log for a while.

use super::pushd::{stream, Pushd, ASLEEP};
use super::Place;
use crate::common::{field, until};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The number of kills: `PUSH_KILLS`, or a few.
pub fn kills() -> u64 {
    std::env::var("PUSH_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

/// What a follower has received: messages by their numbers, and gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Message(u64),
    Gap,
}

/// Follows the channel through all restarts, until the last message comes.
pub fn follow(port: u16, mut position: String, ended: &AtomicBool) -> Vec<Told> {
    let mut told = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        let Some(values) = stream(port, &format!("channel=a&since={position}")) else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        for value in values {
            match value["type"].as_str() {
                Some("message") => match value["data"].as_str() {
                    Some("end") => return told,
                    data => told.push(Told::Message(data.unwrap().parse().unwrap())),
                },
                Some("gap") => told.push(Told::Gap),
                _ => continue,
            }
            position = value["id"].as_str().unwrap().to_owned();
        }
    }
    told
}

#[test]
fn a_hub_killed_while_it_is_quiet_tells_of_no_gap() {
    // A sync interrupts the quiet time. If the kill has come just then, it is tried again.
    until("it is never killed while it is quiet", killed_while_quiet);
}

/// False: it was not quiet any more when it was killed.
fn killed_while_quiet() -> bool {
    let place = Place::new();
    let mut pushd = Pushd::start(&place);
    let (mut position, mut epochs) = (String::new(), Vec::new());
    for n in 1..=5 {
        let placed = pushd.publish("a", &n.to_string());
        if n == 1 {
            position = field(&placed, "id");
        }
        epochs.push(field(&placed, "id").rsplit_once('-').unwrap().0.to_owned());
        // The file `state` says that the hub is quiet.
        let state = place.log().join("state");
        let is_quiet = || std::fs::read(&state).unwrap()[52] == 1;
        until("it never becomes quiet", is_quiet);
        pushd.end("KILL");
        if !is_quiet() {
            return false;
        }
        pushd.start_again();
    }
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "the epoch goes on: {epochs:?}");
    let ended = AtomicBool::new(false);
    pushd.publish("a", "end");
    assert_eq!(follow(pushd.port, position, &ended), (2..=5).map(Told::Message).collect::<Vec<_>>());
    true
}

#[test]
fn a_message_that_can_t_be_written_is_not_published_and_the_hub_heals() {
    let place = Place::new();
    let mut pushd = Pushd::start(&place);
    let publish = |pushd: &Pushd, data: &str| pushd.request("POST /v1/publish?channel=a", data.as_bytes()).unwrap();
    let limit = |pushd: &Pushd, bytes: &str| {
        let pid = pushd.child.id().to_string();
        let done = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:unlimited")]).status();
        assert!(done.unwrap().success());
    };
    let position = field(&pushd.publish("a", "0"), "id");
    // Files can't grow any more, as on a full disk.
    limit(&pushd, "1");
    let mut acknowledged = 0;
    until("it never says so", || {
        let (status, body) = publish(&pushd, &(acknowledged + 1).to_string());
        acknowledged += u64::from(status == 200);
        let is_refused = status == 503 && body.contains("\"system\"");
        assert!(status == 200 || is_refused || body.contains(ASLEEP), "{body}");
        is_refused
    });
    let (status, body) = pushd.request("DELETE /v1/channels/a", b"").unwrap();
    assert!(status == 503 && body.contains("\"system\""), "it is not cleared, either: {status} {body}");
    let (status, why) = pushd.request("GET /healthz", b"").unwrap();
    assert!(status == 503 && why.contains("engine: ") && why.contains("File too large"), "{why}");
    assert!(pushd.request("GET /metrics", b"").unwrap().1.contains("push_engine_up 0"));
    // Subscribers go on.
    let mut client = TcpStream::connect(("127.0.0.1", pushd.port)).unwrap();
    client.write_all(b"GET /push?channel=a&last=1&transport=poll HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(&format!("\"data\":\"{acknowledged}\"")), "{answer}");
    limit(&pushd, "unlimited");
    until("it does not heal", || publish(&pushd, &(acknowledged + 1).to_string()).0 == 200);
    // A disk that is slow just now is told as well.
    until("health says nothing", || pushd.request("GET /healthz", b"").unwrap().0 == 200);
    pushd.restart("TERM");
    pushd.publish("a", "end");
    let told = follow(pushd.port, position, &AtomicBool::new(false));
    assert_eq!(told, (1..=acknowledged + 1).map(Told::Message).collect::<Vec<_>>());
}
