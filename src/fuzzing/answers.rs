//! Questions to all hubs: their words, and the answers that are added up.

use super::Source;
use crate::cluster::{channels, merge_stats, stats, users, Channel, MergingChannels, MergingUsers, Outcome, Said};
use crate::hub::ChannelInfo;
use crate::metrics::losses::Loss;
use crate::metrics::Stats;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A hub that says something else than it should has this one's answer changed, or none of it.
struct Hub {
    bytes: Vec<u8>,
    is_honest: bool,
}

/// The answers of some hubs, of which a part is changed, against a plain model. The first byte chooses what is asked.
pub(super) fn run(data: &[u8]) {
    let mut source = Source(data);
    match source.below(4) {
        0 => words(source.0),
        1 => of_users(&mut source),
        2 => of_channels(&mut source),
        _ => of_stats(&mut source),
    }
}

/// A word that can be read is written in one way only.
fn words(data: &[u8]) {
    if let Ok(said) = Said::read(data) {
        assert_eq!(said.write(), data);
    }
}

/// An answer, or what became of it.
fn hub(honest: Vec<u8>, source: &mut Source<'_>) -> Hub {
    let mut bytes = honest.clone();
    match source.below(6) {
        0 => {
            for _ in 0..=source.below(4) {
                let at = (source.below(256) << 8 | source.below(256)) % bytes.len().max(1);
                bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << source.below(8));
            }
        }
        1 => bytes.truncate((source.below(256) << 8 | source.below(256)) % (bytes.len() + 1)),
        2 => {
            let count = source.below(40);
            bytes = source.take(count).to_vec();
        }
        3 => {
            // A figure of eight bytes.
            let at = source.below(64);
            bytes.iter_mut().skip(at).take(8).for_each(|byte| *byte = u8::MAX);
        }
        _ => {}
    }
    Hub { is_honest: bytes == honest, bytes }
}

/// Each hub has its place as its name.
fn outcome(hubs: &[Hub]) -> Outcome {
    let answers = hubs.iter().enumerate().map(|(name, hub)| (name as u64, hub.bytes.clone())).collect();
    let mut outcome = Outcome { answers, ..Outcome::default() };
    (outcome.hubs.asked, outcome.hubs.answered) = (hubs.len(), hubs.len());
    outcome
}

/// Each hub has answered, or is missing. An honest one is not.
fn check(hubs: &[Hub], outcome: &Outcome) {
    let missing: BTreeSet<u64> = outcome.hubs.missing.iter().copied().collect();
    assert_eq!(missing.len(), outcome.hubs.missing.len(), "a hub is named twice");
    assert_eq!(outcome.hubs.answered + missing.len(), outcome.hubs.asked);
    assert!(missing.iter().all(|hub| !hubs[*hub as usize].is_honest), "an honest hub is missing");
    assert!(missing.is_empty() || outcome.hubs.partial().is_some());
}

fn name(source: &mut Source<'_>) -> String {
    // Few names, so that hubs have the same ones.
    let name = ["a", "b", "ada", "\u{e4}", "zz"][source.below(5)];
    format!("{name}{}", source.below(3))
}

fn of_users(source: &mut Source<'_>) {
    let (key, limit, after) = (source.below(256) as u64, source.below(12), ["", "ada1", "b"][source.below(3)]);
    let (mut expected, mut anonymous, mut is_there) = (BTreeMap::<String, u64>::new(), 0, false);
    let mut hubs = Vec::new();
    for _ in 0..=source.below(4) {
        let present = (source.below(5) > 0).then(|| {
            let count = source.below(12);
            ((0..count).map(|_| name(source)).collect::<Vec<_>>(), source.below(3))
        });
        if let Some((names, nameless)) = &present {
            names.iter().for_each(|name| *expected.entry(name.clone()).or_default() += 1);
            (anonymous, is_there) = (anonymous + *nameless as u64, true);
        }
        let present = present.map(|(names, nameless)| (names.into_iter().map(Arc::from).collect(), nameless));
        hubs.push(hub(users(key, present, after, limit), source));
    }
    let (merged, outcome) = MergingUsers::new(outcome(&hubs), limit).all();
    check(&hubs, &outcome);
    if let Some(merged) = &merged {
        assert!(merged.page.len() <= limit && merged.page.is_sorted_by(|a, b| a.name < b.name));
        assert!(merged.anonymous <= merged.connections);
        let listed = merged.page.iter().try_fold(0, |sum: u64, user| sum.checked_add(user.connections));
        assert!(listed.is_some_and(|listed| listed <= merged.connections - merged.anonymous), "{merged:?}");
    }
    if hubs.iter().any(|hub| !hub.is_honest) {
        return;
    }
    assert_eq!(merged.is_some(), is_there);
    let Some(merged) = merged else { return };
    assert_eq!((merged.count, merged.anonymous), (expected.len() as u64, anonymous));
    assert_eq!(merged.connections, anonymous + expected.values().sum::<u64>());
    let mut page: Vec<(String, u64)> = expected.into_iter().filter(|(name, _)| **name > *after).collect();
    let more = page.len() > limit;
    page.truncate(limit);
    let listed = merged.page.iter().map(|user| (user.name.to_string(), user.connections));
    assert!(listed.eq(page) && merged.more == more, "{merged:?}");
}

fn of_channels(source: &mut Source<'_>) {
    let limit = source.below(12);
    let mut expected = BTreeMap::<String, u64>::new();
    let mut hubs = Vec::new();
    for _ in 0..=source.below(4) {
        let mut found = BTreeMap::new();
        for _ in 0..source.below(8) {
            found.insert(name(source), source.below(256) as u32);
        }
        let more = found.len() > limit;
        let row = |(name, subscribers): (&String, &u32)| ChannelInfo {
            name: (**name).into(),
            subscribers: *subscribers,
            messages: 3,
            bytes: 9,
            newest: Some(7),
        };
        found
            .iter()
            .for_each(|(name, subscribers)| *expected.entry(name.clone()).or_default() += u64::from(*subscribers));
        let rows: Vec<ChannelInfo> = found.iter().take(limit).map(row).collect();
        let loss = |_: &str| Loss { slow_closed: 1, dropped: 0, replaced: 2 };
        hubs.push(hub(channels(&rows, more, |seq| format!("e-{seq}"), loss), source));
    }
    let (merged, outcome) = MergingChannels::new(outcome(&hubs), 0, limit).all();
    check(&hubs, &outcome);
    let is_plain =
        |channel: &Channel| channel.position.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    assert!(merged.listed.len() <= limit && merged.listed.values().all(is_plain));
    if hubs.iter().any(|hub| !hub.is_honest) {
        return;
    }
    let more = expected.len() > limit;
    let listed = merged.listed.iter().map(|(name, channel)| (name.clone(), channel.subscribers));
    assert!(listed.eq(expected.into_iter().take(limit)) && merged.more == more, "{merged:?}");
}

fn of_stats(source: &mut Source<'_>) {
    let (mut connections, mut seq) = (0, 0);
    let mut hubs = Vec::new();
    for _ in 0..=source.below(4) {
        let of = Stats { connections: source.below(256) as u64, seq: source.below(256) as u64, ..Stats::default() };
        (connections, seq) = (connections + of.connections, seq.max(of.seq));
        hubs.push(hub(stats(&of), source));
    }
    let (sums, each, outcome) = merge_stats(outcome(&hubs));
    check(&hubs, &outcome);
    assert_eq!(each.len(), outcome.hubs.answered);
    let of = |name: &str| sums.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    if hubs.iter().all(|hub| hub.is_honest) {
        assert_eq!((of("connections"), of("seq")), (Some(connections), Some(seq)));
    }
}
