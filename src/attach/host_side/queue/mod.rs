//! What goes to the hub: what waits, what is sent and not answered, and who waits for the answer. Behind one lock,
//! which is held across a send that never blocks: so whoever adds something can send it, too, without waking another
//! thread.

mod sending;
mod waiting;

pub(super) use waiting::Overdue;

use crate::attach::outbuf::Outbuf;
use crate::attach::wire::{FromHost, MAX_FRAME, VERSION};
use crate::error::{Error, Kind};
use crate::hub::Epoch;
use crate::hub::Placed;
use crate::metrics::Stats;
use crate::users::Users;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Descriptors that may wait for the hub: each is one of the process's.
const MAX_ADOPTS: usize = 512;
/// What a waiting frame takes beside its bytes, about.
const ENTRY: usize = 96;
/// Said where somebody would have to wait for the hub.
pub(super) const AWAY: &str = "the hub is away; nothing was done";

/// The hub's answer to a request.
#[derive(Debug)]
pub(super) enum Answer {
    Published(Placed),
    /// Numbers, and the life of the hub that they are of.
    Batched(Vec<u64>, u32),
    Stats(Box<Stats>),
    Users(Users),
}

/// Where a caller waits for its answer.
pub(super) type Waiter = crate::waiter::Waiter<Result<Answer, Error>>;

/// What a frame is.
#[derive(Debug)]
pub(super) enum Content {
    /// It is answered, and sent again if the hub did not do it.
    Request {
        number: u64,
        waiter: Option<Arc<Waiter>>,
        sent: bool,
        lasting: bool,
        /// The version of the protocol that it takes.
        since: u16,
    },
    /// About a connection: means nothing to the next life of the hub.
    OfThisLife,
    /// Credit for events: means nothing to the next attachment, which begins without any.
    Credit,
    /// A connection handed over, and when it was.
    Adopt { fd: OwnedFd, since: Instant },
}

#[derive(Debug)]
struct Entry {
    frame: Vec<u8>,
    content: Content,
}

impl Entry {
    fn weight(&self) -> usize {
        self.frame.len() + ENTRY
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    /// The hub, while attached.
    socket: Option<Arc<OwnedFd>>,
    /// What it speaks of the protocol.
    version: u16,
    away_since: Instant,
    /// Frames under way into the socket.
    out: Outbuf,
    waiting: VecDeque<Entry>,
    in_flight: VecDeque<Entry>,
    /// Of both.
    bytes: usize,
    bound: usize,
    adopts: usize,
    last_number: u64,
    answered: u64,
    /// The lives of the hub, as they came.
    lives: Vec<Epoch>,
    /// The socket is full: the thread waits for room.
    blocked: bool,
    /// The socket takes nothing any more; what can still be read of it is.
    broken: bool,
}

impl Queue {
    pub(super) fn new(bound: usize) -> Self {
        Queue {
            socket: None,
            version: VERSION,
            away_since: Instant::now(),
            out: Outbuf::default(),
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            bytes: 0,
            bound,
            adopts: 0,
            last_number: 0,
            answered: 0,
            lives: Vec::new(),
            blocked: false,
            broken: false,
        }
    }

    /// Lets more or less wait. What waits already stays.
    pub(super) fn set_bound(&mut self, bound: usize) {
        self.bound = bound;
    }

    /// Adds a request, and gives its number.
    pub(super) fn add_request<'a>(
        &mut self,
        request: impl FnOnce(u64) -> FromHost<'a>,
        waiter: Option<Arc<Waiter>>,
    ) -> Result<u64, Error> {
        let number = self.last_number + 1;
        self.add_numbered(number, &request(number), waiter)?;
        self.last_number = number;
        Ok(number)
    }

    fn add_numbered(&mut self, number: u64, request: &FromHost<'_>, waiter: Option<Arc<Waiter>>) -> Result<(), Error> {
        let since = request.since();
        if self.is_attached() && since > self.version {
            return Err(older_hub());
        }
        // What only looks is asked anew by who still wants to know.
        let lasting = !request.only_asks();
        let mut frame = Vec::new();
        request.write(&mut frame);
        self.add(frame, Content::Request { number, waiter, sent: false, lasting, since })
    }

    /// Adds a command that must reach the hub, and may do so twice. It has no answer of its own: a batch of no messages
    /// that follows it has one, and both are sent again until it comes.
    pub(super) fn add_command(&mut self, command: &FromHost<'_>) -> Result<(), Error> {
        let number = self.last_number + 1;
        let mut frame = Vec::new();
        command.write(&mut frame);
        FromHost::Batch { number, publications: Vec::new() }.write(&mut frame);
        let since = command.since();
        self.add(frame, Content::Request { number, waiter: None, sent: false, lasting: true, since })?;
        self.last_number = number;
        Ok(())
    }

    /// Adds a frame.
    pub(super) fn add(&mut self, frame: Vec<u8>, content: Content) -> Result<(), Error> {
        self.check_room(&frame)?;
        self.push(Entry { frame, content });
        Ok(())
    }

    /// Adds a connection; it waits for a hub that comes back soon. Says how many wait now.
    pub(super) fn add_adopt(
        &mut self,
        frame: Vec<u8>,
        fd: OwnedFd,
        timeout: Duration,
    ) -> Result<usize, (Error, OwnedFd)> {
        if let Err(error) = self.check_room(&frame) {
            return Err((error, fd));
        }
        let away = self.is_away(timeout);
        if away || self.adopts >= MAX_ADOPTS {
            let text = if away { AWAY } else { "too many connections wait for the hub" };
            return Err((Error::new(Kind::Busy, text), fd));
        }
        self.adopts += 1;
        self.push(Entry { frame, content: Content::Adopt { fd, since: Instant::now() } });
        Ok(self.adopts)
    }

    /// Adds credit for events, before all that waits and whatever waits.
    pub(super) fn add_credit(&mut self, frame: Vec<u8>) {
        let entry = Entry { frame, content: Content::Credit };
        self.bytes += entry.weight();
        self.waiting.push_front(entry);
    }

    /// Takes back the credit that was not sent: the next attachment gets all that there is room for.
    pub(super) fn drop_credit(&mut self) {
        let bytes = &mut self.bytes;
        self.waiting.retain(|entry| {
            let is_credit = matches!(entry.content, Content::Credit);
            if is_credit {
                *bytes -= entry.weight();
            }
            !is_credit
        });
    }

    fn check_room(&self, frame: &[u8]) -> Result<(), Error> {
        if frame.len() > MAX_FRAME {
            return Err(Error::new(
                Kind::TooLarge,
                format!("{} bytes at once; at most {MAX_FRAME} are allowed", frame.len()),
            ));
        }
        // One that is larger than the bound goes alone.
        if self.bytes > 0 && self.bytes + frame.len() + ENTRY > self.bound {
            return Err(Error::new(Kind::Busy, "too much waits for the hub (option attach_buffer); nothing was done"));
        }
        Ok(())
    }

    fn push(&mut self, entry: Entry) {
        self.bytes += entry.weight();
        self.waiting.push_back(entry);
    }

    /// Whether the hub has been away for longer than anybody would wait for it: then nobody should begin to.
    pub(super) fn is_away(&self, timeout: Duration) -> bool {
        self.socket.is_none() && self.away_since.elapsed() >= timeout
    }

    pub(super) fn is_attached(&self) -> bool {
        self.socket.is_some()
    }

    pub(super) fn nothing_in_flight(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Whether everything was sent, and answered where it is answered.
    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty() && self.out.len() == 0
    }

    pub(super) fn wants_room(&self) -> bool {
        self.blocked && !self.broken
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered
    }

    pub(super) fn life(&self, number: u32) -> Option<&Epoch> {
        self.lives.get(number as usize)
    }

    pub(super) fn present_life(&self) -> Option<&Epoch> {
        self.lives.last()
    }

    /// An answer. False: it is not to the oldest request, so this is no hub.
    pub(super) fn answer(&mut self, number: u64, answer: impl FnOnce(u32) -> Result<Answer, Error>) -> bool {
        if number <= self.answered {
            // Repeated, and known.
            return true;
        }
        let is_it = |entry: &Entry| matches!(entry.content, Content::Request { number: n, .. } if n == number);
        if !self.in_flight.front().is_some_and(is_it) {
            return false;
        }
        let Some(entry) = self.in_flight.pop_front() else { return false };
        self.bytes -= entry.weight();
        self.answered = number;
        if let Content::Request { waiter: Some(waiter), .. } = entry.content {
            let life = self.lives.len().saturating_sub(1) as u32;
            waiter.tell(answer(life));
        }
        true
    }

    /// A caller's patience is over: the answer, if it has just come, or what can be said without it.
    pub(super) fn give_up(&mut self, number: u64, waiter: &Waiter) -> Result<Answer, Error> {
        if let Some(answer) = waiter.take() {
            return answer;
        }
        let is_it =
            |entry: &Entry| matches!(entry.content, Content::Request { number: n, sent: false, .. } if n == number);
        if let Some(at) = self.waiting.iter().position(is_it) {
            if let Some(entry) = self.waiting.remove(at) {
                self.bytes -= entry.weight();
            }
            return Err(Error::new(Kind::Busy, "the hub is away (option attach_timeout); nothing was done"));
        }
        let text = "the hub has not answered in time (option attach_timeout); it may have been done, or will be";
        Err(Error::new(Kind::Timeout, text))
    }

    /// The hub is gone. What it has not answered waits for the next.
    pub(super) fn detach(&mut self) {
        self.socket = None;
        self.away_since = Instant::now();
        self.out = Outbuf::default();
        (self.blocked, self.broken) = (false, false);
        while let Some(entry) = self.in_flight.pop_back() {
            match entry.content {
                Content::Request { lasting: false, waiter, .. } => {
                    self.bytes -= entry.frame.len() + ENTRY;
                    if let Some(waiter) = waiter {
                        waiter.tell(Err(Error::new(Kind::Busy, "the hub went away")));
                    }
                }
                _ => self.waiting.push_front(entry),
            }
        }
    }

    /// A hub is there, which speaks that version. What it has done already (`done`) it will answer again; the rest is
    /// sent again.
    pub(super) fn attach(&mut self, socket: Arc<OwnedFd>, version: u16, epoch: Epoch, done: u64) {
        let same_life = self.present_life() == Some(&epoch);
        (self.socket, self.version) = (Some(socket), version);
        let bytes = &mut self.bytes;
        self.waiting.retain(|entry| match &entry.content {
            Content::Request { since, waiter, .. } if *since > version => {
                *bytes -= entry.weight();
                waiter.iter().for_each(|waiter| waiter.tell(Err(older_hub())));
                false
            }
            _ => true,
        });
        if !same_life {
            self.lives.push(epoch);
            let before = std::mem::take(&mut self.waiting);
            let (stale, kept) = before.into_iter().partition(|entry| matches!(entry.content, Content::OfThisLife));
            self.waiting = kept;
            let stale: VecDeque<Entry> = stale;
            self.bytes -= stale.iter().map(Entry::weight).sum::<usize>();
        }
        let done = if same_life { done } else { 0 };
        let is_done =
            |entry: &Entry| matches!(entry.content, Content::Request { number, sent: true, .. } if number <= done);
        let (in_flight, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(is_done);
        (self.in_flight, self.waiting) = (in_flight, waiting);
        self.flush();
    }
}

#[cold]
fn older_hub() -> Error {
    Error::new(Kind::Unsupported, "the hub is older than this library, and does not know the call")
}
