//! `pushctl tail`: what is published, as it is published.

use super::arguments::Called;
use super::hub::{Asked, Hub};
use super::text::{bytes, clean, clean_json, clean_name};
use super::{lists, Failure, Out};
use http_body_util::BodyExt;
use serde_json::Value;
use std::time::{Duration, UNIX_EPOCH};

/// The longest event of the hub. It cuts the data of a message far earlier.
const MAX_EVENT: usize = 4 << 20;
/// The hub sends a sign of life each 15 seconds. Without one for this time it is gone.
const SILENCE: Duration = Duration::from_secs(45);

pub(super) async fn run(hub: &Hub, called: &Called) -> Result<(), Failure> {
    let mut left = called.number("count")?.unwrap_or(u64::MAX);
    let name = &called.values[0];
    let asked = Asked::get("/v1/tail").with(if name.ends_with('*') { "pattern" } else { "channel" }, name);
    let mut body = hub.stream(asked).await?;
    let mut events = Events::default();
    loop {
        let silent = |_| Failure::Hub(format!("{} has sent nothing for {} s", hub.address(), SILENCE.as_secs()));
        let Some(frame) = tokio::time::timeout(SILENCE, body.frame()).await.map_err(silent)? else { break };
        let Ok(part) = frame.map_err(|error| hub.broken(error))?.into_data() else { continue };
        events.add(&part);
        while let Some(event) = events.next() {
            let value: Value = serde_json::from_str(&event).map_err(|error| hub.broken(error))?;
            let kind = value["type"].as_str().unwrap_or_default();
            if called.has("json") {
                Out.write(&format!("{}\n", clean_json(&event)));
            } else {
                show(kind, &value);
            }
            if kind == "end" {
                return Err(Failure::Hub(format!("the tail ends: {}", clean(value["reason"].as_str().unwrap_or("")))));
            }
            if matches!(kind, "message" | "broadcast" | "mark") {
                left -= 1;
                if left == 0 {
                    return Ok(());
                }
            }
        }
        if events.is_too_long() {
            return Err(hub.broken("an event is too long"));
        }
    }
    Err(Failure::Hub("the hub has ended the connection".to_owned()))
}

fn show(kind: &str, value: &Value) {
    match kind {
        "message" | "broadcast" | "mark" => {
            let time = UNIX_EPOCH + Duration::from_millis(value["time"].as_u64().unwrap_or(0));
            // A broadcast. No channel has this name, nor one that ends like this.
            let channel = value["channel"].as_str().unwrap_or("*");
            // Data is behind its size, so none of it looks like a mark.
            let content = match value["mark"].as_str() {
                Some(mark) => format!("-- the stream {}s", clean(mark)),
                None => format!("{}  {}", bytes(lists::number(value, "size")), lists::data(value)),
            };
            Out.write(&format!(
                "{}  {}  {}  {content}\n",
                humantime::format_rfc3339_millis(time),
                clean_name(channel),
                clean(value["id"].as_str().unwrap_or_default()),
            ));
        }
        "lost" => {
            Out.note(&format!("{} messages are missing here: this reader is too slow", lists::number(value, "count")))
        }
        "open" => Out.note("looking on"),
        _ => {}
    }
}

/// Server-Sent Events. Each of the hub's has one line of data.
#[derive(Debug, Default)]
struct Events {
    bytes: Vec<u8>,
}

impl Events {
    fn add(&mut self, part: &[u8]) {
        self.bytes.extend_from_slice(part);
    }

    /// The data of the next event that is complete.
    fn next(&mut self) -> Option<String> {
        loop {
            let end = self.bytes.windows(2).position(|pair| pair == b"\n\n")?;
            let event: Vec<u8> = self.bytes.drain(..end + 2).collect();
            let event = String::from_utf8_lossy(&event);
            let data = event.lines().find_map(|line| line.strip_prefix("data: ")).map(str::to_owned);
            // A comment only shows that the hub is there.
            if data.is_some() {
                return data;
            }
        }
    }

    fn is_too_long(&self) -> bool {
        self.bytes.len() > MAX_EVENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_may_come_in_any_pieces() {
        let text = b":\n\ndata: {\"a\":1}\n\n:\n\ndata: two\n\ndata: thr";
        for size in 1..text.len() {
            let (mut events, mut found) = (Events::default(), Vec::new());
            for part in text.chunks(size) {
                events.add(part);
                found.extend(std::iter::from_fn(|| events.next()));
            }
            assert_eq!(found, ["{\"a\":1}", "two"], "{size}");
        }
    }
}
