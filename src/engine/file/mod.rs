//! A log on disk, for one hub: what was published outlives the process.
//!
//! | file | what is in it |
//! |---|---|
//! | `NUMBER.log` | a segment (`segment`): a header, then records (`record`) of entries. Only the last one is written to |
//! | `state` | whether everything that was published is in the log (`state`) |
//! | `lock` | whom it belongs to |
//!
//! The hub numbers and delivers messages as ever, and notes them in a buffer (`behind`), from which a thread (`writer`)
//! writes them (`writing`). A start reads the log (`reading`) and judges how it ended (`opening`).

mod behind;
#[cfg(test)]
mod directory_tests;
mod disk;
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
mod writer;
mod writing;

pub(crate) use reading::Step;
pub use showing::show_log;
pub use writer::Sync;
pub(crate) use writer::{Shared, Writer};
pub(crate) use writing::Kept;

use super::entry::{Entry, Logged};
use crate::error::Error;
use crate::hub::{Hub, Message, Origin, Outgoing, Publication};
use crate::log::Log;
use crate::sys::clock;
use opening::Unwritten;
use std::path::Path;
use std::sync::Arc;

/// How a log is kept and written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) sync: Sync,
    pub(crate) kept: Kept,
    /// Bytes that may wait to be written.
    pub(crate) buffer: usize,
}

/// Makes a message of what was published, as the hub's publishers do.
pub(crate) type MakeMessage = fn(&Publication<'_>) -> Arc<Message>;

/// Opens the log in a directory, brings back into a new hub what is in it, and has the hub note in it what comes. What
/// attached hosts had published is handed to `recall`, with the number of each.
pub(crate) fn open(
    path: &Path,
    settings: Settings,
    hub: &mut Hub,
    make: MakeMessage,
    recall: &mut dyn FnMut(Origin, u64),
    log: &Log,
) -> Result<Writer, Error> {
    let (now, now_ms) = (clock::monotonic_ms(), clock::unix_ms());
    let log_to_be = Unwritten::open(path, &mut |step| match step {
        Step::First(first) => hub.begin_before(first),
        Step::Entry { number, entry: Entry::Message(logged), .. } => {
            recalled(number, &logged, recall);
            restore(hub, number, &logged, make, (now, now_ms));
        }
        Step::Entry { entry: Entry::Cleared { channel }, .. } => hub.restore_cleared(channel),
        Step::Entry { entry: Entry::Ends(ends), .. } => {
            ends.iter().for_each(|(number, channel)| hub.restore_end(channel, *number));
        }
        Step::Entry { .. } => {}
    })?;
    log_to_be.tell(log);
    let ((epoch, chain), last) = (log_to_be.lineage(), log_to_be.last());
    let written = log_to_be.begin(settings.kept, false, &|| hub.ends(), now_ms)?;
    let writer = Writer::new(written, (settings.sync, settings.kept, settings.buffer), log.clone());
    hub.go_on(epoch, chain, last, writer.shared().behind.clone(), now);
    Ok(writer)
}

fn recalled(number: u64, logged: &Logged<'_>, recall: &mut dyn FnMut(Origin, u64)) {
    if let Some(origin) = logged.noted.origin {
        recall(origin, number);
    }
}

/// Its age counts from its own time; a message of a clock that was ahead is of now.
fn restore(hub: &mut Hub, number: u64, logged: &Logged<'_>, make: MakeMessage, (now, now_ms): (u64, u64)) {
    let noted = &logged.noted;
    let age = now_ms.saturating_sub(logged.time_ms);
    let publication =
        Publication { channel: noted.channel, data: noted.data, event: noted.event, key: None, binary: noted.binary };
    let outgoing = Outgoing { channel: noted.channel, key: noted.key, message: make(&publication) };
    hub.restore(number, outgoing, now.wrapping_sub(age));
}
