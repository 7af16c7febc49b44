//! Health, counters and gauges.

use super::Api;
use crate::engine::shared::Member;
use crate::error::Error;
use crate::log::Level;
use crate::metrics::prometheus::{Engine, Exposition};
use crate::metrics::Stats;
use crate::trace::NO_OUTCOMES;
use std::fmt;
use std::sync::atomic::Ordering;

impl Api {
    /// The reason why no message can be published at present. `None` if there is no such problem.
    pub fn failure(&self) -> Option<String> {
        Some(format!("engine: {}", self.context.engine.failure()?))
    }

    /// The hubs that follow the log of this one, as far as their heartbeats show. `None` if it shares none.
    pub(crate) fn members(&self) -> Option<Vec<Member>> {
        self.context.engine.shared().map(|shared| shared.members())
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Result<Stats, Error> {
        Ok(self.collect_stats())
    }

    /// Like [`Self::stats`]. In this process it can't fail.
    pub(crate) fn collect_stats(&self) -> Stats {
        let metrics = self.shards.iter().map(|shard| &shard.metrics);
        let mut stats = Stats::collect(&self.context.hub.stats(), metrics, self.context.log.dropped());
        let context = &self.context;
        stats.refused += self.context.metrics.refused.load(Ordering::Relaxed);
        stats.events_dropped += context.events.dropped();
        stats.events_waiting = context.events.waiting() as u64;
        stats.mailbox = self.shards.iter().map(|shard| shard.mailbox.waiting() as u64).sum();
        stats.inbox_bytes = context.inboxes.all_bytes() as u64;
        stats.hosts = context.hosts.count() as u64;
        stats.undone = context.metrics.undone.load(Ordering::Relaxed);
        stats.logs_suppressed = context.log.suppressed();
        stats.draining = context.drained.has_begun().into();
        let presence = self.context.presence.figures();
        stats.presence_members = presence.members;
        stats.presence_bytes = presence.bytes;
        stats.presence_refused = presence.refused;
        stats
    }

    /// Notes a panic that was caught outside of the shards.
    pub(crate) fn note_panic(&self, text: fmt::Arguments<'_>) {
        self.context.metrics.panics.fetch_add(1, Ordering::Relaxed);
        self.context.log.line(Level::Error, text);
    }

    /// Counters, gauges, and the metrics with labels or buckets, for Prometheus.
    pub fn exposition(&self) -> Exposition {
        let shards = self.shards.iter().map(|shard| &shard.metrics);
        let tracer = self.context.hub.tracer();
        let (spans, panics) = tracer.map_or((NO_OUTCOMES, 0), |tracer| (tracer.outcomes(), tracer.panics()));
        let common = &self.context.metrics;
        Exposition::collect(self.collect_stats(), shards, common, self.engine(), spans).with_panics(panics)
    }

    fn engine(&self) -> Engine {
        if let Some(shared) = self.context.engine.shared() {
            return Engine {
                up: shared.status.failure().is_none(),
                waiting: shared.inlet.waiting(),
                shared: Some(shared.status.numbers()),
                words: self.questions.as_ref().map_or([("", 0); 5], |questions| questions.dropped().by_reason()),
                ..Engine::default()
            };
        }
        self.context.engine.disk().map_or(Engine::default(), |engine| Engine {
            up: engine.behind.failure().is_none(),
            waiting: engine.behind.waiting(),
            log: engine.bytes(),
            ..Engine::default()
        })
    }
}
