//! Options: who is on a channel, for those who ask (`channel.PATTERN.presence`).

use super::{GB, HOUR, KB};

options! {
    /// How long a user is still shown on a channel with `channel.PATTERN.presence` after the last connection has left
    /// it. So nobody leaves by loading a page again, or between two polls. A shorter time counts also for those who
    /// have left already
    presence_grace = "5s", live, Time(0, HOUR) in presence_grace_ms;

    /// Up to so many users on a channel, clients that follow its presence get each of them by name. Of more they get
    /// only the number, at most about once a second
    presence_detail = "100", live, Count(0, 10_000);

    /// Bytes of the names and the `info` of all users that are shown on channels, with the bookkeeping. Beyond that,
    /// users whose last connection has left give way, the longest gone first. If there are none, a newcomer is not
    /// shown until there is room
    presence_total = "16MB", live, Size(KB, 1024 * GB);
}
