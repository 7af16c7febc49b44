//! The messages that slow clients lost, by channel. They have a table of their own, so that a channel without losses
//! needs no counters.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most channels in the table. Clients can choose names of channels, so the table is bounded: when it is full, the
/// channel that was added first is forgotten.
const CAPACITY: usize = 1024;

/// The losses of one channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loss {
    /// Subscribers closed because they read too slowly.
    pub slow_closed: u64,
    /// Messages dropped by the policy `drop-oldest`, once for each client that did not get them.
    pub dropped: u64,
    /// Messages replaced by a newer one by the policy `latest`, once for each client that did not get them.
    pub replaced: u64,
}

/// The table. Any thread may use it.
#[derive(Debug, Default)]
pub struct Losses(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    channels: HashMap<Arc<str>, Loss>,
    order: VecDeque<Arc<str>>,
}

impl Losses {
    /// Adds to a channel's losses.
    pub(crate) fn add(&self, channel: &Arc<str>, loss: Loss) {
        let mut table = self.lock();
        if !table.channels.contains_key(channel) {
            if table.order.len() >= CAPACITY {
                if let Some(oldest) = table.order.pop_front() {
                    table.channels.remove(&oldest);
                }
            }
            table.order.push_back(channel.clone());
        }
        let known = table.channels.entry(channel.clone()).or_default();
        known.slow_closed += loss.slow_closed;
        known.dropped += loss.dropped;
        known.replaced += loss.replaced;
    }

    /// A channel's losses: zeros if the table does not have the channel.
    pub fn of(&self, channel: &str) -> Loss {
        self.lock().channels.get(channel).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_add_up_and_are_bounded() {
        let losses = Losses::default();
        let once = Loss { slow_closed: 1, dropped: 2, replaced: 3 };
        losses.add(&"a".into(), once);
        losses.add(&"a".into(), once);
        assert_eq!(losses.of("a"), Loss { slow_closed: 2, dropped: 4, replaced: 6 });
        assert_eq!(losses.of("b"), Loss::default());
        for n in 0..CAPACITY {
            losses.add(&n.to_string().into(), once);
        }
        assert_eq!(losses.of("a"), Loss::default(), "the channel that was added first is forgotten");
        assert_eq!(losses.lock().channels.len(), CAPACITY);
        assert_eq!(losses.lock().order.len(), CAPACITY);
    }
}
