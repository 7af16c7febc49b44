//! The spans of messages that are on their way to the sockets.

use super::span::Span;
use crate::sys::clock;
use rustc_hash::FxHashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// After this time a shard will not hand a message on any more: it has ended, or has lost the message in a panic.
const PATIENCE_US: u64 = 60_000_000;

/// Names the span of a message, for a shard. Most messages have none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Ticket(u32);

impl Ticket {
    /// Whether the message has a span.
    pub(crate) fn is_one(self) -> bool {
        self.0 != 0
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct UnderWay(Mutex<Table>);

#[derive(Default)]
struct Table {
    last: u32,
    spans: FxHashMap<Ticket, Waiting>,
}

struct Waiting {
    span: Span,
    /// The shards that have not handed the message on.
    shards: usize,
    since_us: u64,
}

impl UnderWay {
    /// Adds the span of a message that goes to that many shards.
    pub(super) fn add(&self, span: Span, shards: usize) -> Ticket {
        let since_us = clock::monotonic_us();
        let mut table = self.lock();
        // Far fewer are open than there are numbers.
        loop {
            table.last = table.last.wrapping_add(1);
            let ticket = Ticket(table.last);
            if ticket.is_one() && !table.spans.contains_key(&ticket) {
                table.spans.insert(ticket, Waiting { span, shards, since_us });
                return ticket;
            }
        }
    }

    /// A shard has handed the message to its connections.
    pub(super) fn handed(&self, ticket: Ticket, shard: usize, connections: u32) {
        let mut table = self.lock();
        let Some(waiting) = table.spans.get_mut(&ticket) else { return };
        waiting.span.note_handed(shard, connections);
        waiting.shards -= 1;
        let done = if waiting.shards == 0 { table.spans.remove(&ticket) } else { None };
        drop(table);
        // It goes into the queue without this lock.
        drop(done);
    }

    /// Ends the spans that have waited too long.
    pub(super) fn sweep(&self) {
        let now = clock::monotonic_us();
        self.end_those(|waiting| now.saturating_sub(waiting.since_us) > PATIENCE_US);
    }

    /// Lets all spans have waited too long.
    #[cfg(test)]
    pub(super) fn age(&self) {
        self.lock().spans.values_mut().for_each(|waiting| waiting.since_us = 0);
    }

    /// Ends all spans: there are no shards any more.
    pub(super) fn end_all(&self) {
        self.end_those(|_| true);
    }

    fn end_those(&self, ends: impl Fn(&Waiting) -> bool) {
        let mut table = self.lock();
        let ended: Vec<Waiting> =
            table.spans.extract_if(|_, waiting| ends(waiting)).map(|(_, waiting)| waiting).collect();
        drop(table);
        ended.iter().for_each(|waiting| waiting.span.note_unfinished());
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for UnderWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnderWay").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tracer;
    use super::*;

    #[test]
    fn a_message_that_no_shard_hands_on_ends_unfinished() {
        let tracer = tracer(1, 10);
        let ticket = tracer.begin(None, "a", 1).unwrap().place(1, None, 1, 2);
        tracer.handed(ticket, 0, 1);
        tracer.under_way.sweep();
        assert_eq!(tracer.queue.len(), 0, "it may still come");
        tracer.under_way.age();
        tracer.begin(None, "b", 1).unwrap().place(2, None, 1, 1);
        tracer.under_way.sweep();
        let [ended] = &tracer.queue.take(10)[..] else { panic!("one span") };
        assert!(ended.progress.is_unfinished && ended.progress.handed.len() == 1);
        tracer.under_way.end_all();
        assert_eq!(&*tracer.queue.take(10)[0].begun.channel, "b");
        tracer.handed(ticket, 1, 1);
        assert_eq!(tracer.queue.len(), 0);
    }

    #[test]
    fn a_ticket_is_not_that_of_another_span_and_never_none() {
        let tracer = tracer(1, 10);
        tracer.under_way.lock().last = u32::MAX - 1;
        let place = |seq| tracer.begin(None, "a", 1).unwrap().place(seq, None, 1, 1);
        let tickets = [place(1), place(2), place(3)];
        assert_eq!(tickets, [Ticket(u32::MAX), Ticket(1), Ticket(2)]);
        tracer.under_way.lock().last = 0;
        assert_eq!(place(4), Ticket(3));
    }
}
