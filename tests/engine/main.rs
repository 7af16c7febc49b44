//! Servers with a history that survives a restart: the option `engine=file:DIRECTORY`.

#[path = "../common/mod.rs"]
mod common;

mod always;
mod attached;
mod chance;
mod content;
mod failing;
mod full;
mod killed;
mod ledger;
mod load;
mod options;
mod planted;
mod power;
mod publisher;
mod pushd;
mod restart;
mod truth;

use common::{Host, PATIENCE};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A directory that is removed after the test.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("push-engine-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Place(path)
    }

    /// The option for a log in it.
    fn engine(&self) -> String {
        format!("file:{}", self.log().display())
    }

    fn log(&self) -> PathBuf {
        self.0.join("log")
    }
}

/// The files of a test that fails are left there.
impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Stops a server, and waits until its log is closed, however busy the disk is. Its clients leave at once.
fn stop(host: Host) {
    host.server.stop(PATIENCE);
}

/// The segments of a log, oldest first.
fn segments(log: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    segments.sort();
    segments
}
