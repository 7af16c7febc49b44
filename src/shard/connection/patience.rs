//! Requests that a hub can't serve yet: it has not read what its log had when it began, or the client comes from a hub
//! that has read more. They wait for at most `engine_timeout`, so that no client is told of a gap that does not exist.
//! Also here: the answers to load balancers, which say whether this hub can serve new clients.

use crate::framing::date;
use crate::http::refusal::Refusal;
use crate::http::request::Subscribe;
use crate::hub::{Position, Start};
use crate::shard::connection::conn::{Flags, Phase, Token};
use crate::shard::Shard;
use bytes::Bytes;

/// How often the hub is asked whether it can serve them, in milliseconds.
const LOOK_MS: u64 = 10;

/// The requests of a shard that wait for its hub.
#[derive(Debug, Default)]
pub(in crate::shard) struct Patience {
    waiting: Vec<Waiting>,
    /// When to look at them next.
    look_at: u64,
}

#[derive(Debug)]
struct Waiting {
    of: Token,
    /// Where it begins, if it comes with a position: the epoch and the number.
    since: Option<(Box<str>, u64)>,
    /// It has its grant already, from the host or from a token.
    allowed: bool,
}

impl Waiting {
    fn start(&self) -> Start<'_> {
        let since = self.since.as_ref().map(|(epoch, seq)| Start::Since(Position { epoch, seq: *seq }));
        since.unwrap_or(Start::New)
    }
}

/// The question's count of a request that waits for the hub and not for the host: no question has it.
const NO_QUESTION: u64 = 0;

impl Shard {
    /// Whether a request has to wait.
    pub(in crate::shard) fn is_too_early(&self, subscribe: &Subscribe<'_>) -> bool {
        self.context.engine.is_shared() && !self.context.hub.can_serve(subscribe.start())
    }

    /// Keeps a request until the hub can serve it.
    pub(in crate::shard) fn wait_for_hub(
        &mut self,
        index: u32,
        subscribe: &Subscribe<'_>,
        bytes: &[u8],
        allowed: bool,
    ) {
        let since = match subscribe.start() {
            Start::Since(Position { epoch, seq }) => Some((epoch.into(), seq)),
            Start::New | Start::After(_) | Start::BeginningAfter(_) | Start::Last(_) | Start::Beginning => None,
        };
        let of = self.token(index);
        self.questions.patience.waiting.push(Waiting { of, since, allowed });
        let conn = &mut self.conns[index as usize];
        conn.phase = Phase::Asked;
        conn.joined = NO_QUESTION;
        conn.received.unread = Some(Box::new(bytes.to_vec()));
        self.schedule(index, self.config().engine_timeout_ms);
    }

    /// The refusal of a request that has waited long enough, if it is the hub that it has waited for.
    pub(in crate::shard) fn out_of_patience(&self, index: u32) -> Option<Refusal> {
        (self.conns[index as usize].joined == NO_QUESTION).then(behind)
    }

    /// Goes on with the requests that the hub can serve now.
    pub(in crate::shard) fn serve_those_that_waited(&mut self) {
        if self.questions.patience.waiting.is_empty() || self.turn.now < self.questions.patience.look_at {
            return;
        }
        self.questions.patience.look_at = self.turn.now + LOOK_MS;
        for waiting in std::mem::take(&mut self.questions.patience.waiting) {
            let waits = |index: &u32| {
                let conn = &self.conns[*index as usize];
                conn.phase == Phase::Asked && conn.joined == NO_QUESTION
            };
            let Some(index) = self.find(waiting.of).filter(waits) else { continue };
            if !self.context.hub.can_serve(waiting.start()) {
                self.questions.patience.waiting.push(waiting);
                continue;
            }
            let conn = &mut self.conns[index as usize];
            conn.phase = Phase::Head;
            conn.flags.set(Flags::ALLOWED, waiting.allowed);
            self.read_early(index);
        }
    }

    /// Answers a load balancer; the connection ends with the answer.
    pub(in crate::shard) fn answer_health(&mut self, index: u32, head: bool) {
        let refusal = if self.draining() { Some(Refusal::draining()) } else { self.behind_its_log() };
        if let Some(refusal) = refusal {
            return self.refuse(index, &if head { refusal.without_body() } else { refusal }, "", false);
        }
        let body = if head { "" } else { "ok\n" };
        let answer = format!(
            "HTTP/1.1 200 OK\r\nDate: {}\r\nContent-Type: text/plain\r\nCache-Control: no-store\r\n\
             Content-Length: 3\r\nConnection: close\r\n\r\n{body}",
            date::now()
        );
        self.last_bytes(index, Bytes::from(answer));
    }

    /// Why new clients should go to another hub, if this one does not follow the log that it shares with others. The
    /// reason names servers behind this one, so strangers are not told it.
    fn behind_its_log(&self) -> Option<Refusal> {
        let status = &self.context.engine.shared()?.status;
        if !status.is_ready() {
            return Some(Refusal::unavailable("starting", "this hub has not read its log yet"));
        }
        status.failure()?;
        let message = "this hub does not follow its log at present; its log lines and the control API say why";
        Some(Refusal::unavailable("engine", message))
    }

    /// Milliseconds until they are looked at.
    pub(in crate::shard) fn patience_in(&self) -> Option<u64> {
        let Patience { waiting, look_at } = &self.questions.patience;
        (!waiting.is_empty()).then(|| look_at.saturating_sub(self.turn.now).max(1))
    }
}

/// The refusal of a request that this hub can't serve yet.
pub(in crate::shard) fn behind() -> Refusal {
    Refusal::unavailable("behind", "this hub has not read its log up to there (option engine_timeout); come back")
}
