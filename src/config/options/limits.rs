//! Options: how many connections, how fast, how large; and the proxies that say whose they are.

use super::{KB, MB, MINUTE};
use crate::config::values::{ForwardedHeader, TrustedProxies};

options! {
    /// Open connections. Further clients get 503. 0: as many as descriptors allow
    max_connections = "0", live, Count(0, 10_000_000);

    /// Open connections of one IPv4 address or one IPv6 network of 64 bits. Further ones get 429. 0: no limit, since an
    /// address may be a proxy's or a whole town's
    max_per_address = "0", live, Count(0, 10_000_000);

    /// Open subscription connections of one user. Further ones get 429. 0: no limit
    max_per_user = "0", live, Count(0, 10_000_000);

    /// New connections per second. Further ones get 429. A second's worth may come at once. 0: no limit
    connect_rate = "0", live, Count(0, 1_000_000);

    /// The same for each address. Behind a trusted proxy it counts requests, not connections
    connect_rate_per_address = "0", live, Count(0, 1_000_000);

    /// Messages and pings per second of one WebSocket client. A second's worth may come at once. A client that sends
    /// more is read more slowly; one that is ten seconds ahead is closed with 4429. Each token that it sends takes a
    /// tenth of a second, and each pattern that it subscribes to a hundredth. 0: no limit
    client_rate = "1000", live, Count(0, 1_000_000);

    /// Proxies that may say what a client's address is, in `forwarded_header` and with `proxy_protocol`
    trusted_proxies = "", live, Text(
        "a list of IP addresses, networks such as 10.0.0.0/8, and unix for those that come through a Unix socket",
        TrustedProxies::read
    );

    /// The header that these proxies write. The other one is ignored, because it may be the client's own
    forwarded_header = "x-forwarded-for", live, Word(
        "x-forwarded-for or forwarded",
        "x-forwarded-for" => ForwardedHeader::XForwardedFor, "forwarded" => ForwardedHeader::Forwarded
    );

    /// Whether connections to `listen` begin with a PROXY header, version 1 or 2. If it is true, every connection must
    /// begin with one, and must come from `trusted_proxies`
    proxy_protocol = "false", fixed, Flag();

    /// Channels of one connection
    max_channels = "100", live, Count(1, 10_000);

    /// Patterns of one connection, such as `pattern=news.*` in its URL: it gets the messages of all channels whose
    /// names begin so. No pattern fits names that begin with `user:`. 0: nobody may subscribe to patterns
    max_patterns = "0", live, Count(0, 100);

    /// Different patterns of all connections together. A client that would be the first with one more gets 503
    patterns_total = "10000", live, Count(1, 1_000_000);

    /// Calls of one connection that wait for the host's answer (`events` with `call`), and messages of it that do
    /// (`client_publish=host`), together. Further ones are refused
    max_calls = "16", live, Count(1, 1000);

    /// How long a client's call, or a message that the host checks, waits for the host's answer. Then the client gets
    /// an error
    call_timeout = "10s", live, Time(100, 10 * MINUTE) in call_timeout_ms;

    /// The largest payload that may be published. If it is not set and `engine` is a NATS: 1020KB, which fits the
    /// defaults there
    max_message = "1MB", live, Size {
        min: 1,
        max: 64 * MB,
        set: |c, n| (c.max_message, c.sets_max_message) = (n as usize, true),
    };

    /// The largest message that a client may send. For a larger one the connection is closed with 1009
    max_client_message = "64KB", live, Size(1, 64 * MB);

    /// The largest request head. For a larger one the client gets 413, or 414 if the URL is the reason
    max_head = "16KB", live, Size(KB, 64 * KB);
}
