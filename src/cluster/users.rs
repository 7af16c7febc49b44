//! The users on a channel, of all hubs together.

use super::hashes::hash;
use super::table::Outcome;
use super::words::{MAX_ANSWER, MAX_COUNT};
use crate::engine::entry::{short, Fields};
use crate::hub::check_text;
use crate::users::{User, Users, MAX_USERS};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// The bytes of an answer that names may take. The hashes get the rest.
const NAMES: usize = MAX_ANSWER / 2;
/// The most hashes in an answer.
const MAX_HASHES: usize = (MAX_ANSWER - NAMES) / 8 - 64;

/// The answer of a hub: its page, its counts, and a hash of each name. `None`: it does not have the channel. `key`: the
/// bits of the question.
pub(crate) fn users(key: u64, present: Option<(Vec<Arc<str>>, usize)>, after: &str, limit: usize) -> Vec<u8> {
    let Some((mut named, anonymous)) = present else { return vec![0] };
    named.sort_unstable();
    let (mut page, mut listed, mut more, mut hashes) = (Vec::new(), 0u32, false, Vec::new());
    let connections = named.len() + anonymous;
    let mut count = 0u64;
    for same in named.chunk_by(|a, b| a == b) {
        count += 1;
        if hashes.len() < MAX_HASHES * 8 {
            hashes.extend_from_slice(&hash(key, &same[0]).to_le_bytes());
        }
        if *same[0] <= *after || more {
            continue;
        }
        // A name takes at most 264 bytes.
        if listed as usize == limit || page.len() + 264 > NAMES {
            more = true;
            continue;
        }
        short(&mut page, &same[0]);
        page.extend_from_slice(&(same.len() as u64).to_le_bytes());
        listed += 1;
    }
    let mut answer = vec![1, more.into()];
    for number in [connections as u64, anonymous as u64, count] {
        answer.extend_from_slice(&number.to_le_bytes());
    }
    answer.extend_from_slice(&listed.to_le_bytes());
    answer.extend_from_slice(&page);
    answer.extend_from_slice(&hashes);
    answer
}

/// The answer of a hub, as it is read.
struct Answer<'a> {
    more: bool,
    connections: u64,
    anonymous: u64,
    count: u64,
    page: Vec<(&'a str, u64)>,
    hashes: Vec<u64>,
}

impl<'a> Answer<'a> {
    /// `Some(None)`: the hub does not have the channel.
    fn read(bytes: &'a [u8]) -> Option<Option<Self>> {
        let mut fields = Fields(bytes);
        match fields.u8()? {
            0 => return fields.0.is_empty().then_some(None),
            1 => {}
            _ => return None,
        }
        let more = fields.u8()? != 0;
        let (connections, anonymous, count) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let listed = fields.u32()? as usize;
        let named = connections.checked_sub(anonymous)?;
        // Each user has a connection.
        if listed > MAX_USERS || connections > MAX_COUNT || count > named || listed as u64 > count {
            return None;
        }
        let (mut page, mut last, mut left) = (Vec::new(), "", named);
        for _ in 0..listed {
            let (name, connections) = (fields.short()?, fields.u64()?);
            if check_text("user", name, 255).is_err() || name <= last || connections == 0 {
                return None;
            }
            left = left.checked_sub(connections)?;
            page.push((name, connections));
            last = name;
        }
        let (hashes, rest) = fields.0.as_chunks::<8>();
        let hashes: Vec<u64> = hashes.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        let good = rest.is_empty() && hashes.len() as u64 <= count;
        good.then_some(Some(Answer { more, connections, anonymous, count, page, hashes }))
    }
}

/// The users of all hubs that have answered. `None`: none of them has the channel.
pub(crate) fn merge_users(outcome: Outcome, limit: usize) -> (Option<Users>, Outcome) {
    let mut outcome = outcome;
    let answers = std::mem::take(&mut outcome.answers);
    let mut read = Vec::new();
    for (hub, bytes) in &answers {
        match Answer::read(bytes) {
            Some(answer) => read.extend(answer),
            None => outcome.hubs.not_readable(*hub),
        }
    }
    if read.is_empty() {
        return (None, outcome);
    }
    let mut merged = Users::default();
    let (mut all, mut hashes, mut beyond) = (BTreeMap::<&str, u64>::new(), HashSet::<u64>::new(), 0u64);
    // A hub that has more names than it lists says nothing of the names after its last one.
    let mut until: Option<&str> = None;
    for answer in &read {
        merged.connections = merged.connections.saturating_add(answer.connections);
        merged.anonymous = merged.anonymous.saturating_add(answer.anonymous);
        hashes.extend(&answer.hashes);
        beyond = beyond.saturating_add(answer.count.saturating_sub(answer.hashes.len() as u64));
        for (name, connections) in &answer.page {
            let sum = all.entry(name).or_default();
            *sum = sum.saturating_add(*connections);
        }
        if answer.more {
            let last = answer.page.last().map_or("", |(name, _)| *name);
            until = Some(until.map_or(last, |until| until.min(last)));
            merged.more = true;
        }
    }
    if beyond > 0 {
        outcome.hubs.note("there are too many users to tell which are on several hubs: these count several times");
    }
    merged.count = (hashes.len() as u64).saturating_add(beyond);
    for (name, connections) in all {
        if until.is_some_and(|until| name > until) || merged.page.len() == limit {
            merged.more = true;
            break;
        }
        merged.page.push(User { name: name.into(), connections });
    }
    (Some(merged), outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::log_model::Random;

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
}
