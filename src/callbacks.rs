//! The callback thread. The host's functions run on this thread only, and never on a shard.

use crate::config::Builder;
use crate::events::Events;
use crate::log::Line;
use crate::runtime::Work;
use crossbeam::channel::{bounded, select, Receiver, Sender};
use std::cell::Cell;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the end of a server waits for the host's functions at least. Time to be told the last events and lines.
const GRACE: Duration = Duration::from_secs(1);

/// The largest number of log lines that wait for the thread.
const LINES: usize = 4096;

/// The channels that wake the thread.
#[derive(Debug)]
pub(crate) struct Inputs {
    lines: Receiver<Line>,
    notify: Receiver<()>,
    stop: Receiver<()>,
    latch: Arc<Latch>,
}

/// The sending ends of these channels.
#[derive(Debug)]
pub(crate) struct Outputs {
    pub(crate) lines: Option<Sender<Line>>,
    pub(crate) notify: Option<Sender<()>>,
    pub(crate) ending: Ending,
}

/// The means to end the thread.
#[derive(Debug)]
pub(crate) struct Ending {
    stop: Sender<()>,
    latch: Arc<Latch>,
}

/// A running callback thread.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) ending: Ending,
    pub(crate) thread: JoinHandle<()>,
}

impl Running {
    /// Ends the thread. It passes the waiting events and lines to the host first. A function of the host that does not
    /// return has until `until`, and [`GRACE`] at least; without a time it is waited for. After that no function is
    /// called any more, and the thread is left over.
    pub(crate) fn end(self, until: Option<Instant>) -> Option<Leftover> {
        let Running { ending: Ending { stop, latch }, thread } = self;
        let _ = stop.send(());
        let left = Leftover { latch, thread, before: None, why: "a callback has not returned" };
        if left.latch.wait(patience(until)) || left.latch.abandon() {
            left.join();
            return None;
        }
        Some(left)
    }
}

/// A thread that still runs after its server has stopped. One of the host's functions has not returned, or the disk of
/// the log does not answer. A callback thread keeps the host's data until the function returns, then frees it
/// and ends.
#[derive(Debug)]
pub struct Leftover {
    latch: Arc<Latch>,
    thread: JoinHandle<()>,
    /// Another thread that is left over from the same server.
    before: Option<Box<Leftover>>,
    why: &'static str,
}

impl Leftover {
    /// Ends the thread of a log. It gets the time that is left, and at least [`GRACE`]. After that it is left over.
    pub(crate) fn of_log(latch: Arc<Latch>, thread: JoinHandle<()>, time: Duration) -> Option<Self> {
        let ended = latch.wait(time);
        let left = Leftover { latch, thread, before: None, why: "the disk of the log (option engine) does not answer" };
        if ended {
            left.join();
            return None;
        }
        Some(left)
    }

    /// Combines two threads that are left over from the same server.
    pub(crate) fn and(self, before: Option<Leftover>) -> Self {
        Leftover { before: before.map(Box::new), ..self }
    }

    /// The reason why the thread is left over.
    pub(crate) fn why(&self) -> &'static str {
        self.why
    }

    pub(crate) fn latches(&self) -> Vec<Arc<Latch>> {
        let before = self.before.as_ref().map_or_else(Vec::new, |before| before.latches());
        before.into_iter().chain([self.latch.clone()]).collect()
    }

    /// Waits for the end of the thread. It ends at once after the latch is set.
    pub(crate) fn join(self) {
        let _ = self.thread.join();
        if let Some(before) = self.before {
            before.join();
        }
    }
}

/// How long the end of a server waits for one of its threads: the time that is left, and [`GRACE`] at least.
pub(crate) fn patience(until: Option<Instant>) -> Duration {
    until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()).max(GRACE))
}

/// Work that sets a latch when it has ended.
pub(crate) fn latched(work: Work) -> (Arc<Latch>, Work) {
    let latch = Arc::new(Latch::default());
    let sets = SetsLatch(latch.clone());
    let run = move || {
        let _sets = sets;
        work();
    };
    (latch, Box::new(run))
}

/// Whether a callback thread still has something of the host.
#[derive(Debug, Default)]
pub(crate) struct Latch {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// No function of the host may be called any more.
    abandoned: bool,
    /// The thread has no function and no data of the host any more.
    ended: bool,
}

impl Latch {
    /// Whether the thread has let go of the host, after `time` at the latest.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        let state = self.state();
        let waited = self.changed.wait_timeout_while(state, time, |state| !state.ended);
        waited.unwrap_or_else(PoisonError::into_inner).0.ended
    }

    /// Lets no call begin any more. True: the thread has let go of the host just now.
    fn abandon(&self) -> bool {
        let mut state = self.state();
        state.abandoned = true;
        state.ended
    }

    fn is_abandoned(&self) -> bool {
        self.state().abandoned
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sets the latch when it is dropped, also after a panic.
struct SetsLatch(Arc<Latch>);

impl Drop for SetsLatch {
    fn drop(&mut self) {
        self.0.state().ended = true;
        self.0.changed.notify_all();
    }
}

/// The channels of a callback thread, or `None` if the host gave no functions.
pub(crate) fn channels(builder: &Builder) -> Option<(Inputs, Outputs)> {
    if builder.on_log.is_none() && builder.on_event.is_none() {
        return None;
    }
    let (lines, lines_out) = bounded(LINES);
    let (notify, notify_out) = bounded(1);
    let (stop, stop_out) = bounded(1);
    let latch = Arc::new(Latch::default());
    let inputs = Inputs { lines: lines_out, notify: notify_out, stop: stop_out, latch: latch.clone() };
    let lines = builder.on_log.is_some().then_some(lines);
    let notify = builder.on_event.is_some().then_some(notify);
    Some((inputs, Outputs { lines, notify, ending: Ending { stop, latch } }))
}

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is the callback thread of any server. Two servers that stop each other from their callbacks
/// would wait for ever, so a callback thread may not stop another server either.
pub(crate) fn is_callback_thread() -> bool {
    INSIDE.get()
}

/// Calls the host's functions until it is told to stop. Then it still passes on the waiting events and lines, unless
/// the end of the server does not wait for that any longer.
pub(crate) fn run(inputs: &Inputs, builder: Builder, events: &Events) {
    INSIDE.set(true);
    let _ends = SetsLatch(inputs.latch.clone());
    // It is declared after the guard, so it is dropped before the guard. It may hold the last reference to the host's
    // data, and dropping that calls a function of the host.
    let builder = builder;
    let call = |function: &mut dyn FnMut()| {
        let _turn = builder.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // Checked after the turn is taken, since another server may have had the turn for long.
        if !inputs.latch.is_abandoned() {
            function();
        }
    };
    let tell_events = || {
        if let Some(on_event) = &builder.on_event {
            while let Ok(event) = events.next(Some(Duration::ZERO)) {
                let mut event = Some(event);
                call(&mut || event.take().into_iter().for_each(|event| on_event(event)));
            }
        }
    };
    let tell_line = |line: Line| {
        if let Some(on_log) = &builder.on_log {
            call(&mut || on_log(line.level, &line.text));
        }
    };
    // A channel without a sender would always be ready, so a channel that is never ready takes its place.
    let never = (crossbeam::channel::never(), crossbeam::channel::never());
    let lines = if builder.on_log.is_some() { &inputs.lines } else { &never.0 };
    let notify = if builder.on_event.is_some() { &inputs.notify } else { &never.1 };
    loop {
        select! {
            recv(lines) -> line => if let Ok(line) = line { tell_line(line) },
            recv(notify) -> _ => tell_events(),
            recv(inputs.stop) -> _ => break,
        }
    }
    tell_events();
    inputs.lines.try_iter().for_each(tell_line);
}
