//! Frames that wait for the hub, in two lanes. Requests that publish are done in their order, and may have to wait for
//! the log of the hub. All other frames pass those that can't be sent now.

use super::{Content, Entry};
use std::collections::VecDeque;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Publishing,
    Free,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    pub(super) publishing: VecDeque<Entry>,
    pub(super) free: VecDeque<Entry>,
    last_place: u64,
}

impl Lanes {
    pub(super) fn push(&mut self, frame: Vec<u8>, content: Content, version: u16) {
        self.last_place += 1;
        let entry = Entry { frame, content, version, place: self.last_place };
        self.of(entry.content.lane()).push_back(entry);
    }

    /// Adds an entry in front of everything.
    pub(super) fn push_first(&mut self, frame: Vec<u8>, content: Content, version: u16) {
        self.free.push_front(Entry { frame, content, version, place: 0 });
    }

    pub(super) fn of(&mut self, lane: Lane) -> &mut VecDeque<Entry> {
        match lane {
            Lane::Publishing => &mut self.publishing,
            Lane::Free => &mut self.free,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.publishing.is_empty() && self.free.is_empty()
    }

    /// The lane that has the next frame: the one that waits longest, of the lanes that may go.
    pub(super) fn next(&self, publishing_may: bool, free_may: bool) -> Option<Lane> {
        let place = |lane: &VecDeque<Entry>, may: bool| lane.front().filter(|_| may).map(|entry| entry.place);
        match (place(&self.publishing, publishing_may), place(&self.free, free_may)) {
            (Some(publishing), Some(free)) if publishing < free => Some(Lane::Publishing),
            (_, Some(_)) => Some(Lane::Free),
            (Some(_), None) => Some(Lane::Publishing),
            (None, None) => None,
        }
    }

    /// Keeps the entries that fit, and returns the others.
    pub(super) fn take_out(&mut self, mut goes: impl FnMut(&Entry) -> bool) -> Vec<Entry> {
        let mut out = Vec::new();
        for lane in [Lane::Publishing, Lane::Free] {
            for entry in std::mem::take(self.of(lane)) {
                if goes(&entry) {
                    out.push(entry);
                } else {
                    self.of(lane).push_back(entry);
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::host_side::queue::RequestKind;

    fn request(number: u64) -> Content {
        Content::Request { number, waiter: None, sent: false, kind: RequestKind::Publishes }
    }

    #[test]
    fn frames_keep_their_order_unless_those_that_publish_can_not_go() {
        let go = |publishing_may: bool| {
            let mut lanes = Lanes::default();
            lanes.push(b"a".to_vec(), request(1), 1);
            lanes.push(b"b".to_vec(), Content::OfThisHub, 1);
            lanes.push(b"c".to_vec(), request(2), 1);
            lanes.push(b"d".to_vec(), Content::OfThisHub, 1);
            lanes.push_first(b"credit ".to_vec(), Content::Credit, 1);
            let mut sent = String::new();
            while let Some(lane) = lanes.next(publishing_may, true) {
                sent += std::str::from_utf8(&lanes.of(lane).pop_front().unwrap().frame).unwrap();
            }
            assert_eq!(lanes.is_empty(), publishing_may);
            sent
        };
        assert_eq!((go(true), go(false)), ("credit abcd".to_owned(), "credit bd".to_owned()));
    }
}
