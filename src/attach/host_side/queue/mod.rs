//! The frames that go to the hub: those that wait, those that are sent and not answered, and the callers that wait for
//! answers. One lock protects all of it. A caller holds it across a send, which never blocks. So the caller that adds a
//! frame can send it, too, without waking another thread.

mod sending;
mod waiting;

pub(super) use waiting::Overdue;

use crate::attach::outbuf::Outbuf;
use crate::attach::wire::{FromHost, MAX_FRAME, OLDEST, VERSION};
use crate::error::{Error, Kind};
use crate::hub::Epoch;
use crate::hub::Placed;
use crate::metrics::Stats;
use crate::users::Users;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The number of connections that may wait for the hub. Each takes one of the process's descriptors.
const MAX_ADOPTS: usize = 512;
/// About what a waiting frame takes beside its bytes.
const ENTRY: usize = 96;
/// The error where a caller would have to wait for the hub.
pub(super) const AWAY: &str = "the hub can't be reached; nothing was done";

/// The hub's reply to a request, as its caller gets it.
#[derive(Debug)]
pub(super) enum Reply {
    Published(Placed),
    /// The messages' numbers, and the index of the epoch that they belong to.
    Batched {
        seqs: Vec<u64>,
        epoch_index: u32,
    },
    Stats(Box<Stats>),
    Users(Users),
}

/// Where a caller waits for its reply.
pub(super) type Waiter = crate::waiter::Waiter<Result<Reply, Error>>;

/// The content of a frame, which says how long the frame is of use.
#[derive(Debug)]
pub(super) enum Content {
    /// A request. The hub answers it. It is sent again if the hub did not do it.
    Request { number: u64, waiter: Option<Arc<Waiter>>, sent: bool, lasting: bool },
    /// About a connection: of no use to a hub of another epoch.
    OfThisEpoch,
    /// Credit for events: of no use to the next attachment, which begins without credit.
    Credit,
    /// A connection that was handed over, and the time of that.
    Adopt { fd: OwnedFd, since: Instant },
}

#[derive(Debug)]
struct Entry {
    frame: Vec<u8>,
    content: Content,
    /// The first version of the protocol that knows it.
    version: u16,
}

impl Entry {
    fn weight(&self) -> usize {
        self.frame.len() + ENTRY
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    /// The socket to the hub, while attached.
    socket: Option<Arc<OwnedFd>>,
    /// The version of the protocol that the hub speaks.
    version: u16,
    away_since: Instant,
    /// Frames that are on their way into the socket.
    out: Outbuf,
    waiting: VecDeque<Entry>,
    in_flight: VecDeque<Entry>,
    /// The bytes of both queues.
    bytes: usize,
    bound: usize,
    adopts: usize,
    /// Connections that waited for a hub, and the hub that came is too old for them. They are refused next.
    not_for_this_hub: Vec<Overdue>,
    last_number: u64,
    answered: u64,
    /// The epochs of the hubs so far, in order.
    epochs: Vec<Epoch>,
    /// The socket is full: the thread waits for room.
    blocked: bool,
    /// The socket takes nothing any more. What can still be read from it is read.
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
            not_for_this_hub: Vec::new(),
            last_number: 0,
            answered: 0,
            epochs: Vec::new(),
            blocked: false,
            broken: false,
        }
    }

    /// Changes the bound. Frames that wait already stay.
    pub(super) fn set_bound(&mut self, bound: usize) {
        self.bound = bound;
    }

    /// Adds a request, and returns its number.
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
        // A request that only asks is not sent again: a caller that still wants the answer asks anew.
        let lasting = !request.only_asks();
        self.add(request, Content::Request { number, waiter, sent: false, lasting })
    }

    /// Adds a command that must reach the hub and may reach it twice. A command has no answer of its own. So an empty
    /// batch follows it, which is answered, and both are sent again until that answer comes.
    pub(super) fn add_command(&mut self, command: &FromHost<'_>) -> Result<(), Error> {
        let number = self.last_number + 1;
        let mut frame = Vec::new();
        command.write(&mut frame);
        FromHost::Batch { number, publications: Vec::new() }.write(&mut frame);
        self.add_frame(frame, Content::Request { number, waiter: None, sent: false, lasting: true }, command.since())?;
        self.last_number = number;
        Ok(())
    }

    /// Adds a frame.
    pub(super) fn add(&mut self, request: &FromHost<'_>, content: Content) -> Result<(), Error> {
        let mut frame = Vec::new();
        request.write(&mut frame);
        self.add_frame(frame, content, request.since())
    }

    fn add_frame(&mut self, frame: Vec<u8>, content: Content, version: u16) -> Result<(), Error> {
        self.check_version(version)?;
        self.check_room(&frame)?;
        self.push(Entry { frame, content, version });
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
        if let Err(error) = self.check_version(version).and_then(|()| self.check_room(&frame)) {
            return Err((error, fd));
        }
        let away = self.is_away(timeout);
        if away || self.adopts >= MAX_ADOPTS {
            let text = if away { AWAY } else { "too many connections wait for the hub" };
            return Err((Error::new(Kind::Busy, text), fd));
        }
        self.adopts += 1;
        self.push(Entry { frame, content: Content::Adopt { fd, since: Instant::now() }, version });
        Ok(self.adopts)
    }

    /// Adds credit for events, in front of everything that waits and without a bound.
    pub(super) fn add_credit(&mut self, frame: Vec<u8>) {
        let entry = Entry { frame, content: Content::Credit, version: OLDEST };
        self.bytes += entry.weight();
        self.waiting.push_front(entry);
    }

    /// Removes the credit that was not sent: the next attachment gets credit for all the room that there is.
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

    fn check_version(&self, version: u16) -> Result<(), Error> {
        if self.is_attached() && version > self.version {
            return Err(older_hub());
        }
        Ok(())
    }

    fn check_room(&self, frame: &[u8]) -> Result<(), Error> {
        if frame.len() > MAX_FRAME {
            return Err(Error::new(
                Kind::TooLarge,
                format!("{} bytes at once; at most {MAX_FRAME} are allowed", frame.len()),
            ));
        }
        // A frame that is larger than the bound goes alone.
        if self.bytes > 0 && self.bytes + frame.len() + ENTRY > self.bound {
            return Err(Error::new(Kind::Busy, "too much waits for the hub (option attach_buffer); nothing was done"));
        }
        Ok(())
    }

    fn push(&mut self, entry: Entry) {
        self.bytes += entry.weight();
        self.waiting.push_back(entry);
    }

    /// True if the hub has not been reachable for longer than a call waits. Then no call should begin to wait.
    pub(super) fn is_away(&self, timeout: Duration) -> bool {
        self.socket.is_none() && self.away_since.elapsed() >= timeout
    }

    pub(super) fn is_attached(&self) -> bool {
        self.socket.is_some()
    }

    pub(super) fn nothing_in_flight(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// True if everything was sent, and every request answered.
    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty() && self.out.len() == 0
    }

    pub(super) fn wants_room(&self) -> bool {
        self.blocked && !self.broken
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

    /// Takes a reply. Returns false if it is not for the oldest request, so the other side is not a hub.
    pub(super) fn answer(&mut self, number: u64, answer: impl FnOnce(u32) -> Result<Reply, Error>) -> bool {
        if number <= self.answered {
            // The reply was repeated, and is known.
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
        let is_it =
            |entry: &Entry| matches!(entry.content, Content::Request { number: n, sent: false, .. } if n == number);
        if let Some(at) = self.waiting.iter().position(is_it) {
            if let Some(entry) = self.waiting.remove(at) {
                self.bytes -= entry.weight();
            }
            return Err(Error::new(Kind::Busy, "the hub can't be reached (option attach_timeout); nothing was done"));
        }
        let text = "the hub has not answered in time (option attach_timeout); the request may be done already, or may still be done";
        Err(Error::new(Kind::Timeout, text))
    }

    /// The hub is gone. The requests that it has not answered wait for the next hub.
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
                        waiter.tell(Err(Error::new(Kind::Busy, "the connection to the hub was lost")));
                    }
                }
                _ => self.waiting.push_front(entry),
            }
        }
    }

    /// Goes on with a hub that speaks this version. `done` is the last request that the hub has done: it repeats its
    /// answers up to there. All later requests are sent again.
    pub(super) fn attach(&mut self, socket: Arc<OwnedFd>, version: u16, epoch: Epoch, done: u64) {
        let same_epoch = self.present_epoch() == Some(&epoch);
        (self.socket, self.version) = (Some(socket), version);
        self.take_out_newer(version);
        if !same_epoch {
            self.epochs.push(epoch);
            let before = std::mem::take(&mut self.waiting);
            let (stale, kept) = before.into_iter().partition(|entry| matches!(entry.content, Content::OfThisEpoch));
            self.waiting = kept;
            let stale: VecDeque<Entry> = stale;
            self.bytes -= stale.iter().map(Entry::weight).sum::<usize>();
        }
        let is_done =
            |entry: &Entry| matches!(entry.content, Content::Request { number, sent: true, .. } if number <= done);
        let (in_flight, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(is_done);
        (self.in_flight, self.waiting) = (in_flight, waiting);
        self.flush();
    }
}

#[cold]
fn older_hub() -> Error {
    let text = "the hub is older than this library, and does not know this call, or the field subscribe of a grant";
    Error::new(Kind::Unsupported, text)
}
