//! A disk that is full while `pushd` runs: a real one, of a few megabytes, in a mount namespace. It needs root.

use super::publisher::{subscribe, Publisher};
use super::pushd::Pushd;
use super::Place;
use crate::common::not_run;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Holds a mount namespace, and what is mounted in it, until its standard input ends.
const HOLD: &str = "mount -t tmpfs -o size=4m small \"$0\" && echo mounted && exec cat";

/// A small disk with the log of a place. Only processes in its mount namespace see it.
struct SmallDisk {
    holder: Child,
    /// Its directory, as processes outside the namespace see it.
    root: PathBuf,
}

impl SmallDisk {
    /// `None` if it can't be mounted here. Then this prints why.
    fn new(place: &Place, test: &str) -> Option<Self> {
        fs::create_dir(place.log()).unwrap();
        let mut hold = Command::new("unshare");
        hold.args(["-m", "sh", "-c", HOLD]).arg(place.log()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let holder = hold.stderr(Stdio::null()).spawn().ok();
        let disk = holder.map(|holder| SmallDisk {
            root: PathBuf::from(format!("/proc/{}/root{}", holder.id(), place.log().display())),
            holder,
        });
        let mounted = disk.and_then(|mut disk| {
            let mut line = String::new();
            BufReader::new(disk.holder.stdout.take()?).read_line(&mut line).ok()?;
            (line == "mounted\n").then_some(disk)
        });
        if mounted.is_none() {
            not_run(&format!("engine: NOT RUN: {test}: a small disk takes root, and a mount namespace"));
        }
        mounted
    }

    /// A `pushd` that sees it.
    fn pushd(&self, place: &Place, sync: &str) -> Pushd {
        let holder = self.holder.id().to_string();
        Pushd::start_within(place, &["nsenter", "-t", &holder, "-m"], &[("engine_sync", sync)], &[])
    }

    /// Fills it.
    fn fill(&self) {
        let mut file = File::create(self.root.join("filler")).unwrap();
        // A pushd that writes at the same time may take a part.
        let full = (0..10_000).find_map(|_| file.write_all(&[0; 4096]).err());
        assert_eq!(full.map(|error| error.kind()), Some(ErrorKind::StorageFull));
    }

    fn make_room(&self) {
        fs::remove_file(self.root.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn check(sync: &str) {
    let place = Place::new();
    let Some(disk) = SmallDisk::new(&place, sync) else { return };
    let mut pushd = disk.pushd(&place, sync);
    let mut publisher = Publisher::new(&pushd);
    let since = publisher.first.clone();
    let mut subscriber = subscribe(&pushd, &since);
    for round in 0..3 {
        for _ in 0..10 {
            publisher.publish(&pushd);
        }
        disk.fill();
        publisher.is_refused(&pushd, "No space left on device", round);
        disk.make_room();
        publisher.is_accepted_again(&pushd);
    }
    publisher.check(&mut subscriber);
    publisher.check(&mut subscribe(&pushd, &since));
    drop(subscriber);
    pushd.restart("TERM");
    publisher.check(&mut subscribe(&pushd, &since));
}

#[test]
fn a_full_disk_refuses_publishing_says_why_and_heals_when_there_is_room() {
    check("interval");
}

#[test]
fn the_same_while_every_message_is_synced() {
    check("always");
}
