//! One body of tests for every log that hubs share: each sentence of the [contract](crate::engine::contract) is checked
//! over real connections.
//!
//! An engine gives a [`Fresh`] way to make a log that nobody has used, and calls [`keeps_the_contract!`]. What its own
//! servers do when they fail is tested beside the engine.

mod hub;
mod model;
mod numbers;
// The tests outside have it as well.
#[allow(clippy::duplicate_mod)]
#[path = "../../../../tests/common/ports.rs"]
pub(crate) mod ports;
mod questions;
mod tails;
mod words;

// For the tests that engines have of their own.
#[allow(unused_imports)]
pub(crate) use hub::{bytes_of, heartbeat, message, Hub};

use super::connection::Connection;
use std::future::Future;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::pin::Pin;
use std::time::Duration;

/// How long a test waits for something that must come. It is long, as the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A log to which hubs connect. What serves it ends when it is dropped.
pub(crate) trait Log {
    /// A new connection for a life of a hub. It must succeed, perhaps after a few tries.
    fn connect(&self, hub: u64) -> Pin<Box<dyn Future<Output = Connection> + '_>>;
}

/// Makes a log that nobody has used.
pub(crate) type Fresh = fn() -> Box<dyn Log>;

/// Runs a test on a runtime of one thread, as the engine's is.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new()
        .block_on(&runtime, async { tokio::time::timeout(4 * PATIENCE, test).await.expect("the test takes too long") });
}

/// The same, so often at most, if the connection is lost on the way. On a busy machine three servers may choose another
/// leader at any time, and then every connection to the log ends.
pub(crate) fn run_again<F: Future<Output = ()>>(tries: usize, test: impl Fn() -> F) {
    for _ in 1..tries {
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(test()))) else { return };
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        if !text.is_some_and(|text| text.contains("the connection is lost")) {
            resume_unwind(panic);
        }
    }
    run(test());
}

/// Makes a test of each check. `$fresh` is a [`Fresh`]. `$tries`: see [`run_again`].
macro_rules! keeps_the_contract {
    ($fresh:expr) => {
        $crate::engine::shared::contract_tests::keeps_the_contract!($fresh, 1);
    };
    ($fresh:expr, $tries:expr) => {
        $crate::engine::shared::contract_tests::keeps_the_contract! { $fresh, $tries;
            each_number_is_one_more_than_the_one_before,
            an_entry_is_appended_once,
            an_entry_behind_a_later_one_of_its_hub_is_not_appended,
            a_key_is_known_to_all_hubs,
            a_key_twice_in_one_batch_is_appended_once,
            a_large_entry_comes_back_as_it_was,
            what_a_lost_connection_had_asked_for_is_appended_once_in_order,
            questions_are_answered_in_their_order,
            an_append_after_one_that_was_not_accepted_is_refused,
            the_identity_is_the_same_for_all_hubs,
            an_entry_is_named_by_its_number,
            a_fence_is_a_compare_and_set,
            of_two_hubs_that_write_a_fence_one_does,
            the_last_fence_is_not_trimmed,
            numbers_go_on_when_all_is_trimmed,
            a_hub_that_hangs_up_gets_no_more_answers,
            a_tail_begins_after_any_number,
            a_tail_that_has_all_says_so,
            a_tail_names_fences,
            hubs_that_race_read_the_same,
            a_tail_of_a_trimmed_log_begins_with_the_first_entry_left,
            a_tail_that_is_not_taken_holds_nothing_else_up,
            words_come_to_all_hubs_or_to_one,
        }
    };
    ($fresh:expr, $tries:expr; $($check:ident),* $(,)?) => {$(
        #[test]
        fn $check() {
            $crate::engine::shared::contract_tests::run_again($tries, || {
                $crate::engine::shared::contract_tests::checks::$check($fresh)
            });
        }
    )*};
}
pub(crate) use keeps_the_contract;

/// All checks, under one name for the macro.
pub(crate) mod checks {
    pub(crate) use super::numbers::*;
    pub(crate) use super::questions::*;
    pub(crate) use super::tails::*;
    pub(crate) use super::words::*;
}
