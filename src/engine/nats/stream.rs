//! The settings of the stream: those of a new one, and those that an existing one must have.

use super::super::shared::connection::Failure;
use super::super::shared::ROOM_IN_NATS;
use super::session::{code, Info, Refusal, Session};
use super::settings::Settings;
use serde_json::{json, Map, Value};

/// The stream's settings, if it is there and keeps what a log promises. Otherwise it is made.
pub(super) async fn find_or_make(session: &Session, settings: &Settings, in_cluster: bool) -> Result<Info, Failure> {
    let payload = session.client.max_payload();
    let wanted = settings.options.max_message + ROOM_IN_NATS;
    if payload < wanted {
        let server = &session.server;
        return Err(Failure(format!(
            "the NATS server {server} takes messages of at most {payload} bytes (its max_payload), and entries of this \
             hub may have {wanted}: raise max_payload there, or lower the option max_message here by {over}",
            over = wanted - payload
        )));
    }
    let name = &session.names.stream;
    let found = session.try_ask::<Info>(&format!("STREAM.INFO.{name}"), &Value::Null).await;
    let info = match found {
        Err(Refusal::Said(code::NO_STREAM, _)) => make(session, settings, in_cluster).await?,
        found => found.map_err(|refusal| session.failure("show the stream", refusal))?,
    };
    match unfit(&info.config, settings) {
        None => Ok(info),
        Some(why) => {
            Err(Failure(format!("the stream `{name}` at the NATS server {} is no log: {why}", session.server)))
        }
    }
}

async fn make(session: &Session, settings: &Settings, in_cluster: bool) -> Result<Info, Failure> {
    let name = &session.names.stream;
    let config = fresh(name, settings, in_cluster);
    match session.try_ask(&format!("STREAM.CREATE.{name}"), &config).await {
        // Another hub was faster.
        Err(Refusal::Said(code::STREAM_NAME_IN_USE, _)) => session.info().await,
        made => made.map_err(|refusal| session.failure("make the stream", refusal)),
    }
}

fn subjects(settings: &Settings) -> Value {
    json!([format!("push.{}.>", settings.options.namespace)])
}

fn fresh(name: &str, settings: &Settings, in_cluster: bool) -> Value {
    let window = settings.options.key_window.as_nanos().max(100_000_000) as u64;
    json!({
        "name": name,
        "description": "a log of libpush",
        "subjects": subjects(settings),
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "num_replicas": settings.replicas.unwrap_or(if in_cluster { 3 } else { 1 }),
        "max_bytes": settings.max_bytes.map_or(-1, |bytes| bytes as i64),
        "max_msgs": -1,
        "max_age": 0,
        "max_msg_size": -1,
        "max_msgs_per_subject": -1,
        "max_consumers": -1,
        "duplicate_window": window,
        "allow_atomic": true,
    })
}

/// The reason why a stream can't be a log: the setting, and its right value.
fn unfit(config: &Value, settings: &Settings) -> Option<String> {
    let empty = Map::new();
    let config = config.as_object().unwrap_or(&empty);
    let get = |name: &str| config.get(name).unwrap_or(&Value::Null);
    let number = |name: &str| get(name).as_i64().unwrap_or(0);
    let is = |name: &str| get(name).as_bool().unwrap_or(false);
    let text = |name: &str| get(name).as_str().unwrap_or("").to_owned();
    let expect = |name: &str, wanted: &str, why: &str| {
        Some(format!("its {name} is {}, and has to be {wanted}: {why}", get(name)))
    };

    if *get("subjects") != subjects(settings) {
        return expect(
            "subjects",
            &subjects(settings).to_string(),
            "each message of a stream takes a number, so the log has a stream of its own",
        );
    }
    for (name, wanted, why) in [
        ("storage", "file", "one in memory ends with its server"),
        ("retention", "limits", "a log keeps what was read"),
    ] {
        if text(name) != wanted {
            return expect(name, wanted, why);
        }
    }
    for name in ["mirror", "sources", "subject_transform"] {
        if !get(name).is_null() {
            return Some(format!("it has {name}: nothing may come into it but what hubs put there"));
        }
    }
    for (name, wanted, why) in [
        ("allow_atomic", true, "hubs publish in batches"),
        ("no_ack", false, "a hub has to know what became of its entries"),
        ("sealed", false, "a sealed stream takes no messages"),
        ("deny_purge", false, "hubs remove what is old"),
        ("deny_delete", false, "hubs remove what is old"),
        ("allow_rollup_hdrs", false, "a message could remove others"),
        ("allow_msg_counter", false, "messages would be changed"),
    ] {
        if is(name) != wanted {
            return expect(name, &wanted.to_string(), why);
        }
    }
    if text("persist_mode") == "async" {
        return expect("persist_mode", "default", "batches need it");
    }
    // Limits that remove messages would remove the last fence, or messages in the middle.
    if number("max_age") != 0 {
        return expect("max_age", "0", "hubs remove what is old, and keep what they still need");
    }
    if number("max_msgs_per_subject") > 0 {
        return expect("max_msgs_per_subject", "-1", "numbers would be missing in the middle");
    }
    let bounded = number("max_bytes") > 0 || number("max_msgs") > 0;
    if bounded && text("discard") != "new" {
        return expect("discard", "new", "with max_bytes or max_msgs, what hubs still need would be removed");
    }
    let size = number("max_msg_size");
    let wanted = (settings.options.max_message + ROOM_IN_NATS) as i64;
    if size > 0 && size < wanted {
        return expect("max_msg_size", &format!("-1, or at least {wanted}"), "entries of this hub may be as large");
    }
    let window = settings.options.key_window.as_nanos() as i64;
    if number("duplicate_window") < window {
        return expect(
            "duplicate_window",
            &format!("at least {window}"),
            "it is this hub's key_window, in nanoseconds",
        );
    }
    match settings.replicas {
        Some(wanted) if number("num_replicas").max(1) != wanted as i64 => {
            expect("num_replicas", &wanted.to_string(), "the URL says so")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::shared::Options;
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_stream_as_it_is_made_is_a_log_and_others_are_refused_with_the_setting() {
        let options = Options {
            namespace: "shop".to_owned(),
            timeout: Duration::from_secs(5),
            key_window: Duration::from_secs(120),
            kept: (Duration::from_secs(60), 1 << 20),
            max_message: 1 << 16,
        };
        let settings = Settings::parse("nats://h?replicas=3&max_bytes=2000000", &options).unwrap();
        let made = fresh("push_shop", &settings, false);
        assert_eq!(unfit(&made, &settings), None);
        for (name, value) in [
            ("subjects", json!(["push.shop.>", "orders.>"])),
            ("storage", json!("memory")),
            ("retention", json!("workqueue")),
            ("sources", json!([{ "name": "other" }])),
            ("allow_atomic", Value::Null),
            ("no_ack", json!(true)),
            ("sealed", json!(true)),
            ("deny_purge", json!(true)),
            ("deny_delete", json!(true)),
            ("allow_rollup_hdrs", json!(true)),
            ("persist_mode", json!("async")),
            ("max_age", json!(1_000_000_000)),
            ("max_msgs_per_subject", json!(1)),
            ("discard", json!("old")),
            ("max_msg_size", json!(1000)),
            ("duplicate_window", json!(1)),
            ("num_replicas", json!(1)),
        ] {
            let mut other = made.clone();
            other[name] = value;
            let why = unfit(&other, &settings).unwrap_or_default();
            assert!(why.contains(name), "{name}: {why}");
        }
        let mut unbounded = made.clone();
        unbounded["max_bytes"] = json!(-1);
        unbounded["discard"] = json!("old");
        assert_eq!(unfit(&unbounded, &settings), None, "without a bound nothing is discarded");
    }
}
