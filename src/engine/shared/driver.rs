//! The thread of an engine (`push-engine`): it moves questions and answers between the hub's replica and the connection
//! to the log, and applies the entries that came to the hub.
//!
//! It waits for whatever comes first: an answer, a piece of the tail, something to publish, a time. A connection that
//! is lost, or does not answer in time, is made again, after pauses that grow. Messages to publish wait meanwhile.

mod health;
mod times;
mod upkeep;
mod words;

use super::super::contract::{Answer, Ask, Tailed};
use super::super::replica::{Environment, Heard, Now, Outcome, Replica};
use super::connection::{Connection, Failure, Heard as Word};
use super::inlet::{Inlet, Offered};
use super::members::Members;
use super::requests::Requests;
use super::status::Status;
use super::{Settings, Shared};
use crate::engine::file::MakeMessage;
use crate::hub::Hub;
use crate::log::{Level, Log};
use crate::sys::clock;
use health::{Beat, Told};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use times::pause_after;
use tokio::time::{sleep_until, Instant};
use upkeep::Upkeep;

/// How many pieces of the tail are taken before they are applied.
const PIECES: usize = 8;

/// The parts of a driver.
pub(crate) struct Parts {
    pub(crate) settings: Settings,
    /// The name of this hub, for operators.
    pub(crate) name: Box<str>,
    /// The log's place, for lines of the log.
    pub(crate) place: String,
    /// A log that does not answer for that long has lost its connection.
    pub(crate) timeout: Duration,
    /// How long, and about how many bytes, the log is kept.
    pub(crate) kept: (Duration, u64),
    /// Bytes that may wait.
    pub(crate) buffer: usize,
    pub(crate) make: MakeMessage,
    pub(crate) log: Log,
}

/// See the module.
pub(crate) struct Driver {
    settings: Settings,
    place: String,
    timeout: Duration,
    log: Log,
    replica: Replica,
    /// What other threads see, too.
    shared: Shared,
    /// The hub that follows the log. `None` before the thread runs.
    hub: Option<Box<dyn AsRef<Hub> + Send>>,
    hear: Box<dyn FnMut(Heard) + Send>,
    requests: Requests,
    /// A call. The replica has not taken all of its entries.
    partly: Option<Offered>,
    beat: Beat,
    upkeep: Upkeep,
    /// Since when there is a connection.
    connected: Option<Instant>,
    told: Told,
}

/// The next thing that a connection gave.
enum Came {
    Answer(Answer),
    Piece(Vec<Tailed>),
    Word(Word),
    /// It is time to look again.
    Nothing,
}

/// The reason why a connection is not used any more.
enum End {
    Lost(Failure),
    /// The hub must look at the log anew.
    Anew,
    /// The hub ends.
    Ending,
}

impl Driver {
    /// A driver, and the part that other threads see.
    pub(crate) fn new(parts: Parts, hub: u64, random: impl FnMut() -> u64 + Send + 'static) -> (Self, Arc<Shared>) {
        let Parts { settings, name, place, timeout, kept, buffer, make, log } = parts;
        let environment = Environment { hub, random: Box::new(random), make, buffer };
        let shared = Shared {
            inlet: Arc::new(Inlet::new(hub, buffer)),
            status: Arc::new(Status::new(kept)),
            members: Arc::new(Members::new(hub, timeout)),
        };
        let seen = Arc::new(shared.clone());
        let driver = Driver {
            settings,
            place,
            timeout,
            log,
            replica: Replica::new(environment),
            shared,
            hub: None,
            hear: Box::new(|_| {}),
            requests: Requests::default(),
            partly: None,
            beat: Beat::new(name),
            upkeep: Upkeep::new(),
            connected: None,
            told: Told::default(),
        };
        (driver, seen)
    }

    /// Follows the log until it is told to end. `hear` gets what other hubs have published for attached hosts.
    // A build without engines can't connect.
    #[cfg_attr(not(test), allow(unused_mut, unused_variables))]
    pub(crate) async fn run(mut self, hub: Box<dyn AsRef<Hub> + Send>, hear: Box<dyn FnMut(Heard) + Send>) {
        self.hub = Some(hub);
        self.hear = hear;
        self.beat.next = Instant::now();
        let mut failures = 0;
        while !self.may_end() {
            self.take_settings();
            let settings = self.settings.clone();
            let within = self.timeout.saturating_mul(2);
            let (hub, timeout) = (self.shared.inlet.hub, self.timeout);
            let connecting = async move {
                let late = |_| Failure(format!("no connection within {} ms", timeout.as_millis()));
                tokio::time::timeout(within, settings.connect(hub)).await.map_err(late)?
            };
            let end = match self.meanwhile(connecting).await {
                None => End::Ending,
                Some(Err(failure)) => End::Lost(failure),
                Some(Ok(connection)) => {
                    let since = Instant::now();
                    (self.connected, self.beat.proven) = (Some(since), false);
                    let end = self.serve(connection).await;
                    // A connection that only opens is no success: the log may refuse all that is appended.
                    let succeeded = self.beat.proven || since.elapsed() >= self.timeout;
                    failures = if succeeded { 0 } else { failures };
                    self.connected = None;
                    self.replica.answer(Answer::Lost);
                    end
                }
            };
            match end {
                End::Ending => break,
                End::Anew => {}
                End::Lost(failure) => self.say_down(&failure),
            }
            failures += 1;
            let pause = pause_after(failures);
            if self.meanwhile(tokio::time::sleep(pause)).await.is_none() {
                break;
            }
        }
        self.say_end();
    }

    /// Waits for `something` while there is no connection. Meanwhile does the work that needs no connection. `None`:
    /// the hub ends.
    async fn meanwhile<T>(&mut self, something: impl Future<Output = T>) -> Option<T> {
        let mut something = pin!(something);
        loop {
            self.apply();
            self.shared.inlet.words.forget();
            self.look_at_health();
            let until = self.next_look(None);
            tokio::select! {
                biased;
                done = &mut something => return Some(done),
                () = self.shared.inlet.came.notified() => {}
                () = sleep_until(until) => {}
            }
            if self.may_end() {
                return None;
            }
        }
    }

    /// Uses a connection for as long as it lasts.
    async fn serve(&mut self, mut connection: Connection) -> End {
        self.shared.status.note_connect();
        self.replica.connected();
        // The questions without an answer: the time of each, and whether it is an append.
        let mut asked: VecDeque<(Instant, bool)> = VecDeque::new();
        let mut next: Option<Ask> = None;
        let mut heard = Instant::now();
        loop {
            // What is applied makes room for the rest of a call that is larger than the buffer. If the calls came first,
            // that rest would wait until something else happens, and that may be the next heartbeat.
            self.apply();
            self.take_offered();
            self.beat();
            self.note_progress();
            if self.may_end() {
                return End::Ending;
            }
            if self.take_settings() {
                return End::Anew;
            }
            while let Some(ask) = next.take().or_else(|| self.replica.ask()) {
                if ask == Ask::HangUp {
                    return End::Anew;
                }
                let kind =
                    (!matches!(ask, Ask::Tail { .. } | Ask::Trim { .. })).then_some(matches!(ask, Ask::Append { .. }));
                match connection.asks.try_send(ask) {
                    Ok(()) => asked.extend(kind.map(|append| (Instant::now(), append))),
                    Err(tokio::sync::mpsc::error::TrySendError::Full(ask)) => {
                        next = Some(ask);
                        break;
                    }
                    Err(tokio::sync::mpsc::error::TrySendError::Closed(_)) => {
                        return End::Lost(connection.why().await);
                    }
                }
            }
            if let Some(failure) = self.overdue(asked.front().map(|(at, _)| *at), heard) {
                return End::Lost(failure);
            }
            let until = self.next_look(asked.front().map(|(at, _)| *at));
            let unsaid = self.converse(&mut connection);
            let came = tokio::select! {
                biased;
                answer = connection.answers.recv() => answer.map(Came::Answer),
                piece = connection.tail.recv(), if self.replica.takes_more() => piece.map(Came::Piece),
                // The question is sent in the next round.
                permit = connection.asks.reserve(), if next.is_some() => permit.ok().map(|_| Came::Nothing),
                permit = connection.words.reserve(), if unsaid => permit.ok().map(|_| Came::Nothing),
                word = connection.heard.recv() => word.map(Came::Word),
                () = self.shared.inlet.came.notified() => Some(Came::Nothing),
                () = sleep_until(until) => Some(Came::Nothing),
            };
            match came {
                None => return End::Lost(connection.why().await),
                Some(Came::Nothing) => {}
                Some(Came::Word(word)) => self.hear(word),
                Some(Came::Answer(answer)) => {
                    if let Some((at, true)) = asked.pop_front() {
                        self.shared.status.note_append(at.elapsed());
                    }
                    self.replica.answer(answer);
                }
                Some(Came::Piece(piece)) => {
                    heard = Instant::now();
                    self.take_piece(piece);
                    for _ in 1..PIECES {
                        if !self.replica.takes_more() {
                            break;
                        }
                        let Ok(piece) = connection.tail.try_recv() else { break };
                        self.take_piece(piece);
                    }
                }
            }
        }
    }

    /// Takes the settings that a reload has brought. True if they are others than before.
    fn take_settings(&mut self) -> bool {
        let Some((mut settings, timeout)) = self.shared.inlet.take_settings() else { return false };
        if timeout == self.timeout && settings.is_same(&self.settings) {
            return false;
        }
        settings.follow(&self.settings);
        if timeout != self.timeout {
            // Other hubs learn it from the next heartbeat. The one that is on its way says another time.
            self.beat.under_way = None;
        }
        (self.settings, self.timeout) = (settings, timeout);
        self.shared.members.set_timeout(timeout);
        self.beat.next = Instant::now();
        true
    }

    fn take_piece(&mut self, piece: Vec<Tailed>) {
        self.upkeep.count(&piece);
        self.replica.answer(Answer::Tail(piece));
    }

    /// Hands what callers have left to the replica, as far as that has room.
    fn take_offered(&mut self) {
        self.replica.set_buffer(self.shared.inlet.bound());
        while let Some(mut offered) = self.partly.take().or_else(|| self.shared.inlet.take()) {
            self.requests.begin(&mut offered);
            while let Some(entry) = offered.entries.front_mut() {
                let Some(counter) = self.replica.publish_encoded(&mut entry.key, &mut entry.bytes, &entry.span) else {
                    self.partly = Some(offered);
                    return;
                };
                offered.entries.pop_front().into_iter().for_each(|entry| self.requests.note(counter, entry));
            }
            self.requests.taken();
        }
    }

    /// Applies the entries that came, and tells the results of the entries that this hub has published.
    fn apply(&mut self) {
        let Some(owner) = self.hub.take() else { return };
        self.apply_to((*owner).as_ref());
        self.hub = Some(owner);
    }

    fn apply_to(&mut self, hub: &Hub) {
        let now = Now { hub: clock::monotonic_ms(), wall: clock::unix_ms() };
        let mut weight = 0;
        // The result of an entry from before a break names the epoch before the break.
        while self.replica.apply(hub, now, &mut self.hear) {
            weight += self.tell_outcomes(hub);
        }
        weight += self.tell_outcomes(hub);
        if weight > 0 {
            self.shared.inlet.release(weight);
        }
    }

    /// Tells the results of the entries that this hub has published. Returns their weight.
    fn tell_outcomes(&mut self, hub: &Hub) -> usize {
        let (mut weight, mut epoch) = (0, None);
        while let Some((counter, outcome)) = self.replica.outcome() {
            if let Some((_, at)) = self.beat.under_way.filter(|(beat, _)| *beat == counter) {
                self.beat.under_way = None;
                self.beat.proven |= self.connected.is_some_and(|since| at >= since);
                self.beat.back = Some(Instant::now());
            }
            let number = match outcome {
                Outcome::Published(number) | Outcome::Known(number) => Some(number),
                Outcome::Unknown => None,
            };
            let subscribers = |channel: &str| hub.channel(channel).map_or(0, |channel| channel.subscribers);
            let epoch = *epoch.get_or_insert_with(|| hub.breaks());
            if self.replica.has_cleared(counter) {
                self.requests.note_cleared(counter);
            }
            if let (Outcome::Known(number), Some(span)) = (outcome, self.requests.span_of(counter)) {
                span.found(number, Some(hub.epoch_at(epoch).position(number)));
            }
            weight += self.requests.done(counter, (number, epoch), subscribers);
        }
        weight
    }

    fn note_progress(&mut self) {
        self.look_at_health();
        self.shared.members.hear(self.replica.beats(), Instant::now());
        if self.beat.proven && self.replica.is_open() {
            self.say_up();
        }
        let Some(hub) = self.hub.as_deref().map(AsRef::as_ref) else { return };
        if !self.shared.status.is_ready() && hub.has_caught_up() {
            self.shared.status.set_ready();
        }
        self.keep_up();
    }

    /// True if the hub ends, and the log has everything, or there is no more time.
    fn may_end(&mut self) -> bool {
        let Some(at) = self.shared.inlet.ends_at() else { return false };
        self.take_offered();
        let all = self.partly.is_none() && self.shared.inlet.is_empty() && self.replica.all_placed();
        // A heartbeat need not come.
        let nothing_waits = self.requests.is_empty() && self.partly.is_none() && self.shared.inlet.is_empty();
        let says = self.beat.last.is_some() || all || nothing_waits;
        Instant::from_std(at) <= Instant::now() || says && self.says_goodbye()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let why = "the thread of the engine has panicked; restart the hub";
            self.shared.inlet.close(why);
            self.shared.status.set_failure(Some(why));
            self.log.line(Level::Error, format_args!("engine: {}: {why}", self.place));
        }
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("place", &self.place).finish_non_exhaustive()
    }
}
