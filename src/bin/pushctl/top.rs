//! `pushctl top`: rates and the slowest clients, live in the terminal.

use super::arguments::Called;
use super::hub::{Asked, Hub};
use super::text::{bytes, clean, clean_json, cut, table};
use super::{lists, Failure, Out};
use serde_json::{json, Value};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// The counters of which the rate is shown, each with its name for people.
const RATES: [(&str, &str); 6] = [
    ("published", "published"),
    ("deliveries", "delivered"),
    ("received", "from clients"),
    ("refused", "refused"),
    ("slow_closed", "closed as slow"),
    ("busy", "publishes refused"),
];
/// The clients that are shown where the height is not known.
const USUAL_ROWS: usize = 10;
/// The most cells of a column of them.
const WIDEST: usize = 32;
/// Lines beside the clients.
const OTHER_ROWS: usize = 18;

/// What was seen at one look.
struct Look {
    at: Instant,
    stats: Value,
    slow: Value,
    hosts: Value,
}

pub(super) async fn run(hub: &Hub, called: &Called) -> Result<(), Failure> {
    let interval = Duration::from_secs(called.number("interval")?.unwrap_or(2));
    let mut left = called.number("count")?.unwrap_or(u64::MAX);
    let is_terminal = std::io::stdout().is_terminal();
    let mut before = look(hub).await?;
    loop {
        tokio::time::sleep(interval).await;
        let now = look(hub).await?;
        let rates = rates(&before, &now);
        if called.has("json") {
            let line = json!({"rates": rates, "stats": now.stats, "slow": now.slow, "hosts": now.hosts["hosts"]});
            Out.write(&clean_json(&format!("{line}\n")));
        } else {
            let text = page(&hub.address.to_string(), &rates, &now);
            Out.write(&if is_terminal { redrawn(&text) } else { format!("{text}\n") });
        }
        left -= 1;
        if left == 0 {
            return Ok(());
        }
        before = now;
    }
}

async fn look(hub: &Hub) -> Result<Look, Failure> {
    let limit = terminal_size::terminal_size()
        .map_or(USUAL_ROWS, |(_, terminal_size::Height(height))| usize::from(height).saturating_sub(OTHER_ROWS).max(1));
    let slow = Asked::get("/v1/connections").with("slow", "1").with("limit", limit.min(1000).to_string());
    Ok(Look {
        at: Instant::now(),
        stats: hub.json(Asked::get("/v1/stats")).await?,
        slow: hub.json(slow).await?,
        hosts: hub.json(Asked::get("/v1/hosts")).await?,
    })
}

/// What has happened in a second, by counter. A hub that has started anew begins at 0.
fn rates(before: &Look, now: &Look) -> Value {
    let seconds = now.at.duration_since(before.at).as_secs_f64().max(0.001);
    let of = |look: &Look, name: &str| look.stats[name].as_u64().unwrap_or(0);
    let rate = |name: &str| of(now, name).saturating_sub(of(before, name)) as f64 / seconds;
    let rounded = |name: &str| Value::from((rate(name) * 10.0).round() / 10.0);
    let all = RATES.iter().map(|(name, _)| *name).chain(["bytes_sent"]);
    Value::Object(all.map(|name| (name.to_owned(), rounded(name))).collect())
}

fn page(address: &str, rates: &Value, look: &Look) -> String {
    let number = |name: &str| look.stats[name].as_u64().unwrap_or(0);
    let mut text = format!(
        "{}   {} connections (websocket {}, sse {}, stream {}, poll {})   {} channels{}\n\n",
        clean(address),
        number("connections"),
        number("websockets"),
        number("sse"),
        number("streams"),
        number("polls"),
        number("channels"),
        if number("draining") == 1 { "   DRAINING" } else { "" },
    );
    let mut rows: Vec<Vec<String>> =
        RATES.iter().map(|(name, shown)| vec![(*shown).to_owned(), rates[*name].to_string()]).collect();
    rows.push(vec!["bytes sent".to_owned(), bytes(rates["bytes_sent"].as_f64().unwrap_or(0.0) as u64)]);
    text += &table(&["", "EACH SECOND"], &rows);
    text += &format!(
        "\n{} clients are behind, {} wait for them; {} messages wait for threads; {} hosts\n\n",
        lists::number(&look.slow, "count"),
        bytes(number("outbox_bytes")),
        number("mailbox"),
        look.hosts["hosts"].as_array().map_or(0, Vec::len),
    );
    text + &lists::connections(&look.slow, WIDEST)
}

/// A page over the one before: each line ends what was there, and nothing is left below.
fn redrawn(text: &str) -> String {
    let width = terminal_size::terminal_size().map_or(usize::MAX, |(terminal_size::Width(width), _)| width.into());
    // A line that is wrapped would move those below.
    let lines = text.lines().map(|line| cut(line, width) + "\x1b[K\n");
    format!("\x1b[H{}\x1b[J", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: Instant, published: u64) -> Look {
        let slow = json!({"connections": [{"id": "7", "user": "a\u{1b}[2J", "waiting": 2048, "behind_ms": 3000,
                          "names": [], "channels": 0}], "count": 1});
        Look { at, stats: json!({"published": published, "connections": 5}), slow, hosts: json!({"hosts": [{}]}) }
    }

    #[test]
    fn rates_are_of_one_second_and_a_hub_that_has_started_anew_has_none() {
        let begin = Instant::now();
        let (one, other) = (look(begin, 100), look(begin + Duration::from_secs(4), 700));
        assert_eq!(rates(&one, &other)["published"], 150.0);
        assert_eq!(rates(&other, &look(begin + Duration::from_secs(5), 3))["published"], 0.0);
    }

    #[test]
    fn a_page_has_the_slow_clients_and_nothing_raw_of_them() {
        let now = look(Instant::now(), 0);
        let text = page("unix:/x", &rates(&now, &now), &now);
        assert!(
            text.contains("5 connections") && text.contains("1 clients are behind") && text.contains("2.0 KB"),
            "{text}"
        );
        assert!(text.contains("a\\u{1b}[2J") && !text.contains('\u{1b}'), "{text}");
        // A long name hides nothing of the others.
        let mut now = now;
        now.slow["connections"][0]["user"] = "\u{1f600}".repeat(63).into();
        now.slow["connections"][0]["transport"] = "sse".into();
        let text = page("unix:/x", &rates(&now, &now), &now);
        assert!(text.contains(&format!("{}\u{2026}", "\u{1f600}".repeat(15))) && text.contains("sse"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() < 100), "{text}");
        assert!(redrawn(&text).starts_with("\x1b[H") && redrawn(&text).ends_with("\x1b[J"));
    }
}
