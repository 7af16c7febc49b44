//! The grant of a client by pattern, and what it loses.

use super::common::{attached, socket_path, Client, Host, PATIENCE};
use super::{counted, head, subscriptions, ON, TRANSPORTS};
use push::events::EventKind;
use push::grant::Grant;
use push::Server;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

/// A client that was handed over with a grant of the user `ada`.
fn granted(server: &Server, transport: &str, query: &str, patterns: &[&str]) -> Client {
    let patterns: Vec<String> = patterns.iter().map(|text| text.to_string()).collect();
    let grant = Grant::new(Some("ada"), &[], &patterns, 0, true, false).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    server.adopt(theirs.into(), head(transport, query).as_bytes(), Some(grant)).unwrap();
    Client::over(OwnedFd::from(ours).into())
}

#[test]
fn a_grant_must_cover_the_pattern() {
    let path = format!("unix:{}", socket_path());
    let hub = Host::start(&[ON, ("user_channel", "true"), ("attach_listen", &path)]);
    let far = attached(&path, &[]);
    for server in [&hub.server, &far] {
        for (pattern, grant) in [
            ("news.*", &["news.a", "news.b"][..]),
            ("news.*", &["news.a*"]),
            ("n*", &["news.*"]),
            ("*", &["news.*"]),
            ("news.*", &[]),
        ] {
            for transport in TRANSPORTS.into_iter().chain(["poll"]) {
                let told = granted(server, transport, &format!("pattern={pattern}"), grant).rest();
                assert!(told.starts_with("HTTP/1.1 403 "), "{transport} {pattern}: {told}");
                assert!(told.contains(&format!("not allowed: pattern {pattern}")), "{told}");
            }
        }
        for (query, grant) in [("pattern=news.*", "news.*"), ("pattern=news.a*", "news.*"), ("pattern=*", "*")] {
            let mut clients = TRANSPORTS.map(|transport| granted(server, transport, query, &[grant]));
            // With the channel of the user.
            subscriptions(&hub, 8);
            hub.publish("user:bob", "<secret>");
            hub.publish("news.a1", "<news>");
            hub.publish("user:ada", "<hers>");
            for client in &mut clients {
                let got = client.until("<hers>");
                assert_eq!(counted(&got, &["<secret>", "<news>"]), [0, 1], "{query}: {got}");
            }
            drop(clients);
            subscriptions(&hub, 0);
        }
    }
    far.stop(PATIENCE);
    hub.stop();
}

#[test]
fn what_is_taken_away_ends_each_pattern_that_fits_it() {
    let host = Host::start(&[ON, ("events", "open,subscribe,unsubscribe,close")]);
    host.server.event_fd().unwrap();
    let next = || {
        let event = host.server.next_event(Some(PATIENCE)).unwrap();
        (event.kind, event.channel.as_deref().map(str::to_owned), event.connection)
    };
    for taken in ["news.sport", "news.s*", "*"] {
        for transport in TRANSPORTS {
            let mut client = granted(&host.server, transport, "pattern=news.*", &["*"]);
            let (kind, channel, _) = next();
            assert_eq!((kind, channel.as_deref()), (EventKind::Open, Some("news.*")));
            assert_eq!(next().1.as_deref(), Some("news.*"), "subscribe");
            host.server.revoke_channel("ada", taken, "moved").unwrap();
            if transport == "ws" {
                client.until(r#"{"type":"unsubscribed","channel":"news.*","code":4403,"reason":"moved"}"#);
                drop(client);
            } else {
                let last = if transport == "raw" { "moved" } else { r#""code":4403,"reason":"moved""# };
                assert!(client.rest().contains(last), "{transport} {taken}");
            }
            assert_eq!((next().1.as_deref(), next().0), (Some("news.*"), EventKind::Close), "unsubscribe, close");
        }
    }
    // Others stay: of the same connection, and what the revocation does not touch.
    let mut client = granted(&host.server, "stream", "channel=x&pattern=news.*&pattern=more.*", &["*"]);
    let connection = next().2;
    (0..3).for_each(|_| drop(next()));
    host.server.revoke_channel("ada", "news.a", "").unwrap();
    assert_eq!(next().1.as_deref(), Some("news.*"));
    for channel in ["news.b", "more.b", "x"] {
        host.publish(channel, &format!("<{channel}>"));
    }
    assert_eq!(counted(&client.until("<x>"), &["<news.b>", "<more.b>"]), [0, 1]);
    // The new grant covers less.
    let grant = |patterns: &[&str]| {
        let patterns: Vec<String> = patterns.iter().map(|text| text.to_string()).collect();
        Grant::new(Some("ada"), &[], &patterns, 0, false, false).unwrap()
    };
    host.server.renew(connection, grant(&["more.*"])).unwrap();
    assert_eq!(next().1.as_deref(), Some("x"));
    host.server.renew(connection, grant(&["more.b"])).unwrap();
    assert_eq!(next().1.as_deref(), Some("more.*"));
    assert!(client.rest().contains(r#""code":4403"#));
    host.stop();
}
