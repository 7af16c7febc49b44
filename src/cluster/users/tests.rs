//! Answers about users, and what is made of those of several hubs.

use super::super::table::Outcome;
use super::super::words::{MAX_ANSWER, MAX_COUNT};
use super::{users, Answering, MergingUsers, MAX_HASHES};
use crate::engine::log_model::Random;
use crate::users::{Users, AT_ONCE, MAX_USERS};
use std::collections::BTreeMap;
use std::sync::Arc;

fn merge_users(outcome: Outcome, limit: usize) -> (Option<Users>, Outcome) {
    MergingUsers::new(outcome, limit).all()
}

fn named(names: &[&str]) -> Option<(Vec<Arc<str>>, usize)> {
    Some((names.iter().map(|name| Arc::from(*name)).collect(), 1))
}

fn outcome(answers: Vec<Vec<u8>>) -> Outcome {
    let answers = answers.into_iter().enumerate().map(|(hub, bytes)| (hub as u64, bytes)).collect();
    Outcome { answers, ..Outcome::default() }
}

/// The page as one line of text.
fn merged(hubs: &[&[&str]], after: &str, limit: usize) -> String {
    let answers = hubs.iter().map(|names| users(9, named(names), after, limit)).collect();
    let users = merge_users(outcome(answers), limit).0.unwrap();
    let connections = hubs.iter().map(|names| names.len() as u64 + 1).sum::<u64>();
    assert_eq!((users.anonymous, users.connections), (hubs.len() as u64, connections));
    let listed: Vec<_> = users.page.iter().map(|user| format!("{}:{}", user.name, user.connections)).collect();
    format!("{} of {}, more: {}", listed.join(" "), users.count, users.more)
}

#[test]
fn a_user_of_several_hubs_is_one_with_all_connections() {
    let hubs: [&[&str]; 3] = [&["ada", "bob", "ada"], &["ada", "eve"], &[]];
    assert_eq!(merged(&hubs, "", 10), "ada:3 bob:1 eve:1 of 3, more: false");
    assert_eq!(merged(&hubs, "", 2), "ada:3 bob:1 of 3, more: true");
    assert_eq!(merged(&hubs, "ada", 1), "bob:1 of 3, more: true");
    assert_eq!(merged(&hubs, "bob", 1), "eve:1 of 3, more: false");
    assert_eq!(merged(&hubs, "", 0), " of 3, more: true");
}

#[test]
fn a_channel_that_no_hub_has_is_none() {
    assert_eq!(merge_users(outcome(vec![users(1, None, "", 1), users(1, None, "", 1)]), 1).0, None);
    let one = merge_users(outcome(vec![users(1, None, "", 1), users(1, named(&["a"]), "", 1)]), 1).0;
    assert_eq!(one.unwrap().count, 1);
}

#[test]
fn each_user_is_on_exactly_one_page_also_if_answers_are_cut() {
    // Names are long, so a hub lists fewer than are asked for.
    let name = |number: usize| format!("{number:04}{}", "x".repeat(246));
    let mut random = Random(1);
    let mut hubs = vec![Vec::new(); 3];
    let mut expected = BTreeMap::new();
    for number in 0..2500 {
        for hub in &mut hubs {
            if random.one_in(2) {
                hub.push(Arc::<str>::from(name(number)));
                *expected.entry(name(number)).or_insert(0) += 1;
            }
        }
    }
    for limit in [700, MAX_USERS] {
        let (mut seen, mut after, mut pages) = (BTreeMap::new(), String::new(), 0);
        loop {
            let answer = |hub: &Vec<Arc<str>>| users(3, Some((hub.clone(), 0)), &after, limit);
            let answers: Vec<Vec<u8>> = hubs.iter().map(answer).collect();
            assert!(answers.iter().all(|answer| answer.len() <= MAX_ANSWER));
            let page = merge_users(outcome(answers), limit).0.unwrap();
            assert_eq!(page.count, expected.len() as u64);
            assert!(page.page.len() <= limit && !page.page.is_empty());
            for user in &page.page {
                assert_eq!(seen.insert(user.name.to_string(), user.connections), None);
            }
            after = page.page.last().unwrap().name.to_string();
            pages += 1;
            if !page.more {
                break;
            }
        }
        assert!(seen == expected && pages > 1);
    }
}

#[test]
fn a_count_that_can_only_be_bounded_says_so() {
    let many: Vec<Arc<str>> = (0..MAX_HASHES + 10).map(|number| format!("{number}").into()).collect();
    let answers = vec![users(1, Some((many.clone(), 0)), "", 0), users(1, Some((many, 0)), "", 0)];
    assert!(answers.iter().all(|answer| answer.len() <= MAX_ANSWER));
    let (users, outcome) = merge_users(outcome(answers), 0);
    assert_eq!(users.unwrap().count, MAX_HASHES as u64 + 20);
    assert!(outcome.hubs.partial().unwrap().contains("too many users"));
}

#[test]
fn an_answer_with_figures_that_can_not_be_is_refused() {
    let good = users(1, named(&["ada", "bob", "bob"]), "", 9);
    // The figures: connections, anonymous ones, users; how many are listed; the connections of each.
    let [connections, anonymous, count, listed, ada, bob] = [2, 10, 18, 26, 34, 46];
    assert_eq!(
        (good[connections], good[anonymous], good[count], good[listed], good[ada], good[bob]),
        (4, 1, 2, 2, 1, 2)
    );
    let with = |at: usize, value: u64| {
        let mut bytes = good.clone();
        let len = if at == listed { 4 } else { 8 };
        bytes[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
        merge_users(outcome(vec![bytes]), 9).1.hubs.missing
    };
    for (at, value) in [(connections, 4), (connections, MAX_COUNT), (count, 3), (ada, 1)] {
        assert_eq!(with(at, value), [0u64; 0], "{at} {value}");
    }
    for (at, value) in [
        (connections, u64::MAX),
        (connections, MAX_COUNT + 1),
        (connections, 3),
        (anonymous, 5),
        (anonymous, u64::MAX),
        (count, 4),
        (count, 1),
        (listed, 3),
        (ada, 0),
        (ada, 2),
        (bob, u64::MAX),
    ] {
        assert_eq!(with(at, value), [0], "{at} {value}");
    }
}

#[test]
fn an_answer_that_is_none_is_not_counted_and_its_hub_is_named() {
    let good = users(1, named(&["ada", "bob"]), "", 9);
    for len in 0..good.len() - 16 {
        let (_, outcome) = merge_users(outcome(vec![good[..len].to_vec()]), 9);
        assert_eq!(outcome.hubs.missing, [0], "{len}");
    }
    let (users, outcome) = merge_users(outcome(vec![good.clone(), [&good[..], b"x"].concat()]), 9);
    assert_eq!((users.unwrap().count, outcome.hubs.missing), (2, vec![1]));
}

#[test]
fn a_large_answer_is_made_in_many_short_steps() {
    let names: Vec<Arc<str>> = (0..100).map(|number| format!("u{:02}", number * 7919 % 40).into()).collect();
    let named = names.chunks(30).map(<[_]>::to_vec).collect();
    let mut answering = Answering::new(3, (named, 2), "u05", 20);
    let mut steps = 1;
    while answering.step() {
        steps += 1;
    }
    // Each name is sorted once, and counted once.
    assert!((2 * 100 / AT_ONCE..2 * 100 / AT_ONCE + 8).contains(&steps), "{steps}");
    assert_eq!(answering.end(), users(3, Some((names, 2)), "u05", 20));
}

#[test]
fn the_answers_of_hubs_with_many_users_are_put_together_in_many_short_steps() {
    let name = |number: usize| -> Arc<str> { format!("u{number:03}").into() };
    let hub = |hub: usize| users(3, Some(((hub * 20..hub * 20 + 60).map(name).collect(), 1)), "", 100);
    let mut merging = MergingUsers::new(outcome((0..4).map(hub).collect()), 100);
    let mut steps = 1;
    while merging.step() {
        steps += 1;
    }
    // Each of the 240 names is read, its hash is sorted and counted, and nearly all are merged.
    let about = 4 * 240 / AT_ONCE;
    assert!((about - 40..about + 40).contains(&steps), "{steps} and {about}");
    let users = merging.end().0.unwrap();
    assert_eq!((users.count, users.connections, users.anonymous, users.page.len()), (120, 244, 4, 100));
    let sum: u64 = users.page.iter().map(|user| user.connections).sum();
    assert_eq!((sum, users.more), (220, true));
}
