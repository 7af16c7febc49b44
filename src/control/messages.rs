//! `GET /v1/channels/{c}/messages`: what is kept of a channel.

use super::parameters::Known::Once;
use super::parameters::Parameters;
use super::routes::{json, refusal, Answer};
use crate::api::{Api, Kept};
use crate::dialect::push::json as form;
use crate::http::refusal::Refusal;
use crate::hub::{Item, Position};

/// The number of messages in one answer, unless the request asks for another.
const USUAL: u64 = 100;
/// The largest number.
const MAX_LISTED: u64 = 1000;
/// About how many bytes are written at once.
const AT_ONCE: usize = 64 << 10;

pub(super) async fn messages(api: &Api, channel: &str, query: &str) -> Result<Answer, Refusal> {
    let parameters = Parameters::read(query, &[Once("since"), Once("last"), Once("limit")])?;
    let limit = parameters.number("limit", 1..=MAX_LISTED)?;
    let last = parameters.number("last", 1..=MAX_LISTED)?;
    let count = limit.or(last).unwrap_or(USUAL).min(last.unwrap_or(MAX_LISTED)) as usize;
    let since = parameters.one("since");
    if since.is_some() && last.is_some() {
        return Err(Refusal::malformed("last", "last: not together with since; use limit"));
    }
    let wrong = || Refusal::malformed("since", "since must be a position, as the id of a message is");
    let since = since.map(|text| Position::parse(text).ok_or_else(wrong)).transpose()?;
    let kept = api.kept(channel, since, count).map_err(|error| refusal(&error))?;
    Ok(json(show(&kept).await))
}

/// The same objects as in the answer to a poll. Others have their turn between parts of it.
async fn show(kept: &Kept) -> Vec<u8> {
    let Kept { items, epoch, position, more } = kept;
    let mut out = b"{\"position\":\"".to_vec();
    epoch.write_position(*position, &mut out);
    out.extend_from_slice(b"\",\"messages\":[");
    let (mut gap, mut told) = (false, out.len());
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        if out.len() - told > AT_ONCE {
            told = out.len();
            tokio::task::yield_now().await;
        }
        match item {
            Item::Message(message) => out.append(&mut form::message(message, epoch)),
            Item::Gap(..) | Item::Loss(..) => {
                gap = true;
                out.append(&mut form::gap(item.channel(), &epoch.position(item.seq())));
            }
        }
    }
    out.extend_from_slice(format!("],\"gap\":{gap},\"more\":{more}}}\n").as_bytes());
    out
}
