//! `src/hub/mailbox.rs` with loom's atomics in place of the machine's.
//!
//! The tests prove that a shard gets everything that any thread leaves in its mailbox: it never sleeps for good while
//! something is there. The same tests also run on the mailbox without its fence, and loom must find that this one
//! hangs.
#![cfg(test)]

mod models;

/// The mailbox passes it on with a message.
mod trace {
    #[derive(Debug, Clone, Copy, Default)]
    pub(crate) struct Ticket;
}

/// The tests for both mailboxes.
macro_rules! scenarios {
    () => {
        use super::mailbox::{Delivery, Mailbox, Wake};
        use crate::models::{Bell, Message};
        use loom::sync::atomic::{AtomicUsize, Ordering};
        use std::sync::Arc;

        impl Wake for Arc<Bell> {
            fn wake(&self) {
                self.ring();
            }
        }

        fn delivery(number: u64) -> Delivery {
            Delivery { channel: 1, ticket: Default::default(), message: Arc::new(Message(number)) }
        }

        /// A shard: takes messages and sleeps when it may, until it has `count` messages.
        fn take(mailbox: &Mailbox, bell: &Bell, count: usize) -> Vec<u64> {
            let mut taken = Vec::new();
            loop {
                taken.extend(std::iter::from_fn(|| mailbox.pop()).map(|delivery| delivery.message.0));
                if taken.len() >= count {
                    return taken;
                }
                if mailbox.park(|| false) {
                    bell.wait();
                }
                mailbox.unpark();
            }
        }

        /// A mailbox with room for so many messages, and the bell that wakes its shard.
        fn belled(room: usize) -> (Arc<Bell>, Arc<Mailbox>) {
            let bell = Arc::new(Bell::default());
            (bell.clone(), Arc::new(Mailbox::new(room, Box::new(bell))))
        }

        fn two_publishers_and_a_shard() {
            loom::model(|| {
                let (bell, mailbox) = belled(4);
                // The hub's lock. A publisher holds it while it leaves a message, and releases it before it wakes the
                // shard.
                let hub = Arc::new(loom::sync::Mutex::new(0));
                for _ in 0..2 {
                    let (mailbox, hub) = (mailbox.clone(), hub.clone());
                    loom::thread::spawn(move || {
                        {
                            let mut seq = hub.lock().unwrap();
                            *seq += 1;
                            assert!(mailbox.push(delivery(*seq)));
                        }
                        mailbox.wake();
                    });
                }
                assert_eq!(take(&mailbox, &bell, 2), [1, 2], "both come, in the order of their numbers");
            });
        }

        fn a_command_beside_the_mailbox() {
            loom::model(|| {
                let (bell, mailbox) = belled(2);
                let commands = Arc::new(AtomicUsize::new(0));
                let (teller, told) = (mailbox.clone(), commands.clone());
                loom::thread::spawn(move || {
                    told.store(1, Ordering::Relaxed);
                    teller.wake();
                });
                while commands.load(Ordering::Relaxed) == 0 {
                    if mailbox.park(|| commands.load(Ordering::Relaxed) > 0) {
                        bell.wait();
                    }
                    mailbox.unpark();
                }
            });
        }

        fn a_wake_up_for_one_sleep() {
            loom::model(|| {
                let (bell, mailbox) = belled(4);
                let sleeps = mailbox.park(|| false);
                let publishers: Vec<_> = (0..2)
                    .map(|number| {
                        let mailbox = mailbox.clone();
                        loom::thread::spawn(move || {
                            assert!(mailbox.push(delivery(number)));
                            mailbox.wake();
                        })
                    })
                    .collect();
                for publisher in publishers {
                    publisher.join().unwrap();
                }
                assert!(sleeps);
                assert_eq!(bell.rung(), 1, "one system call for all publishers");
            });
        }
    };
}

pub(crate) use scenarios;

/// The mailbox without its fence.
mod broken;
/// The mailbox of the library.
mod real;
