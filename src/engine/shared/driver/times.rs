//! When the driver looks again, when it gives a connection up, and how long it waits before the next one.

use super::super::connection::Failure;
use super::super::pause;
use super::Driver;
use std::time::Duration;
use tokio::time::Instant;

/// The time after which a full mailbox is looked at again.
const ROOM: Duration = Duration::from_millis(1);
/// The longest time after which everything is looked at again.
const LOOK: Duration = Duration::from_secs(1);
/// The pause before the second try to connect, and the longest one.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl Driver {
    /// Why the connection has to be given up, if it has.
    pub(super) fn overdue(&self, asked: Option<Instant>, heard: Instant) -> Option<Failure> {
        let late = |at: Instant| at.elapsed() >= self.timeout;
        let ms = self.timeout.as_millis();
        if asked.is_some_and(late) {
            return Some(Failure(format!("the log has not answered for {ms} ms (option engine_timeout)")));
        }
        let sent = self.beat.under_way.map(|(_, at)| at.max(heard));
        let blocked = self.replica.has_unapplied() || !self.replica.is_open();
        if sent.is_some_and(late) && !blocked {
            return Some(Failure(format!("the log has given no entries for {ms} ms (option engine_timeout)")));
        }
        None
    }

    /// The time to look again if nothing comes until then. `asked`: the time of the oldest question that the log has
    /// not answered.
    pub(super) fn next_look(&self, asked: Option<Instant>) -> Instant {
        // Without the log, a listing waits.
        let soon = self.replica.has_unapplied() || self.replica.is_open() && self.upkeep.is_listing();
        let room = soon.then(|| Instant::now() + ROOM);
        let beat = self.replica.is_open().then_some(self.beat.next);
        let late = self.beat.under_way.map(|(_, at)| at + self.timeout);
        let sick = self.beat.back.map(|at| at + self.timeout);
        let end = self.shared.inlet.ends_at().map(Instant::from_std);
        let times = [room, beat, late, sick, end, self.beat.last, asked.map(|at| at + self.timeout)];
        let now = Instant::now();
        // A time that has passed a while ago has had its effect.
        let ahead = times.into_iter().flatten().filter(|at| now < *at + 10 * ROOM);
        ahead.min().unwrap_or(now + LOOK).clamp(now + ROOM, now + LOOK)
    }
}

/// The pause before the next try: it grows, and is random, so that hubs do not retry at the same moment.
pub(super) fn pause_after(failures: u32) -> Duration {
    let whole = PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(6)).min(LONGEST_PAUSE);
    match failures {
        // The first retry comes soon: mostly the log can be reached again.
        0 | 1 => pause::about(whole) - whole / 2,
        _ => pause::about(whole),
    }
}
