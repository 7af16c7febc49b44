//! A log on disk, for one hub: what was published outlives the process.
//!
//! | file | what is in it |
//! |---|---|
//! | `NUMBER.log` | a segment (`segment`): a header, then records (`record`) of entries. Only the last one is written to |
//! | `state` | whether the log has everything that was published (`state`) |
//! | `lock` | the lock of the hub that uses the log |
//!
//! The hub numbers and delivers messages as ever, and notes them in a buffer (`write_behind`), from which a thread (`writer`)
//! writes them (`writing`). A start reads the log (`reading`) and judges how it ended (`opening`).

#[cfg(test)]
mod always_tests;
mod batch;
#[cfg(test)]
mod directory_tests;
mod disk;
#[cfg(test)]
mod ends_tests;
mod growing;
#[cfg(test)]
mod memory;
mod opening;
mod reading;
mod record;
mod segment;
mod showing;
mod state;
#[cfg(test)]
mod tests;
mod times;
mod write_behind;
mod writer;
mod writing;

pub(crate) use reading::Step;
pub use showing::show_log;
pub use writer::Sync;
pub(crate) use writer::{Shared, Writer};
pub(crate) use writing::Kept;

use super::entry::{Entry, Logged};
use crate::error::Error;
use crate::hub::{Hub, Message, Origin, Publication};
use crate::log::Log;
use crate::sys::clock;
use opening::Unwritten;
use std::path::Path;
use std::sync::Arc;

/// Lets a copy of a directory stand for one from which a hub was killed.
#[cfg(test)]
pub(crate) fn take_over(copy: &Path) {
    state::take_over(&disk::Directory::open(copy).unwrap());
}

/// How a log is kept and written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) sync: Sync,
    pub(crate) kept: Kept,
    /// The bytes that may wait to be written.
    pub(crate) buffer: usize,
}

/// Makes a message from a publication, as the hub's publishers do.
pub(crate) type MakeMessage = fn(&Publication<'_>) -> Arc<Message>;

/// Opens the log in a directory and restores a new hub from it. The hub then notes new messages in the log. `recall`
/// gets the messages that attached hosts had published, each with its number.
pub(crate) fn open(
    path: &Path,
    settings: Settings,
    hub: &mut Hub,
    make: MakeMessage,
    recall: &mut dyn FnMut(Origin, u64, bool),
    log: &Log,
) -> Result<Writer, Error> {
    go_on(settings, hub, make, recall, log, |each| Unwritten::open(path, each))
}

/// The same for a log that `read` reads.
fn go_on(
    settings: Settings,
    hub: &mut Hub,
    make: MakeMessage,
    recall: &mut dyn FnMut(Origin, u64, bool),
    log: &Log,
    read: impl FnOnce(&mut dyn FnMut(Step<'_>)) -> Result<Unwritten, Error>,
) -> Result<Writer, Error> {
    let (now, now_ms) = (clock::monotonic_ms(), clock::unix_ms());
    hub.keep_names();
    let log_to_be = read(&mut |step| match step {
        Step::First(first) => hub.begin_before(first),
        Step::Entry { number, entry: Entry::Message(logged), .. } => {
            recalled(number, &logged, recall);
            restore(hub, number, &logged, make, (now, now_ms));
        }
        Step::Entry { entry: Entry::Cleared { channel }, .. } => hub.restore_cleared(channel),
        Step::Entry { entry: Entry::Ends { floor, channels }, .. } => {
            hub.restore_ends(floor, channels.iter().copied());
        }
        // The hub learns the fences from the chain of the last epoch.
        Step::Fence { .. } | Step::Entry { .. } => {}
    })?;
    log_to_be.tell(log);
    let ((epoch, chain), last) = (log_to_be.lineage(), log_to_be.last());
    let written = log_to_be.begin(settings.kept, settings.sync == Sync::Always, &|first| hub.ends(first), now_ms)?;
    let writer = Writer::new(written, (settings.sync, settings.kept, settings.buffer), log.clone());
    hub.go_on(epoch, chain, last, writer.shared().behind.clone(), now);
    Ok(writer)
}

fn recalled(number: u64, logged: &Logged<'_>, recall: &mut dyn FnMut(Origin, u64, bool)) {
    if let Some(origin) = logged.noted.origin {
        recall(origin, number, logged.more);
    }
}

/// A message's age counts from its own time. A message whose time is in the future counts as new.
fn restore(hub: &mut Hub, number: u64, logged: &Logged<'_>, make: MakeMessage, (now, now_ms): (u64, u64)) {
    let age = now_ms.saturating_sub(logged.time_ms);
    hub.restore(number, logged.noted.outgoing(make), now.wrapping_sub(age));
}
