//! The results of reading from a TLS connection, and the reasons for its end.

use rustls::AlertDescription;
use std::fmt;

/// The reason why a connection ended that did not keep to TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no certificate for the name that the client asked for.
    Name,
    /// It sent too much. The text names the kind of data.
    TooMuch(&'static str),
    /// An error of the library for TLS.
    Tls(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Name => f.write_str("there is no certificate for the name that the client asked for"),
            Failure::TooMuch(what) => f.write_str(what),
            Failure::Tls(text) => f.write_str(text),
        }
    }
}

/// The peer is gone, or broke a rule and must go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

/// The result of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// So many bytes came, and no more are there now.
    Bytes(usize),
    /// So many bytes came, perhaps none, and there may be more.
    Part(usize),
    /// Nothing is there now.
    Nothing,
    /// The peer has ended its side.
    End,
    /// The peer has other keys from now on, and the kernel can't decrypt what it sends. It can still be sent something.
    NewKeys,
}

/// The state of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handshake {
    /// The peer has to send more, or to take more.
    Waits,
    /// Done.
    Done,
}

/// If there is no certificate for a name, the library says that access is denied. There is an alert for that (RFC 6066,
/// section 3). Returns whether the bytes to send were the first, and are the second now.
pub(crate) fn names_the_name(sent: &mut [u8]) -> bool {
    match sent {
        [21, 3, _, 0, 2, 2, alert] if *alert == u8::from(AlertDescription::AccessDenied) => {
            *alert = AlertDescription::UnrecognisedName.into();
            true
        }
        _ => false,
    }
}
