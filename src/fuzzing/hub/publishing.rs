//! Publishing to the hub and to the model: retention, refusals, and idempotency keys.

use super::*;
use crate::hub::Key;

/// A message to publish.
struct Wanted {
    channel: &'static str,
    key: Option<&'static str>,
    message: Arc<Message>,
}

impl World {
    pub(super) fn retention(&self, channel: &str) -> Retention {
        if channel.starts_with(self.special.0) {
            self.special.1
        } else {
            self.general
        }
    }

    pub(super) fn publish(&mut self, source: &mut Source<'_>, count: usize) {
        let mut wanted = Vec::new();
        for _ in 0..count {
            let channel = source.below(CHANNELS.len() + 1);
            let channel = CHANNELS.get(channel).copied().unwrap_or(EVERYBODY);
            let (key, size) = (KEYS.get(source.below(8)).copied(), source.below(240));
            wanted.push(match size {
                200..220 if channel != EVERYBODY => Wanted { channel, key: None, message: marked(Mark::End) },
                220..240 if channel != EVERYBODY => Wanted { channel, key: None, message: marked(Mark::Begin) },
                _ => Wanted { channel, key, message: message(size) },
            });
        }
        // A copy, since the hub needs a message that nobody shares.
        let outgoing =
            |wanted: &Wanted| Outgoing::new(wanted.channel, wanted.key.map(Key::Host), copy(&wanted.message));
        let before = self.hub.stats();
        let result = match &wanted[..] {
            [one] => self.hub.publish(outgoing(one), self.now).map(|published| vec![published]),
            all => self.hub.publish_batch(all.iter().map(outgoing).collect(), self.now),
        };
        let refused = self.refusal(&wanted);
        match (result, refused) {
            (Ok(published), None) => {
                for (wanted, published) in wanted.iter().zip(published) {
                    assert_eq!(published.seq, self.note(wanted));
                }
            }
            (Err(error), Some(kind)) => {
                assert_eq!(error.kind(), kind);
                let after = self.hub.stats();
                assert_eq!(
                    (after.seq, after.history_bytes),
                    (before.seq, before.history_bytes),
                    "a refused publish changed the hub"
                );
            }
            (result, refused) => panic!("the hub answers {result:?}, the model {refused:?}"),
        }
    }

    /// The error with which the hub must refuse a publish, if it must.
    fn refusal(&mut self, wanted: &[Wanted]) -> Option<Kind> {
        let single_known = wanted.len() == 1 && self.known_before(&wanted[0]).is_some();
        if single_known {
            return None;
        }
        let mut needed = [0; SHARDS];
        for Wanted { channel, .. } in wanted {
            for (shard, needed) in needed.iter_mut().enumerate() {
                *needed += usize::from(self.delivers_to(shard, channel));
            }
        }
        if needed.iter().any(|needed| *needed > self.room) {
            return Some(Kind::TooLarge);
        }
        let full =
            (0..SHARDS).any(|shard| needed[shard] + self.shards[shard].mail.len() > self.room && needed[shard] > 0);
        full.then_some(Kind::Busy)
    }

    fn delivers_to(&self, shard: usize, channel: &str) -> bool {
        let is_told = |name: &str| name == channel || (name.ends_with('*') && by_pattern::fits(name, channel));
        channel == EVERYBODY || self.shards[shard].told.iter().any(|(name, told)| *told && is_told(name))
    }

    fn known_before(&self, wanted: &Wanted) -> Option<u64> {
        if wanted.message.mark() == Some(Mark::End) {
            return self.known[wanted.channel].end();
        }
        self.known_key(wanted.channel, wanted.key)
    }

    fn known_key(&self, channel: &str, key: Option<&str>) -> Option<u64> {
        let key = key?;
        let alive = |since: u64| self.now - since < self.key_window;
        let same = |used: &&UsedKey| used.channel == channel && used.key == key && alive(used.used_at);
        self.keys.iter().rev().find(same).map(|used| used.seq)
    }

    /// Adds a message to the model. Returns the number that the hub must give it.
    fn note(&mut self, wanted: &Wanted) -> u64 {
        if let Some(seq) = self.known_before(wanted) {
            return seq;
        }
        let Wanted { channel, key, message } = wanted;
        let (channel, key, mark) = (*channel, *key, message.mark());
        self.seq += 1;
        let seq = self.seq;
        self.excepted.extend(message.except().map(|id| (seq, id)));
        if let Some(key) = key {
            self.keys.push(UsedKey { channel, key, used_at: self.now, seq });
        }
        for shard in 0..SHARDS {
            if self.delivers_to(shard, channel) {
                self.shards[shard].mail.push_back((seq, channel));
            }
        }
        let retention = self.retention(channel);
        let known = self.known.get_mut(channel).expect("a channel");
        known.all.push(seq);
        if retention.count == 0 || retention.bytes == 0 {
            known.trimmed = seq;
            known.is_whole = false;
            return seq;
        }
        if mark == Some(Mark::Begin) {
            while !known.kept.is_empty() {
                known.drop_oldest();
            }
            known.is_whole = true;
        } else if let Some(end) = known.end() {
            known.kept.pop_back();
            known.all.retain(|seq| *seq != end);
            known.taken_back.push(end);
        }
        known.kept.push_back(Kept { seq, weight: message.weight(), published_at: self.now, mark });
        while known.kept.len() > retention.count || known.bytes() > retention.bytes {
            known.drop_oldest();
        }
        self.trim_to_total();
        seq
    }

    fn trim_to_total(&mut self) {
        while self.known.values().map(Known::bytes).sum::<usize>() > self.total_limit {
            let kept = self.known.values_mut().filter(|known| !known.kept.is_empty());
            kept.min_by_key(|known| known.kept[0].seq).expect("something is kept").drop_oldest();
        }
    }

    /// Changes the bounds, and perhaps the channels that they are for. Messages beyond the new bounds are dropped at
    /// once: first by channel, then by the common bound, then by age.
    pub(super) fn reload(&mut self, source: &mut Source<'_>) {
        let prefix = ["b", "b.", "c", "a"][source.below(4)];
        (self.general, self.special) = (retention(source), (prefix, retention(source)));
        self.total_limit = total_limit(source);
        let patterns = patterns(self.special);
        self.hub.reconfigure(&settings(self.general, &patterns, self.total_limit, self.key_window), self.now);
        for name in CHANNELS.into_iter().chain([EVERYBODY]) {
            let retention = self.retention(name);
            let known = self.known.get_mut(name).expect("a channel");
            while known.kept.len() > retention.count || known.bytes() > retention.bytes {
                known.drop_oldest();
            }
        }
        self.trim_to_total();
        self.expire();
    }

    pub(super) fn expire(&mut self) {
        while self.hub.expire(self.now) {}
        let now = self.now;
        let (general, (prefix, special)) = (self.general, self.special);
        for (name, known) in &mut self.known {
            let age = if name.starts_with(prefix) { special } else { general }.age_ms;
            while known.kept.front().is_some_and(|oldest| now - oldest.published_at >= age) {
                known.drop_oldest();
            }
        }
    }

    pub(super) fn clear(&mut self, channel: &'static str) {
        self.hub.clear(channel);
        let known = self.known.get_mut(channel).expect("a channel");
        while !known.kept.is_empty() {
            known.drop_oldest();
        }
    }

    /// Checks that the hub has the same messages as the model.
    pub(super) fn compare(&self) {
        let stats = self.hub.stats();
        let kept: usize = self.known.values().map(|known| known.kept.len()).sum();
        let bytes: usize = self.known.values().map(Known::bytes).sum();
        assert_eq!(stats.ended, self.known.values().filter(|known| known.end().is_some()).count() as u64, "ended");
        // A pattern does not end.
        let named = self.clients.iter().filter(|client| client.patterns.is_empty());
        for client in named.filter(|client| client.phase == Phase::Live) {
            let ends: Option<Vec<u64>> = client.channels.iter().map(|channel| self.known[channel.name].end()).collect();
            let newest = ends.and_then(|ends| ends.into_iter().max());
            assert_eq!(
                self.hub.all_ended(client.channels.iter().filter_map(|channel| channel.id)),
                newest,
                "all ended"
            );
        }
        assert_eq!(
            (stats.seq, stats.history_messages, stats.history_bytes),
            (self.seq, kept as u64, bytes as u64),
            "sequence, messages kept, bytes kept"
        );
    }
}

fn copy(message: &Message) -> Arc<Message> {
    let (mark, except) = (message.mark(), message.except());
    Message::new(&Publication { mark, except, ..Publication::new("", message.data()) }, false, b"")
}

fn marked(mark: Mark) -> Arc<Message> {
    Message::new(&Publication::mark("", mark), false, b"")
}
