//! The log in memory, behind a connection.

use super::{Fresh, Log};
use crate::engine::contract::Answer;
use crate::engine::log_model::{self, LogModel};
use crate::engine::shared::connection::{pair, Connection, Failure, Serving, Words};
use crate::engine::words_model::WordsModel;
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TryRecvError;

struct Model(Rc<RefCell<LogModel>>, Instant, Rc<RefCell<WordsModel>>);

impl Log for Model {
    fn connect(&self, hub: u64) -> Pin<Box<dyn Future<Output = Connection> + '_>> {
        Box::pin(async move {
            let (connection, mut serving) = pair();
            self.2.borrow_mut().listen(hub);
            tokio::task::spawn_local(talk(self.2.clone(), hub, serving.words.take().unwrap()));
            let ours = self.0.borrow_mut().connect(0).unwrap();
            tokio::task::spawn_local(serve(self.0.clone(), self.1, ours, serving));
            connection
        })
    }
}

async fn talk(model: Rc<RefCell<WordsModel>>, hub: u64, mut words: Words) {
    for now in 0.. {
        loop {
            match words.said.try_recv() {
                Ok(word) => model.borrow_mut().say(&word, now),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return,
            }
        }
        while let Some(bytes) = model.borrow_mut().hear(hub, now) {
            let _ = words.heard.try_send(Ok(bytes));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Serves a connection, step by step.
async fn serve(model: Rc<RefCell<LogModel>>, start: Instant, mut ours: log_model::Connection, mut serving: Serving) {
    loop {
        let now = start.elapsed().as_micros() as u64;
        model.borrow_mut().pass(now);
        loop {
            match serving.asks.try_recv() {
                Ok(ask) => ours.ask(&mut model.borrow_mut(), ask, now),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return ours.lose(&mut model.borrow_mut(), now),
            }
        }
        ours.serve(&mut model.borrow_mut(), now, true);
        let place = serving.tail.clone().try_reserve_owned();
        match ours.answer(now, place.is_ok()) {
            Some(Answer::Lost) => return serving.fail(Failure("the hub hung up".to_owned())),
            Some(Answer::Tail(items)) => _ = place.unwrap().send(items),
            Some(answer) => _ = serving.answers.send(answer).await,
            None => tokio::time::sleep(Duration::from_micros(200)).await,
        }
        tokio::task::yield_now().await;
    }
}

const FRESH: Fresh = || {
    let (log, words) = (LogModel::new(1), WordsModel::new(1));
    Box::new(Model(Rc::new(RefCell::new(log)), Instant::now(), Rc::new(RefCell::new(words))))
};

super::keeps_the_contract!(FRESH);
