//! The bytes of unfinished messages and requests that all shards keep together: the option `inbox_total`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The numbers of all shards. Each shard writes its own, and all shards read them.
pub(crate) struct Inboxes {
    shards: Box<[OfShard]>,
    /// The bytes of unfinished bodies of control API requests. They have an account of their own, since their senders have
    /// the key: strangers must not take their room.
    bodies: AtomicUsize,
    /// The bytes of clients' messages that wait for the host's answer. Their clients may have gone, so that there is no
    /// victim to close: further messages are refused.
    waiting: AtomicUsize,
    /// Asks a shard to close its largest client.
    ask: Box<dyn Fn(usize) + Send + Sync>,
}

partial_debug!(Inboxes { shards });

#[derive(Debug, Default)]
struct OfShard {
    bytes: AtomicUsize,
    /// The bytes of its largest client.
    largest: AtomicUsize,
    /// Whether it was asked and has not looked yet.
    asked: AtomicBool,
}

impl Inboxes {
    /// `ask` is called with the number of a shard, on the thread of another.
    pub(crate) fn new(shards: usize, ask: Box<dyn Fn(usize) + Send + Sync>) -> Self {
        let shards = (0..shards).map(|_| OfShard::default()).collect();
        Inboxes { shards, bodies: AtomicUsize::new(0), waiting: AtomicUsize::new(0), ask }
    }

    /// Notes how many bytes a shard keeps now, in all and of its largest client.
    pub(crate) fn set(&self, shard: usize, bytes: usize, largest: usize) {
        // If two shards go beyond the bound at the same time, at least one of them must see the other's bytes.
        self.shards[shard].largest.store(largest, Ordering::SeqCst);
        self.shards[shard].bytes.store(bytes, Ordering::SeqCst);
    }

    /// The bytes of all shards.
    pub(crate) fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.bytes.load(Ordering::SeqCst)).sum()
    }

    /// The same, with the bodies of control API requests, and clients' messages that wait for the host.
    pub(crate) fn all_bytes(&self) -> usize {
        self.bytes() + self.bodies.load(Ordering::SeqCst) + self.waiting()
    }

    /// The bytes of clients' messages that wait for the host's answer.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Notes how many of these a shard keeps now, and kept before.
    pub(crate) fn set_waiting(&self, before: usize, now: usize) {
        // Only the difference: another shard that looks in between must not see more than there ever was.
        if now >= before {
            self.waiting.fetch_add(now - before, Ordering::Relaxed);
        } else {
            self.waiting.fetch_sub(before - now, Ordering::Relaxed);
        }
    }

    /// Begins to count a body of a control API request.
    pub(crate) fn body(&self) -> BodyInbox<'_> {
        BodyInbox { all: &self.bodies, bytes: 0 }
    }

    /// The shard with the largest client of all, which has to give way if there are more than `max` bytes. A client that
    /// is the only one never has to: otherwise it could never send the largest message that is allowed.
    pub(crate) fn gives_way(&self, max: usize) -> Option<usize> {
        let all = self.bytes();
        if all <= max {
            return None;
        }
        let sizes = self.shards.iter().map(|shard| shard.largest.load(Ordering::SeqCst));
        let (shard, largest) = sizes.enumerate().max_by_key(|(_, largest)| *largest)?;
        (largest < all).then_some(shard)
    }

    /// Asks another shard to look whether its largest client has to give way.
    pub(crate) fn ask(&self, shard: usize) {
        if !self.shards[shard].asked.swap(true, Ordering::SeqCst) {
            (self.ask)(shard);
        }
    }

    /// A shard that was asked is about to look.
    pub(crate) fn looks(&self, shard: usize) {
        self.shards[shard].asked.store(false, Ordering::SeqCst);
    }
}

/// Counts a body of a control API request for as long as it lives.
#[derive(Debug)]
pub(crate) struct BodyInbox<'i> {
    all: &'i AtomicUsize,
    bytes: usize,
}

impl BodyInbox<'_> {
    /// Counts a part that came. False if all bodies together have more than `max` bytes, and this one is not alone.
    pub(crate) fn add(&mut self, bytes: usize, max: usize) -> bool {
        self.bytes += bytes;
        let all = self.all.fetch_add(bytes, Ordering::SeqCst) + bytes;
        all <= max || all == self.bytes
    }
}

impl Drop for BodyInbox<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn beyond_the_bound_the_shard_with_the_largest_gives_way() {
        let inboxes = Inboxes::new(3, Box::new(|_| {}));
        inboxes.set(0, 500, 100);
        inboxes.set(1, 300, 200);
        assert_eq!((inboxes.bytes(), inboxes.gives_way(800)), (800, None));
        assert_eq!(inboxes.gives_way(799), Some(1));
        inboxes.set(2, 201, 201);
        assert_eq!(inboxes.gives_way(799), Some(2));
    }

    #[test]
    fn one_that_is_alone_may_be_as_large_as_it_is() {
        let inboxes = Inboxes::new(2, Box::new(|_| {}));
        inboxes.set(1, 2000, 2000);
        assert_eq!(inboxes.gives_way(1000), None);
        inboxes.set(0, 1, 1);
        assert_eq!(inboxes.gives_way(1000), Some(1));
    }

    #[test]
    fn bodies_share_their_bound_and_one_alone_may_be_larger() {
        let inboxes = Inboxes::new(1, Box::new(|_| {}));
        inboxes.set(0, 900, 900);
        let (mut first, mut second) = (inboxes.body(), inboxes.body());
        assert!(first.add(1500, 1000), "it is alone");
        assert!(!second.add(1, 1000));
        drop(first);
        assert!(second.add(999, 1000));
        assert_eq!((inboxes.bytes(), inboxes.all_bytes()), (900, 1900));
        drop(second);
        assert_eq!(inboxes.all_bytes(), 900);
    }

    #[test]
    #[cfg_attr(miri, ignore = "slow there")]
    fn what_waits_is_never_seen_to_be_more_than_it_was() {
        let inboxes = Inboxes::new(1, Box::new(|_| {}));
        inboxes.set_waiting(0, 1000);
        std::thread::scope(|scope| {
            let changes = scope.spawn(|| {
                for _ in 0..200_000 {
                    inboxes.set_waiting(1000, 1001);
                    inboxes.set_waiting(1001, 1000);
                }
            });
            while !changes.is_finished() {
                let waiting = inboxes.waiting();
                assert!((1000..=1001).contains(&waiting), "{waiting}");
            }
        });
        inboxes.set_waiting(1000, 0);
        assert_eq!(inboxes.waiting(), 0);
    }

    #[test]
    fn a_shard_is_asked_once_until_it_looks() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let into = asked.clone();
        let inboxes = Inboxes::new(2, Box::new(move |shard| into.lock().unwrap().push(shard)));
        inboxes.ask(1);
        inboxes.ask(1);
        inboxes.looks(1);
        inboxes.ask(1);
        assert_eq!(*asked.lock().unwrap(), [1, 1]);
    }
}
