//! The places of the connections. There are few, so one gives way when all are taken: a client that has not sent a valid
//! request, as it may be one of a crowd that has no key. If there is none, the one gives way that has been idle for longest
//! since its last request: it can connect again. Otherwise clients that keep their connections would keep all others out.

use super::io;
use crate::limits::AddressKey;
use crate::metrics::Reason;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The largest number of connections. As many again may be leaving.
pub(super) const PLACES: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: Mutex<Taken>,
    /// A place has become free, or its holder could give way now.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    /// By number. A later connection has a higher one.
    holders: BTreeMap<u64, Holder>,
    /// Connections that have given way after a request, and have no place any more. They end when they have written their
    /// answer, and have answered a request that came just then.
    leaving: BTreeSet<u64>,
    /// How many requests were answered.
    answered: u64,
}

#[derive(Debug)]
struct Holder {
    /// `None`: a process of this machine.
    address: Option<AddressKey>,
    state: State,
    told: Arc<Told>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It has sent no valid request.
    New,
    /// A request is in progress.
    Busy,
    /// It is between two requests. The number is higher if its last one was answered later.
    Idle(u64),
}

/// What the holder of a place is told.
#[derive(Debug, Default)]
struct Told {
    /// To end at once.
    ends: Notify,
    /// To end when no request is in progress.
    leaves: Notify,
}

/// The place of a connection. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    told: Arc<Told>,
    /// The head of a request has come.
    has_asked: AtomicBool,
}

impl Places {
    /// Takes a place, if need be that of another. Waits while all have requests in progress.
    pub(super) async fn enter(self: &Arc<Self>, address: Option<AddressKey>) -> Place {
        loop {
            let freed = self.freed.notified();
            if let Some(place) = self.try_enter(address) {
                return place;
            }
            freed.await;
        }
    }

    /// The same without waiting. `None`: all have requests in progress.
    pub(super) fn try_enter(self: &Arc<Self>, address: Option<AddressKey>) -> Option<Place> {
        let mut taken = self.lock();
        if taken.holders.len() >= PLACES {
            taken.make_room()?;
        }
        let (number, told) = (taken.next, Arc::<Told>::default());
        taken.next += 1;
        taken.holders.insert(number, Holder { address, state: State::New, told: told.clone() });
        Some(Place { places: self.clone(), number, told, has_asked: AtomicBool::new(false) })
    }

    /// Waits until nobody has a place, or is leaving.
    pub(super) async fn all_free(&self) {
        loop {
            let freed = self.freed.notified();
            if self.lock().is_empty() {
                return;
            }
            freed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn is_empty(&self) -> bool {
        self.holders.is_empty() && self.leaving.is_empty()
    }

    /// Takes the place of a holder that can give way.
    fn make_room(&mut self) -> Option<()> {
        if let Some(new) = self.first_to_go() {
            self.holders.remove(&new)?.told.ends.notify_one();
            return Some(());
        }
        let idle = self.longest_idle().filter(|_| self.leaving.len() < PLACES)?;
        self.holders.remove(&idle)?.told.leaves.notify_one();
        self.leaving.insert(idle);
        Some(())
    }

    fn longest_idle(&self) -> Option<u64> {
        let idle = self.holders.iter().filter_map(|(number, holder)| match holder.state {
            State::Idle(since) => Some((since, *number)),
            _ => None,
        });
        idle.min().map(|(_, number)| number)
    }

    /// Of those without a valid request: the oldest of the address with the most.
    fn first_to_go(&self) -> Option<u64> {
        let mut of_addresses = BTreeMap::new();
        for (number, holder) in self.holders.iter().filter(|(_, holder)| holder.state == State::New) {
            of_addresses.entry(holder.address).or_insert((0, Reverse(*number))).0 += 1;
        }
        of_addresses.into_values().max().map(|(_, Reverse(oldest))| oldest)
    }
}

impl Place {
    /// The head of a request has come. A valid one keeps its client here.
    pub(super) fn asked(&self, is_valid: bool) {
        self.has_asked.store(true, Ordering::Relaxed);
        let mut taken = self.places.lock();
        let Some(holder) = taken.holders.get_mut(&self.number) else { return };
        if is_valid || holder.state != State::New {
            holder.state = State::Busy;
        }
    }

    /// The answer to a request is there, and is written.
    pub(super) fn answered(&self) {
        let mut taken = self.places.lock();
        let (count, is_full) = (taken.answered, taken.holders.len() >= PLACES);
        let Some(holder) = taken.holders.get_mut(&self.number).filter(|holder| holder.state == State::Busy) else {
            return;
        };
        holder.state = State::Idle(count);
        taken.answered += 1;
        drop(taken);
        if is_full {
            self.places.freed.notify_one();
        }
    }

    /// Waits until the connection has to end as soon as no request is in progress, since others need its place.
    pub(super) async fn leaves(&self) {
        self.told.leaves.notified().await;
    }

    /// Waits until the connection has to end at once, and says why. `time`: for the first request, and its handshake.
    pub(super) async fn must_end(&self, time: Duration) -> (Reason, String) {
        let too_late = async {
            tokio::time::sleep(time).await;
            if self.has_asked.load(Ordering::Relaxed) {
                pending::<()>().await;
            }
        };
        match io::first(self.told.ends.notified(), too_late).await {
            Some(()) => {
                (Reason::Busy, format!("{PLACES} connections were open, and this one had sent no valid request"))
            }
            None => (Reason::Timeout, "no request came within head_timeout".to_owned()),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.holders.remove(&self.number);
        taken.leaving.remove(&self.number);
        drop(taken);
        self.places.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_of_the_largest_crowd_gives_way_and_those_with_valid_requests_stay() {
        let of = |text: &str| Some(AddressKey::of(text.parse().unwrap()));
        let places = Arc::new(Places::default());
        let lone = places.try_enter(of("192.0.2.1")).unwrap();
        let crowd: Vec<_> = (1..PLACES).map(|_| places.try_enter(of("192.0.2.2")).unwrap()).collect();
        crowd[0].asked(true);
        crowd[1].asked(false);
        let next = places.try_enter(of("192.0.2.3")).unwrap();
        let (reason, text) = crowd[1].must_end(Duration::from_secs(600)).await;
        assert!(reason == Reason::Busy && text.starts_with("256 connections"), "{text}");
        drop(next);
        // When it ends, no place becomes free: it had none any more.
        let taken = || places.lock().holders.len();
        assert_eq!(taken(), PLACES - 1);
        let mut crowd = crowd;
        drop(crowd.remove(1));
        assert_eq!(taken(), PLACES - 1);
        // Nobody gives way to one more if all have requests in progress.
        lone.asked(true);
        crowd.iter().for_each(|place| place.asked(true));
        let last = places.try_enter(None).unwrap();
        last.asked(true);
        assert!(places.try_enter(None).is_none());
        let (place, ()) = tokio::join!(places.enter(None), async { drop(last) });
        drop((place, lone, crowd));
        places.all_free().await;
    }

    #[tokio::test(start_paused = true)]
    async fn if_all_have_sent_valid_requests_the_one_that_is_idle_for_longest_leaves() {
        let places = Arc::new(Places::default());
        let enter = || places.try_enter(None).inspect(|place| place.asked(true));
        let all: Vec<_> = (0..PLACES).map(|_| enter().unwrap()).collect();
        assert!(enter().is_none(), "all are busy");
        let (next, ()) = tokio::join!(places.enter(None), async { all[7].answered() });
        next.asked(true);
        all[7].leaves().await;
        for at in [5, 3, 9] {
            all[at].answered();
        }
        all[5].asked(true);
        let new = places.try_enter(None).unwrap();
        all[3].leaves().await;
        // One without a valid request goes before any that is idle.
        let last = enter().unwrap();
        let time = Duration::from_secs(600);
        assert_eq!(new.must_end(time).await.0, Reason::Busy);
        drop(new);
        assert!(tokio::time::timeout(time, all[9].leaves()).await.is_err());

        // The number of those that leave is bounded.
        all.iter().for_each(Place::answered);
        let more: Vec<_> = std::iter::from_fn(enter).collect();
        let count = || {
            let taken = places.lock();
            (taken.holders.len(), taken.leaving.len())
        };
        assert_eq!((more.len(), count()), (PLACES - 2, (PLACES, PLACES)));
        last.answered();
        assert!(enter().is_none());
        drop(all);
        assert_eq!(count(), (PLACES, 0));
        assert!(enter().is_some());
        last.leaves().await;
        drop((next, last, more));
        places.all_free().await;
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_first_request_has_a_time() {
        let places = Arc::new(Places::default());
        let (silent, asks) = (places.try_enter(None).unwrap(), places.try_enter(None).unwrap());
        asks.asked(false);
        let time = Duration::from_secs(10);
        assert_eq!(silent.must_end(time).await.0, Reason::Timeout);
        assert!(tokio::time::timeout(time * 10, asks.must_end(time)).await.is_err());
    }
}
