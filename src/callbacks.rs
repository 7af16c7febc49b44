//! What tells the host of events and log lines: the thread that calls its functions, on which they run, and never on a
//! shard; and the thread that writes log lines to its descriptor.

mod descriptor;
mod leftover;

use crate::config::{Builder, Config};
use crate::error::{Error, Kind};
use crate::events::Events;
use crate::log::{Line, Log, LogTo, Pulled, Sink, LINES};
use crate::runtime::Work;
use crate::sys::output::{Output, Unfit};
use crossbeam::channel::{bounded, never, select, Receiver, Sender};
use descriptor::Writer;
pub use leftover::Leftover;
use leftover::SetsLatch;
pub(crate) use leftover::{latched, patience, Latch};
use std::cell::Cell;
use std::os::fd::RawFd;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a server needs to tell its host: see [`prepare`].
pub(crate) struct Prepared {
    pub(crate) log: Log,
    /// Wakes the thread that calls the host's function for events, if there is one.
    pub(crate) notify: Option<Sender<()>>,
    pub(crate) tellers: Tellers,
}

/// The threads that tell the host, before they run.
#[derive(Debug)]
pub(crate) struct Tellers {
    calling: Option<(Inputs, Ending<()>)>,
    writing: Option<(Writer, Sender<By>)>,
}

/// The time by which a thread has to end, if there is one.
type By = Option<Instant>;

/// The channels that wake the thread that calls functions.
#[derive(Debug)]
struct Inputs {
    lines: Receiver<Line>,
    /// The log, if its lines go to a function.
    log: Option<Log>,
    notify: Receiver<()>,
    stop: Receiver<()>,
    latch: Arc<Latch>,
}

/// The means to end a thread.
#[derive(Debug)]
struct Ending<S> {
    stop: Sender<S>,
    latch: Arc<Latch>,
}

/// The means to end the threads.
#[derive(Debug)]
pub(crate) struct Endings {
    calling: Option<Ending<()>>,
    writing: Option<Ending<By>>,
}

/// The running threads.
#[derive(Debug)]
pub(crate) struct Running {
    calling: Option<(Ending<()>, JoinHandle<()>)>,
    writing: Option<(Ending<By>, JoinHandle<()>)>,
}

/// Makes the log that the options ask for, and what the threads need that tell the host. `output` is that of [`output`].
pub(crate) fn prepare(builder: &Builder, output: Option<Output>) -> Result<Prepared, Error> {
    let config = builder.config();
    let (lines, lines_out) = bounded(LINES);
    let (on_log, on_event) = (builder.on_log.is_some(), builder.on_event.is_some());
    let sink = match config.log {
        _ if output.is_some() || on_log => Some(Sink::Thread(lines)),
        LogTo::Callback => None,
        LogTo::Pull => {
            let failed = |error| Error::system("a descriptor for log lines can't be made", &error);
            Some(Sink::Pulled(Arc::new(Pulled::new().map_err(failed)?)))
        }
    };
    let log = Log::new(sink, config.log_level);
    log.set_names_addresses(config.log_addresses);
    let writing = output.map(|output| {
        let (stop, stop_out) = bounded(1);
        (Writer::new(lines_out.clone(), stop_out, output, log.clone()), stop)
    });
    let (notify, notify_out) = bounded(1);
    let calling = (on_log || on_event).then(|| {
        let (stop, stop_out) = bounded(1);
        let latch = Arc::new(Latch::default());
        // A channel without a sender would always be ready, so one that is never ready takes its place.
        let lines = if on_log { lines_out } else { never() };
        let notify = if on_event { notify_out } else { never() };
        let log = on_log.then(|| log.clone());
        (Inputs { lines, log, notify, stop: stop_out, latch: latch.clone() }, Ending { stop, latch })
    });
    let notify = on_event.then_some(notify);
    Ok(Prepared { log, notify, tellers: Tellers { calling, writing } })
}

/// A descriptor of our own for the lines, if the options name one of the host's.
pub(crate) fn output(config: &Config) -> Result<Option<Output>, Error> {
    config.log_fd.map(|fd| Output::duplicate(fd).map_err(|why| unfit(fd, why))).transpose()
}

/// Checks the descriptor that the options name.
pub(crate) fn check_output(config: &Config) -> Result<(), Error> {
    config.log_fd.map_or(Ok(()), |fd| Output::check(fd).map_err(|why| unfit(fd, why)))
}

fn unfit(fd: RawFd, why: Unfit) -> Error {
    match why {
        Unfit::Kind(why) => {
            let allowed = "allowed is an open file, pipe, terminal or connected socket that can be written to";
            Error::new(Kind::Config, format!("option log_fd: {fd}: {why}; {allowed}"))
        }
        Unfit::Failed(error) => Error::system(format_args!("option log_fd: {fd}: no duplicate can be made"), &error),
    }
}

impl Tellers {
    /// The threads to start, by name, and the means to end them.
    pub(crate) fn work<E>(self, builder: &Builder, events: &Arc<E>) -> (Vec<(String, Work)>, Endings)
    where
        E: AsRef<Events> + Send + Sync + 'static,
    {
        let mut work: Vec<(String, Work)> = Vec::new();
        let calling = self.calling.map(|(inputs, ending)| {
            let (builder, events) = (builder.clone(), events.clone());
            let run = move || run(&inputs, builder, (*events).as_ref());
            work.push(("push-callback".to_owned(), Box::new(run)));
            ending
        });
        let writing = self.writing.map(|(writer, stop)| {
            let (latch, run) = latched(Box::new(move || writer.run()));
            work.push(("push-log-fd".to_owned(), run));
            Ending { stop, latch }
        });
        (work, Endings { calling, writing })
    }
}

impl Endings {
    /// Takes the threads of [`Tellers::work`], which were started in its order. One that is missing was not started.
    pub(crate) fn running(self, threads: &mut impl Iterator<Item = JoinHandle<()>>) -> Running {
        let calling = self.calling.and_then(|ending| Some((ending, threads.next()?)));
        let writing = self.writing.and_then(|ending| Some((ending, threads.next()?)));
        Running { calling, writing }
    }
}

impl Running {
    /// Ends the threads. They pass the waiting events and lines to the host first. A function of the host that does not
    /// return, and a descriptor that takes no line, have until `until`, and a second at least; without a time they are
    /// waited for. After that no function is called any more, and the thread is left over, as `before` is.
    pub(crate) fn end(self, until: Option<Instant>, before: Option<Leftover>) -> Option<Leftover> {
        let calling = self.calling.and_then(|(Ending { stop, latch }, thread)| {
            let _ = stop.send(());
            let ended = latch.wait(patience(until)) || latch.abandon();
            Leftover::unless(ended, latch, thread, "a callback has not returned")
        });
        // The functions may have caused lines.
        let writing = self.writing.and_then(|(Ending { stop, latch }, thread)| {
            let time = patience(until);
            let _ = stop.send(Instant::now().checked_add(time));
            let ended = latch.wait(time.saturating_add(descriptor::SLACK));
            Leftover::unless(ended, latch, thread, "the descriptor of the option log_fd takes no line")
        });
        [before, writing, calling].into_iter().flatten().reduce(|before, left| left.and(Some(before)))
    }
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
fn run(inputs: &Inputs, builder: Builder, events: &Events) {
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
            call(&mut || on_log(line.level(), &line.text()));
        }
    };
    loop {
        select! {
            recv(inputs.lines) -> line => if let Ok(line) = line { tell_line(line) },
            recv(inputs.notify) -> _ => tell_events(),
            recv(inputs.stop) -> _ => break,
        }
    }
    tell_events();
    inputs.lines.try_iter().for_each(tell_line);
    inputs.log.as_ref().and_then(|log| log.last_line(0)).into_iter().for_each(tell_line);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Level;
    use std::sync::Mutex;

    #[test]
    fn the_last_line_of_a_function_says_what_is_missing() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let (mut builder, tell) = (Builder::default(), told.clone());
        builder.on_log = Some(Arc::new(move |_, text| tell.lock().unwrap().push(text.to_owned())));
        let Prepared { log, tellers, .. } = prepare(&builder, None).unwrap();
        for n in 0..LINES + 2 {
            log.line(Level::Info, format_args!("{n}"));
        }
        let (inputs, ending) = tellers.calling.unwrap();
        ending.stop.send(()).unwrap();
        let events = Events::new(1, builder.config().events, None, Box::new(|| {})).unwrap();
        run(&inputs, builder, &events);
        let told = told.lock().unwrap();
        assert_eq!(told.len(), LINES + 1);
        assert_eq!(told[LINES], "the log ends here (lines dropped before this one: 2)");
    }
}
