//! `POST /v1/disconnect`, `/v1/close` and `/v1/revoke`: what ends connections, or takes channels from them.

use super::parameters::Known::{self, Once, Several};
use super::parameters::Parameters;
use super::publishing;
use super::routes::{json, refusal, Answer};
use crate::api::{not_in_time_for_others, Api, CLOSE_CODES};
use crate::error::Error;
use crate::http::refusal::Refusal;
use crate::hub::{OnSettled, Placing};
use crate::number;
use tokio::sync::oneshot;

const CODE: Known = Once("code");
const REASON: Known = Once("reason");

/// Disconnects all of the users, or none if one of the parameters is wrong. Or it disconnects everybody at this hub.
pub(super) async fn disconnect(api: &Api, query: &str) -> Result<Answer, Refusal> {
    let parameters = Parameters::read(query, &[Several("user"), Once("all"), CODE, REASON])?;
    let all = parameters.flag("all")?;
    if all && parameters.one("user").is_some() {
        return Err(Refusal::malformed("all", "all: not together with user, since it closes the connections of all"));
    }
    let (code, reason) = ending(&parameters)?;
    let (tell, told) = oneshot::channel();
    let count = Box::new(move |closed| {
        let _ = tell.send(closed);
    });
    let others = if all {
        api.disconnect_all(code, reason, count).map_err(|error| refusal(&error))?;
        api.has_others().then_some("stay")
    } else {
        let users = match parameters.needed("user") {
            Err(_) => return Err(Refusal::malformed("user", "?user= is needed, or ?all=1 for everybody at this hub")),
            Ok(users) => users,
        };
        done(api, |settled| api.disconnect_users(&users, code, reason, settled, Some(count))).await?
    };
    // A thread that has panicked has told its part, too.
    let closed = told.await.unwrap_or_default();
    let others = others.map_or_else(String::new, |others| format!(",\"others\":\"{others}\""));
    Ok(json(format!("{{\"closed\":{closed}{others}}}\n")))
}

/// Closes one connection of this hub.
pub(super) fn close(api: &Api, query: &str) -> Result<Answer, Refusal> {
    let parameters = Parameters::read(query, &[Once("connection"), CODE, REASON])?;
    parameters.needed("connection")?;
    let connection = parameters.number("connection", 1..=u64::MAX)?.unwrap_or_default();
    let (code, reason) = ending(&parameters)?;
    api.close(connection, code, reason).map_err(|error| refusal(&error))?;
    Ok(json("{}\n"))
}

/// The close code and the reason with which connections are to end. They are checked by the call.
fn ending<'p>(parameters: &'p Parameters<'_>) -> Result<(u16, &'p str), Refusal> {
    let code = parameters.one("code").map_or(Some(4403), number::read);
    let wrong = || Refusal::malformed("code", format!("code must be a close code: {CLOSE_CODES} are allowed"));
    Ok((code.ok_or_else(wrong)?, parameters.one("reason").unwrap_or("disconnected")))
}

/// Revokes each of the channels from each of the users, or nothing if one of the parameters is wrong.
pub(super) async fn revoke(api: &Api, query: &str) -> Result<Answer, Refusal> {
    let parameters = Parameters::read(query, &[Several("user"), Several("channel"), Once("reason")])?;
    let pairs = parameters.pairs("user", "channel")?;
    let reason = parameters.one("reason").unwrap_or_default();
    let others = done(api, |told| api.revoke_channels(&pairs, reason, told)).await?;
    Ok(json(others.map_or_else(|| "{}\n".to_owned(), |others| format!("{{\"others\":\"{others}\"}}\n"))))
}

/// Does something to users. If there are other hubs, this waits until the log has it, and says that they will do it.
async fn done(
    api: &Api,
    act: impl FnOnce(Option<OnSettled>) -> Result<Placing, Error>,
) -> Result<Option<&'static str>, Refusal> {
    if !api.has_others() {
        act(None).map_err(|error| refusal(&error))?;
        return Ok(None);
    }
    let settled = publishing::settled_or(api, not_in_time_for_others, |told| act(Some(told))).await?;
    match settled.unknown {
        false => Ok(Some("will")),
        true => Err(refusal(&not_in_time_for_others())),
    }
}
