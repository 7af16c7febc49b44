//! Words of this hub to other hubs of the log, and theirs to this hub. They are about the present: without a connection
//! they are dropped.

use super::super::contract::{Word, MAX_WORD};
use super::Inlet;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The bytes of words that may wait to be said.
const BYTES: usize = 4 << 20;

/// Gets the words of other hubs.
type Listener = Box<dyn Fn(Vec<u8>) + Send + Sync>;

/// See the module.
#[derive(Default)]
pub(super) struct Words {
    queue: Mutex<(VecDeque<Word>, usize)>,
    listener: OnceLock<Listener>,
}

impl Words {
    /// The word that waits longest.
    pub(super) fn take(&self) -> Option<Word> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let word = queue.0.pop_front()?;
        queue.1 -= word.bytes.len();
        Some(word)
    }

    /// Drops what waits.
    pub(super) fn forget(&self) {
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = Default::default();
    }

    pub(super) fn waits(&self) -> bool {
        !self.queue.lock().unwrap_or_else(PoisonError::into_inner).0.is_empty()
    }

    /// A word has come.
    pub(super) fn hear(&self, bytes: Vec<u8>) {
        if let Some(listener) = self.listener.get() {
            listener(bytes);
        }
    }
}

impl Inlet {
    /// Says a word to a hub, or to all. False: it is too large, or too much waits, and it is dropped.
    pub(crate) fn say(&self, to: Option<u64>, bytes: Vec<u8>) -> bool {
        let mut queue = self.words.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes.len() > MAX_WORD || queue.1 + bytes.len() > BYTES {
            return false;
        }
        queue.1 += bytes.len();
        queue.0.push_back(Word { to, bytes });
        drop(queue);
        self.came.notify_one();
        true
    }

    /// Sets who gets the words of other hubs. It must not wait: the thread of the engine calls it.
    pub(crate) fn listen(&self, listener: Listener) {
        // There is one listener.
        let _ = self.words.listener.set(listener);
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Words").finish_non_exhaustive()
    }
}
