//! `push_server`: start, look at, stop.

use super::fault::Fault;
use super::guard;
use super::handle;
use super::leftovers;
use super::types::*;
use crate::callbacks;
use crate::config::Builder;
use crate::metrics::Stats;
use crate::panics;
use crate::server::Server;
use std::ffi::c_char;
use std::time::Duration;

/// Starts a server.  `config` may be NULL: then a listener on 127.0.0.1:8090 and history in memory.
///
/// Listeners are bound when it returns, so a port in use is reported here: PUSH_ERR_SYSTEM, with a
/// sentence in `err` (may be NULL).  The config is copied; it can be changed or freed afterwards.
/// On success `*out` is the server, to be ended with push_stop.
///
/// With the option `attach` the hub is another process (pushd, or a server with `attach_listen`). A
/// hub that is not there yet is no error: what is published waits for it.  One that refuses this
/// host is: PUSH_ERR_SYSTEM.
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
            let ticket = handle::insert(Server::start(builder)?)?;
            out.write(ticket);
            Ok(())
        })
    }
}

/// Gives a running server other options: those of `config` that can change while it runs (the
/// column "live" of the table of options).  All or none.  Options that only a new start can change
/// stay as they are, and the log names them, as it does those that have changed.  Files with keys
/// are read again, so that keys can be rotated.  The config's callbacks are not looked at; it is
/// copied, and can be changed or freed afterwards.
///
/// The options are those of `config` as a whole, defaults where it says nothing: load the same file
/// again, and set what was set.  What has begun (a timeout that runs, a connection let in) goes on
/// as it was.
///
/// PUSH_ERR_CONFIG, PUSH_ERR_SYSTEM: they can't be applied; nothing has changed, and `err` (may be
/// NULL) says what is wrong.
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

/// Begins to send the clients away, and returns.  New connections are refused, what was published
/// is delivered, and subscribers are told to come back later (WebSocket 1001, SSE and stream an
/// event, polls an answer), each with a delay of its own: evenly over `drain_ms`, so that they do
/// not come back all at once.  A `drain_ms` of 100 or less tells all at once; of a few clients none
/// waits more than 50 ms for the one before it.  What is left after `drain_ms` is cut off.
///
/// PUSH_EVENT_DRAIN comes at once, PUSH_EVENT_DRAINED when no client is left.  Until push_stop
/// everything else goes on: what is published reaches those who are still there, and is kept.
/// Called again it sets a new end.  A drain can't be taken back.  From a callback it is allowed.
///
/// PUSH_ERR_UNSUPPORTED: the server is attached, its clients are the hub's.
#[no_mangle]
pub extern "C" fn push_drain(server: *mut push_server, drain_ms: u32) -> push_status {
    guard::with_server_seldom(server, &mut |server| Ok(server.drain(Duration::from_millis(drain_ms.into()))?))
}

/// Ends a server: sends the clients away as push_drain does, if that was not done before, and ends
/// when they are gone, at the latest `drain_ms` after the call.  The control API answers until
/// then, and attached hosts stay.  Attached itself, it sends what waits for the hub within
/// `drain_ms`; the connections handed over stay with the hub.
///
/// When it returns PUSH_OK, no thread of the server runs and no callback comes any more; the last
/// event of a callback is PUSH_EVENT_DRAINED.  Events not yet pulled are gone: who pulls and wants to
/// see the end calls push_drain first.  Later calls answer PUSH_ERR_CLOSED, as does a second
/// push_stop.  From a callback: PUSH_ERR_CALLBACK, and nothing is done.
///
/// PUSH_ERR_TIMEOUT: the server has ended, but a callback (or a push_free_fn) has not returned.  It had
/// `drain_ms`, and a second at least after everything else had ended.  No other callback begins any
/// more: the events and log lines that still wait are dropped.  The thread of the callback keeps the
/// user data until the callback returns, then lets go of it and ends.  Until then do not free what
/// the callback uses yourself, and do not unload the library (dlclose).  Another push_stop waits up
/// to `drain_ms` for that: PUSH_OK, after which it answers PUSH_ERR_CLOSED, or PUSH_ERR_TIMEOUT again.
///
/// A callback that needs the calling thread, as functions of Node do (koffi), can't return before
/// push_stop does: call push_stop on another thread (koffi's `.async`), or again after a turn of the
/// event loop.
///
/// Calls that other threads are inside of return first.  Only those of an attached server can take
/// long: at most the option attach_timeout, which then comes on top of `drain_ms`.
#[no_mangle]
pub extern "C" fn push_stop(server: *mut push_server, drain_ms: u32) -> push_status {
    guard::status(|| {
        if callbacks::is_callback_thread() {
            // A handle that is none is that, whoever asks.
            handle::enter(server)?;
            return Err(Fault::new(PUSH_ERR_CALLBACK, "push_stop from a callback"));
        }
        let time = Duration::from_millis(drain_ms.into());
        match handle::remove(server) {
            Ok(running) => match running.stop(time) {
                Some(leftover) => Err(leftovers::keep(server, leftover)),
                None => Ok(()),
            },
            Err(fault) => leftovers::wait(server, time).unwrap_or(Err(fault)),
        }
    })
}

/// Where listener number `index` (from 0, in the order of the options `listen`, `control`,
/// `attach_listen`) can be reached: "127.0.0.1:8090" or "unix:/run/push.sock", ending in NUL.
/// PUSH_ERR_NOT_FOUND: there is no such listener; PUSH_ERR_TOO_LARGE: `size` bytes are not enough
/// (128 always are).
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
    guard::with_server_seldom(server, &mut |server| {
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

/// Copies the counters into `*out`; `out_size` is sizeof(push_stats), as the host was compiled.
/// What a newer host knows and this library does not is zero.
///
/// # Safety
/// `out` has `out_size` bytes.
#[no_mangle]
pub unsafe extern "C" fn push_stats_get(
    server: *mut push_server,
    out: *mut push_stats,
    out_size: usize,
) -> push_status {
    guard::with_server_seldom(server, &mut |server| {
        guard::not_null("out", out)?;
        let stats = push_stats::from(server.stats()?);
        // SAFETY: the caller vouches for `out_size` bytes at `out`.
        unsafe { guard::write_sized(out, out_size, &stats) }
    })
}

impl From<Stats> for push_stats {
    fn from(stats: Stats) -> Self {
        push_stats {
            size: size_of::<push_stats>(),
            published: stats.published,
            duplicates: stats.duplicates,
            busy: stats.busy,
            deliveries: stats.deliveries,
            bytes_sent: stats.bytes_sent,
            accepted: stats.accepted,
            adopted: stats.adopted,
            refused: stats.refused,
            slow_closed: stats.slow_closed,
            gaps: stats.gaps,
            received: stats.received,
            events_dropped: stats.events_dropped,
            logs_dropped: stats.logs_dropped,
            connections: stats.connections,
            websockets: stats.websockets,
            sse: stats.sse,
            streams: stats.streams,
            polls: stats.polls,
            channels: stats.channels,
            subscriptions: stats.subscriptions,
            history_messages: stats.history_messages,
            history_bytes: stats.history_bytes,
            seq: stats.seq,
            dropped: stats.dropped,
            replaced: stats.replaced,
            outboxes: stats.outboxes,
            outbox_bytes: stats.outbox_bytes,
            mailbox: stats.mailbox,
            events_waiting: stats.events_waiting,
            hosts: stats.hosts,
            logs_suppressed: stats.logs_suppressed,
            draining: stats.draining,
            undone: stats.undone,
        }
    }
}
