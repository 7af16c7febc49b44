//! Spans of messages, for a collector of OpenTelemetry (option `trace`).
//!
//! A [`Span`] begins when this hub takes a publish. It ends when the last shard has handed the message to the last of its
//! connections: the socket has taken the bytes, or they wait in the outbox of a client that reads slowly. A sample of the
//! messages has one, and all those that a host has sampled (`traceparent`).
//!
//! The span of a message that is under way waits in a table (`under_way`), and the shards have only its [`Ticket`]. So a
//! message has no field for it, and costs nothing more where nothing is traced. What has ended waits in a bounded queue
//! (`queue`) for the thread that exports it (`exporter`). Nobody who publishes or delivers waits for that thread: what
//! finds no room is counted and dropped.

pub(crate) mod endpoint;
#[cfg(feature = "trace")]
mod exporter;
#[cfg(all(test, feature = "trace"))]
mod exporter_tests;
#[cfg(feature = "trace")]
mod otlp;
#[cfg(feature = "trace")]
mod post;
mod queue;
#[cfg(feature = "trace")]
mod refusals;
mod span;
mod traceparent;
mod under_way;

pub use endpoint::Endpoint;
#[cfg(feature = "trace")]
pub(crate) use exporter::{Exporter, Settings};
pub(crate) use span::Span;
pub use traceparent::Traceparent;
pub(crate) use under_way::Ticket;

use queue::Queue;
use span::Begun;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::Arc;
use under_way::UnderWay;

/// The most spans that have begun and not ended. Each has a name of a channel, so this bounds their memory.
const MAX_OPEN: usize = if cfg!(test) { 8 } else { 8192 };

/// The position of a message of the hub's epoch.
type PositionOf = Box<dyn Fn(u64) -> String + Send + Sync>;

/// Begins spans, and keeps them until they are exported. Any thread may call any method; none waits.
pub(crate) struct Tracer {
    /// Of how many publishes without a traceparent one has a span. 0: none has.
    one_in: AtomicU64,
    /// Counts these publishes.
    count: AtomicU64,
    /// Random bits.
    seed: u64,
    position_of: PositionOf,
    open: AtomicUsize,
    under_way: UnderWay,
    queue: Queue,
    tally: Tally,
}

partial_debug!(Tracer { open, tally });

/// What [`Tracer::outcomes`] says where nothing is traced.
pub(crate) const NO_OUTCOMES: [(&str, u64); 3] = [("exported", 0), ("rejected", 0), ("dropped", 0)];

/// What became of spans, since the start.
#[derive(Debug, Default)]
struct Tally {
    /// The collector has taken them.
    exported: AtomicU64,
    /// The collector has refused them.
    rejected: AtomicU64,
    /// There was no room for them, the exporter panicked at them, or they were left when the hub ended.
    dropped: AtomicU64,
    /// The exporter has panicked.
    panics: AtomicU64,
}

impl Tracer {
    /// `one_in`: see the option `trace_sample`. `room`: how many spans wait for the collector.
    pub(crate) fn new(one_in: u64, room: usize, position_of: PositionOf) -> Self {
        Tracer {
            one_in: AtomicU64::new(one_in),
            count: AtomicU64::new(0),
            seed: getrandom::u64().unwrap_or(0),
            position_of,
            open: AtomicUsize::new(0),
            under_way: UnderWay::default(),
            queue: Queue::new(room),
            tally: Tally::default(),
        }
    }

    /// Changes the sample.
    pub(crate) fn set_one_in(&self, one_in: u64) {
        self.one_in.store(one_in, Ordering::Relaxed);
    }

    /// Begins the span of a message, if the message is to have one. With a traceparent its sampled flag decides.
    /// `channel` is empty for a broadcast.
    pub(crate) fn begin(self: &Arc<Self>, parent: Option<&Traceparent>, channel: &str, bytes: usize) -> Option<Span> {
        let wanted = parent.map_or_else(|| self.chooses(), Traceparent::is_sampled);
        if !wanted {
            return None;
        }
        // A publisher that has all its messages traced must not wait for random bits if there is no room.
        let has_room = self.open.fetch_add(1, Ordering::Relaxed) < MAX_OPEN;
        // Without random bits a span could not be told from others.
        let begun = if has_room { Begun::now(parent, channel, bytes) } else { None };
        if begun.is_none() {
            self.open.fetch_sub(1, Ordering::Relaxed);
            self.tally.dropped.fetch_add(1, Ordering::Relaxed);
        }
        begun.map(|begun| Span::new(self.clone(), begun))
    }

    /// Whether the next publish without a traceparent has a span. Spread over the publishes, so that a pattern among
    /// them does not hide any.
    fn chooses(&self) -> bool {
        let one_in = self.one_in.load(Ordering::Relaxed);
        if one_in <= 1 {
            return one_in == 1;
        }
        let mixed = mix(self.count.fetch_add(1, Ordering::Relaxed) ^ self.seed);
        (u128::from(mixed) * u128::from(one_in)) >> 64 == 0
    }

    /// Takes the spans that have ended: channel, position, subscribers, and the shards that have handed the message on.
    #[cfg(test)]
    pub(crate) fn take_ended(&self) -> Vec<(String, String, u32, usize)> {
        let shown = |ended: span::Ended| {
            let span::Progress { position, subscribers, handed, .. } = ended.progress;
            (ended.begun.channel.into(), position.unwrap_or_default(), subscribers, handed.len())
        };
        self.queue.take(usize::MAX).into_iter().map(shown).collect()
    }

    /// A shard has handed a message to that many connections.
    pub(crate) fn handed(&self, ticket: Ticket, shard: usize, connections: u32) {
        self.under_way.handed(ticket, shard, connections);
    }

    /// Forgets all spans: no thread exports them any more. They have references to this, and would keep it for ever.
    pub(crate) fn end(&self) {
        self.under_way.end_all();
        self.tally.dropped.fetch_add(self.queue.take(usize::MAX).len() as u64, Ordering::Relaxed);
    }

    /// What became of spans, by outcome.
    pub(crate) fn outcomes(&self) -> [(&'static str, u64); 3] {
        let Tally { exported, rejected, dropped, .. } = &self.tally;
        [("exported", exported), ("rejected", rejected), ("dropped", dropped)]
            .map(|(outcome, count)| (outcome, count.load(Ordering::Relaxed)))
    }

    /// The panics of the thread that exports.
    pub(crate) fn panics(&self) -> u64 {
        self.tally.panics.load(Ordering::Relaxed)
    }
}

/// Spreads the bits of a number over all its bits (the finalizer of SplitMix64).
fn mix(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn tracer(one_in: u64, room: usize) -> Arc<Tracer> {
        Arc::new(Tracer::new(one_in, room, Box::new(|seq| format!("e-{seq}"))))
    }

    #[test]
    fn one_of_so_many_has_a_span_and_the_flag_of_a_traceparent_decides_for_itself() {
        let sampled = Traceparent::parse(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
        let not = Traceparent::parse(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00").unwrap();
        // The bounds are so wide that no chance exceeds them.
        for (one_in, least, most) in [(0, 0, 0), (1, 50_000, 50_000), (10, 4000, 6000), (1000, 1, 150)] {
            let tracer = tracer(one_in, 1);
            let chosen = (0..50_000).filter(|_| tracer.begin(None, "a", 1).is_some()).count();
            assert!((least..=most).contains(&chosen), "{chosen} of 50000 at one in {one_in}");
            assert!(tracer.begin(Some(&sampled), "a", 1).is_some());
            assert!(tracer.begin(Some(&not), "a", 1).is_none());
        }
    }

    #[test]
    fn the_sample_can_change() {
        let tracer = tracer(0, 1);
        assert!(tracer.begin(None, "a", 1).is_none());
        tracer.set_one_in(1);
        assert!(tracer.begin(None, "a", 1).is_some());
    }

    #[test]
    fn open_spans_are_bounded_and_further_ones_are_counted_as_dropped() {
        let tracer = tracer(1, 100);
        let held: Vec<Span> = (0..MAX_OPEN).map(|_| tracer.begin(None, "a", 1).unwrap()).collect();
        assert!(tracer.begin(None, "a", 1).is_none());
        assert_eq!(tracer.outcomes()[2], ("dropped", 1));
        drop(held);
        assert!(tracer.begin(None, "a", 1).is_some(), "there is room again");
        assert_eq!(tracer.queue.len(), 0, "what was not published has no span");
    }
}
