//! Words between hubs: plain messages on subjects that no stream has. All hubs subscribe to one subject, and each to one
//! of its own. Whatever fails here is said, and does not concern the log.

use super::super::contract::Word;
use super::super::shared::connection::{Failure, Heard, Words};
use super::session::{Names, Session};
use async_nats::{Message, Subscriber};
use futures_util::StreamExt;
use tokio::sync::mpsc;

/// What all of these subjects begin with. The subjects of the log begin with `push.`.
pub(super) const SUBJECTS: &str = "push-words.";

/// Passes words on. `refused`: what the server refuses about these subjects.
pub(super) async fn exchange(
    session: &Session,
    words: Option<Words>,
    refused: &mut mpsc::Receiver<Failure>,
) -> Failure {
    let Some(Words { mut said, heard }) = words else { return std::future::pending().await };
    let (mut all, mut own) = match subscribed(session).await {
        Ok(both) => both,
        Err(why) => return why,
    };
    let hear = |message: Option<Message>, heard: &mpsc::Sender<Heard>| match message {
        Some(message) => {
            // It is dropped if the hub does not take it.
            let _ = heard.try_send(Ok(message.payload.into()));
            None
        }
        None => Some(lost(session, "it has ended")),
    };
    loop {
        let ended = tokio::select! {
            word = said.recv() => match word {
                // The client would refuse it, and answers for large channels are not worth the log's connection.
                Some(word) if word.bytes.len() > session.client.max_payload() => {
                    let why = "is too small for the answers of this hub to others";
                    let _ = heard.try_send(Err(Failure(format!("max_payload of the NATS server {} {why}", session.server))));
                    None
                }
                Some(word) => say(session, word).await.err(),
                None => Some(Failure("the hub has ended the connection".to_owned())),
            },
            message = all.next() => hear(message, &heard),
            message = own.next() => hear(message, &heard),
            Some(why) = refused.recv() => {
                let _ = heard.try_send(Err(why));
                None
            }
        };
        if let Some(why) = ended {
            return why;
        }
    }
}

async fn subscribed(session: &Session) -> Result<(Subscriber, Subscriber), Failure> {
    let Names { all, each, hub, .. } = &session.names;
    let subscribe = |subject: String| async {
        session.client.subscribe(subject).await.map_err(|error| lost(session, &error.to_string()))
    };
    Ok((subscribe(all.clone()).await?, subscribe(format!("{each}{hub:016x}")).await?))
}

async fn say(session: &Session, word: Word) -> Result<(), Failure> {
    let Names { all, each, .. } = &session.names;
    let subject = word.to.map_or_else(|| all.clone(), |hub| format!("{each}{hub:016x}"));
    let sent = session.client.publish(subject, word.bytes.into()).await;
    sent.map_err(|error| lost(session, &error.to_string()))
}

fn lost(session: &Session, why: &str) -> Failure {
    Failure(format!("the connection to the NATS server {} is lost: {why}", session.server))
}
