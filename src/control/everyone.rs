//! `/v1/users`, `/v1/channels` and `/v1/stats`: of this hub, or of all hubs if it shares a log with others.

use super::parameters::Known::{self, Once};
use super::parameters::Parameters;
use super::routes::{json, refusal, Answer};
use super::rows::{in_steps, joined};
use crate::api::{hubs_late, Api};
use crate::cluster::{merge_stats, Channel, Channels, MergingChannels, MergingUsers, Outcome, Question};
use crate::engine::Hubs;
use crate::http::refusal::Refusal;
use crate::hub::{check_channel, ChannelInfo, MAX_CHANNEL};
use crate::users::{self, User, Users};
use serde_json::Value;
use tokio::sync::oneshot;

/// The number of channels or users in one listing, unless the request asks for fewer.
const MAX_LISTED: usize = 1000;
const LIMIT: Known = Once("limit");
/// The beginning of a list of channels.
const CHANNELS: &str = "{\"channels\":[";

/// The largest number of entries in the listing.
fn limit(parameters: &Parameters<'_>) -> Result<usize, Refusal> {
    Ok(parameters.number("limit", 1..=MAX_LISTED as u64)?.map_or(MAX_LISTED, |limit| limit as usize))
}

/// Asks all hubs, and waits for the outcome. Other requests go on meanwhile. [`answered`] checks what is made of it.
async fn ask(api: &Api, question: Question<'_>) -> Result<Outcome, Refusal> {
    let (tell, told) = oneshot::channel();
    let asked = api.ask_all(question, Box::new(move |outcome| drop(tell.send(outcome))));
    asked.map_err(|error| refusal(&error))?;
    told.await.map_err(|_| refusal(&hubs_late()))
}

/// Refuses if no answer of any hub could be read.
fn answered(outcome: &Outcome) -> Result<(), Refusal> {
    outcome.hubs.check_answered().map_err(|error| refusal(&error))
}

/// The users on a channel. Each is listed once, in the order of names, with the number of connections.
pub(super) async fn users(api: &Api, query: &str) -> Result<Answer, Refusal> {
    let parameters = Parameters::read(query, &[Once("channel"), Once("after"), LIMIT])?;
    let channel = parameters.needed("channel")?[0];
    check_channel(channel).map_err(|error| Refusal::malformed("channel", error.to_string()))?;
    let (after, limit) = (parameters.one("after").unwrap_or_default(), limit(&parameters)?);
    if !api.has_others() {
        let (sender, receiver) = oneshot::channel();
        if !api.ask_present(channel, Box::new(move |present| drop(sender.send(present)))) {
            return Err(no_channel(None));
        }
        let mut counting = receiver.await.unwrap_or_default().counting(after, limit);
        in_steps(|| counting.step()).await;
        return Ok(json(show_users(counting.end(), "}\n").await));
    }
    users::check(channel, after, limit).map_err(|error| Refusal::malformed("after", error.to_string()))?;
    let outcome = ask(api, Question::Users { channel, after, limit: limit as u32 }).await?;
    let mut merging = MergingUsers::new(outcome, limit);
    in_steps(|| merging.step()).await;
    let (users, outcome) = merging.end();
    answered(&outcome)?;
    let users = users.ok_or_else(|| no_channel(Some(&outcome.hubs)))?;
    Ok(json(show_users(users, &format!(",{}}}\n", show_hubs(&outcome.hubs))).await))
}

/// The object, with its last members and its end.
async fn show_users(users: Users, end: &str) -> Vec<u8> {
    let Users { page, more, count, anonymous, .. } = users;
    let show =
        |User { name, connections }| format!("{{\"user\":{},\"connections\":{connections}}}", Value::from(&*name));
    let end = format!("],\"count\":{count},\"anonymous\":{anonymous},\"more\":{more}{end}");
    joined("{\"users\":[", page, show, &end).await
}

/// `GET /v1/channels`.
pub(super) async fn list(api: &Api, query: &str) -> Result<Answer, Refusal> {
    let parameters = Parameters::read(query, &[Once("prefix"), LIMIT])?;
    let (prefix, limit) = (parameters.one("prefix").unwrap_or_default(), limit(&parameters)?);
    if api.has_others() && prefix.len() <= MAX_CHANNEL {
        let outcome = ask(api, Question::Channels { prefix, limit: limit as u32 }).await?;
        let (channels, outcome) = channels_of(api, outcome, limit).await;
        answered(&outcome)?;
        let end = format!("],\"more\":{},{}}}\n", channels.more, show_hubs(&outcome.hubs));
        return Ok(json(joined(CHANNELS, channels.listed, |(name, channel)| show(&name, &channel), &end).await));
    }
    let (mut found, mut next) = (Vec::new(), Some(0));
    in_steps(|| {
        next = next.and_then(|from| api.list_channels(prefix, usize::MAX, from, &mut found));
        if next.is_none() || found.len() > limit {
            // One that went and came meanwhile may have been found twice. It leaves room for another one.
            found.sort_by(|a, b| a.name.cmp(&b.name));
            found.dedup_by(|a, b| a.name == b.name);
        }
        next.is_some() && found.len() <= limit
    })
    .await;
    let more = found.len() > limit;
    found.truncate(limit);
    let end = format!("],\"more\":{more}}}\n");
    Ok(json(joined(CHANNELS, found, |info| describe(api, &info), &end).await))
}

/// The channels of all hubs that have answered.
async fn channels_of(api: &Api, outcome: Outcome, limit: usize) -> (Channels, Outcome) {
    let mut merging = MergingChannels::new(outcome, api.this_hub(), limit);
    in_steps(|| merging.step()).await;
    merging.end()
}

/// `GET /v1/channels/{c}`.
pub(super) async fn channel(api: &Api, name: &str) -> Result<Answer, Refusal> {
    if !api.has_others() {
        let info = api.channel(name).ok_or_else(|| no_channel(None))?;
        return Ok(json(format!("{}\n", describe(api, &info))));
    }
    let outcome = ask(api, Question::Channel { name }).await?;
    let (channels, outcome) = channels_of(api, outcome, 1).await;
    answered(&outcome)?;
    let Some(channel) = channels.listed.get(name) else { return Err(no_channel(Some(&outcome.hubs))) };
    let object = show(name, channel);
    let members = object.trim_end_matches('}');
    Ok(json(format!("{members},{}}}\n", show_hubs(&outcome.hubs))))
}

fn no_channel(hubs: Option<&Hubs>) -> Refusal {
    let why =
        hubs.and_then(Hubs::partial).map_or_else(String::new, |why| format!(" at the hubs that have answered: {why}"));
    Refusal::not_found(format!("no such channel{why}"))
}

fn describe(api: &Api, info: &ChannelInfo) -> String {
    let channel = Channel {
        subscribers: info.subscribers.into(),
        messages: info.messages as u64,
        bytes: info.bytes as u64,
        position: info.newest.map_or_else(String::new, |seq| api.position_now(seq)),
        loss: api.loss(&info.name),
    };
    show(&info.name, &channel)
}

fn show(name: &str, channel: &Channel) -> String {
    let Channel { subscribers, messages, bytes, position, loss } = channel;
    let id = if position.is_empty() { "null".to_owned() } else { format!("\"{position}\"") };
    format!(
        "{{\"channel\":{},\"subscribers\":{subscribers},\"messages\":{messages},\"bytes\":{bytes},\"id\":{id},\
         \"slow_closed\":{},\"dropped\":{},\"replaced\":{}}}",
        Value::from(name),
        loss.slow_closed,
        loss.dropped,
        loss.replaced,
    )
}

/// `GET /v1/stats`: of this hub, or of all with `cluster=1`.
pub(super) async fn stats(api: &Api, query: &str) -> Result<Answer, Refusal> {
    let parameters = Parameters::read(query, &[Once("cluster")])?;
    if !parameters.flag("cluster")? {
        return Ok(json(api.collect_stats().json()));
    }
    if !api.has_others() {
        return Err(Refusal::not_found("this hub shares no log with others; ask without cluster=1"));
    }
    let (sums, each, outcome) = merge_stats(ask(api, Question::Stats).await?);
    answered(&outcome)?;
    let sums: Vec<_> = sums.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    let show = |of: &crate::cluster::HubStats| {
        let here = of.hub == api.this_hub();
        let name = outcome.hubs.names.get(&of.hub).map_or(Value::Null, |name| Value::from(&**name));
        let (hub, stats) = (of.hub, of.stats.json());
        format!("{{\"hub\":\"{hub:016x}\",\"name\":{name},\"here\":{here},\"stats\":{}}}", stats.trim_end())
    };
    let each: Vec<_> = each.iter().map(show).collect();
    let hubs = show_hubs(&outcome.hubs);
    Ok(json(format!("{{{},{hubs},\"each\":[{}]}}\n", sums.join(","), each.join(","))))
}

/// The member that says which hubs have answered.
fn show_hubs(hubs: &Hubs) -> String {
    let missing: Vec<_> = hubs.missing.iter().map(|hub| format!("\"{hub:016x}\"")).collect();
    let partial = hubs.partial().map_or(Value::Null, Value::from);
    format!(
        "\"hubs\":{{\"asked\":{},\"answered\":{},\"missing\":[{}],\"partial\":{partial}}}",
        hubs.asked,
        hubs.answered,
        missing.join(",")
    )
}
