//! Which attached host gets an event.

use super::attachment::Attachment;
use crate::events::{Event, EventKind, Events};
use std::collections::BTreeMap;

/// A host's number carries its name's in the upper bits, so that the name outlives the attachment without a table of
/// all that ever were.
const NAME_SHIFT: u32 = 48;

/// The names of hosts, numbered from 1.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<Box<str>>);

impl Names {
    /// The number of an attachment of that name. `None`: there were too many names; then this one is not kept, either.
    pub(super) fn host(&mut self, name: &str, attachment: u64) -> Option<u64> {
        let known = self.0.iter().position(|known| **known == *name);
        let number = u16::try_from(known.unwrap_or(self.0.len()) + 1).ok()?;
        if known.is_none() {
            self.0.push(name.into());
        }
        Some(u64::from(number) << NAME_SHIFT | attachment)
    }
}

/// Who gets an event: the host that it is for, if it is there and wants events, else one of the same name. An event for
/// nobody in particular (of a connection to the hub's own listener) is for any host. The same connection's events go
/// to the same host as long as that stays.
pub(super) fn receiver(attached: &BTreeMap<u64, Attachment>, event: &Event) -> Option<u64> {
    let wants = |attachment: &Attachment| attachment.credit.is_some();
    if let Some(own) = attached.values().find(|attachment| attachment.host == event.host && wants(attachment)) {
        return Some(own.id);
    }
    let stands_in =
        |attachment: &&Attachment| event.host == 0 || attachment.host >> NAME_SHIFT == event.host >> NAME_SHIFT;
    let candidates = attached.values().filter(stands_in).filter(|attachment| attachment.host != 0 && wants(attachment));
    // Each connection ranks the hosts by a hash of its own, so that one that leaves takes only its share with it.
    candidates.map(|attachment| attachment.id).max_by_key(|id| mix(event.connection ^ mix(*id)))
}

/// Nobody was there. Openings and ends tell nothing to those who come later; a message is a loss.
pub(super) fn count_loss(events: &Events, event: &Event) {
    if event.kind == EventKind::Message {
        events.drop_message();
    }
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
    fn names_are_numbered_as_they_come_and_no_more_are_kept_than_there_are_numbers() {
        let mut names = Names::default();
        let number = |names: &mut Names, name: &str| names.host(name, 7).map(|host| host >> NAME_SHIFT);
        assert_eq!(
            [number(&mut names, "a"), number(&mut names, "b"), number(&mut names, "a")],
            [Some(1), Some(2), Some(1)]
        );
        // Looking one up among so many takes its time; what is kept is what matters.
        names.0.extend((3..=u16::MAX).map(|n| n.to_string().into()));
        for n in 0..10 {
            assert_eq!(number(&mut names, &format!("one more {n}")), None);
        }
        assert_eq!((names.0.len(), number(&mut names, "a")), (usize::from(u16::MAX), Some(1)));
    }
}
