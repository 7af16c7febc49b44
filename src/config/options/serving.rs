//! Options: how the library does its work, and what clients may.

use crate::config::{origins, ClientPublish};
use crate::log::{Level, LogTo};

options! {
    /// How the host gets the log. `callback`: its function gets each line (push_config_on_log); without a function and
    /// without `log_fd` there is no log. `pull`: it takes the lines with push_next_log, as hosts need that can't be
    /// called from a thread of the library (LuaJIT, Ruby). Up to 4,096 lines wait; further ones are dropped and counted
    log = "callback", fixed, Word("callback or pull", "callback" => LogTo::Callback, "pull" => LogTo::Pull);

    /// The number of an open descriptor to which the log is written, such as 2 for stderr: a file, pipe, terminal or
    /// connected socket. Each line is one write with time, level and text, of at most 4,096 bytes. Up to 4,096 lines
    /// wait for a slow reader; further ones are dropped and counted. The descriptor is duplicated at the start, so a
    /// log file that is rotated needs copytruncate or a pipe, and the end of the server drops the program's fcntl locks
    /// on that file. It is not allowed beside a callback or `log=pull`
    log_fd = "none", fixed, Text("none, or the number of a descriptor", descriptor);

    /// The least severe level that is logged. At most 10 log lines of one kind about refusals and ends of connections
    /// are written in 10 seconds
    log_level = "info", live, Word(
        "error, warn, info or debug",
        "error" => Level::Error, "warn" => Level::Warn, "info" => Level::Info, "debug" => Level::Debug
    );

    /// Whether log lines about clients give their addresses
    log_addresses = "true", live, Flag();

    /// Threads that serve subscribers. 0: one for each core, at most 8
    threads = "0", fixed, Count(0, 64);

    /// Web origins that may subscribe besides the host's own, written as browsers send them. `https://*.example.org`:
    /// all subdomains of example.org, but not example.org itself. `*`: all origins
    allowed_origins = "", live, Text(
        "*, or a list of origins such as https://example.org, https://*.example.org",
        |text| origins::read(text).ok()
    );

    /// Whether clients without a grant may publish (subprotocol push.v1.json). What a client with a grant may publish,
    /// its grant says. `host`: as `true`, but each message of a client, with a grant or without, goes to the host
    /// first, which allows it, replaces it or refuses it (PUSH_EVENT_PUBLISH; `events` needs `publish`)
    client_publish = "false", live, Text("true, false or host", ClientPublish::read);

    /// Whether each user has a channel, `user:NAME`, to which push_publish_user publishes. A connection whose grant or
    /// token names a user has it beside its other channels, without asking. Then no client can name a channel that
    /// begins with `user:`, and no grant or token may. Hubs that share a log need the same value
    user_channel = "false", fixed, Flag();

    /// Whether messages to and from WebSocket clients that offer it are compressed (permessage-deflate). Each published
    /// message is compressed once for all of them. It is off by default for two reasons. First, sizes leak: if a
    /// message contains a secret and also text that an attacker can choose, the attacker can guess the secret from the
    /// sizes on the wire (CRIME, BREACH), even through TLS. Second, an uncompressed message needs no copy. Compression
    /// costs about 350 KB for each of `threads`, and nothing per client
    compression = "false", live, Flag();
}

/// The number of a descriptor, or none.
fn descriptor(text: &str) -> Option<Option<i32>> {
    match text {
        "none" => Some(None),
        // The standard library's numbers may begin with a sign, or with zeros.
        number => number.parse().ok().filter(|fd: &i32| *fd >= 0 && fd.to_string() == number).map(Some),
    }
}
