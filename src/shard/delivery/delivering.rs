//! What is taken from the mailbox, and how far.

use crate::hub::{Delivery, Mailbox};
use crate::shard::connection::conn::Token;
use crate::shard::delivery::fan_out::{Fate, BATCH};
use crate::shard::delivery::merging::Merge;

/// How far the mailbox is delivered, and the lists that delivering it needs.
#[derive(Default)]
pub(in crate::shard) struct Delivering {
    /// The messages under way. The list is used again and again, so a turn allocates nothing.
    batch: Vec<Delivery>,
    pub(in crate::shard) merge: Merge,
    /// Fates of connections, to be settled after a fan-out.
    pub(in crate::shard) fates: Vec<(Token, Fate)>,
    /// No connection joined after this number, so all live connections get a later broadcast.
    pub(in crate::shard) settled: u64,
    /// Taken from the mailbox and not delivered yet: the first message of the next batch.
    pub(in crate::shard) held: Option<Delivery>,
    /// How many messages were ever taken from the mailbox, and how many may be before more commands are done. `None`: as
    /// many as there are.
    pub(in crate::shard) taken: u64,
    pub(in crate::shard) due: Option<u64>,
    /// The newest message taken from the mailbox. Every subscriber was served up to here.
    pub(in crate::shard) delivered: u64,
    /// The breaks of the log that were met, of a hub that follows one.
    pub(in crate::shard) breaks: u32,
    /// Acts on users that came where no connection may end. They are done next.
    pub(in crate::shard) put_off: Vec<Delivery>,
    /// True if a message of the batch leaves out a client that is here.
    pub(in crate::shard) excepting: bool,
}

impl Delivering {
    /// An empty list for a batch.
    pub(in crate::shard) fn take_list(&mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.batch)
    }

    /// Takes a batch from the mailbox, up to a message and not beyond. It is to be handed back to [`Self::recycle`].
    pub(in crate::shard) fn take(&mut self, mailbox: &Mailbox, position: u64) -> Vec<Delivery> {
        let mut batch = self.take_list();
        while batch.len() < BATCH {
            let Some(delivery) = self.held.take().or_else(|| self.pop(mailbox, position)) else { break };
            if delivery.message.seq() > position {
                self.held = Some(delivery);
                break;
            }
            batch.push(delivery);
        }
        batch
    }

    /// The next message of the mailbox, unless all are wanted, and it may have come after a command that is not done yet.
    fn pop(&mut self, mailbox: &Mailbox, position: u64) -> Option<Delivery> {
        if position == u64::MAX && self.due.is_some_and(|due| self.taken >= due) {
            return None;
        }
        let next = mailbox.pop()?;
        self.taken += 1;
        Some(next)
    }

    /// A batch is delivered; true when there may be more.
    pub(in crate::shard) fn recycle(&mut self, mut batch: Vec<Delivery>) -> bool {
        if let Some(last) = batch.last() {
            self.delivered = last.message.seq();
        }
        let full = batch.len() == BATCH;
        batch.clear();
        self.batch = batch;
        full
    }
}
