//! Shows messages to those who look on.

use super::State;
use crate::hub::message::{Message, Place};
use crate::hub::slow::SlowPolicy;
use crate::hub::tap::{Tap, MAX_TAPS};
use std::sync::Arc;

impl State {
    /// False if there are too many.
    pub(in crate::hub) fn add_tap(&mut self, tap: &Arc<Tap>) -> bool {
        let has_room = self.taps.len() < MAX_TAPS;
        if has_room {
            self.taps.push(tap.clone());
        }
        has_room
    }

    pub(in crate::hub) fn remove_tap(&mut self, tap: &Arc<Tap>) {
        self.taps.retain(|known| !Arc::ptr_eq(known, tap));
    }

    /// Shows a message. There are taps.
    #[cold]
    pub(super) fn show(&self, message: &Arc<Message>, since: u64) {
        let epoch = self.following.as_ref().map_or(0, |following| following.breaks);
        let channel = message.channel().unwrap_or_default();
        self.taps.iter().filter(|tap| tap.wants(channel)).for_each(|tap| tap.offer(message, epoch, since));
    }

    /// Shows a message that nobody gets and that is not kept.
    #[cold]
    pub(super) fn show_unkept(&self, channel: &str, mut message: Arc<Message>, seq: u64, since: u64) {
        let channel = Arc::from(channel);
        Message::place(&mut message, &Place { seq, channel: Some(&channel), slow: SlowPolicy::Disconnect, stamp: 0 });
        self.show(&message, since);
    }
}
