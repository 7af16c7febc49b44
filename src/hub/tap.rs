//! Taps: an operator looks on at what is published, as it is published. Nobody waits for a tap. What it has no room for
//! is lost to it, and it is told how much that was. While there is no tap, a publish costs one branch more.

use super::message::Message;
use super::name::ChannelPattern;
use super::Hub;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The largest number of taps of a hub. Each message is compared with the pattern of each.
pub(crate) const MAX_TAPS: usize = 16;
/// The messages that may wait for a tap, and their bytes. One message may always wait.
const MAX_WAITING: usize = if cfg!(test) { 8 } else { 4096 };
const MAX_BYTES: usize = 4 << 20;

/// What a tap sees.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    Message {
        message: Arc<Message>,
        /// The index of the epoch that its number belongs to; see [`Hub::epoch_at`].
        epoch: u32,
        /// When it was published, in milliseconds of the hub's clock.
        since: u64,
    },
    /// So many messages were lost here.
    Lost(u64),
}

/// See the module. It ends when [`Hub::untap`] is called.
pub(crate) struct Tap {
    pattern: ChannelPattern,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    seen: VecDeque<Seen>,
    messages: usize,
    bytes: usize,
}

impl Tap {
    fn new(pattern: ChannelPattern) -> Arc<Self> {
        Arc::new(Tap { pattern, waiting: Mutex::default() })
    }

    pub(super) fn wants(&self, channel: &str) -> bool {
        self.pattern.matches(channel)
    }

    /// Leaves a message. This is called under the hub's lock.
    pub(super) fn offer(&self, message: &Arc<Message>, epoch: u32, since: u64) {
        let mut waiting = self.lock();
        let bytes = waiting.bytes + message.weight();
        let has_room = waiting.messages < MAX_WAITING && bytes <= MAX_BYTES;
        if waiting.messages == 0 || has_room {
            (waiting.messages, waiting.bytes) = (waiting.messages + 1, bytes);
            waiting.seen.push_back(Seen::Message { message: message.clone(), epoch, since });
        } else if let Some(Seen::Lost(count)) = waiting.seen.back_mut() {
            *count += 1;
        } else {
            waiting.seen.push_back(Seen::Lost(1));
        }
    }

    /// Takes what waits longest.
    pub(crate) fn take(&self) -> Option<Seen> {
        let mut waiting = self.lock();
        let seen = waiting.seen.pop_front()?;
        if let Seen::Message { message, .. } = &seen {
            waiting.messages -= 1;
            waiting.bytes -= message.weight();
        }
        Some(seen)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    /// Begins a tap of the channels that match. A broadcast matches as a channel without a name does. `None`: there are
    /// [`MAX_TAPS`] already.
    pub(crate) fn tap(&self, pattern: ChannelPattern) -> Option<Arc<Tap>> {
        let tap = Tap::new(pattern);
        self.state.lock().add_tap(&tap).then_some(tap)
    }

    /// Ends a tap. What waits for it is freed with the last reference to it.
    pub(crate) fn untap(&self, tap: &Arc<Tap>) {
        self.state.lock().remove_tap(tap);
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").field("pattern", &self.pattern).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{Epoch, Mailbox, Outgoing, Publication, Retention, Settings, Wake};

    struct Nobody;

    impl Wake for Nobody {
        fn wake(&self) {}
    }

    fn hub(retention: Retention) -> Hub {
        let settings = Settings { total_bytes: 1 << 20, key_window_ms: 1000, ..Settings::keeping(retention) };
        Hub::new(Epoch::from_random(7), &settings, vec![Arc::new(Mailbox::new(1024, Box::new(Nobody)))])
    }

    fn publish(hub: &Hub, channel: &str, data: &str, now: u64) {
        let publication = Publication::new(channel, data.as_bytes());
        let outgoing = Outgoing::new(channel, None, Message::new(&publication, false, b""));
        hub.publish(outgoing, now).unwrap();
    }

    fn taken(tap: &Tap) -> Vec<String> {
        let shown = |seen| match seen {
            Seen::Message { message, since, .. } => {
                let (channel, data) = (message.channel().unwrap_or("-"), String::from_utf8_lossy(message.data()));
                format!("{} {channel} {data} {since}", message.seq())
            }
            Seen::Lost(count) => format!("lost {count}"),
        };
        std::iter::from_fn(|| tap.take()).map(shown).collect()
    }

    const KEEPS: Retention = Retention { count: 5, age_ms: 1000, bytes: 1 << 20 };

    #[test]
    fn a_tap_sees_what_matches_also_where_nothing_is_kept_and_nobody_subscribes() {
        for retention in [KEEPS, Retention { count: 0, ..KEEPS }] {
            let hub = hub(retention);
            let tap = |text| hub.tap(ChannelPattern::written(text).unwrap()).unwrap();
            let (one, some, all) = (tap("news"), tap("news.*"), tap("*"));
            for (at, (channel, data)) in
                [("news", "a"), ("news.sport", "b"), ("other", "c"), ("", "d")].into_iter().enumerate()
            {
                publish(&hub, channel, data, 100 + at as u64);
            }
            assert_eq!(taken(&one), ["1 news a 100"]);
            assert_eq!(taken(&some), ["2 news.sport b 101"]);
            assert_eq!(taken(&all), ["1 news a 100", "2 news.sport b 101", "3 other c 102", "4 - d 103"]);
            [&one, &some].into_iter().for_each(|tap| hub.untap(tap));
            publish(&hub, "news", "e", 200);
            assert_eq!((taken(&one), taken(&some), taken(&all)), (vec![], vec![], vec!["5 news e 200".to_owned()]));
        }
    }

    #[test]
    fn a_tap_that_nobody_reads_loses_messages_and_tells_how_many_at_their_place() {
        let hub = hub(KEEPS);
        let tap = hub.tap(ChannelPattern::everything()).unwrap();
        (0..MAX_WAITING + 5).for_each(|n| publish(&hub, "a", &n.to_string(), 0));
        assert!(matches!(tap.take(), Some(Seen::Message { .. })));
        publish(&hub, "a", "later", 0);
        let seen = taken(&tap);
        assert_eq!(seen.len(), MAX_WAITING - 1 + 2);
        assert_eq!(&seen[MAX_WAITING - 1..], ["lost 5".to_owned(), format!("{} a later 0", MAX_WAITING + 6)]);
        // Bytes count as well. One message may be larger than all that may wait.
        publish(&hub, "a", &"x".repeat(MAX_BYTES + 1), 0);
        publish(&hub, "a", "y", 0);
        assert_eq!(taken(&tap)[1], "lost 1");
    }

    #[test]
    fn taps_are_bounded_in_number() {
        let hub = hub(KEEPS);
        let taps: Vec<_> = (0..MAX_TAPS).map(|_| hub.tap(ChannelPattern::everything()).unwrap()).collect();
        assert!(hub.tap(ChannelPattern::everything()).is_none());
        hub.untap(&taps[3]);
        hub.untap(&taps[3]);
        assert!(hub.tap(ChannelPattern::everything()).is_some());
        assert!(hub.tap(ChannelPattern::everything()).is_none());
    }
}
