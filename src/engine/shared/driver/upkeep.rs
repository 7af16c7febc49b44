//! What the driver does for the log from time to time: it has old entries removed, and writes down the last numbers of
//! channels.

use super::super::last_numbers::LastNumbers;
use super::super::marks::Marks;
use super::Driver;
use crate::engine::contract::Tailed;
use crate::engine::envelope::{Body, Known};
use crate::hub::Hub;

/// The times of both.
pub(super) struct Upkeep {
    marks: Marks,
    last_numbers: LastNumbers,
}

impl Upkeep {
    pub(super) fn new() -> Self {
        Upkeep { marks: Marks::new(), last_numbers: LastNumbers::new() }
    }

    pub(super) fn count(&mut self, piece: &[Tailed]) {
        self.marks.count(piece);
        self.last_numbers.count(piece);
    }

    /// True while the channels are listed. Then the next look should be soon.
    pub(super) fn is_listing(&self) -> bool {
        self.last_numbers.is_listing()
    }
}

impl Driver {
    pub(super) fn keep_up(&mut self) {
        let Some(owner) = self.hub.take() else { return };
        let hub = (*owner).as_ref();
        self.upkeep.marks.note_losses(self.replica.losses());
        if let Some(before) = self.upkeep.marks.look(|| hub.seq(), self.shared.status.kept()) {
            self.replica.trim(before);
        }
        // Only a hub that has applied all that came knows the last numbers.
        if self.replica.is_open() && self.shared.status.is_ready() && !self.replica.has_unapplied() {
            self.write_last_numbers(hub);
        }
        self.hub = Some(owner);
    }

    fn write_last_numbers(&mut self, hub: &Hub) {
        let (breaks, kept, most) = (self.replica.breaks(), self.shared.status.kept(), self.settings.max_message());
        let Some((epoch, until, ends)) = self.upkeep.last_numbers.look(hub, breaks, kept, most) else { return };
        let channels = ends.channels.iter().map(|(number, channel)| (*number, &**channel)).collect();
        // If there is no room, this is left out. The next one comes in its time.
        let _ = self.replica.publish("", &Body::Ends(Known { epoch, until, floor: ends.floor, channels }));
    }
}
