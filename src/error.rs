//! One error for the whole crate: a kind to act on, a sentence to read.

use std::borrow::Cow;
use std::fmt;

/// What went wrong, for code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// An argument is not allowed.
    Invalid,
    /// An option is unknown or its value not allowed.
    Config,
    /// A payload or head is larger than configured.
    TooLarge,
    /// A queue is full; nothing was done.
    Busy,
    /// There is no such connection or user.
    NotFound,
    /// The server was stopped.
    Closed,
    /// Nothing came in time.
    Timeout,
    /// Not a connected stream socket.
    Descriptor,
    /// The operating system refused.
    System,
    /// Not possible on this server.
    Unsupported,
    /// A configured limit is reached.
    Limit,
}

/// An error: its [`Kind`] and a sentence that names what was wrong and what is allowed.
#[derive(Clone)]
pub struct Error {
    kind: Kind,
    text: Cow<'static, str>,
}

impl Error {
    pub(crate) fn new(kind: Kind, text: impl Into<Cow<'static, str>>) -> Self {
        Error { kind, text: text.into() }
    }

    pub(crate) fn invalid(text: impl Into<Cow<'static, str>>) -> Self {
        Error::new(Kind::Invalid, text)
    }

    /// The operating system's error, with what was being done.
    pub(crate) fn system(doing: impl fmt::Display, error: &std::io::Error) -> Self {
        Error::new(Kind::System, format!("{doing}: {error}"))
    }

    /// What went wrong, for code.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.text)
    }
}

impl std::error::Error for Error {}
