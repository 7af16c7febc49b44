//! Models of the mailbox's parts for loom.

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Condvar, Mutex};
use std::collections::VecDeque;
use std::ops::Deref;

/// A message, which is only a number.
#[derive(Debug)]
pub(crate) struct Message(pub(crate) u64);

/// A bounded queue. Other threads see a push as late as the memory model allows. The model assumes only this of
/// crossbeam's queue: a pop finds an item if its push happened before the pop. (Crossbeam's own orderings are
/// stronger.)
#[derive(Debug)]
pub(crate) struct ArrayQueue<T> {
    items: Mutex<VecDeque<T>>,
    len: AtomicUsize,
    capacity: usize,
}

impl<T> ArrayQueue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        ArrayQueue { items: Mutex::new(VecDeque::new()), len: AtomicUsize::new(0), capacity }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        if self.len() == self.capacity {
            return Err(item);
        }
        self.items.lock().unwrap().push_back(item);
        self.len.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn pop(&self) -> Option<T> {
        // This must not take the lock first: the lock would make pushes visible that the real queue may not show yet.
        if self.is_empty() {
            return None;
        }
        let item = self.items.lock().unwrap().pop_front()?;
        self.len.fetch_sub(1, Ordering::Relaxed);
        Some(item)
    }
}

/// A value without padding, which makes no difference to loom.
#[derive(Debug)]
pub(crate) struct CachePadded<T>(T);

impl<T> CachePadded<T> {
    pub(crate) fn new(value: T) -> Self {
        CachePadded(value)
    }
}

impl<T> Deref for CachePadded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A model of the shard's eventfd. A signal before the sleep ends the sleep at once.
#[derive(Debug)]
pub(crate) struct Bell {
    signalled: Mutex<bool>,
    arrived: Condvar,
    rung: std::sync::atomic::AtomicUsize,
}

impl Default for Bell {
    fn default() -> Self {
        Bell {
            signalled: Mutex::new(false),
            arrived: Condvar::new(),
            rung: std::sync::atomic::AtomicUsize::new(0),
        }
    }
}

impl Bell {
    pub(crate) fn ring(&self) {
        self.rung.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        *self.signalled.lock().unwrap() = true;
        self.arrived.notify_one();
    }

    pub(crate) fn wait(&self) {
        let mut signalled = self.signalled.lock().unwrap();
        while !*signalled {
            signalled = self.arrived.wait(signalled).unwrap();
        }
        *signalled = false;
    }

    pub(crate) fn rung(&self) -> usize {
        self.rung.load(std::sync::atomic::Ordering::Relaxed)
    }
}
