//! Sequences of steps that random steps hardly ever come to. Chance decides on the details.

use super::{World, CHANNELS, KEPT};
use crate::engine::envelope;

/// The rounds in which most questions of all hubs are answered.
const ROUNDS: usize = 40;

impl World {
    /// A hub starts that finds only the last numbers of channels in the log, and not the messages that came between the
    /// listing and its entry. Perhaps the log has lost entries meanwhile, and the numbers are of a log that is over.
    pub(super) fn start_behind_last_numbers(&mut self) {
        let writer = self.random.below(self.plan.hubs);
        let others: Vec<usize> = (0..self.plan.hubs).filter(|hub| *hub != writer).collect();
        let diverges = !others.is_empty() && self.random.one_in(2);
        self.publish_some(1 + self.random.clone().below(4));
        if diverges {
            self.pass(&[writer], ROUNDS);
        }
        self.write_ends(writer);
        if diverges {
            let lost = 3 + self.random.below(12);
            self.fail_over(lost, "the log loses its end under last numbers");
            // The others follow the new server, and so do the clients.
            for _ in 0..ROUNDS {
                self.pass(&others, 1);
                self.move_a_client();
            }
            self.publish_some(1 + self.random.clone().below(4));
            self.pass(&others, ROUNDS / 2);
        }
        let all: Vec<usize> = (0..self.plan.hubs).collect();
        self.pass(&all, ROUNDS);
        let is_ends = |place: &u32| envelope::is_ends(&self.log.all[*place as usize].bytes);
        let Some(before) = self.log.entries().iter().rposition(is_ends) else { return };
        let kept = self.hubs[writer].hub.seq().saturating_sub(before as u64 + 1);
        self.trim(writer, kept);
        self.note("the log is trimmed up to the last numbers");
        self.pass(&all, ROUNDS / 4);
        let hub = self.random.below(self.plan.hubs);
        self.kill(hub);
        self.pass(&all, ROUNDS);
    }

    /// The log loses messages that other hubs have read, and nobody has them any more who would publish them again.
    pub(super) fn lose_with_its_hub(&mut self) {
        self.publish_some(1 + self.random.clone().below(4));
        let all: Vec<usize> = (0..self.plan.hubs).collect();
        self.pass(&all, ROUNDS / 2);
        let hub = self.random.below(self.plan.hubs);
        self.kill(hub);
        let lost = 1 + self.random.below(4);
        self.fail_over(lost, "the log loses its end, and a hub is gone");
    }

    /// A client comes back to a hub that has dropped much of one of its channels. It is cut off in the middle, and goes on
    /// at a hub that is behind, and has not dropped as much.
    pub(super) fn come_back_to_hubs_that_differ(&mut self) {
        let ahead = self.random.below(self.plan.hubs);
        let behind = (ahead + 1) % self.plan.hubs;
        let client = self.clients.iter().find(|client| client.channels.len() > 1).map(|client| client.at);
        let host = self.hosts.iter().position(|host| host.hub == ahead);
        let (Some(client), Some(host), true) = (client, host, ahead != behind) else { return };
        let all: Vec<usize> = (0..self.plan.hubs).collect();
        self.move_client(client, ahead);
        (0..10).for_each(|_| _ = self.go_on(client));
        self.move_client(client, ahead);
        let channels = self.clients[client].channels.clone();
        for _ in 0..4 {
            channels.iter().for_each(|channel| self.publish_in(*channel, None, None, host));
        }
        self.pass(&all, ROUNDS);
        for _ in 0..KEPT {
            self.publish_in(channels[0], None, None, host);
        }
        self.pass(&[ahead], ROUNDS);
        self.note("a client comes back to hubs that differ");
        (0..2 + self.random.below(4)).for_each(|_| _ = self.go_on(client));
        self.move_client(client, behind);
        (0..20).for_each(|_| _ = self.go_on(client));
    }

    fn publish_some(&mut self, many: usize) {
        for _ in 0..many {
            let (channel, host) = (self.random.below(CHANNELS.len()), self.random.below(self.hosts.len()));
            self.publish_in(channel, None, None, host);
        }
    }

    /// Lets a little time pass for some hubs, over a fast log. The clients read nothing in it.
    fn pass(&mut self, hubs: &[usize], rounds: usize) {
        let delay = std::mem::replace(&mut self.log.delay, 1);
        for _ in 0..rounds {
            self.now += 2;
            self.log.pass(self.now);
            for hub in hubs {
                self.turn(*hub);
                self.deliver(*hub, usize::MAX);
            }
        }
        self.log.delay = delay;
    }
}
