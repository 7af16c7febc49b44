//! `GET /v1/connections`: the connections of this hub.

use super::parameters::Known::Once;
use super::parameters::Parameters;
use super::routes::{json, Answer};
use super::rows::joined;
use crate::api::Api;
use crate::http::refusal::Refusal;
use crate::hub::{check_channel, check_text};
use crate::limits::Peer;
use crate::shard::client::listing::{Listed, Order, Page, Wanted};
use serde_json::Value;
use std::net::IpAddr;
use tokio::sync::oneshot;

/// The number of connections on one page, unless the request asks for another.
const USUAL: usize = 100;
/// The largest number.
const MAX_LISTED: u64 = 1000;

pub(super) async fn list(api: &Api, query: &str) -> Result<Answer, Refusal> {
    let known = ["user", "channel", "address", "slow", "after", "limit"].map(Once);
    let wanted = wanted(api, &Parameters::read(query, &known)?)?;
    let (order, limit) = (wanted.order, wanted.limit);
    let (sender, receiver) = oneshot::channel();
    api.ask_connections(wanted, Box::new(move |found| drop(sender.send(found))));
    Ok(json(show(&receiver.await.unwrap_or_default().page(order, limit)).await))
}

fn wanted(api: &Api, parameters: &Parameters<'_>) -> Result<Wanted, Refusal> {
    let limit = parameters.number("limit", 1..=MAX_LISTED)?.map_or(USUAL, |limit| limit as usize);
    let order = match (parameters.flag("slow")?, parameters.number("after", 0..=u64::MAX)?) {
        (false, after) => Order::After(after.unwrap_or(0)),
        (true, None) => Order::Slowest,
        (true, Some(_)) => return Err(Refusal::malformed("after", "after: a list with slow=1 has no further pages")),
    };
    let user = parameters.one("user");
    if let Some(user) = user {
        check_text("user", user, 255).map_err(|error| Refusal::malformed("user", error.to_string()))?;
    }
    let address = parameters.one("address").map(address).transpose()?;
    let channel = parameters.one("channel").map(|name| {
        check_channel(name).map_err(|error| Refusal::malformed("channel", error.to_string()))?;
        let id = api.channel_id(name).ok_or_else(|| Refusal::not_found("no such channel"))?;
        Ok((id, name.into()))
    });
    Ok(Wanted { user: user.map(Box::from), channel: channel.transpose()?, address, order, limit })
}

fn address(text: &str) -> Result<Peer, Refusal> {
    if text == "unix" {
        return Ok(Peer::Unix);
    }
    let ip: Result<IpAddr, _> = text.parse();
    ip.map(|ip| Peer::Ip(ip.to_canonical()))
        .map_err(|_| Refusal::malformed("address", "address must be an IPv4 or IPv6 address, or unix"))
}

async fn show(page: &Page) -> String {
    let objects = joined(&page.rows, show_one).await;
    let next = page.next.map_or_else(String::new, |next| format!(",\"after\":\"{next}\""));
    let (count, more) = (page.count, page.more);
    format!("{{\"connections\":[{objects}],\"count\":{count},\"more\":{more}{next}}}\n")
}

/// The number is a text: not every reader of JSON keeps 64 bits.
fn show_one(row: &Listed) -> String {
    let Listed { id, connected_ms, adopted, channels, waiting, behind_ms, catching_up, .. } = row;
    let user = row.user.as_deref().map_or(Value::Null, Value::from);
    let address = row.address.map_or(Value::Null, |peer| peer.to_string().into());
    let transport = row.transport.map_or("none", |transport| transport.label());
    let names = Value::from_iter(row.names.iter().map(|name| &**name));
    format!(
        "{{\"id\":\"{id}\",\"user\":{user},\"address\":{address},\"transport\":\"{transport}\",\
         \"connected_ms\":{connected_ms},\"adopted\":{adopted},\"channels\":{channels},\"names\":{names},\"waiting\":{waiting},\"behind_ms\":{behind_ms},\
         \"catching_up\":{catching_up}}}"
    )
}
