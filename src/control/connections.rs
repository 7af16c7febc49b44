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
use serde::Serialize;
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
    Ok(json(show(receiver.await.unwrap_or_default().page(order, limit)).await))
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

async fn show(page: Page) -> Vec<u8> {
    let Page { rows, count, more, next } = page;
    let next = next.map_or_else(String::new, |next| format!(",\"after\":\"{next}\""));
    let end = format!("],\"count\":{count},\"more\":{more}{next}}}\n");
    joined("{\"connections\":[", rows, |row| show_one(&row), &end).await
}

/// A row of the list.
#[derive(Serialize)]
struct Row<'a> {
    /// A text, since not every reader of JSON keeps 64 bits.
    id: String,
    user: Option<&'a str>,
    address: Option<String>,
    transport: &'a str,
    connected_ms: u64,
    adopted: bool,
    channels: usize,
    names: Vec<&'a str>,
    waiting: u64,
    behind_ms: u64,
    catching_up: bool,
}

fn show_one(listed: &Listed) -> Vec<u8> {
    let row = Row {
        id: listed.id.to_string(),
        user: listed.user.as_deref(),
        address: listed.address.map(|peer| peer.to_string()),
        transport: listed.transport.map_or("none", |transport| transport.label()),
        connected_ms: listed.connected_ms,
        adopted: listed.adopted,
        channels: listed.channels,
        names: listed.names.iter().map(|name| &**name).collect(),
        waiting: listed.waiting,
        behind_ms: listed.behind_ms,
        catching_up: listed.catching_up,
    };
    // Nothing in it can fail.
    serde_json::to_vec(&row).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::Transport;
    use serde_json::{json, Value};

    #[test]
    fn a_row_is_json_with_all_that_is_known_and_whatever_the_names_are() {
        let read = |row: &Listed| serde_json::from_slice::<Value>(&show_one(row)).unwrap();
        let nothing = json!({
            "id": "0", "user": null, "address": null, "transport": "none", "connected_ms": 0, "adopted": false,
            "channels": 0, "names": [], "waiting": 0, "behind_ms": 0, "catching_up": false,
        });
        assert_eq!(read(&Listed::default()), nothing);
        for (peer, shown) in [
            (Peer::Unix, "unix"),
            (Peer::Ip("192.0.2.255".parse().unwrap()), "192.0.2.255"),
            (Peer::Ip("2001:db8::1".parse().unwrap()), "2001:db8::1"),
        ] {
            let names = ["a\"\\</script>", "\u{1f600}\u{85}\u{2028}"];
            let row = Listed {
                id: u64::MAX,
                user: Some("\"ada\"\\".into()),
                address: Some(peer),
                transport: Some(Transport::Sse),
                connected_ms: 1,
                adopted: true,
                channels: 2000,
                names: names.map(Into::into).into(),
                waiting: u64::MAX,
                behind_ms: 3,
                catching_up: true,
            };
            let all = json!({
                "id": "18446744073709551615", "user": "\"ada\"\\", "address": shown, "transport": "sse",
                "connected_ms": 1, "adopted": true, "channels": 2000, "names": names, "waiting": u64::MAX,
                "behind_ms": 3, "catching_up": true,
            });
            assert_eq!(read(&row), all);
        }
    }
}
