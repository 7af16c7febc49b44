//! A frame on its way to the hub, and the reply to it.

use super::lanes::Lane;
use crate::error::Error;
use crate::hub::Placed;
use crate::metrics::Stats;
use crate::users::Users;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

/// About what a waiting frame takes beside its bytes.
pub(super) const ENTRY: usize = 96;

/// The hub's reply to a request, as its caller gets it.
#[derive(Debug)]
pub(in crate::attach::host_side) enum Reply {
    Published(Placed),
    /// The messages' numbers, and the index of the epoch that they belong to.
    Batched {
        seqs: Vec<u64>,
        epoch_index: u32,
    },
    Stats(Box<Stats>),
    Users(Users),
}

/// Where a caller waits for its reply.
pub(in crate::attach::host_side) type Waiter = crate::waiter::Waiter<Result<Reply, Error>>;

/// The content of a frame, which says how long the frame is of use.
#[derive(Debug)]
pub(in crate::attach::host_side) enum Content {
    /// A request. The hub answers it.
    Request { number: u64, waiter: Option<Arc<Waiter>>, sent: bool, kind: RequestKind },
    /// About a connection: of no use to another hub, or to another life of this one.
    OfThisHub,
    /// Credit for events: of no use to the next attachment, which begins without credit.
    Credit,
    /// A connection that was handed over, and the time of that.
    Adopt { fd: OwnedFd, since: Instant },
}

#[derive(Debug, Clone, Copy)]
pub(in crate::attach::host_side) enum RequestKind {
    /// It publishes. The hub does these in their order. They are sent again if the hub did not do them.
    Publishes,
    /// A command. It is sent again until it is answered. A newer hub gets its number, and does it once.
    Commands,
    /// A batch without messages. It does nothing, and is sent again until it is answered.
    Nothing,
    /// It only asks. It is not sent again: a caller that still wants the answer asks anew. With a time, its frame says
    /// how long the caller waits: until then.
    Asks(Option<Instant>),
}

impl Content {
    pub(super) fn lane(&self) -> Lane {
        match self {
            Content::Request { kind: RequestKind::Publishes, .. } => Lane::Publishing,
            _ => Lane::Free,
        }
    }

    /// True if it is this request.
    pub(super) fn is(&self, wanted: u64) -> bool {
        matches!(self, Content::Request { number, .. } if *number == wanted)
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) frame: Vec<u8>,
    pub(super) content: Content,
    /// The first version of the protocol that knows it.
    pub(super) version: u16,
    /// Its place among all frames.
    pub(super) place: u64,
}

impl Entry {
    pub(super) fn weight(&self) -> usize {
        self.frame.len() + ENTRY
    }
}
