//! The shards, which give the messages and the breaks of their mailboxes to the clients.

use super::clients::{message_event, Client, Event, From, Phase, Transport};
use super::Mistake;
use super::{id_of, World, CHANNELS};
use crate::hub::{Delivery, Mark, BROADCAST};

impl World {
    /// Lets a shard take messages from its mailbox. True if there were none.
    pub(super) fn deliver(&mut self, at: usize, most: usize) -> bool {
        for count in 0..most {
            let Some(delivery) = self.hubs[at].mailbox.pop() else { return count == 0 };
            match delivery.as_break() {
                Some((epoch, gap)) => self.come_to_break(at, epoch.as_str(), gap),
                None if delivery.is_act() => self.does_act(at, &delivery),
                None => self.fan_out(at, &delivery),
            }
        }
        false
    }

    fn fan_out(&mut self, at: usize, delivery: &Delivery) {
        let (channel, message) = (delivery.channel, &delivery.message);
        let shard = &mut self.hubs[at].shard;
        shard.delivered = message.seq();
        let id = format!("{}-{}", shard.epoch, message.seq());
        let mut ended = Vec::new();
        for client in self.clients.iter_mut().filter(|client| client.hub == at && client.phase == Phase::Subscribed) {
            let is_new = client.breaks == shard.breaks && message.seq() > client.joined;
            let forgotten = self.mistake == Some(Mistake::ForgetsEnds) && message.mark() == Some(Mark::End);
            if forgotten || !is_new || !(channel == BROADCAST || client.ids.contains(&channel)) {
                continue;
            }
            let place = CHANNELS.iter().position(|name| *name == message.channel().unwrap_or("")).unwrap();
            client.wire.push_back(match message.excepts(Some(id_of(client.at))) {
                true => Event::Position(id.clone()),
                false => message_event(place, message.data(), id.clone()),
            });
            if client.transport == Transport::Poll {
                ended.push(client.at);
            }
        }
        for client in ended {
            self.leave(client);
            self.clients[client].end_poll(id.clone());
        }
    }

    /// Lets a shard come to a break of its log.
    fn come_to_break(&mut self, at: usize, epoch: &str, gap: Option<u64>) {
        self.tell(|| format!("hub {at}: the shard comes to a break: {epoch} {gap:?}"));
        self.mark(if gap.is_some() { "a break with a loss" } else { "a break without a loss" });
        let hub = &mut self.hubs[at];
        hub.shard.epoch = epoch.to_owned();
        hub.shard.breaks = hub.shard.breaks.wrapping_add(1);
        let breaks = hub.shard.breaks;
        let Some(gap) = gap else {
            let passed = |client: &&mut Client| client.hub == at && client.breaks.wrapping_add(1) == breaks;
            self.clients.iter_mut().filter(passed).for_each(|client| client.breaks = breaks);
            return;
        };
        hub.shard.delivered = gap;
        let covers = hub.shard.lost.get(&breaks).cloned().unwrap_or_default();
        let id = format!("{epoch}-{gap}");
        let mut ended = Vec::new();
        for client in self.clients.iter_mut() {
            if client.hub != at || client.phase != Phase::Subscribed || client.breaks.wrapping_add(1) != breaks {
                continue;
            }
            (client.breaks, client.joined) = (breaks, gap);
            if self.mistake == Some(Mistake::SilentBreak) {
                continue;
            }
            let gap =
                |channel: usize| Event::Gap { channel, from: From::Number(gap), covers: covers.clone(), id: None };
            client.wire.extend(client.channels.iter().copied().chain([0]).map(gap));
            if client.transport == Transport::Live {
                client.wire.push_back(Event::Position(id.clone()));
            }
            if client.transport == Transport::Poll {
                ended.push(client.at);
            }
        }
        for client in ended {
            self.leave(client);
            self.clients[client].end_poll(id.clone());
        }
    }
}
