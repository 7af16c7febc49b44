//! Options: what may wait for slow clients, busy threads and the host.

use super::{GB, KB, MB};
use crate::events::EventKinds;
use crate::hub::SlowPolicy;

options! {
    /// Bytes that may wait for a client that reads slowly. Beyond that, `slow_policy` decides
    outbox = "1MB", live, Size(4 * KB, GB);

    /// What gives way when a client's outbox is full. `disconnect`: the connection; it is closed with 4429, and the
    /// client recovers with its position. `drop-oldest`: the messages that have waited longest; a gap stands in their
    /// place. `latest`: all waiting messages of a channel but the newest. `channel.PATTERN.slow_policy` sets it for the
    /// channels that match
    slow_policy = "disconnect", live, Word(
        "disconnect, drop-oldest or latest",
        "disconnect" => SlowPolicy::Disconnect, "drop-oldest" => SlowPolicy::DropOldest, "latest" => SlowPolicy::Latest
    );

    /// Bytes that may wait for all slow clients together, a share for each thread. The less of it is left, the smaller
    /// is the bound for each client. So the clients with the most waiting bytes reach the bound first
    outbox_total = "1GB", live, Size(MB, 1024 * GB);

    /// Bytes of unfinished messages and requests that may be kept for all clients together. Beyond that, the largest is
    /// closed with 4429, or gets 503. The bodies of control API requests may take as much again, and so may messages of
    /// clients that wait for the host's answer (`client_publish=host`)
    inbox_total = "64MB", live, Size(MB, 1024 * GB);

    /// Messages that may wait for a thread. Beyond that, publishing returns PUSH_ERR_BUSY
    mailbox = "8192", fixed, Count(16, 1 << 20);

    /// Which events about connections the host gets. Name only those that the host uses: then the rest do not wake it.
    /// `subscribe` and `unsubscribe` tell each channel that a connection gets and loses. With `call` clients may call
    /// the host and wait for its answer. `publish` is needed for `client_publish=host`. With `attach` a kind must stand
    /// in the hub's option and in the host's. Questions with auth=host, and events about draining, always come
    events = "open,message,close", live,
        Text("none, or a list of open, message, close, subscribe, unsubscribe, call and publish", EventKinds::read);

    /// Events that may wait for the host, each with up to `max_client_message` bytes. Beyond that, the clients that
    /// cause them are not read. Ends are told all the same: of connections, and with `unsubscribe` of each of their
    /// channels. At four times the number new clients get 503
    event_queue = "4096", fixed, Count(16, 1 << 20);
}
