//! Questions to all hubs that share a log. A thread of their own (`push-hubs`) asks them, answers those of other hubs,
//! and collects the answers. The engine's thread and the shards only hand over.

mod queue;
pub(crate) mod serving;

use super::Api;
use crate::cluster::{parts, Ages, Answering, Asked, Done, Question, Said, Sent, Table, Tell, Wrong};
use crate::engine::shared::Shared;
use crate::error::{Error, Kind};
use crate::log::{Level, Log};
use crate::sys::clock;
use queue::{Count, Queue, Todo};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// Questions of other hubs that may wait for the shards of this one.
const ANSWERING: usize = 256;
/// The longest time that a question waits for answers.
const PATIENCE_MAX: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) struct Questions {
    shared: Arc<Shared>,
    log: Log,
    state: Mutex<State>,
    came: Condvar,
    /// This hub answers nothing, itself neither.
    #[cfg(test)]
    mute: std::sync::atomic::AtomicBool,
}

partial_debug!(Questions);

#[derive(Default)]
struct State {
    todo: Queue,
    ages: Ages,
    /// Questions of other hubs that wait for the shards.
    answering: usize,
    table: Table,
    ends: bool,
    dropped: Dropped,
}

/// Words that were dropped.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Dropped {
    malformed: u64,
    /// Of a later version of libpush.
    newer: u64,
    /// Answers that came too late, or twice.
    late: u64,
    /// There was no room.
    busy: u64,
    /// Questions that their hub has given up.
    old: u64,
}

impl Dropped {
    /// Each with the word for it.
    pub(crate) fn by_reason(self) -> [(&'static str, u64); 5] {
        let Dropped { malformed, newer, late, busy, old } = self;
        [("malformed", malformed), ("newer", newer), ("late", late), ("busy", busy), ("old", old)]
    }
}

/// The question that an answer is of.
#[derive(Debug, Clone, Copy)]
struct Of {
    id: u64,
    asker: u64,
    sent: Sent,
}

impl Questions {
    pub(super) fn new(shared: Arc<Shared>, log: Log) -> Arc<Self> {
        let questions = Arc::new(Questions {
            shared,
            log,
            state: Mutex::default(),
            came: Condvar::new(),
            #[cfg(test)]
            mute: Default::default(),
        });
        let hears = Arc::downgrade(&questions);
        questions.shared.inlet.listen(Box::new(move |bytes| {
            if let Some(questions) = hears.upgrade() {
                questions.hear(bytes);
            }
        }));
        questions
    }

    /// A word has come. The thread takes it.
    fn hear(&self, bytes: Vec<u8>) {
        let (this, now) = (self.shared.this(), clock::boottime_ms());
        let mut state = self.lock();
        let is_own = match Said::read(&bytes) {
            // This hub has its own questions and answers already.
            Ok(Said::Part { hub: by, .. } | Said::Question { asker: by, .. }) if by == this => return,
            Ok(Said::Part { .. }) => true,
            Ok(Said::Question { asker, sent, .. }) => {
                state.ages.note(asker, sent, now);
                false
            }
            Err(wrong) => {
                drop(state);
                return self.note_wrong(wrong);
            }
        };
        if state.ends || !state.todo.hear(bytes, is_own) {
            state.dropped.busy += 1;
            return;
        }
        drop(state);
        self.came.notify_one();
    }

    /// Asks all hubs. `tell` gets the outcome, within the time.
    fn ask(&self, question: Question<'_>, patience: Duration, tell: Tell) -> Result<(), Error> {
        let no_bits = |error| Error::system("no random numbers", &std::io::Error::other(error));
        let id = getrandom::u64().map_err(no_bits)?;
        let this = self.shared.this();
        let why = self.shared.status.failure().map(|why| format!("only this hub was asked: {why}"));
        let (hubs, is_all) = match why {
            Some(_) => ([this].into(), true),
            None => self.shared.up(),
        };
        let may_be_more = !is_all;
        let is_asked = why.is_none();
        let new = "this hub has followed the log only for a moment, and may not know all hubs yet";
        let why = why.or_else(|| may_be_more.then(|| new.to_owned()));
        let patience_ms = patience.as_millis().clamp(1, PATIENCE_MAX.as_millis()) as u32;
        let sent = Sent { at: clock::boottime_ms(), patience: patience_ms };
        let until = clock::monotonic_ms() + u64::from(patience_ms);
        let said = Said::Question { id, asker: this, sent, question }.write();
        let names = self.shared.names();
        let tell: Tell = Box::new(move |mut outcome| {
            outcome.hubs.names = names;
            tell(outcome);
        });
        {
            let mut state = self.lock();
            if state.ends {
                return Err(Error::new(Kind::Closed, "the hub ends"));
            }
            if !state.table.begin(Asked { id, hubs, may_be_more, why, until, tell }) {
                let text = "too many questions to all hubs are under way; call again";
                return Err(Error::new(Kind::Busy, text));
            }
            state.todo.leave(Todo::Own(said.clone()), true);
        }
        self.came.notify_one();
        if is_asked {
            // If there is no room, the hubs that do not answer are named.
            self.shared.inlet.say(None, said);
        }
        Ok(())
    }

    /// The next thing to do. `None`: the hub ends.
    fn next(&self) -> Option<Todo> {
        let mut state = self.lock();
        loop {
            if state.ends {
                return None;
            }
            let now = clock::monotonic_ms();
            if let Some(over) = state.table.next_overdue(now) {
                return Some(Todo::Over(over));
            }
            if let Some(todo) = state.todo.take() {
                return Some(todo);
            }
            let wait = state
                .table
                .next()
                .map_or(Duration::from_secs(3600), |at| Duration::from_millis(at.saturating_sub(now).max(1)));
            state = self.came.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends everything. Whoever waits is told.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.ends = true;
        let left = state.table.end();
        drop(state);
        left.into_iter().for_each(Done::tell);
        self.came.notify_all();
    }

    /// Gives the thread something to do. Shards call it, too.
    fn leave(&self, count: Count) {
        let is_own = count.of.asker == self.shared.this();
        self.lock().todo.leave(Todo::Count(count), is_own);
        self.came.notify_one();
    }

    /// True if nobody waits for the answer to a question any more.
    fn is_over(&self, Of { id, asker, sent }: Of) -> bool {
        let state = self.lock();
        if asker == self.shared.this() {
            return !state.table.is_under_way(id);
        }
        state.ages.is_over(asker, sent, clock::boottime_ms())
    }

    /// Takes a question of another hub. `None`: it is dropped.
    fn admit(self: &Arc<Self>, of: Of) -> Option<Place> {
        let is_over = self.is_over(of);
        let mut state = self.lock();
        let State { dropped, answering, .. } = &mut *state;
        match (is_over, *answering >= ANSWERING) {
            (true, _) => dropped.old += 1,
            (false, true) => dropped.busy += 1,
            (false, false) => {
                *answering += 1;
                return Some(Place(Arc::downgrade(self)));
            }
        }
        None
    }

    /// The shards have said who is on a channel. Counts some of them, and answers when all are counted.
    fn count(&self, Count { of, place, mut answering }: Count) {
        let is_own = of.asker == self.shared.this();
        if self.is_over(of) {
            if !is_own {
                self.lock().dropped.old += 1;
            }
            return;
        }
        #[cfg(test)]
        assert!(answering.as_ref().is_none_or(|answering| answering.after() != serving::BOOM), "planted");
        if answering.as_mut().is_some_and(Answering::step) {
            return self.lock().todo.leave(Todo::Count(Count { of, place, answering }), is_own);
        }
        self.send(of, &answering.map_or_else(Answering::no_channel, Answering::end));
    }

    /// Sends this hub's answer to the hub that asked.
    fn send(&self, Of { id, asker, .. }: Of, bytes: &[u8]) {
        let this = self.shared.this();
        if asker == this {
            let done = self.lock().table.heard(id, this, (0, 1), bytes);
            done.into_iter().for_each(Done::tell);
            return;
        }
        let said = parts(id, this, bytes).into_iter().all(|part| self.shared.inlet.say(Some(asker), part));
        if !said {
            self.lock().dropped.busy += 1;
        }
    }

    pub(crate) fn dropped(&self) -> Dropped {
        let state = self.lock();
        Dropped { late: state.table.late(), ..state.dropped }
    }

    fn note_wrong(&self, wrong: Wrong) {
        let (kind, text) = match wrong {
            Wrong::Newer => {
                self.lock().dropped.newer += 1;
                (
                    "a word of a later version",
                    "a message between hubs comes from a later version of libpush; update this hub",
                )
            }
            Wrong::Malformed => {
                self.lock().dropped.malformed += 1;
                ("a word that is none", "a message between hubs is malformed")
            }
        };
        self.log.limited(Level::Warn, kind, format_args!("engine: {text}; the message is ignored"));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Api {
    /// Asks all hubs of the log. The outcome comes to `tell` within [`Self::patience_with_hubs`].
    pub(crate) fn ask_all(&self, question: Question<'_>, tell: Tell) -> Result<(), Error> {
        self.ask_all_within(Duration::MAX, question, tell)
    }

    /// The same, within `time` if that is shorter.
    pub(crate) fn ask_all_within(&self, time: Duration, question: Question<'_>, tell: Tell) -> Result<(), Error> {
        match &self.questions {
            Some(questions) => questions.ask(question, self.patience_with_hubs().min(time), tell),
            None => Err(Error::new(Kind::Unsupported, "this hub shares no log with others")),
        }
    }

    /// Names this life of the hub among those that share its log.
    pub(crate) fn this_hub(&self) -> u64 {
        self.context.engine.shared().map_or(0, |shared| shared.this())
    }

    /// How long hubs may take to answer: a quarter of the option `engine_timeout`, at most two seconds.
    pub(crate) fn patience_with_hubs(&self) -> Duration {
        (self.context.config.get().shared_timeout() / 4).min(PATIENCE_MAX)
    }

    /// From now on this hub answers no question.
    #[cfg(test)]
    pub(crate) fn mute_questions(&self) {
        let mute = self.questions.iter().map(|questions| &questions.mute);
        mute.for_each(|mute| mute.store(true, std::sync::atomic::Ordering::SeqCst));
    }

    /// The questions of other hubs that this one is answering.
    #[cfg(test)]
    pub(crate) fn questions_under_way(&self) -> usize {
        self.questions.as_ref().map_or(0, |questions| questions.lock().answering)
    }

    /// Ends the questions, when the hub ends.
    pub(crate) fn end_questions(&self) {
        self.questions.iter().for_each(|questions| questions.end());
    }
}

/// The place of another hub's question among those that are being answered. It is free again when this is dropped.
struct Place(Weak<Questions>);

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(questions) = self.0.upgrade() {
            let mut state = questions.lock();
            state.answering = state.answering.saturating_sub(1);
        }
    }
}
