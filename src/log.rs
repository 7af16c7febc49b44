//! The log: lines for the host. Its callback gets them, or it takes them by itself, or they go to a descriptor that it
//! names. The library writes them nowhere else.

mod line;
mod pulled;

use crossbeam::channel::{Sender, TrySendError};
pub use line::{written, Line};
pub use pulled::Pulled;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The host's function for log lines. It runs on the callback thread.
pub type LogSink = dyn Fn(Level, &str) + Send + Sync;

/// The level of a line. The numbers are those of the C API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(i32)]
pub enum Level {
    /// A defect of the library, or a failure that ended something that should have gone on.
    Error = 1,
    /// Something outside of the library is wrong, or soon will be.
    Warn = 2,
    /// Start, stop, listeners, refusals, and unexpected ends of connections.
    #[default]
    Info = 3,
    /// Every end of a connection.
    Debug = 4,
}

impl Level {
    /// The word for it in options.
    pub fn word(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }

    /// The word for it in lines that people read.
    pub fn shown(self) -> &'static str {
        match self {
            Level::Warn => "warning",
            other => other.word(),
        }
    }
}

/// How the host gets the lines, if they do not go to a descriptor. This is the option `log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogTo {
    /// Its callback gets them. Without a callback there is no log.
    #[default]
    Callback,
    /// It takes them from the queue.
    Pull,
}

/// Where lines go.
#[derive(Clone)]
pub(crate) enum Sink {
    /// To a thread, which calls the host's function or writes to the descriptor.
    Thread(Sender<Line>),
    /// Into the queue from which the host takes them.
    Pulled(Arc<Pulled>),
}

/// The most lines that wait for the host, or for the thread that tells it.
pub(crate) const LINES: usize = 4096;

/// The most lines of one kind that are logged within a [`WINDOW`]. Further lines are only counted.
const BURST: u32 = 10;
/// The time for which lines of one kind are counted together.
const WINDOW: Duration = Duration::from_secs(10);

/// The longest line that anybody outside can cause, in bytes. The client that it is about and a note about left out lines
/// may follow it.
const MAX_LINE: usize = 512;
/// The longest of all other lines, in bytes. Such a line may quote a hub or a path.
const MAX_OWN_LINE: usize = 4096;

/// The log of a server. If the host wants none, a line costs one branch.
#[derive(Clone)]
pub struct Log(Option<Arc<Inner>>);

struct Inner {
    sink: Sink,
    /// A [`Level`]. It can change while the server runs.
    level: AtomicI32,
    /// Whether lines about clients say where these are. It can change, too.
    names_addresses: AtomicBool,
    dropped: AtomicU64,
    /// Those of the dropped lines that the next line is to tell of.
    lost: AtomicU64,
    suppressed: AtomicU64,
    windows: Mutex<HashMap<&'static str, Window>>,
}

/// The lines of one kind in the current window.
struct Window {
    since: Instant,
    count: u32,
}

impl Log {
    /// A log of the lines up to this level.
    pub(crate) fn new(sink: Option<Sink>, level: Level) -> Self {
        Log(sink.map(|sink| {
            let level = AtomicI32::new(level as i32);
            let (dropped, lost, suppressed) = Default::default();
            let names_addresses = AtomicBool::new(true);
            Arc::new(Inner { sink, level, names_addresses, dropped, lost, suppressed, windows: Mutex::default() })
        }))
    }

    /// The queue from which the host takes the lines, if it does.
    pub(crate) fn pulled(&self) -> Option<&Arc<Pulled>> {
        match &self.0.as_ref()?.sink {
            Sink::Pulled(lines) => Some(lines),
            Sink::Thread(_) => None,
        }
    }

    /// True if a thread tells the lines to the host.
    pub(crate) fn is_told(&self) -> bool {
        self.0.as_ref().is_some_and(|log| matches!(log.sink, Sink::Thread(_)))
    }

    /// Changes the level up to which lines are logged.
    pub(crate) fn set_level(&self, level: Level) {
        if let Some(log) = &self.0 {
            log.level.store(level as i32, Ordering::Relaxed);
        }
    }

    /// Changes whether lines about clients give their addresses.
    pub(crate) fn set_names_addresses(&self, names: bool) {
        if let Some(log) = &self.0 {
            log.names_addresses.store(names, Ordering::Relaxed);
        }
    }

    /// Whether anybody is to read the addresses of clients in it.
    pub(crate) fn names_addresses(&self) -> bool {
        self.0.as_ref().is_some_and(|log| log.names_addresses.load(Ordering::Relaxed))
    }

    /// Adds a line. It never waits: if the host is slow, lines are dropped and counted, and the next one says how many.
    pub(crate) fn line(&self, level: Level, text: fmt::Arguments<'_>) {
        if let Some(log) = self.0.as_deref().filter(|log| log.wants(level)) {
            log.send(level, one_line(&text.to_string(), MAX_OWN_LINE));
        }
    }

    /// Adds a line that anybody outside can cause as often as they like. Only [`BURST`] lines of each kind are logged
    /// within a [`WINDOW`]. The next line that is logged says how many lines were left out.
    pub(crate) fn limited(&self, level: Level, kind: &'static str, text: fmt::Arguments<'_>) {
        self.limited_about(level, kind, text, &"");
    }

    /// The same for a line that ends with a part which `text` can't push off it, however long that is. `about` escapes
    /// and bounds what strangers have chosen of it; it is not asked for a line that is left out.
    pub(crate) fn limited_about(
        &self,
        level: Level,
        kind: &'static str,
        text: fmt::Arguments<'_>,
        about: &dyn fmt::Display,
    ) {
        if let Some(log) = self.0.as_deref().filter(|log| log.wants(level)) {
            match log.admit(kind, Instant::now()) {
                Some(left_out) => {
                    let mut line = one_line(&text.to_string(), MAX_LINE);
                    line += &about.to_string();
                    if left_out > 0 {
                        line += &format!(" ({left_out} earlier lines of this kind were left out)");
                    }
                    log.send(level, line);
                }
                None => drop(log.suppressed.fetch_add(1, Ordering::Relaxed)),
            }
        }
    }

    /// A line for the end of the log, if lines are missing after the last one: no other line tells of them any more.
    /// `more`: those of them that the caller has dropped.
    pub(crate) fn last_line(&self, more: u64) -> Option<Line> {
        let log = self.0.as_deref()?;
        let lost = more + log.lost.swap(0, Ordering::Relaxed);
        let level = if log.wants(Level::Warn) { Level::Warn } else { Level::Error };
        let text = "the log ends here".to_owned();
        (lost > 0).then(|| Line { level, time: SystemTime::now(), text, lost })
    }

    /// Ends the queue from which the host takes the lines, if it does. The lines that are left can still be taken.
    pub(crate) fn end(&self) {
        if let Some(lines) = self.pulled() {
            lines.end(|| self.last_line(0));
        }
    }

    /// Counts a line that could not be told to the host. The caller tells the host that it is missing.
    pub(crate) fn count_dropped(&self) {
        if let Some(log) = &self.0 {
            log.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines dropped so far because the host was slow.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |log| log.dropped.load(Ordering::Relaxed))
    }

    /// Lines left out so far because there were many of their kind.
    pub(crate) fn suppressed(&self) -> u64 {
        self.0.as_ref().map_or(0, |log| log.suppressed.load(Ordering::Relaxed))
    }
}

impl Inner {
    fn wants(&self, level: Level) -> bool {
        level as i32 <= self.level.load(Ordering::Relaxed)
    }

    fn send(&self, level: Level, text: String) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let line = Line { level, time: SystemTime::now(), text, lost };
        let refused = match &self.sink {
            Sink::Pulled(lines) => lines.push(line).err(),
            Sink::Thread(lines) => match lines.try_send(line) {
                Err(TrySendError::Full(line)) => Some(line),
                // After the end nobody is to get it.
                Ok(()) | Err(TrySendError::Disconnected(_)) => None,
            },
        };
        if let Some(line) = refused {
            self.drop_line(&line);
        }
    }

    fn drop_line(&self, line: &Line) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.lost.fetch_add(1 + line.lost, Ordering::Relaxed);
    }

    /// Decides whether another line of this kind is logged. If so, returns how many lines were left out before it.
    fn admit(&self, kind: &'static str, now: Instant) -> Option<u32> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let known = windows.entry(kind).or_insert(Window { since: now, count: 0 });
        let left_out = known.count.saturating_sub(BURST);
        if now.saturating_duration_since(known.since) >= WINDOW {
            *known = Window { since: now, count: 1 };
            return Some(left_out);
        }
        known.count = known.count.saturating_add(1);
        (known.count <= BURST).then_some(0)
    }
}

/// A text as one line of bounded length. The text may quote a stranger, who must not be able to begin another line or
/// to make the line endless.
fn one_line(text: &str, max: usize) -> String {
    let mut line = String::with_capacity(text.len().min(max));
    for char in text.chars() {
        if line.len() >= max {
            line.push('…');
            break;
        }
        if char.is_control() {
            line.extend(char.escape_default());
        } else {
            line.push(char);
        }
    }
    line
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("enabled", &self.0.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::panic_tests::common::in_time;

    fn log(level: Level) -> (Log, crossbeam::channel::Receiver<Line>) {
        let (lines, received) = crossbeam::channel::bounded(1000);
        (Log::new(Some(Sink::Thread(lines)), level), received)
    }

    #[test]
    fn lines_of_one_kind_are_limited_and_the_rest_is_counted() {
        // Lines that come later are counted anew.
        in_time(WINDOW, || {
            let (log, received) = log(Level::Info);
            for n in 0..25 {
                log.limited(Level::Info, "a", format_args!("a {n}"));
                log.limited(Level::Debug, "b", format_args!("b {n}"));
            }
            log.limited(Level::Warn, "c", format_args!("c"));
            let texts: Vec<String> = received.try_iter().map(|line| line.text).collect();
            let expected: Vec<String> = (0..10).map(|n| format!("a {n}")).chain(["c".to_owned()]).collect();
            if texts != expected || log.suppressed() != 15 {
                return Err(format!("{texts:?}, and {} are left out", log.suppressed()));
            }
            let later = Instant::now() + WINDOW;
            assert_eq!(log.0.as_ref().unwrap().admit("a", later), Some(15), "the number of left out lines is told");
            assert_eq!(log.0.as_ref().unwrap().admit("a", later), Some(0));
            Ok(())
        });
    }

    #[test]
    fn quoted_text_can_not_begin_another_line() {
        let (log, received) = log(Level::Info);
        log.limited(Level::Info, "a", format_args!("unknown: a\nError b\u{1b}[2J{}", "ü".repeat(10_000)));
        let text = received.try_recv().unwrap().text;
        assert!(text.starts_with("unknown: a\\nError b\\u{1b}[2Jüüü") && text.ends_with("ü…"), "{text}");
        assert!(text.len() < MAX_LINE + 10, "{}", text.len());
        // The same for a line that is not limited, which may quote a hub.
        log.line(Level::Info, format_args!("the hub refuses: a\nError b{}", "ü".repeat(10_000)));
        let text = received.try_recv().unwrap().text;
        assert!(text.starts_with("the hub refuses: a\\nError bü") && text.ends_with("ü…"), "{text}");
        assert!(text.len() < MAX_OWN_LINE + 10, "{}", text.len());
    }

    #[test]
    fn lines_beyond_the_level_are_not_logged() {
        let (log, received) = log(Level::Warn);
        for level in [Level::Error, Level::Warn, Level::Info, Level::Debug] {
            log.line(level, format_args!("x"));
        }
        assert_eq!(received.try_iter().count(), 2);
        log.set_level(Level::Debug);
        log.line(Level::Debug, format_args!("x"));
        assert_eq!(received.try_iter().count(), 1);
        Log::new(None, Level::Debug).line(Level::Error, format_args!("nobody listens"));
    }
}
