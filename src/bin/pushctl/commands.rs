//! What each command asks, and how its answer is shown.

use super::arguments::Called;
use super::hub::{Asked, Hub};
use super::text::clean_json;
use super::{lists, tail, top, Failure, Out};
use bytes::Bytes;
use percent_encoding::{utf8_percent_encode, NON_ALPHANUMERIC};
use serde_json::Value;
use std::io::Read;

pub(super) async fn run(hub: &Hub, called: &Called) -> Result<(), Failure> {
    match called.command.name {
        "publish" => publish(hub, called).await,
        "tail" => tail::run(hub, called).await,
        "kick" => kick(hub, called).await,
        "connections" => connections(hub, called).await,
        "top" => top::run(hub, called).await,
        "channels" => {
            let prefix = called.values.first();
            let asked =
                prefix.into_iter().fold(Asked::get("/v1/channels"), |asked, prefix| asked.with("prefix", prefix));
            shown(hub, called, limited(asked, called)?, lists::channels).await
        }
        "users" => {
            let asked = Asked::get("/v1/users").with("channel", &called.values[0]);
            let asked = called.one("after").into_iter().fold(asked, |asked, after| asked.with("after", after));
            shown(hub, called, limited(asked, called)?, lists::users).await
        }
        "messages" => {
            let channel = utf8_percent_encode(&called.values[0], NON_ALPHANUMERIC);
            let mut asked = limited(Asked::get(format!("/v1/channels/{channel}/messages")), called)?;
            if let Some(last) = called.number("last")? {
                asked = asked.with("last", last.to_string());
            }
            if let Some(since) = called.one("since") {
                asked = asked.with("since", since);
            }
            shown(hub, called, asked, lists::messages).await
        }
        "stats" => {
            let asked = Asked::get("/v1/stats");
            let asked = if called.has("cluster") { asked.with("cluster", "1") } else { asked };
            shown(hub, called, asked, lists::stats).await
        }
        "config" => config(hub, called).await,
        "hubs" => shown(hub, called, Asked::get("/v1/hubs"), lists::hubs).await,
        // `completion` needs no hub.
        _ => shown(hub, called, Asked::get("/v1/hosts"), lists::hosts).await,
    }
}

fn limited(asked: Asked, called: &Called) -> Result<Asked, Failure> {
    Ok(match called.number("limit")? {
        Some(limit) => asked.with("limit", limit.to_string()),
        None => asked,
    })
}

/// Shows an answer as JSON, or as a table.
async fn shown(hub: &Hub, called: &Called, asked: Asked, table: fn(&Value) -> String) -> Result<(), Failure> {
    let text = hub.ask(asked).await?;
    if called.has("json") {
        Out.write(&clean_json(&text));
        return Ok(());
    }
    let answer = serde_json::from_str(&text).map_err(|error| hub.broken(error))?;
    Out.write(&table(&answer));
    if answer["more"] == true {
        Out.note("there are more");
    }
    if let Some(partial) = answer["hubs"]["partial"].as_str() {
        Out.note(&super::text::clean(partial));
    }
    Ok(())
}

async fn publish(hub: &Hub, called: &Called) -> Result<(), Failure> {
    let users: Vec<&str> = called.all("user").collect();
    let (channel, data) = match &called.values[..] {
        values @ ([] | [_]) if !users.is_empty() => (None, values.first()),
        [channel, data @ ..] if users.is_empty() => (Some(channel), data.first()),
        _ => {
            let text = "publish: either CHANNEL [DATA], or --user USER [DATA] is expected behind it";
            return Err(Failure::Usage(text.to_owned()));
        }
    };
    let body = match data {
        Some(data) => data.clone().into_bytes(),
        None => {
            let mut data = Vec::new();
            let read = std::io::stdin().lock().read_to_end(&mut data);
            read.map_err(|error| Failure::Usage(format!("the standard input can't be read: {error}")))?;
            data
        }
    };
    let asked = Asked::post("/v1/publish");
    let asked = channel.into_iter().fold(asked, |asked, channel| asked.with("channel", channel));
    let mut asked = users.into_iter().fold(asked, |asked, user| asked.with("user", user));
    for (name, flag) in [("event", "event"), ("key", "idempotency-key"), ("except", "except")] {
        if let Some(value) = called.one(flag) {
            asked = asked.with(name, value);
        }
    }
    (asked.body, asked.binary) = (Bytes::from(body), called.has("binary"));
    shown(hub, called, asked, |answer| {
        let line = |place: &Value| {
            let id = place["id"].as_str().unwrap_or_default();
            format!("{} to {} subscribers\n", super::text::clean(id), lists::number(place, "subscribers"))
        };
        // For several users there are several places.
        answer.as_array().map_or_else(|| line(answer), |places| places.iter().map(line).collect())
    })
    .await
}

/// Closes connections by number, by user, or all.
async fn kick(hub: &Hub, called: &Called) -> Result<(), Failure> {
    let (ids, by_user, all) = (&called.values, called.has("user"), called.has("all"));
    if [!ids.is_empty(), by_user, all].iter().filter(|given| **given).count() != 1 {
        let text = "kick: either numbers of connections, or --user USER, or --all is expected";
        return Err(Failure::Usage(text.to_owned()));
    }
    let ended = |path: &str| -> Result<Asked, Failure> {
        let mut asked = Asked::post(path);
        if let Some(code) = called.number("code")? {
            asked = asked.with("code", code.to_string());
        }
        Ok(called.one("reason").into_iter().fold(asked, |asked, reason| asked.with("reason", reason)))
    };
    if ids.is_empty() {
        let asked = ended("/v1/disconnect")?;
        let asked = match all {
            true => asked.with("all", "1"),
            false => called.all("user").fold(asked, |asked, user| asked.with("user", user)),
        };
        return shown(hub, called, asked, lists::closed).await;
    }
    // All is asked for before anything is written: nobody may read the output to its end.
    let (mut failed, mut said) = (0, String::new());
    for id in ids {
        match hub.ask(ended("/v1/close")?.with("connection", id)).await {
            Ok(text) if called.has("json") => said += &clean_json(&text),
            Ok(_) => said += &format!("{} is closed\n", super::text::clean(id)),
            // The others are closed nevertheless.
            Err(Failure::Hub(text)) => {
                failed += 1;
                Out.note(&format!("{}: {text}", super::text::clean(id)));
            }
            Err(other) => return Err(other),
        }
    }
    Out.write(&said);
    match failed {
        0 => Ok(()),
        _ => Err(Failure::Hub(format!("{failed} of {} are not closed", ids.len()))),
    }
}

/// Lists a page of connections, or all pages.
async fn connections(hub: &Hub, called: &Called) -> Result<(), Failure> {
    let (slow, all) = (called.has("slow"), called.has("all"));
    if slow && all {
        return Err(Failure::Usage(
            "connections: a list with --slow has no further pages, so not with --all".to_owned(),
        ));
    }
    let mut after = None;
    loop {
        let mut asked = Asked::get("/v1/connections");
        for (name, flag) in [("user", "user"), ("channel", "channel"), ("address", "address-of")] {
            if let Some(value) = called.one(flag) {
                asked = asked.with(name, value);
            }
        }
        if slow {
            asked = asked.with("slow", "1");
        }
        if let Some(after) = after.take() {
            asked = asked.with("after", after);
        }
        asked = limited(asked, called)?;
        let text = hub.ask(asked).await?;
        let answer: Value = serde_json::from_str(&text).map_err(|error| hub.broken(error))?;
        match called.has("json") {
            true => Out.write(&clean_json(&text)),
            false => Out.write(&lists::connections(&answer, usize::MAX)),
        }
        let more = answer["more"] == true;
        match answer["after"].as_str().filter(|_| more && all) {
            Some(next) => after = Some(next.to_owned()),
            None => {
                if !called.has("json") {
                    let rest = if more { "; --all shows all pages, --limit more on one" } else { "" };
                    Out.note(&format!("{} in all{rest}", lists::number(&answer, "count")));
                }
                return Ok(());
            }
        }
    }
}

async fn config(hub: &Hub, called: &Called) -> Result<(), Failure> {
    let text = hub.ask(Asked::get("/v1/config")).await?;
    let mut answer: Value = serde_json::from_str(&text).map_err(|error| hub.broken(error))?;
    let options = answer["options"].as_array_mut().ok_or_else(|| hub.broken("it has no options"))?;
    let known = |name: &String| options.iter().any(|option| option["name"] == **name);
    if let Some(unknown) = called.values.iter().find(|name| !known(name)) {
        return Err(Failure::Usage(format!("config: there is no option {unknown:?}")));
    }
    let is_wanted = |option: &Value| {
        let named = called.values.is_empty() || called.values.iter().any(|name| option["name"] == **name);
        named && (!called.has("changed") || option["changed"] == true)
    };
    options.retain(is_wanted);
    if !called.values.is_empty() {
        answer["channels"] = Value::Array(Vec::new());
    }
    match called.has("json") {
        true => Out.write(&clean_json(&format!("{answer}\n"))),
        false => Out.write(&lists::config(&answer)),
    }
    Ok(())
}
