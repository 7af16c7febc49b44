//! Answers of the hub as tables. What an older hub does not tell is left empty.

use super::text::{bytes, clean, clean_name, table, table_within, time};
use serde_json::Value;

/// A member as a person reads it.
fn cell(of: &Value, name: &str) -> String {
    match &of[name] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        other => other.to_string(),
    }
}

/// A member that is a number. What an older hub does not tell is 0.
pub(super) fn number(of: &Value, name: &str) -> u64 {
    of[name].as_u64().unwrap_or(0)
}

fn rows(answer: &Value, list: &str, row: impl Fn(&Value) -> Vec<String>) -> Vec<Vec<String>> {
    answer[list].as_array().into_iter().flatten().map(row).collect()
}

pub(super) fn channels(answer: &Value) -> String {
    let rows = rows(answer, "channels", |channel| {
        let cell = |name| cell(channel, name);
        vec![
            cell("channel"),
            cell("subscribers"),
            cell("messages"),
            bytes(number(channel, "bytes")),
            cell("slow_closed"),
            cell("dropped"),
            cell("replaced"),
            cell("id"),
        ]
    });
    table(&["CHANNEL", "SUBSCRIBERS", "MESSAGES", "BYTES", "SLOW-CLOSED", "DROPPED", "REPLACED", "NEWEST"], &rows)
}

pub(super) fn connections(answer: &Value, widest: usize) -> String {
    let rows = rows(answer, "connections", |connection| {
        let cell = |name| cell(connection, name);
        let names = connection["names"].as_array().into_iter().flatten().filter_map(Value::as_str);
        // A comma in a name is no end of it.
        let mut names: Vec<String> = names.map(|name| name.replace(',', "\\,")).collect();
        if number(connection, "channels") > names.len() as u64 {
            names.push("...".to_owned());
        }
        let behind = match connection["catching_up"] == true {
            true => format!("{} (catching up)", time(number(connection, "behind_ms"))),
            false => time(number(connection, "behind_ms")),
        };
        let (id, waiting) = (cell("id"), bytes(number(connection, "waiting")));
        let connected = time(number(connection, "connected_ms"));
        vec![id, waiting, behind, connected, cell("user"), cell("address"), cell("transport"), names.join(",")]
    });
    let head = ["ID", "WAITING", "BEHIND", "CONNECTED", "USER", "ADDRESS", "TRANSPORT", "CHANNELS"];
    table_within(&head, &rows, widest)
}

pub(super) fn users(answer: &Value) -> String {
    let rows = rows(answer, "users", |user| vec![cell(user, "user"), cell(user, "connections")]);
    let (count, anonymous) = (number(answer, "count"), number(answer, "anonymous"));
    format!("{}{count} users, and {anonymous} connections without a user\n", table(&["USER", "CONNECTIONS"], &rows))
}

pub(super) fn hosts(answer: &Value) -> String {
    let rows = rows(answer, "hosts", |host| {
        let cell = |name| cell(host, name);
        vec![
            cell("name"),
            cell("process"),
            time(number(host, "attached_ms")),
            cell("adopted"),
            cell("events"),
            cell("requests"),
            bytes(number(host, "unsent")),
            time(number(host, "behind_ms")),
            cell("host"),
        ]
    });
    let head = ["NAME", "PROCESS", "ATTACHED", "ADOPTED", "EVENTS", "REQUESTS", "UNSENT", "BEHIND", "HOST"];
    table(&head, &rows)
}

pub(super) fn hubs(answer: &Value) -> String {
    let rows = rows(answer, "hubs", |hub| {
        let state = if hub["up"] == true { "up" } else { "not heard of" };
        let heard = time(number(hub, "heard_ms"));
        vec![cell(hub, "name"), cell(hub, "hub"), state.to_owned(), heard, cell(hub, "here")]
    });
    table(&["NAME", "HUB", "STATE", "HEARTBEAT", "HERE"], &rows)
}

pub(super) fn messages(answer: &Value) -> String {
    let lines = answer["messages"].as_array().into_iter().flatten().map(|message| match message["type"].as_str() {
        Some("gap") => format!("{}  -- messages up to here are gone\n", clean(&cell(message, "id"))),
        Some("begin") => format!("{}  -- the stream begins\n", clean(&cell(message, "id"))),
        Some("end") => format!("{}  -- the stream ends\n", clean(&cell(message, "id"))),
        _ => format!("{}  {}\n", clean(&cell(message, "id")), data(message)),
    });
    lines.collect()
}

/// The event and the data of a message, in one line. Two dashes at its beginning are no data's.
pub(super) fn data(message: &Value) -> String {
    let event = message["event"].as_str().map_or_else(String::new, |event| format!("[{}] ", clean_name(event)));
    let coded = if message["base64"] == true { "(base64) " } else { "" };
    let cut = if message["cut"] == true { " ..." } else { "" };
    let line = format!("{event}{coded}{}{cut}", clean(&cell(message, "data")));
    match line.strip_prefix('-') {
        Some(rest) if rest.starts_with('-') => format!("\\u{{2d}}{rest}"),
        _ => line,
    }
}

pub(super) fn stats(answer: &Value) -> String {
    let rows: Vec<Vec<String>> = answer
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, value)| value.is_number())
        .map(|(name, value)| vec![name.clone(), value.to_string()])
        .collect();
    table(&["NAME", "VALUE"], &rows)
}

pub(super) fn closed(answer: &Value) -> String {
    let others = match answer["others"].as_str() {
        None => "",
        Some("will") => "; the other hubs of the log close theirs as they read of it",
        Some(_) => "; the other hubs of the log were not told, and their connections stay",
    };
    format!("{} connections are closed at this hub{others}\n", number(answer, "closed"))
}

pub(super) fn config(answer: &Value) -> String {
    let rows = rows(answer, "options", |option| {
        let value = match (option["secret"] == true, option["changed"] == true) {
            (true, true) => "(set, and hidden)".to_owned(),
            (true, false) => "(not set)".to_owned(),
            (false, _) => cell(option, "value"),
        };
        let means = option["means"].as_str().map_or_else(String::new, |means| format!(" ({means})"));
        let when = if option["live"] == true { "reload" } else { "restart" };
        vec![cell(option, "name"), format!("{value}{means}"), cell(option, "default"), when.to_owned()]
    });
    let mut text = table(&["OPTION", "VALUE", "DEFAULT", "CHANGES AT A"], &rows);
    for pattern in answer["channels"].as_array().into_iter().flatten() {
        text += &format!("[channel.\"{}\"]\n", clean(&cell(pattern, "pattern")));
        let options = pattern.as_object().into_iter().flatten().filter(|(name, _)| *name != "pattern");
        for (name, _) in options {
            text += &format!("  {name} = {}\n", clean(&cell(pattern, name)));
        }
    }
    text
}
