//! Options change while the server runs. If they can't, everything stays as it was.

mod common;

use common::{builder, field, metrics, socket_path, until, Client, Host, UPGRADE};
use push::error::Kind;
use push::grant::Grant;
use push::hub::Publication;
use push::{Error, Server};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

fn reload(host: &Host, options: &[(&str, &str)]) -> Result<(Vec<&'static str>, Vec<&'static str>), Error> {
    host.server.reload(&builder(options)).map(|reloaded| (reloaded.changed, reloaded.left))
}

/// The result of a poll for the whole history of a channel: the data of messages, and "gap" for a gap.
fn history(host: &Host, channel: &str, since: &str) -> Vec<String> {
    let (_, body) = host.get(&format!("channel={channel}&since={since}"), "").response();
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let one = |message: &serde_json::Value| match message["type"].as_str() {
        Some("gap") => "gap".into(),
        _ => field(&message.to_string(), "data"),
    };
    body["messages"].as_array().unwrap().iter().map(one).collect()
}

#[test]
fn new_options_apply_to_new_connections_and_old_ones_stay() {
    let (host, lines) = Host::logged(&[]);
    let mut old = host.websocket("channel=a", false);
    let origin = "Origin: https://other.example\r\n";
    assert!(host.get("channel=a", &format!("{UPGRADE}{origin}")).head().starts_with("HTTP/1.1 403 "));
    let options =
        [("allowed_origins", "https://other.example"), ("path", "/live"), ("max_message", "10"), ("threads", "3")];
    let (changed, left) = reload(&host, &options).unwrap();
    assert_eq!((changed, left), (vec!["path", "allowed_origins", "max_message"], vec!["threads"]));
    // A shard takes commands before it takes connections, but this one may have been on its way already.
    until("the new path is served", || {
        let mut client = host.connect();
        let request = format!("GET /live?channel=a HTTP/1.1\r\nHost: localhost\r\n{origin}{UPGRADE}\r\n");
        client.send(request.as_bytes());
        client.head().starts_with("HTTP/1.1 101 ")
    });
    assert!(host.get("channel=a", UPGRADE).head().starts_with("HTTP/1.1 404 "));
    let error = host.server.publish(&Publication::new("a", b"too long now")).unwrap_err();
    assert_eq!(error.kind(), Kind::TooLarge);
    host.publish("a", "short");
    assert_eq!(old.text(), "short");
    for told in [
        "Info options reloaded: path, allowed_origins, max_message changed",
        "Warn these options need a restart and stay as they are: threads",
    ] {
        until(told, || lines.lock().unwrap().iter().any(|line| line == told));
    }
    host.stop();
}

#[test]
fn an_origin_that_no_browser_sends_is_refused_and_changes_nothing() {
    let (host, _) = Host::logged(&[("allowed_origins", "https://app.example")]);
    let mut builder = builder(&[]);
    for (wrong, told) in [
        ("https://app.example:443", "browsers leave out :443: write https://app.example"),
        ("https://app.example/", "browsers send no path: write https://app.example"),
        ("app.example", "a scheme is missing: write https://app.example"),
    ] {
        let error = builder.set("allowed_origins", wrong).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.to_string().ends_with(told), "{error}");
    }
    reload(&host, &[("allowed_origins", "https://*.app.example")]).unwrap();
    let head = |origin: &str| host.get("channel=a&wait=0", &format!("Origin: {origin}\r\n")).head();
    until("a subdomain may", || head("https://www.app.example").starts_with("HTTP/1.1 200 "));
    assert!(head("https://app.example").starts_with("HTTP/1.1 403 "));
    host.stop();
}

#[test]
fn presence_is_refused_where_hubs_share_a_log() {
    let on = ("channel.room.*.presence", "true");
    let of_users = ("channel.user:*.presence", "true");
    let told = |error: Error, parts: &[&str]| {
        let text = error.to_string();
        assert!(error.kind() == Kind::Config && parts.iter().all(|part| text.contains(part)), "{text}");
    };
    let shared = ["option channel.room.*.presence", "option engine", "GET /v1/users asks all hubs"];
    // Nobody is at these ports. The check of the options comes before the look at the log.
    for engine in ["redis://127.0.0.1:1", "rediss://127.0.0.1:1", "nats://127.0.0.1:1", "tls://127.0.0.1:1"] {
        told(Server::start(builder(&[("engine", engine), on])).err().unwrap(), &shared);
    }
    told(Server::start(builder(&[of_users])).err().unwrap(), &["channel.user:*.presence", "users' own channels"]);
    let host = Host::start(&[("engine", "redis://127.0.0.1:1"), ("max_message", "1KB")]);
    for wanted in [&[on, ("max_message", "2KB")][..], &[("engine", "redis://127.0.0.1:1"), on]] {
        told(reload(&host, wanted).unwrap_err(), &shared);
        // It changes nothing.
        assert_eq!(host.server.publish(&Publication::new("a", &[b'x'; 1500])).unwrap_err().kind(), Kind::TooLarge);
    }
    let (changed, _) = reload(&host, &[("max_message", "1KB"), ("presence_grace", "1m")]).unwrap();
    assert_eq!(changed, ["presence_grace"]);
    host.stop();
    let alone = Host::start(&[]);
    let (changed, left) = reload(&alone, &[on, ("presence_detail", "7"), ("presence_total", "1MB")]).unwrap();
    assert_eq!((changed, left), (vec!["presence_detail", "presence_total", "channel.*"], vec![]));
    told(reload(&alone, &[of_users]).unwrap_err(), &["channel.user:*.presence", "users' own channels"]);
    assert_eq!(reload(&alone, &[]).unwrap().0, ["presence_detail", "presence_total", "channel.*"]);
    alone.stop();
}

#[test]
fn history_is_trimmed_at_once_and_grows_from_then_on() {
    let (host, _) = Host::logged(&[]);
    let start = host.server.position(0);
    for n in 0..10 {
        host.publish("news.a", &n.to_string());
        host.publish("b", &n.to_string());
    }
    reload(&host, &[("channel.news.*.history_count", "2")]).unwrap();
    assert_eq!(history(&host, "news.a", &start), ["gap", "8", "9"]);
    assert_eq!(history(&host, "b", &start).len(), 10);
    // With another set of patterns, kept messages stay under the new ones.
    reload(&host, &[("channel.news.*.history_count", "2"), ("channel.b.history_count", "3")]).unwrap();
    assert_eq!(history(&host, "b", &start), ["gap", "7", "8", "9"]);
    reload(&host, &[("history_count", "5")]).unwrap();
    for n in 10..14 {
        host.publish("b", &n.to_string());
    }
    assert_eq!(history(&host, "b", &start), ["gap", "9", "10", "11", "12", "13"]);
    reload(&host, &[("history_count", "0")]).unwrap();
    assert_eq!(host.server.stats().unwrap().history_messages, 0);
    host.stop();
}

#[test]
fn the_heartbeat_of_a_connection_changes_with_its_next_one() {
    let (host, _) = Host::logged(&[("heartbeat", "300ms")]);
    let mut client = host.get("channel=a&transport=stream", "");
    client.head();
    reload(&host, &[("heartbeat", "100ms")]).unwrap();
    // Empty lines come in chunks. With the first option, or with none, they would come slowly or never.
    for _ in 0..5 {
        client.until("\r\n\n\r\n");
    }
    host.stop();
}

#[test]
fn keys_are_read_again_and_bad_ones_change_nothing() {
    let path = std::env::temp_dir().join(format!("push-{}-jwks", std::process::id()));
    let jwks = |secret: &str| {
        use base64::Engine;
        let k = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(secret);
        std::fs::write(&path, format!("{{\"keys\":[{{\"kty\":\"oct\",\"alg\":\"HS256\",\"k\":\"{k}\"}}]}}")).unwrap();
    };
    let token = |secret: &str| {
        let claims = serde_json::json!({"sub": "ann", "exp": 4_000_000_000_u64, "push": {"subscribe": ["*"]}});
        let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
    };
    let (first, second) = ("first-0123456789-0123456789-0123456789", "second-0123456789-0123456789-0123456789");
    jwks(first);
    let options = [("auth", "jwt"), ("jwt_jwks", path.to_str().unwrap())];
    let (host, lines) = Host::logged(&options);
    let admitted = |host: &Host, secret: &str| {
        let head = host.get(&format!("channel=a&token={}", token(secret)), UPGRADE).head();
        assert!(head.starts_with("HTTP/1.1 101 ") || head.starts_with("HTTP/1.1 401 "), "{head}");
        head.starts_with("HTTP/1.1 101 ")
    };
    assert!(admitted(&host, first) && !admitted(&host, second));
    jwks(second);
    assert!(admitted(&host, first), "read only when asked to");
    assert_eq!(reload(&host, &options).unwrap(), (vec![], vec![]), "the option is the same, the file is not");
    assert!(!admitted(&host, first) && admitted(&host, second));
    std::fs::write(&path, "{").unwrap();
    let error = reload(&host, &[("heartbeat", "1s"), options[0], options[1]]).unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(admitted(&host, second) && !admitted(&host, first));
    let text = "Error the options are not reloaded and stay as they were: option jwt_jwks: ";
    until("the log tells", || lines.lock().unwrap().iter().any(|line| line.starts_with(text)));
    // The heartbeat did not change either.
    jwks(second);
    assert_eq!(reload(&host, &[("heartbeat", "1s"), options[0], options[1]]).unwrap().0, ["heartbeat"]);
    host.stop();
    let _ = std::fs::remove_file(&path);
}

#[test]
fn a_control_port_does_not_lose_its_key() {
    let with_key = |key| [("control", "127.0.0.1:0"), ("control_key", key)];
    let (host, _) = Host::logged(&with_key("first-0123456789"));
    let publish = |key: &str| {
        let stream = std::net::TcpStream::connect(&host.server.addresses()[1]).unwrap();
        let mut client = Client::over(stream);
        let head = format!("POST /v1/publish?channel=a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n");
        client.send(format!("{head}Content-Length: 1\r\n\r\nx").as_bytes());
        client.head()[9..12].to_owned()
    };
    assert_eq!((publish("first-0123456789"), publish("second-0123456789")), ("200".into(), "401".into()));
    // The listener would stay, and be open to everybody.
    assert_eq!(reload(&host, &[]).unwrap_err().kind(), Kind::Config);
    assert_eq!((publish("first-0123456789"), publish("")), ("200".into(), "401".into()));
    reload(&host, &with_key("second-0123456789")).unwrap();
    assert_eq!((publish("first-0123456789"), publish("second-0123456789")), ("401".into(), "200".into()));
    host.stop();
}

#[test]
fn a_key_in_a_file_is_read_again_and_a_bad_one_changes_nothing() {
    let path = std::env::temp_dir().join(format!("push-{}-control-key", std::process::id()));
    let (first, second) = ("first-0123456789", "second-0123456789");
    std::fs::write(&path, format!("{first}\n")).unwrap();
    let value = format!("file:{}", path.display());
    let options = [("control", "127.0.0.1:0"), ("control_key", &*value)];
    let (host, lines) = Host::logged(&options);
    let is_key = |key: &str| {
        let mut client = Client::over(std::net::TcpStream::connect(&host.server.addresses()[1]).unwrap());
        client.send(
            format!("GET /v1/stats HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n").as_bytes(),
        );
        client.head().starts_with("HTTP/1.1 200 ")
    };
    assert!(is_key(first) && !is_key(&value), "not the text, but what the file has");
    std::fs::write(&path, second).unwrap();
    assert_eq!(reload(&host, &options).unwrap().0, ["control_key"]);
    assert!(is_key(second) && !is_key(first));
    std::fs::write(&path, "a secret").unwrap();
    let error = reload(&host, &options).unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    assert!(!is_key("a secret") && is_key(second));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(reload(&host, &options).unwrap_err().kind(), Kind::System);
    assert!(is_key(second));
    host.stop();
    assert!(!lines.lock().unwrap().iter().any(|line| line.contains("a secret")), "secrets are not logged");
}

#[test]
fn attached_hosts_get_the_hubs_new_bounds_and_change_their_own() {
    let path = std::env::temp_dir().join(format!("push-{}-limits", std::process::id()));
    let path = format!("unix:{}", path.display());
    let (hub, _) = Host::logged(&[("attach_listen", &path), ("max_message", "10")]);
    let attach =
        |options: &[(&str, &str)]| builder(&[&[("attach", &*path), ("attach_timeout", "1m")], options].concat());
    let host = Server::start(attach(&[])).unwrap();
    let long = Publication::new("a", b"longer than ten bytes");
    assert_eq!(host.publish(&long).unwrap_err().kind(), Kind::TooLarge);
    reload(&hub, &[("attach_listen", &path), ("max_message", "1KB")]).unwrap();
    until("the host has heard", || host.publish(&long).is_ok());
    // The host's own option changes: with the hub gone, the new bound counts.
    let reloaded = host.reload(&attach(&[("attach_buffer", "64KB"), ("attach_name", "other")])).unwrap();
    assert_eq!((reloaded.changed, reloaded.left), (vec!["attach_buffer"], vec!["attach_name"]));
    hub.stop();
    let payload = [b'x'; 1000];
    let posted = (0..1000).take_while(|_| host.post(&Publication::new("a", &payload)).is_ok()).count();
    assert!((50..70).contains(&posted), "{posted}");
    host.stop(Duration::ZERO);
}

#[test]
fn who_may_attach_can_change() {
    let path = std::env::temp_dir().join(format!("push-{}-uids", std::process::id()));
    let path = format!("unix:{}", path.display());
    let (hub, _) = Host::logged(&[("attach_listen", &path)]);
    let attach = || Server::start(builder(&[("attach", &path), ("attach_timeout", "1m")]));
    let first = attach().unwrap();
    reload(&hub, &[("attach_listen", &path), ("attach_uids", "4294967294")]).unwrap();
    // A host whose hub is slow starts without it.
    until("it is refused", || match attach() {
        Ok(host) => {
            host.stop(Duration::ZERO);
            false
        }
        Err(error) => {
            assert!(error.to_string().contains("may not attach"), "{error}");
            true
        }
    });
    // A host that is attached stays.
    first.publish(&Publication::new("a", b"x")).unwrap();
    first.stop(Duration::ZERO);
    hub.stop();
}

#[test]
fn reloads_of_several_threads_come_one_after_the_other() {
    let (host, _) = Host::logged(&[]);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let host = &host;
            scope.spawn(move || {
                for n in 0..50 {
                    let count = (1 + thread * 50 + n).to_string();
                    reload(host, &[("history_count", &count), ("channel.a.*.history_count", &count)]).unwrap();
                    host.publish(&format!("a.{n}"), "x");
                }
            });
        }
    });
    reload(&host, &[("history_count", "1")]).unwrap();
    let start = host.server.position(0);
    host.publish("a.1", "last");
    assert_eq!(history(&host, "a.1", &start), ["gap", "last"]);
    host.stop();
}

#[test]
fn a_limit_that_is_turned_on_counts_connected_clients() {
    let (host, _) = Host::logged(&[("threads", "2")]);
    let open = || host.get("channel=a&transport=stream", "");
    let mut there: Vec<Client> = (0..3).map(|_| open()).collect();
    there.iter_mut().for_each(|client| assert!(client.head().starts_with("HTTP/1.1 200 ")));
    for turned_off_between in [false, true] {
        if turned_off_between {
            reload(&host, &[]).unwrap();
            until("a fourth is served", || open().head().starts_with("HTTP/1.1 200 "));
        }
        reload(&host, &[("max_per_address", "3")]).unwrap();
        until("a fourth is refused", || open().head().starts_with("HTTP/1.1 429 "));
        host.publish("a", "they stay");
        there.iter_mut().for_each(|client| drop(client.until("they stay")));
    }
    there.pop();
    until("another may come", || {
        let mut client = open();
        let served = client.head().starts_with("HTTP/1.1 200 ");
        there.extend(served.then_some(client));
        served
    });
    assert!(open().head().starts_with("HTTP/1.1 429 "));
    host.stop();
}

#[test]
fn a_user_and_a_proxys_next_request_count_for_limits_that_are_turned_on() {
    let proxies = ("trusted_proxies", "unix");
    let (host, _) = Host::logged(&[("threads", "1"), proxies, ("poll_timeout", "10m")]);
    let poll = |query: &str| {
        format!("GET /push?channel=a{query} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")
    };
    let from_proxy = |user: &str, query: &str| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let grant = Grant::new(Some(user), &[], &["*".into()], 0, false, true).unwrap();
        host.server.adopt(theirs.into(), poll(query).as_bytes(), Some(grant)).unwrap();
        Client::over(OwnedFd::from(ours).into())
    };
    let mut ann = from_proxy("ann", "&transport=stream");
    assert!(ann.head().starts_with("HTTP/1.1 200 "));
    let start = host.server.position(0);
    host.publish("a", "x");
    let mut proxy = from_proxy("bob", &format!("&since={start}"));
    assert!(proxy.response().1.contains("\"data\":\"x\""));
    reload(&host, &[proxies, ("max_per_user", "1"), ("max_per_address", "1")]).unwrap();
    until("ann has one already", || from_proxy("ann", "&transport=stream").head().starts_with("HTTP/1.1 429 "));
    proxy.send(poll("").as_bytes());
    until("it waits", || host.server.stats().unwrap().polls == 1);
    assert!(from_proxy("eve", "").rest().contains("max_per_address"), "the poll counts for its client");
    host.stop();
}

#[test]
fn the_metrics_say_whether_the_last_reload_has_succeeded() {
    let path = socket_path();
    let control = format!("unix:{path}");
    let (host, _) = Host::logged(&[("control", &control)]);
    let succeeded = || {
        let text = metrics(&path);
        let line = text.lines().find_map(|line| line.strip_prefix("push_reload_success ").map(str::to_owned));
        line.unwrap_or_else(|| panic!("{text}"))
    };
    assert_eq!(succeeded(), "1");
    assert!(reload(&host, &[("control", &control), ("auth", "jwt")]).is_err());
    assert_eq!(succeeded(), "0");
    reload(&host, &[("control", &control)]).unwrap();
    assert_eq!(succeeded(), "1");
    // A host that could not even read its file says so.
    host.server.note_unread_options();
    assert_eq!(succeeded(), "0");
    host.stop();
}
