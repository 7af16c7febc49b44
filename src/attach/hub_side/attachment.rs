//! One attached host, or somebody who has connected and not said hello.

use super::sessions::SessionId;
use crate::attach::inbox::Inbox;
use crate::attach::outbuf::Outbuf;
use crate::attach::wire::FromHub;
use crate::events::{Behind, Event, Events};
use crate::grant::{Grant, Latest};
use crate::shard::client::presence::Present;
use crate::sys::passing::Credentials;
use crate::waiter::Waiter;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Answers that may wait for a host; beyond it its requests wait, too.
const MAX_WAITING: usize = 4 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Attachment {
    pub(super) id: u64,
    pub(super) socket: OwnedFd,
    pub(super) peer: Credentials,
    pub(super) since: u64,
    pub(super) inbox: Inbox,
    pub(super) out: Outbuf,
    /// Its number as events have it; 0 before its hello.
    pub(super) host: u64,
    pub(super) session: SessionId,
    /// The version of the protocol that it speaks.
    pub(super) version: u16,
    /// What a client may that it hands over without a grant: one for all.
    pub(super) open_grant: Arc<Grant>,
    /// Of the clients that it hands over.
    pub(super) latest_grant: Latest,
    /// How many more events it has room for; `None`: it has never asked for any.
    pub(super) credit: Option<u32>,
    /// Events that it has no room for.
    pub(super) held: VecDeque<Event>,
    /// Those of them that are of others' clients, for whom it stands in.
    pub(super) held_for_others: usize,
    /// There may be more to read.
    pub(super) unread: bool,
    /// A mailbox was full, or the shards have not answered: its next request is tried again then.
    pub(super) again_at: Option<u64>,
    /// Its next request asks who is on a channel, and so were the shards.
    pub(super) present: Option<Arc<Waiter<Present>>>,
}

impl Attachment {
    pub(super) fn new(id: u64, socket: OwnedFd, peer: Credentials, now: u64) -> Self {
        Attachment {
            id,
            socket,
            peer,
            since: now,
            inbox: Inbox::default(),
            out: Outbuf::default(),
            host: 0,
            session: [0; 16],
            version: 0,
            open_grant: Arc::new(Grant::open(false)),
            latest_grant: Latest::default(),
            credit: None,
            held: VecDeque::new(),
            held_for_others: 0,
            unread: true,
            again_at: None,
            present: None,
        }
    }

    pub(super) fn half_open(&self) -> bool {
        self.host == 0
    }

    /// Whether it takes its answers too slowly to be served on.
    pub(super) fn choked(&self) -> bool {
        self.out.len() > MAX_WAITING
    }

    /// Whether it is its turn to be served.
    pub(super) fn due(&self, now: u64) -> bool {
        !self.choked() && self.again_at.map_or(self.unread, |at| now >= at)
    }

    /// An event for it. While it has no room, or does not read, only its own clients are made to wait.
    pub(super) fn tell(&mut self, event: Event, events: &Events, bound: usize) {
        let reads = !self.choked();
        match &mut self.credit {
            Some(credit) if *credit > 0 && self.held.is_empty() && reads => {
                *credit -= 1;
                FromHub::Event(event).write(self.out.tail());
            }
            _ => {
                self.held_for_others += usize::from(event.host != self.host);
                self.held.push_back(event);
                if let Some(behind) = Behind::by(self.held.len(), bound) {
                    events.set_behind(self.host, Some(behind));
                }
            }
        }
    }

    /// It has room for more.
    pub(super) fn give_credit(&mut self, more: u32, events: &Events, bound: usize) {
        self.credit = Some(self.credit.unwrap_or(0).saturating_add(more));
        self.release(events, bound);
    }

    /// Sends it of what is held as much as it has room for and reads.
    pub(super) fn release(&mut self, events: &Events, bound: usize) {
        while self.credit.is_some_and(|credit| credit > 0) && !self.choked() {
            let Some(event) = self.held.pop_front() else { break };
            self.credit = self.credit.map(|credit| credit - 1);
            self.held_for_others -= usize::from(event.host != self.host);
            FromHub::Event(event).write(self.out.tail());
        }
        if self.held.len() <= bound / 2 {
            events.set_behind(self.host, None);
        }
    }
}
