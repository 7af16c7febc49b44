//! Messages of clients that wait for their turn to be published: the host checks them (`client_publish=host`), or they
//! stand behind such a message of the same connection. What a connection publishes keeps its order, whatever the order of
//! the host's answers.

use crate::grant::Grant;
use crate::hub::{ChannelPattern, ClientId, Publication, Replacement};
use crate::shard::connection::conn::Token;
use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// A message of a client.
#[derive(Debug)]
pub(in crate::shard) struct ClientMessage {
    pub(in crate::shard) channel: Arc<str>,
    pub(in crate::shard) data: Bytes,
    pub(in crate::shard) event: Option<Box<str>>,
    pub(in crate::shard) key: Option<Box<str>>,
    pub(in crate::shard) binary: bool,
    /// The id of its connection, if it is not to get the message.
    pub(in crate::shard) except: Option<ClientId>,
}

impl ClientMessage {
    pub(in crate::shard) fn publication(&self) -> Publication<'_> {
        let (event, key) = (self.event.as_deref(), self.key.as_deref());
        Publication {
            event,
            key,
            binary: self.binary,
            except: self.except,
            ..Publication::new(&self.channel, &self.data)
        }
    }

    /// Its size in limits of bytes: the texts, and about what its place takes.
    fn weight(&self) -> usize {
        let optional = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        self.data.len() + self.channel.len() + optional(&self.event) + optional(&self.key) + 256
    }
}

/// What the host publishes in place of a client's message.
#[derive(Debug)]
pub(crate) struct Instead {
    data: Bytes,
    event: Option<Box<str>>,
    binary: bool,
}

impl Instead {
    pub(crate) fn of(replacement: &Replacement<'_>) -> Self {
        Instead {
            data: Bytes::copy_from_slice(replacement.data),
            event: replacement.event.map(Box::from),
            binary: replacement.binary,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.data.len()
    }
}

/// A message that waits.
#[derive(Debug)]
pub(in crate::shard) struct Waiting {
    /// The count of the question, which the host has as a part of the request's number. `None`: it needs none, or has its
    /// answer. It waits for those before it.
    asked: Option<u64>,
    /// Whether the host was asked about it.
    pub(in crate::shard) is_checked: bool,
    /// When a question about it is given up. Until then a hub that is busy is tried again.
    pub(in crate::shard) ends_at: u64,
    /// The client's number of its request.
    pub(in crate::shard) reference: Option<u64>,
    pub(in crate::shard) message: ClientMessage,
}

/// The messages of one connection, in the order in which they came.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    /// The connection has ended, and had these rights.
    left: Option<Left>,
    /// When the first message is tried again: the hub had no room for it.
    again_at: Option<u64>,
}

/// The rights that a connection had when it ended. `None`: it had no grant.
pub(in crate::shard) type Left = Option<Arc<Grant>>;

/// The messages of a shard's clients that wait. A line is kept by its connection's name, which no other gets, and is there
/// only while it has messages.
#[derive(Debug, Default)]
pub(in crate::shard) struct Checks {
    lines: FxHashMap<u64, Line>,
    /// The connection that a question is about, by the question's count.
    open: FxHashMap<u64, u64>,
    /// When each question is given up, and its count.
    ends: BTreeSet<(u64, u64)>,
    /// When the first message of a line is tried again, and the line's connection.
    again: BTreeSet<(u64, u64)>,
    /// The connections of each user that have ended.
    left_by: FxHashMap<Arc<str>, FxHashSet<u64>>,
    bytes: usize,
}

impl Checks {
    /// Adds a message. `asked`: the count of the question about it, which is given up at that time.
    pub(in crate::shard) fn add(
        &mut self,
        of: Token,
        asked: Option<u64>,
        ends_at: u64,
        reference: Option<u64>,
        message: ClientMessage,
    ) {
        if let Some(count) = asked {
            self.open.insert(count, of.to_bits());
            self.ends.insert((ends_at, count));
        }
        self.bytes += message.weight();
        let line = self.lines.entry(of.to_bits()).or_default();
        line.waiting.push_back(Waiting { asked, is_checked: asked.is_some(), ends_at, reference, message });
    }

    /// Whether a message would have to wait for others though the host allows it, and be larger than before.
    pub(in crate::shard) fn would_grow(&self, count: u64, instead: &Instead) -> bool {
        let Some(line) = self.open.get(&count).and_then(|of| self.lines.get(of)) else { return false };
        let this = |waiting: &&Waiting| waiting.asked == Some(count);
        line.waiting.iter().skip(1).find(this).is_some_and(|waiting| instead.data.len() > waiting.message.data.len())
    }

    /// The host allows a message. Returns its connection, whose first messages may be due now.
    pub(in crate::shard) fn allow(&mut self, count: u64, instead: Option<Instead>) -> Option<Token> {
        let of = self.open.remove(&count)?;
        let waiting = self.lines.get_mut(&of)?.waiting.iter_mut().find(|waiting| waiting.asked == Some(count))?;
        self.ends.remove(&(waiting.ends_at, count));
        waiting.asked = None;
        if let Some(instead) = instead {
            self.bytes -= waiting.message.weight();
            let event = instead.event.or_else(|| waiting.message.event.take());
            let message = &mut waiting.message;
            (message.data, message.event, message.binary) = (instead.data, event, instead.binary);
            self.bytes += message.weight();
        }
        Some(Token::from_bits(of))
    }

    /// Takes a message out that the host has not allowed, with its connection.
    pub(in crate::shard) fn take(&mut self, count: u64) -> Option<(Token, Waiting)> {
        let of = self.open.remove(&count)?;
        let line = self.lines.get_mut(&of)?;
        let at = line.waiting.iter().position(|waiting| waiting.asked == Some(count))?;
        let waiting = line.waiting.remove(at)?;
        self.ends.remove(&(waiting.ends_at, count));
        self.bytes -= waiting.message.weight();
        self.tidy(of);
        Some((Token::from_bits(of), waiting))
    }

    /// Takes the next message of a connection that is due: it waits for no answer, and for no message before it. If the
    /// connection has ended, the rights that it had come with it.
    pub(in crate::shard) fn next_due(&mut self, of: Token) -> Option<(Waiting, Option<Left>)> {
        let of = of.to_bits();
        let line = self.lines.get_mut(&of)?;
        line.waiting.front().filter(|first| first.asked.is_none())?;
        let waiting = line.waiting.pop_front()?;
        let left = line.left.clone();
        if let Some(at) = line.again_at.take() {
            self.again.remove(&(at, of));
        }
        self.bytes -= waiting.message.weight();
        self.tidy(of);
        Some((waiting, left))
    }

    /// Puts back what [`Self::next_due`] has given. It is due again at that time.
    pub(in crate::shard) fn put_back(&mut self, of: Token, waiting: Waiting, left: Option<Left>, again_at: u64) {
        let of = of.to_bits();
        self.bytes += waiting.message.weight();
        let line = self.lines.entry(of).or_default();
        line.waiting.push_front(waiting);
        line.again_at = Some(again_at);
        self.again.insert((again_at, of));
        if let Some(left) = left {
            self.note_left(of, left);
        }
    }

    /// A connection with a message that is tried again now.
    pub(in crate::shard) fn next_again(&mut self, now: u64) -> Option<Token> {
        let (at, of) = self.again.first().copied().filter(|(at, _)| *at <= now)?;
        self.again.remove(&(at, of));
        if let Some(line) = self.lines.get_mut(&of) {
            line.again_at = None;
        }
        Some(Token::from_bits(of))
    }

    /// Forgets the messages of a connection, and returns them.
    pub(in crate::shard) fn forget(&mut self, of: Token) -> VecDeque<Waiting> {
        let waiting = self.remove(of.to_bits()).map(|line| line.waiting).unwrap_or_default();
        for waiting in &waiting {
            self.bytes -= waiting.message.weight();
            if let Some(count) = waiting.asked {
                self.open.remove(&count);
                self.ends.remove(&(waiting.ends_at, count));
            }
        }
        waiting
    }

    /// Notes that a connection has ended, and what it was allowed then.
    pub(in crate::shard) fn leave(&mut self, of: Token, rights: impl FnOnce() -> Left) {
        if self.lines.get(&of.to_bits()).is_some_and(|line| line.left.is_none()) {
            self.note_left(of.to_bits(), rights());
        }
    }

    fn note_left(&mut self, of: u64, left: Left) {
        let Some(line) = self.lines.get_mut(&of) else { return };
        if let Some(user) = user_of(&left) {
            self.left_by.entry(user.clone()).or_default().insert(of);
        }
        line.left = Some(left);
    }

    /// The host gives a connection other rights. If it has ended, they count for what it has left, but another user's do
    /// not: what waits is forgotten then.
    pub(in crate::shard) fn renew_left(&mut self, of: Token, grant: &Grant) {
        let Some(left) = self.lines.get_mut(&of.to_bits()).and_then(|line| line.left.as_mut()) else { return };
        if user_of(left) == grant.user() {
            *left = Some(Arc::new(grant.clone()));
        } else {
            self.forget(of);
        }
    }

    /// Forgets the messages of a user's connections that have ended.
    pub(in crate::shard) fn forget_left_by(&mut self, user: &str) {
        for of in self.left_by.get(user).into_iter().flatten().copied().collect::<Vec<_>>() {
            self.forget(Token::from_bits(of));
        }
    }

    /// Forgets the messages of all connections that have ended, or only of those that had a user.
    pub(in crate::shard) fn forget_left(&mut self, only_of_users: bool) {
        let meant = |left: &Left| !only_of_users || user_of(left).is_some();
        let lines = self.lines.iter().filter(|(_, line)| line.left.as_ref().is_some_and(meant));
        for of in lines.map(|(of, _)| *of).collect::<Vec<_>>() {
            self.forget(Token::from_bits(of));
        }
    }

    /// Takes channels from the connections of a user that have ended.
    pub(in crate::shard) fn revoke(&mut self, user: &str, channels: &ChannelPattern) {
        for of in self.left_by.get(user).into_iter().flatten() {
            if let Some(Some(grant)) = self.lines.get_mut(of).and_then(|line| line.left.as_mut()) {
                *grant = Arc::new(grant.without(channels));
            }
        }
    }

    /// How many messages of a connection wait.
    pub(in crate::shard) fn of_connection(&self, of: Token) -> usize {
        self.lines.get(&of.to_bits()).map_or(0, |line| line.waiting.len())
    }

    /// How many questions wait for an answer.
    pub(in crate::shard) fn questions(&self) -> usize {
        self.open.len()
    }

    /// The size of all that wait.
    pub(in crate::shard) fn bytes(&self) -> usize {
        self.bytes
    }

    #[cfg(test)]
    pub(in crate::shard) fn is_empty(&self) -> bool {
        let Checks { lines, open, ends, again, left_by, bytes } = self;
        lines.is_empty() && open.is_empty() && ends.is_empty() && again.is_empty() && left_by.is_empty() && *bytes == 0
    }

    /// A question that has waited long enough.
    pub(in crate::shard) fn overdue(&self, now: u64) -> Option<u64> {
        self.ends.first().filter(|(ends_at, _)| *ends_at <= now).map(|(_, count)| *count)
    }

    /// Milliseconds until the next one has waited long enough, or is tried again.
    pub(in crate::shard) fn due_in(&self, now: u64) -> Option<u64> {
        let next = [self.ends.first(), self.again.first()].into_iter().flatten().map(|(at, _)| *at).min();
        next.map(|at| at.saturating_sub(now).max(1))
    }

    fn tidy(&mut self, of: u64) {
        if self.lines.get(&of).is_some_and(|line| line.waiting.is_empty()) {
            self.remove(of);
        }
    }

    /// Takes a line out of all tables but those of its messages.
    fn remove(&mut self, of: u64) -> Option<Line> {
        let line = self.lines.remove(&of)?;
        if let Some(at) = line.again_at {
            self.again.remove(&(at, of));
        }
        if let Some(user) = line.left.as_ref().and_then(user_of) {
            if let Some(theirs) = self.left_by.get_mut(user) {
                theirs.remove(&of);
                if theirs.is_empty() {
                    self.left_by.remove(user);
                }
            }
        }
        Some(line)
    }
}

fn user_of(left: &Left) -> Option<&Arc<str>> {
    left.as_ref()?.user()
}
