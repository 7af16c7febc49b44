//! Clients of the crowd that poll: each answer has all that came up to its position, or tells what is missing.

use super::crowd_client_tests::{Client, Kind};
use super::crowd_reading_tests::fits;
use super::crowd_tests::{World, CHANNELS};
use serde_json::Value;

/// What the request of a poll says beside its channels.
pub(super) struct Polls<'a> {
    position: Option<&'a str>,
    presence: Option<&'a str>,
    waits: bool,
}

impl Polls<'_> {
    /// The first one does not wait, and so gives it a position.
    pub(super) fn first(follows: bool) -> Self {
        Polls { position: None, presence: follows.then_some("1"), waits: false }
    }
}

/// The request of a poll.
pub(super) fn request(query: &str, Polls { position, presence, waits }: &Polls<'_>) -> Vec<u8> {
    let member = |name: &str, value: &Option<&str>| value.map_or_else(String::new, |value| format!("{name}={value}&"));
    let (since, presence) = (member("since", position), member("presence", presence));
    let wait = if *waits { "" } else { "wait=0" };
    format!("{query}{since}{presence}{wait} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes()
}

impl World {
    pub(super) fn take_answer(&mut self, number: usize, answer: &Value) {
        let position = number_of(&answer["position"]).unwrap();
        let (news, messages): (Vec<&Value>, Vec<&Value>) =
            answer["messages"].as_array().unwrap().iter().partition(|one| one["type"] == "presence");
        news.into_iter().for_each(|one| self.clients[number].presence.take(one));
        assert_eq!(answer["presence"].is_string(), self.clients[number].presence.follows, "{answer}");
        let gaps: Vec<&str> = messages
            .iter()
            .filter(|one| one["type"] == "gap")
            .map(|gap| gap["channel"].as_str().unwrap_or(""))
            .collect();
        let channels: Vec<&'static str> = self.clients[number].on.keys().copied().collect();
        // What a gap stands for has any place before the next message of its channel.
        let told: Vec<&str> = channels.iter().copied().filter(|one| self.is_told(number, one, &gaps)).collect();
        for one in messages.iter().filter(|one| one["type"] != "gap") {
            self.take_of_answer(number, one, &told);
        }
        for channel in channels {
            let reached = self.clients[number].on[channel];
            if told.contains(&channel) || reached == u64::MAX {
                let reached = if reached == u64::MAX { position } else { reached.max(position) };
                self.clients[number].on.insert(channel, reached);
            } else if answer["more"] != true {
                self.reach(number, channel, position);
            }
            assert!(answer["more"] == true || self.clients[number].on[channel] == position, "{channel}: {answer}");
        }
        if answer["ended"] == true {
            return self.end_polling(number, position);
        }
        let waits = self.random.below(4) > 0;
        let Kind::Poll(query) = &self.clients[number].kind else { panic!("it does not poll: {answer}") };
        let (position, presence) = (answer["position"].as_str(), answer["presence"].as_str());
        let next = request(query, &Polls { position, presence, waits });
        assert!(self.clients[number].send(next), "a socket has room for a request");
    }

    fn end_polling(&mut self, number: usize, position: u64) {
        let Client { patterns, on, closed, .. } = &mut self.clients[number];
        assert!(patterns.is_empty(), "a pattern does not end");
        *closed = true;
        let channels: Vec<_> = on.keys().copied().filter(|channel| !channel.is_empty()).collect();
        for channel in channels {
            assert!(self.newest(channel, position).is_some_and(|(_, ends)| ends), "{channel} has not ended");
        }
    }

    /// Whether one of these gaps may stand for messages of a channel. A channel that is named has its own.
    fn is_told(&self, number: usize, channel: &str, gaps: &[&str]) -> bool {
        let is_named = self.clients[number].named.contains(&channel);
        gaps.iter().any(|gap| *gap == channel || (gap.ends_with('*') && !is_named && fits(&[*gap], channel)))
    }

    fn take_of_answer(&mut self, number: usize, one: &Value, told: &[&str]) {
        let name = one["channel"].as_str().unwrap_or("");
        let channel = *CHANNELS.iter().find(|known| **known == name).unwrap();
        let Some(seq) = number_of(&one["id"]) else { return assert_eq!(one["type"], "end") };
        let Client { id, on, .. } = &self.clients[number];
        let (id, reached) = (*id, *on.get(channel).unwrap_or_else(|| panic!("it is not on that: {one}")));
        if reached == u64::MAX {
            assert_eq!(one["type"], "end", "the first answer has the ends, at its own position: {one}");
        } else {
            assert!(seq > reached, "{one} after {reached}");
            let leaves_out = |seq: &u64| id.is_some() && self.excepted.get(seq).copied() == id;
            assert!(one["type"] == "end" || !leaves_out(&seq), "{one} leaves it out");
            let mut missing = self.between(channel, reached, seq);
            missing.retain(|seq| !leaves_out(seq));
            assert!(missing.is_empty() || told.contains(&channel), "{missing:?} are missing before {one}");
        }
        self.clients[number].on.insert(channel, seq);
    }
}

fn number_of(id: &Value) -> Option<u64> {
    id.as_str().map(|id| id.rsplit('-').next().unwrap().parse().unwrap())
}
