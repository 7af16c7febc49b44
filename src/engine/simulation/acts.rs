//! Acts on users that a hub puts into the log, and that the other hubs do.

use super::{Mistake, World};
use crate::engine::envelope::{self, Body};
use crate::engine::log_model::Place;
use crate::hub::{Act, Delivery};

/// The acts that a shard has done, in their order: the place of each among all acts that were asked for.
#[derive(Debug, Default)]
pub(super) struct Done {
    acts: Vec<usize>,
    /// The number of the last one.
    last: u64,
}

impl World {
    /// Has a hub ask for an act.
    pub(super) fn act(&mut self) {
        let at = self.random.below(self.plan.hubs);
        let hub = &mut self.hubs[at];
        let user = format!("u{}", self.acts.len());
        let act = Act::Disconnect { user: &user, code: 4403, reason: "" };
        if hub.replica.publish("", &Body::Act(act)).is_some() {
            self.acts.push(hub.life);
            self.note("an act");
        }
    }

    /// A shard does an act.
    pub(super) fn does_act(&mut self, at: usize, delivery: &Delivery) {
        if self.mistake == Some(Mistake::ForgetsActs) {
            return;
        }
        let Some(Act::Disconnect { user, .. }) = delivery.as_act() else { return };
        let Some(act) = act_of(user) else { return };
        let (number, hub) = (delivery.message.seq(), &self.hubs[at]);
        let done = &hub.shard.acts;
        let wrong = if done.acts.contains(&act) {
            Some("again")
        } else if self.acts[act] == hub.life {
            Some("which is its own, through the log")
        } else if self.plan.gentle && (number <= done.last || number <= hub.shard.delivered) {
            Some("out of its place among the messages")
        } else if self.plan.gentle && hub.came_at(number).is_none_or(|place| place < hub.born) {
            Some("which is older than the hub")
        } else {
            None
        };
        let done = &mut self.hubs[at].shard.acts;
        done.acts.push(act);
        done.last = number;
        self.mark("an act is done");
        if let Some(wrong) = wrong {
            self.fail(format!("hub {at} does act {act} {wrong}"));
        }
    }

    /// Checks in the end that each hub has done what others have asked for since it served clients.
    pub(super) fn check_acts(&mut self) {
        if !self.plan.gentle {
            return;
        }
        let mut wrong = None;
        for place in self.log.entries() {
            let Ok((_, Body::Act(Act::Disconnect { user, .. }))) = envelope::read(&self.log.all[*place as usize].bytes)
            else {
                continue;
            };
            let Some(act) = act_of(user) else { continue };
            for (at, hub) in self.hubs.iter().enumerate() {
                let meant = hub.served.is_some_and(|since| *place >= since) && self.acts[act] != hub.life;
                if meant && !hub.shard.acts.acts.contains(&act) {
                    wrong = Some(format!("hub {at} has not done act {act}"));
                }
            }
        }
        wrong.into_iter().for_each(|wrong| self.fail(wrong));
    }

    /// Notes since when a hub serves clients.
    pub(super) fn note_served(&mut self, at: usize) {
        let end = self.log.all.len() as Place;
        let hub = &mut self.hubs[at];
        if hub.served.is_none() && hub.hub.has_caught_up() {
            hub.served = Some(end);
        }
    }
}

fn act_of(user: &str) -> Option<usize> {
    user.strip_prefix('u')?.parse().ok()
}
