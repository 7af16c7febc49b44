//! Prometheus' text format, version 0.0.4. The names and labels are part of the public interface and do not change.

use super::histogram::{Distribution, BOUNDS_US};
use super::{ByReason, Closed, CommonMetrics, ShardMetrics, Stats, TlsPlace, TABLE};
use crate::engine::shared::Numbers;
use crate::metrics::Reason;
use crate::sys::own;
use std::fmt::Display;
use std::sync::atomic::Ordering;

/// The content of one answer: the plain metrics, and those with labels or buckets.
#[derive(Debug, Default)]
pub struct Exposition {
    stats: Stats,
    panics: u64,
    lost: u64,
    reload_failed: bool,
    process: Option<own::Figures>,
    refusals: ByReason<u64>,
    tls_places: [(&'static str, u64); TlsPlace::COUNT],
    spans: [(&'static str, u64); 3],
    closed: [u64; Closed::COUNT],
    latency: Distribution,
    turns: Distribution,
    engine: Engine,
}

/// The state of the log that keeps the history.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Engine {
    /// Whether messages can be published.
    pub(crate) up: bool,
    /// Bytes that wait to be written.
    pub(crate) waiting: usize,
    /// Bytes of the log.
    pub(crate) log: u64,
    /// Of a log that hubs share.
    pub(crate) shared: Option<Numbers>,
    /// Words of other hubs that were dropped, by the reason.
    pub(crate) words: [(&'static str, u64); 5],
}

impl Default for Engine {
    fn default() -> Self {
        Engine { up: true, waiting: 0, log: 0, shared: None, words: [("", 0); 5] }
    }
}

impl Exposition {
    pub(crate) fn collect<'m>(
        stats: Stats,
        shards: impl Iterator<Item = &'m ShardMetrics>,
        common: &CommonMetrics,
        engine: Engine,
        spans: [(&'static str, u64); 3],
    ) -> Self {
        let panics = common.panics.load(Ordering::Relaxed);
        let lost = common.lost.load(Ordering::Relaxed);
        let tls_places = common.tls_places.counts();
        let reload_failed = common.reload_failed.load(Ordering::Relaxed);
        let process = common.process();
        let figures = Exposition { stats, panics, lost, engine, tls_places, ..Exposition::default() };
        let mut all = Exposition { reload_failed, process, spans, ..figures };
        for reason in Reason::ALL {
            all.refusals[reason] = common.refusals[reason].load(Ordering::Relaxed);
        }
        for shard in shards {
            Reason::ALL.iter().for_each(|reason| all.refusals[*reason] += shard.refusals[*reason].get());
            all.closed.iter_mut().zip(&shard.closed.0).for_each(|(all, one)| *all += one.get());
            all.latency.add(&shard.latency);
            all.turns.add(&shard.turns);
        }
        all
    }

    /// The same with panics that were counted elsewhere.
    pub(crate) fn with_panics(mut self, panics: u64) -> Self {
        self.panics += panics;
        self
    }
}

impl Display for Exposition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = Writer(f);
        let build = Family { name: "push_build_info", kind: GAUGE, help: "The library's version, as a label" };
        out.labelled(&build, "version", [(env!("CARGO_PKG_VERSION"), 1)].into_iter())?;
        for metric in TABLE.iter().filter(|metric| metric.plain) {
            let (kind, suffix) = if metric.counter { (COUNTER, "_total") } else { (GAUGE, "") };
            let name = format!("push_{}{suffix}", metric.name);
            out.plain(&Family { name: &name, kind, help: metric.help }, (metric.get)(&self.stats))?;
        }
        let stats = &self.stats;
        let subscribers =
            [("websocket", stats.websockets), ("sse", stats.sse), ("stream", stats.streams), ("poll", stats.polls)];
        let others = stats.connections.saturating_sub(subscribers.iter().map(|(_, count)| count).sum());
        out.labelled(
            &Family {
                name: "push_connections",
                kind: GAUGE,
                help: "Connections open now. Transport none: connections that begin, end, or wait between polls",
            },
            "transport",
            subscribers.into_iter().chain([("none", others)]),
        )?;
        let panics = Family {
            name: "push_panics_total",
            kind: COUNTER,
            help: "Panics that were caught in a thread of the library",
        };
        out.plain(&panics, self.panics)?;
        let lost = Family {
            name: "push_lost_messages_total",
            kind: COUNTER,
            help: "Messages of attached hosts that have gone, which were dropped before the log took them",
        };
        out.plain(&lost, self.lost)?;
        let reloads = "1 if the last reload of options has succeeded, or none was tried; 0 if it has failed";
        out.plain(&Family { name: "push_reload_success", kind: GAUGE, help: reloads }, (!self.reload_failed).into())?;
        let engine = &self.engine;
        for (name, help, value) in [
            ("push_engine_up", "Whether messages can be published: 0 while the log can't be written", engine.up.into()),
            ("push_engine_waiting_bytes", "Bytes that wait to be written to the log", engine.waiting as u64),
            ("push_engine_log_bytes", "Bytes of the log", engine.log),
        ] {
            out.plain(&Family { name, kind: GAUGE, help }, value)?;
        }
        if let Some(numbers) = engine.shared {
            out.shared_log(numbers)?;
            let name = "push_hub_words_dropped_total";
            let help = "Questions and answers of other hubs that were passed over, by reason";
            out.labelled(&Family { name, kind: COUNTER, help }, "reason", engine.words.into_iter())?;
        }
        out.labelled(
            &Family {
                name: "push_refusals_total",
                kind: COUNTER,
                help: "Refusals of clients, of control requests and of hosts that attach, by reason",
            },
            "reason",
            Reason::ALL.iter().map(|reason| (reason.word(), self.refusals[*reason])),
        )?;
        out.labelled(
            &Family {
                name: "push_tls_connections_total",
                kind: COUNTER,
                help: "Connections with TLS whose handshake was done, by the place where they are encrypted",
            },
            "place",
            self.tls_places.into_iter(),
        )?;
        out.labelled(
            &Family {
                name: "push_closed_total",
                kind: COUNTER,
                help: "Subscribers' connections that ended, polls excluded, by close code",
            },
            "code",
            Closed::labels().zip(self.closed),
        )?;
        out.labelled(
            &Family {
                name: "push_dropped_messages_total",
                kind: COUNTER,
                help: "Messages that slow clients did not get, once for each client, by policy",
            },
            "policy",
            [("drop-oldest", stats.dropped), ("latest", stats.replaced)].into_iter(),
        )?;
        let spans = "Spans of messages (option trace), by what became of them";
        out.labelled(
            &Family { name: "push_trace_spans_total", kind: COUNTER, help: spans },
            "outcome",
            self.spans.into_iter(),
        )?;
        out.histogram(
            &Family {
                name: "push_publish_latency_seconds",
                kind: HISTOGRAM,
                help: "Time from a publish to the sockets of a thread's subscribers, for a sample of the messages",
            },
            &self.latency,
        )?;
        out.histogram(
            &Family {
                name: "push_turn_seconds",
                kind: HISTOGRAM,
                help: "Duration of a turn of a thread's loop, for every 16th turn",
            },
            &self.turns,
        )?;
        self.process.map_or(Ok(()), |figures| out.process(figures))
    }
}

const COUNTER: &str = "counter";
const SUMMARY: &str = "summary";
const GAUGE: &str = "gauge";
const HISTOGRAM: &str = "histogram";

/// The head of a family of metrics.
struct Family<'t> {
    name: &'t str,
    kind: &'static str,
    help: &'static str,
}

/// Writes families of metrics.
struct Writer<'f, 'a>(&'f mut std::fmt::Formatter<'a>);

impl Writer<'_, '_> {
    fn head(&mut self, family: &Family<'_>) -> std::fmt::Result {
        let Family { name, kind, help } = family;
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}")
    }

    fn sample(&mut self, name: &str, label: &str, value: impl Display, count: u64) -> std::fmt::Result {
        writeln!(self.0, "{name}{{{label}=\"{value}\"}} {count}")
    }

    fn plain(&mut self, family: &Family<'_>, value: u64) -> std::fmt::Result {
        self.head(family)?;
        writeln!(self.0, "{} {value}", family.name)
    }

    fn labelled(
        &mut self,
        family: &Family<'_>,
        label: &str,
        samples: impl Iterator<Item = (&'static str, u64)>,
    ) -> std::fmt::Result {
        self.head(family)?;
        for (value, count) in samples {
            self.sample(family.name, label, value, count)?;
        }
        Ok(())
    }

    /// The metrics that all of Prometheus' client libraries have, under their names.
    fn process(&mut self, figures: own::Figures) -> std::fmt::Result {
        let seconds = |ms: u64| ms as f64 / 1000.0;
        let cpu = "User and system CPU time of the process in seconds";
        self.head(&Family { name: "process_cpu_seconds_total", kind: COUNTER, help: cpu })?;
        writeln!(self.0, "process_cpu_seconds_total {}", seconds(figures.cpu_ms))?;
        for (name, help, value) in [
            ("process_open_fds", "Open descriptors of the process", figures.open_descriptors),
            ("process_max_fds", "The limit of open descriptors", figures.max_descriptors),
            ("process_resident_memory_bytes", "Resident memory of the process", figures.resident_bytes),
            ("process_virtual_memory_bytes", "Virtual memory of the process", figures.virtual_bytes),
        ] {
            self.plain(&Family { name, kind: GAUGE, help }, value)?;
        }
        let started = "When the process was started, in seconds since 1970";
        self.head(&Family { name: "process_start_time_seconds", kind: GAUGE, help: started })?;
        writeln!(self.0, "process_start_time_seconds {}", seconds(figures.started_ms))
    }

    fn shared_log(&mut self, numbers: Numbers) -> std::fmt::Result {
        for (name, kind, help, value) in [
            ("push_engine_lag_entries", GAUGE, "Entries of the log that this hub has not applied", numbers.behind),
            ("push_engine_fences_total", COUNTER, "Epochs of the log that this hub has met", numbers.fences),
            (
                "push_engine_reconnects_total",
                COUNTER,
                "Connections to the log that were made again",
                numbers.reconnects,
            ),
        ] {
            self.plain(&Family { name, kind, help }, value)?;
        }
        let name = "push_engine_append_seconds";
        self.head(&Family { name, kind: SUMMARY, help: "Time from an append until the log has answered it" })?;
        writeln!(self.0, "{name}_sum {}\n{name}_count {}", numbers.append_us as f64 / 1e6, numbers.appends)
    }

    fn histogram(&mut self, family: &Family<'_>, distribution: &Distribution) -> std::fmt::Result {
        self.head(family)?;
        let name = family.name;
        let bucket = format!("{name}_bucket");
        let mut count = 0;
        for (bound, here) in BOUNDS_US.iter().zip(distribution.buckets) {
            count += here;
            self.sample(&bucket, "le", *bound as f64 / 1e6, count)?;
        }
        count += distribution.buckets[BOUNDS_US.len()];
        self.sample(&bucket, "le", "+Inf", count)?;
        writeln!(self.0, "{name}_sum {}\n{name}_count {count}", distribution.sum_us as f64 / 1e6)
    }
}
