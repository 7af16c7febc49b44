//! The spans of messages that are on their way to the sockets.

use super::span::Span;
use crate::sys::clock;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// After this time a shard will not hand a message on any more: it has ended, or has lost the message in a panic.
const PATIENCE_US: u64 = 60_000_000;
/// How many spans end under one lock. Publishers need the lock, so it is held for some microseconds only.
const AT_ONCE: usize = if cfg!(test) { 3 } else { 64 };

/// Names the span of a message, for a shard. Most messages have none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
    /// By number, so that nobody has to look through all for the oldest.
    spans: BTreeMap<Ticket, Waiting>,
}

partial_debug!(UnderWay);

struct Waiting {
    span: Span,
    /// The shards that have not handed the message on.
    shards: usize,
    since_us: u64,
}

impl Table {
    /// Takes the span that waits longest, if it is to end.
    ///
    /// Numbers are given in turn, and begin anew after the highest. So the oldest span is the first one behind the last
    /// number that was given or, if there is none, the first of all.
    fn take_oldest(&mut self, ends: impl Fn(&Waiting) -> bool) -> Option<Span> {
        let behind = self.spans.range((Bound::Excluded(Ticket(self.last)), Bound::Unbounded)).next();
        let (ticket, _) = behind.or_else(|| self.spans.first_key_value()).filter(|(_, oldest)| ends(oldest))?;
        let ticket = *ticket;
        self.spans.remove(&ticket).map(|waiting| waiting.span)
    }
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

    /// Ends the spans that have waited too long. It looks at these alone, and at the oldest of the others.
    pub(super) fn sweep(&self) {
        let now = clock::monotonic_us();
        self.end_those(|waiting| now.saturating_sub(waiting.since_us) > PATIENCE_US);
    }

    /// Ends all spans: there are no shards any more.
    pub(super) fn end_all(&self) {
        self.end_those(|_| true);
    }

    fn end_those(&self, ends: impl Fn(&Waiting) -> bool) {
        while self.end_some(&ends) == AT_ONCE {}
    }

    /// Ends some of the oldest spans, and returns how many. After the last one this is fewer than [`AT_ONCE`].
    fn end_some(&self, ends: impl Fn(&Waiting) -> bool) -> usize {
        let mut ended = Vec::with_capacity(AT_ONCE);
        let mut table = self.lock();
        while ended.len() < AT_ONCE {
            let Some(span) = table.take_oldest(&ends) else { break };
            ended.push(span);
        }
        drop(table);
        // They go into the queue without this lock.
        ended.iter().for_each(Span::note_unfinished);
        ended.len()
    }

    /// Lets all spans have waited too long.
    #[cfg(test)]
    pub(super) fn age(&self) {
        self.lock().spans.values_mut().for_each(|waiting| waiting.since_us = 0);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tracer;
    use super::*;
    use std::cell::Cell;

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
    fn the_oldest_end_first_and_few_of_them_under_one_lock() {
        let tracer = tracer(1, 10);
        // The numbers begin anew on the way.
        tracer.under_way.lock().last = u32::MAX - 3;
        let tickets: Vec<_> = (1..=7).map(|seq| tracer.begin(None, "a", 1).unwrap().place(seq, None, 1, 1)).collect();
        assert_eq!((tickets[2], tickets[3]), (Ticket(u32::MAX), Ticket(1)));
        for ticket in &tickets[..5] {
            tracer.under_way.lock().spans.get_mut(ticket).unwrap().since_us = 0;
        }
        let step = || {
            let looks = Cell::new(0);
            let ended = tracer.under_way.end_some(|waiting| {
                looks.set(looks.get() + 1);
                waiting.since_us == 0
            });
            let taken = tracer.take_ended().into_iter().map(|(_, position, ..)| position).collect::<Vec<_>>();
            (ended, looks.get(), taken.join(" "))
        };
        assert_eq!(step(), (AT_ONCE, 3, "e-1 e-2 e-3".to_owned()));
        assert_eq!(step(), (2, 3, "e-4 e-5".to_owned()), "of the others only the oldest is looked at");
        assert_eq!(step(), (0, 1, String::new()));
        tracer.handed(tickets[5], 0, 1);
        assert_eq!(tracer.take_ended().len(), 1);
        (0..5).for_each(|seq| _ = tracer.begin(None, "a", 1).unwrap().place(seq, None, 1, 1));
        tracer.under_way.age();
        tracer.under_way.sweep();
        assert_eq!(tracer.take_ended().len(), 6, "a sweep takes all steps that it needs");
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
