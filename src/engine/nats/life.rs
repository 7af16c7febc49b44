//! The identity of the log and of its life, and the number up to which that is certain.

use super::super::contract::{Fence, LogId};
use aws_lc_rs::digest::{Context, SHA256};
use std::sync::{Mutex, PoisonError};

/// The parts of a [`LogId`]. The reasons are in the [module](super)'s text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Life {
    /// The time at which the stream was made.
    pub(super) created: String,
    /// The server that leads the stream.
    pub(super) leader: String,
    /// The time since which that server leads. Of a server without replicas: its process.
    pub(super) since: String,
}

impl Life {
    pub(super) fn id(&self) -> LogId {
        let mut hash = Context::new(&SHA256);
        for part in [&self.created, &self.leader, &self.since] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finish().as_ref()[..16]);
        LogId(id)
    }
}

/// The number up to which the entries that were read surely belong to the life of the log under which they were read.
/// Later entries may have come from a server that already followed another leader.
#[derive(Debug, Default)]
pub(crate) struct Confirmed(Mutex<Option<u64>>);

impl Confirmed {
    /// All entries that were read up to that number belong to the log's present life.
    pub(super) fn note(&self, number: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(number);
    }

    /// Limits the numbers in a fence to those that are confirmed.
    pub(super) fn bound(&self, fence: &mut Fence) {
        let Some(number) = *self.0.lock().unwrap_or_else(PoisonError::into_inner) else { return };
        fence.chain.iter_mut().for_each(|link| link.last = link.last.min(number));
        // Nothing that is up to 0 means anything.
        fence.chain.retain(|link| link.last > 0 || link.lossy || link.acts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{Epoch, Link};

    #[test]
    fn a_log_is_another_one_if_anything_about_its_life_is() {
        let life = Life { created: "a".to_owned(), leader: "b".to_owned(), since: "c".to_owned() };
        assert_eq!(life.id(), life.clone().id());
        let others = [
            Life { created: "b".to_owned(), ..life.clone() },
            Life { leader: "c".to_owned(), ..life.clone() },
            Life { since: String::new(), ..life.clone() },
            Life { created: "ab".to_owned(), leader: String::new(), since: "c".to_owned() },
        ];
        others.iter().for_each(|other| assert_ne!(other.id(), life.id(), "{other:?}"));
    }

    #[test]
    fn a_fence_vouches_only_for_what_is_certain() {
        let link = |random, last| Link { epoch: Epoch::from_random(random), last, lossy: false, acts: false };
        let fence = Fence { epoch: Epoch::from_random(9), log: LogId([0; 16]), chain: vec![link(1, 4), link(2, 10)] };
        let bounded = |confirmed: &Confirmed| {
            let mut fence = fence.clone();
            confirmed.bound(&mut fence);
            fence.chain.iter().map(|link| link.last).collect::<Vec<_>>()
        };
        let confirmed = Confirmed::default();
        assert_eq!(bounded(&confirmed), [4, 10], "nothing was read before: the hub vouches for nothing by itself");
        confirmed.note(7);
        assert_eq!(bounded(&confirmed), [4, 7]);
        confirmed.note(0);
        assert_eq!(bounded(&confirmed), [0u64; 0]);
    }
}
