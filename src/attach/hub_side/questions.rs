//! Questions of attached hosts: the counters, and which users are on a channel. The second takes the shards, or all
//! hubs of a log. It is waited for beside the other requests of the host, which pass it.

use super::requests::Done;
use super::{End, HubSide};
use crate::api::{Api, PendingUsers};
use crate::attach::wire::{self, FromHost, FromHub};
use crate::attach::MAX_IN_FLIGHT;
use crate::error::{Error, Kind};
use crate::users::Users;
use std::time::Duration;

/// The questions of one host that are under way at once. Further ones wait. docs/attach.md names the number.
const AT_ONCE: usize = 16;
/// The time of a host that does not say how long it waits: the default of the option `attach_timeout`.
const TIME_MS: u32 = 2000;

/// A question that is not answered: which users are on a channel.
#[derive(Debug)]
pub(super) struct Question {
    number: u64,
    channel: Box<str>,
    after: Box<str>,
    limit: usize,
    /// The answer is to leave until then.
    until: u64,
    /// Set while it is under way.
    pending: Option<PendingUsers>,
}

impl Question {
    /// Begins it if it waits, or goes on with it: there may be a million connections to count, and the messages of all
    /// hosts go through this thread. Returns the answer if it is there.
    fn answer(&mut self, api: &Api, now: u64) -> Option<Result<Users, Error>> {
        let pending = match &mut self.pending {
            Some(pending) => pending,
            None => {
                let left = self.until.saturating_sub(now);
                if left == 0 {
                    let text = format!(
                        "{AT_ONCE} questions of this host (push_users_get) are under way, and this one's turn did not \
                         come in time; nothing was asked, call again"
                    );
                    return Some(Err(Error::new(Kind::Busy, text)));
                }
                match api.begin_users(&self.channel, &self.after, self.limit, Duration::from_millis(left)) {
                    Ok(pending) => self.pending.insert(pending),
                    Err(error) => return Some(Err(error)),
                }
            }
        };
        pending.step(&self.after, self.limit).map(Ok)
    }

    /// Whether its users are being counted. Otherwise it waits for others.
    pub(super) fn is_counting(&self) -> bool {
        self.pending.as_ref().is_some_and(PendingUsers::is_counting)
    }
}

impl HubSide {
    /// Answers a request that publishes nothing, or lets it wait for its answer. `Later`: too many wait. A host of this
    /// library has no more.
    pub(super) fn ask(&mut self, id: u64, request: &FromHost<'_>) -> Result<Done, End> {
        let Some(attachment) = self.attached.get_mut(&id) else { return Ok(Done::Yes) };
        match request {
            FromHost::Stats { number } => {
                let json = self.api.collect_stats().json();
                FromHub::Stats { number: *number, json: json.as_bytes() }.write(attachment.out.tail());
            }
            FromHost::Users { number, channel, after, limit, time_ms } => {
                if attachment.questions.len() >= MAX_IN_FLIGHT {
                    return Ok(Done::Later);
                }
                // The rest of the time is for the way of the answer, and for a machine that is busy.
                let time = u64::from(time_ms.unwrap_or(TIME_MS)) * 3 / 4;
                let (channel, after) = ((*channel).into(), (*after).into());
                let until = self.now.saturating_add(time);
                let limit = *limit as usize;
                let question = Question { number: *number, channel, after, limit, until, pending: None };
                attachment.questions.push_back(question);
            }
            // A batch without messages: what comes before it is done.
            FromHost::Batch { number, .. } => {
                FromHub::Batched { number: *number, seqs: Vec::new() }.write(attachment.out.tail());
            }
            _ => {}
        }
        Ok(Done::Yes)
    }

    /// Answers the questions for which the answer is there.
    pub(super) fn answer_questions(&mut self) {
        for attachment in self.attached.values_mut().filter(|attachment| attachment.awaits_answers()) {
            let names_hubs = attachment.version >= wire::NAMES_HUBS;
            let (mut at, mut counts) = (0, false);
            while at < attachment.questions.len().min(AT_ONCE) {
                let question = &mut attachment.questions[at];
                // One count of a host goes on in a turn.
                if question.is_counting() && std::mem::replace(&mut counts, true) {
                    at += 1;
                    continue;
                }
                let number = question.number;
                match question.answer(&self.api, self.now) {
                    None => {
                        at += 1;
                        continue;
                    }
                    Some(Ok(mut users)) => {
                        users.hubs = users.hubs.filter(|_| names_hubs);
                        FromHub::Users { number, users }.write(attachment.out.tail());
                    }
                    Some(Err(error)) => {
                        let text = error.to_string();
                        FromHub::Failed { number, kind: error.kind(), text: &text }.write(attachment.out.tail());
                    }
                }
                attachment.questions.remove(at);
                // Requests of an older host may wait for this answer.
                self.again.now();
            }
        }
    }
}
