//! Threads: their start, their names, and their signal masks.

use crate::error::Error;
use crate::sys::{cancel, signals};
use std::thread::{Builder, JoinHandle};
use tokio::runtime::Runtime;

/// The work of a thread.
pub(crate) type Work = Box<dyn FnOnce() + Send>;

/// A tokio runtime for one thread. The caller makes it before it starts the thread, where it can still report an error.
pub(crate) fn single() -> Result<Runtime, Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::system("a runtime can't be made", &error))
}

/// The size of a thread's stack. Without it, std would look for a size in the environment, which belongs to the host.
const STACK: usize = 2 << 20;

fn named(name: String) -> Builder {
    Builder::new().name(name).stack_size(STACK)
}

/// Starts threads by name.
///
/// The threads block all signals, since the host's handlers should not run on threads that the host does not know. They
/// inherit that mask from a thread that is made only to start them, so that the caller's own mask never changes.
///
/// The result has the threads that were started, even if there was an error. The caller must then tell them to end.
pub(crate) fn spawn(work: Vec<(String, Work)>) -> (Vec<JoinHandle<()>>, Result<(), Error>) {
    let start_all = move || {
        signals::block_all();
        let mut threads = Vec::with_capacity(work.len());
        for (name, work) in work {
            let run = || {
                cancel::never();
                work();
            };
            match named(name).spawn(run) {
                Ok(thread) => threads.push(thread),
                Err(error) => return (threads, Err(error)),
            }
        }
        (threads, Ok(()))
    };
    let failed = |error: &std::io::Error| Err(Error::system("a thread can't be started", error));
    match named("push-start".into()).spawn(start_all) {
        Err(error) => (Vec::new(), failed(&error)),
        Ok(starter) => match starter.join() {
            Ok((threads, Ok(()))) => (threads, Ok(())),
            Ok((threads, Err(error))) => (threads, failed(&error)),
            Err(_) => (Vec::new(), failed(&std::io::Error::other("the starting thread panicked"))),
        },
    }
}
