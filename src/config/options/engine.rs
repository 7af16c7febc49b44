//! Options: whether what was published outlives the process.

use super::{within, DAY, GB, KB, MB, MINUTE};
use crate::config::showing::{or_auto, Raw};
use crate::config::values::{self, Engine};
use crate::engine::{hub_name, Sync, Url};

options! {
    /// Where history is kept. `file:DIRECTORY`: in a log on disk as well, so that it survives a restart. The directory
    /// belongs to this hub alone. If it does not exist, the hub makes it, but not the directories above it. The URL of
    /// a Redis (`redis://`, `rediss://`, `redis+sentinel://`) or of a NATS with JetStream (`nats://`, `tls://`): in a
    /// log that the hubs of several machines share. Secrets in the URL may be `file:PATH`. See docs/engines.md
    engine = "memory", fixed,
        Text("memory, file:DIRECTORY, or a URL with redis://, rediss://, redis+sentinel://, nats:// or tls://", engine);

    /// Names the log that hubs share, among other logs on the same servers. All hubs with the same namespace are one
    /// cluster: each of them applies every message
    engine_namespace = "push", fixed, Text("1 to 64 letters, digits, - and _", namespace);

    /// The name of this hub for operators, where hubs share a log: `/v1/hubs` has it, and so have answers in which the
    /// hub is missing. `auto`: the name of the machine with the port of `control`, or else of `listen`, as `web-1:9099`;
    /// without a port the number of the process, as `web-1/4711`
    hub_name = "auto", fixed, Text("auto, or 1 to 64 letters, digits and - _ . : @ /", named)
        shown |c| Raw::Text(c.hub_name.clone().unwrap_or_else(|| "auto".into()));

    /// When the log is synced, so that it outlasts a loss of power. `interval`: each second. `always`: before a message
    /// is delivered, many messages at once. `never`: when the system decides to
    engine_sync = "interval", fixed, Word(
        "interval, always or never", "interval" => Sync::Interval, "always" => Sync::Always, "never" => Sync::Never
    );

    /// With `engine_sync=always`, or with a log that hubs share: how long a call that returns a position waits for that
    /// position. After this time it returns PUSH_ERR_TIMEOUT: the message may have been published, or may be published
    /// later. With a log that hubs share this is also how long its servers may take to answer; less than 100 ms counts
    /// as 100 ms
    engine_timeout = "5s", live, Time(0, MINUTE) in engine_timeout_ms;

    /// How long the log keeps messages. `auto`: as long as the longest `history_age`, or `key_window`
    engine_retention_age = "auto", live, Text(
        "auto, or a time from 1m to 365d",
        |text| unless_auto(text, |text| within(values::time_ms(text), MINUTE, 365 * DAY))
    ) in engine_retention_age_ms shown |c| or_auto(c.engine_retention_age_ms, values::show_time);

    /// Bytes of the log. Beyond that, its oldest segments go. `auto`: four times `history_total`, and at least 256MB
    engine_retention_bytes = "auto", live, Text(
        "auto, or a size from 1MB to 1048576GB",
        |text| unless_auto(text, |text| within(values::size(text), MB, GB << 20))
    ) shown |c| or_auto(c.engine_retention_bytes, values::show_size);

    /// Bytes that may wait for the log: to be written, to be synced before they are delivered (`always`), or to come
    /// back from a log that hubs share. Beyond that, publishing returns PUSH_ERR_BUSY
    engine_buffer = "16MB", live, Size(64 * KB, 16 * GB);
}

fn engine(text: &str) -> Option<Engine> {
    match text.strip_prefix("file:") {
        _ if text == "memory" => Some(Engine::Memory),
        Some(path) if !path.is_empty() && !path.contains('\0') => Some(Engine::File(path.into())),
        _ => Url::parse(text).map(Engine::Log),
    }
}

fn namespace(text: &str) -> Option<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    ((1..=64).contains(&text.len()) && text.bytes().all(fits)).then(|| text.into())
}

/// A bound, or none for `auto`.
fn unless_auto(text: &str, read: fn(&str) -> Option<u64>) -> Option<Option<u64>> {
    if text == "auto" {
        return Some(None);
    }
    read(text).map(Some)
}

/// The outer `None`: it is no name. The inner one: `auto`.
fn named(text: &str) -> Option<Option<String>> {
    hub_name::fits(text).then(|| Some(text.to_owned()).filter(|name| name != "auto"))
}
