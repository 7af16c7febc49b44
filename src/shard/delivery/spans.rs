//! Tells the spans of messages that the shard has handed the messages on: each of its subscribers' sockets has taken the
//! bytes, or they wait in its outbox.

use crate::hub::{Delivery, BROADCAST};
use crate::shard::connection::conn::{Flags, Subs};
use crate::shard::delivery::channels::Local;
use crate::shard::delivery::fan_out::FanOut;
use crate::trace::Ticket;

impl FanOut<'_> {
    /// The spans of a batch, each with the number of connections that its message goes to. Taken before the batch is
    /// delivered, since delivering it may end connections.
    pub(in crate::shard) fn traced(&self, batch: &[Delivery]) -> Vec<(Ticket, u32)> {
        let mut everybody = None;
        let mut reached = |delivery: &Delivery| {
            let seq = delivery.message.seq();
            match delivery.channel {
                BROADCAST => everybody.get_or_insert_with(|| self.everybody(seq)).before(seq),
                _ => self.reached(delivery),
            }
        };
        let traced = batch.iter().filter(|delivery| delivery.ticket.is_one());
        traced.map(|delivery| (delivery.ticket, reached(delivery))).collect()
    }

    /// The batch is delivered.
    pub(in crate::shard) fn note_handed(&self, traced: &[(Ticket, u32)]) {
        let Some(tracer) = self.tracer else { return };
        traced.iter().for_each(|(ticket, connections)| tracer.handed(*ticket, self.handle.number, *connections));
    }

    /// When the connections have joined that get broadcasts, from this one on. All connections are looked through once
    /// for a batch, however many broadcasts it has.
    fn everybody(&self, first: u64) -> Joined {
        let live = self.conns.iter().filter(|(_, conn)| conn.is(Flags::LIVE));
        Joined::new(first, live.map(|(_, conn)| conn.joined))
    }

    /// The connections that the message of a channel is for. One that joined after it has it from the history. One that
    /// ends while the batch is delivered is counted, and may not get it.
    fn reached(&self, delivery: &Delivery) -> u32 {
        let (seq, named) = (delivery.message.seq(), self.channels.get(delivery.channel));
        let mut fitting = self.channels.fitting(delivery).peekable();
        if fitting.peek().is_none() {
            return match named {
                Some(local) if seq > local.settled => (local.solo.len() + local.multi.len()) as u32,
                Some(local) => self.getting(local, seq).count() as u32,
                None => 0,
            };
        }
        // One may have the channel by its name and by patterns.
        let all = named.into_iter().chain(fitting);
        let mut connections: Vec<u32> = all.flat_map(|local| self.getting(local, seq)).collect();
        connections.sort_unstable();
        connections.dedup();
        connections.len() as u32
    }

    /// The subscribers of a channel or pattern that joined before a message.
    fn getting<'f>(&'f self, local: &'f Local, seq: u64) -> impl Iterator<Item = u32> + 'f {
        let conn = |index: u32| self.conns.get(index as usize);
        let solo = local.solo.iter().copied();
        let solo = solo.filter(move |index| conn(*index).is_some_and(|conn| conn.joined < seq));
        let gets = move |(index, sub): &&(u32, u32)| match conn(*index).map(|conn| &conn.subs) {
            Some(Subs::Many(subs)) => subs.get(*sub as usize).is_some_and(|sub| sub.joined < seq),
            _ => false,
        };
        solo.chain(local.multi.iter().filter(gets).map(|(index, _)| *index))
    }
}

/// At which numbers connections have joined.
struct Joined {
    /// How many did so before the first number that is asked about.
    earlier: u32,
    /// The numbers of the others. They are few: most connections are older than a batch.
    later: Vec<u64>,
}

impl Joined {
    fn new(first: u64, all: impl Iterator<Item = u64>) -> Self {
        let mut joined = Joined { earlier: 0, later: Vec::new() };
        for at in all {
            match at < first {
                true => joined.earlier += 1,
                false => joined.later.push(at),
            }
        }
        joined
    }

    /// How many have joined before this number, which is not below the first one.
    fn before(&self, seq: u64) -> u32 {
        self.earlier + self.later.iter().filter(|at| **at < seq).count() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{Message, Outgoing, Publication};
    use crate::shard::delivery::fan_out::Subscribers;
    use crate::shard::order_tests::{adopt, shard_with};

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn a_connection_that_has_a_channel_by_its_name_and_by_patterns_counts_once() {
        let mut shard = shard_with(&[("max_patterns", "4")]);
        let queries = ["channel=a1&pattern=a*&pattern=*", "pattern=*", "channel=a1", "pattern=b*"];
        let head = |query| format!("GET /push?transport=stream&{query} HTTP/1.1\r\nHost: h\r\n\r\n");
        let _clients = queries.map(|query| adopt(&mut shard, head(query).as_bytes()));
        for (channel, reached) in [("a1", 3), ("a2", 2), ("b1", 3), ("c", 2)] {
            let message = Message::new(&Publication::new("", b"x"), false, b"");
            shard.context.hub.publish(Outgoing::new(channel, None, message), 0).unwrap();
            let delivery = shard.handle.mailbox.pop().unwrap();
            assert_eq!(shard.fan_out().reached(&delivery), reached, "{channel}");
        }
    }

    #[test]
    fn those_who_joined_before_a_broadcast_are_counted() {
        let all = [3, 9, 0, 7, 7, 5, 12];
        let joined = Joined::new(5, all.into_iter());
        assert_eq!((joined.earlier, joined.later.len()), (2, 5));
        for seq in 5..20 {
            assert_eq!(joined.before(seq), all.iter().filter(|at| **at < seq).count() as u32, "{seq}");
        }
    }
}
