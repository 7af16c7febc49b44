//! A shard's mailbox: the messages that the hub leaves for it, bounded, in the order of the sequence.

use super::message::Message;
use super::sync::{fence, ArrayQueue, AtomicBool, CachePadded, Ordering};
use super::ChannelId;
use crate::trace::Ticket;
use std::fmt;
use std::sync::Arc;

/// One message for the subscribers of a channel on one shard.
#[derive(Debug)]
pub struct Delivery {
    /// The channel, by the number that the hub gave the shard.
    pub channel: ChannelId,
    /// Of the message's span, if it has one. It takes the place of padding.
    pub(crate) ticket: Ticket,
    /// The message.
    pub message: Arc<Message>,
}

/// Wakes the thread that owns a mailbox. Must not block.
pub trait Wake: Send + Sync {
    /// Makes the owner look into its mailbox.
    fn wake(&self);
}

impl<F: Fn() + Send + Sync> Wake for F {
    fn wake(&self) {
        self();
    }
}

/// A bounded queue with one reader, which sleeps when it is empty.
pub struct Mailbox {
    queue: ArrayQueue<Delivery>,
    /// The owner sets this before it sleeps. A thread that leaves a message and clears this flag wakes the owner. So
    /// while the owner is busy, a publish costs no system call.
    parked: CachePadded<AtomicBool>,
    waker: Box<dyn Wake>,
}

impl Mailbox {
    /// A mailbox for at most `capacity` messages.
    pub fn new(capacity: usize, waker: Box<dyn Wake>) -> Self {
        Mailbox { queue: ArrayQueue::new(capacity), parked: CachePadded::new(AtomicBool::new(false)), waker }
    }

    /// The number of messages that fit into an empty mailbox.
    pub(super) fn capacity(&self) -> usize {
        self.queue.capacity()
    }

    /// The number of messages that still fit. Only the hub adds messages, under its lock, so the number can't shrink
    /// before it does.
    pub(super) fn room(&self) -> usize {
        self.queue.capacity() - self.queue.len()
    }

    /// How many messages wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Adds a message. The hub must have checked [`room`](Self::room). Returns false if there is no room.
    pub(super) fn push(&self, delivery: Delivery) -> bool {
        self.queue.push(delivery).is_ok()
    }

    /// Takes the oldest message.
    pub fn pop(&self) -> Option<Delivery> {
        self.queue.pop()
    }

    /// Wakes the owner if it sleeps or is about to.
    pub fn wake(&self) {
        // Pairs with the fence in `park`: either this thread sees the flag, or the owner sees the message that was
        // left.
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed) {
            // Only the thread that clears the flag writes to it.
            let taken = self.parked.compare_exchange(true, false, Ordering::Relaxed, Ordering::Relaxed);
            if taken.is_ok() {
                self.waker.wake();
            }
        }
    }

    /// Announces that the owner will sleep. True if nothing was left meanwhile, so the owner sleeps until it is woken.
    /// False if it must look again.
    ///
    /// `more` checks for other work that was left before a call of [`wake`](Self::wake).
    pub fn park(&self, more: impl FnOnce() -> bool) -> bool {
        self.parked.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.queue.is_empty() && !more() {
            return true;
        }
        self.unpark();
        false
    }

    /// True if the owner sleeps or is about to, and no thread has woken it.
    pub fn is_parked(&self) -> bool {
        self.parked.load(Ordering::Acquire)
    }

    /// Notes that the owner is awake, for whatever reason.
    pub fn unpark(&self) {
        self.parked.store(false, Ordering::Relaxed);
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("waiting", &self.queue.len()).finish_non_exhaustive()
    }
}
