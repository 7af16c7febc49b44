//! Gives each event to the attached host that it is for.

use super::attachment::Attachment;
use super::HubSide;
use crate::events::{Event, EventKind, EVERY_HOST, NOBODY_ANSWERS};
use std::collections::BTreeMap;

/// The upper bits of a host's number are the number of its name. So the name is known after the attachment has ended,
/// without a table of all attachments that ever were.
const NAME_SHIFT: u32 = 48;

/// The names of hosts, numbered from 1.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<Box<str>>);

impl Names {
    /// The number of an attachment with this name. `None` if there were too many names; this name is not kept then.
    pub(super) fn host(&mut self, name: &str, attachment: u64) -> Option<u64> {
        let known = self.0.iter().position(|known| **known == *name);
        let number = u16::try_from(known.unwrap_or(self.0.len()) + 1).ok()?;
        if known.is_none() {
            self.0.push(name.into());
        }
        Some(u64::from(number) << NAME_SHIFT | attachment)
    }
}

/// How events find their hosts.
#[derive(Debug)]
pub(super) struct Router {
    pub(super) names: Names,
    /// The number of events that may be held for one host: the option `event_queue`.
    pub(super) bound: usize,
    /// True while too much is held for a host that stands in for others. Events then wait in the hub's queue.
    paused: bool,
}

impl Router {
    pub(super) fn new(bound: usize) -> Self {
        Router { names: Names::default(), bound, paused: false }
    }

    /// Routes events again, however much is held.
    pub(super) fn resume(&mut self) {
        self.paused = false;
    }
}

impl HubSide {
    /// Takes the hub's events, and gives each to the host that it is for.
    pub(super) fn route(&mut self) {
        let context = self.context.clone();
        let (events, bound) = (&context.events, self.router.bound);
        self.router.paused &= !self.may_route_again();
        while !self.router.paused {
            let Some(event) = events.take() else { return };
            if event.host == EVERY_HOST {
                let wanting = self.attached.values_mut().filter(|attachment| attachment.events.is_wanted());
                wanting.for_each(|attachment| attachment.tell(event.clone(), events, bound));
                continue;
            }
            match receiver(&self.attached, &event).and_then(|id| self.attached.get_mut(&id)) {
                Some(attachment) => {
                    attachment.tell(event, events, bound);
                    // The clients of other hosts can't be made to wait one by one. So all of them wait.
                    self.router.paused = attachment.events.for_others() > bound;
                }
                None => self.give_up(&event),
            }
        }
    }

    /// Whether events have waited for a host that stands in for others, and need not any more.
    pub(super) fn may_route_again(&self) -> bool {
        let room = self.router.bound / 2;
        self.router.paused && self.attached.values().all(|attachment| attachment.events.for_others() <= room)
    }

    /// Gives events that were held for a host that has gone to the hosts that stand in for it.
    pub(super) fn pass_on(&mut self, held: impl IntoIterator<Item = Event>) {
        let context = self.context.clone();
        let (events, bound) = (&context.events, self.router.bound);
        for event in held {
            match receiver(&self.attached, &event).and_then(|id| self.attached.get_mut(&id)) {
                Some(stand_in) => stand_in.tell(event, events, bound),
                None => self.give_up(&event),
            }
        }
    }

    /// Drops an event that no host can take. A lost message is counted. A client that waits for the host is told at once
    /// that nobody answers. An opening or an end is of no use to a host that comes later.
    pub(super) fn give_up(&self, event: &Event) {
        match event.kind {
            EventKind::Message => self.events().drop_message(),
            // It has ended by itself if its client has gone.
            EventKind::Request | EventKind::Call | EventKind::Publish => {
                drop(self.api.deny(event.request, NOBODY_ANSWERS.0, NOBODY_ANSWERS.1))
            }
            _ => {}
        }
    }

    /// Tells the shards whether any host wants events.
    pub(super) fn note_wants_events(&self) {
        let hosts = self.attached.values().filter(|attachment| !attachment.half_open()).count();
        self.context.hosts.set_count(hosts);
        let wanted = self.attached.values().any(|attachment| attachment.events.is_wanted());
        self.events().set_wanted(wanted);
    }
}

/// The attachment that gets an event. It is the host that the event is for, if that is attached and wants events, else
/// one of the same name. An event that is for no host in particular, because its connection came to the hub's own
/// listener, may go to any host. All events of a connection go to the same host as long as that stays attached.
fn receiver(attached: &BTreeMap<u64, Attachment>, event: &Event) -> Option<u64> {
    let wants = |attachment: &Attachment| attachment.takes(event.kind);
    if let Some(own) = attached.values().find(|attachment| attachment.host == event.host && wants(attachment)) {
        return Some(own.id);
    }
    let stands_in =
        |attachment: &&Attachment| event.host == 0 || attachment.host >> NAME_SHIFT == event.host >> NAME_SHIFT;
    let candidates = attached.values().filter(stands_in).filter(|attachment| attachment.host != 0 && wants(attachment));
    // Each connection ranks the hosts by its own hash. So the clients of a host that leaves are spread over all others,
    // and no other client changes its host.
    candidates.map(|attachment| attachment.id).max_by_key(|id| mix(event.connection ^ mix(*id)))
}

/// SplitMix64's finalizer.
fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbered_in_order_until_the_numbers_run_out() {
        let mut names = Names::default();
        let number = |names: &mut Names, name: &str| names.host(name, 7).map(|host| host >> NAME_SHIFT);
        assert_eq!(
            [number(&mut names, "a"), number(&mut names, "b"), number(&mut names, "a")],
            [Some(1), Some(2), Some(1)]
        );
        // Looking up so many names takes time, so the rest is added directly.
        names.0.extend((3..=u16::MAX).map(|n| n.to_string().into()));
        for n in 0..10 {
            assert_eq!(number(&mut names, &format!("one more {n}")), None);
        }
        assert_eq!((names.0.len(), number(&mut names, "a")), (usize::from(u16::MAX), Some(1)));
    }
}
