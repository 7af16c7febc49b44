//! Shows messages to those who look on.

use super::State;
use crate::hub::message::Message;
use crate::hub::tap::{Tap, MAX_TAPS};
use std::sync::Arc;

impl State {
    /// False if there are too many.
    pub(in crate::hub) fn add_tap(&mut self, tap: &Arc<Tap>) -> bool {
        let has_room = self.beyond.taps.len() < MAX_TAPS;
        if has_room {
            self.beyond.taps.push(tap.clone());
        }
        has_room
    }

    pub(in crate::hub) fn remove_tap(&mut self, tap: &Arc<Tap>) {
        self.beyond.taps.retain(|known| !Arc::ptr_eq(known, tap));
    }

    /// Shows a message. There are taps.
    #[cold]
    pub(super) fn show(&self, message: &Arc<Message>, since: u64) {
        let epoch = self.following.as_ref().map_or(0, |following| following.breaks);
        let channel = message.channel().unwrap_or_default();
        self.beyond.taps.iter().filter(|tap| tap.wants(channel)).for_each(|tap| tap.offer(message, epoch, since));
    }
}
