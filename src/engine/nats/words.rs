//! Words between hubs: plain messages on subjects that no stream has. All hubs subscribe to one subject, and each to one
//! of its own.
//!
//! They go over a connection of their own, to the server that the log's connection has. So large answers hold up neither
//! an append nor the tail. If it is lost it is made again. Whatever fails here is said, and does not concern the log.

use super::super::contract::Word;
use super::super::shared::connection::{Failure, Heard, Words};
use super::super::shared::pause;
use super::opening::{self, Complaints};
use super::session::Names;
use super::settings::Settings;
use async_nats::{Client, Subscriber};
use futures_util::StreamExt;
use std::future::Future;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// What all of these subjects begin with. The subjects of the log begin with `push.`.
pub(super) const SUBJECTS: &str = "push-words.";
/// The name of the connection at the server.
pub(super) const NAME: &str = "libpush words";

/// How many words may wait for the server, and how many for the hub on each subject. They are up to 48 KB each.
const TO_SAY: usize = 16;
const TO_HEAR: usize = 128;
/// How many pings the server gets in the time in which it has to answer. The connection is given up when the third one
/// would be sent and none is answered: `MAX_PENDING_PINGS` of the client.
const PINGS: u32 = 4;
/// The pause before the connection is made again, about.
const PAUSE: Duration = Duration::from_secs(1);

/// A hub's part in the words.
pub(super) struct Place {
    pub(super) settings: Settings,
    /// The server, by its host and port.
    pub(super) server: (String, u16),
    pub(super) names: Names,
}

impl Place {
    /// Passes words on until the hub ends the log's connection.
    pub(super) async fn exchange(&self, words: Option<Words>) -> Failure {
        let Some(Words { mut said, heard }) = words else { return std::future::pending().await };
        loop {
            let lost = match meanwhile(&mut said, self.connect()).await {
                Some(Ok((client, complaints))) => self.pass(&client, complaints, &mut said, &heard).await,
                Some(Err(why)) => Some(why),
                None => None,
            };
            let Some(Failure(why)) = lost else { break };
            let _ = heard.try_send(Err(Failure(format!("words between hubs: {why}"))));
            if meanwhile(&mut said, sleep(pause::about(PAUSE))).await.is_none() {
                break;
            }
        }
        Failure("the hub has ended the connection".to_owned())
    }

    async fn connect(&self) -> Result<(Client, Complaints), Failure> {
        let limit = self.settings.options.timeout;
        let bounded = |options: async_nats::ConnectOptions| {
            let options = options.name(NAME).client_capacity(TO_SAY).subscription_capacity(TO_HEAR);
            options.ping_interval(limit / PINGS)
        };
        let connecting = opening::connect(&self.settings, &self.server, bounded);
        timeout(limit, connecting).await.unwrap_or_else(|_| Err(opening::late(&self.server, limit)))
    }

    /// Passes words on until the connection is lost. `None`: the hub has ended the log's connection.
    async fn pass(
        &self,
        client: &Client,
        Complaints { mut lost, mut of_words }: Complaints,
        said: &mut mpsc::Receiver<Word>,
        heard: &mpsc::Sender<Heard>,
    ) -> Option<Failure> {
        let Names { all, each, hub, .. } = &self.names;
        let refusals = async {
            while let Some(why) = of_words.recv().await {
                let _ = heard.try_send(Err(why));
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            why = self.say_all(client, said, heard) => why,
            why = self.hear(client, all.clone(), heard) => Some(why),
            why = self.hear(client, format!("{each}{hub:016x}"), heard) => Some(why),
            why = lost.recv() => Some(why.unwrap_or_else(|| self.lost("it has ended"))),
            () = refusals => None,
        }
    }

    async fn say_all(
        &self,
        client: &Client,
        said: &mut mpsc::Receiver<Word>,
        heard: &mpsc::Sender<Heard>,
    ) -> Option<Failure> {
        let Names { all, each, .. } = &self.names;
        while let Some(word) = said.recv().await {
            // The client would refuse it.
            if word.bytes.len() > client.max_payload() {
                let why = "is too small for the answers of this hub to others";
                let _ = heard.try_send(Err(Failure(format!("max_payload of the NATS server {} {why}", self.shown()))));
                continue;
            }
            let subject = word.to.map_or_else(|| all.clone(), |hub| format!("{each}{hub:016x}"));
            if let Err(error) = client.publish(subject, word.bytes.into()).await {
                return Some(self.lost(&error.to_string()));
            }
        }
        None
    }

    /// Hears what comes on a subject, until the connection is lost.
    async fn hear(&self, client: &Client, subject: String, heard: &mpsc::Sender<Heard>) -> Failure {
        let mut subscriber: Subscriber = match client.subscribe(subject).await {
            Ok(subscriber) => subscriber,
            Err(error) => return self.lost(&error.to_string()),
        };
        while let Some(message) = subscriber.next().await {
            // It is dropped if the hub does not take it.
            let _ = heard.try_send(Ok(message.payload.into()));
        }
        self.lost("it has ended")
    }

    fn lost(&self, why: &str) -> Failure {
        Failure(format!("the connection to the NATS server {} is lost: {why}", self.shown()))
    }

    fn shown(&self) -> String {
        opening::shown(&self.server)
    }
}

/// Waits for something. Words that are said meanwhile are dropped. `None`: the hub has ended the log's connection.
async fn meanwhile<T>(said: &mut mpsc::Receiver<Word>, something: impl Future<Output = T>) -> Option<T> {
    let dropping = async { while said.recv().await.is_some() {} };
    tokio::select! {
        biased;
        done = something => Some(done),
        () = dropping => None,
    }
}
