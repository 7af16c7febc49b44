//! Logins to the console: what a session is worth, by which name and with which cookie, and what becomes of wrong keys.

use super::common::{counted, metrics_with_key, socket_path, until, Client, Host, CONTROL};
use super::console::{ask, get, is_in, logged, login, options, Login, KEY, OWN};
use super::guesses::OF_FOUR;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// Sends a request after which the connection ends. Returns the head of the answer, and its body.
fn exchange(mut stream: impl Read + Write, request: &str) -> (String, String) {
    let mut answer = String::new();
    stream.write_all(request.as_bytes()).unwrap();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// A proxy in front may log its users in, and pass their line on.
#[test]
fn a_session_counts_beside_the_credentials_of_a_proxy() {
    let host = Host::start(&options(&[]));
    let one = login(&host);
    let guess = format!("Authorization: Bearer {}\r\n", "x".repeat(16));
    for line in ["Authorization: Basic b3BlcmF0b3I6eA==\r\n", "Authorization: Negotiate x\r\n", &guess] {
        assert!(get(&host, "/console", &format!("{}{line}", one.cookie)).body.contains("app.js"));
        assert_eq!(get(&host, "/v1/stats", &format!("{}{line}", one.lines())).status, 200, "{line}");
        assert_eq!(get(&host, "/v1/stats", line).status, 401);
    }
    // Who has no session and sends a key is told that it is wrong, and who has the right one needs no session.
    assert_eq!(get(&host, "/v1/stats", &format!("{}{guess}", one.cookie)).status, 401);
    let right = format!("Authorization: Bearer {KEY}\r\n");
    assert_eq!(get(&host, "/v1/stats", &format!("{}{right}", one.cookie)).status, 200);
    // What a proxy passes on is not slowed down as a wrong key: the sixty would wait for most of five minutes.
    let basic = format!("{}Authorization: Basic b3BlcmF0b3I6eA==\r\n", OWN);
    (0..60).for_each(|_| assert_eq!(get(&host, "/v1/stats", &basic).status, 401));
    assert_eq!(ask(&host, "POST", "/console/login", &basic, KEY).status, 200);
    host.stop();
}

/// Browsers send a cookie to all ports of its host. So whoever serves another one has it.
#[test]
fn the_cookie_alone_is_worth_the_page_without_data() {
    let host = Host::start(&options(&[]));
    let [one, other] = [(); 2].map(|()| login(&host));
    assert_eq!(get(&host, "/console/app.js", &one.cookie).status, 200);
    let cookie_as_page = one.cookie.replace("Cookie: ", "X-Push-Console: ");
    for page in ["", OWN, &other.page, &cookie_as_page, "X-Push-Console: \r\n"] {
        let lines = format!("{}{page}", one.cookie);
        for (method, path) in [("GET", "/v1/stats"), ("GET", "/metrics"), ("POST", "/v1/disconnect?all=1")] {
            assert_eq!(ask(&host, method, path, &lines, "").status, 403, "{path} {page}");
        }
        let left = ask(&host, "POST", "/console/logout", &lines, "");
        assert_eq!(left.status, if page == OWN { 200 } else { 403 }, "{page}");
    }
    assert!(is_in(&host, &one) && is_in(&host, &other), "without the value nobody can end the session");
    host.stop();
}

/// Browsers send cookies with longer paths first. So a server at another port can put some before that of a login.
#[test]
fn other_cookies_of_the_same_name_do_no_harm() {
    let host = Host::start(&options(&[]));
    let [earlier, one] = [(); 2].map(|()| login(&host));
    let pair = |login: &Login| login.cookie.trim_end().strip_prefix("Cookie: ").unwrap().to_owned();
    let (own, name) = (pair(&one), pair(&one).split('=').next().unwrap().to_owned());
    // The other server was sent the cookie of the earlier login.
    let others = [format!("{name}=x"), format!("{name}="), pair(&earlier), vec![format!("{name}=x"); 40].join("; ")];
    for other in &others {
        for cookies in [
            format!("Cookie: {other}; {own}\r\n"),
            format!("Cookie: {other}\r\nCookie: {own}\r\n"),
            format!("Cookie: {own}; {other}\r\n"),
        ] {
            assert!(get(&host, "/console", &cookies).body.contains("app.js"), "{cookies}");
            let stats = get(&host, "/v1/stats", &format!("{cookies}{}", one.page));
            assert_eq!(stats.status, 200, "{cookies}: {}", stats.body);
        }
    }
    // There is a bound for them.
    let many = format!("Cookie: {}; {own}\r\n", vec![format!("{name}=x"); 64].join("; "));
    assert_eq!(get(&host, "/v1/stats", &format!("{many}{}", one.page)).status, 401);
    // A logout ends the page's own session.
    let both = format!("Cookie: {}; {own}\r\n{}", pair(&earlier), one.page);
    assert_eq!(ask(&host, "POST", "/console/logout", &both, "").status, 200);
    assert!(!is_in(&host, &one) && is_in(&host, &earlier));
    host.stop();
}

/// The cookie has the port that the browser knows. Behind a tunnel that is not the listener's.
#[test]
fn hubs_behind_two_tunnels_have_two_cookies() {
    let path = socket_path();
    let host = Host::start(&[("control", &format!("unix:{path}")), CONTROL[1], ("console", "true")]);
    let asked = |absolute: &str, host: &str| {
        let length = KEY.len();
        let lines = format!("Host: {host}\r\nConnection: close\r\n{OWN}Content-Length: {length}\r\n");
        let stream = UnixStream::connect(&path).unwrap();
        exchange(stream, &format!("POST {absolute}/console/login HTTP/1.1\r\n{lines}\r\n{KEY}")).0
    };
    for (port, absolute, host) in [
        (9099, "", "localhost:9099"),
        (9098, "", "127.0.0.1:9098"),
        (0, "", "localhost"),
        (9097, "http://localhost:9097", "localhost:9099"),
        (0, "http://localhost", "localhost:9099"),
    ] {
        let cookie = format!("set-cookie: push_console_{port}=");
        assert!(asked(absolute, host).contains(&cookie), "{absolute} {host}");
    }
    host.stop();
}

/// A page can point its own name at this machine, and is then of the console's origin.
#[test]
fn another_name_for_this_machine_gets_nothing() {
    let path = socket_path();
    let more = [("control", &*format!("unix:{path}, 127.0.0.1:0")), CONTROL[1], ("console", "true")];
    let host = Host::start(&[&more[..], &[("allowed_hosts", "hub.example")]].concat());
    let address = host.server.addresses().iter().rfind(|address| !address.starts_with("unix")).unwrap().clone();
    let asked = |method: &str, path_of: &str, lines: &str, body: &str, by_unix: bool| {
        let lines = format!("Connection: close\r\n{lines}Content-Length: {}\r\n", body.len());
        let request = format!("{method} {path_of} HTTP/1.1\r\n{lines}\r\n{body}");
        match by_unix {
            true => exchange(UnixStream::connect(&path).unwrap(), &request),
            false => exchange(TcpStream::connect(&address).unwrap(), &request),
        }
    };
    for by_unix in [false, true] {
        let good = "Host: localhost:9099\r\n";
        let (head, body) = asked("POST", "/console/login", &format!("{good}{OWN}"), KEY, by_unix);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let cookie =
            head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap().split(';').next().unwrap();
        let session = format!("Cookie: {cookie}\r\nX-Push-Console: {}\r\n", body.split('"').nth(3).unwrap());
        for (absolute, name, status) in [
            ("", "localhost", 200),
            ("", "127.0.0.1", 200),
            ("", "[::1]", 200),
            ("", "hub.example", 200),
            ("", "evil.example", 403),
            // The host of the target counts, and not the line.
            ("http://localhost:9099", "evil.example", 200),
            ("http://evil.example:9099", "localhost", 403),
            ("http://me@localhost:9099", "localhost", 403),
        ] {
            let line = format!("Host: {name}:9099\r\n");
            // Where a browser tells its page's origin, that is of the same name.
            let of_target = absolute.strip_prefix("http://").map_or(format!("{name}:9099"), str::to_owned);
            let line = format!("{line}Origin: http://{of_target}\r\n");
            for (method, path, body) in
                [("GET", "/console", ""), ("POST", "/console/login", KEY), ("GET", "/v1/stats", "")]
            {
                let lines = format!("{line}{}", if path == "/console/login" { OWN } else { &session });
                let (head, body) = asked(method, &format!("{absolute}{path}"), &lines, body, by_unix);
                assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{absolute}{path} {name}: {head}");
                assert_eq!(body.contains("allowed_hosts can allow it"), status == 403, "{body}");
            }
            // The key is no part of a browser, and may be used by any name.
            let key = format!("{line}Authorization: Bearer {KEY}\r\n");
            assert!(asked("GET", "/v1/stats", &key, "", by_unix).0.starts_with("HTTP/1.1 200 "));
        }
    }
    host.stop();
}

#[test]
fn wrong_keys_are_logged_slowed_down_and_refused_unseen() {
    let path = socket_path();
    let control = format!("unix:{path}, 127.0.0.1:0");
    let (host, lines) = Host::logged(&[("control", &control), CONTROL[1], ("console", "true")]);
    let address = host.server.addresses().iter().rfind(|address| !address.starts_with("unix")).unwrap().clone();
    let send = |key: &str| {
        let mut client = Client::over(TcpStream::connect(&address).unwrap());
        let head = format!("POST /console/login HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{OWN}");
        client.send(format!("{head}Content-Length: {}\r\n\r\n{key}", key.len()).as_bytes());
        client
    };
    for wrong in ["", "x", "a-key-of-some-lengtH", "a-key-of-some-lengt", "a-key-of-some-length "] {
        assert_eq!(&send(wrong).head()[9..12], "401", "{wrong}");
    }
    until("the log has it", || {
        logged(&lines, "Warn control API: refused with 401 unauthorized: console: the key is not")
    });
    until("the log has the address", || logged(&lines, "(address 127.0.0.1)"));
    assert_eq!(&send(&"x".repeat(256)).head()[9..12], "413");
    // Many at once: they wait, and the next one is not looked at, even if it is the right one. On a slow machine the
    // address may be free again by then.
    let mut waiting = Vec::new();
    until("the address is refused", || {
        waiting = (0..40).map(|_| send("a-wrong-key-0123456789")).collect();
        let mut client = send(KEY);
        let is_refused = client.head().starts_with("HTTP/1.1 429 ");
        is_refused && client.rest().contains("too many wrong keys")
    });
    // The API with the key is not held up.
    let mut api = Client::over(TcpStream::connect(&address).unwrap());
    api.send(format!("GET /v1/stats HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {KEY}\r\n\r\n").as_bytes());
    assert!(api.head().starts_with("HTTP/1.1 200 "));
    drop(waiting);
    until("the right key counts again", || send(KEY).head().starts_with("HTTP/1.1 200 "));
    let counts = counted(&metrics_with_key(&path, KEY), "push_refusals_total");
    assert!(counts.iter().any(|(reason, count)| reason == "control_key" && *count >= 6), "{counts:?}");
    assert!(!logged(&lines, "a-wrong-key") && !logged(&lines, KEY));
    host.stop();
}

#[test]
fn wrong_keys_are_answered_late_and_the_right_one_at_once() {
    let host = Host::start(&options(&[]));
    let began = Instant::now();
    let wrong = "a-wrong-key-0123456789";
    (0..4).for_each(|_| assert_eq!(ask(&host, "POST", "/console/login", OWN, wrong).status, 401));
    assert!(began.elapsed() >= OF_FOUR, "{:?}", began.elapsed());
    // Some more at once. They are too few for the address to be refused, and the last one waits for four seconds.
    let guess = || {
        let address = &host.server.addresses()[1];
        let mut client = Client::over(TcpStream::connect(address).unwrap());
        let head = format!("POST /console/login HTTP/1.1\r\nHost: {address}\r\n{OWN}");
        client.send(format!("{head}Content-Length: {}\r\n\r\n{wrong}", wrong.len()).as_bytes());
        client
    };
    // A slow machine may take that long to ask. When all have their answers, the address is free to try as many again.
    until("the right key was held up as long as the wrong ones", || {
        let before = control_keys(&host);
        let waiting: Vec<Client> = (0..8).map(|_| guess()).collect();
        until("all were seen", || control_keys(&host) == before + 8);
        login(&host);
        waiting.iter().any(|client| !client.has_come())
    });
    host.stop();
}

/// How many requests were refused for a wrong key.
fn control_keys(host: &Host) -> u64 {
    let metrics = get(host, "/metrics", &format!("Authorization: Bearer {KEY}\r\n")).body;
    let of_keys = |(reason, count)| (reason == "control_key").then_some(count);
    counted(&metrics, "push_refusals_total").into_iter().find_map(of_keys).unwrap_or(0)
}

/// A request whose body comes late was begun before the wrong keys, and is no way around them.
#[test]
fn a_late_body_is_refused_as_an_early_one() {
    let host = Host::start(&options(&[]));
    let address = &host.server.addresses()[1];
    let begin = |more: &str, size: usize| {
        let mut client = Client::over(TcpStream::connect(address).unwrap());
        let head = format!("POST /console/login HTTP/1.1\r\nHost: {address}\r\n{OWN}{more}");
        client.send(format!("{head}Content-Length: {size}\r\n\r\n").as_bytes());
        client
    };
    let wrong = || control_keys(&host);
    until("the late key is refused", || {
        let mut late = begin("Expect: 100-continue\r\n", KEY.len());
        // It is asked for its body, so it was not refused for its address.
        if !late.head().starts_with("HTTP/1.1 100 ") {
            return false;
        }
        let before = wrong();
        let others: Vec<_> = (0..30)
            .map(|_| {
                let mut client = begin("", 3);
                client.send(b"abc");
                client
            })
            .collect();
        until("enough wrong keys were seen", || wrong() >= before + 13);
        late.send(KEY.as_bytes());
        let is_refused = late.head().starts_with("HTTP/1.1 429 ");
        drop(others);
        is_refused
    });
    host.stop();
}

/// A publisher with an old key is no reason to lock the operators out.
#[test]
fn wrong_keys_at_the_api_do_not_hold_up_the_login() {
    let host = Host::start(&options(&[]));
    let address = &host.server.addresses()[1];
    let waiting: Vec<_> = (0..60)
        .map(|_| {
            let mut client = Client::over(TcpStream::connect(address).unwrap());
            client.send(b"GET /v1/stats HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer a-wrong-key-0123456789\r\n\r\n");
            client
        })
        .collect();
    until("all were seen", || control_keys(&host) >= 60);
    login(&host);
    drop(waiting);
    host.stop();
}
