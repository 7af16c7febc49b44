//! What is done to all connections of a user: at this hub at once, and at the other hubs of its log, if it has one, when
//! they read that there.

use super::{check_disconnection, checked_close, checked_revocation, Api};
use crate::error::{Error, Kind};
use crate::hub::{Act, OnSettled, Placing};
use crate::shard::client::sweep::{self, Tally};
use crate::shard::turn::command::Command;
use std::sync::Arc;

impl Api {
    /// Closes all connections of a user. Each shard does so in its next turn.
    pub fn disconnect_user(&self, user: &str, code: u16, reason: &str) -> Result<(), Error> {
        self.disconnect_users(&[user], code, reason, None, None).map(drop)
    }

    /// Takes a channel, or all channels that match a pattern, from a user's connections. Each shard does so in its next
    /// turn.
    pub fn revoke_channel(&self, user: &str, channel: &str, reason: &str) -> Result<(), Error> {
        self.revoke_channels(&[(user, channel)], reason, None).map(drop)
    }

    /// Like [`Self::disconnect_user`] for several users, or none if an argument is wrong. `on_settled` is called when
    /// the log has it, and is dropped if there is no log. `count` gets the number of connections that this hub closes.
    pub(crate) fn disconnect_users(
        &self,
        users: &[&str],
        code: u16,
        reason: &str,
        on_settled: Option<OnSettled>,
        count: Option<sweep::Tell>,
    ) -> Result<Placing, Error> {
        let closes = users.iter().map(|user| check_disconnection(user, code, reason)).collect::<Result<Vec<_>, _>>()?;
        let tally = count.map(Tally::new);
        for (user, close) in users.iter().zip(closes) {
            let user: Arc<str> = (*user).into();
            for shard in &self.shards {
                let (user, close, tally) = (user.clone(), close.clone(), tally.clone());
                shard.tell(Command::CloseUser { user, close, tally });
            }
        }
        let acts: Vec<Act<'_>> = users.iter().map(|user| Act::Disconnect { user, code, reason }).collect();
        self.tell_others(&acts, on_settled)
    }

    /// Closes all connections of this hub, some in each turn of a shard. `count` gets their number when all are told.
    pub(crate) fn disconnect_all(&self, code: u16, reason: &str, count: sweep::Tell) -> Result<(), Error> {
        let close = checked_close(code, reason)?;
        let tally = Tally::new(count);
        for shard in &self.shards {
            shard.tell(Command::CloseAll { close: close.clone(), tally: tally.clone() });
        }
        Ok(())
    }

    /// Like [`Self::revoke_channel`] for several pairs of a user and a channel, or none if an argument is wrong. `on_settled`
    /// is as for [`Self::disconnect_users`].
    pub(crate) fn revoke_channels(
        &self,
        pairs: &[(&str, &str)],
        reason: &str,
        on_settled: Option<OnSettled>,
    ) -> Result<Placing, Error> {
        let checked = |(user, channel): &(&'_ str, &'_ str)| {
            let (_, channels, reason) = checked_revocation(user, channel, reason)?;
            Ok((Arc::new(channels), Arc::<str>::from(reason)))
        };
        let checked = pairs.iter().map(checked).collect::<Result<Vec<_>, Error>>()?;
        let mut acts = Vec::with_capacity(pairs.len());
        for ((user, channel), (channels, reason)) in pairs.iter().zip(&checked) {
            let to: Arc<str> = (*user).into();
            for shard in &self.shards {
                let (user, channels, reason) = (to.clone(), channels.clone(), reason.clone());
                shard.tell(Command::Revoke { user, channels, reason });
            }
            acts.push(Act::Revoke { user, channels: channel, reason });
        }
        self.tell_others(&acts, on_settled)
    }

    fn tell_others(&self, acts: &[Act<'_>], on_settled: Option<OnSettled>) -> Result<Placing, Error> {
        let untold = |error: Error| {
            let text = match error.kind() {
                Kind::Busy => "too much waits to be appended to the log (option engine_buffer); call again",
                _ => "this hub ends",
            };
            Error::new(error.kind(), format!("this hub has done it, and has not told the other hubs: {text}"))
        };
        self.context.hub.tell_others(acts, on_settled).map_err(untold)
    }

    /// True if the hub shares a log with others.
    pub(crate) fn has_others(&self) -> bool {
        self.context.hub.has_others()
    }
}

/// The error of a caller who has waited long enough for the log to have an act.
pub(crate) fn not_in_time_for_others() -> Error {
    let text =
        "this hub has done it; the log has not answered in time (option engine_timeout), and the other hubs do it \
                when the log has it; it is safe to call again";
    Error::new(Kind::Timeout, text)
}
