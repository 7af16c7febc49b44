//! `pushctl` against a running hub: each command, and the way from "a client is slow" to its end.

#[cfg(feature = "tls")]
#[path = "../common/certificates.rs"]
mod certificates;
#[path = "../common/mod.rs"]
mod common;
mod everywhere;
mod names;
mod shells;
mod streams;
mod walk;

use common::killed::Killed;
use common::{socket_path, until, Host, CONTROL};
use serde_json::{json, Value};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{ChildStdout, Command, Output, Stdio};

/// A hub with its control API at a Unix socket without a key, and the socket.
fn hub(options: &[(&str, &str)]) -> (Host, String) {
    let path = format!("unix:{}", socket_path());
    (Host::start(&[&[("control", &*path)], options].concat()), path)
}

fn pushctl(address: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushctl"));
    command.env_clear().args(["-a", address]).args(arguments).stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What it writes if it ends well.
fn told(address: &str, arguments: &[&str]) -> String {
    let output = pushctl(address, arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// The same as JSON.
fn json(address: &str, arguments: &[&str]) -> Value {
    let text = told(address, &[arguments, &["--json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The exit code and the error of a call that fails.
fn refused(output: &Output) -> (i32, String) {
    assert_eq!(text(&output.stdout), "");
    (output.status.code().unwrap(), text(&output.stderr))
}

/// A program that runs until it is dropped, and its lines.
struct Running {
    child: Killed,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn begin(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running { child: Killed(child), lines }
    }

    /// Waits until it says on stderr that it has begun.
    fn looks_on(mut self) -> Self {
        let mut errors = BufReader::new(self.child.stderr.take().unwrap());
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        assert_eq!(line, "pushctl: looking on\n");
        self.child.stderr = Some(errors.into_inner());
        self
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("it has ended").unwrap()
    }
}

#[test]
fn a_message_is_published_and_found_again() {
    let (host, at) = hub(&[]);
    let mut client = host.websocket("channel=n%C3%A4ws", true);
    client.text();
    let place = json(&at, &["publish", "n\u{e4}ws", "hello there", "--event", "tick", "--idempotency-key", "k"]);
    assert_eq!(place["subscribers"], 1);
    let message: Value = serde_json::from_str(&client.text()).unwrap();
    assert_eq!(
        (&message["data"], &message["event"], &message["id"]),
        (&json!("hello there"), &json!("tick"), &place["id"])
    );
    let again = told(&at, &["publish", "n\u{e4}ws", "again", "--idempotency-key", "k"]);
    assert_eq!(again, format!("{} to 0 subscribers\n", place["id"].as_str().unwrap()));

    // To users.
    let wrong = pushctl(&at, &["publish", "--user", "ada", "x", "y"]).output().unwrap();
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("either CHANNEL [DATA], or --user USER [DATA] is expected"));
    let off = pushctl(&at, &["publish", "--user", "ada", "x"]).output().unwrap();
    assert!(String::from_utf8_lossy(&off.stderr).contains("user_channel"), "{off:?}");
    let (users, at_users) = hub(&[("user_channel", "true")]);
    assert_eq!(json(&at_users, &["publish", "--user", "ada", "hello"])["subscribers"], 0);
    let two = told(&at_users, &["publish", "again", "--user", "ada", "--user", "b\u{f6}b"]);
    assert!(two.lines().count() == 2 && two.lines().all(|line| line.ends_with(" to 0 subscribers")), "{two}");
    let kept = told(&at_users, &["messages", "user:ada"]);
    assert!(kept.contains("hello") && kept.contains("again"), "{kept}");
    users.stop();

    // From the standard input, and bytes.
    let mut command = pushctl(&at, &["publish", "n\u{e4}ws", "--binary"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&[0, 255]).unwrap();
    assert!(child.wait().unwrap().success());
    let shown = told(&at, &["messages", "n\u{e4}ws", "--last", "5"]);
    let lines: Vec<&str> = shown.lines().map(|line| line.split_once("  ").unwrap().1).collect();
    assert_eq!(lines, ["[tick] hello there", "(base64) AP8="]);
    let since = json(&at, &["messages", "n\u{e4}ws", "--since", place["id"].as_str().unwrap(), "--limit", "5"]);
    assert_eq!((since["messages"].as_array().unwrap().len(), &since["gap"]), (1, &json!(false)));
    host.publish("a/b", "x");
    assert!(told(&at, &["messages", "a/b"]).ends_with("  x\n"), "a / belongs to the name");
    assert_eq!(refused(&pushctl(&at, &["messages", "nobody"]).output().unwrap()).0, 1);
    host.stop();
}

#[test]
fn lists_have_what_is_there() {
    let (host, at) = hub(&[]);
    let _clients = [host.websocket("channel=a&channel=b", true), host.websocket("channel=a", false)];
    host.publish("a", "x");
    let channels = told(&at, &["channels"]);
    let rows: Vec<Vec<&str>> = channels.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        rows[0],
        ["CHANNEL", "SUBSCRIBERS", "MESSAGES", "BYTES", "SLOW-CLOSED", "DROPPED", "REPLACED", "NEWEST"]
    );
    assert_eq!((rows[1][..3].to_vec(), rows[2][..3].to_vec()), (vec!["a", "2", "1"], vec!["b", "1", "0"]));
    assert_eq!(told(&at, &["channels", "b"]).lines().count(), 2);
    assert_eq!(json(&at, &["channels", "--limit", "1"])["more"], true);

    let connections = told(&at, &["connections", "--channel", "b"]);
    assert_eq!(connections.lines().count(), 2, "{connections}");
    assert!(connections.lines().nth(1).unwrap().ends_with("127.0.0.1  websocket  a,b"), "{connections}");
    assert_eq!(told(&at, &["connections", "--address-of", "127.0.0.1"]).lines().count(), 3);
    assert_eq!(told(&at, &["connections", "--user", "ada"]).lines().count(), 1);
    assert_eq!(told(&at, &["connections", "--slow"]).lines().count(), 1);
    assert_eq!(json(&at, &["connections", "--limit", "1"])["count"], 2);
    // All pages, one connection on each.
    let all = told(&at, &["connections", "--limit", "1", "--all", "--json"]);
    let ids: Vec<Value> = all
        .lines()
        .flat_map(|page| {
            let page: Value = serde_json::from_str(page).unwrap();
            page["connections"].as_array().unwrap().clone()
        })
        .map(|row| row["id"].clone())
        .collect();
    assert!(ids.len() == 2 && ids[0] != ids[1], "{all}");

    let users = told(&at, &["users", "a"]);
    assert!(users.ends_with("0 users, and 2 connections without a user\n"), "{users}");
    assert_eq!(json(&at, &["users", "a", "--limit", "3", "--after", "b"])["anonymous"], 2);
    let stats = told(&at, &["stats"]);
    assert!(stats.lines().any(|line| line.split_whitespace().eq(["published", "1"])), "{stats}");
    assert_eq!(json(&at, &["stats"])["websockets"], 2);
    let (code, error) = refused(&pushctl(&at, &["stats", "--cluster"]).output().unwrap());
    assert!(code == 1 && error.contains("shares no log"), "{error}");
    host.stop();
}

#[test]
fn options_and_hosts_are_shown() {
    let attach = format!("unix:{}", socket_path());
    let (host, at) = hub(&[("max_message", "7KB"), ("attach_listen", &attach), ("channel.a.*.presence", "true")]);
    let config = told(&at, &["config"]);
    let row =
        |name: &str| config.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(row("max_message "), ["max_message", "7KB", "1MB", "reload"]);
    assert_eq!(row("control_key "), ["control_key", "(not", "set)", "reload"]);
    assert!(config.ends_with("[channel.\"a.*\"]\n  presence = true\n"), "{config}");
    let one = told(&at, &["config", "outbox"]);
    let words: Vec<&str> = one.split_whitespace().collect();
    assert_eq!(words, ["OPTION", "VALUE", "DEFAULT", "CHANGES", "AT", "A", "outbox", "1MB", "1MB", "reload"]);
    assert!(!told(&at, &["config", "--changed"]).contains("outbox "));
    assert_eq!(json(&at, &["config", "max_message"])["options"][0]["value"], "7KB");
    let (code, error) = refused(&pushctl(&at, &["config", "outbx"]).output().unwrap());
    assert!(code == 2 && error.contains("there is no option \"outbx\""), "{error}");

    assert_eq!(told(&at, &["hosts"]).lines().count(), 1);
    let web = common::attached(&attach, &[("attach_name", "w\u{202e}eb")]);
    until("it is attached", || told(&at, &["hosts"]).lines().count() == 2);
    let hosts = told(&at, &["hosts"]);
    let process = std::process::id().to_string();
    assert!(hosts.contains("w\\u{202e}eb") && !hosts.contains('\u{202e}') && hosts.contains(&process), "{hosts}");
    assert_eq!(json(&at, &["hosts"])["hosts"][0]["adopted"], 0);
    web.stop(std::time::Duration::ZERO);
    host.stop();
}

#[test]
fn a_message_leaves_a_client_out() {
    let (host, at) = hub(&[]);
    let id = "0a1b2c3d-0000-4000-8000-00000000000a";
    let queries = [format!("channel=a&client={id}"), "channel=a".to_owned()];
    let mut clients = queries.map(|query| host.websocket(&query, true));
    clients.iter_mut().for_each(|client| drop(client.text()));
    let place = json(&at, &["publish", "a", "own", "--except", id]);
    let [theirs, others] = clients.each_mut().map(|client| serde_json::from_str::<Value>(&client.text()).unwrap());
    assert_eq!((&theirs["type"], &theirs["id"], theirs.get("data")), (&json!("position"), &place["id"], None));
    assert_eq!((&others["data"], &others["id"]), (&json!("own"), &place["id"]));
    let (code, error) = refused(&pushctl(&at, &["publish", "a", "x", "--except", "me"]).output().unwrap());
    assert!(code == 1 && error.contains("except must be a UUID"), "{error}");
    host.stop();
}

#[test]
fn what_is_published_is_seen_live_and_nothing_of_it_reaches_the_terminal_raw() {
    let (host, at) = hub(&[]);
    let mut tail = Running::begin(pushctl(&at, &["tail", "a*", "-n", "3"])).looks_on();
    let mut raw = Running::begin(pushctl(&at, &["tail", "a\u{202e}b", "--json"]));
    assert_eq!(raw.line(), r#"{"type":"open"}"#);
    let hostile = "\u{1b}[2J\u{1b}]0;x\u{7}\u{9b}31m\r\nline";
    let id = host.publish("a\u{202e}b", hostile);
    let line = tail.line();
    let cells: Vec<&str> = line.split("  ").collect();
    assert_eq!(cells[1..], ["a\\u{202e}b", &id, "21 B", "\\u{1b}[2J\\u{1b}]0;x\\u{7}\\u{9b}31m\\r\\nline"]);
    assert!(cells[0].ends_with('Z') && cells[0].contains('T'), "{line}");
    let line = raw.line();
    assert!(!line.contains(['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}']), "{line}");
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&value["channel"], &value["data"]), (&json!("a\u{202e}b"), &json!(hostile)));
    host.publish("other", "not this");
    host.publish("a.1", "two");
    host.publish("a.2", "three");
    assert!(tail.line().ends_with("two") && tail.line().ends_with("three"));
    assert!(tail.child.wait().unwrap().success(), "it ends after three");
    // The hub ends.
    let mut tail = Running::begin(pushctl(&at, &["tail", "*"])).looks_on();
    host.stop();
    let mut errors = String::new();
    tail.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!(tail.child.wait().unwrap().code(), Some(1));
    assert!(errors.contains("the tail ends: ") || errors.contains("can't be read"), "{errors}");
}

#[test]
fn connections_are_closed_by_number_by_user_and_all() {
    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    let (host, at) = hub(&[("auth", "jwt"), ("jwt_secret", SECRET)]);
    let connect = |user: &str| {
        let claims = json!({"sub": user, "exp": 4_000_000_000_u64, "push": {"subscribe": ["*"]}});
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
        host.websocket(&format!("channel=a&token={token}"), false)
    };
    let [mut ada, mut bob, mut eve, mut joe] = ["ada", "bob", "eve", "joe"].map(connect);
    let of =
        |user: &str| json(&at, &["connections", "--user", user])["connections"][0]["id"].as_str().unwrap().to_owned();
    let id = of("ada");
    assert_eq!(told(&at, &["kick", &id, "--code", "4000", "--reason", "slow"]), format!("{id} is closed\n"));
    assert_eq!(ada.end(), (4000, "slow".into()));
    assert_eq!(told(&at, &["kick", "--user", "bob", "--user", "nobody"]), "1 connections are closed at this hub\n");
    assert_eq!(bob.end(), (4403, "disconnected".into()));
    // Of several the others are closed nevertheless.
    let id = of("eve");
    let output = pushctl(&at, &["kick", "1", &id]).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), format!("{id} is closed\n")));
    assert!(text(&output.stderr).contains("1: the hub answers 404: no such connection"), "{output:?}");
    eve.end();
    for wrong in [&["kick"][..], &["kick", "1", "--all"], &["kick", "--user", "joe", "--all"]] {
        let (code, error) = refused(&pushctl(&at, wrong).output().unwrap());
        assert!(code == 2 && error.contains("either numbers of connections, or --user USER, or --all"), "{error}");
    }
    assert_eq!(json(&at, &["kick", "--all"])["closed"], 1);
    joe.end();
    host.stop();
}

#[test]
fn rates_are_shown_live() {
    let (host, at) = hub(&[]);
    let _client = host.websocket("channel=a", false);
    let mut top = Running::begin(pushctl(&at, &["top", "--interval", "1", "--json"]));
    let value = loop {
        host.publish("a", "x");
        let line: Value = serde_json::from_str(&top.line()).unwrap();
        if line["rates"]["published"].as_f64() > Some(0.0) {
            break line;
        }
    };
    assert_eq!(
        (&value["stats"]["websockets"], &value["slow"]["count"], &value["hosts"]),
        (&json!(1), &json!(0), &json!([]))
    );
    drop(top);
    let page = told(&at, &["top", "--interval", "1", "-n", "1"]);
    assert!(page.contains("1 connections (websocket 1, ") && page.contains("0 clients are behind"), "{page}");
    assert!(!page.contains('\u{1b}'), "no terminal reads it");
    host.stop();
}

#[test]
fn the_key_comes_from_a_file_or_the_environment_and_never_from_an_argument() {
    let host = Host::start(&CONTROL);
    let (at, key) = (host.server.addresses()[1].clone(), CONTROL[1].1);
    let file = std::env::temp_dir().join(format!("pushctl-key-{}", std::process::id()));
    std::fs::write(&file, format!("{key}\n")).unwrap();
    let file = file.display().to_string();
    let with = |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut command = pushctl(&at, arguments);
        command.envs(variables.iter().copied()).output().unwrap()
    };
    assert!(with(&[], &["stats", "-k", &file]).status.success());
    assert!(with(&[("PUSHCTL_KEY", key)], &["stats"]).status.success());
    assert!(with(&[("PUSHCTL_KEY_FILE", &file)], &["stats"]).status.success());
    // A flag counts more than the environment.
    assert!(with(&[("PUSHCTL_KEY", "wrong-wrong-wrong")], &["stats", "-k", &file]).status.success());
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushctl"));
    command.env_clear().env("PUSHCTL_ADDRESS", format!("http://{at}/")).env("PUSHCTL_KEY", key).arg("stats");
    assert!(command.output().unwrap().status.success());
    for (variables, arguments, code, part) in [
        (&[][..], &["stats"][..], 1, "no key is given: use -k FILE"),
        (&[("PUSHCTL_KEY", "wrong-wrong-wrong")], &["stats"], 1, "not that of this hub"),
        (&[("PUSHCTL_KEY", "two words")], &["stats"], 2, "the key is empty, or has spaces"),
        (&[], &["stats", "-k", "/nowhere/at/all"], 2, "key file /nowhere/at/all"),
        (&[], &["stats", "--key", key], 2, "everybody on this machine could read it"),
        (&[], &["tail", "a"], 1, "no key is given"),
    ] {
        let (got, error) = refused(&with(variables, arguments));
        assert!(got == code && error.contains(part) && !error.contains(key), "{arguments:?}: {got} {error}");
        assert!(!error.contains("wrong-wrong"), "{error}");
    }
    std::fs::remove_file(&file).unwrap();
    host.stop();
    let (code, error) = refused(&with(&[("PUSHCTL_KEY", key)], &["stats"]));
    assert!(code == 1 && error.contains("can't be reached"), "{error}");
}

#[test]
fn wrong_arguments_are_named_and_help_is_there() {
    let output = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pushctl"));
        command.env_clear().args(arguments).output().unwrap()
    };
    let file = std::env::temp_dir().join(format!("pushctl-a-key-{}", std::process::id()));
    std::fs::write(&file, "a-key\n").unwrap();
    let key = file.to_str().unwrap();
    for (arguments, part) in [
        (&[][..], "a command is missing"),
        (&["kik"], "unknown command \"kik\"; there are publish, tail"),
        (&["stats", "--slow"], "stats has no flag --slow"),
        (&["stats", "x\u{1b}[2J"], "nothing is expected"),
        (&["kik\u{1b}[2J"], "unknown command"),
        (&["tail", "a", "-n", "+2"], "a number from 1 on is expected"),
        (&["tail", "a", "-n", "007"], "a number from 1 on is expected"),
        (&["--ca", "/x", "-a", "unix:/x", "stats"], "--ca is for addresses that begin with https://"),
        (&["-a", "h", "stats"], "HOST:PORT is expected"),
        (&["tail", "a", "-n", "0"], "a number from 1 on is expected"),
        (&["connections", "--slow", "--all"], "has no further pages"),
        (&["-k", "/dev/null", "stats"], "the key is empty"),
        (
            &["-a", "example.org:9099", "-k", key, "stats"],
            "goes to example.org:9099 in clear, and everybody on the way can read it; use https://",
        ),
        (&["completion", "csh"], "bash, zsh or fish"),
    ] {
        let (code, error) = refused(&output(arguments));
        assert!(code == 2 && error.contains(part) && error.contains("-h shows the usage"), "{arguments:?}: {error}");
        assert!(!error.contains('\u{1b}'), "{error:?}");
    }
    std::fs::remove_file(&file).unwrap();
    let usage = text(&output(&["--help"]).stdout);
    assert!(usage.contains("connections") && usage.contains("--slow"), "{usage}");
    assert_eq!(text(&output(&["-V"]).stdout), format!("pushctl {}\n", env!("CARGO_PKG_VERSION")));
    // A reader that has seen enough does not make it panic.
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushctl"));
    let mut child = command.arg("-h").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!((child.wait().unwrap().code(), errors), (Some(0), String::new()));
}

#[test]
fn bash_completes_commands_and_their_flags() {
    let script =
        text(&Command::new(env!("CARGO_BIN_EXE_pushctl")).args(["completion", "bash"]).output().unwrap().stdout);
    let completed = |words: &str| {
        let test = format!("{script}\nCOMP_WORDS=({words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n_pushctl\necho \"${{COMPREPLY[@]}}\"");
        let output = Command::new("bash").args(["--norc", "-c", &test]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
        text(&output.stdout).trim().to_owned()
    };
    assert_eq!(completed("pushctl co"), "connections config completion");
    shells::completes_flags(completed);
    assert_eq!(completed("pushctl -a unix:/x --json mess"), "messages");
    assert_eq!(completed("pushctl completion ''"), "bash zsh fish");
    assert_eq!(completed("pushctl -a ''"), "", "an address is not completed");
    // As bash takes `-a unix:/x`, `--address=unix:/x` and `tail user:1` apart.
    assert_eq!(completed("pushctl -a unix : /x mess"), "messages");
    assert_eq!(completed("pushctl --address = unix : /x mess"), "messages");
    assert_eq!(completed("pushctl tail user : 1 --cou"), "--count");
}
