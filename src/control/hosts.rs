//! `GET /v1/hosts`: the hosts that are attached to this hub.

use super::parameters::Parameters;
use super::routes::{json, Answer};
use crate::api::Api;
use crate::context::attached::AttachedHost;
use crate::http::refusal::Refusal;
use serde_json::Value;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long the thread of the attach socket may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn list(api: &Api, query: &str) -> Result<Answer, Refusal> {
    Parameters::none(query)?;
    let (sender, receiver) = oneshot::channel();
    api.ask_hosts(Box::new(move |hosts| drop(sender.send(hosts))));
    match tokio::time::timeout(PATIENCE, receiver).await {
        Ok(Ok(hosts)) => {
            let objects: Vec<_> = hosts.iter().map(show).collect();
            Ok(json(format!("{{\"hosts\":[{}]}}\n", objects.join(","))))
        }
        _ => Err(Refusal::unavailable("busy", "the thread of the attach socket does not answer")),
    }
}

/// The numbers of attachments are texts: not every reader of JSON keeps 64 bits.
fn show(host: &AttachedHost) -> String {
    let AttachedHost {
        name,
        number,
        process,
        user,
        version,
        attached_ms,
        adopted,
        takes_events,
        events,
        requests,
        request_bytes,
        unanswered,
        questions,
        unsent,
        behind_ms,
    } = host;
    format!(
        "{{\"host\":\"{number}\",\"name\":{},\"process\":{process},\"user\":{user},\"version\":{version},\
         \"attached_ms\":{attached_ms},\"adopted\":{adopted},\"takes_events\":{takes_events},\"events\":{events},\
         \"requests\":{requests},\"request_bytes\":{request_bytes},\"unanswered\":{unanswered},\
         \"questions\":{questions},\"unsent\":{unsent},\"behind_ms\":{behind_ms}}}",
        Value::from(&**name),
    )
}
