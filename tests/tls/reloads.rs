//! Certificates: which one a client gets, new ones, and those that can't be used.

use crate::client::{address, config, Client, VERSIONS};
use crate::common::{builder, Host};
use crate::{start, start_with, Pair};
use push::Server;
use rustls::pki_types::CertificateDer;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

/// The certificate that a client gets for a name, of which it trusts this one.
fn given(host: &Host, trusted: &Pair, name: &str) -> Option<CertificateDer<'static>> {
    let config = Arc::new(config(trusted, None, &VERSIONS));
    let mut client = Client::connect(&address(host), name, &config);
    client.tls.conn.complete_io(&mut client.tls.sock).ok()?;
    client.tls.conn.peer_certificates().map(|chain| chain[0].clone())
}

fn reload(host: &Host, options: &[(&str, &str)]) -> Result<Vec<&'static str>, String> {
    let mut all = vec![("listen", "tls:127.0.0.1:0"), ("log_level", "debug")];
    all.extend(options);
    host.server.reload(&builder(&all)).map(|reloaded| reloaded.changed).map_err(|error| error.to_string())
}

#[test]
fn a_client_gets_the_certificate_for_its_name() {
    let (one, other) = (Pair::new(&["one.example"]), Pair::new(&["*.other.example", "127.0.0.1"]));
    let both = |a: &str, b: &str| format!("{a}, {b}");
    let (certificates, keys) = (both(&one.certificate, &other.certificate), both(&one.key, &other.key));
    let options = [("listen", "tls:127.0.0.1:0"), ("tls_certificate", &*certificates), ("tls_key", &*keys)];
    let host = Host::start(&options);
    assert_eq!(given(&host, &one, "one.example"), Some(one.der.clone()));
    assert_eq!(given(&host, &other, "a.other.example"), Some(other.der.clone()));
    assert_eq!(given(&host, &one, "a.b.other.example"), None, "nobody has this name");
    // A client that asks for no name gets the first, which is not for this address.
    assert_eq!(given(&host, &other, "127.0.0.1"), None);
    host.stop();
}

#[test]
fn a_certificate_without_a_list_of_names_is_for_any_name() {
    let pair = Pair::new(&[]);
    let (host, lines) = start_with(&pair, &[]);
    let config = Arc::new(config(&pair, None, &VERSIONS));
    let mut client = Client::connect(&address(&host), "any.example", &config);
    // The client does not accept it, and says so.
    assert!(client.tls.conn.complete_io(&mut client.tls.sock).is_err());
    crate::common::until("the alert is logged", || crate::logged(&lines, "the TLS handshake failed: "));
    assert!(!crate::logged(&lines, "no certificate for the name"));
    host.stop();
}

/// How many clients stay while the certificates are renewed. `make test-tls` has 2,000.
fn crowd() -> usize {
    std::env::var("PUSH_CLIENTS").map_or(100, |count| count.parse().unwrap())
}

#[test]
fn renewed_files_are_taken_a_hundred_times_and_no_client_is_lost() {
    let (host, _, mut pair) = start(&[("heartbeat", "10m")]);
    let first = Arc::new(config(&pair, None, &VERSIONS));
    let mut clients: Vec<_> = (0..crowd())
        .map(|_| {
            let mut client =
                Client::connect(&address(&host), "localhost", &first).get("channel=a", "Accept: text/event-stream\r\n");
            client.until("event: push-open");
            client
        })
        .collect();
    let goes_on = AtomicBool::new(true);
    let published = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut number = 0;
            // The clients do not read yet. They must be able to take all of it, however long the reloads last.
            while goes_on.load(Ordering::Relaxed) && number < 5000 {
                host.publish("a", &format!("number {number}."));
                number += 1;
                // The server of the tests is not optimized.
                std::thread::sleep(std::time::Duration::from_millis(2 + crowd() as u64 / 50));
            }
            number
        });
        for _ in 0..100 {
            pair.renew(&["localhost"]);
            assert_eq!(reload(&host, &pair.options()), Ok(vec![]));
            assert_eq!(given(&host, &pair, "localhost"), Some(pair.der.clone()));
        }
        goes_on.store(false, Ordering::Relaxed);
        load.join().unwrap()
    });
    for client in &mut clients {
        for number in 0..published {
            let between = client.until(&format!("data: number {number}.\n"));
            assert!(!between.contains("data: number") && !between.contains("push-gap"), "{between}");
        }
    }
    assert_eq!(host.server.stats().unwrap().sse, crowd() as u64);
    host.stop();
}

/// The options for two pairs.
fn both(a: &Pair, b: &Pair) -> [(&'static str, String); 2] {
    [("tls_certificate", format!("{}, {}", a.certificate, b.certificate)), ("tls_key", format!("{}, {}", a.key, b.key))]
}

#[test]
fn a_pair_that_can_no_longer_be_used_stays_and_everything_else_is_applied() {
    type Breaks = fn(&mut Pair);
    let breaks: [(&str, Breaks); 4] = [
        ("it has expired", |pair| pair.renew_until(&["one.example"], 2001)),
        ("No such file", |pair| std::fs::remove_file(&pair.key).unwrap()),
        ("it has no certificate in PEM", |pair| std::fs::write(&pair.certificate, "").unwrap()),
        ("is not the key of the certificate in", |pair| {
            std::fs::copy(Pair::new(&["one.example"]).key.as_str(), &pair.key).unwrap();
        }),
    ];
    for (told, break_it) in breaks {
        let (mut one, mut other) = (Pair::new(&["one.example"]), Pair::new(&["other.example"]));
        let options = both(&one, &other);
        let options = [("log_level", "debug"), (options[0].0, &*options[0].1), (options[1].0, &*options[1].1)];
        let (host, lines) = Host::logged(&[&[("listen", "tls:127.0.0.1:0")], &options[..]].concat());
        let first = one.der.clone();
        break_it(&mut one);
        other.renew(&["other.example"]);
        let mut wanted = options.to_vec();
        wanted.push(("heartbeat", "20s"));
        assert_eq!(reload(&host, &wanted), Ok(vec!["heartbeat"]), "{told}");
        let before = one.der.clone();
        one.der = first.clone();
        assert_eq!(given(&host, &one, "one.example"), Some(first), "{told}: the old one stays");
        assert_eq!(given(&host, &other, "other.example"), Some(other.der.clone()), "{told}: the other is renewed");
        one.der = before;
        crate::common::until("it is logged", || crate::logged(&lines, "the pair that was read before stays"));
        let lines = lines.lock().unwrap();
        let named: Vec<_> = lines.iter().filter(|line| line.contains("the pair that was read before stays")).collect();
        let file = if told.contains("key") || told.contains("No such") { &one.key } else { &one.certificate };
        assert!(named.len() == 1 && named[0].contains(told) && named[0].contains(file.as_str()), "{named:?}");
        drop(lines);
        // It is good again.
        one.renew(&["one.example"]);
        assert_eq!(reload(&host, &wanted), Ok(vec![]));
        assert_eq!(given(&host, &one, "one.example"), Some(one.der.clone()), "{told}: the new one is taken");
        host.stop();
    }
}

#[test]
fn a_server_starts_with_an_expired_certificate_if_another_is_good() {
    // The second has the name of the first, and one of its own.
    let (expired, good) = (Pair::until(&["one.example"], 2001), Pair::new(&["one.example", "other.example"]));
    let options = both(&expired, &good);
    let options = [("log_level", "debug"), (options[0].0, &*options[0].1), (options[1].0, &*options[1].1)];
    let (host, lines) = Host::logged(&[&[("listen", "tls:127.0.0.1:0")], &options[..]].concat());
    let line = format!("file {}: it has expired", expired.certificate);
    crate::common::until("it is logged", || crate::logged(&lines, &line));
    for name in ["one.example", "other.example"] {
        assert_eq!(given(&host, &good, name), Some(good.der.clone()), "{name}");
    }
    assert_eq!(reload(&host, &options), Ok(vec![]));
    host.stop();
    let alone = [("listen", "tls:127.0.0.1:0"), expired.options()[0], expired.options()[1]];
    assert!(Server::start(builder(&alone)).expect_err("alone").to_string().contains("it has expired"));
}

#[test]
fn a_pair_that_can_not_be_used_leaves_the_old_one_and_is_named() {
    let (host, _, pair) = start(&[]);
    let config = Arc::new(config(&pair, None, &VERSIONS));
    let mut ws = Client::websocket(&host, &config);
    let other = Pair::new(&["localhost"]);
    let expired = Pair::until(&["localhost"], 2001);
    let text = Pair::new(&["localhost"]);
    std::fs::write(&text.certificate, "no PEM").unwrap();
    let broken = Pair::new(&["localhost"]);
    std::fs::write(&broken.certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let locked = Pair::new(&["localhost"]);
    std::fs::write(&locked.key, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
        .unwrap();
    let secret = std::fs::read_to_string(&other.key).unwrap();
    for (what, certificate, key, named, told) in [
        ("of another certificate", &pair.certificate, &other.key, &other.key, "is not the key of the certificate in"),
        ("expired", &expired.certificate, &expired.key, &expired.certificate, "it has expired"),
        ("no certificate", &text.certificate, &text.key, &text.certificate, "it has no certificate in PEM"),
        ("broken", &broken.certificate, &broken.key, &broken.certificate, "can't be parsed"),
        ("with a passphrase", &locked.certificate, &locked.key, &locked.key, "needs a passphrase"),
        ("not a key", &pair.certificate, &pair.certificate, &pair.certificate, "it has no private key in PEM"),
        ("missing", &"/nowhere.pem".to_owned(), &pair.key, &"/nowhere.pem".to_owned(), "No such file"),
        ("no name", &String::new(), &String::new(), &"tls_certificate".to_owned(), "needs the options"),
        ("no key", &pair.certificate, &String::new(), &"tls_key".to_owned(), "each certificate needs its key"),
    ] {
        let options = [("tls_certificate", certificate.as_str()), ("tls_key", key.as_str())];
        let error = reload(&host, &options).expect_err(what);
        assert!(error.contains(named.as_str()) && error.contains(told) && error.len() < 256, "{what}: {error}");
        assert!(!error.contains(&secret[40..60]), "a key must not be repeated: {error}");
        let mut all = vec![("listen", "tls:127.0.0.1:0")];
        all.extend(options);
        assert_eq!(Server::start(builder(&all)).expect_err(what).to_string(), error);
        assert_eq!(given(&host, &pair, "localhost"), Some(pair.der.clone()), "{what}");
    }
    host.publish("a", "still there");
    ws.until("still there");
    host.stop();
}
