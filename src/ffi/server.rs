//! `push_server`: start, reload, drain, stop, addresses, counters.

use super::fault::Fault;
use super::guard;
use super::handle;
use super::leftovers;
use super::pulled;
use super::types::*;
use crate::callbacks;
use crate::config::Builder;
use crate::metrics::{stats_rows, Stats};
use crate::panics;
use crate::server::Server;
use std::ffi::c_char;
use std::time::Duration;

/// Starts a server.  If `config` is NULL, it listens on 127.0.0.1:8090 and keeps history in memory.
///
/// The listeners are bound when the call returns, so a port in use is reported here:
/// PUSH_ERR_SYSTEM, with a sentence in `err` (may be NULL).  The config is copied, so it can be
/// changed or freed afterwards.  On success `*out` is the server; end it with push_stop.
///
/// With the option `attach` the hub is in another process (pushd, or a server with
/// `attach_listen`).  If the hub is not there yet, the call succeeds, and messages wait for the
/// hub.  If the hub refuses this host, the call fails with PUSH_ERR_SYSTEM.
///
/// # Safety
/// `config` is NULL or comes from push_config_new; `out` can be written; `err` has `err_len` bytes.
#[no_mangle]
pub unsafe extern "C" fn push_start(
    config: *const push_config,
    out: *mut *mut push_server,
    err: *mut c_char,
    err_len: usize,
) -> push_status {
    panics::keep_quiet();
    // SAFETY: the caller vouches for `config`, `out`, and `err` with `err_len`, as the header asks;
    // `out` is not NULL when it is written.
    unsafe {
        guard::status_with_text(err, err_len, || {
            guard::not_null("out", out)?;
            let builder = if config.is_null() { Builder::default() } else { guard::config_ref(config)?.clone() };
            leftovers::check_room()?;
            let server = Server::start(builder)?;
            let lines = server.pulled_log();
            let ticket = handle::insert(server)?;
            if let Some(lines) = lines {
                pulled::add(ticket, lines);
            }
            out.write(ticket);
            Ok(())
        })
    }
}

/// Gives a running server other options: those of `config` that can change while it runs (the
/// column "live" in the table of options).  Either all of them apply or none.  Options that need a
/// restart stay as they are.  The log names these, and those that have changed.  Files with keys
/// are read again, so keys can be rotated.  If a certificate for TLS can't be used any more, the
/// old one stays, the log names it, and the rest is applied.  The config's callbacks are ignored, but
/// options that push_start refuses beside a callback for log lines are refused here as well.
/// The config is copied, so it can be changed or freed afterwards.
///
/// An option that `config` does not set gets its default.  So load the same file again, and set
/// again what was set.  A timeout that runs already and a connection that was let in are not
/// affected.
///
/// PUSH_ERR_CONFIG, PUSH_ERR_SYSTEM: the options can't be applied.  Nothing has changed, and `err`
/// (may be NULL) says what is wrong.
///
/// # Safety
/// As for push_start; `config` may not be NULL.
#[no_mangle]
pub unsafe extern "C" fn push_reload(
    server: *mut push_server,
    config: *const push_config,
    err: *mut c_char,
    err_len: usize,
) -> push_status {
    // SAFETY: the caller vouches for `config`, and for `err` and `err_len`, as the header asks.
    unsafe {
        guard::status_with_text(err, err_len, || {
            let server = handle::enter(server)?;
            server.reload(guard::config_ref(config)?)?;
            Ok(())
        })
    }
}

/// Begins to send the clients away, and returns.  New connections are refused.  Published messages
/// are delivered.  Subscribers are told to come back later: WebSockets by close code 1001, SSE and
/// streams by an event, polls by an answer.  Their turns are spread evenly over `drain_ms`, so that
/// they do not come back all at once.  If `drain_ms` is 100 or less, all are told at once.  If
/// there are few clients, the pause between two of them is at most 50 ms.  Connections that are
/// left after `drain_ms` are cut off.
///
/// PUSH_EVENT_DRAIN comes at once, PUSH_EVENT_DRAINED when no client is left.  Everything else goes
/// on until push_stop: messages reach the clients that are left, and are kept in the history.
/// Another call sets a new end.  A drain can't be undone.  A callback may call this.
///
/// PUSH_ERR_UNSUPPORTED: the server is attached, so its clients belong to the hub.
#[no_mangle]
pub extern "C" fn push_drain(server: *mut push_server, drain_ms: u32) -> push_status {
    guard::with_server_dyn(server, &mut |server| Ok(server.drain(Duration::from_millis(drain_ms.into()))?))
}

/// Ends a server.  It sends the clients away as push_drain does, unless that has been done, and
/// ends when they are gone, at the latest `drain_ms` after the call.  Until then the control API
/// answers, and attached hosts stay.  An attached server sends the requests that wait for the hub
/// within `drain_ms`.  Its connections stay with the hub.
///
/// With the option trace, the spans that are left go to the collector in the rest of `drain_ms`: in
/// a minute at most, or in a second if less is left.  A collector that has not answered before has
/// a second at most.  If the system is still looking up a name (getaddrinfo), that may go on after
/// the call.
///
/// When the call returns PUSH_OK, no thread of the server runs and no callback runs any more.  The
/// last event of a callback is PUSH_EVENT_DRAINED.  Events that were not pulled are gone: a host
/// that pulls and wants to see the end calls push_drain first.  Log lines that were not pulled can
/// still be read with push_next_log.  All other calls return PUSH_ERR_CLOSED from now on, and so
/// does a second push_stop.  From a callback the call returns PUSH_ERR_CALLBACK, and nothing is done.
///
/// PUSH_ERR_TIMEOUT: the server has ended, but a callback (or a push_free_fn) has not returned.  It
/// had `drain_ms`, and at least a second after everything else had ended.  No other callback begins
/// any more: the events and log lines that still wait are dropped.  The callback's thread keeps the
/// user data until the callback returns; then it frees the data and ends.  Until then, do not free
/// the data that the callback uses, and do not unload the library (dlclose).  Another push_stop
/// waits up to `drain_ms` for the callback.  It returns PUSH_OK if the callback has returned, and
/// later calls return PUSH_ERR_CLOSED; otherwise it returns PUSH_ERR_TIMEOUT again.
///
/// The call returns PUSH_ERR_TIMEOUT as well if the disk of the log (option engine) does not answer.
/// The disk has the same time.  The log says which messages may be missing in it.  It is the same if
/// the descriptor of the option log_fd hangs in the write of a line, as that of a terminal may.
///
/// Some callbacks need the calling thread, for example functions of Node (koffi).  They can't
/// return before push_stop does.  So call push_stop on another thread (koffi's `.async`), or call
/// it again after a turn of the event loop.
///
/// Calls of other threads that are still running return first.  Only those that wait for a hub or a
/// sync can take long: at most the option attach_timeout or engine_timeout, in addition to
/// `drain_ms`.
#[no_mangle]
pub extern "C" fn push_stop(server: *mut push_server, drain_ms: u32) -> push_status {
    guard::status(|| {
        if callbacks::is_callback_thread() {
            // An invalid handle is reported as such, even from a callback.
            handle::enter(server)?;
            return Err(Fault::new(PUSH_ERR_CALLBACK, "push_stop from a callback"));
        }
        let time = Duration::from_millis(drain_ms.into());
        match handle::remove(server) {
            Ok(running) => {
                let left = running.stop(time);
                pulled::stopped(server);
                left.map_or(Ok(()), |leftover| Err(leftovers::keep(server, leftover)))
            }
            Err(fault) => leftovers::wait(server, time).unwrap_or(Err(fault)),
        }
    })
}

/// Writes the address of listener number `index`: "127.0.0.1:8090" or "unix:/run/push.sock", ending
/// in NUL.  The index counts from 0, in the order of the options `listen`, `control`,
/// `attach_listen`.  PUSH_ERR_NOT_FOUND: there is no such listener.  PUSH_ERR_TOO_LARGE: `size`
/// bytes are not enough (128 always are).
///
/// # Safety
/// `out` has `size` bytes.
#[no_mangle]
pub unsafe extern "C" fn push_listen_address(
    server: *mut push_server,
    index: u32,
    out: *mut c_char,
    size: usize,
) -> push_status {
    guard::with_server_dyn(server, &mut |server| {
        guard::not_null("out", out)?;
        let address =
            server.addresses().get(index as usize).ok_or_else(|| Fault::new(PUSH_ERR_NOT_FOUND, "no such listener"))?;
        if address.len() >= size {
            return Err(Fault::new(PUSH_ERR_TOO_LARGE, "the buffer is too small"));
        }
        // SAFETY: the caller vouches for `size` bytes at `out`.
        unsafe { guard::copy_text(out, size, address) };
        Ok(())
    })
}

/// Copies the counters into `*out`.  `out_size` is sizeof(push_stats) in the host's header.  Fields
/// that this library does not know become zero.
///
/// # Safety
/// `out` has `out_size` bytes.
#[no_mangle]
pub unsafe extern "C" fn push_stats_get(
    server: *mut push_server,
    out: *mut push_stats,
    out_size: usize,
) -> push_status {
    guard::with_server_dyn(server, &mut |server| {
        guard::not_null("out", out)?;
        let stats = push_stats::from(server.stats()?);
        // SAFETY: the caller vouches for `out_size` bytes at `out`.
        unsafe { guard::write_sized(out, out_size, &stats) }
    })
}

macro_rules! c_stats {
    ($($name:ident $kind:ident $($part:ident)? $help:literal,)*) => {
        impl From<Stats> for push_stats {
            fn from(stats: Stats) -> Self {
                push_stats { size: size_of::<push_stats>(), $($name: stats.$name,)* }
            }
        }
    };
}

// A row without a field in push_stats, or a field without a row, does not compile.
stats_rows!(c_stats);
