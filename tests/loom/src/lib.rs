//! `src/hub/mailbox.rs` with loom's atomics in place of the machine's.
//!
//! What is proved: whoever leaves something in the mailbox of a shard, the shard gets it; it never sleeps for good with
//! something there. That it can be disproved is shown with the same code without its fence, which loom must find to
//! hang.
#![cfg(test)]

mod models;

/// The same tests for either.
macro_rules! scenarios {
    () => {
        use crate::models::{Bell, Message};
        use super::mailbox::{Delivery, Mailbox, Wake};
        use loom::sync::atomic::{AtomicUsize, Ordering};
        use std::sync::Arc;

        impl Wake for Arc<Bell> {
            fn wake(&self) {
                self.ring();
            }
        }

        fn delivery(number: u64) -> Delivery {
            Delivery { channel: 1, message: Arc::new(Message(number)) }
        }

        /// A shard: takes what is there, and sleeps when it may, until it has `count`.
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

        fn two_publishers_and_a_shard() {
            loom::model(|| {
                let bell = Arc::new(Bell::default());
                let mailbox = Arc::new(Mailbox::new(4, Box::new(bell.clone())));
                // The hub's lock: who leaves a message has it, who wakes has let go of it.
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
                assert_eq!(take(&mailbox, &bell, 2), [1, 2], "both, in the order of the sequence");
            });
        }

        fn a_command_beside_the_mailbox() {
            loom::model(|| {
                let bell = Arc::new(Bell::default());
                let mailbox = Arc::new(Mailbox::new(2, Box::new(bell.clone())));
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
                let bell = Arc::new(Bell::default());
                let mailbox = Arc::new(Mailbox::new(4, Box::new(bell.clone())));
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
                assert_eq!(bell.rung(), 1, "one system call, however many publish meanwhile");
            });
        }
    };
}

pub(crate) use scenarios;

/// The mailbox without its fence.
mod broken;
/// The mailbox as it is.
mod real;
