//! The places of the connections. There are few, so a client that has not sent a valid request gives way when all are
//! taken: it may be one of a crowd that has no key.

use super::io;
use crate::limits::AddressKey;
use crate::metrics::Reason;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The largest number of connections.
const PLACES: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: Mutex<Taken>,
    /// A place has become free.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    /// By number. A later connection has a higher one.
    holders: BTreeMap<u64, Holder>,
}

#[derive(Debug)]
struct Holder {
    /// `None`: a process of this machine.
    address: Option<AddressKey>,
    /// It has sent a valid request.
    stays: bool,
    gives_way: Arc<Notify>,
}

/// The place of a connection. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    gives_way: Arc<Notify>,
    /// The head of a request has come.
    has_asked: AtomicBool,
}

impl Places {
    /// Takes a place, if need be that of another. Waits while all have sent valid requests.
    pub(super) async fn enter(self: &Arc<Self>, address: Option<AddressKey>) -> Place {
        loop {
            let freed = self.freed.notified();
            if let Some(place) = self.try_enter(address) {
                return place;
            }
            freed.await;
        }
    }

    fn try_enter(self: &Arc<Self>, address: Option<AddressKey>) -> Option<Place> {
        let mut taken = self.lock();
        if taken.holders.len() >= PLACES {
            let gives_way = taken.first_to_go()?;
            taken.holders.remove(&gives_way)?.gives_way.notify_one();
        }
        let (number, gives_way) = (taken.next, Arc::new(Notify::new()));
        taken.next += 1;
        taken.holders.insert(number, Holder { address, stays: false, gives_way: gives_way.clone() });
        Some(Place { places: self.clone(), number, gives_way, has_asked: AtomicBool::new(false) })
    }

    /// Waits until nobody has a place.
    pub(super) async fn all_free(&self) {
        loop {
            let freed = self.freed.notified();
            if self.lock().holders.is_empty() {
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
    /// Of those without a valid request: the oldest of the address with the most.
    fn first_to_go(&self) -> Option<u64> {
        let mut of_addresses = BTreeMap::new();
        for (number, holder) in self.holders.iter().filter(|(_, holder)| !holder.stays) {
            of_addresses.entry(holder.address).or_insert((0, Reverse(*number))).0 += 1;
        }
        of_addresses.into_values().max().map(|(_, Reverse(oldest))| oldest)
    }
}

impl Place {
    /// The head of a request has come. A valid one keeps its client here.
    pub(super) fn asked(&self, is_valid: bool) {
        self.has_asked.store(true, Ordering::Relaxed);
        if is_valid {
            let mut taken = self.places.lock();
            taken.holders.get_mut(&self.number).into_iter().for_each(|holder| holder.stays = true);
        }
    }

    /// Waits until the connection has to end, and says why. `time`: for the first request, and its handshake.
    pub(super) async fn must_end(&self, time: Duration) -> (Reason, String) {
        let too_late = async {
            tokio::time::sleep(time).await;
            if self.has_asked.load(Ordering::Relaxed) {
                pending::<()>().await;
            }
        };
        match io::first(self.gives_way.notified(), too_late).await {
            Some(()) => {
                (Reason::Busy, format!("{PLACES} connections were open, and this one had sent no valid request"))
            }
            None => (Reason::Timeout, "no request came within head_timeout".to_owned()),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().holders.remove(&self.number);
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
        // Nobody gives way to one more if all have sent valid requests.
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
    async fn only_the_first_request_has_a_time() {
        let places = Arc::new(Places::default());
        let (silent, asks) = (places.try_enter(None).unwrap(), places.try_enter(None).unwrap());
        asks.asked(false);
        let time = Duration::from_secs(10);
        assert_eq!(silent.must_end(time).await.0, Reason::Timeout);
        assert!(tokio::time::timeout(time * 10, asks.must_end(time)).await.is_err());
    }
}
