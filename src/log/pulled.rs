//! Lines that the host takes by itself. No thread of the library calls into the host for them.

use super::{Line, LINES};
use crate::error::{Error, Kind};
use crate::sys::eventfd::EventFd;
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The queue of one server's lines. It outlives the server, so that the lines of the end can be read after it.
#[derive(Debug)]
pub struct Pulled {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    lines: VecDeque<Line>,
    /// Readable while lines wait, and after the end. `None` when a call was told of the end, and after the end while
    /// nobody has asked for it: a host that takes its lines without it, and not to the end, leaves no descriptor behind.
    ready: Option<EventFd>,
    /// The host has it, and may watch it.
    is_watched: bool,
    /// A call was told of the end.
    is_told: bool,
    /// The calls that began before the end and have not returned.
    inside: usize,
    /// No line is added any more.
    ended: bool,
}

impl Pulled {
    pub(crate) fn new() -> std::io::Result<Self> {
        let state = State {
            lines: VecDeque::new(),
            ready: Some(EventFd::new()?),
            is_watched: false,
            is_told: false,
            inside: 0,
            ended: false,
        };
        Ok(Pulled { state: Mutex::new(state), changed: Condvar::new() })
    }

    /// Adds a line. If there is no room for it, or after the end, it is returned.
    pub(super) fn push(&self, line: Line) -> Result<(), Line> {
        let mut state = self.state();
        if state.ended || state.lines.len() >= LINES {
            return Err(line);
        }
        if let (true, Some(ready)) = (state.lines.is_empty(), &state.ready) {
            ready.signal();
        }
        state.lines.push_back(line);
        self.changed.notify_one();
        Ok(())
    }

    /// Takes the next line. It waits for ever if the timeout is `None`, or too long for the clock. [`Kind::Closed`]: the
    /// server has stopped, and all lines were taken.
    pub fn next(&self, timeout: Option<Duration>) -> Result<Line, Error> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.state();
        let counts = !state.ended;
        state.inside += usize::from(counts);
        let taken = loop {
            if let Some(line) = state.lines.pop_front() {
                if let (true, false, Some(ready)) = (state.lines.is_empty(), state.ended, &state.ready) {
                    ready.clear();
                }
                break Ok(line);
            }
            if state.ended {
                (state.ready, state.is_told) = (None, true);
                break Err(Error::new(Kind::Closed, "the server was stopped, and there are no more lines"));
            }
            state = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => break Err(Error::new(Kind::Timeout, "no line within the time given")),
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        };
        state.inside -= usize::from(counts);
        if state.ended && state.inside == 0 {
            self.changed.notify_all();
        }
        taken
    }

    /// A descriptor that is readable while lines wait, and after the server has stopped. `None`: [`Self::next`] has
    /// returned [`Kind::Closed`], and the descriptor is closed; or the system has none left after the end.
    pub fn fd(&self) -> Option<RawFd> {
        let mut state = self.state();
        if state.ready.is_none() && !state.is_told {
            let ready = EventFd::new().ok()?;
            ready.signal();
            state.ready = Some(ready);
        }
        state.is_watched = true;
        state.ready.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Ends the queue: no line is added any more, and the calls that wait return. The lines that are left can still be
    /// taken. `last` is the line that says what is missing after them, and there is room for it.
    pub(super) fn end(&self, last: impl FnOnce() -> Option<Line>) {
        let mut state = self.state();
        state.ended = true;
        state.lines.extend(last());
        // A thread that polls the descriptor wakes, takes the lines that are left, and then sees the end. So the
        // descriptor stays until then.
        if let Some(ready) = &state.ready {
            ready.signal();
        }
        if !state.is_watched {
            state.ready = None;
        }
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| state.inside > 0).unwrap_or_else(PoisonError::into_inner));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of it is one step that can't panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Level, Log, Sink};
    use crate::sys::passing::{wait, Ready};
    use std::sync::Arc;

    fn log() -> (Log, Arc<Pulled>) {
        let pulled = Arc::new(Pulled::new().unwrap());
        (Log::new(Some(Sink::Pulled(pulled.clone())), Level::Info), pulled)
    }

    fn is_ready(pulled: &Pulled) -> bool {
        let mut wanted = [(pulled.fd().unwrap(), Ready { readable: true, writable: false })];
        wait(&mut wanted, Some(0)).unwrap();
        wanted[0].1.readable
    }

    const NOW: Option<Duration> = Some(Duration::ZERO);

    #[test]
    #[cfg_attr(miri, ignore = "poll")]
    fn the_descriptor_is_readable_while_lines_wait() {
        let (log, pulled) = log();
        assert!(!is_ready(&pulled));
        log.line(Level::Info, format_args!("one"));
        log.line(Level::Debug, format_args!("not wanted"));
        log.line(Level::Error, format_args!("two"));
        assert!(is_ready(&pulled));
        let line = pulled.next(None).unwrap();
        assert_eq!((line.level(), &*line.text()), (Level::Info, "one"));
        assert!(is_ready(&pulled));
        assert_eq!(pulled.next(Some(Duration::MAX)).unwrap().text(), "two");
        assert!(!is_ready(&pulled));
        assert_eq!(pulled.next(NOW).unwrap_err().kind(), Kind::Timeout);
        assert_eq!(pulled.next(Some(Duration::from_millis(2))).unwrap_err().kind(), Kind::Timeout);
    }

    #[test]
    fn lines_beyond_the_bound_are_dropped_and_the_next_one_says_how_many() {
        let (log, pulled) = log();
        for n in 0..LINES + 3 {
            log.line(Level::Info, format_args!("{n}"));
        }
        assert_eq!(log.dropped(), 3);
        assert_eq!(pulled.next(NOW).unwrap().text(), "0");
        log.line(Level::Info, format_args!("a"));
        log.line(Level::Info, format_args!("dropped"));
        for n in 1..LINES {
            assert_eq!(pulled.next(NOW).unwrap().text(), n.to_string());
        }
        log.line(Level::Info, format_args!("b"));
        log.line(Level::Info, format_args!("c"));
        assert_eq!(pulled.next(NOW).unwrap().text(), "a (lines dropped before this one: 3)");
        assert_eq!(pulled.next(NOW).unwrap().text(), "b (lines dropped before this one: 1)");
        assert_eq!(pulled.next(NOW).unwrap().text(), "c");
        assert_eq!(log.dropped(), 4);
    }

    /// A log that has ended, with one line.
    fn stopped() -> (Log, Arc<Pulled>) {
        let (log, pulled) = log();
        log.line(Level::Info, format_args!("stopped"));
        log.end();
        (log, pulled)
    }

    #[test]
    fn the_last_lines_can_be_taken_after_the_end() {
        let (log, pulled) = stopped();
        log.line(Level::Info, format_args!("too late"));
        assert_eq!(log.dropped(), 1);
        assert_eq!(pulled.next(NOW).unwrap().text(), "stopped");
        assert_eq!(pulled.next(NOW).unwrap_err().kind(), Kind::Closed);
    }

    #[test]
    #[cfg_attr(miri, ignore = "poll")]
    fn the_descriptor_stays_readable_from_the_end_until_a_call_says_so() {
        let (_log, pulled) = stopped();
        assert!(is_ready(&pulled));
        assert_eq!(pulled.next(NOW).unwrap().text(), "stopped");
        assert!(is_ready(&pulled));
        assert_eq!(pulled.next(NOW).unwrap_err().kind(), Kind::Closed);
        assert_eq!(pulled.fd(), None);
        assert_eq!(pulled.next(NOW).unwrap_err().kind(), Kind::Closed);
        // Also if no line waits.
        let pulled = Pulled::new().unwrap();
        pulled.end(|| None);
        assert!(is_ready(&pulled));
    }

    #[test]
    #[cfg_attr(miri, ignore = "poll")]
    fn a_descriptor_that_nobody_has_asked_for_is_not_kept_after_the_end() {
        let (_log, pulled) = stopped();
        assert!(pulled.state().ready.is_none());
        // Who asks late gets one, which is readable as the other would be.
        assert!(is_ready(&pulled));
        assert_eq!(pulled.next(NOW).unwrap().text(), "stopped");
        assert!(is_ready(&pulled));
        assert_eq!(pulled.next(NOW).unwrap_err().kind(), Kind::Closed);
        assert_eq!(pulled.fd(), None);
        // One that is watched stays the same.
        let pulled = Pulled::new().unwrap();
        let watched = pulled.fd();
        pulled.end(|| None);
        assert_eq!(pulled.fd(), watched);
    }

    #[test]
    fn the_end_says_what_is_missing() {
        for (level, said) in [(Level::Info, Level::Warn), (Level::Error, Level::Error)] {
            let (log, pulled) = log();
            for n in 0..LINES + 3 {
                log.line(Level::Info, format_args!("{n}"));
            }
            log.set_level(level);
            log.end();
            for n in 0..LINES {
                assert_eq!(pulled.next(NOW).unwrap().text(), n.to_string());
            }
            let line = pulled.next(NOW).unwrap();
            assert_eq!((line.level(), &*line.text()), (said, "the log ends here (lines dropped before this one: 3)"));
            assert_eq!(pulled.next(NOW).unwrap_err().kind(), Kind::Closed);
        }
    }

    #[test]
    fn the_end_wakes_all_who_wait() {
        let (log, pulled) = log();
        let (tell, told) = crossbeam::channel::bounded(2);
        for _ in 0..2 {
            let (pulled, tell) = (pulled.clone(), tell.clone());
            std::thread::spawn(move || {
                while pulled.next(None).is_ok() {}
                tell.send(pulled.next(None).unwrap_err().kind())
            });
        }
        log.line(Level::Info, format_args!("a line"));
        let patience = Duration::from_secs(60);
        let until = Instant::now() + patience;
        while pulled.state().inside < 2 || !pulled.state().lines.is_empty() {
            assert!(Instant::now() < until, "the threads do not wait");
            std::thread::yield_now();
        }
        // It waits for the two. If that fails, this thread is not the one that hangs.
        let ends = pulled.clone();
        std::thread::spawn(move || ends.end(|| None));
        for _ in 0..2 {
            assert_eq!(told.recv_timeout(patience), Ok(Kind::Closed));
        }
        assert_eq!(pulled.state().inside, 0);
    }
}
