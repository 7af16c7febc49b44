//! What the thread of the questions has to do. This hub's own things come first, however much others ask.

use crate::cluster::{Answering, Done};
use std::collections::VecDeque;

/// The words that may wait of each kind, and the bytes of all together. Further ones are dropped.
const WORDS: usize = 4096;
const WORD_BYTES: usize = 16 << 20;

/// A thing to do.
pub(super) enum Todo {
    /// A word: a part of an answer to this hub, or a question of another one.
    Word(Vec<u8>),
    /// This hub's own question, which it answers, too.
    Own(Vec<u8>),
    /// The shards have said who is on a channel. They are counted here, in steps: with each it stands here anew, behind
    /// what has come meanwhile.
    Count(Count),
    /// The time of a question of this hub is over. Its asker is told.
    Over(Done),
}

/// See [`Todo::Count`].
pub(super) struct Count {
    pub(super) of: super::Of,
    /// The place of the question, if another hub has asked it.
    pub(super) place: Option<super::Place>,
    /// `None`: there is no such channel.
    pub(super) answering: Option<Answering>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Queue {
    own: VecDeque<Todo>,
    of_others: VecDeque<Todo>,
    /// The bytes of the words among them.
    bytes: usize,
}

impl Queue {
    /// Adds a word that has come. False: there is no room.
    pub(super) fn hear(&mut self, bytes: Vec<u8>, is_own: bool) -> bool {
        let queue = if is_own { &mut self.own } else { &mut self.of_others };
        if queue.len() >= WORDS || self.bytes + bytes.len() > WORD_BYTES {
            return false;
        }
        self.bytes += bytes.len();
        queue.push_back(Todo::Word(bytes));
        true
    }

    /// Adds something for which there is always room. Questions that nobody waits for any more may be among these, but
    /// they are only taken out again: the table bounds those that are answered.
    pub(super) fn leave(&mut self, todo: Todo, is_own: bool) {
        let queue = if is_own { &mut self.own } else { &mut self.of_others };
        queue.push_back(todo);
    }

    /// The next thing to do.
    pub(super) fn take(&mut self) -> Option<Todo> {
        let todo = self.own.pop_front().or_else(|| self.of_others.pop_front())?;
        if let Todo::Word(bytes) = &todo {
            self.bytes -= bytes.len();
        }
        Some(todo)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(queue: &mut Queue) -> Option<Vec<u8>> {
        match queue.take()? {
            Todo::Word(bytes) | Todo::Own(bytes) => Some(bytes),
            Todo::Count(_) | Todo::Over(_) => None,
        }
    }

    #[test]
    fn what_is_this_hubs_own_comes_first_and_finds_room() {
        let mut queue = Queue::default();
        (0..2 * WORDS).for_each(|at| assert_eq!(queue.hear(b"asked".to_vec(), false), at < WORDS));
        assert!(queue.hear(b"answer".to_vec(), true));
        queue.leave(Todo::Own(b"question".to_vec()), true);
        let all: Vec<Vec<u8>> = std::iter::from_fn(|| taken(&mut queue)).collect();
        assert_eq!((&*all[0], &*all[1], all.len()), (&b"answer"[..], &b"question"[..], WORDS + 2));
        assert_eq!(queue.bytes, 0);
        assert!(!queue.hear(vec![0; WORD_BYTES + 1], true));
    }
}
