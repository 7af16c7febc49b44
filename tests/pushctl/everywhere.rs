//! Each command against each kind of hub: in the program itself, over TLS, with an attached host that hands the clients
//! over, and as one of two hubs that share a log.

use super::common::nats::Nats;
use super::common::redis::Redis;
use super::common::{adopted, attached, socket_path, until, Client, PATIENCE, UPGRADE};
use super::{hub, pushctl, refused, text, Running};
use percent_encoding::{utf8_percent_encode, NON_ALPHANUMERIC};
use push::grant::Grant;
use push::hub::Publication;
use push::{Kind, Server};
use serde_json::{json, Value};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

/// A hub as pushctl reaches it: its address, and what the environment says. It notes the commands that were tried.
pub(super) struct At {
    address: String,
    pub(super) variables: Vec<(&'static str, String)>,
    tried: RefCell<BTreeSet<String>>,
    /// Whether something was asked again, since the log or a hub of it was late.
    was_late: Cell<bool>,
}

impl At {
    pub(super) fn new(address: &str, variables: &[(&'static str, &str)]) -> Self {
        let variables = variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        At { address: address.to_owned(), variables, tried: RefCell::default(), was_late: Cell::default() }
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        self.tried.borrow_mut().insert(arguments[0].to_owned());
        let mut command = pushctl(&self.address, arguments);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// What it writes if it ends well. On a slow machine a hub of the log may be late, or the log itself; then it is
    /// asked again. So what is published has a key, and for what closes connections there is `kicked`.
    pub(super) fn told(&self, arguments: &[&str]) -> String {
        let mut told = String::new();
        until("all hubs answer in time", || {
            let output = self.command(arguments).output().unwrap();
            let errors = text(&output.stderr);
            let late = errors.contains(" hubs have answered in time") || errors.contains("answers 504");
            assert!(output.status.success() || late, "{arguments:?}: {errors}");
            told = text(&output.stdout);
            self.was_late.set(self.was_late.get() || late);
            !late
        });
        told
    }

    pub(super) fn json(&self, arguments: &[&str]) -> Value {
        // A name may begin with a -, behind a --.
        let text = self.told(&[&arguments[..1], &["--json"], &arguments[1..]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }

    /// The row of a table that begins with this word, in words.
    fn row(&self, arguments: &[&str], first: &str) -> Vec<String> {
        self.row_if(arguments, first).unwrap_or_else(|| panic!("{first}: {}", self.told(arguments)))
    }

    /// The same, if there is one.
    fn row_if(&self, arguments: &[&str], first: &str) -> Option<Vec<String>> {
        let table = self.told(arguments);
        let mut rows = table.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        rows.find(|row| row.first().is_some_and(|word| word == first))
    }

    /// Closes connections, and checks what it says. If the log is late, it only says that this hub has done it.
    fn kicked(&self, arguments: &[&str], begins: &str) {
        let output = self.command(arguments).output().unwrap();
        let (told, errors) = (text(&output.stdout), text(&output.stderr));
        let late = errors.contains("answers 504") && errors.contains("this hub has done it");
        assert!(late || told.starts_with(begins), "{arguments:?}: {told} {errors}");
    }
}

/// A WebSocket of a user on a channel, which this server hands over.
pub(super) fn connect(server: &Server, user: &str, channel: &str) -> Client {
    let name = utf8_percent_encode(channel, NON_ALPHANUMERIC);
    let head = format!("GET /push?channel={name} HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}\r\n");
    let grant = Grant::new(Some(user), &[channel.to_owned()], &[], 0, false, false).unwrap();
    let mut client = adopted(server, &head, Some(grant));
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client
}

/// Tries each command that there is. The clients are handed over by this server.
pub(super) fn each_command(at: &At, server: &Server) {
    let [mut ada, mut bob] = ["ada", "bob"].map(|user| connect(server, user, "news"));
    until("both are there", || at.json(&["users", "news"])["count"] == 2);

    // What is published is seen, arrives, and is kept.
    let mut tail = Running::begin(at.command(&["tail", "news", "-n", "1"])).looks_on();
    let place = at.json(&["publish", "news", "hello", "--event", "said", "--idempotency-key", "said"]);
    let id = place["id"].as_str().unwrap();
    // A message with a key that is known reaches nobody any more.
    assert!(place["subscribers"] == 2 || at.was_late.get(), "{place}");
    assert!(tail.line().ends_with(&format!("  news  {id}  5 B  [said] hello")), "{id}");
    assert!(tail.child.wait().unwrap().success());
    assert_eq!((ada.text(), bob.text()), ("hello".to_owned(), "hello".to_owned()));
    assert!(at.told(&["messages", "news", "--last", "1"]).ends_with(&format!("{id}  [said] hello\n")));
    assert_eq!(at.json(&["messages", "news", "--last", "1"])["messages"][0]["id"], id);

    // Who and what is there.
    assert_eq!(at.row(&["channels", "news"], "news")[1..3], ["2", "1"]);
    assert_eq!(at.json(&["channels", "news"])["channels"][0]["id"], id);
    assert_eq!(at.row(&["users", "news"], "ada")[1..], ["1"]);
    let listed = at.json(&["connections", "--user", "ada"]);
    let of_ada = listed["connections"][0]["id"].as_str().unwrap();
    assert_eq!(listed["count"], 1);
    let row = at.row(&["connections"], of_ada);
    assert_eq!(row[row.len() - 4..], ["ada", "127.0.0.1", "websocket", "news"]);
    assert_eq!(at.row(&["stats"], "connections")[1..], ["2"]);
    assert_eq!(at.json(&["stats"])["websockets"], 2);
    assert_eq!(at.row(&["config", "path"], "path")[1..], ["/push", "/push", "reload"]);
    assert_eq!(at.json(&["config", "path"])["options"][0]["value"], "/push");
    let hosts = at.json(&["hosts"])["hosts"].as_array().unwrap().len();
    assert_eq!(at.told(&["hosts"]).lines().count(), 1 + hosts);
    // A hub that shares no log knows no others.
    let alone = at.json(&["config", "engine"])["options"][0]["value"] == "memory";
    let hubs = at.command(&["hubs"]).output().unwrap();
    let told = text(if alone { &hubs.stderr } else { &hubs.stdout });
    assert_eq!(hubs.status.success(), !alone, "{told}");
    assert!(told.contains(if alone { "this hub shares no log with others" } else { "NAME" }), "{told}");
    let page = at.told(&["top", "--interval", "1", "-n", "1"]);
    assert!(
        page.contains(&at.address.replace("tls:", "https://")) && page.contains("2 connections (websocket 2,"),
        "{page}"
    );
    assert_eq!(at.json(&["top", "--interval", "1", "-n", "1"])["stats"]["connections"], 2);

    // What can be done.
    let kicked = at.told(&["kick", of_ada, "--code", "4000", "--reason", "slow"]);
    assert_eq!((kicked, ada.end()), (format!("{of_ada} is closed\n"), (4000, "slow".to_owned())));
    at.kicked(&["kick", "--user", "bob"], "1 connections are closed at this hub");
    assert_eq!(bob.end(), (4403, "disconnected".to_owned()));
    until("nobody is there", || at.json(&["connections"])["count"] == 0);
    assert!(at.told(&["completion", "bash"]).contains("complete -o default -F _pushctl pushctl"));

    // None was forgotten: the usage has a line for each.
    let usage = text(&Command::new(env!("CARGO_BIN_EXE_pushctl")).arg("-h").output().unwrap().stdout);
    let is_command = |line: &&str| line.starts_with("  ") && line[2..].starts_with(|c: char| c.is_ascii_lowercase());
    let names = usage.lines().filter(is_command).map(|line| line.split_whitespace().next().unwrap().to_owned());
    assert_eq!(*at.tried.borrow(), names.collect::<BTreeSet<_>>());
}

#[test]
fn each_command_asks_a_hub_in_the_program_itself() {
    let (host, address) = hub(&[]);
    each_command(&At::new(&address, &[]), &host.server);
    host.stop();
}

#[test]
fn each_command_sees_and_ends_what_an_attached_host_has_handed_over() {
    let attach = format!("unix:{}", socket_path());
    let (hub, address) = hub(&[("attach_listen", &attach)]);
    let at = At::new(&address, &[]);
    let web = attached(&attach, &[("attach_name", "web")]);
    each_command(&at, &web);

    // The host is listed with what it has handed over. The hub's own client stands beside its clients.
    assert_eq!(at.row(&["hosts"], "web")[1], std::process::id().to_string());
    assert_eq!(at.json(&["hosts"])["hosts"][0]["adopted"], 2);
    let [mut of_host, mut own] = [&web, &hub.server].map(|server| connect(server, "eve", "news"));
    until("both are there", || at.json(&["connections", "--user", "eve"])["count"] == 2);
    assert_eq!(at.told(&["kick", "--user", "eve", "--reason", "bye"]), "2 connections are closed at this hub\n");
    assert_eq!([of_host.end(), own.end()], [(4403, "bye".to_owned()), (4403, "bye".to_owned())]);
    // What the host publishes is seen.
    let mut tail = Running::begin(at.command(&["tail", "*", "--json"]));
    assert_eq!(tail.line(), r#"{"type":"open"}"#);
    web.publish(&Publication::new("other", b"from the host")).unwrap();
    let seen: Value = serde_json::from_str(&tail.line()).unwrap();
    assert_eq!((&seen["channel"], &seen["data"]), (&json!("other"), &json!("from the host")));
    drop(tail);
    // A client stays when its host has gone, and can still be ended.
    let mut stays = connect(&web, "joe", "news");
    web.stop(Duration::ZERO);
    until("the host has gone", || at.json(&["hosts"])["hosts"] == json!([]));
    assert_eq!(at.json(&["kick", "--user", "joe"])["closed"], 1);
    assert_eq!(stays.end().0, 4403);
    hub.stop();
}

#[test]
fn each_command_asks_one_of_two_hubs_over_redis_and_what_is_about_all_reaches_the_other() {
    each_command_asks_one_of_two_hubs(&Redis::started().url());
}

#[test]
fn each_command_asks_one_of_two_hubs_over_nats_and_what_is_about_all_reaches_the_other() {
    each_command_asks_one_of_two_hubs(&Nats::started().url());
}

fn each_command_asks_one_of_two_hubs(log: &str) {
    // Answers of all hubs count only when they have known each other for the time of engine_timeout.
    let options = |name| [("engine", log), ("engine_timeout", "8s"), ("history_count", "100"), ("hub_name", name)];
    let ((one, address_of_one), (two, address_of_two)) = (hub(&options("one")), hub(&options("two")));
    let (at_one, at_two) = (At::new(&address_of_one, &[]), At::new(&address_of_two, &[]));
    let is_whole = |at: &At| {
        let hubs = &at.json(&["users", "news"])["hubs"];
        hubs["answered"] == 2 && hubs["partial"].is_null()
    };
    // A client waits for the hub's start no longer than engine_timeout.
    assert!([&one, &two].iter().all(|hub| hub.server.readiness().wait(PATIENCE)));
    let first = [connect(&one.server, "zoe", "news"), connect(&two.server, "zoe", "news")];
    until("both answer", || is_whole(&at_one) && is_whole(&at_two));
    drop(first);
    until("they have gone", || [&at_one, &at_two].iter().all(|at| at.json(&["connections"])["count"] == 0));
    each_command(&at_two, &two.server);

    // The hubs have names.
    let named = |name: &str, here: bool| {
        let answer = at_two.json(&["hubs"]);
        let known = answer["hubs"].as_array().unwrap().iter().find(|hub| hub["name"] == name).cloned().unwrap();
        assert_eq!(known["here"], here, "{known}");
        let row = at_two.row(&["hubs"], name);
        assert_eq!(
            (&*row[1], &**row.last().unwrap()),
            (known["hub"].as_str().unwrap(), if here { "yes" } else { "no" })
        );
        row[2] == "up"
    };
    until("both are up", || named("one", false) && named("two", true));

    // A number is of one hub. The other one refuses it, says why, and closes nothing.
    let mut far = connect(&one.server, "far", "news");
    let listed = at_one.json(&["connections", "--user", "far"]);
    let id = listed["connections"][0]["id"].as_str().unwrap();
    let why = "no such connection at this hub; it has ended, or another hub of the log has it: ask that hub";
    let (code, error) = refused(&at_two.command(&["kick", id]).output().unwrap());
    assert!(code == 1 && error.contains(&format!("{id}: the hub answers 404: {why}\n")), "{error}");
    let error = two.server.close(id.parse().unwrap(), 4000, "").unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (Kind::NotFound, why.to_owned()));
    at_two.json(&["publish", "news", "still there", "--idempotency-key", "far"]);
    assert_eq!(far.text(), "still there");
    assert_eq!(at_one.told(&["kick", id, "--code", "4000"]), format!("{id} is closed\n"));
    assert_eq!(far.end().0, 4000);
    until("it has gone", || at_one.json(&["connections"])["count"] == 0);

    // A user of both hubs, and one of the other alone.
    let [mut here, mut there] = [&two, &one].map(|hub| connect(&hub.server, "ada", "news"));
    let mut bob = connect(&one.server, "bob", "news");
    // If a heartbeat is late, a hub answers for itself alone.
    let is = |arguments: &[&str], first: &str, second: &str| {
        at_two.row_if(arguments, first).is_some_and(|row| row[1] == second)
    };
    until("the users of both are one list", || {
        let table = at_two.told(&["users", "news"]);
        let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        rows.len() == 4 && rows[1..3] == [["ada", "2"], ["bob", "1"]]
    });
    until("the subscribers of both are added up", || is(&["channels", "news"], "news", "3"));
    // Connections and counters are those of one hub, unless all are asked for.
    assert_eq!(
        (&at_two.json(&["connections"])["count"], &at_one.json(&["connections"])["count"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(at_two.row(&["stats"], "connections")[1], "1");
    until("the counters of both are added up", || is(&["stats", "--cluster"], "connections", "3"));
    until("those of each are there", || {
        at_two.json(&["stats", "--cluster"])["each"].as_array().is_some_and(|each| each.len() == 2)
    });

    // Messages and ends reach both.
    let mut tail = Running::begin(at_one.command(&["tail", "news", "-n", "1"])).looks_on();
    let placed = at_two.json(&["publish", "news", "to all", "--idempotency-key", "all"]);
    let id = placed["id"].as_str().unwrap();
    assert!(tail.line().ends_with(&format!("  news  {id}  6 B  to all")));
    for client in [&mut here, &mut there, &mut bob] {
        assert_eq!(client.text(), "to all");
    }
    assert!(at_one.told(&["messages", "news", "--last", "1"]).ends_with(&format!("{id}  to all\n")));
    at_two.kicked(
        &["kick", "--user", "ada", "--user", "bob", "--code", "4001", "--reason", "bye"],
        "1 connections are closed at this hub; the other hubs of the log close theirs as they read of it\n",
    );
    for client in [&mut here, &mut there, &mut bob] {
        assert_eq!(client.end(), (4001, "bye".to_owned()));
    }
    // All of one hub are not all of the other.
    let mut stays = connect(&one.server, "eve", "news");
    let mut goes = connect(&two.server, "eve", "news");
    until("it is there", || at_two.json(&["connections"])["count"] == 1);
    let closed = at_two.told(&["kick", "--all"]);
    assert!(
        closed.starts_with("1 connections are closed at this hub; the other hubs of the log were not told"),
        "{closed}"
    );
    assert_eq!(goes.end().0, 4403);
    at_one.json(&["publish", "news", "still there", "--idempotency-key", "stays"]);
    assert_eq!(stays.text(), "still there");
    // The other hub has gone: what is left answers, and says so.
    one.stop();
    until("one hub is left", || at_two.json(&["users", "news"])["hubs"]["asked"] == 1);
    assert!(at_two.told(&["users", "news"]).starts_with("USER"));
    let (code, error) = refused(&at_one.command(&["users", "news"]).output().unwrap());
    assert!(code == 1 && error.contains("can't be reached"), "{error}");
    two.stop();
}

#[cfg(feature = "tls")]
mod secure {
    use super::*;
    use crate::certificates::Pair;
    use crate::common::{Host, Lines};

    const KEY: &str = "0123456789abcdef";

    fn start(pair: &Pair, options: &[(&str, &str)]) -> (Host, Lines, String) {
        let mut all = vec![("control", "tls:127.0.0.1:0"), ("control_key", KEY)];
        all.extend(pair.options());
        all.extend(options);
        let (host, lines) = Host::logged(&all);
        let address = host.server.addresses().iter().find(|address| address.starts_with("tls:")).unwrap().clone();
        (host, lines, address)
    }

    #[test]
    fn each_command_asks_a_hub_over_tls() {
        let pair = Pair::new(&["push.example"]);
        let (host, _, address) = start(&pair, &[]);
        let variables =
            [("PUSHCTL_KEY", KEY), ("PUSHCTL_CA", &*pair.certificate), ("PUSHCTL_SERVER_NAME", "push.example")];
        each_command(&At::new(&address, &variables), &host.server);
        // The flags count more than the environment, and the address may be a URL.
        let wrong = [("PUSHCTL_KEY", KEY), ("PUSHCTL_CA", "/nowhere"), ("PUSHCTL_SERVER_NAME", "a.example")];
        let at = At::new(&address.replace("tls:", "https://"), &wrong);
        let flags = ["stats", "--ca", &pair.certificate, "--server-name", "push.example"];
        assert!(at.told(&flags).starts_with("NAME"));
        // A tail ends with its hub.
        let mut tail = Running::begin(At::new(&address, &variables).command(&["tail", "*"])).looks_on();
        host.stop();
        assert!(tail.lines.next().is_none());
        assert_eq!(tail.child.wait().unwrap().code(), Some(1));
    }

    #[test]
    fn the_key_goes_to_nobody_but_the_hub_that_is_meant() {
        let (pair, other) = (Pair::new(&["push.example", "127.0.0.1"]), Pair::new(&["push.example", "127.0.0.1"]));
        let (host, lines, address) = start(&pair, &[]);
        let by_ip = At::new(&address, &[("PUSHCTL_KEY", KEY), ("PUSHCTL_CA", &pair.certificate)]);
        assert!(by_ip.told(&["stats"]).starts_with("NAME"), "an address may stand in the certificate");
        let plain = address.replace("tls:", "");
        let rubbish = other.key.as_str();
        for (address, flags, code, part) in [
            // Not the authority, not the name, and authorities of the system, none of which knows this one.
            (&*address, &["--ca", &*other.certificate][..], 1, "invalid peer certificate"),
            (&address, &["--ca", &pair.certificate, "--server-name", "10.0.0.1"], 1, "invalid peer certificate"),
            (&address, &["--ca", &pair.certificate, "--server-name", "b.example"], 1, "can't be reached"),
            (&address, &["--ca", &pair.certificate, "--server-name", "b c"], 2, "\"b c\" is no name of a server"),
            (&address, &["--ca", rubbish], 2, "it has no certificate in PEM"),
            (&address, &["--ca", "/nowhere"], 2, "file /nowhere: "),
            (&address, &["--ca", &pair.certificate, "--cert", &other.certificate], 2, "belong together"),
            (
                &address,
                &["--ca", &pair.certificate, "--cert", &other.certificate, "--cert-key", &pair.key],
                2,
                "with key",
            ),
            (
                &address,
                &["--ca", &pair.certificate, "--cert", &other.certificate, "--cert-key", &other.certificate],
                2,
                "no private key in PEM",
            ),
            // Plain HTTP to the same port, and TLS flags where there is no TLS.
            (&plain, &[], 1, "the hub answers 400: this port speaks HTTPS"),
            (&plain, &["--ca", &pair.certificate], 2, "--ca is for addresses that begin with https://"),
            ("unix:/x", &["--server-name", "a"], 2, "--server-name is for addresses that begin with https://"),
        ] {
            let at = At::new(address, &[("PUSHCTL_KEY", KEY)]);
            let (got, error) = refused(&at.command(&[&["stats"], flags].concat()).output().unwrap());
            assert!(got == code && error.contains(part), "{address} {flags:?}: {got} {error}");
            assert!(!error.contains(KEY) && !error.contains("PRIVATE"), "{error}");
        }
        // To this hub the key of the wrong calls has not come. TLS to a hub that has none is an error, too.
        assert!(!lines.lock().unwrap().iter().any(|line| line.contains(KEY)));
        let open = Host::start(&crate::common::CONTROL);
        let address = format!("https://{}", open.server.addresses()[1]);
        let at = At::new(&address, &[("PUSHCTL_KEY", KEY), ("PUSHCTL_CA", &pair.certificate)]);
        let (code, error) = refused(&at.command(&["stats"]).output().unwrap());
        assert!(code == 1 && error.contains(&format!("{address} can't be reached")), "{error}");
        open.stop();
        host.stop();
    }

    #[test]
    fn a_hub_that_asks_for_a_certificate_gets_it() {
        let (pair, own, strange) = (Pair::new(&["push.example"]), Pair::new(&["ops"]), Pair::new(&["ops"]));
        let (host, lines, address) = start(&pair, &[("tls_client_ca", &own.certificate)]);
        let with = |own: Option<&Pair>| {
            let (ca, name) = (("PUSHCTL_CA", &*pair.certificate), ("PUSHCTL_SERVER_NAME", "push.example"));
            let mut variables = vec![("PUSHCTL_KEY", KEY), ca, name];
            if let Some(own) = own {
                variables.extend([("PUSHCTL_CERT", &*own.certificate), ("PUSHCTL_CERT_KEY", &*own.key)]);
            }
            At::new(&address, &variables)
        };
        each_command(&with(Some(&own)), &host.server);
        for stranger in [None, Some(&strange)] {
            let (code, error) = refused(&with(stranger).command(&["stats"]).output().unwrap());
            assert!(code == 1 && error.contains("https://127.0.0.1"), "{error}");
        }
        until("it is logged", || lines.lock().unwrap().iter().any(|line| line.contains("control API: TLS: ")));
        host.stop();
    }
}
