//! Words of this hub to other hubs of the log, and theirs to this hub. They are about the present: without a connection
//! they are dropped.

use super::super::contract::{Word, MAX_WORD};
use super::Inlet;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The bytes of words that may wait to be said, and those of words to all beyond that.
const BYTES: usize = 4 << 20;
const BYTES_TO_ALL: usize = 1 << 20;

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
    /// Says a word to a hub, or to all. One to all is a question of this hub, and does not wait behind its answers.
    /// False: it is too large, or too much waits, and it is dropped.
    pub(crate) fn say(&self, to: Option<u64>, bytes: Vec<u8>) -> bool {
        let mut queue = self.words.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let most = if to.is_none() { BYTES + BYTES_TO_ALL } else { BYTES };
        if bytes.len() > MAX_WORD || queue.1 + bytes.len() > most {
            return false;
        }
        queue.1 += bytes.len();
        match to {
            None => queue.0.push_front(Word { to, bytes }),
            Some(_) => queue.0.push_back(Word { to, bytes }),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_said_before_the_answers_that_wait_and_finds_room() {
        let inlet = Inlet::new(1, 1 << 20);
        let said = (0..200).filter(|_| inlet.say(Some(2), vec![0; MAX_WORD])).count();
        assert_eq!(said, BYTES / MAX_WORD);
        assert!(inlet.say(None, vec![1; MAX_WORD]) && !inlet.say(None, vec![1; MAX_WORD + 1]));
        assert_eq!(inlet.words.take().unwrap().to, None);
        assert_eq!(std::iter::from_fn(|| inlet.words.take()).count(), said);
        assert!(inlet.say(Some(2), vec![0; MAX_WORD]), "there is room again");
    }
}
