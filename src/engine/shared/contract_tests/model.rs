//! The log in memory, behind a connection.

use super::{Fresh, Log};
use crate::engine::contract::Answer;
use crate::engine::log_model::{self, LogModel};
use crate::engine::shared::connection::{pair, Connection, Failure, Serving};
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TryRecvError;

struct Model(Rc<RefCell<LogModel>>, Instant);

impl Log for Model {
    fn connect(&self, _: u64) -> Pin<Box<dyn Future<Output = Connection> + '_>> {
        Box::pin(async {
            let (connection, serving) = pair();
            let ours = self.0.borrow_mut().connect(0).unwrap();
            tokio::task::spawn_local(serve(self.0.clone(), self.1, ours, serving));
            connection
        })
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

const FRESH: Fresh = || Box::new(Model(Rc::new(RefCell::new(LogModel::new(1))), Instant::now()));

super::keeps_the_contract!(FRESH);
