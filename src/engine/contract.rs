//! The contract of a log that many hubs share: what the log must do, and how a hub asks for it.
//!
//! A log is totally ordered, and every hub of a cluster reads all of it. The contract is small, so that Redis streams
//! and JetStream can keep it. The log on disk (`file`) does not use it: it has one writer, which numbers the entries
//! itself. It keeps the same promises.
//!
//! **Numbers.** Each entry has a number, which is one more than the number of the entry before. Only trimmed entries
//! are missing, at the beginning. While the log has the same [`LogId`], no number is given twice.
//!
//! **Identity.** A *life* of a log is a time in which it can't have lost entries that a hub has read. A [`LogId`] names
//! a log and one life of it. The log must change it when such a loss is possible: when another server takes over, when
//! a server restarts, when the log is created again. It may change it although nothing was lost. (The *life* of a hub
//! is the time from its start to its end.)
//!
//! **Append** ([`Ask::Append`]) is atomic for each entry. The log appends the entries of one hub in the order in which
//! the hub asks. It appends each entry once. It does not append an entry if it has an entry with the same hub and the
//! same or a greater counter ([`Placed::Repeated`]), or if it has the entry's key within the key's window
//! ([`Placed::Known`]). The counters and keys that it remembers for this are as durable as the entries: a log that
//! loses entries forgets their counters and keys as well. If the connection is lost, the entries without an answer are
//! *unknown*: each of them may be in the log, or may be appended later, in their order.
//!
//! **Tail** ([`Ask::Tail`]) delivers every entry after a number, in order, as long as the connection lasts. An entry
//! may be delivered again. All entries of one connection have the same [`LogId`]. If the log's identity changes, the
//! connection is lost.
//!
//! **Fence** ([`Ask::Fence`]) is a compare-and-set: the log appends the fence only if the log's last fence is the one
//! that the hub expects. The log never trims its last fence, and always answers with it ([`Identity::fence`]).
//!
//! **Trim** ([`Ask::Trim`]) removes the oldest entries. The log may remove fewer than the hub asks for.
//!
//! **Busy.** A log may refuse an append ([`Answer::Busy`]). Each append names the last entry that the hub asked to
//! append before it, over the same connection. If the log refused that entry, it refuses this append, too. Otherwise
//! entries would overtake each other.
//!
//! **Words** ([`Word`]) are beside the log. A hub says one to all hubs that are connected to the log, or to one of them.
//! Nothing is promised: a word may be lost, come late, come twice, or come to the hub that said it. Words hold up neither
//! appends nor the tail, and they are not kept.
//!
//! **Order of answers.** A hub may ask again before it has an answer. The log handles and answers the questions in the
//! order in which they were asked. Only the entries of a tail may come at any time.
//!
//! **Threads.** No call blocks. One thread serves the log of a hub: it takes questions from the hub's replica
//! ([`super::replica`]) and gives it the answers. [`Answer::Lost`] is the last answer of a connection. If a log does
//! not answer within the time that the engine allows, its connection is lost.

use crate::hub::{Epoch, Link};
use std::fmt;

/// Names a log and one life of it. The engine computes the bytes from its servers' own identifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogId(pub(crate) [u8; 16]);

/// Names an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntryId {
    /// The life of a hub: random bits that the hub chose at its start.
    pub(crate) hub: u64,
    /// The number of the entry among the hub's own entries, from 1.
    pub(crate) counter: u64,
    /// The number of the hub's connection over which it was appended. If the log loses an entry and the hub appends it
    /// again, the hub and the counter stay the same, but the attempt differs. So a comparison of two logs tells the two
    /// entries apart.
    pub(crate) attempt: u32,
}

/// The place where an epoch of the log begins, and the epochs before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fence {
    pub(crate) epoch: Epoch,
    /// The log for which it was written. The fence is in force as long as the log has this [`LogId`].
    pub(crate) log: LogId,
    /// The earlier epochs, oldest first. The log surely has the entries that were read under an epoch, up to the
    /// epoch's `last`.
    pub(crate) chain: Vec<Link>,
}

impl Fence {
    /// The name of the fence's entry. It is computed from the epoch, which no other fence has.
    pub(crate) fn id(&self) -> EntryId {
        let counter =
            self.epoch.as_str().bytes().fold(0u64, |sum, byte| sum.wrapping_mul(37).wrapping_add(byte.into()));
        EntryId { hub: 0, counter, attempt: 0 }
    }
}

/// An entry to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Appending {
    pub(crate) id: EntryId,
    /// The key, in the form in which the log compares keys. Empty if the entry has no key.
    pub(crate) key: Box<str>,
    /// The bytes that the log stores: see [`super::envelope`].
    pub(crate) bytes: Vec<u8>,
}

/// The largest word, in bytes.
pub(crate) const MAX_WORD: usize = 48 << 10;

/// A word of a hub to other hubs, beside the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    /// The life of the hub that is to hear it. `None`: all hubs are.
    pub(crate) to: Option<u64>,
    /// At most [`MAX_WORD`] bytes.
    pub(crate) bytes: Vec<u8>,
}

/// A question of a hub to its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Asks which log this is, and which entry has the number. The answer is [`Answer::Identity`].
    Identify { number: u64 },
    /// Asks to append entries. The answer is [`Answer::Appended`] or [`Answer::Busy`]. `after` is the counter of the
    /// last entry that the hub asked to append before, over this connection, or 0. The log must have accepted that
    /// entry.
    Append { after: u64, entries: Vec<Appending> },
    /// Asks for all entries after a number. A hub asks this once per connection. The answers are any number of
    /// [`Answer::Tail`].
    Tail { after: u64 },
    /// Asks to append a fence. `expected` is the number of the log's last fence, or 0 if it has none. The answer is
    /// [`Answer::Fenced`].
    Fence { expected: u64, fence: Fence },
    /// Asks to remove the entries before a number. There is no answer.
    Trim { before: u64 },
    /// Ends the connection. The answer is [`Answer::Lost`], and the engine then makes another connection.
    HangUp,
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ask::Append { after, entries } => {
                let counters: Vec<u64> = entries.iter().map(|entry| entry.id.counter).collect();
                write!(f, "append {counters:?} after {after}")
            }
            ask => write!(f, "{ask:?}"),
        }
    }
}

/// An answer of a log to a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Identity(Identity),
    /// The result for each entry, in the order of the entries.
    Appended(Vec<Placed>),
    /// The log appended none of the entries, because it takes no more at present.
    Busy,
    /// True if the fence was appended.
    Fenced(bool),
    Tail(Vec<Tailed>),
    /// The connection is lost. The results of all questions without an answer are unknown.
    Lost,
}

/// The state of a log at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) log: LogId,
    /// The first number that can be read.
    pub(crate) first: u64,
    /// The last number. `first - 1` if there are no entries.
    pub(crate) end: u64,
    /// The entry with the number that was asked for. `None` if the log does not have it.
    pub(crate) entry: Option<EntryId>,
    /// The number of the last fence, and the fence.
    pub(crate) fence: Option<(u64, Fence)>,
}

/// The result of appending one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It was appended with this number.
    At(u64),
    /// It was not appended: the entry with this number has its key.
    Known(u64),
    /// It was not appended: the log has it already, or has a later entry of its hub.
    Repeated,
}

/// One item of a tail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tailed {
    Entry {
        number: u64,
        bytes: Vec<u8>,
    },
    /// The entry with this number is a fence.
    Fence {
        number: u64,
        id: EntryId,
    },
    /// A moment ago, the log had no entry after this number.
    Idle {
        end: u64,
    },
}
