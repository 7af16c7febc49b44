//! The channels of all hubs together. The history of a channel is the same at all of them; its subscribers are added up.

use super::table::Outcome;
use super::words::{MAX_ANSWER, MAX_COUNT};
use crate::engine::entry::{short, Fields};
use crate::hub::{check_channel, ChannelInfo};
use crate::metrics::losses::Loss;
use std::collections::BTreeMap;
use std::vec;

/// The most bytes of a channel in an answer.
const ROW: usize = 400;

/// A channel, as one hub or all hubs have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Channel {
    pub(crate) subscribers: u64,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    /// The position of the newest message. Empty if there is none.
    pub(crate) position: String,
    pub(crate) loss: Loss,
}

/// Channels by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Channels {
    pub(crate) listed: BTreeMap<String, Channel>,
    pub(crate) more: bool,
}

/// The answer of a hub. `found` is in the order of names.
pub(crate) fn channels(
    found: &[ChannelInfo],
    mut more: bool,
    position: impl Fn(u64) -> String,
    loss: impl Fn(&str) -> Loss,
) -> Vec<u8> {
    let mut answer = vec![0];
    for info in found {
        if answer.len() + ROW > MAX_ANSWER {
            more = true;
            break;
        }
        let loss = loss(&info.name);
        short(&mut answer, &info.name);
        let figures = [info.subscribers.into(), info.messages as u64, info.bytes as u64];
        for figure in figures.into_iter().chain([loss.slow_closed, loss.dropped, loss.replaced]) {
            answer.extend_from_slice(&figure.to_le_bytes());
        }
        short(&mut answer, &info.newest.map_or_else(String::new, &position));
    }
    answer[0] = more.into();
    answer
}

fn read(bytes: &[u8]) -> Option<(bool, Vec<(&str, Channel)>)> {
    let mut fields = Fields(bytes);
    let more = fields.u8()? != 0;
    let (mut rows, mut last) = (Vec::new(), "");
    while !fields.0.is_empty() {
        let name = fields.short()?;
        if check_channel(name).is_err() || name <= last {
            return None;
        }
        let mut figure = || fields.u64().filter(|figure| *figure <= MAX_COUNT);
        let (subscribers, messages, bytes) = (figure()?, figure()?, figure()?);
        let loss = Loss { slow_closed: figure()?, dropped: figure()?, replaced: figure()? };
        let position = fields.short()?;
        // It goes into JSON as it is.
        if !position.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return None;
        }
        rows.push((name, Channel { subscribers, messages, bytes, position: position.to_owned(), loss }));
        last = name;
    }
    Some((more, rows))
}

/// The channels of all hubs that have answered, while they are put together: one answer in each step.
#[derive(Debug)]
pub(crate) struct MergingChannels {
    outcome: Outcome,
    answers: vec::IntoIter<(u64, Vec<u8>)>,
    limit: usize,
    /// A hub that has more channels than it lists says nothing of the names after its last one.
    until: Option<String>,
    merged: Channels,
}

impl MergingChannels {
    /// Puts the answers together, in a list of at most `limit`. `this`: what the hub that is asked says of a history
    /// counts.
    pub(crate) fn new(mut outcome: Outcome, this: u64, limit: usize) -> Self {
        let mut answers = std::mem::take(&mut outcome.answers);
        answers.sort_by_key(|(hub, _)| *hub != this);
        MergingChannels { outcome, answers: answers.into_iter(), limit, until: None, merged: Channels::default() }
    }

    /// Goes on. Returns true if there is more to do.
    pub(crate) fn step(&mut self) -> bool {
        let Some((hub, bytes)) = self.answers.next() else { return false };
        match read(&bytes) {
            Some((more, rows)) => self.add(more, rows),
            None => self.outcome.hubs.not_readable(hub),
        }
        true
    }

    fn add(&mut self, more: bool, rows: Vec<(&str, Channel)>) {
        let merged = &mut self.merged;
        if more {
            let last = rows.last().map_or("", |(name, _)| *name);
            if self.until.as_ref().is_none_or(|until| *last < **until) {
                self.until = Some(last.to_owned());
            }
            merged.more = true;
        }
        for (name, channel) in rows {
            let Some(sum) = merged.listed.get_mut(name) else {
                merged.listed.insert(name.to_owned(), channel);
                continue;
            };
            sum.subscribers = sum.subscribers.saturating_add(channel.subscribers);
            for (sum, more) in [
                (&mut sum.loss.slow_closed, channel.loss.slow_closed),
                (&mut sum.loss.dropped, channel.loss.dropped),
                (&mut sum.loss.replaced, channel.loss.replaced),
            ] {
                *sum = sum.saturating_add(more);
            }
        }
        // As many stand before these, so no other answer brings them back.
        while merged.listed.len() > self.limit {
            merged.listed.pop_last();
            merged.more = true;
        }
    }

    /// The channels, after the last step.
    pub(crate) fn end(self) -> (Channels, Outcome) {
        let MergingChannels { outcome, until, mut merged, .. } = self;
        if let Some(until) = until {
            merged.listed.retain(|name, _| *name <= until);
        }
        (merged, outcome)
    }

    /// The channels, in one go.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn all(mut self) -> (Channels, Outcome) {
        while self.step() {}
        self.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(channels_of: &[(&str, u32)], more: bool) -> Vec<u8> {
        let info = |(name, subscribers): &(&str, u32)| ChannelInfo {
            name: (*name).into(),
            subscribers: *subscribers,
            messages: 5,
            bytes: 50,
            newest: Some(9),
        };
        let found: Vec<ChannelInfo> = channels_of.iter().map(info).collect();
        let loss = |_: &str| Loss { slow_closed: 1, dropped: 2, replaced: 3 };
        channels(&found, more, |seq| format!("e-{seq}"), loss)
    }

    fn merged(answers: Vec<Vec<u8>>, limit: usize) -> (Channels, Outcome) {
        let answers = answers.into_iter().enumerate().map(|(hub, bytes)| (hub as u64, bytes)).collect();
        MergingChannels::new(Outcome { answers, ..Outcome::default() }, 1, limit).all()
    }

    fn shown(answers: Vec<Vec<u8>>, limit: usize) -> String {
        let (channels, _) = merged(answers, limit);
        let row = |(name, channel): (&String, &Channel)| format!("{name}:{}", channel.subscribers);
        format!("{} more: {}", channels.listed.iter().map(row).collect::<Vec<_>>().join(" "), channels.more)
    }

    #[test]
    fn subscribers_and_losses_are_added_up_and_the_history_is_one() {
        let (channels, outcome) = merged(vec![answer(&[("a", 2), ("b", 1)], false), answer(&[("b", 3)], false)], 9);
        assert_eq!(outcome.hubs.missing, [0u64; 0]);
        let loss = Loss { slow_closed: 2, dropped: 4, replaced: 6 };
        let expected = Channel { subscribers: 4, messages: 5, bytes: 50, position: "e-9".into(), loss };
        assert_eq!((channels.listed.len(), &channels.listed["b"]), (2, &expected));
    }

    #[test]
    fn what_a_hub_may_not_have_listed_is_not_shown() {
        let hubs = || vec![answer(&[("a", 1), ("b", 1)], true), answer(&[("a", 1), ("c", 1)], false)];
        assert_eq!(shown(hubs(), 9), "a:2 b:1 more: true");
        assert_eq!(shown(hubs(), 1), "a:2 more: true");
        assert_eq!(shown(vec![answer(&[], false), answer(&[], false)], 1), " more: false");
    }

    #[test]
    fn each_answer_is_a_step_and_no_more_is_kept_than_is_listed() {
        let names: Vec<String> = (0..40).map(|number| format!("c{:02}", number * 7 % 40)).collect();
        let mut all: Vec<Vec<(&str, u32)>> =
            names.chunks(10).map(|some| some.iter().map(|name| (&**name, 1)).collect()).collect();
        all.iter_mut().for_each(|some| some.sort_unstable());
        let answers = all.iter().zip(0..).map(|(some, hub)| (hub, answer(some, false))).collect();
        let mut merging = MergingChannels::new(Outcome { answers, ..Outcome::default() }, 1, 7);
        for _ in 0..4 {
            assert!(merging.step());
            assert!(merging.merged.listed.len() <= 7);
        }
        assert!(!merging.step());
        let (channels, _) = merging.end();
        assert!(channels.more && channels.listed.into_keys().eq((0..7).map(|number| format!("c{number:02}"))));
    }

    #[test]
    fn a_large_answer_is_cut_and_says_so() {
        let names: Vec<String> = (0..5000).map(|number| format!("{number:0200}")).collect();
        let rows: Vec<(&str, u32)> = names.iter().map(|name| (&**name, 1)).collect();
        let large = answer(&rows, false);
        assert!(large.len() <= MAX_ANSWER);
        let (channels, _) = merged(vec![large], 10_000);
        assert!(channels.more && channels.listed.len() > 1000);
    }

    #[test]
    fn an_answer_that_is_none_is_not_counted_and_its_hub_is_named() {
        let good = answer(&[("a", 1)], false);
        for bad in [vec![], good[..good.len() - 1].to_vec(), [&good[..], &good[1..]].concat()] {
            let (channels, outcome) = merged(vec![bad, good.clone()], 9);
            assert_eq!((channels.listed.len(), outcome.hubs.missing), (1, vec![0]));
        }
        for at in 0..6 {
            let mut absurd = good.clone();
            absurd[3 + 8 * at..][..8].fill(u8::MAX);
            assert_eq!(merged(vec![absurd, good.clone()], 9).1.hubs.missing, [0], "{at}");
        }
        let strange = channels(
            &[ChannelInfo { name: "a".into(), subscribers: 1, messages: 1, bytes: 1, newest: Some(1) }],
            false,
            |_| "\"".to_owned(),
            |_| Loss::default(),
        );
        assert_eq!(merged(vec![strange], 9).1.hubs.missing, [0]);
    }
}
