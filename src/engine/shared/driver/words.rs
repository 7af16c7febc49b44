//! Words between hubs, on their way through the thread of the engine. They never wait for the log, nor it for them.

use super::super::connection::{Connection, Failure, Heard};
use super::Driver;
use crate::log::Level;

/// How many words are taken before the log has its turn.
const AT_ONCE: usize = 64;

impl Driver {
    /// Receives messages of other hubs, and sends those that wait for them. True: one still waits for room in the
    /// engine.
    pub(super) fn converse(&mut self, connection: &mut Connection) -> bool {
        for _ in 0..AT_ONCE {
            let Ok(heard) = connection.heard.try_recv() else { break };
            self.hear(heard);
        }
        while let Ok(place) = connection.words.try_reserve() {
            let Some(word) = self.shared.inlet.words.take() else { return false };
            place.send(word);
        }
        self.shared.inlet.words.waits()
    }

    pub(super) fn hear(&mut self, heard: Heard) {
        match heard {
            Ok(bytes) => self.shared.inlet.words.hear(bytes),
            Err(Failure(why)) => {
                let place = &self.place;
                let text = format_args!(
                    "engine: {place}: {why}; the log still works, but only a part of the hubs answers questions to all hubs"
                );
                self.log.limited(Level::Warn, "words between hubs", text);
            }
        }
    }
}
