//! `GET /v1/config`: the options in use, and no secret among them.

use super::common::{builder, Host, CONTROL};
use super::{ask, got};
use push::config::options;
use serde_json::{json, Value};

fn option(host: &Host, name: &str) -> Value {
    let config = got(host, "/v1/config");
    let options = config["options"].as_array().unwrap();
    let mut named = options.iter().filter(|option| option["name"] == name);
    let found = named.next().unwrap_or_else(|| panic!("{name}: {config}")).clone();
    assert!(named.next().is_none(), "{name}: {config}");
    found
}

#[test]
fn each_option_is_there_with_its_value_its_default_and_whether_a_reload_changes_it() {
    let set = [
        ("max_message", "7KB"),
        ("threads", "3"),
        ("heartbeat", "90s"),
        ("channel.n\u{e4}ws.*.history_age", "1h"),
        ("channel.room.*.presence", "true"),
    ];
    let host = Host::start(&[&CONTROL[..], &set].concat());
    let config = got(&host, "/v1/config");
    let names: Vec<_> = config["options"].as_array().unwrap().iter().map(|option| option["name"].clone()).collect();
    assert_eq!(names, options::all().map(|option| option.name).collect::<Vec<_>>());
    for spec in options::all() {
        let shown = option(&host, spec.name);
        assert_eq!((&shown["default"], &shown["live"]), (&json!(spec.default), &json!(spec.is_live())), "{shown}");
        assert_eq!(shown["secret"], spec.is_secret(), "{shown}");
    }
    let shown = |name, value: &str, default: &str, changed: bool, live: bool| {
        let expected = json!({"name": name, "value": value, "default": default, "changed": changed, "live": live,
            "secret": false, "means": null});
        assert_eq!(option(&host, name), expected);
    };
    shown("max_message", "7KB", "1MB", true, true);
    shown("threads", "3", "0", true, false);
    shown("heartbeat", "90s", "25s", true, true);
    shown("path", "/push", "/push", false, true);
    shown("engine", "memory", "memory", false, false);
    assert_eq!(config["channels"][0]["pattern"], "n\u{e4}ws.*");
    assert_eq!(config["channels"][0]["history_age"], "1h");
    assert_eq!(config["channels"][1], json!({"pattern": "room.*", "presence": "true"}));
    assert_eq!(option(&host, "control_key")["value"], Value::Null);
    assert_eq!(option(&host, "control_key")["changed"], true);

    // What a reload changes, and what it does not.
    let mut other = builder(&[CONTROL[0], CONTROL[1], ("threads", "5"), ("max_message", "9KB")]);
    host.server.reload(&other).unwrap();
    assert_eq!(
        (option(&host, "max_message")["value"].clone(), option(&host, "threads")["value"].clone()),
        (json!("9KB"), json!("3"))
    );
    assert_eq!(got(&host, "/v1/config")["channels"], json!([]));
    // One that is refused changes nothing.
    other.set("control_key", "").unwrap();
    other.set("max_message", "1KB").unwrap();
    assert!(host.server.reload(&other).is_err());
    assert_eq!(option(&host, "max_message")["value"], "9KB");
    host.stop();
}

#[test]
fn no_secret_is_shown_wherever_it_stands() {
    const SECRET: &str = "hush-hush-hush-hush-hush-hush-hush";
    let file = std::env::temp_dir().join(format!("push-control-options-{}", std::process::id()));
    std::fs::write(&file, SECRET).unwrap();
    let from_file = format!("file:{}", file.display());
    let url = format!("redis://ada:{SECRET}@127.0.0.1:1/3?password={SECRET}");
    let jwks = format!("{{\"keys\":[{{\"kty\":\"oct\",\"alg\":\"HS256\",\"k\":\"{}\"}}]}}", "hush".repeat(14));
    for options in [
        vec![("jwt_secret", SECRET), ("auth", "jwt")],
        vec![("jwt_secret", &*from_file), ("auth", "jwt")],
        vec![("jwt_jwks", &*jwks), ("auth", "jwt")],
        vec![("engine", &*url)],
    ] {
        let host = Host::start(&[&[("control", "127.0.0.1:0"), CONTROL[1]], &options[..]].concat());
        let (status, body) = ask(&host, "GET", "/v1/config", "", b"");
        assert_eq!(status, 200);
        assert!(!body.contains("hush") && !body.contains(CONTROL[1].1), "{body}");
        let (name, _) = options[0];
        assert_eq!(option(&host, name)["changed"], true, "{body}");
        if name == "engine" {
            assert_eq!(option(&host, name)["value"], "redis://127.0.0.1:1/3");
        }
        host.stop();
    }
    std::fs::remove_file(file).unwrap();
}

#[test]
fn who_has_no_key_sees_none_of_it() {
    let host = Host::start(&CONTROL);
    for path in ["/v1/config", "/v1/hosts", "/v1/tail?pattern=*"] {
        assert_eq!(ask(&host, "GET", path, "Authorization: Bearer x\r\n", b"").0, 401, "{path}");
        assert_eq!(ask(&host, "POST", path, "", b"").0, 405, "{path}");
        assert_eq!(ask(&host, "GET", path, "", b"x").0, 413, "{path}");
    }
    assert_eq!(ask(&host, "POST", "/v1/disconnect?all=1", "Authorization: Bearer x\r\n", b"").0, 401);
    host.stop();
}
