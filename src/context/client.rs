//! Names the client that a log line is about.

use crate::framing::Transport;
use crate::grant::Grant;
use crate::limits::Peer;
use crate::log::{Level, Log};
use std::fmt::{self, Write};
use std::os::fd::OwnedFd;

/// The longest user that a line quotes, in bytes after escaping.
const MAX_USER: usize = 256;

/// A client, in the form that ends a log line. Nothing is looked up before a line passes its rate limit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Client<'a> {
    /// The number by which the host knows the connection. 0 if it has none.
    pub(crate) connection: u64,
    pub(crate) user: Option<&'a str>,
    pub(crate) address: AddressSource<'a>,
    pub(crate) transport: Option<Transport>,
}

/// The source of a client's address.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum AddressSource<'a> {
    #[default]
    Unknown,
    Known(Peer),
    /// The address is asked from the system: the other end of this socket.
    Of(&'a OwnedFd),
}

impl<'a> Client<'a> {
    /// A client of which only the socket is known.
    pub(crate) fn of(fd: &'a OwnedFd) -> Self {
        Client { address: AddressSource::Of(fd), ..Client::default() }
    }

    /// A client of which only the address is known.
    pub(crate) fn at(peer: Peer) -> Self {
        Client { address: AddressSource::Known(peer), ..Client::default() }
    }

    /// A client of which only the connection's number is known.
    pub(crate) fn numbered(connection: u64) -> Self {
        Client { connection, ..Client::default() }
    }

    /// The same client, with its user.
    pub(crate) fn with_user(self, user: Option<&'a str>) -> Self {
        Client { user, ..self }
    }

    /// The same client, with the user of its grant.
    pub(crate) fn granted(self, grant: Option<&'a Grant>) -> Self {
        self.with_user(grant.and_then(Grant::user).map(|user| &**user))
    }

    /// Adds a line about this client to the log, under the rate limit of its `kind`.
    pub(crate) fn log(mut self, log: &Log, level: Level, kind: &'static str, text: fmt::Arguments<'_>) {
        if !log.names_addresses() {
            self.address = AddressSource::Unknown;
        }
        log.limited_about(level, kind, text, &self);
    }
}

impl AddressSource<'_> {
    /// The address, as far as it is known.
    pub(crate) fn peer(&self) -> Option<Peer> {
        match self {
            AddressSource::Unknown => None,
            AddressSource::Known(peer) => Some(*peer),
            AddressSource::Of(fd) => Peer::last_of(fd),
        }
    }
}

/// ` (connection 7, user "ada", address 192.0.2.1, transport sse)`. Unknown parts are left out.
impl fmt::Display for Client<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = " (";
        let mut next = |f: &mut fmt::Formatter<'_>, name: &str| {
            f.write_str(std::mem::replace(&mut before, ", "))?;
            f.write_str(name)
        };
        if self.connection != 0 {
            next(f, "connection ")?;
            write!(f, "{}", self.connection)?;
        }
        if let Some(user) = self.user {
            next(f, "user ")?;
            quote(user, f)?;
        }
        if let Some(peer) = self.address.peer() {
            next(f, "address ")?;
            write!(f, "{peer}")?;
        }
        if let Some(transport) = self.transport {
            next(f, "transport ")?;
            f.write_str(transport.label())?;
        }
        if before == ", " {
            f.write_char(')')
        } else {
            Ok(())
        }
    }
}

/// Writes a name in quotes. The name may come from a client, so it is escaped and can't end the quotes.
fn quote(name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_char('"')?;
    let mut size = 0;
    for char in name.chars() {
        // Escapes quotes, backslashes, control characters, and characters that change the direction of text.
        let escaped = (char != '\'').then(|| char.escape_debug());
        size += escaped.clone().map_or(1, |escaped| escaped.map(char::len_utf8).sum());
        if size > MAX_USER {
            f.write_char('…')?;
            break;
        }
        match escaped {
            Some(escaped) => write!(f, "{escaped}")?,
            None => f.write_char(char)?,
        }
    }
    f.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_facts_of_a_client_are_in_parentheses() {
        let peer = Peer::Ip("192.0.2.1".parse().unwrap());
        let all = Client { connection: 7, transport: Some(Transport::Sse), ..Client::at(peer).with_user(Some("ada")) };
        assert_eq!(all.to_string(), r#" (connection 7, user "ada", address 192.0.2.1, transport sse)"#);
        assert_eq!(Client::at(Peer::Unix).to_string(), " (address unix)");
        assert_eq!(Client::numbered(9).with_user(Some("o'hara")).to_string(), r#" (connection 9, user "o'hara")"#);
        assert_eq!(Client::default().to_string(), "");
    }

    #[test]
    fn a_user_can_not_break_out_of_its_quotes_nor_make_a_line_long() {
        let hostile = "a\", address 1.2.3.4)\nError \u{1b}[2J\u{202e}\\";
        let said = Client::default().with_user(Some(hostile)).to_string();
        assert_eq!(said, r#" (user "a\", address 1.2.3.4)\nError \u{1b}[2J\u{202e}\\")"#);
        for long in ["\u{1}".repeat(255), "ü".repeat(10_000), "\"".repeat(10_000)] {
            let said = Client::default().with_user(Some(&long)).to_string();
            assert!(said.len() < MAX_USER + 20 && said.ends_with("…\")"), "{said}");
        }
    }
}
