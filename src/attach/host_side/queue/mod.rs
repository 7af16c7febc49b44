//! The frames that go to the hub: those that wait, those that are sent and not answered, and the callers that wait for
//! answers. One lock protects all of it. A caller holds it across a send, which never blocks. So the caller that adds a
//! frame can send it, too, without waking another thread.

mod connection;
mod entry;
mod in_flight;
mod lanes;
mod sending;
#[cfg(test)]
mod tests;
mod waiting;

pub(super) use waiting::Overdue;

use crate::attach::wire::{FromHost, ANSWERS_AT_ONCE, MAX_FRAME, OLDEST};
use crate::error::{Error, Kind};
use crate::hub::Epoch;
use connection::Connection;
pub(super) use entry::{Content, Reply, RequestKind, Waiter};
use entry::{Entry, ENTRY};
use in_flight::InFlight;
use lanes::{Lane, Lanes};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The number of connections that may wait for the hub. Each takes one of the process's descriptors.
const MAX_ADOPTS: usize = 512;
/// Bytes beyond the bound for frames that publish nothing. Messages that wait must not keep a user from being sent away.
const ROOM_BESIDE_MESSAGES: usize = 1 << 20;
/// The error where a caller would have to wait for the hub.
pub(super) const AWAY: &str = "the hub can't be reached; nothing was done";

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    connection: Connection,
    waiting: Lanes,
    in_flight: InFlight,
    /// The bytes of all frames that wait or are not answered.
    bytes: usize,
    bound: usize,
    adopts: usize,
    /// Connections that waited for a hub, and the hub that came is too old for them. They are refused next.
    not_for_this_hub: Vec<Overdue>,
    last_number: u64,
    /// The last request that publishes and is answered.
    answered: u64,
    /// The highest number of all answers.
    newest_answer: u64,
    /// The life of the hub that the host was attached to last. An older hub does not name it.
    life: Option<u64>,
    /// The epochs of the hubs so far, in order.
    epochs: Vec<Epoch>,
    /// The thread looks soon, by itself, whether something waits.
    watched: bool,
}

impl Queue {
    pub(super) fn new(bound: usize) -> Self {
        Queue {
            connection: Connection::new(),
            waiting: Lanes::default(),
            in_flight: InFlight::default(),
            bytes: 0,
            bound,
            adopts: 0,
            not_for_this_hub: Vec::new(),
            last_number: 0,
            answered: 0,
            newest_answer: 0,
            life: None,
            epochs: Vec::new(),
            watched: false,
        }
    }

    /// Changes the bound. Frames that wait already stay.
    pub(super) fn set_bound(&mut self, bound: usize) {
        self.bound = bound;
    }

    /// Adds a request that nobody waits for, and returns its number.
    pub(super) fn add_request<'a>(&mut self, request: impl FnOnce(u64) -> FromHost<'a>) -> Result<u64, Error> {
        let number = self.last_number + 1;
        self.add_numbered(number, &request(number), None, None)
    }

    /// Adds a request, and returns its number. Its caller waits until then.
    pub(super) fn add_awaited<'a>(
        &mut self,
        request: impl FnOnce(u64) -> FromHost<'a>,
        waiter: Arc<Waiter>,
        until: Instant,
    ) -> Result<u64, Error> {
        let number = self.last_number + 1;
        self.add_numbered(number, &request(number), Some(waiter), Some(until))
    }

    fn add_numbered(
        &mut self,
        number: u64,
        request: &FromHost<'_>,
        waiter: Option<Arc<Waiter>>,
        until: Option<Instant>,
    ) -> Result<u64, Error> {
        let kind = match request {
            FromHost::Users { .. } => RequestKind::Asks(until),
            _ if request.only_asks() => RequestKind::Asks(None),
            _ if request.is_free() => RequestKind::Nothing,
            _ => RequestKind::Publishes,
        };
        self.add(request, Content::Request { number, waiter, sent: false, kind })?;
        self.last_number = number;
        Ok(number)
    }

    /// Adds a command that must reach the hub. A command has no answer of its own. So an empty batch follows it, which is
    /// answered, and both are sent again until that answer comes.
    pub(super) fn add_command(&mut self, command: &FromHost<'_>) -> Result<(), Error> {
        let number = self.last_number + 1;
        let kind = RequestKind::Commands;
        self.add(command, Content::Request { number, waiter: None, sent: false, kind })?;
        self.last_number = number;
        Ok(())
    }

    /// Adds a frame. A caller without room tries again and again, so a payload is copied only if there is room.
    pub(super) fn add(&mut self, request: &FromHost<'_>, content: Content) -> Result<(), Error> {
        let (version, len) = (request.since(), request.len_with_payload());
        self.check_version(version)?;
        self.check_room(len, content.lane())?;
        let mut frame = Vec::with_capacity(len);
        request.write(&mut frame);
        self.check_room(frame.len(), content.lane())?;
        self.push(frame, content, version);
        Ok(())
    }

    /// Adds a connection, which waits for a hub that comes back soon. Returns how many wait now.
    pub(super) fn add_adopt(
        &mut self,
        frame: Vec<u8>,
        version: u16,
        fd: OwnedFd,
        timeout: Duration,
    ) -> Result<usize, (Error, OwnedFd)> {
        if let Err(error) = self.check_version(version).and_then(|()| self.check_room(frame.len(), Lane::Free)) {
            return Err((error, fd));
        }
        let away = self.is_away(timeout);
        if away || self.adopts >= MAX_ADOPTS {
            let text = if away { AWAY } else { "too many connections wait for the hub" };
            return Err((Error::new(Kind::Busy, text), fd));
        }
        self.adopts += 1;
        self.push(frame, Content::Adopt { fd, since: Instant::now() }, version);
        Ok(self.adopts)
    }

    /// Adds credit for events, in front of everything that waits and without a bound.
    pub(super) fn add_credit(&mut self, frame: Vec<u8>) {
        self.bytes += frame.len() + ENTRY;
        self.waiting.push_first(frame, Content::Credit, OLDEST);
    }

    /// Removes the credit that was not sent: the next attachment gets credit for all the room that there is.
    pub(super) fn drop_credit(&mut self) {
        self.drop_waiting(|content| matches!(content, Content::Credit));
    }

    fn drop_waiting(&mut self, is_stale: impl Fn(&Content) -> bool) {
        let stale = self.waiting.take_out(|entry| is_stale(&entry.content));
        self.bytes -= stale.iter().map(Entry::weight).sum::<usize>();
    }

    fn check_version(&self, version: u16) -> Result<(), Error> {
        if self.is_attached() && version > self.connection.version {
            return Err(older_hub());
        }
        Ok(())
    }

    fn check_room(&self, len: usize, lane: Lane) -> Result<(), Error> {
        if len > MAX_FRAME {
            let text = format!("{len} bytes at once; at most {MAX_FRAME} are allowed");
            return Err(Error::new(Kind::TooLarge, text));
        }
        // A frame that is larger than the bound goes alone.
        let beside = if lane == Lane::Free { ROOM_BESIDE_MESSAGES } else { 0 };
        if self.bytes > 0 && self.bytes + len + ENTRY > self.bound.saturating_add(beside) {
            return Err(Error::new(Kind::Busy, "too much waits for the hub (option attach_buffer); nothing was done"));
        }
        Ok(())
    }

    fn push(&mut self, frame: Vec<u8>, content: Content, version: u16) {
        self.bytes += frame.len() + ENTRY;
        self.waiting.push(frame, content, version);
    }

    /// True if the hub has not been reachable for longer than a call waits. Then no call should begin to wait.
    pub(super) fn is_away(&self, timeout: Duration) -> bool {
        self.connection.is_away(timeout)
    }

    pub(super) fn is_attached(&self) -> bool {
        self.connection.is_open()
    }

    /// True if no request that publishes is unanswered.
    pub(super) fn nothing_in_flight(&self) -> bool {
        !self.in_flight.publishes_any()
    }

    /// True if a message stays in the queue that could be sent, and nobody would send it before the hub answers. That may
    /// take long.
    pub(super) fn is_forgotten(&self) -> bool {
        !self.watched && self.connection.ready().is_some() && self.publishing_may_go()
    }

    /// The thread says whether it looks again soon. It does so as long as messages come behind one without an answer.
    pub(super) fn watch(&mut self, watched: bool) {
        self.watched = watched;
    }

    /// True if everything was sent, and every request answered.
    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty() && self.connection.out.len() == 0
    }

    pub(super) fn wants_room(&self) -> bool {
        self.connection.wants_room()
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered
    }

    pub(super) fn epoch(&self, number: u32) -> Option<&Epoch> {
        self.epochs.get(number as usize)
    }

    pub(super) fn present_epoch(&self) -> Option<&Epoch> {
        self.epochs.last()
    }

    /// The log of the hub has a new epoch, of which the numbers are from now on.
    pub(super) fn go_on_in(&mut self, epoch: Epoch) {
        if self.present_epoch() != Some(&epoch) {
            self.epochs.push(epoch);
        }
    }

    /// Takes a reply. Returns false if it is for no request, or not for the oldest of those that publish. Then the other
    /// side is not a hub.
    pub(super) fn answer(&mut self, number: u64, answer: impl FnOnce(u32) -> Result<Reply, Error>) -> bool {
        let Some(entry) = self.in_flight.take(number) else {
            // A reply that was repeated is known.
            return number <= self.newest_answer && !self.in_flight.publishes(number);
        };
        if entry.content.lane() == Lane::Publishing {
            self.answered = number;
        }
        self.bytes -= entry.weight();
        self.newest_answer = self.newest_answer.max(number);
        if let Content::Request { waiter: Some(waiter), .. } = entry.content {
            let epoch_index = self.epochs.len().saturating_sub(1) as u32;
            waiter.tell(answer(epoch_index));
        }
        true
    }

    /// Gives up a request whose caller has waited long enough. Returns the reply if it has just come, else an error
    /// that says what is known.
    pub(super) fn give_up(&mut self, number: u64, waiter: &Waiter) -> Result<Reply, Error> {
        if let Some(answer) = waiter.take() {
            return answer;
        }
        let is_unsent =
            |entry: &Entry| entry.content.is(number) && matches!(entry.content, Content::Request { sent: false, .. });
        let unsent = self.waiting.take_out(is_unsent);
        if let Some(entry) = unsent.first() {
            self.bytes -= entry.weight();
            let text = match self.is_attached() && !self.connection.blocked {
                true => "the hub has not answered the messages before this one in time (option attach_timeout); nothing was done",
                false => "the hub can't be reached (option attach_timeout); nothing was done",
            };
            return Err(Error::new(Kind::Busy, text));
        }
        let text = "the hub has not answered in time (option attach_timeout); the request may be done already, or may still be done";
        Err(Error::new(Kind::Timeout, text))
    }

    /// The hub is gone. The requests that it has not answered, and the frames that its socket has not taken, wait for
    /// the next hub.
    pub(super) fn detach(&mut self) {
        let (publishing, asked) = self.in_flight.take_all();
        let mut free: Vec<Entry> = asked.into_iter().chain(self.connection.take_unsent()).collect();
        free.sort_by_key(|entry| entry.place);
        self.connection.close();
        publishing.into_iter().rev().for_each(|entry| self.waiting.publishing.push_front(entry));
        for entry in free.into_iter().rev() {
            match entry.content {
                Content::Request { kind: RequestKind::Asks(_), waiter, .. } => {
                    self.bytes -= entry.frame.len() + ENTRY;
                    if let Some(waiter) = waiter {
                        waiter.tell(Err(Error::new(Kind::Busy, "the connection to the hub was lost")));
                    }
                }
                _ => self.waiting.free.push_front(entry),
            }
        }
    }

    /// Goes on with a hub. All requests that it has not done are sent again.
    pub(super) fn attach(&mut self, socket: Arc<OwnedFd>, hub: HubThere) {
        let HubThere { version, epoch, life, done } = hub;
        // Of hubs that do not name their lives, those of one epoch count as one.
        let is_same = self.life == life && (life.is_some() || self.present_epoch() == Some(&epoch));
        self.connection.open(socket, version);
        self.life = life;
        self.take_out_newer(version);
        self.go_on_in(epoch);
        if !is_same {
            self.drop_waiting(|content| matches!(content, Content::OfThisHub));
        }
        // The hub repeats its answers to these.
        let is_done = |entry: &Entry| match entry.content {
            Content::Request { number, sent: true, kind: RequestKind::Publishes, .. } => number <= done,
            Content::Request { number, sent: true, .. } => number <= done && version < ANSWERS_AT_ONCE,
            _ => false,
        };
        self.in_flight = InFlight::of(self.waiting.take_out(is_done));
        self.flush();
    }
}

/// A hub, as its welcome says.
#[derive(Debug)]
pub(super) struct HubThere {
    /// The version of the protocol that both sides speak.
    pub(super) version: u16,
    pub(super) epoch: Epoch,
    pub(super) life: Option<u64>,
    /// The last request that publishes and that the hub has done. It repeats its answers up to there.
    pub(super) done: u64,
}

#[cold]
fn older_hub() -> Error {
    let text = "the hub is older than this library, and does not know this call, or a field: subscribe or info of a \
                grant, or except of a message";
    Error::new(Kind::Unsupported, text)
}
