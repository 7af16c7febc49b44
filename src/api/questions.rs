//! Questions to all hubs that share a log. A thread of their own (`push-hubs`) asks them, answers those of other hubs,
//! and collects the answers. The engine's thread and the shards only hand over.

use super::Api;
use crate::cluster::{self, channels, parts, users, Asked, Done, Question, Said, Table, Tell, Wrong};
use crate::engine::shared::Shared;
use crate::error::{Error, Kind};
use crate::log::{Level, Log};
use crate::shard::client::presence::Present;
use crate::sys::clock;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The words that may wait for the thread, and their bytes. Further ones are dropped.
const WORDS: usize = 4096;
const WORD_BYTES: usize = 16 << 20;
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

#[derive(Default)]
struct State {
    todo: VecDeque<Todo>,
    /// The bytes of the words among them.
    bytes: usize,
    /// Questions of other hubs that wait for the shards.
    answering: usize,
    table: Table,
    ends: bool,
    dropped: Dropped,
}

/// Words that were dropped.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Dropped {
    pub(crate) malformed: u64,
    /// Of a later version of libpush.
    pub(crate) newer: u64,
    /// Answers that came too late, or twice.
    pub(crate) late: u64,
    /// There was no room.
    pub(crate) busy: u64,
}

impl Dropped {
    /// Each with the word for it.
    pub(crate) fn by_reason(self) -> [(&'static str, u64); 4] {
        let Dropped { malformed, newer, late, busy } = self;
        [("malformed", malformed), ("newer", newer), ("late", late), ("busy", busy)]
    }
}

enum Todo {
    Word(Vec<u8>),
    /// This hub's own question, which it answers, too.
    Own(Vec<u8>),
    /// The shards have said who is on a channel, if there is such a channel. It is counted here.
    Count {
        id: u64,
        asker: u64,
        present: Option<Present>,
        after: Box<str>,
        limit: usize,
    },
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
        let mut state = self.lock();
        if state.todo.len() >= WORDS || state.bytes + bytes.len() > WORD_BYTES || state.ends {
            state.dropped.busy += 1;
            return;
        }
        state.bytes += bytes.len();
        state.todo.push_back(Todo::Word(bytes));
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
        let new = "this hub follows the log only since a moment ago, and may not know all hubs";
        let why = why.or_else(|| may_be_more.then(|| new.to_owned()));
        let until = clock::monotonic_ms() + patience.as_millis().max(1) as u64;
        let said = Said::Question { id, asker: this, question }.write();
        {
            let mut state = self.lock();
            if state.ends {
                return Err(Error::new(Kind::Closed, "the hub ends"));
            }
            if !state.table.begin(Asked { id, hubs, may_be_more, why, until, tell }) {
                let text = "too many questions to all hubs are under way; call again";
                return Err(Error::new(Kind::Busy, text));
            }
            state.todo.push_back(Todo::Own(said.clone()));
        }
        self.came.notify_one();
        if is_asked {
            // If there is no room, the hubs that do not answer are named.
            self.shared.inlet.say(None, said);
        }
        Ok(())
    }

    /// The next thing to do. Questions whose time is over are ended meanwhile. `None`: the hub ends.
    fn next(&self) -> Option<Todo> {
        let mut state = self.lock();
        loop {
            if state.ends {
                return None;
            }
            let now = clock::monotonic_ms();
            let over = state.table.overdue(now);
            if !over.is_empty() {
                drop(state);
                over.into_iter().for_each(Done::tell);
                state = self.lock();
                continue;
            }
            if let Some(todo) = state.todo.pop_front() {
                if let Todo::Word(bytes) = &todo {
                    state.bytes -= bytes.len();
                }
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
    fn leave(&self, todo: Todo) {
        self.lock().todo.push_back(todo);
        self.came.notify_one();
    }

    /// Sends this hub's answer to the hub that asked.
    fn send(&self, id: u64, asker: u64, bytes: &[u8]) {
        let this = self.shared.this();
        if asker == this {
            let done = self.lock().table.heard(id, this, (0, 1), bytes);
            done.into_iter().for_each(Done::tell);
            return;
        }
        {
            let mut state = self.lock();
            state.answering = state.answering.saturating_sub(1);
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
                ("a word of a later version", "a later version of libpush asks or answers something; update this hub")
            }
            Wrong::Malformed => {
                self.lock().dropped.malformed += 1;
                ("a word that is none", "something that is no word of a hub comes among the words of the hubs")
            }
        };
        self.log.limited(Level::Warn, kind, format_args!("engine: {text}; it is passed over"));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Api {
    /// The work of the thread, until the hub ends.
    pub(crate) fn serve_questions(&self) {
        let Some(questions) = &self.questions else { return };
        // Nobody waits for a thread that has panicked.
        let _ends = Ends(questions);
        while let Some(todo) = questions.next() {
            match todo {
                Todo::Count { id, asker, present, after, limit } => {
                    let present = present.map(Present::into_parts);
                    questions.send(id, asker, &users(id, present, &after, limit));
                }
                Todo::Own(bytes) => {
                    if let Ok(Said::Question { id, asker, question }) = Said::read(&bytes) {
                        self.answer(questions, id, asker, question);
                    }
                }
                Todo::Word(bytes) => match Said::read(&bytes) {
                    Ok(Said::Part { id, hub, at, of, bytes }) if hub != questions.shared.this() => {
                        let done = questions.lock().table.heard(id, hub, (at, of), bytes);
                        done.into_iter().for_each(Done::tell);
                    }
                    // This hub has its own answer already.
                    Ok(Said::Part { .. }) => {}
                    Ok(Said::Question { asker, .. }) if asker == questions.shared.this() => {}
                    Ok(Said::Question { id, asker, question }) => {
                        let mut state = questions.lock();
                        if state.answering >= ANSWERING {
                            state.dropped.busy += 1;
                            continue;
                        }
                        state.answering += 1;
                        drop(state);
                        self.answer(questions, id, asker, question);
                    }
                    Err(wrong) => questions.note_wrong(wrong),
                },
            }
        }
    }

    /// Answers a question for this hub.
    fn answer(&self, questions: &Arc<Questions>, id: u64, asker: u64, question: Question<'_>) {
        #[cfg(test)]
        if questions.mute.load(std::sync::atomic::Ordering::SeqCst) {
            return;
        }
        let position = |seq| self.position_now(seq);
        let bytes = match question {
            Question::Users { channel, after, limit } => {
                let (questions, after, limit) = (questions.clone(), Box::from(after), limit as usize);
                let exists = self.context.hub.channel_id(channel).is_some();
                let tell = move |present| {
                    questions.leave(Todo::Count { id, asker, present: exists.then_some(present), after, limit });
                };
                self.ask_present(channel, Box::new(tell));
                return;
            }
            Question::Channels { prefix, limit } => {
                let limit = limit as usize;
                let mut found = self.context.hub.first_channels(prefix, limit + 1);
                let more = found.len() > limit;
                found.truncate(limit);
                channels(&found, more, position, |name| self.loss(name))
            }
            Question::Channel { name } => {
                let found: Vec<_> = self.channel(name).into_iter().collect();
                channels(&found, false, position, |name| self.loss(name))
            }
            Question::Stats => cluster::stats(&self.collect_stats()),
        };
        questions.send(id, asker, &bytes);
    }

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
        self.context.shared.as_ref().map_or(0, |shared| shared.this())
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

    /// Ends the questions, when the hub ends.
    pub(crate) fn end_questions(&self) {
        self.questions.iter().for_each(|questions| questions.end());
    }
}

struct Ends<'a>(&'a Questions);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl fmt::Debug for Questions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Questions").finish_non_exhaustive()
    }
}
