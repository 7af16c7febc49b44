//! Who is on a channel: at this hub, or at all hubs if it shares a log with others.

use super::Api;
use crate::cluster::{MergingUsers, Outcome, Question};
use crate::error::{Error, Kind};
use crate::shard::client::presence::Present;
use crate::users::{self, Counting, Users};
use crate::waiter::Waiter;
use std::sync::Arc;
use std::time::Duration;

/// How much later than it should an answer may come: the machine may be busy.
const SLACK: Duration = Duration::from_secs(5);

/// A question that is under way: who is on a channel.
#[derive(Debug)]
pub(crate) enum PendingUsers {
    /// The shards of this hub are asked.
    Here(Arc<Waiter<Present>>),
    /// They have answered.
    Counted(Counting),
    /// All hubs are asked.
    Everywhere(Arc<Waiter<Outcome>>),
    /// They have answered.
    Merged(Box<MergingUsers>),
}

impl PendingUsers {
    /// Goes on, by no more than a step. Returns the users when they are there.
    pub(crate) fn step(&mut self, after: &str, limit: usize) -> Option<Users> {
        match self {
            PendingUsers::Here(waiter) => {
                let counting = waiter.take()?.counting(after, limit);
                *self = PendingUsers::Counted(counting);
                None
            }
            PendingUsers::Counted(counting) => match counting.step() {
                true => None,
                false => Some(std::mem::take(counting).end()),
            },
            PendingUsers::Everywhere(waiter) => {
                *self = PendingUsers::Merged(Box::new(MergingUsers::new(waiter.take()?, limit)));
                None
            }
            PendingUsers::Merged(merging) => match merging.step() {
                true => None,
                false => Some(of_all(std::mem::take(&mut **merging).end())),
            },
        }
    }

    /// Whether there is something to do at once.
    pub(crate) fn is_counting(&self) -> bool {
        matches!(self, PendingUsers::Counted(_) | PendingUsers::Merged(_))
    }
}

/// The users of all hubs. No hub has the channel: nobody is on it.
fn of_all((users, outcome): (Option<Users>, Outcome)) -> Users {
    Users { hubs: Some(Box::new(outcome.hubs)), ..users.unwrap_or_default() }
}

impl Api {
    /// The users on a channel; see `push_users_get`. Waits until each shard has answered in its next turns, and each hub
    /// of the log in time.
    pub fn users(&self, channel: &str, after: &str, limit: usize) -> Result<Users, Error> {
        users::check(channel, after, limit)?;
        match self.begin_users(channel, after, limit, Duration::MAX)? {
            PendingUsers::Here(waiter) => {
                Ok(waiter.wait(Duration::MAX).unwrap_or_default().counting(after, limit).all())
            }
            PendingUsers::Counted(counting) => Ok(counting.all()),
            PendingUsers::Everywhere(waiter) => {
                let outcome = waiter.wait(self.patience_with_hubs() + SLACK);
                Ok(of_all(MergingUsers::new(outcome.ok_or_else(hubs_late)?, limit).all()))
            }
            PendingUsers::Merged(merging) => Ok(of_all(merging.all())),
        }
    }

    /// Begins to ask who is on a channel. Other hubs may take as long to answer as [`Self::patience_with_hubs`] says, and
    /// no longer than `time`.
    pub(crate) fn begin_users(
        &self,
        channel: &str,
        after: &str,
        limit: usize,
        time: Duration,
    ) -> Result<PendingUsers, Error> {
        if self.questions.is_none() {
            return Ok(PendingUsers::Here(self.present(channel)));
        }
        let waiter = Arc::new(Waiter::default());
        let told = waiter.clone();
        let question = Question::Users { channel, after, limit: limit as u32 };
        self.ask_all_within(time, question, Box::new(move |outcome| told.tell(outcome)))?;
        Ok(PendingUsers::Everywhere(waiter))
    }
}

/// The error where even this hub has not answered.
pub(crate) fn hubs_late() -> Error {
    Error::new(Kind::Busy, "this hub is too busy to ask the others, or ends; nothing was done, call again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster;
    use crate::engine::Hubs;

    /// Counts to the end. Returns the users, and how many steps it took.
    fn stepped(pending: &mut PendingUsers, after: &str, limit: usize) -> (Users, usize) {
        let mut steps = 0;
        loop {
            steps += 1;
            match pending.step(after, limit) {
                Some(users) => return (users, steps),
                None => assert!(pending.is_counting()),
            }
        }
    }

    #[test]
    fn a_large_channel_is_counted_in_many_short_steps() {
        let names: Vec<Arc<str>> = (0..100).map(|number| format!("u{:02}", number % 40).into()).collect();
        let waiter = Arc::new(Waiter::default());
        let mut pending = PendingUsers::Here(waiter.clone());
        assert!(pending.step("u05", 20).is_none() && !pending.is_counting(), "the shards have not answered");
        waiter.tell(Present::of(names.clone(), 2));
        let (users, steps) = stepped(&mut pending, "u05", 20);
        // A step of a test sorts or counts three names.
        assert!(steps > 2 * 100 / 3, "{steps}");
        assert_eq!(users, Present::of(names, 2).counting("u05", 20).all());
    }

    #[test]
    fn the_answers_of_all_hubs_are_put_together_in_many_short_steps() {
        let names = |from: usize| (from..from + 60).map(|number| format!("u{number:03}").into()).collect();
        let answers = (0..3).map(|hub| (hub as u64, cluster::users(1, Some((names(hub * 30), 1)), "", 50)));
        let outcome = Outcome { answers: answers.collect(), hubs: Hubs { asked: 3, answered: 3, ..Hubs::default() } };
        let waiter = Arc::new(Waiter::default());
        let mut pending = PendingUsers::Everywhere(waiter.clone());
        assert!(pending.step("", 50).is_none() && !pending.is_counting(), "the hubs have not answered");
        waiter.tell(outcome);
        let (users, steps) = stepped(&mut pending, "", 50);
        // A step of a test reads, sorts, counts or lists three names.
        assert!(steps > 3 * 3 * 50 / 3, "{steps}");
        assert_eq!((users.count, users.connections, users.page.len(), users.more), (120, 183, 50, true));
        assert_eq!(users.hubs.unwrap().answered, 3);
    }
}
