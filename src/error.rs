//! The one error type of the crate: a kind for code to act on, and a sentence to read.

use std::borrow::Cow;
use std::fmt;

/// The kind of an error, for code to act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// An argument is not allowed.
    Invalid,
    /// An option is unknown, or its value is not allowed.
    Config,
    /// A payload or head is larger than the options allow.
    TooLarge,
    /// A queue is full. Nothing was done.
    Busy,
    /// There is no such connection or user.
    NotFound,
    /// The server was stopped.
    Closed,
    /// The time ran out before anything came.
    Timeout,
    /// The descriptor is not a connected stream socket.
    Descriptor,
    /// A system call failed.
    System,
    /// This server can't do that.
    Unsupported,
    /// A limit from the options is reached.
    Limit,
}

/// An error: its [`Kind`], and a sentence that says what was wrong and what is allowed.
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

    /// An error of a system call. `doing` names what the call was for.
    pub(crate) fn system(doing: impl fmt::Display, error: &std::io::Error) -> Self {
        Error::new(Kind::System, format!("{doing}: {error}"))
    }

    /// The error of one message of a batch.
    pub(crate) fn of_message(self, index: usize) -> Self {
        Error::new(self.kind, of_message(index, &self.text))
    }

    /// The kind of the error.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

/// What is wrong with one message of a batch.
pub(crate) fn of_message(index: usize, wrong: &str) -> String {
    format!("messages[{index}]: {wrong}")
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
