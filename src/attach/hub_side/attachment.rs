//! One attached host, or a connection that has not sent its hello frame yet.

use super::questions::Question;
use super::sessions::SessionId;
use crate::attach::inbox::Inbox;
use crate::attach::outbuf::Outbuf;
use crate::attach::wire::{FromHub, OLDEST, PUBLISHES_ASKED, TELLS_SUBSCRIPTIONS};
use crate::events::{Behind, Event, EventKind, Events};
use crate::grant::{Grant, Latest};
use crate::sys::passing::Credentials;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Bytes of answers that may wait for a host. Beyond it, the host's requests wait, too.
const MAX_WAITING: usize = 4 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Attachment {
    pub(super) id: u64,
    pub(super) socket: OwnedFd,
    pub(super) process: Credentials,
    pub(super) inbox: Inbox,
    pub(super) out: Outbuf,
    /// Its name. Empty before its hello.
    pub(super) name: Box<str>,
    /// The host's number in events, or 0 before its hello.
    pub(super) host: u64,
    pub(super) session: SessionId,
    /// The version of the protocol that the host speaks.
    pub(super) version: u16,
    pub(super) grants: Grants,
    pub(super) events: EventQueue,
    /// True if there may be more to read.
    pub(super) unread: bool,
    /// When to try the next request again that could not be done, and let no other pass.
    pub(super) again_at: Option<u64>,
    /// The questions that are not answered, oldest first.
    pub(super) questions: VecDeque<Question>,
    pub(super) figures: Figures,
}

/// What operators are told of an attachment.
#[derive(Debug)]
pub(super) struct Figures {
    /// When the connection came.
    pub(super) since: u64,
    /// The number of connections that the host has handed over.
    pub(super) adopted: u64,
    /// Since when something waits for it or of it without a break, as it was at the ends of turns.
    behind_since: Option<u64>,
}

impl Figures {
    /// Notes at the end of a turn whether something waits.
    pub(super) fn note_waits(&mut self, waits: bool, now: u64) {
        self.behind_since = waits.then(|| self.behind_since.unwrap_or(now));
    }

    /// For how long something has waited.
    pub(super) fn behind_ms(&self, now: u64) -> u64 {
        now.saturating_sub(self.behind_since.unwrap_or(now))
    }
}

/// Grants that clients of the host share.
#[derive(Debug)]
pub(super) struct Grants {
    /// That of the clients that the host hands over without one.
    pub(super) open: Arc<Grant>,
    /// That of the client that was handed over last.
    pub(super) latest: Latest,
}

impl Attachment {
    pub(super) fn new(id: u64, socket: OwnedFd, process: Credentials, now: u64) -> Self {
        Attachment {
            id,
            socket,
            process,
            inbox: Inbox::default(),
            out: Outbuf::default(),
            name: Box::default(),
            host: 0,
            session: [0; 16],
            version: 0,
            grants: Grants { open: Arc::new(Grant::open()), latest: Latest::default() },
            events: EventQueue::default(),
            unread: true,
            again_at: None,
            questions: VecDeque::new(),
            figures: Figures { since: now, adopted: 0, behind_since: None },
        }
    }

    pub(super) fn half_open(&self) -> bool {
        self.host == 0
    }

    /// True if the host takes its answers so slowly that it is not served until it does.
    pub(super) fn choked(&self) -> bool {
        self.out.len() > MAX_WAITING
    }

    /// True if the host can be served now.
    pub(super) fn due(&self, now: u64) -> bool {
        !self.choked() && self.again_at.map_or(self.unread, |at| now >= at)
    }

    /// True if the host waits for answers to questions, and takes them.
    pub(super) fn awaits_answers(&self) -> bool {
        !self.questions.is_empty() && !self.choked()
    }

    /// True if a count of users is to go on for the host.
    pub(super) fn counts_users(&self) -> bool {
        !self.choked() && self.questions.iter().any(Question::is_counting)
    }

    /// Whether the host wants events, and knows this kind.
    pub(super) fn takes(&self, kind: EventKind) -> bool {
        let since = match kind {
            EventKind::Subscribe | EventKind::Unsubscribe | EventKind::Call => TELLS_SUBSCRIPTIONS,
            EventKind::Publish => PUBLISHES_ASKED,
            _ => OLDEST,
        };
        self.events.is_wanted() && self.version >= since
    }

    /// Sends the host an event, or holds it while the host has no room or does not read. Only the host's own clients
    /// wait then.
    pub(super) fn tell(&mut self, event: Event, events: &Events, bound: usize) {
        let reads = !self.choked();
        if reads && self.events.is_empty() && self.events.spend_credit() {
            FromHub::Event(event).write(self.out.tail());
            return;
        }
        self.events.push(event, self.host);
        if let Some(behind) = Behind::by(self.events.len(), bound) {
            events.set_behind(self.host, Some(behind));
        }
    }

    /// The host has room for more events.
    pub(super) fn give_credit(&mut self, more: u32, events: &Events, bound: usize) {
        self.events.add_credit(more);
        self.release(events, bound);
    }

    /// Sends the host as many of the held events as it has room for and reads.
    pub(super) fn release(&mut self, events: &Events, bound: usize) {
        while !self.choked() {
            let Some(event) = self.events.release(self.host) else { break };
            FromHub::Event(event).write(self.out.tail());
        }
        if self.events.len() <= bound / 2 {
            events.set_behind(self.host, None);
        }
    }
}

/// The events for a host: how many more it has room for, and those that wait, since it has none.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    /// `None` if it has never asked for events.
    credit: Option<u32>,
    held: VecDeque<Event>,
    /// The number of these that are about other hosts' clients, for which the host stands in.
    for_others: usize,
}

impl EventQueue {
    /// Whether the host has asked for events.
    pub(super) fn is_wanted(&self) -> bool {
        self.credit.is_some()
    }

    fn add_credit(&mut self, more: u32) {
        self.credit = Some(self.credit.unwrap_or(0).saturating_add(more));
    }

    /// Takes room for one event. False if there is none.
    fn spend_credit(&mut self) -> bool {
        let left = self.credit.and_then(|credit| credit.checked_sub(1));
        self.credit = left.or(self.credit);
        left.is_some()
    }

    fn push(&mut self, event: Event, host: u64) {
        self.for_others += usize::from(event.host != host);
        self.held.push_back(event);
    }

    /// The next event that waits and for which the host has room.
    fn release(&mut self, host: u64) -> Option<Event> {
        if self.held.is_empty() || !self.spend_credit() {
            return None;
        }
        let event = self.held.pop_front()?;
        self.for_others -= usize::from(event.host != host);
        Some(event)
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(super) fn for_others(&self) -> usize {
        self.for_others
    }

    /// Those that wait, when the host has gone.
    pub(super) fn into_held(self) -> VecDeque<Event> {
        self.held
    }
}
