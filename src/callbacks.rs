//! The callback thread. The host's functions run on this thread only, and never on a shard.

use crate::config::Builder;
use crate::events::Events;
use crate::log::Line;
use crossbeam::channel::{bounded, select, Receiver, Sender};
use std::cell::Cell;
use std::sync::PoisonError;
use std::thread::JoinHandle;
use std::time::Duration;

/// The most log lines that may wait.
const LINES: usize = 4096;

/// The channels that wake the thread.
#[derive(Debug)]
pub(crate) struct Inputs {
    lines: Receiver<Line>,
    notify: Receiver<()>,
    stop: Receiver<()>,
}

/// The other ends of the channels.
#[derive(Debug)]
pub(crate) struct Outputs {
    pub(crate) lines: Option<Sender<Line>>,
    pub(crate) notify: Option<Sender<()>>,
    pub(crate) stop: Sender<()>,
}

/// A running callback thread.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) stop: Sender<()>,
    pub(crate) thread: JoinHandle<()>,
}

impl Running {
    /// Ends the thread. It passes the waiting events and lines to the host first.
    pub(crate) fn end(self) {
        let _ = self.stop.send(());
        let _ = self.thread.join();
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
    let inputs = Inputs { lines: lines_out, notify: notify_out, stop: stop_out };
    let lines = builder.on_log.is_some().then_some(lines);
    let notify = builder.on_event.is_some().then_some(notify);
    Some((inputs, Outputs { lines, notify, stop }))
}

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is the callback thread of any server. Two servers that stop each other from their callbacks
/// would wait for ever, so a callback thread may not stop another server either.
pub(crate) fn is_callback_thread() -> bool {
    INSIDE.get()
}

/// Calls the host's functions until it is told to stop. Then it still passes on the waiting events and lines.
pub(crate) fn run(inputs: &Inputs, builder: &Builder, events: &Events) {
    INSIDE.set(true);
    let turn = || builder.turn.lock().unwrap_or_else(PoisonError::into_inner);
    let tell_events = || {
        if let Some(on_event) = &builder.on_event {
            while let Ok(event) = events.next(Some(Duration::ZERO)) {
                let _turn = turn();
                on_event(event);
            }
        }
    };
    let tell_line = |line: Line| {
        if let Some(on_log) = &builder.on_log {
            let _turn = turn();
            on_log(line.level, &line.text);
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
