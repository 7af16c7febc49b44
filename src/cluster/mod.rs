//! Questions to all hubs of a log, and their answers: who is on a channel, which channels there are, the counters.
//!
//! A question goes to all hubs as a [word](crate::engine), and each hub's answer comes back in parts. Words may be lost,
//! repeated or late. So a question has a deadline, and its outcome names the hubs that have not answered. This code has
//! no threads, no sockets and no clock.

mod ages;
#[cfg(test)]
mod ages_tests;
mod answers;
mod channels;
mod hashes;
mod table;
#[cfg(test)]
mod table_tests;
mod users;
mod words;

pub(crate) use ages::{Ages, Sent};
pub(crate) use answers::{merge_stats, stats, HubStats};
pub(crate) use channels::{channels, Channel, Channels, MergingChannels};
pub(crate) use table::{Asked, Done, Outcome, Table, Tell};
#[cfg(any(test, fuzzing))]
pub(crate) use users::users;
pub(crate) use users::{Answering, MergingUsers};
pub(crate) use words::{parts, Question, Said, Wrong};
