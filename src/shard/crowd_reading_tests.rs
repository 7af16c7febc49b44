//! What each client of the crowd may read next, by what was published.

use super::crowd_client_tests::{Ask, Client, Item, Told};
use super::crowd_tests::{World, CHANNELS, PATTERNS};
use serde_json::Value;

impl World {
    /// Messages of a channel between two numbers.
    pub(super) fn between(&self, channel: &str, after: u64, before: u64) -> Vec<u64> {
        let theirs = self.published.iter().filter(|(_, name)| **name == channel).map(|(seq, _)| *seq);
        theirs.filter(|seq| *seq > after && *seq < before).collect()
    }

    pub(super) fn take(&mut self, number: usize, item: &Item) {
        let value = match item {
            Item::Head(position) => {
                let client = &mut self.clients[number];
                client.on.values_mut().for_each(|reached| *reached = *position);
                client.read.values_mut().for_each(|read| *read = (Some(*position), *position));
                return;
            }
            Item::Answer(answer) => return self.take_answer(number, answer),
            Item::Object(value) => value,
        };
        let name = value["channel"].as_str().unwrap_or("");
        let channel = *CHANNELS.iter().chain(&PATTERNS).find(|known| **known == name).unwrap();
        let seq = value["id"].as_str().map(|id| id.rsplit('-').next().unwrap().parse::<u64>().unwrap());
        let client = &mut self.clients[number];
        match value["type"].as_str().unwrap() {
            "presence" | "join" | "leave" => client.presence.take(value),
            kind @ ("message" | "broadcast" | "gap" | "end" | "position") => {
                let Some(seq) = seq else { return assert_eq!(kind, "end") };
                self.take_one(number, (channel, seq), kind, value);
            }
            "subscribed" => self.take_subscribed(number, channel, seq.unwrap()),
            "unsubscribed" => {
                assert_eq!(client.requests.asked.pop_front(), Some((channel, Ask::Leave)), "{value}");
                assert!(client.has(channel), "{value}");
                client.presence.unfollow(channel);
                client.named.retain(|name| *name != channel);
                client.patterns.retain(|name| *name != channel);
                client.read.remove(channel);
                client.requests.told = Told::default();
                // They may have begun without it.
                let is_name = !channel.ends_with('*');
                let fitting = client.read.iter_mut().filter(|(pattern, _)| is_name && fits(&[**pattern], channel));
                fitting.for_each(|(_, read)| read.0 = Some(read.1));
                let Client { on, named, patterns, .. } = client;
                on.retain(|name, _| name.is_empty() || named.contains(name) || fits(patterns, name));
            }
            "error" => {
                let (asked, ask) = client.requests.asked.pop_front().unwrap();
                let expected = if ask == Ask::Leave { "not_subscribed" } else { "subscribed" };
                assert_eq!((asked, value["code"].as_str().unwrap()), (channel, expected), "{value}");
                assert_eq!(client.has(channel), ask != Ask::Leave, "{value}");
                client.requests.told = Told::default();
            }
            "close" if value["code"] == 1000 => {
                client.closed = true;
                assert!(client.patterns.is_empty(), "a pattern does not end");
                for (channel, reached) in self.clients[number].on.iter().filter(|(channel, _)| !channel.is_empty()) {
                    let ended = self.newest(channel, *reached).is_some_and(|(_, ends)| ends);
                    assert!(ended, "it is closed, but {channel} has not ended up to {reached}");
                }
            }
            "close" => {
                assert_eq!(value["code"], 4429, "{value}");
                client.closed = true;
            }
            _ => panic!("{value}"),
        }
    }

    fn take_one(&mut self, number: usize, (channel, seq): (&'static str, u64), kind: &str, value: &Value) {
        let client = &mut self.clients[number];
        let asked = client.requests.asked.front().copied().filter(|(asked, _)| covers(asked, channel));
        if kind == "end" {
            client.on.values_mut().filter(|reached| **reached == u64::MAX).for_each(|reached| *reached = seq);
            client.read.values_mut().filter(|read| read.1 == u64::MAX).for_each(|read| *read = (Some(seq), seq));
            client.requests.told.end |= asked.is_some_and(|(asked, _)| asked == channel);
        }
        let since = match asked {
            Some((_, Ask::Since(since))) => Some(since),
            _ => None,
        };
        client.requests.told.gap |= kind == "gap" && since.is_some();
        if channel.ends_with('*') {
            assert!(kind == "gap" && since.is_some(), "{value}");
            return;
        }
        match (asked, since) {
            (_, Some(since)) => {
                client.on.entry(channel).or_insert(since);
            }
            (Some((_, Ask::New)), _) if kind == "end" => {
                client.on.entry(channel).or_insert(seq);
            }
            _ => {}
        }
        let reached = *client.on.get(channel).unwrap_or_else(|| panic!("it is not on that: {value}"));
        let is_late = since.is_some() && seq <= reached && client.has_by_pattern(channel);
        let gap = client.requests.told.gap;
        if kind == "end" && is_late && client.begun(channel).is_none_or(|begun| seq > begun) {
            // It has come by a pattern, and is told again behind everything.
            return;
        }
        // What it asks for anew of a channel that it has by a pattern ends where the pattern has begun.
        let from = match since.filter(|_| is_late) {
            Some(since) => {
                assert!(!client.named.contains(&channel), "{value} comes again");
                let begun = client.begun(channel);
                let is_new = begun.is_none_or(|begun| seq <= begun) || matches!(kind, "gap" | "end");
                assert!(is_new || gap, "{value} comes again: by the pattern all has come after {begun:?}");
                client.requests.told.missed.insert(channel, seq).unwrap_or(since)
            }
            None => client.on.insert(channel, seq).unwrap_or(reached),
        };
        let may_be_there = matches!(kind, "gap" | "end") && (seq == from || is_late);
        assert!(seq > from || may_be_there, "{value} after {from}");
        let mut missing = self.between(channel, from, seq);
        let id = self.clients[number].id;
        let leaves_out = |seq: &u64| id.is_some() && self.excepted.get(seq).copied() == id;
        if matches!(kind, "message" | "broadcast" | "position") {
            assert_eq!(kind == "position", leaves_out(&seq), "{value}");
        }
        // What comes at once leads further than their positions, which are left out then.
        missing.retain(|seq| !leaves_out(seq));
        let told = kind == "gap" || (gap && since.is_some()) || self.policy(channel) == "latest";
        assert!(told || missing.is_empty(), "{missing:?} are missing before {value}");
        if !is_late {
            self.lead(number, seq);
        }
    }

    fn take_subscribed(&mut self, number: usize, name: &'static str, seq: u64) {
        let client = &mut self.clients[number];
        let (asked, ask) = client.requests.asked.pop_front().unwrap();
        assert_eq!(asked, name, "another answer");
        let told = std::mem::take(&mut client.requests.told);
        let from = match ask {
            Ask::Since(since) => since,
            _ => seq,
        };
        for channel in CHANNELS.into_iter().filter(|channel| covers(name, channel)) {
            let client = &self.clients[number];
            if client.has_by_pattern(channel) && !client.named.contains(&channel) {
                let until = client.begun(channel).filter(|_| !told.gap && self.policy(channel) != "latest");
                let from = told.missed.get(channel).copied().unwrap_or(from);
                let missing = self.between(channel, from, until.unwrap_or(0).saturating_add(1));
                let leaves_out = |seq: &u64| client.id.is_some() && self.excepted.get(seq).copied() == client.id;
                assert!(missing.iter().all(leaves_out), "{missing:?} of {channel} have not come with {name}");
            }
            let reached = self.clients[number].on.entry(channel).or_insert(from);
            *reached = if told.gap { seq.max(*reached) } else { *reached };
        }
        let has_ended = self.newest(name, seq).is_some_and(|(_, ends)| ends);
        assert!(!has_ended || told.end || told.gap || ask == Ask::Url, "{name} has ended, and nobody has said so");
        let client = &mut self.clients[number];
        match name.ends_with('*') {
            _ if ask == Ask::Url => {}
            false => {
                client.named.push(name);
                client.presence.follow(name);
            }
            true => {
                client.patterns.push(name);
                client.read.insert(name, (Some(from).filter(|_| !told.gap), seq));
            }
        }
        // Who stores this position has everything before it, of all its channels.
        let all: Vec<_> = client.on.keys().copied().collect();
        all.into_iter().for_each(|channel| self.reach(number, channel, seq));
    }

    /// A client with this position comes back behind it. So it covers what leaves the client out in its other channels,
    /// if nothing else is missing there.
    fn lead(&mut self, number: usize, seq: u64) {
        let Client { id, on, .. } = &self.clients[number];
        let covers = |(channel, reached): (&&'static str, &u64)| {
            let missing = self.between(channel, *reached, seq + 1);
            let leaves_out = |seq: &u64| id.is_some() && self.excepted.get(seq) == id.as_ref();
            (*reached < seq && !missing.is_empty() && missing.iter().all(leaves_out)).then_some(*channel)
        };
        for channel in on.iter().filter_map(covers).collect::<Vec<_>>() {
            self.clients[number].on.insert(channel, seq);
        }
    }

    /// Nothing of a channel up to there may be missing. This leads further than the positions of what leaves the client
    /// out. A message may have led further before, and be gone by now under `latest`.
    pub(super) fn reach(&mut self, number: usize, channel: &'static str, seq: u64) {
        let Client { id, on, .. } = &self.clients[number];
        let reached = on[channel];
        let mut missing = self.between(channel, reached, seq + 1);
        missing.retain(|seq| id.is_none() || self.excepted.get(seq) != id.as_ref());
        assert!(missing.is_empty() || self.policy(channel) == "latest", "{channel}: {missing:?} before {seq}");
        self.clients[number].on.insert(channel, reached.max(seq));
    }
}

/// Whether a name or a pattern is of a channel.
fn covers(name: &str, channel: &str) -> bool {
    name == channel || (name.ends_with('*') && fits(&[name], channel))
}

/// Whether one of these patterns fits a channel.
pub(super) fn fits(patterns: &[&str], channel: &str) -> bool {
    !channel.is_empty() && patterns.iter().any(|pattern| channel.starts_with(&pattern[..pattern.len() - 1]))
}

impl Client {
    /// Whether it has a channel by name, or a pattern.
    fn has(&self, name: &str) -> bool {
        self.named.contains(&name) || self.patterns.contains(&name)
    }

    fn has_by_pattern(&self, channel: &str) -> bool {
        fits(&self.patterns, channel)
    }

    /// The number after which it has everything of a channel by its patterns. `None`: nobody knows.
    fn begun(&self, channel: &str) -> Option<u64> {
        let fitting = self.read.iter().filter(|(pattern, _)| fits(&[**pattern], channel));
        let begun: Option<Vec<u64>> = fitting.map(|(_, (begun, _))| *begun).collect();
        begun?.into_iter().min()
    }
}
