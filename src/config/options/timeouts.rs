//! Options: how long something may take, or goes on.

use super::{DAY, HOUR, MINUTE};

options! {
    /// How long a client may take to send its request
    head_timeout = "10s", live, Time(100, 10 * MINUTE) in head_timeout_ms;

    /// How long a WebSocket client may take to send one message, and how long any client may take to send one TLS
    /// record. Then it is closed with 4408. Pings in between do not extend it
    message_timeout = "60s", live, Time(100, HOUR) in message_timeout_ms;

    /// How often a connection gets a WebSocket ping, an SSE comment or an empty line, whether it is quiet or not. Each
    /// interval is shorter by up to an eighth, by chance
    heartbeat = "25s", live, Time(100, DAY) in heartbeat_ms;

    /// How long a WebSocket client may take to answer a ping. Then it is closed with 4408. On other transports: a
    /// client counts as gone if its machine acknowledges nothing for at least this time
    ping_timeout = "20s", live, Time(100, HOUR) in ping_timeout_ms;

    /// How long a long-poll waits before it is answered without messages
    poll_timeout = "25s", live, Time(100, HOUR) in poll_timeout_ms;

    /// How long a connection stays open between two polls
    keep_alive = "60s", live, Time(100, HOUR) in keep_alive_ms;

    /// How long a client may take to answer a close
    close_timeout = "5s", live, Time(100, 10 * MINUTE) in close_timeout_ms;

    /// How long a client is advised to wait before it comes back. A client that is sent away is told this time plus a
    /// random time of up to as much again
    retry = "2s", live, Time(100, HOUR) in retry_ms;
}
