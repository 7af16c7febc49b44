//! Options: hubs in another process, from both sides.

use super::{label, numbers, GB, KB, MINUTE};
use crate::config::showing::Raw;
use crate::config::values;

options! {
    /// Attaches to the hub of another process, at its `attach_listen`, instead of starting one here. Then only these
    /// other options apply: `auth=none`, `events`, `event_queue`, `log`, `log_fd`, `log_level`, `log_addresses`,
    /// `attach_name`, `attach_timeout` and `attach_buffer`, and for `push_refusal` also `allowed_origins` and `retry`.
    /// `attach_listen`, `control`, `engine` and `trace` are errors
    attach = "none", fixed, Text("none, or unix:PATH", values::unix_path);

    /// The name of this host at the hub. Hosts of the same name stand in for each other: when one is gone, its clients'
    /// events go to another
    attach_name = "host", fixed, Text("1 to 64 bytes without control characters", |text| label(text, 64));

    /// How long a call that needs the hub's answer waits for it. Then the call returns PUSH_ERR_BUSY if nothing was
    /// done, else PUSH_ERR_TIMEOUT. A connection that is handed over waits for the same time if the hub can't be
    /// reached or takes nothing. After that the client gets 503, and is told to come back
    attach_timeout = "2s", live, Time(0, MINUTE) in attach_timeout_ms;

    /// Bytes that may wait for the hub while it is slow or can't be reached. Beyond that, publishing returns
    /// PUSH_ERR_BUSY. Other calls have 1 MB more
    attach_buffer = "16MB", live, Size(64 * KB, 16 * GB);

    /// Where hosts of other processes may attach to this hub. Events then go to them
    attach_listen = "none", fixed, Text("none, or unix:PATH", values::unix_path);

    /// The mode of that socket's file
    attach_mode = "0600", fixed,
        Text("an octal number from 0600 to 0777", mode) shown |config| Raw::Text(format!("{:04o}", config.attach_mode));

    /// Users, by number, whose processes may attach. If this and `attach_gids` are empty: the hub's own user
    attach_uids = "", live, Text("a list of numbers", numbers);

    /// Groups, by number, whose processes may attach. Only a process's primary group counts
    attach_gids = "", live, Text("a list of numbers", numbers);
}

/// The mode of a file that its owner can use.
fn mode(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mode| mode & !0o777 == 0 && mode & 0o600 == 0o600)
}
