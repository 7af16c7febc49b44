//! The log that misbehaves, as an engine: for tests of everything above the engines.

use super::super::contract::{Answer, Ask};
use super::super::log_model::{Connection as ModelConnection, LogModel};
use super::super::words_model::WordsModel;
use super::connection::{pair, Connection, Failure, Serving, Words};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;

/// A log in memory. Copies are the same log.
#[derive(Clone)]
pub(crate) struct Model(Arc<Inner>);

struct Inner {
    log: Mutex<LogModel>,
    words: Mutex<WordsModel>,
    began: Instant,
    /// Nothing is answered any more.
    hangs: AtomicBool,
    /// It takes no appends: who asks for one loses the connection.
    full: AtomicBool,
    /// How many connections were made.
    connects: AtomicU64,
    /// The number of cuts. A cut loses all connections that were made before it.
    lives: AtomicU64,
    calm: AtomicBool,
}

/// The models that options can name.
static NAMED: Mutex<BTreeMap<String, Model>> = Mutex::new(BTreeMap::new());

impl Model {
    /// The model with that name, in this process.
    pub(crate) fn named(name: &str) -> Self {
        let unmarked = || {
            let model = Model::new(1);
            model.log().0.marks_messages = false;
            model
        };
        NAMED.lock().unwrap().entry(name.to_owned()).or_insert_with(unmarked).clone()
    }

    pub(crate) fn new(seed: u64) -> Self {
        let log = Mutex::new(LogModel::new(seed));
        let (hangs, lives, calm) = (AtomicBool::new(false), AtomicU64::new(0), AtomicBool::new(true));
        let (full, connects) = (AtomicBool::new(false), AtomicU64::new(0));
        let words = Mutex::new(WordsModel::calm(seed));
        Model(Arc::new(Inner { words, log, began: Instant::now(), hangs, full, connects, lives, calm }))
    }

    /// The log, and the time on its clock.
    pub(crate) fn log(&self) -> (MutexGuard<'_, LogModel>, u64) {
        (self.0.log.lock().unwrap(), self.now())
    }

    /// The words between hubs.
    pub(crate) fn words(&self) -> MutexGuard<'_, WordsModel> {
        self.0.words.lock().unwrap()
    }

    /// Whether it answers nothing, though connections stay.
    pub(crate) fn hang(&self, hangs: bool) {
        self.0.hangs.store(hangs, Ordering::SeqCst);
    }

    /// Whether it takes no appends.
    pub(crate) fn fill(&self, full: bool) {
        self.0.full.store(full, Ordering::SeqCst);
    }

    /// How many connections were made.
    pub(crate) fn connects(&self) -> u64 {
        self.0.connects.load(Ordering::SeqCst)
    }

    /// Whether it refuses, repeats and delays nothing.
    pub(crate) fn calm(&self, calm: bool) {
        self.0.calm.store(calm, Ordering::SeqCst);
    }

    /// All connections are lost.
    pub(crate) fn cut(&self) {
        self.0.lives.fetch_add(1, Ordering::SeqCst);
    }

    /// The number of the last entry.
    pub(crate) fn end(&self) -> u64 {
        self.log().0.entries().len() as u64
    }

    /// Another server takes over, without the last entries.
    pub(crate) fn fail_over(&self, lost: usize) {
        self.log().0.fork(lost);
        self.cut();
    }

    pub(crate) fn connect(&self, hub: u64) -> Result<Connection, Failure> {
        let (mut log, now) = self.log();
        let connection = log.connect(now).ok_or_else(|| Failure("the model is away".into()))?;
        self.0.connects.fetch_add(1, Ordering::SeqCst);
        let (hubs, serving) = pair();
        let life = self.0.lives.load(Ordering::SeqCst);
        self.words().listen(hub);
        tokio::spawn(self.clone().serve(connection, serving, life, hub));
        Ok(hubs)
    }

    fn now(&self) -> u64 {
        self.0.began.elapsed().as_millis() as u64
    }

    async fn serve(self, mut connection: ModelConnection, mut serving: Serving, life: u64, hub: u64) {
        let mut words = serving.words.take();
        loop {
            if let Some(words) = words.as_mut().filter(|_| !self.0.hangs.load(Ordering::SeqCst)) {
                self.pass_words(words, hub);
            }
            if self.0.lives.load(Ordering::SeqCst) != life {
                let (mut log, now) = self.log();
                connection.lose(&mut log, now);
                drop(log);
                return serving.fail(Failure("the model has lost the connection".into()));
            }
            if !self.0.hangs.load(Ordering::SeqCst) && !self.serve_some(&mut connection, &mut serving).await {
                return serving.fail(Failure("the model was told to hang up".into()));
            }
            tokio::select! {
                ask = serving.asks.recv() => {
                    let (mut log, now) = self.log();
                    match ask {
                        Some(Ask::Append { .. }) if self.0.full.load(Ordering::SeqCst) => {
                            connection.lose(&mut log, now);
                            drop(log);
                            return serving.fail(Failure("the model is full".into()));
                        }
                        Some(ask) => connection.ask(&mut log, ask, now),
                        None => return connection.lose(&mut log, now),
                    }
                }
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
        }
    }

    fn pass_words(&self, words: &mut Words, hub: u64) {
        let (mut model, now) = (self.words(), self.now());
        while let Ok(word) = words.said.try_recv() {
            model.say(&word, now);
        }
        while let Some(bytes) = model.hear(hub, now) {
            let _ = words.heard.try_send(Ok(bytes));
        }
    }

    /// False: the connection has ended.
    async fn serve_some(&self, connection: &mut ModelConnection, serving: &mut Serving) -> bool {
        let mut answers = Vec::new();
        {
            let (mut log, now) = self.log();
            log.pass(now);
            connection.serve(&mut log, now, self.0.calm.load(Ordering::SeqCst));
            while answers.len() < 2 {
                let Some(answer) = connection.answer(now, serving.tail.capacity() > 2) else { break };
                answers.push(answer);
            }
        }
        for answer in answers {
            let sent = match answer {
                Answer::Lost => return false,
                Answer::Tail(items) => serving.tail.send(items).await.is_ok(),
                answer => serving.answers.send(answer).await.is_ok(),
            };
            if !sent {
                return false;
            }
        }
        true
    }
}
