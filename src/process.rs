//! What a program of ours needs of the system, and a library must not touch: signals, limits, and the service manager's
//! protocol (sd_notify(3), sd_listen_fds(3)) without its library.

use crate::error::{Error, Kind};
use crate::sys::{clock, rlimit, signals, socket};
use std::env;
use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The first descriptor that a service manager passes.
const FIRST_FD: i32 = 3;

/// What a signal asks a program for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// To end: SIGTERM or SIGINT, by name.
    End(&'static str),
    /// To read its options again: SIGHUP.
    Reload,
}

/// Blocks these signals, for [`next_signal`]. To be called before any thread is started.
pub fn block_signals() {
    signals::block_taken();
}

/// Waits for the next of them.
pub fn next_signal() -> io::Result<Signal> {
    Ok(match signals::next()? {
        libc::SIGHUP => Signal::Reload,
        libc::SIGINT => Signal::End("SIGINT"),
        _ => Signal::End("SIGTERM"),
    })
}

/// Lets this process have as many descriptors as its user may have, one for each client. The limit that it starts with
/// is mostly 1024, for the sake of programs that use select(2).
pub fn raise_descriptors() -> io::Result<()> {
    rlimit::raise_descriptors()
}

/// Tells the service manager, if one wants to know.
pub fn notify(state: &str) -> io::Result<()> {
    let Some(name) = env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match name.as_bytes() {
        // An abstract name, which begins with a NUL in the kernel's form.
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

/// Tells the service manager that options are being read again. It wants to know since when, by CLOCK_MONOTONIC
/// (sd_notify(3)); `READY=1` ends it.
pub fn notify_reloading() -> io::Result<()> {
    notify(&format!("RELOADING=1\nMONOTONIC_USEC={}", clock::monotonic().as_micros()))
}

/// The listening sockets that this process was started with, and their names (FileDescriptorName= in a socket unit). To
/// be called once, before anything else is opened.
pub fn inherited_sockets() -> Result<Vec<(String, OwnedFd)>, Error> {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    // Another process's, which this one was started by.
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS").unwrap_or(0).min(64);
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.split(':').chain(std::iter::repeat(""));
    (FIRST_FD..FIRST_FD + count as i32)
        .zip(names)
        .map(|(fd, name)| match socket::take_inherited(fd) {
            Ok(socket) => Ok((name.to_owned(), socket)),
            Err(error) => Err(Error::new(Kind::System, format!("socket {fd} of the service manager: {error}"))),
        })
        .collect()
}
