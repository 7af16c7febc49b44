//! A log in NATS: one stream of JetStream.
//!
//! The stream `push_NAMESPACE` has all subjects below `push.NAMESPACE`. Each life of a hub puts its entries on a subject
//! of its own (`hub.LIFE`), and fences are on the subject `fence`. The numbers of the log are the stream's sequence
//! numbers. How the [contract](super::contract) is kept:
//!
//! **Order, and each once** (`appending`). JetStream recognises message ids only for some time, and messages that are on
//! the way together may fail one by one. So order does not rest on ids. Each message names the last number on its hub's
//! subject, and JetStream refuses it if that is wrong. Several entries go as one atomic batch, which names that number
//! once. One batch is on the way at a time: what comes meanwhile makes the next batch larger. The last message on the
//! subject tells the hub's next connection how far the log has come, and is as durable as the entries are.
//!
//! **Keys** are message ids (`Nats-Msg-Id`), valid for the stream's `duplicate_window`. JetStream says which number has
//! the key. In a batch it says only that one is known: then each key of the batch is asked for, with a message that is
//! never stored.
//!
//! **Fences** (`fences`) are swapped by the last number of their subject. Before the last one is trimmed it is copied to
//! the end of the stream.
//!
//! **The tail** (`tail`) is pulled by a consumer in the server's memory, which ends with that server. It counts its
//! messages, so nothing is missing or out of order unseen.
//!
//! **Words** (`words`) are plain messages on the subjects `push-words.NAMESPACE.>`, which are not of the stream. They
//! have a connection of their own.
//!
//! **Identity** (`life`). A log is another one if anything may be lost that somebody has read:
//!
//! - The stream was deleted and made anew: it has another time of creation.
//! - A server without replicas was started again. JetStream acknowledges, and delivers, what is not synced (by default
//!   it syncs every two minutes), so the end may be gone. A server names each of its processes (`server_id`). That is
//!   known only of the server to which the connection is, so a stream without replicas has to be on that server.
//! - With replicas, what was acknowledged is on most servers, in memory. If some of them lose their power and another
//!   server leads then, it may be gone. As long as one server leads, it has all that it has ever acknowledged. So the
//!   leader and the moment since which it leads (`leader_since`) are the log's life. A server leads only once it has
//!   applied all that it had when it was elected; so what it says of a subject's last message is never too old. Mostly
//!   nothing is lost when another server leads; then a fence is written for nothing, and live subscribers are told of no gap.
//! - A stream that was restored from a copy by the same server may keep its time of creation. Its consumers are gone, so
//!   each hub connects again and finds that the entries it has read are other ones, or not there.
//!
//! A consumer may be on another server than the leader. When that server follows a new leader already, it may deliver
//! what the new leader has in place of what was lost. So each hub keeps asking who leads. It counts as certain only what
//! it had read when it asked. A fence that it writes vouches for positions up to there (`life::Confirmed`).

mod appending;
mod fences;
mod life;
mod opening;
mod session;
mod settings;
mod stream;
mod tail;
#[cfg(test)]
pub(crate) mod tests;
mod words;

pub(crate) use settings::Settings;

use super::contract::{Answer, Ask, Identity, LogId};
use super::envelope;
use super::shared::connection::{pair, Connection, Failure, Serving};
use appending::Appender;
use opening::Complaints;
use session::Session;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tail::Tail;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout, Instant};

/// How often a hub asks at least whether the log is the same.
const LIFE: Duration = Duration::from_secs(1);
/// How long the end of a connection may take to be told to the server.
const FAREWELL: Duration = Duration::from_millis(200);

/// A log of which a connection is open.
struct Log {
    session: Session,
    settings: Settings,
    id: LogId,
    replicated: bool,
    /// Names this connection: random bits.
    connection: u64,
    /// How far the tail has come.
    received: AtomicU64,
}

/// Connects to one of the servers. `hub` names this life of the hub.
pub(crate) async fn connect(settings: &Settings, hub: u64) -> Result<Connection, Failure> {
    // Each call begins with another server, so one that is broken is not tried first again and again.
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let mut failed: Option<Failure> = None;
    let deadline = Instant::now() + settings.options.timeout;
    let mut left = settings.servers.len() as u32;
    for server in opening::order(settings, TURN.fetch_add(1, Ordering::Relaxed)) {
        // One that hangs leaves time for the others.
        let limit = deadline.saturating_duration_since(Instant::now()) / left.max(1);
        left = left.saturating_sub(1);
        let late = |_| Err(opening::late(server, limit));
        match timeout(limit, open(settings, server, hub)).await.unwrap_or_else(late) {
            Ok((log, appender, complaints)) => {
                let (connection, serving) = pair();
                let (settings, names) = (settings.clone(), log.session.names.clone());
                let words = words::Place { settings, server: server.clone(), names };
                tokio::spawn(serve(log, appender, complaints, words, serving));
                return Ok(connection);
            }
            Err(failure) => {
                failed = Some(match failed {
                    Some(Failure(before)) if before != failure.0 => Failure(format!("{before}; {failure}")),
                    _ => failure,
                });
            }
        }
    }
    Err(failed.unwrap_or_else(|| Failure("the NATS URL names no server".to_owned())))
}

async fn open(settings: &Settings, server: &(String, u16), hub: u64) -> Result<(Log, Appender, Complaints), Failure> {
    let (session, mut complaints) = opening::open(settings, server, hub).await?;
    let random = || getrandom::u64().map_err(|error| Failure(format!("the system has no random numbers: {error}")));
    let looking = async {
        let in_cluster = session.client.server_info().cluster.is_some();
        let info = stream::find_or_make(&session, settings, in_cluster).await?;
        let id = session.life(&info)?;
        let connection = random()?;
        let appender = Appender::begin(&session, connection).await?;
        Ok((id, info.replicas() > 1, connection, appender))
    };
    let looked = tokio::select! {
        biased;
        looked = looking => looked,
        why = complaint(&mut complaints.lost) => Err(why),
    };
    match looked {
        Ok((id, replicated, connection, appender)) => {
            let settings = settings.clone();
            let log = Log { session, settings, id, replicated, connection, received: AtomicU64::new(0) };
            Ok((log, appender, complaints))
        }
        Err(why) => {
            opening::close(&session.client, FAREWELL).await;
            Err(why)
        }
    }
}

async fn complaint(lost: &mut mpsc::Receiver<Failure>) -> Failure {
    lost.recv().await.unwrap_or_else(|| Failure("the connection to the NATS server has ended".to_owned()))
}

/// Serves a connection until it ends.
async fn serve(
    log: Log,
    appender: Appender,
    Complaints { mut lost, .. }: Complaints,
    place: words::Place,
    mut serving: Serving,
) {
    let (start, started) = oneshot::channel();
    let words = serving.words.take();
    let why = tokio::select! {
        why = log.answer_all(appender, &mut serving.asks, &serving.answers, start) => why,
        why = log.tail(started, &serving.tail) => why,
        why = log.stay() => why,
        why = place.exchange(words) => why,
        why = complaint(&mut lost) => why,
    };
    serving.fail(why);
    tail::forget(&log.session, &log.consumer()).await;
    opening::close(&log.session.client, FAREWELL).await;
}

impl Log {
    fn consumer(&self) -> String {
        format!("{:016x}", self.connection)
    }

    /// Does and answers what is asked, one thing after the other.
    async fn answer_all(
        &self,
        mut appender: Appender,
        asks: &mut mpsc::Receiver<Ask>,
        answers: &mpsc::Sender<Answer>,
        start: oneshot::Sender<u64>,
    ) -> Failure {
        let mut start = Some(start);
        let ended = || Failure("the hub has ended the connection".to_owned());
        while let Some(ask) = asks.recv().await {
            let answer = match ask {
                Ask::Identify { number } => self.identify(number).await.map(|is| Some(Answer::Identity(is))),
                Ask::Append { after, entries } => {
                    let appended = appender.append(&self.session, after, entries).await;
                    appended.map(|placed| Some(placed.map_or(Answer::Busy, Answer::Appended)))
                }
                Ask::Tail { after } => {
                    self.begin(after);
                    start.take().into_iter().for_each(|start| _ = start.send(after));
                    Ok(None)
                }
                Ask::Fence { expected, mut fence } => {
                    self.settings.confirmed.bound(&mut fence);
                    fences::fence(&self.session, expected, &fence).await.map(|done| Some(Answer::Fenced(done)))
                }
                Ask::Trim { before } => self.trim(before).await.map(|()| None),
                Ask::HangUp => return ended(),
            };
            match answer {
                Ok(None) => {}
                Ok(Some(answer)) => {
                    if answers.send(answer).await.is_err() {
                        return ended();
                    }
                }
                Err(why) => return why,
            }
        }
        ended()
    }

    /// What the log is. The order of the questions counts: the end is not before the fence and the entry.
    async fn identify(&self, number: u64) -> Result<Identity, Failure> {
        let entry = if number > 0 { self.session.message(number).await? } else { None };
        let entry = entry.and_then(|stored| self.name(&stored));
        let fence = fences::last(&self.session).await?;
        let info = self.session.info().await?;
        self.check(self.session.life(&info)?)?;
        let (first, end) = (info.state.first_seq.max(1), info.state.last_seq);
        let fence = fence.map(|last| (last.number, last.fence));
        Ok(Identity { log: self.id, first, end, entry, fence })
    }

    /// The name of an entry. A copy of a fence has its own.
    fn name(&self, stored: &session::Stored) -> Option<super::contract::EntryId> {
        if stored.subject == self.session.names.fences {
            if let Some(id) = fences::copy_id(stored) {
                return Some(id);
            }
        }
        envelope::read(&stored.bytes).ok().map(|(id, _)| id)
    }

    fn check(&self, id: LogId) -> Result<(), Failure> {
        match id == self.id {
            true => Ok(()),
            false => {
                let (server, stream) = (&self.session.server, &self.session.names.stream);
                Err(Failure(format!(
                    "the stream `{stream}` at the NATS server {server} was replaced by another one: it was made anew, or another \
                     server leads it"
                )))
            }
        }
    }

    /// The hub reads on after a number, up to which it has the same as this log.
    fn begin(&self, after: u64) {
        self.received.store(after, Ordering::Release);
        // Without replicas a server delivers only what it has itself, and its consumers end with it.
        self.settings.confirmed.note(if self.replicated { after } else { u64::MAX });
    }

    /// Gives the hub what comes, once it has asked for that.
    async fn tail(
        &self,
        started: oneshot::Receiver<u64>,
        pieces: &mpsc::Sender<Vec<super::contract::Tailed>>,
    ) -> Failure {
        let Ok(after) = started.await else { return std::future::pending().await };
        match Tail::begin(&self.session, after, &self.consumer()).await {
            Ok(tail) => tail.run(pieces, &self.received).await,
            Err(why) => why,
        }
    }

    async fn trim(&self, before: u64) -> Result<(), Failure> {
        match getrandom::u64() {
            Ok(random) => fences::trim(&self.session, before, random).await,
            Err(error) => Err(Failure(format!("the system has no random numbers: {error}"))),
        }
    }

    /// Keeps asking whether the log is the same, and whether there is room in it.
    async fn stay(&self) -> Failure {
        loop {
            sleep((self.session.timeout / 3).min(LIFE)).await;
            let received = self.received.load(Ordering::Acquire);
            let mut room = None;
            let same = match self.session.info().await {
                Ok(info) => {
                    room = info.makes_room_before();
                    self.session.life(&info).and_then(|id| self.check(id))
                }
                Err(why) => Err(why),
            };
            if let Err(why) = same {
                return why;
            }
            if self.replicated && received > 0 {
                self.settings.confirmed.note(received);
            }
            let Some(before) = room.filter(|_| received > 0) else { continue };
            if let Err(why) = self.trim(before.min(received)).await {
                return why;
            }
        }
    }
}
