//! The health of this hub: it appends heartbeats to the log, and is healthy while they come back. Each change is
//! logged once.

use super::super::connection::Failure;
use super::Driver;
use crate::log::Level;
use std::time::Duration;
use tokio::time::Instant;

/// How long the hub's end may wait until the log has its last heartbeat.
const GOODBYE: Duration = Duration::from_millis(500);

/// The heartbeats that this hub appends to the log.
#[derive(Debug)]
pub(super) struct Beat {
    /// The name of this hub, which they tell others.
    name: Box<str>,
    /// The one that is on its way, and since when.
    pub(super) under_way: Option<(u64, Instant)>,
    pub(super) next: Instant,
    /// The time at which the last one came back.
    pub(super) back: Option<Instant>,
    /// One that was put there over the present connection has come back.
    pub(super) proven: bool,
    /// The last one of all was appended, which says that the hub ends. Until then the log may answer.
    pub(super) last: Option<Instant>,
}

impl Beat {
    pub(super) fn new(name: Box<str>) -> Self {
        Beat { name, under_way: None, next: Instant::now(), back: None, proven: false, last: None }
    }
}

/// What the lines of the log have told last.
#[derive(Debug, Default)]
pub(super) struct Told {
    of_connection: Said,
    /// The number of acts of later versions.
    unknown_acts: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Said {
    #[default]
    Nothing,
    Up,
    Down(String),
}

impl Driver {
    /// Appends a heartbeat to the log, if it is time. If the heartbeat before has not come back, asks only for the last
    /// number of the log. After `timeout` appends a new one all the same: the log may have trimmed the old one before
    /// this hub read it.
    pub(super) fn beat(&mut self) {
        let now = Instant::now();
        if !self.replica.is_open() || self.beat.next > now || self.beat.last.is_some() {
            return;
        }
        match self.beat.under_way {
            Some((_, at)) if now.duration_since(at) < self.timeout => self.replica.ask_end(),
            _ => self.beat.under_way = Some((self.replica.beat(self.timeout, &self.beat.name), now)),
        }
        self.beat.next = now + self.timeout / 3;
    }

    /// Appends a last heartbeat, so that other hubs do not wait for this one any more. True if the log has it, or can't
    /// have it in time.
    pub(super) fn says_goodbye(&mut self) -> bool {
        if !self.replica.is_open() {
            return true;
        }
        let now = Instant::now();
        let Beat { name, last, .. } = &mut self.beat;
        let until = *last.get_or_insert_with(|| {
            self.replica.beat(Duration::ZERO, name);
            now + GOODBYE.min(self.timeout)
        });
        self.replica.all_placed() || until <= now
    }

    pub(super) fn look_at_health(&mut self) {
        self.shared.status.set_behind(self.replica.behind(), self.replica.breaks());
        let (count, kind) = self.replica.unknown_acts();
        if count != std::mem::replace(&mut self.told.unknown_acts, count) {
            let place = &self.place;
            let text = format_args!(
                "engine: {place}: a later version of libpush has put a command (kind {kind}) for all hubs into the log; \
                 this hub ignores it; update this hub"
            );
            self.log.limited(Level::Warn, "an act of a later version", text);
        }
        if let Some((number, why)) = self.replica.unreadable() {
            let why = format!("entry {number} of the log can't be read: {why}");
            if self.shared.status.set_failure(Some(&why)) {
                self.log.line(Level::Error, format_args!("engine: {}: {why}; nothing more is delivered", self.place));
            }
            return;
        }
        let lives = self.beat.back.is_some_and(|at| at.elapsed() < self.timeout);
        let lasts = self.connected.is_some_and(|at| at.elapsed() >= self.timeout);
        match &self.told.of_connection {
            _ if lives => _ = self.shared.status.set_failure(None),
            Said::Down(why) if !lasts => _ = self.shared.status.set_failure(Some(why)),
            // At first the heartbeat stands behind all that the log had before.
            _ if self.beat.back.is_none() && self.replica.is_open() => {
                _ = self.shared.status.set_failure(Some("the hub is still reading the log"));
            }
            Said::Nothing if !lasts => {}
            _ => {
                let why =
                    "the entries that this hub appends do not come back from the log in time (option engine_timeout)";
                self.shared.status.set_failure(Some(why));
            }
        }
    }

    pub(super) fn say_up(&mut self) {
        let again = match std::mem::replace(&mut self.told.of_connection, Said::Up) {
            Said::Up => return,
            Said::Down(_) => " again",
            Said::Nothing => "",
        };
        self.log.line(Level::Info, format_args!("engine: {}: the hub follows the log{again}", self.place));
    }

    pub(super) fn say_down(&mut self, failure: &Failure) {
        let Failure(why) = failure;
        if matches!(&self.told.of_connection, Said::Down(said) if said == why) {
            return;
        }
        self.log.line(Level::Warn, format_args!("engine: {}: {why}; the hub tries again", self.place));
        self.told.of_connection = Said::Down(why.clone());
    }

    pub(super) fn say_end(&mut self) {
        self.shared.inlet.close("the hub ends");
        let left = self.requests.len() + self.partly.iter().map(|offered| offered.entries.len()).sum::<usize>();
        if left > 0 && !self.replica.all_placed() {
            let text =
                format_args!("engine: {}: the hub ends; up to {left} accepted messages may be missing", self.place);
            self.log.line(Level::Error, text);
        }
    }
}
