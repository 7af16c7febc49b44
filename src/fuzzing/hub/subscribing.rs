//! Clients that come, catch up, read, go, and subscribe to and unsubscribe from channels. Each message and gap that a
//! client gets is compared with what was published.

use super::*;

impl World {
    pub(super) fn come(&mut self, source: &mut Source<'_>) {
        let client = source.below(CLIENTS);
        let (shard, mask, how, limit) = (source.below(SHARDS), source.byte(), source.below(7), self.limit(source));
        let join = [Join::IfEmpty, Join::Never, Join::Always, Join::Always][source.below(4)];
        match self.clients[client].phase {
            Phase::CatchingUp => return self.catch_up(client, limit, Join::Always),
            Phase::Live => self.go(client),
            Phase::Away => {}
        }
        let returns = !self.clients[client].channels.is_empty() && how >= 2;
        if returns {
            // It comes back by its position, perhaps to another shard.
            self.clients[client].shard = shard;
            self.clients[client].phase = Phase::CatchingUp;
            return self.catch_up(client, limit, join);
        }
        let names: Vec<_> = (0..CHANNELS.len()).filter(|bit| mask >> bit & 1 == 1).map(|bit| CHANNELS[bit]).collect();
        let start = match how {
            0 => Start::New,
            1 => Start::Last(1 + usize::from(mask >> 5)),
            // Another epoch, or a number of this epoch that does not exist yet.
            2 => Start::Since(Position { epoch: "other", seq: 3 }),
            3 => Start::Beginning,
            _ => Start::Since(Position { epoch: "0000000000000", seq: self.seq + 1 }),
        };
        let of_mask = |bit: &usize| mask >> 4 & 1 == 1 && mask >> (5 + bit) & 1 == 1;
        let patterns: Vec<_> = (0..PATTERNS.len()).filter(of_mask).map(|bit| PATTERNS[bit]).collect();
        if !patterns.is_empty() {
            return self.come_by_pattern(client, shard, (&names, &patterns), start, limit);
        }
        let channels = names.iter().map(|name| Subscription::new(name, false)).collect();
        let (phase, patterns) = (Phase::CatchingUp, Vec::new());
        self.clients[client] = Client { shard, channels, patterns, phase, position: 0, joined: self.seq };
        self.ask(client, start, limit, Join::Always);
    }

    pub(super) fn limit(&self, source: &mut Source<'_>) -> usize {
        match source.below(4) {
            0 => usize::MAX,
            n => n * message(100).weight(),
        }
    }

    pub(super) fn catch_up(&mut self, client: usize, limit: usize, join: Join) {
        let seq = self.clients[client].position;
        let epoch = self.epoch.clone();
        let start = Start::Since(Position { epoch: epoch.as_str(), seq });
        if self.clients[client].channels.iter().any(|channel| channel.covered.is_none()) {
            // The client has no position yet.
            self.clients[client] = Client::default();
            return;
        }
        if !self.clients[client].patterns.is_empty() {
            return self.ask_by_pattern(client, start, limit, join);
        }
        self.ask(client, start, limit, join);
    }

    fn ask(&mut self, client: usize, start: Start<'_>, limit: usize, join: Join) {
        let names: Vec<_> = self.clients[client].channels.iter().map(|channel| channel.name).collect();
        let request = Request {
            shard: self.clients[client].shard,
            names: &names,
            start,
            limit,
            broadcasts: true,
            cut: Cut::Tail,
            join,
        };
        let (mut replay, mut ids) = (Replay::default(), anothers_channels());
        self.hub.subscribe(&request, &mut replay, &mut ids);
        let expected = self.expected(&names, start);
        let shown: Vec<_> = replay.items.iter().map(shown).collect();
        match start {
            Start::Last(_) => assert!(shown.iter().filter(|item| !item.2).all(|item| expected.contains(item))),
            _ if replay.complete => assert_eq!(shown, expected),
            _ => assert_eq!(shown, expected[..shown.len()], "a part is not the beginning of the whole"),
        }
        assert!(replay.complete || !shown.is_empty(), "a part is empty");
        let of_this_life = |position: Position<'_>| position.epoch == self.epoch.as_str() && position.seq <= self.seq;
        let foreign = matches!(start, Start::Since(position) if !of_this_life(position));
        // An end without a position is no step of the client's.
        for item in replay.items.iter().filter(|item| item.seq() > 0) {
            self.account(client, item, foreign || !matches!(start, Start::Since(_)));
        }
        self.reached(client, replay.position, replay.complete);
        if (foreign || start == Start::Beginning) && !replay.complete {
            // A replay for another epoch, or from the beginning, has no broadcasts. They count from here on.
            self.clients[client].joined = replay.position;
        }
        let joins = join == Join::Always || (join == Join::IfEmpty && replay.items.is_empty());
        let subscribed = replay.complete && joins;
        if !subscribed {
            assert!(ids.is_empty(), "there are subscriptions, though the replay was cut");
            self.clients[client].phase = if replay.complete { Phase::Away } else { Phase::CatchingUp };
            return;
        }
        self.clients[client].phase = Phase::Live;
        self.clients[client].joined = replay.position;
        for (place, (id, name)) in ids.iter().enumerate() {
            assert_eq!(**name, *names[place]);
            self.join(client, place, *id, replay.position);
        }
    }

    pub(super) fn join(&mut self, client: usize, place: usize, id: ChannelId, joined: u64) {
        let client = &mut self.clients[client];
        let channel = &mut client.channels[place];
        channel.id = Some(id);
        channel.joined = joined;
        let shard = &mut self.shards[client.shard];
        shard.subscriptions.entry(id).or_insert((channel.name, 0)).1 += 1;
        shard.told.insert(channel.name, true);
    }

    /// The items of a whole replay: the number, the channel, and whether the item is a gap.
    pub(super) fn expected(&self, names: &[&'static str], start: Start<'_>) -> Vec<(u64, String, bool)> {
        let (after, foreign) = match start {
            Start::Since(position) if position.epoch == self.epoch.as_str() && position.seq <= self.seq => {
                (position.seq, false)
            }
            Start::Since(_) => (0, true),
            _ => (self.seq, false),
        };
        let mut items = Vec::new();
        for name in names.iter().chain(&[EVERYBODY]) {
            let known = &self.known[name];
            if let Start::Last(count) = start {
                let count = count + usize::from(known.end().is_some());
                let kept = known.kept.iter().skip(known.kept.len().saturating_sub(count));
                items.extend(kept.filter(|_| *name != EVERYBODY).map(|kept| (kept.seq, (*name).to_owned(), false)));
                continue;
            }
            let (after, foreign) = match (*name, start) {
                // Only the ends are told, at the client's own position. The last one has it.
                (_, Start::New) => {
                    if known.end().is_some() {
                        items.iter_mut().for_each(|(seq, ..)| *seq = 0);
                        items.push((self.seq, (*name).to_owned(), false));
                    }
                    continue;
                }
                (EVERYBODY, Start::Beginning) => continue,
                (_, Start::Beginning) => (known.beginning(), false),
                (EVERYBODY, _) if foreign => (self.seq, false),
                _ => (after, foreign),
            };
            if foreign || after < known.trimmed {
                items.push((known.trimmed, (*name).to_owned(), true));
            }
            let kept = known.kept.iter().filter(|kept| kept.seq > after);
            items.extend(kept.map(|kept| (kept.seq, (*name).to_owned(), false)));
        }
        items.sort_by_key(|(seq, _, gap)| (*seq, !gap));
        items
    }

    /// Checks one item that a client gets, and notes it.
    pub(super) fn account(&mut self, client: usize, item: &Item, begins: bool) {
        let (seq, name, gap) = shown(item);
        // An end may be told at the number of another message.
        if let Some(message) = item.message().filter(|message| message.mark().is_none()) {
            assert_eq!(message.except(), self.excepted.get(&seq).copied(), "{name} {seq} leaves out another client");
        }
        let known = &self.known[name.as_str()];
        let client = &mut self.clients[client];
        if name == EVERYBODY {
            assert!(gap || seq > client.joined, "a broadcast came twice");
            if !gap {
                assert!(!known.any_between(client.joined, seq), "a broadcast is lost before {seq}");
            }
            client.joined = client.joined.max(seq);
            return;
        }
        let channel = client.channels.iter_mut().find(|channel| channel.name == name).expect("a channel it asked for");
        let Some(covered) = channel.covered else {
            assert!(begins, "the client knows no beginning, and did not ask for one");
            channel.covered = Some(seq);
            return;
        };
        if gap {
            assert!(begins || known.any_between(covered, seq + 1), "a gap though nothing is lost: {covered} to {seq}");
        } else {
            assert!(seq > covered, "{name} {seq} came twice, or late: {covered} was reached");
            let was_published = known.all.contains(&seq) || known.taken_back.contains(&seq);
            assert!(was_published, "{name} {seq} was never published");
            let told = covered.max(channel.excused);
            assert!(!known.any_between(told, seq), "{name}: lost without a gap between {covered} and {seq}");
        }
        channel.covered = Some(covered.max(seq));
    }

    /// Notes that a client has reached a position: no message of its channels up to there may be missing. If a replay
    /// was cut before a gap, the gap comes with the next part, and so is not missing yet.
    pub(super) fn reached(&mut self, client: usize, position: u64, whole: bool) {
        let client = &mut self.clients[client];
        let announced_later = |known: &Known| !whole && known.trimmed > position;
        for channel in &mut client.channels {
            let covered = channel.covered.unwrap_or(position);
            let known = &self.known[channel.name];
            let lost = known.any_between(covered.max(channel.excused), position + 1);
            assert!(!lost || announced_later(known), "{}: lost up to {position}", channel.name);
            channel.covered = Some(if lost { covered } else { covered.max(position) });
        }
        let known = &self.known[EVERYBODY];
        let lost = known.any_between(client.joined, position + 1);
        assert!(!lost || announced_later(known), "a broadcast is lost up to {position}");
        client.joined = if lost { client.joined } else { client.joined.max(position) };
        client.position = client.position.max(position);
    }

    pub(super) fn deliver(&mut self, shard: usize, count: usize) {
        for _ in 0..count.min(self.shards[shard].mail.len() + 1) {
            let delivery = self.mailboxes[shard].pop();
            let expected = self.shards[shard].mail.pop_front();
            let (Some(Delivery { channel, message, .. }), Some((seq, name))) = (&delivery, expected) else {
                assert!(delivery.is_none() && expected.is_none(), "{delivery:?} for {expected:?}");
                return;
            };
            assert_eq!((message.seq(), message.channel().unwrap_or(EVERYBODY)), (seq, name), "the mailbox");
            for client in 0..CLIENTS {
                let Client { shard: home, phase, channels, joined, .. } = &self.clients[client];
                let has = |one: &Subscription| one.id == Some(*channel) || (one.by_pattern && one.name == name);
                let on = |subscription: &Subscription| has(subscription) && seq > subscription.joined;
                let hears = if *channel == BROADCAST { seq > *joined } else { channels.iter().any(on) };
                if *home == shard && *phase == Phase::Live && hears {
                    self.account(client, &Item::Message(message.clone()), false);
                    self.clients[client].position = self.clients[client].position.max(seq);
                }
            }
        }
    }

    pub(super) fn go(&mut self, client: usize) {
        if self.clients[client].phase != Phase::Live {
            return;
        }
        let position = self.clients[client].position;
        self.reached(client, position, true);
        self.clients[client].phase = Phase::Away;
        for place in 0..self.clients[client].channels.len() {
            if !self.clients[client].channels[place].by_pattern {
                self.leave(client, place);
            }
        }
        self.leave_patterns(client);
    }

    fn leave(&mut self, client: usize, place: usize) {
        let id = self.clients[client].channels[place].id.take().expect("a live subscription");
        self.leave_id(self.clients[client].shard, id);
    }

    pub(super) fn leave_id(&mut self, shard: usize, id: ChannelId) {
        let shard = &mut self.shards[shard];
        let count = &mut shard.subscriptions.get_mut(&id).expect("a subscription").1;
        *count -= 1;
        *shard.left.entry(id).or_default() += 1;
    }

    /// Tells the hub of all the subscriptions that have ended, as a shard does at the end of its turn.
    pub(super) fn tell_leaves(&mut self, number: usize) {
        let shard = &mut self.shards[number];
        let mut leaves = Vec::new();
        for (channel, count) in std::mem::take(&mut shard.left) {
            let (name, left) = shard.subscriptions[&channel];
            if left == 0 {
                shard.subscriptions.remove(&channel);
                shard.told.insert(name, false);
            }
            leaves.push(Leave { channel, count, last: left == 0 });
        }
        self.hub.leave(number, &leaves);
    }

    /// A live client subscribes to one more channel. A long replay loses its oldest messages, with a gap.
    pub(super) fn subscribe_live(&mut self, source: &mut Source<'_>) {
        let (client, name, how) = (source.below(CLIENTS), CHANNELS[source.below(CHANNELS.len())], source.below(4));
        let (limit, seen) = (self.limit(source), source.byte());
        let shard = self.clients[client].shard;
        let has = self.clients[client].channels.iter().any(|channel| channel.name == name);
        if self.clients[client].phase != Phase::Live || has {
            return;
        }
        // First the client gets the messages of its other channels that are in the mailbox.
        self.deliver(shard, usize::MAX);
        self.reached(client, self.seq, true);
        let since = u64::from(seen) % (self.seq + 1);
        let epoch = self.epoch.clone();
        let (start, covered) = match how {
            0 => (Start::New, Some(self.seq)),
            1 => (Start::Last(1 + usize::from(seen) % 8), None),
            2 => (Start::Since(Position { epoch: "other", seq: 1 }), None),
            _ => (Start::Since(Position { epoch: epoch.as_str(), seq: since }), Some(since)),
        };
        let request =
            Request { shard, names: &[name], start, limit, broadcasts: false, cut: Cut::Head, join: Join::Always };
        let (mut replay, mut ids) = (Replay::default(), anothers_channels());
        self.hub.subscribe(&request, &mut replay, &mut ids);
        assert!(replay.complete && ids.len() == 1);
        self.clients[client].channels.push(Subscription { covered, ..Subscription::new(name, false) });
        for item in &replay.items {
            if start != Start::New {
                self.account(client, item, covered.is_none());
            }
        }
        let expected = self.expected(&[name], start).into_iter().rfind(|(_, channel, gap)| channel == name && !gap);
        let newest = replay.items.iter().map(shown).rfind(|(.., gap)| !gap);
        assert_eq!(newest, expected, "the newest message is missing");
        self.reached(client, self.seq, true);
        let place = self.clients[client].channels.len() - 1;
        self.join(client, place, ids[0].0, replay.position);
    }

    pub(super) fn unsubscribe_live(&mut self, source: &mut Source<'_>) {
        let (client, place) = (source.below(CLIENTS), source.below(CHANNELS.len()));
        let is_named = |channel: &Subscription| !channel.by_pattern;
        if self.clients[client].phase != Phase::Live || !self.clients[client].channels.get(place).is_some_and(is_named)
        {
            return;
        }
        self.leave(client, place);
        let Client { channels, patterns, .. } = &mut self.clients[client];
        if patterns.iter().any(|(pattern, _)| by_pattern::fits(pattern, channels[place].name)) {
            channels[place].by_pattern = true;
        } else {
            channels.remove(place);
        }
    }
}

/// A list that still has the channel of another client, as a shard's list may have.
fn anothers_channels() -> Vec<(ChannelId, Arc<str>)> {
    vec![(ChannelId::MAX, "another's".into())]
}

pub(super) fn shown(item: &Item) -> (u64, String, bool) {
    (item.seq(), item.channel().unwrap_or(EVERYBODY).to_owned(), item.is_gap())
}
