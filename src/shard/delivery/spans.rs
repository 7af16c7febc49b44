//! Tells the spans of messages that the shard has handed the messages on: each of its subscribers' sockets has taken the
//! bytes, or they wait in its outbox.

use crate::hub::{Delivery, BROADCAST};
use crate::shard::connection::conn::{Flags, Subs};
use crate::shard::delivery::fan_out::FanOut;
use crate::trace::Ticket;

impl FanOut<'_> {
    /// The spans of a batch, each with the number of connections that its message goes to. Taken before the batch is
    /// delivered, since delivering it may end connections. Mostly there are none, and this costs a look at each ticket.
    pub(in crate::shard) fn traced(&self, batch: &[Delivery]) -> Vec<(Ticket, u32)> {
        let traced = batch.iter().filter(|delivery| delivery.ticket.is_one());
        traced.map(|delivery| (delivery.ticket, self.reached(delivery))).collect()
    }

    /// The batch is delivered.
    pub(in crate::shard) fn note_handed(&self, traced: &[(Ticket, u32)]) {
        let Some(tracer) = self.tracer else { return };
        traced.iter().for_each(|(ticket, connections)| tracer.handed(*ticket, self.handle.number, *connections));
    }

    /// The connections that a message is for. One that joined after it has it from the history. One that ends while the
    /// batch is delivered is counted, and may not get it.
    fn reached(&self, delivery: &Delivery) -> u32 {
        let seq = delivery.message.seq();
        if delivery.channel == BROADCAST {
            let gets = self.conns.iter().filter(|(_, conn)| conn.is(Flags::LIVE) && conn.joined < seq);
            return gets.count() as u32;
        }
        let Some(local) = self.channels.get(delivery.channel) else { return 0 };
        if seq > local.settled {
            return (local.solo.len() + local.multi.len()) as u32;
        }
        let conn = |index: u32| self.conns.get(index as usize);
        let solo = local.solo.iter().filter(|index| conn(**index).is_some_and(|conn| conn.joined < seq)).count();
        let gets = |(index, sub): &&(u32, u32)| match conn(*index).map(|conn| &conn.subs) {
            Some(Subs::Many(subs)) => subs.get(*sub as usize).is_some_and(|sub| sub.joined < seq),
            _ => false,
        };
        (solo + local.multi.iter().filter(gets).count()) as u32
    }
}
