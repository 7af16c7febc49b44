//! Prometheus' text format, version 0.0.4. The names and labels are part of the public interface and do not change.

use super::histogram::{Distribution, BOUNDS_US};
use super::{Closed, CommonMetrics, ShardMetrics, Stats, TABLE};
use crate::metrics::Reason;
use std::fmt::Display;
use std::sync::atomic::Ordering;

/// The content of one answer: the plain metrics, and those with labels or buckets.
#[derive(Debug, Default)]
pub struct Exposition {
    stats: Stats,
    panics: u64,
    refusals: [u64; Reason::ALL.len()],
    closed: [u64; Closed::COUNT],
    latency: Distribution,
    turns: Distribution,
}

impl Exposition {
    pub(crate) fn collect<'m>(
        stats: Stats,
        shards: impl Iterator<Item = &'m ShardMetrics>,
        common: &CommonMetrics,
    ) -> Self {
        let panics = common.panics.load(Ordering::Relaxed);
        let mut all = Exposition { stats, panics, ..Exposition::default() };
        all.refusals = std::array::from_fn(|place| common.refusals[place].load(Ordering::Relaxed));
        for shard in shards {
            all.refusals.iter_mut().zip(&shard.refusals).for_each(|(all, one)| *all += one.get());
            all.closed.iter_mut().zip(&shard.closed.0).for_each(|(all, one)| *all += one.get());
            all.latency.add(&shard.latency);
            all.turns.add(&shard.turns);
        }
        all
    }
}

impl Display for Exposition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = Families(f);
        out.family("push_build_info", "gauge", "The library's version, as a label")?;
        out.sample("push_build_info", "version", env!("CARGO_PKG_VERSION"), 1)?;
        for metric in TABLE.iter().filter(|metric| metric.plain) {
            let (kind, suffix) = if metric.counter { ("counter", "_total") } else { ("gauge", "") };
            let name = format!("push_{}{suffix}", metric.name);
            out.family(&name, kind, metric.help)?;
            writeln!(out.0, "{name} {}", (metric.get)(&self.stats))?;
        }
        let stats = &self.stats;
        let subscribers =
            [("websocket", stats.websockets), ("sse", stats.sse), ("stream", stats.streams), ("poll", stats.polls)];
        let others = stats.connections.saturating_sub(subscribers.iter().map(|(_, count)| count).sum());
        out.labelled(
            (
                "push_connections",
                "gauge",
                "Connections open now. Transport none: connections that begin, end, or wait between polls",
            ),
            "transport",
            subscribers.into_iter().chain([("none", others)]),
        )?;
        let panics = "Panics that were caught in a thread, which ended its connections, or at the attach socket";
        out.family("push_panics_total", "counter", panics)?;
        writeln!(out.0, "push_panics_total {}", self.panics)?;
        out.labelled(
            (
                "push_refusals_total",
                "counter",
                "Refusals at all doors (clients, control API, attaching hosts), by reason",
            ),
            "reason",
            Reason::ALL.iter().map(|reason| (reason.word(), self.refusals[*reason as usize])),
        )?;
        out.labelled(
            ("push_closed_total", "counter", "Subscribers' connections that ended, polls excluded, by close code"),
            "code",
            Closed::LABELS.into_iter().zip(self.closed),
        )?;
        out.labelled(
            (
                "push_dropped_messages_total",
                "counter",
                "Messages that slow clients did not get, once for each client, by policy",
            ),
            "policy",
            [("drop-oldest", stats.dropped), ("latest", stats.replaced)].into_iter(),
        )?;
        out.histogram(
            "push_publish_latency_seconds",
            "Time from publishing to writing to the sockets of a thread's subscribers, for a sample of the messages and for each thread",
            &self.latency,
        )?;
        out.histogram("push_turn_seconds", "Duration of a turn of a thread's loop, for every 16th turn", &self.turns)
    }
}

/// Writes families of metrics.
struct Families<'f, 'a>(&'f mut std::fmt::Formatter<'a>);

impl Families<'_, '_> {
    fn family(&mut self, name: &str, kind: &str, help: &str) -> std::fmt::Result {
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}")
    }

    fn sample(&mut self, name: &str, label: &str, value: impl Display, count: u64) -> std::fmt::Result {
        writeln!(self.0, "{name}{{{label}=\"{value}\"}} {count}")
    }

    fn labelled(
        &mut self,
        (name, kind, help): (&str, &str, &str),
        label: &str,
        samples: impl Iterator<Item = (&'static str, u64)>,
    ) -> std::fmt::Result {
        self.family(name, kind, help)?;
        for (value, count) in samples {
            self.sample(name, label, value, count)?;
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, help: &str, distribution: &Distribution) -> std::fmt::Result {
        self.family(name, "histogram", help)?;
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
