//! Threads: how they are made, what they are called, which signals they see.

use crate::error::Error;
use crate::sys::{cancel, signals};
use std::thread::{Builder, JoinHandle};
use tokio::runtime::Runtime;

/// What a thread does.
pub(crate) type Work = Box<dyn FnOnce() + Send>;

/// A tokio runtime for one thread, made where its errors can be told.
pub(crate) fn single() -> Result<Runtime, Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::system("a runtime can't be made", &error))
}

/// How much stack a thread may use. Given, or std would look for it in the environment, which is the host's.
const STACK: usize = 2 << 20;

fn named(name: String) -> Builder {
    Builder::new().name(name).stack_size(STACK)
}

/// Starts threads by name. They block all signals, since the host's handlers should not run on threads that it does not
/// know; they inherit that from one thread that is made for it, so that the caller's own mask never changes.
///
/// The threads that were started are given back in any case: with an error they must be told to end.
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
