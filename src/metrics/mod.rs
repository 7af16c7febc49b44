//! Counters and gauges. Each shard has its own and is the only one to write them, so that counting needs no shared
//! cache line.

pub mod histogram;
pub mod losses;
pub mod prometheus;
mod reason;
mod tls_place;

use crate::framing::close::{self, CODES};
use crate::sys::own;
use histogram::Histogram;
pub use reason::{ByReason, Reason};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::OnceLock;
pub use tls_place::{TlsPlace, TlsPlaces};

/// A number that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds. Only the thread that owns the number may call this.
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
    }

    /// Subtracts. Only the thread that owns the number may call this.
    pub fn sub(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).saturating_sub(amount), Ordering::Relaxed);
    }

    /// Sets it. Only the thread that owns the number may call this.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Reads. Any thread may call this.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! shard_metrics {
    ($($name:ident)*) => {
        /// The counters and gauges of one shard.
        #[derive(Debug, Default)]
        #[allow(missing_docs)] // `push_stats` describes each
        pub struct ShardMetrics {
            $(pub $name: Count,)*
            /// Refusals by reason. Refused requests of push.v1.json count here as well, and so do clients that are
            /// closed because of their rate. Neither counts in `refused`.
            pub refusals: ByReason<Count>,
            /// Ends of subscribers' connections by close code. Polls do not count.
            pub closed: Closed,
            /// The time from publishing a message to writing it to the sockets, for a sample of the messages.
            pub latency: Histogram,
            /// The duration of a turn of the shard's loop, for a sample of the turns.
            pub turns: Histogram,
        }

        impl ShardMetrics {
            /// Adds those that [`Stats`] has, too.
            fn add_to(&self, stats: &mut Stats) {
                $(stats.$name += self.$name.get();)*
            }
        }
    };
}

shard_metrics! {
    deliveries bytes_sent accepted adopted refused slow_closed dropped replaced outboxes outbox_bytes gaps received
    events_dropped calls calls_given_up calls_waiting publish_checks publish_checks_given_up
    publish_checks_waiting connections websockets sse streams polls
}

/// Counters that any thread writes, for events outside of shards.
#[derive(Debug, Default)]
pub struct CommonMetrics {
    pub(crate) refusals: ByReason<AtomicU64>,
    /// The refusals that were sent as an HTTP error to clients that no shard knows.
    pub(crate) refused: AtomicU64,
    /// Panics that were caught.
    pub(crate) panics: AtomicU64,
    /// Requests of attached hosts that could not be carried out.
    pub(crate) undone: AtomicU64,
    /// Messages of hosts that have gone, which were dropped before the log took them.
    pub(crate) lost: AtomicU64,
    /// The last reload has failed.
    pub(crate) reload_failed: AtomicBool,
    /// The losses of slow clients, by channel.
    pub(crate) losses: losses::Losses,
    /// When the process was started, in milliseconds since 1970, once somebody has asked.
    started_ms: OnceLock<u64>,
    /// Connections to `listen` whose TLS handshake was done.
    pub(crate) tls_places: TlsPlaces,
}

impl CommonMetrics {
    /// The figures of the process. When it was started stays the same.
    fn process(&self) -> Option<own::Figures> {
        let figures = own::figures()?;
        Some(own::Figures { started_ms: *self.started_ms.get_or_init(|| figures.started_ms), ..figures })
    }

    /// Counts a refusal.
    pub(crate) fn refusal(&self, reason: Reason) {
        self.refusals[reason].fetch_add(1, Ordering::Relaxed);
    }
}

/// Ends of connections, by close code.
#[derive(Debug, Default)]
pub struct Closed([Count; Closed::COUNT]);

impl Closed {
    /// The codes of the table, and all other codes together.
    const COUNT: usize = CODES.len() + 1;

    /// The labels of all counts, in their order.
    fn labels() -> impl Iterator<Item = &'static str> {
        CODES.iter().map(|&(_, label, _)| label).chain(["other"])
    }

    /// Counts the end of a connection.
    pub(crate) fn add(&self, code: u16) {
        self.0[close::place(code).unwrap_or(CODES.len())].add(1);
    }

    /// The label under which a code is counted.
    pub(crate) fn label(code: u16) -> &'static str {
        close::place(code).map_or("other", |place| CODES[place].1)
    }
}

impl ShardMetrics {
    /// Counts a refusal to a client.
    pub(crate) fn refusal(&self, reason: Reason) {
        self.refusals[reason].add(1);
    }

    /// The gauge of a transport.
    pub(crate) fn gauge(&self, transport: crate::framing::Transport) -> &Count {
        use crate::framing::Transport;
        match transport {
            Transport::WebSocket => &self.websockets,
            Transport::Sse => &self.sse,
            Transport::Stream => &self.streams,
            Transport::Poll => &self.polls,
        }
    }
}

/// One row of the table.
#[derive(Debug)]
pub struct Metric {
    /// Its name in JSON. In Prometheus the name has the prefix `push_`.
    pub name: &'static str,
    /// Whether it is a counter, which only grows, and not a gauge.
    pub counter: bool,
    /// Whether Prometheus gets it under its own name. If not, it is part of a family with labels.
    pub plain: bool,
    /// One line of help.
    pub help: &'static str,
    /// Its value.
    pub get: fn(&Stats) -> u64,
}

macro_rules! table {
    ($($name:ident $kind:ident $($part:ident)? $help:literal,)*) => {
        /// Counters and gauges of a server at one moment. [`TABLE`] describes them.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
        #[serde(default)] // a hub and its hosts may have different versions
        #[allow(missing_docs)]
        pub struct Stats {
            $(pub $name: u64,)*
        }

        /// All metrics, in the order of the output.
        pub static TABLE: &[Metric] = &[$(Metric {
            name: stringify!($name),
            counter: table!(@$kind),
            plain: table!(@plain $($part)?),
            help: $help,
            get: |stats| stats.$name,
        },)*];
    };
    (@counter) => { true };
    (@gauge) => { false };
    (@plain) => { true };
    (@plain part) => { false };
}

/// Gives the rows to another macro: name, counter or gauge, `part` if Prometheus has it in a family with labels, help.
macro_rules! stats_rows {
    ($given_to:ident) => {
        $given_to! {
            published counter "Messages published, broadcasts included",
            duplicates counter "Publishes that repeated an idempotency key and published nothing",
            busy counter "Publishes refused because a mailbox was full",
            deliveries counter "Messages handed to connections",
            bytes_sent counter "Bytes written to clients",
            accepted counter "Connections accepted on own listeners",
            adopted counter "Connections handed over by the host",
            refused counter "Requests refused with an HTTP error",
            slow_closed counter "Connections closed because they read too slowly",
            gaps counter "Gaps announced to clients",
            received counter "Messages that clients sent",
            events_dropped counter "Client messages dropped because no host wanted them",
            logs_dropped counter "Log lines dropped because the host was too slow",
            connections gauge part "Connections open now",
            websockets gauge part "WebSockets open now",
            sse gauge part "SSE streams open now",
            streams gauge part "NDJSON streams open now",
            polls gauge part "Polls waiting now",
            channels gauge "Channels that exist",
            subscriptions gauge "Subscriptions of connections to channels and patterns",
            history_messages gauge "Messages held in history",
            history_bytes gauge "Bytes held in history",
            seq gauge "The newest message's number",
            dropped counter part "Messages dropped for slow clients by the policy drop-oldest, once for each client",
            replaced counter part "Messages replaced by a newer one by the policy latest, once for each client",
            outboxes gauge "Connections with something in their outbox",
            outbox_bytes gauge "Bytes that wait in outboxes, bookkeeping included",
            inbox_bytes gauge "Bytes kept of unfinished messages and requests, and of messages that wait for the host",
            mailbox gauge "Messages that wait in the mailboxes of threads",
            events_waiting gauge "Events that wait for the host, or for attached hosts",
            hosts gauge "Attached hosts of other processes",
            logs_suppressed counter "Log lines left out because there were many of their kind",
            draining gauge "1 while clients are being sent away, and after that",
            undone counter "Requests of attached hosts that could not be carried out",
            ended_channels gauge "Channels whose stream has ended, and of which the end is kept",
            calls counter "Calls of clients that went to the host",
            calls_given_up counter "Calls that the host did not answer within call_timeout",
            calls_waiting gauge "Calls that wait for the host's answer",
            publish_checks counter "Messages of clients that went to the host to be checked",
            publish_checks_given_up counter "Messages of clients that the host did not check within call_timeout",
            publish_checks_waiting gauge "Messages of clients that wait for the host's check",
            patterns gauge "Different patterns that connections have",
            presence_members gauge "Users that are shown on channels with presence, once for each channel",
            presence_bytes gauge "Bytes of the names and infos of these users, bookkeeping included",
            presence_refused counter "Times without room to show a user on a channel, or its info (presence_total)",
        }
    };
}

pub(crate) use stats_rows;
stats_rows!(table);

impl Stats {
    /// Adds up the hub's numbers and those of all shards.
    pub(crate) fn collect<'m>(
        hub: &crate::hub::HubStats,
        shards: impl Iterator<Item = &'m ShardMetrics>,
        logs_dropped: u64,
    ) -> Self {
        let mut stats = Stats {
            published: hub.published,
            duplicates: hub.duplicates,
            busy: hub.busy,
            channels: hub.channels,
            subscriptions: hub.subscriptions,
            history_messages: hub.history_messages,
            history_bytes: hub.history_bytes,
            seq: hub.seq,
            ended_channels: hub.ended,
            patterns: hub.patterns,
            logs_dropped,
            ..Stats::default()
        };
        shards.for_each(|shard| shard.add_to(&mut stats));
        stats
    }

    /// A JSON object with all of them.
    pub fn json(&self) -> String {
        let fields: Vec<_> = TABLE.iter().map(|metric| format!("\"{}\":{}", metric.name, (metric.get)(self))).collect();
        format!("{{{}}}\n", fields.join(","))
    }
}
