//! Clients with patterns. The model has a subscription for each channel that a pattern fits, and a gap of the pattern
//! excuses what is missing in these.

use super::*;

pub(super) fn fits(pattern: &str, name: &str) -> bool {
    name.starts_with(&pattern[..pattern.len() - 1]) && name != EVERYBODY
}

impl World {
    pub(super) fn come_by_pattern(
        &mut self,
        client: usize,
        shard: usize,
        (names, patterns): (&[&'static str], &[&'static str]),
        start: Start<'_>,
        limit: usize,
    ) {
        let named = names.iter().map(|name| Subscription::new(name, false));
        let fitted =
            CHANNELS.iter().filter(|name| !names.contains(name) && patterns.iter().any(|pattern| fits(pattern, name)));
        self.clients[client] = Client {
            shard,
            channels: named.chain(fitted.map(|name| Subscription::new(name, true))).collect(),
            patterns: patterns.iter().map(|pattern| (*pattern, None)).collect(),
            phase: Phase::CatchingUp,
            position: 0,
            joined: self.seq,
        };
        self.ask_by_pattern(client, start, limit, Join::Always);
    }

    /// A poll joins as well, unless it does not wait, and goes with its answer.
    pub(super) fn ask_by_pattern(&mut self, client: usize, start: Start<'_>, limit: usize, join: Join) {
        let Client { shard, channels, patterns, .. } = &self.clients[client];
        let (shard, patterns): (usize, Vec<_>) = (*shard, patterns.iter().map(|(pattern, _)| *pattern).collect());
        let all: Vec<_> = channels.iter().map(|channel| channel.name).collect();
        let named: Vec<_> = channels.iter().filter(|one| !one.by_pattern).map(|one| one.name).collect();
        let names: Vec<_> = named.iter().chain(&patterns).copied().collect();
        let cut = Cut::Head;
        let request = Request { shard, names: &names[..], start, limit, broadcasts: true, cut, join };
        let (mut replay, mut ids) = (Replay::default(), Vec::new());
        self.hub.subscribe(&request, &mut replay, &mut ids);
        if join != Join::Never && self.is_too_much(&patterns) {
            assert!(replay.is_full && ids.is_empty(), "there are more patterns than may be");
            self.clients[client].phase = Phase::Away;
            return;
        }
        let joined = if join == Join::Never { 0 } else { names.len() };
        assert!(replay.complete && ids.len() == joined, "{replay:?}");
        let is_answered = join == Join::IfEmpty && !replay.items.is_empty();
        let expected = self.expected(if start == Start::New { &named } else { &all }, start);
        let expected: Vec<_> = expected.into_iter().filter(|(.., gap)| !gap).collect();
        let (gaps, messages): (Vec<&Item>, Vec<&Item>) = replay.items.iter().partition(|item| item.is_gap());
        let got: Vec<_> = messages.iter().map(|item| shown(item)).collect();
        assert!(expected.ends_with(&got), "{got:?} of {expected:?}");
        assert!(limit < usize::MAX || expected.len() == got.len(), "{got:?} of {expected:?}");
        let is_here = |position: Position<'_>| position.epoch == self.epoch.as_str() && position.seq <= self.seq;
        let foreign = matches!(start, Start::Since(position) if !is_here(position));
        // A shard tells gaps first.
        for gap in gaps {
            self.account_gap(client, gap, (start, foreign, replay.position));
        }
        for message in messages.into_iter().filter(|item| item.seq() > 0) {
            self.account(client, message, foreign || !matches!(start, Start::Since(_)));
        }
        self.reached(client, replay.position, true);
        if join == Join::Never {
            self.clients[client].phase = Phase::Away;
            return;
        }
        self.clients[client].phase = Phase::Live;
        self.clients[client].joined = replay.position;
        self.clients[client].channels.iter_mut().for_each(|channel| channel.joined = replay.position);
        for (id, name) in ids {
            let Client { channels, patterns, .. } = &mut self.clients[client];
            if let Some(place) = channels.iter().position(|one| !one.by_pattern && *one.name == *name) {
                self.join(client, place, id, replay.position);
                continue;
            }
            let pattern = patterns.iter_mut().find(|(pattern, _)| **pattern == *name).expect("a pattern it asked for");
            pattern.1 = Some(id);
            self.shards[shard].subscriptions.entry(id).or_insert((pattern.0, 0)).1 += 1;
            self.shards[shard].told.insert(pattern.0, true);
        }
        if is_answered {
            self.go(client);
        }
    }

    /// A live client subscribes to a pattern. Nothing is read again that it has by name.
    pub(super) fn subscribe_pattern_live(&mut self, source: &mut Source<'_>) {
        let (client, pattern, is_new) =
            (source.below(CLIENTS), PATTERNS[source.below(PATTERNS.len())], source.below(2) == 0);
        let (limit, seen) = (self.limit(source), source.byte());
        let Client { shard, phase, patterns, .. } = &self.clients[client];
        let shard = *shard;
        // Of several patterns the model knows only those of one request.
        if *phase != Phase::Live || !patterns.is_empty() || self.is_too_much(&[pattern]) {
            return;
        }
        self.deliver(shard, usize::MAX);
        self.reached(client, self.seq, true);
        let (epoch, since) = (self.epoch.clone(), u64::from(seen) % (self.seq + 1));
        let (start, covered) = match is_new {
            true => (Start::New, self.seq),
            false => (Start::Since(Position { epoch: epoch.as_str(), seq: since }), since),
        };
        let has = |name: &str| self.clients[client].channels.iter().any(|channel| channel.name == name);
        let (named, fitted): (Vec<&str>, Vec<&str>) =
            CHANNELS.into_iter().filter(|name| fits(pattern, name)).partition(|name| has(name));
        let others: Vec<Arc<str>> = named.into_iter().map(Arc::from).collect();
        let (names, cut, join) = (&[pattern], Cut::Head, Join::Always);
        let request = Request { shard, names, start, limit, broadcasts: false, cut, join };
        let (mut replay, mut ids) = (Replay::default(), Vec::new());
        self.hub.subscribe_beside(&request, &others, &mut replay, &mut ids);
        assert!(replay.complete && ids.len() == 1, "{replay:?}");
        for name in fitted.iter().copied() {
            let joined = replay.position;
            let subscription = Subscription { covered: Some(covered), joined, ..Subscription::new(name, true) };
            self.clients[client].channels.push(subscription);
        }
        let (gaps, messages): (Vec<&Item>, Vec<&Item>) = replay.items.iter().partition(|item| item.is_gap());
        for gap in gaps {
            self.account_gap(client, gap, (start, false, replay.position));
        }
        let after = replay.read_from.after(pattern);
        let got: Vec<u64> = messages.iter().map(|item| item.seq()).collect();
        for name in &fitted {
            let known = self.known[name].kept.iter().map(|kept| kept.seq);
            known
                .filter(|seq| *seq > after)
                .for_each(|seq| assert!(got.contains(&seq), "{seq} of {name} after {after}"));
        }
        messages.into_iter().for_each(|message| self.account(client, message, false));
        self.reached(client, replay.position, true);
        let (id, _) = ids[0];
        self.clients[client].patterns.push((pattern, Some(id)));
        self.shards[shard].subscriptions.entry(id).or_insert((pattern, 0)).1 += 1;
        self.shards[shard].told.insert(pattern, true);
    }

    fn account_gap(&mut self, client: usize, gap: &Item, (start, foreign, position): (Start<'_>, bool, u64)) {
        let (seq, name, _) = shown(gap);
        if !name.ends_with('*') {
            let is_asked = |one: &Subscription| one.name == name && !one.by_pattern;
            assert!(name == EVERYBODY || self.clients[client].channels.iter().any(is_asked), "a gap of {name}");
            return self.account(client, gap, foreign || !matches!(start, Start::Since(_)));
        }
        assert!(seq <= position && start != Start::New, "a gap beyond {position}");
        let known = &self.known;
        let mut fitted =
            self.clients[client].channels.iter_mut().filter(|one| one.by_pattern && fits(&name, one.name)).peekable();
        let mut is_lost = foreign || fitted.peek().is_none();
        for channel in fitted {
            is_lost |= known[channel.name].any_between(channel.covered.unwrap_or(0), seq + 1);
            if matches!(start, Start::Since(_)) {
                channel.covered = channel.covered.or(Some(0));
            }
            // What another epoch had is nobody's any more.
            channel.excused = channel.excused.max(if foreign { position } else { seq });
        }
        assert!(is_lost, "{name}: a gap up to {seq} though nothing is lost");
    }

    /// Whether there would be more different patterns than may be.
    fn is_too_much(&self, wanted: &[&'static str]) -> bool {
        let names = self.shards.iter().flat_map(|shard| shard.subscriptions.values().map(|(name, _)| *name));
        let mut there: Vec<_> = names.filter(|name| name.ends_with('*')).collect();
        there.sort_unstable();
        there.dedup();
        let new = wanted.iter().filter(|pattern| !there.contains(pattern)).count();
        new > 0 && there.len() + new > MAX_PATTERNS
    }

    pub(super) fn leave_patterns(&mut self, client: usize) {
        let ids: Vec<_> = self.clients[client].patterns.iter_mut().filter_map(|(_, id)| id.take()).collect();
        ids.into_iter().for_each(|id| self.leave_id(self.clients[client].shard, id));
    }
}
