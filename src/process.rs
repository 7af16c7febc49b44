//! The parts of the system that a program of ours needs and that a library must not touch: signals, limits, and the
//! service manager. Its protocol (sd_notify(3), sd_listen_fds(3)) is spoken here, so its library is not needed.

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

/// The request that a signal makes to a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The program is to end. The name of the signal is SIGTERM or SIGINT.
    End(&'static str),
    /// The program is to read its options again (SIGHUP).
    Reload,
}

/// Blocks these signals, for [`next_signal`]. Call this before any thread is started.
pub fn block_signals() {
    signals::block_taken();
}

/// Waits for the next of these signals.
pub fn next_signal() -> io::Result<Signal> {
    Ok(match signals::next()? {
        libc::SIGHUP => Signal::Reload,
        libc::SIGINT => Signal::End("SIGINT"),
        _ => Signal::End("SIGTERM"),
    })
}

/// Raises the limit of descriptors to the most that this process may have, since each client needs one. A process
/// mostly starts with a limit of 1024, for the sake of programs that use select(2).
pub fn raise_descriptors() -> io::Result<()> {
    rlimit::raise_descriptors()
}

/// Tells the service manager of a new state, if one asked for it.
pub fn notify(state: &str) -> io::Result<()> {
    let Some(name) = env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match name.as_bytes() {
        // An abstract name. In the kernel's form it begins with a NUL.
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

/// Tells the service manager that options are being read again, and since when, by CLOCK_MONOTONIC (sd_notify(3)).
/// `READY=1` ends this state.
pub fn notify_reloading() -> io::Result<()> {
    notify(&format!("RELOADING=1\nMONOTONIC_USEC={}", clock::monotonic().as_micros()))
}

/// The listening sockets that this process was started with, and their names (FileDescriptorName= in a socket unit).
/// Call this once, before any descriptor is opened.
pub fn inherited_sockets() -> Result<Vec<(String, OwnedFd)>, Error> {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    // If not, the variables are meant for another process, which started this one.
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
