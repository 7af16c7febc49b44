//! Followers are told who is on their channels. All writing to them is here, in one place of a turn: so nothing that
//! enters or leaves a channel can end a connection which is just at work.

use super::follows::{Known, NUMBERS_MS};
use super::news::{News, What};
use crate::context::presence::has_members;
#[cfg(test)]
use crate::presence::planted;
use crate::presence::{Asked, Look};
use crate::shard::connection::conn::{Flags, Phase};
use crate::shard::delivery::outbox::Piece;
use crate::shard::delivery::write::Bounds;
use crate::shard::Shard;
use std::sync::Arc;

/// About how many followers are looked at in one turn, unless one channel has more.
const AT_ONCE: usize = 4096;
/// How many versions are told apart at one look. Who has another one gets the list.
const VERSIONS: usize = 8;
/// When those are looked at again who had no room.
const PUT_OFF_MS: u64 = if cfg!(test) { 3 } else { 300 };

/// Followers who are told later.
#[derive(Debug, Default)]
struct Later {
    /// Since numbers are told once a second.
    numbers: bool,
    /// Since they have no room.
    room: bool,
}

impl Shard {
    /// Part of a turn: what is due of presence.
    pub(in crate::shard) fn go_on_with_presence(&mut self) {
        self.end_graces();
        self.enter_again();
        let (now, number) = (self.turn.now, self.handle.number);
        if self.context.presence.has_news(number) {
            for channel in self.context.presence.take_news(number) {
                self.side.follows.note_news(&channel, now);
            }
        }
        let mut count = 0;
        while count < AT_ONCE {
            let Some((channel, followers)) = self.side.follows.next_look(now) else { break };
            count += 1 + followers.len();
            if followers.is_empty() {
                self.context.presence.unfollow(number, &channel, now);
            } else {
                self.tell_of(&channel, followers);
            }
        }
        self.side.follows.shown.clear();
        self.side.follows.shown_until = None;
    }

    /// Whether there is something to look at that is not noted yet.
    pub(in crate::shard) fn has_presence_news(&self) -> bool {
        self.context.presence.has_news(self.handle.number)
    }

    /// Milliseconds until something of presence is due.
    pub(in crate::shard) fn presence_in(&self) -> Option<u64> {
        let due = [self.side.visits.due_at(), self.side.follows.due_at()].into_iter().flatten().min();
        due.map(|at| at.saturating_sub(self.turn.now).max(1))
    }

    /// A live connection follows a channel. It is told when that is looked at.
    pub(in crate::shard) fn follow(&mut self, index: u32, channel: &str, known: Known) {
        let (presence, number) = (&self.context.presence, self.handle.number);
        self.side.follows.add(index, channel, known, self.turn.now, || presence.follow(number, channel));
    }

    pub(super) fn unfollow(&mut self, index: u32, channel: &str) {
        self.side.follows.remove(index, channel, self.turn.now);
    }

    pub(super) fn unfollow_all(&mut self, index: u32) {
        self.side.follows.remove_all(index, self.turn.now);
    }

    /// Looks at a channel, and tells its followers. One list is made for all of them, and none for those without room.
    fn tell_of(&mut self, channel: &Arc<str>, followers: Vec<(u32, Known)>) {
        let now = self.turn.now;
        let (ready, without_room): (Vec<_>, Vec<_>) =
            followers.into_iter().partition(|(index, known)| self.has_room_for_news(*index, *known));
        let numbers_due = self.side.follows.channel_mut(channel).is_some_and(|followed| followed.numbers_are_due(now));
        let versions = versions(&ready);
        let list = ready.iter().any(|(_, known)| needs_list(*known, &versions, numbers_due));
        let mut news = self.news_of(channel, &versions, list);
        if news.lacks_list() {
            news = self.news_of(channel, &versions, true);
        }
        let mut later = Later::default();
        let (mut polls, mut tells_numbers) = (Vec::new(), false);
        for (index, known) in ready {
            let what = match self.to_tell(&news, known, &versions, numbers_due) {
                Some(what) => what,
                None => {
                    later.numbers |= !numbers_due && is_behind(known, &news);
                    continue;
                }
            };
            let is_new = matches!(known, Known::Nothing | Known::Off | Known::Poll(None));
            tells_numbers |= what == What::Number && !is_new;
            if matches!(known, Known::Poll(_)) {
                polls.push(index);
            } else {
                self.tell_news(index, &mut news, what);
            }
        }
        // A list that was made in vain is not tried again before numbers are told again.
        tells_numbers |= news.is_too_long && numbers_due;
        later.room = without_room.iter().any(|(_, known)| is_behind(*known, &news));
        self.note_look(&news, tells_numbers, &later);
        // Those of the polls that are left share the list.
        if let (Some(look), false) = (&news.look, polls.is_empty()) {
            if news.list.is_some() {
                self.side.follows.shown.insert(channel.clone(), (look.version, news.object()));
            }
        }
        polls.into_iter().for_each(|index| self.answer_news(index));
    }

    /// Looks at a channel for those who know all of one of these versions. `list`: somebody needs the list in any case.
    fn news_of(&self, channel: &Arc<str>, versions: &[u64], list: bool) -> News {
        let look = has_members(&self.config, channel).then(|| {
            let asked = Asked { shard: Some(self.handle.number), since: versions, list };
            self.context.presence.look(channel, &asked)
        });
        News::new(channel, look, self.config.outbox)
    }

    /// What a follower with room is told. `None`: nothing now.
    fn to_tell(&self, news: &News, known: Known, versions: &[u64], numbers_due: bool) -> Option<What> {
        let Some(look) = &news.look else {
            return match known {
                Known::Off | Known::Poll(Some(_)) => None,
                _ => Some(What::Off),
            };
        };
        let number = || (numbers_due && !look.is_list).then_some(What::Number);
        match known {
            Known::Nothing | Known::Off => Some(news.whole()),
            Known::Poll(None) => Some(news.whole()),
            Known::Poll(Some(version)) if version >= look.version => None,
            Known::Poll(_) if look.is_list => Some(What::List),
            Known::Poll(_) => number(),
            Known::Number(_) if !numbers_due => None,
            Known::Number(count) => Some(news.whole()).filter(|what| *what != What::Number || count != look.count),
            Known::List(version) if version >= look.version => None,
            Known::List(version) if look.is_list => {
                Some(news.since(versions.iter().position(|known| *known == version)))
            }
            Known::List(_) => number(),
        }
    }

    /// Writes to a follower, and notes what it knows then.
    fn tell_news(&mut self, index: u32, news: &mut News, what: What) {
        let channel = news.channel.clone();
        let Some(conn) = self.conns.get(index as usize).filter(|_| self.side.follows.has(index, &channel)) else {
            return;
        };
        let bytes = news.bytes(conn.format, conn.is(Flags::CHUNKS), what);
        let known = match (&news.look, what) {
            (None, _) | (_, What::Off) => Known::Off,
            (Some(look), What::Number) => Known::Number(look.count),
            (Some(look), What::List | What::Changes(_)) => Known::List(look.version),
        };
        self.side.follows.set(index, &channel, known);
        if !bytes.is_empty() {
            self.transmit(index, &[Piece::News(bytes)]);
        }
    }

    /// Notes what a look has shown, and promises the next one to those who are told later.
    fn note_look(&mut self, news: &News, tells_numbers: bool, later: &Later) {
        let now = self.turn.now;
        let Some(followed) = self.side.follows.channel_mut(&news.channel) else { return };
        if let Some(look) = &news.look {
            followed.is_numbered = !look.is_list || news.is_too_long;
        }
        if tells_numbers {
            followed.numbers_at = Some(now);
        }
        let numbers_at = followed.numbers_at.map_or(now, |at| at + NUMBERS_MS);
        if later.numbers {
            self.side.follows.promise(&news.channel, numbers_at.max(now + 1));
        }
        #[cfg(test)]
        if planted::is(planted::Mistake::NotPutOff) {
            return;
        }
        if later.room {
            self.side.follows.promise(&news.channel, now + PUT_OFF_MS);
        }
    }

    /// Whether a follower may be written to. News count in no bound that closes a client, so they have bounds of their
    /// own: one for each client may wait, and a part of `outbox_total` of all.
    fn has_room_for_news(&self, index: u32, known: Known) -> bool {
        let live = self.conns.get(index as usize).filter(|conn| conn.is(Flags::LIVE));
        let Some(conn) = live.filter(|conn| matches!(conn.phase, Phase::Open(_))) else { return false };
        let bounds = Bounds::new(&self.config, self.context.shards);
        if let Known::Poll(_) = known {
            // Its answer counts like any other.
            return conn.outbox.is_none() && bounds.of_one(&self.handle) >= bounds.outbox / 2;
        }
        let has_room = conn.outbox.as_ref().is_none_or(|outbox| {
            outbox.catch_up.is_none() && !outbox.has_news() && outbox.weight() <= self.config.outbox / 2
        });
        has_room && self.handle.news_bytes() <= bounds.all / 4
    }
}

/// The versions of lists that followers have, at most some of them, and these the newest.
fn versions(followers: &[(u32, Known)]) -> Vec<u64> {
    let of = |(_, known): &(u32, Known)| match known {
        Known::List(version) => Some(*version),
        _ => None,
    };
    let mut versions: Vec<u64> = followers.iter().filter_map(of).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.dedup();
    versions.truncate(VERSIONS);
    versions
}

/// Whether a follower needs the list in any case.
fn needs_list(known: Known, versions: &[u64], numbers_due: bool) -> bool {
    match known {
        Known::Nothing | Known::Off | Known::Poll(None) => true,
        Known::Number(_) => numbers_due,
        Known::List(version) => !versions.contains(&version),
        // It looks by itself.
        Known::Poll(Some(_)) => false,
    }
}

/// Whether a follower has still to be told something.
fn is_behind(known: Known, news: &News) -> bool {
    let Some(look) = &news.look else { return !matches!(known, Known::Off | Known::Poll(Some(_))) };
    let Look { version, count, is_list, .. } = look;
    match known {
        Known::Nothing | Known::Off | Known::Poll(None) => true,
        Known::Number(known) => known != *count || (*is_list && !news.is_too_long),
        Known::List(known) | Known::Poll(Some(known)) => known < *version,
    }
}
