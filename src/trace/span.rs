//! One span: the way of one message.

use super::under_way::Ticket;
use super::{Traceparent, Tracer};
use crate::sys::clock;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A span that has begun. Whoever still works on the message has a reference. When the last one is dropped the span has
/// ended, and goes to the collector: if the message was not published, it is forgotten. So no error on the way, and no
/// shard that ends, leaves a span open.
#[derive(Clone)]
pub(crate) struct Span(Arc<Open>);

struct Open {
    tracer: Arc<Tracer>,
    begun: Option<Begun>,
    progress: Mutex<Progress>,
}

partial_debug!(Span);

/// What is known of a span at its begin.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) trace: [u8; 16],
    pub(super) id: [u8; 8],
    pub(super) parent: Option<[u8; 8]>,
    /// Nanoseconds since 1970.
    pub(super) unix_ns: u64,
    /// The same moment on the clock by which the end is measured.
    pub(super) at_us: u64,
    /// Empty for a broadcast.
    pub(super) channel: Box<str>,
    pub(super) bytes: usize,
}

/// What has happened since.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// `None`: the message is not published.
    seq: Option<u64>,
    /// The position as text. It is made at the end, since a begun span has its number under the lock of the hub.
    pub(super) position: Option<String>,
    pub(super) subscribers: u32,
    /// Nothing was published: this is the position of the message with the same key.
    pub(super) is_duplicate: bool,
    /// Not all shards have handed it on.
    pub(super) is_unfinished: bool,
    pub(super) handed: Vec<Handed>,
    pub(super) last_us: u64,
}

/// A shard has handed the message to its connections.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) shard: usize,
    pub(super) connections: u32,
    pub(super) at_us: u64,
}

/// A span that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) begun: Begun,
    pub(super) progress: Progress,
}

impl Begun {
    /// `None` if the system has no random bits.
    pub(super) fn now(parent: Option<&Traceparent>, channel: &str, bytes: usize) -> Option<Self> {
        let mut random = [0; 24];
        getrandom::fill(&mut random).ok()?;
        let (trace, id) = random.split_first_chunk::<16>()?;
        // Ids of zeros are not valid.
        let id = u64::from_be_bytes(id.try_into().ok()?).max(1).to_be_bytes();
        let random_trace = u128::from_be_bytes(*trace).max(1).to_be_bytes();
        Some(Begun {
            trace: parent.map_or(random_trace, Traceparent::trace),
            id,
            parent: parent.map(Traceparent::parent),
            unix_ns: clock::unix_ns(),
            at_us: clock::monotonic_us(),
            channel: channel.into(),
            bytes,
        })
    }

    /// A moment of the other clock, in nanoseconds since 1970. The system's time may have been set meanwhile.
    pub(super) fn unix_ns_of(&self, at_us: u64) -> u64 {
        self.unix_ns.saturating_add(at_us.saturating_sub(self.at_us).saturating_mul(1000))
    }
}

impl Span {
    pub(super) fn new(tracer: Arc<Tracer>, begun: Begun) -> Self {
        Span(Arc::new(Open { tracer, begun: Some(begun), progress: Mutex::default() }))
    }

    /// The message has its number, and goes to that many shards. The result goes with it to each of them. `position`: of
    /// a hub whose epoch changes.
    pub(crate) fn place(&self, seq: u64, position: Option<String>, subscribers: u32, shards: usize) -> Ticket {
        {
            let mut progress = self.0.progress();
            (progress.seq, progress.position) = (Some(seq), position);
            (progress.subscribers, progress.last_us) = (subscribers, clock::monotonic_us());
        }
        match shards {
            0 => Ticket::default(),
            _ => self.0.tracer.under_way.add(self.clone(), shards),
        }
    }

    /// Nothing is published, as the message with this number has the same key. `position`: as for [`Self::place`].
    pub(crate) fn found(&self, seq: u64, position: Option<String>) {
        let mut progress = self.0.progress();
        if progress.seq.is_none() {
            (progress.seq, progress.position) = (Some(seq), position);
            (progress.is_duplicate, progress.last_us) = (true, clock::monotonic_us());
        }
    }

    pub(super) fn note_handed(&self, shard: usize, connections: u32) {
        let at_us = clock::monotonic_us();
        let mut progress = self.0.progress();
        progress.last_us = progress.last_us.max(at_us);
        progress.handed.push(Handed { shard, connections, at_us });
    }

    pub(super) fn note_unfinished(&self) {
        let mut progress = self.0.progress();
        (progress.is_unfinished, progress.last_us) = (true, clock::monotonic_us());
    }
}

impl Open {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.tracer.open.fetch_sub(1, Ordering::Relaxed);
        let mut progress = std::mem::take(self.progress.get_mut().unwrap_or_else(PoisonError::into_inner));
        let (Some(begun), Some(seq)) = (self.begun.take(), progress.seq) else { return };
        progress.position.get_or_insert_with(|| (self.tracer.position_of)(seq));
        if !self.tracer.queue.add(Ended { begun, progress }) {
            self.tracer.tally.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tracer;
    use super::*;

    #[test]
    fn a_span_ends_after_the_last_shard_and_says_what_each_has_done() {
        let tracer = tracer(1, 10);
        let span = tracer.begin(None, "news", 5).unwrap();
        let ticket = span.place(7, None, 3, 2);
        drop(span);
        tracer.handed(ticket, 1, 2);
        assert_eq!(tracer.queue.len(), 0, "a shard is missing");
        tracer.handed(ticket, 0, 1);
        tracer.handed(ticket, 0, 1);
        let [ended] = &tracer.queue.take(10)[..] else { panic!("one span") };
        assert_eq!((&*ended.begun.channel, ended.begun.bytes), ("news", 5));
        let Progress { position, subscribers, handed, is_unfinished, last_us, .. } = &ended.progress;
        assert_eq!((position.as_deref(), *subscribers, *is_unfinished), (Some("e-7"), 3, false));
        assert_eq!(handed.iter().map(|one| (one.shard, one.connections)).collect::<Vec<_>>(), [(1, 2), (0, 1)]);
        assert_eq!(*last_us, handed[1].at_us);
        assert!(ended.begun.at_us <= handed[0].at_us && ended.begun.parent.is_none());
    }

    #[test]
    fn a_span_without_subscribers_ends_with_its_publish() {
        let tracer = tracer(1, 10);
        let span = tracer.begin(None, "news", 5).unwrap();
        assert_eq!(span.place(7, Some("f-7".into()), 0, 0), Ticket::default());
        drop(span);
        let [ended] = &tracer.queue.take(10)[..] else { panic!("one span") };
        assert_eq!(ended.progress.position.as_deref(), Some("f-7"));
        assert_eq!(tracer.open.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_published_already_says_so_and_what_is_refused_has_no_span() {
        let tracer = tracer(1, 10);
        drop(tracer.begin(None, "news", 5));
        assert_eq!(tracer.queue.len(), 0);
        tracer.begin(None, "news", 5).unwrap().found(3, None);
        let [ended] = &tracer.queue.take(10)[..] else { panic!("one span") };
        assert_eq!((ended.progress.position.as_deref(), ended.progress.is_duplicate), (Some("e-3"), true));
    }

    #[test]
    fn ids_are_those_of_the_parent_or_new_ones() {
        let text = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parent = Traceparent::parse(text).unwrap();
        let child = Begun::now(Some(&parent), "a", 1).unwrap();
        assert_eq!((child.trace, child.parent), (parent.trace(), Some(parent.parent())));
        assert!(child.id != parent.parent());
        let (one, other) = (Begun::now(None, "a", 1).unwrap(), Begun::now(None, "a", 1).unwrap());
        assert!(one.trace != other.trace && one.id != other.id && one.parent.is_none());
        assert_eq!(one.unix_ns_of(one.at_us + 5), one.unix_ns + 5000);
        assert_eq!(one.unix_ns_of(0), one.unix_ns, "no span ends before its begin");
    }
}
