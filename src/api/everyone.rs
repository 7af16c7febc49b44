//! Who is on a channel: at this hub, or at all hubs if it shares a log with others.

use super::Api;
use crate::cluster::{merge_users, Outcome, Question};
use crate::error::{Error, Kind};
use crate::shard::client::presence::Present;
use crate::users::{self, Users};
use crate::waiter::Waiter;
use std::sync::Arc;
use std::time::Duration;

/// How much later than it should an answer may come: the machine may be busy.
const SLACK: Duration = Duration::from_secs(5);

/// A question that is under way: who is on a channel.
#[derive(Debug)]
pub(crate) enum Counting {
    Here(Arc<Waiter<Present>>),
    Everywhere(Arc<Waiter<Outcome>>),
}

impl Counting {
    /// The users, if the answer is there.
    pub(crate) fn take(&self, after: &str, limit: usize) -> Option<Users> {
        match self {
            Counting::Here(waiter) => Some(waiter.take()?.count(after, limit)),
            Counting::Everywhere(waiter) => Some(of_all(waiter.take()?, limit)),
        }
    }
}

/// The users in an outcome. No hub has the channel: nobody is on it.
fn of_all(outcome: Outcome, limit: usize) -> Users {
    let (users, outcome) = merge_users(outcome, limit);
    Users { hubs: Some(Box::new(outcome.hubs)), ..users.unwrap_or_default() }
}

impl Api {
    /// The users on a channel; see `push_users_get`. Waits until each shard has answered in its next turn, and each hub
    /// of the log in time.
    pub fn users(&self, channel: &str, after: &str, limit: usize) -> Result<Users, Error> {
        users::check(channel, after, limit)?;
        match self.begin_users(channel, after, limit, Duration::MAX)? {
            Counting::Here(waiter) => Ok(waiter.wait(Duration::MAX).unwrap_or_default().count(after, limit)),
            Counting::Everywhere(waiter) => {
                let outcome = waiter.wait(self.patience_with_hubs() + SLACK);
                Ok(of_all(outcome.ok_or_else(hubs_late)?, limit))
            }
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
    ) -> Result<Counting, Error> {
        if self.questions.is_none() {
            return Ok(Counting::Here(self.present(channel)));
        }
        let waiter = Arc::new(Waiter::default());
        let told = waiter.clone();
        let question = Question::Users { channel, after, limit: limit as u32 };
        self.ask_all_within(time, question, Box::new(move |outcome| told.tell(outcome)))?;
        Ok(Counting::Everywhere(waiter))
    }
}

/// The error where even this hub has not answered.
pub(crate) fn hubs_late() -> Error {
    Error::new(Kind::Timeout, "this hub is too busy to ask the others; nothing was done")
}
