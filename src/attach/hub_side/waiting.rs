//! Requests that publish and can't be done yet: the log can't be written, or too much waits for it; a mailbox is full; or
//! this hub has not read its log. They wait in their session, in their order, and are tried again. Everything else that
//! the host sends passes them.

use super::outcome::Shape;
use super::publishing::session_is_gone;
use super::requests::Done;
use super::sessions::{Lost, SessionId};
use super::{End, HubSide};
use crate::attach::wire::{framed_len, FromHost, ANSWERS_AT_ONCE};
use crate::attach::{MAX_IN_FLIGHT, MAX_IN_FLIGHT_BYTES};
use crate::log::Level;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;

/// The time after which requests that could not be done are tried again. It doubles while nothing can be done.
const AGAIN_MS: u64 = 1;
const AGAIN_MS_MAX: u64 = 16;

/// The requests of one session that wait, oldest first.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    frames: VecDeque<Box<[u8]>>,
    bytes: usize,
}

impl Waiting {
    /// Adds a frame. False if there is no room. A host of this version has no more requests unanswered. One of an older
    /// version may have more bytes; then none of its frames is read until there is room.
    pub(super) fn add(&mut self, frame: &[u8]) -> bool {
        let len = framed_len(frame);
        let has_room = self.frames.is_empty() || self.bytes + len <= MAX_IN_FLIGHT_BYTES;
        if !has_room || self.frames.len() >= MAX_IN_FLIGHT {
            return false;
        }
        self.bytes += len;
        self.frames.push_back(frame.into());
        true
    }

    pub(super) fn take(&mut self) -> Option<Box<[u8]>> {
        let frame = self.frames.pop_front()?;
        self.bytes -= framed_len(&frame);
        Some(frame)
    }

    /// The frame that was taken waits again.
    pub(super) fn put_back(&mut self, frame: Box<[u8]>) {
        self.bytes += framed_len(&frame);
        self.frames.push_front(frame);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of messages in these requests.
    pub(super) fn messages(&self) -> u64 {
        self.frames.iter().map(|frame| FromHost::read(frame).map_or(0, |request| request.messages() as u64)).sum()
    }
}

/// When the waiting requests of all sessions are tried again.
#[derive(Debug)]
pub(super) struct Again {
    at: u64,
    pause_ms: u64,
}

impl Default for Again {
    fn default() -> Self {
        Again { at: 0, pause_ms: AGAIN_MS }
    }
}

impl Again {
    /// They are tried again now: room was made.
    pub(super) fn now(&mut self) {
        self.at = 0;
    }

    /// The milliseconds until then.
    pub(super) fn in_ms(&self, now: u64) -> u64 {
        self.at.saturating_sub(now).max(1)
    }

    fn is_due(&self, now: u64) -> bool {
        now >= self.at
    }

    fn tried(&mut self, any_done: bool, now: u64) {
        self.pause_ms = if any_done { AGAIN_MS } else { (self.pause_ms * 2).min(AGAIN_MS_MAX) };
        self.at = now + self.pause_ms;
    }
}

/// When a request came. Requests that came before and wait are the next ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    Before,
    Now,
}

impl HubSide {
    /// Does a request in its order among those of its session, now or later. `Later`: there is no room for it to wait.
    pub(super) fn in_order(&mut self, id: &SessionId, request: &FromHost<'_>, frame: &[u8]) -> Result<Done, End> {
        if matches!(self.try_next(id, request, Came::Now)?, Done::Yes) {
            return Ok(Done::Yes);
        }
        Ok(if self.sessions.wait(id, frame) { Done::Yes } else { Done::Later })
    }

    /// Tries the waiting requests again, if it is time.
    pub(super) fn do_waiting(&mut self) {
        if !self.again.is_due(self.now) || !self.sessions.any_waits() {
            return;
        }
        let mut any_done = false;
        for id in self.sessions.waiting() {
            while !self.is_choked(&id) {
                let Some(frame) = self.sessions.take_waiting(&id) else { break };
                let done = FromHost::read(&frame)
                    .map_err(End::from)
                    .and_then(|request| self.try_next(&id, &request, Came::Before));
                match done {
                    Ok(Done::Yes) => any_done = true,
                    Ok(Done::Later) => {
                        self.sessions.wait_again(&id, frame);
                        break;
                    }
                    Err(end) => {
                        let attachment = self.sessions.get(&id).and_then(|session| session.attachment());
                        self.sessions.wait_again(&id, frame);
                        let lost = self.sessions.forget_waiting(&id);
                        self.note_lost(lost, "one of them can't be done");
                        attachment.iter().for_each(|attachment| self.end(*attachment, &end));
                        break;
                    }
                }
            }
        }
        self.again.tried(any_done, self.now);
    }

    /// Counts and logs messages that nobody publishes any more.
    pub(super) fn note_lost(&self, lost: Lost, why: &str) {
        let Lost { messages, hosts } = lost;
        if messages == 0 {
            return;
        }
        self.context.metrics.lost.fetch_add(messages, Ordering::Relaxed);
        let text = format_args!("attach: {messages} messages of {hosts} hosts that have gone are lost: {why}");
        self.context.log.limited(Level::Error, "lost messages of hosts that have gone", text);
    }

    /// True if the host of a session is there and does not take its answers.
    fn is_choked(&mut self, id: &SessionId) -> bool {
        let attachment = self.sessions.get(id).and_then(|session| session.attachment());
        attachment.and_then(|attachment| self.attached.get(&attachment)).is_some_and(|host| host.choked())
    }

    /// Does the next request of a session, if that can be done now.
    fn try_next(&mut self, id: &SessionId, request: &FromHost<'_>, came: Came) -> Result<Done, End> {
        let Some(session) = self.sessions.get(id) else { return Err(session_is_gone()) };
        if came == Came::Now && !session.waiting.is_empty() {
            return Ok(Done::Later);
        }
        let unanswered = session.unanswered() > 0;
        let host = session.attachment().and_then(|attachment| self.attached.get(&attachment));
        // A host that speaks an older version takes all answers in the order of its requests.
        let is_older = host.is_some_and(|host| host.version < ANSWERS_AT_ONCE);
        let awaits = host.is_some_and(|host| !host.questions.is_empty());
        if is_older && (awaits || (unanswered && request.only_asks())) {
            return Ok(Done::Later);
        }
        let host = host.map(|host| host.id);
        match request {
            FromHost::Publish { number, publication } => self.publish(id, *number, Shape::Message, &[*publication]),
            FromHost::Broadcast { number, publication } => self.publish(id, *number, Shape::Broadcast, &[*publication]),
            FromHost::Batch { number, publications } => self.publish(id, *number, Shape::Batch, publications),
            // A question. A host that has gone wants no answer.
            _ => host.map_or(Ok(Done::Yes), |host| self.ask(host, request)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_in_number_and_bytes() {
        let mut waiting = Waiting::default();
        assert_eq!((0..2 * MAX_IN_FLIGHT).take_while(|_| waiting.add(b"frame")).count(), MAX_IN_FLIGHT);
        while waiting.take().is_some() {}
        assert_eq!((waiting.bytes(), waiting.is_empty()), (0, true));
        // A large one waits alone.
        assert!(waiting.add(&vec![0; 2 * MAX_IN_FLIGHT_BYTES]) && !waiting.add(b"frame"));
        let large = waiting.take().unwrap();
        assert!(waiting.add(&vec![0; MAX_IN_FLIGHT_BYTES - 9]) && !waiting.add(b"frame") && waiting.add(b"x"));
        waiting.put_back(large);
        assert_eq!(waiting.bytes(), 3 * MAX_IN_FLIGHT_BYTES + 4);
        assert_eq!(waiting.take().unwrap().len(), 2 * MAX_IN_FLIGHT_BYTES);
    }

    #[test]
    fn what_can_not_be_done_is_tried_less_often_and_at_once_when_there_is_room() {
        let mut again = Again::default();
        let mut now = 100;
        let mut pauses = Vec::new();
        for _ in 0..6 {
            assert!(again.is_due(now));
            again.tried(false, now);
            pauses.push(again.in_ms(now));
            now += again.in_ms(now);
        }
        assert_eq!(pauses, [2, 4, 8, 16, 16, 16]);
        again.tried(false, now);
        assert!(!again.is_due(now));
        again.now();
        assert!(again.is_due(now));
        again.tried(true, now);
        assert_eq!(again.in_ms(now), 1);
    }
}
