//! Mistakes that are planted in the scripts, each of which the contract's tests must find.

use super::*;
use crate::engine::shared::contract_tests::{checks, run};
use std::cell::Cell;
use std::panic::{catch_unwind, AssertUnwindSafe};

thread_local! {
    /// What is replaced in the scripts that this thread loads, and by what.
    static PLANTED: Cell<Option<(&'static str, &'static str)>> = const { Cell::new(None) };
    static FOUND: Cell<bool> = const { Cell::new(false) };
}

/// A script as this thread loads it.
pub(in crate::engine::redis) fn into(script: String) -> String {
    match PLANTED.get() {
        Some((right, wrong)) if script.contains(right) => {
            FOUND.set(true);
            script.replace(right, wrong)
        }
        _ => script,
    }
}

/// The check must fail with the mistake.
#[track_caller]
fn is_found<F: Future<Output = ()>>(right: &'static str, wrong: &'static str, check: fn(Fresh) -> F) {
    const FRESH: Fresh = || Box::new(Redis::start(Program::Redis, &[]));
    PLANTED.set(Some((right, wrong)));
    let result = catch_unwind(AssertUnwindSafe(|| run(check(FRESH))));
    PLANTED.set(None);
    assert!(FOUND.get(), "no script has {right:?}");
    assert!(result.is_err(), "{wrong:?} in place of {right:?} is not found");
}

#[test]
fn entries_that_are_not_recognised_are_found() {
    is_found("count <= counter", "false", checks::an_entry_is_appended_once);
}

#[test]
fn keys_that_are_not_compared_are_found() {
    is_found("now - tonumber(since) < window then known", "false then known", checks::a_key_is_known_to_all_hubs);
}

#[test]
fn a_fence_that_compares_nothing_is_found() {
    is_found("log.fence ~= tonumber(ARGV[2])", "false", checks::of_two_hubs_that_write_a_fence_one_does);
}

#[test]
fn a_fence_that_is_trimmed_is_found() {
    let trimmed = "redis.call('HDEL', STATE, 'fence', 'fence_bytes')\nlog.length = redis.call('XLEN', LOG)\nsave(log)";
    is_found("log.length = redis.call('XLEN', LOG)\nsave(log)", trimmed, checks::the_last_fence_is_not_trimmed);
}

#[test]
fn appends_that_overtake_are_found() {
    is_found(
        "(latest == connection and after > accepted)",
        "false",
        checks::an_append_after_one_that_was_not_accepted_is_refused,
    );
}

#[test]
fn a_mark_of_another_life_is_found() {
    is_found(
        "local field = 'e' .. ARGV[6]",
        "local field = 'e' .. string.rep('0', 16)",
        checks::hubs_that_race_read_the_same,
    );
}
