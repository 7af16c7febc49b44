//! Serves a hub's connection: its questions, pipelined and in their order, and the tail.

use super::super::contract::{Answer, Appending, Ask, Fence, Identity, Placed};
use super::super::envelope::{self, Body, Unreadable};
use super::super::shared::connection::{Failure, Serving};
use super::super::shared::pause;
use super::dial::{Line, Refused};
use super::failure::{code, is_refusal};
use super::log::{load_again, Log, Script, Wrong};
use super::tail;
use futures_util::stream::{FuturesOrdered, StreamExt};
use redis::Value;
use std::future::{poll_fn, Future};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// How many questions may be on their way to the server.
const MOST: usize = 8;
/// The pause after the server itself has refused an append, about. The hub asks again at once.
const PAUSE: Duration = Duration::from_millis(100);

/// The side that serves one connection.
pub(super) struct Server {
    pub(super) log: Arc<Log>,
    /// For questions.
    pub(super) line: Line,
    /// For the tail: a read that waits holds up everything behind it.
    pub(super) reading: Line,
    /// The life of the hub, and the number of its connection: later ones have greater numbers.
    pub(super) hub: u64,
    pub(super) number: u64,
    pub(super) key_window: Duration,
    pub(super) timeout: Duration,
    /// How many entries are read at once.
    pub(super) most: usize,
}

/// The result of a question.
enum Done {
    Answer(Answer),
    /// The server refused an append, for this reason.
    Refused(Failure),
    Nothing,
}

type Question = Pin<Box<dyn Future<Output = Result<Done, Failure>> + Send>>;
type Following = Pin<Box<dyn Future<Output = Failure> + Send>>;

enum Event {
    Asked(Option<Ask>),
    Done(Result<Done, Failure>),
    Ended(Failure),
}

/// Serves until either side ends the connection.
pub(super) async fn serve(server: Server, mut serving: Serving) {
    let mut under_way: FuturesOrdered<Question> = FuturesOrdered::new();
    let mut following: Option<Following> = None;
    // The time since which the server refuses all appends.
    let mut refusing: Option<Instant> = None;
    loop {
        let event = poll_fn(|context| {
            if let Poll::Ready(Some(done)) = under_way.poll_next_unpin(context) {
                return Poll::Ready(Event::Done(done));
            }
            if let Some(Poll::Ready(why)) = following.as_mut().map(|tail| tail.as_mut().poll(context)) {
                return Poll::Ready(Event::Ended(why));
            }
            match under_way.len() < MOST {
                true => serving.asks.poll_recv(context).map(Event::Asked),
                false => Poll::Pending,
            }
        });
        match event.await {
            Event::Asked(None | Some(Ask::HangUp)) => return,
            Event::Asked(Some(Ask::Tail { after })) => {
                let (line, log, pieces) = (server.reading.clone(), server.log.clone(), serving.tail.clone());
                following = Some(Box::pin(tail::follow(line, log, after, pieces, server.timeout, server.most)));
            }
            Event::Asked(Some(ask)) => under_way.push_back(server.question(ask)),
            Event::Done(Ok(Done::Nothing)) => {}
            Event::Done(Ok(Done::Answer(answer))) => {
                if matches!(answer, Answer::Appended(_)) {
                    refusing = None;
                }
                if serving.answers.send(answer).await.is_err() {
                    return;
                }
            }
            Event::Done(Ok(Done::Refused(why))) => {
                // An operator has to learn of it.
                if refusing.get_or_insert_with(Instant::now).elapsed() > server.timeout {
                    return serving.fail(why);
                }
                if serving.answers.send(Answer::Busy).await.is_err() {
                    return;
                }
            }
            Event::Done(Err(why)) | Event::Ended(why) => return serving.fail(why),
        }
    }
}

impl Server {
    fn question(&self, ask: Ask) -> Question {
        match ask {
            Ask::Append { after, entries } => self.append(after, &entries),
            Ask::Identify { number } => self.identify(number),
            Ask::Fence { expected, fence } => self.fence(expected, &fence),
            Ask::Trim { before } => self.trim(before),
            Ask::Tail { .. } | Ask::HangUp => Box::pin(async { Ok(Done::Nothing) }),
        }
    }

    fn append(&self, after: u64, entries: &[Appending]) -> Question {
        let mut command = self.log.call(Script::Append);
        command.arg(format!("{:016x}", self.hub)).arg(self.number).arg(after).arg(self.key_window.as_millis() as u64);
        command.arg(self.log.mark());
        for entry in entries {
            command.arg(entry.id.counter).arg(&*entry.key).arg(&entry.bytes);
        }
        let (count, log, line) = (entries.len(), self.log.clone(), self.line.clone());
        let answer = self.line.ask(command);
        Box::pin(async move {
            match log.read(answer.await) {
                Ok(places) => {
                    let places: Option<Vec<Placed>> = places.map(|place| placed(&place)).collect();
                    match places.filter(|places| places.len() == count) {
                        Some(places) => Ok(Done::Answer(Answer::Appended(places))),
                        None => Err(failed(&line, log.strange())),
                    }
                }
                Err(Wrong::Busy) => Ok(Done::Answer(Answer::Busy)),
                Err(Wrong::Refused(Refused::Said(error))) if is_refusal(&error) => {
                    tokio::time::sleep(pause::about(PAUSE)).await;
                    Ok(Done::Refused(line.why(Refused::Said(error))))
                }
                Err(Wrong::Refused(Refused::Said(error))) if code(&error) == Some("NOSCRIPT") => {
                    load_again(line.clone()).await.map_err(|wrong| failed(&line, wrong))?;
                    Ok(Done::Answer(Answer::Busy))
                }
                Err(wrong) => Err(failed(&line, wrong)),
            }
        })
    }

    fn identify(&self, number: u64) -> Question {
        let mut command = self.log.call(Script::Identify);
        command.arg(number);
        let (log, line) = (self.log.clone(), self.line.clone());
        let answer = self.line.ask(command);
        Box::pin(async move {
            let parts = log.read(answer.await).map_err(|wrong| failed(&line, wrong))?;
            identity(&log, parts)
                .map(|identity| Done::Answer(Answer::Identity(identity)))
                .map_err(|wrong| failed(&line, wrong))
        })
    }

    fn fence(&self, expected: u64, fence: &Fence) -> Question {
        let mut command = self.log.call(Script::Fence);
        command.arg(expected).arg(envelope::write(fence.id(), &Body::Fence(fence.clone()))).arg(self.log.mark());
        let (log, line) = (self.log.clone(), self.line.clone());
        let answer = self.line.ask(command);
        Box::pin(async move {
            let read = log.read(answer.await);
            let refused = matches!(&read, Err(Wrong::Refused(Refused::Said(error))) if is_refusal(error));
            let mut parts = read.map_err(|wrong| failed(&line, wrong)).map_err(|Failure(why)| match refused {
                true => {
                    Failure(format!("{why}; the hub reads on once it has appended a fence, which begins a new epoch"))
                }
                false => Failure(why),
            })?;
            Ok(Done::Answer(Answer::Fenced(parts.next() == Some(Value::Int(1)))))
        })
    }

    fn trim(&self, before: u64) -> Question {
        let mut command = self.log.call(Script::Trim);
        command.arg(before);
        let (log, line) = (self.log.clone(), self.line.clone());
        let answer = self.line.ask(command);
        Box::pin(async move {
            match log.read(answer.await) {
                Ok(_) => Ok(Done::Nothing),
                // The log is trimmed again later.
                Err(Wrong::Refused(Refused::Said(error))) if is_refusal(&error) => Ok(Done::Nothing),
                Err(wrong) => Err(failed(&line, wrong)),
            }
        })
    }
}

fn failed(line: &Line, wrong: Wrong) -> Failure {
    match wrong {
        Wrong::Failed(failure) => failure,
        Wrong::Refused(refused) => line.why(refused),
        Wrong::Busy => Failure(format!("Redis {} is busy", line.server)),
    }
}

impl Wrong {
    /// The sentence for it.
    pub(super) fn why(self, line: &Line) -> Failure {
        failed(line, self)
    }
}

fn placed(value: &Value) -> Option<Placed> {
    match value {
        Value::Int(0) => Some(Placed::Repeated),
        Value::Int(number) if *number > 0 => Some(Placed::At(number.unsigned_abs())),
        Value::Int(number) => Some(Placed::Known(number.unsigned_abs())),
        _ => None,
    }
}

fn identity(log: &Log, mut parts: std::vec::IntoIter<Value>) -> Result<Identity, Wrong> {
    let mut next = || match parts.next() {
        Some(Value::BulkString(bytes)) => Ok(bytes),
        _ => Err(log.strange()),
    };
    let strange = || log.strange();
    let end = number(&next()?).ok_or_else(strange)?;
    let first = tail::number_of_id(&next()?).ok_or_else(strange)?;
    let (fence_number, fence_bytes) = (number(&next()?).ok_or_else(strange)?, next()?);
    let (field, head) = (next()?, next()?);
    let entry = if matches!(field.first(), Some(b'e' | b'f')) { envelope::read_id(&head) } else { None };
    let fence = match envelope::read(&fence_bytes) {
        _ if fence_number == 0 => None,
        Ok((_, Body::Fence(fence))) => Some((fence_number, fence)),
        // Another fence in its place would be taken for the next one by those who can read it.
        other => return Err(log.unreadable_fence(fence_number, other.err().unwrap_or(Unreadable::Malformed))),
    };
    Ok(Identity { log: log.id(), first, end, entry, fence })
}

/// A number in decimal digits.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
