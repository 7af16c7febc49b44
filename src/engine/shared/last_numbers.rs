//! Writes the last numbers of channels into the log from time to time.
//!
//! The log forgets old entries. A hub that starts later finds nothing there of a channel that was quiet meanwhile. It
//! would tell each client that comes back to it of a gap, though nothing is missing. From these entries it knows better.
//!
//! Any hub writes them, and each waits for a random time after the entry that came last. So mostly one hub does.

use super::super::contract::Tailed;
use super::super::envelope;
use super::pause;
use crate::hub::{Ends, EndsListing, Epoch, Hub};
use std::time::Duration;
use tokio::time::Instant;

/// The log has about so many of these entries at a time.
const PARTS: u32 = 8;
/// The most bytes of names and numbers in one.
const BYTES: u64 = 256 << 10;
/// One has at most this part of the log's size.
const SHARE: u64 = 64;
/// The time until a new epoch has its own. Those of the epoch before do not count in it.
const AFTER_BREAK: Duration = Duration::from_secs(2);
/// The steps of a listing in one turn of the driver. Each is some hundred channels.
const STEPS: usize = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct LastNumbers {
    due: Instant,
    /// Bytes that came since the last entry of this kind.
    bytes: u64,
    /// How exactly such a part of the log's size is met: from a half up to 1. It is random, as the times are.
    part: f64,
    /// Such an entry has come.
    came: bool,
    /// The breaks that were met.
    breaks: u64,
    listing: Option<(Epoch, u64, EndsListing)>,
}

impl LastNumbers {
    pub(super) fn new() -> Self {
        LastNumbers { due: Instant::now(), bytes: 0, part: part(), came: false, breaks: 0, listing: None }
    }

    pub(super) fn count(&mut self, piece: &[Tailed]) {
        for item in piece {
            let Tailed::Entry { bytes, .. } = item else { continue };
            self.bytes += bytes.len() as u64;
            if envelope::is_ends(bytes) {
                (self.bytes, self.part, self.came) = (0, part(), true);
            }
        }
    }

    /// True while a listing goes on. Then the next look should be soon.
    pub(super) fn is_listing(&self) -> bool {
        self.listing.is_some()
    }

    /// What is to be written now, if anything: the epoch, the last number that is applied, and the ends. The hub has
    /// applied all entries that came.
    pub(super) fn look(
        &mut self,
        hub: &Hub,
        breaks: u64,
        (age, most): (Duration, u64),
        max_message: usize,
    ) -> Option<(Epoch, u64, Ends)> {
        let now = Instant::now();
        let every = || pause::about(age / PARTS).max(Duration::from_secs(1));
        if std::mem::take(&mut self.came) {
            // Perhaps another hub was first.
            (self.due, self.listing) = (now + every(), None);
        }
        if std::mem::replace(&mut self.breaks, breaks) != breaks {
            (self.due, self.listing) = (now + pause::about(AFTER_BREAK), None);
        }
        let is_due = now >= self.due || self.bytes as f64 > (most / u64::from(PARTS)) as f64 * self.part;
        if self.listing.is_none() && is_due {
            let until = hub.seq();
            self.listing = Some((hub.present_epoch(), until, EndsListing::new(until + 1)));
        }
        let (_, _, listing) = self.listing.as_mut()?;
        if !(0..STEPS).any(|_| listing.step(hub)) {
            return None;
        }
        let (epoch, until, listing) = self.listing.take()?;
        (self.due, self.bytes) = (now + every(), 0);
        let room = BYTES.min(most / SHARE) as usize;
        Some((epoch, until, listing.found.fitting(room.min(max_message))))
    }
}

fn part() -> f64 {
    pause::about(Duration::from_secs(1)).as_secs_f64()
}
