//! Losses that no hub can notice, made by hand. The judges of the other tests must find them.

use super::chance::Chance;
use super::ledger::{self, Disk};
use super::load::{Load, CHANNELS};
use super::pushd::Pushd;
use super::truth::{marked, marks_of, Told, Truth};
use super::{segments, Place};
use crate::common::until;
use std::path::Path;

/// The bytes in front of a record's entry: its length, checksum and number.
const HEAD: usize = 16;

/// Takes the record of a message out of a segment. The records behind it get the numbers and checksums that they would
/// have without it.
fn take_out(segment: &Path, mark: &str) {
    let mut bytes = std::fs::read(segment).unwrap();
    let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (mut at, salt) = (word(&bytes, 12) as usize, word(&bytes, 36));
    let mut taken = false;
    while at < bytes.len() {
        let end = at + HEAD + word(&bytes, at) as usize;
        if String::from_utf8_lossy(&bytes[at..end]).contains(&marked(mark)) {
            bytes.drain(at..end);
            taken = true;
            continue;
        }
        let number = u64::from_le_bytes(bytes[at + 8..at + HEAD].try_into().unwrap()) - u64::from(taken);
        bytes[at + 8..at + HEAD].copy_from_slice(&number.to_le_bytes());
        let mut checksum = crc32fast::Hasher::new_with_initial(salt);
        checksum.update(&bytes[at..at + 4]);
        checksum.update(&bytes[at + 8..end]);
        bytes[at + 4..at + 8].copy_from_slice(&checksum.finalize().to_le_bytes());
        at = end;
    }
    assert!(taken);
    std::fs::write(segment, bytes).unwrap();
    // The file `state` says how many there are.
    let state = segment.with_file_name("state");
    let mut bytes = std::fs::read(&state).unwrap();
    let number = u64::from_le_bytes(bytes[44..52].try_into().unwrap()) - 1;
    bytes[44..52].copy_from_slice(&number.to_le_bytes());
    ledger::seal_state(&mut bytes);
    std::fs::write(state, bytes).unwrap();
}

#[test]
fn a_message_that_is_taken_out_of_the_log_is_missed() {
    for taken in [None, Some("p4"), Some("p8")] {
        let place = Place::new();
        let mut pushd = Pushd::start(&place);
        let load = Load::new(pushd.port, pushd.control);
        // A follower has received these messages, and misses the later ones.
        (1..=6).for_each(|n| load.publish_one(&format!("p{n}")));
        let seen =
            |(id, mark): &(_, String)| Told::Message { channel: "a".into(), id: Clone::clone(id), mark: mark.clone() };
        let mut told: Vec<Told> = load.acknowledged.lock().unwrap().iter().skip(1).map(seen).collect();
        (7..=10).for_each(|n| load.publish_one(&format!("p{n}")));
        pushd.end("TERM");
        let before = marks_of(&ledger::read_directory(&place.log()));
        if let Some(mark) = taken {
            take_out(&segments(&place.log())[0], mark);
        }
        // A hub can't notice it.
        pushd.start_again();
        load.end();
        told.extend(load.follow(&CHANNELS, told.last().unwrap().id()));
        assert!(told.iter().all(|told| matches!(told, Told::Message { .. })), "no gap: {told:?}");
        pushd.end("TERM");
        let truth = Truth::read(&place.log(), true);
        let missing = before.iter().filter(|mark| !truth.marks().contains(&***mark)).count();
        assert_eq!(missing, usize::from(taken.is_some()));
        let verdict = load.judge(&truth, &[(&CHANNELS[..1], told.clone())]);
        assert_eq!(verdict.is_ok(), taken.is_none(), "{taken:?}: {verdict:?}");
        let verdict = truth.judge(&load.first, "a", &told);
        // A follower alone can't know of a message that it never got.
        assert_eq!(verdict.is_ok(), taken != Some("p4"), "{taken:?}: {verdict:?}");
    }
}

#[test]
fn a_loss_of_power_after_which_the_machine_has_not_booted_is_missed() {
    for boots in [true, false] {
        // On a slow machine what is to be lost may be synced in time. Then it is tried again.
        let mut verdict = None;
        until("it is never lost", || {
            verdict = after_a_loss_of_power(boots);
            verdict.is_some()
        });
        let verdict = verdict.unwrap();
        assert_eq!(verdict.is_ok(), boots, "{verdict:?}");
    }
}

/// The verdict about a hub that lost a message with the power. `None`: the message had been synced.
fn after_a_loss_of_power(boots: bool) -> Option<Result<(), String>> {
    let place = Place::new();
    std::fs::create_dir(place.log()).unwrap();
    let mut chance = Chance::new(1);
    ledger::boot_anew(&place, &mut chance);
    let environment = ledger::environment(&place);
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (&**name, &**value)).collect();
    let mut pushd = Pushd::start_with(&place, &[], &environment);
    let mut disk = Disk::default();
    let load = Load::new(pushd.port, pushd.control);
    load.publish_one("p1");
    // The hub is quiet, its file `state` says so, and everything is synced.
    let state = place.log().join("state");
    let mut quiet = Vec::new();
    until("it never becomes quiet", || {
        quiet = std::fs::read(&state).unwrap();
        quiet[52] == 1
    });
    until("it never syncs", || marks_of(&Disk::so_far(&place).synced()).contains(&"p1".into()));
    load.publish_one("pLost");
    pushd.end("KILL");
    disk.follow_ledger(&place);
    // The kernel has written to the disk that the hub is quiet, but not that the hub took this back.
    let mut files = disk.synced();
    assert!(marks_of(&files).contains(&"p1".into()));
    if marks_of(&files).contains(&"pLost".into()) {
        return None;
    }
    files.insert("state".into(), quiet);
    ledger::write_directory(&place.log(), &files);
    if boots {
        ledger::boot_anew(&place, &mut chance);
    }
    pushd.start_again();
    load.publish_one("p3");
    load.end();
    let told = load.follow(&CHANNELS, &load.first);
    pushd.end("TERM");
    Some(load.judge(&Truth::read(&place.log(), true), &[(&CHANNELS, told)]))
}
