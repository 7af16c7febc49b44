//! The thread that does the handshakes of TLS clients.
//!
//! A handshake costs a hundred times as much as a message, and thousands of clients may come at once after a restart. So
//! the shards do none. This thread accepts the clients, and hands each connection to a shard when it is established.
//! What comes before that is bounded: in time by `head_timeout`, in bytes, and in number, also of one address.

mod accepting;
mod crowd;
mod ending;
#[cfg(test)]
mod tests;
mod thread;

use crate::config::Config;
use crate::context::Context;
use crate::runtime::Work;
use crate::shard::turn::command::ShardHandle;
use crate::sys::eventfd::EventFd;
use crate::sys::socket;
use crate::tls::Tls;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use thread::Thread;

/// A running thread. This handle stops it.
#[derive(Debug)]
pub(crate) struct Handshakes {
    wake: Arc<EventFd>,
    ends: Arc<AtomicBool>,
    listeners: Vec<Arc<OwnedFd>>,
}

impl Handshakes {
    /// The thread's work, and the handle that stops it.
    pub(crate) fn new(
        context: Arc<Context>,
        tls: Arc<Tls>,
        shards: Vec<Arc<ShardHandle>>,
        listeners: Vec<Arc<OwnedFd>>,
    ) -> io::Result<(Self, Work)> {
        let (wake, ends) = (Arc::new(EventFd::new()?), Arc::new(AtomicBool::new(false)));
        let handle = Handshakes { wake: wake.clone(), ends: ends.clone(), listeners: listeners.clone() };
        handle.reconfigure(&context.config.get());
        let mut thread = Thread::new(context, tls, shards, listeners, &wake)?;
        Ok((handle, Box::new(move || thread.run(&ends))))
    }

    /// Has the kernel probe the connections that are accepted from now on, as the options say.
    pub(crate) fn reconfigure(&self, config: &Config) {
        self.listeners.iter().for_each(|listener| socket::set_probes(listener, config.probes()));
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        self.ends.store(true, Ordering::SeqCst);
        self.wake.signal();
    }
}
