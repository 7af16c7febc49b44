//! The console: nothing without a login, and nothing for a page of another origin.

use super::common::{builder, until, Client, Host, Lines, CONTROL};
use push::Kind;
use std::net::TcpStream;

pub(super) const KEY: &str = CONTROL[1].1;
pub(super) const OWN: &str = "X-Push-Console: 1\r\n";

pub(super) fn options(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    [&CONTROL[..], &[("console", "true")], more].concat()
}

/// An answer: its status, its head in small letters, and its body.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    fn has(&self, line: &str) -> bool {
        self.head.lines().any(|known| known == line)
    }

    /// The cookie that is set: its name and value, and its attributes.
    fn cookie(&self) -> (String, String) {
        let line = self.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
        let (cookie, attributes) = line.split_once("; ").unwrap();
        (cookie.to_owned(), attributes.to_owned())
    }
}

pub(super) fn ask(host: &Host, method: &str, path: &str, lines: &str, body: &str) -> Answer {
    let address = &host.server.addresses()[1];
    let mut client = Client::over(TcpStream::connect(address).unwrap());
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{lines}");
    client.send(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes());
    let head = client.head();
    // A value may be in any case, as that of a cookie.
    let small = |line: &str| match line.split_once(": ") {
        Some((name, value)) => format!("{}: {value}\n", name.to_ascii_lowercase()),
        None => format!("{line}\n"),
    };
    let status = head[9..12].parse().unwrap();
    Answer { status, head: head.lines().map(small).collect(), body: client.rest() }
}

pub(super) fn get(host: &Host, path: &str, lines: &str) -> Answer {
    ask(host, "GET", path, lines, "")
}

/// A login.
pub(super) struct Login {
    /// The line with the cookie. It is all that a server at another port of the host gets.
    pub(super) cookie: String,
    /// The line that only the console's page can send.
    pub(super) page: String,
}

impl Login {
    pub(super) fn lines(&self) -> String {
        format!("{}{}", self.cookie, self.page)
    }
}

pub(super) fn login(host: &Host) -> Login {
    let answer = ask(host, "POST", "/console/login", OWN, KEY);
    assert_eq!(answer.status, 200, "{}", answer.body);
    Login { cookie: format!("Cookie: {}\r\n", answer.cookie().0), page: page_of(&answer) }
}

/// The line with the value of a login's answer.
fn page_of(login: &Answer) -> String {
    let value = login.body.split('"').nth(3).expect("a value");
    assert_eq!(value.len(), 43);
    format!("X-Push-Console: {value}\r\n")
}

pub(super) fn is_in(host: &Host, login: &Login) -> bool {
    get(host, "/v1/stats", &login.lines()).status == 200
}

pub(super) fn logged(lines: &Lines, part: &str) -> bool {
    lines.lock().unwrap().iter().any(|line| line.contains(part))
}

#[test]
fn it_is_off_until_the_option_is_on_and_needs_a_listener_and_a_key() {
    let host = Host::start(&CONTROL);
    for path in ["/console", "/console/app.js", "/console/login"] {
        assert_eq!(get(&host, path, "").status, 401, "{path}");
        let with_key = get(&host, path, &format!("Authorization: Bearer {KEY}\r\n"));
        assert!(with_key.status == 404 && !with_key.head.contains("content-security-policy"), "{path}");
    }
    host.stop();
    for (options, told) in [
        (&[("console", "true")][..], "option console: it is served at the addresses of the option control"),
        (&[("console", "true"), ("control", "unix:/nowhere")], "option console: it needs the option control_key"),
    ] {
        let error = builder(options).build().unwrap_err();
        assert!(error.kind() == Kind::Config && error.to_string().starts_with(told), "{error}");
    }
}

#[test]
fn without_a_login_there_is_the_login_page_and_nothing_else() {
    let host = Host::start(&options(&[]));
    let page = get(&host, "/console", "");
    assert!(page.status == 200 && page.body.contains("login.js") && !page.body.contains("app.js"), "{}", page.body);
    for public in ["console.css", "icon.svg", "login.js", "theme.js"] {
        assert_eq!(get(&host, &format!("/console/{public}"), "").status, 200, "{public}");
    }
    let other = Host::start(&options(&[]));
    let Login { cookie: foreign, page: foreign_page } = login(&other);
    // Its name has the port; so it is also tried under this hub's name.
    let port = |host: &Host| host.server.addresses()[1].rsplit(':').next().unwrap().to_owned();
    let renamed = foreign.replace(&port(&other), &port(&host));
    let wrong = format!("Cookie: push_console_{}={}\r\n", port(&host), "A".repeat(43));
    let guess = format!("Authorization: Bearer {}\r\n", "x".repeat(16));
    for cookie in ["", &foreign, &renamed, &wrong, &guess, "Cookie: =;;; a\r\n"] {
        for path in ["/console/app.js", "/v1/stats", "/v1/connections", "/v1/tail?pattern=*", "/v1/config", "/metrics"]
        {
            let answer = get(&host, path, &format!("{cookie}{foreign_page}"));
            assert!(answer.status == 401 && answer.has("www-authenticate: Bearer"), "{path} {cookie}");
        }
        for path in ["/v1/publish?channel=a", "/v1/disconnect?all=1", "/v1/close?connection=1"] {
            assert_eq!(ask(&host, "POST", path, &format!("{cookie}{OWN}"), "").status, 401, "{path} {cookie}");
        }
        assert!(get(&host, "/console", cookie).body.contains("login.js"));
    }
    for path in ["/console/nothing.js", "/console/../v1/stats", "/consoles", "/console/login.html", "/console//app.js"]
    {
        assert!([404, 401].contains(&get(&host, path, "").status), "{path}");
    }
    assert_eq!(get(&host, "/console?key=abc", "").status, 400);
    let slash = get(&host, "/console/", "");
    assert!(slash.status == 308 && slash.has("location: ../console"));
    host.stop();
    other.stop();
}

#[test]
fn a_login_gives_a_cookie_with_which_the_console_can_ask() {
    let (host, lines) = Host::logged(&options(&[("log_level", "debug")]));
    let answer = ask(&host, "POST", "/console/login", OWN, KEY);
    let (cookie, attributes) = answer.cookie();
    let (name, token) = cookie.split_once('=').unwrap();
    let port = host.server.addresses()[1].rsplit(':').next().unwrap();
    assert_eq!((name, token.len()), (&*format!("push_console_{port}"), 43));
    assert_eq!(attributes, "Path=/; Max-Age=43200; HttpOnly; SameSite=Strict");
    assert!(!answer.body.contains(token) && answer.has("cache-control: no-store"));
    let behind_tls = format!("{OWN}Origin: https://{}\r\n", host.server.addresses()[1]);
    assert!(ask(&host, "POST", "/console/login", &behind_tls, KEY).cookie().1.ends_with("; Secure"));

    let cookie = format!("Cookie: theme=dark; {cookie}\r\n");
    let page = get(&host, "/console", &cookie);
    assert!(page.body.contains("app.js") && page.has("cache-control: private, no-cache"), "{}", page.head);
    assert!(page.has("vary: Accept-Encoding, Cookie"));
    assert_eq!(get(&host, "/console/app.js", &cookie).status, 200);
    let own = format!("{cookie}{}", page_of(&answer));
    assert_eq!(get(&host, "/v1/stats", &own).status, 200);
    assert_eq!(ask(&host, "POST", "/v1/publish?channel=a", &own, "x").status, 200);
    until("the log has it", || logged(&lines, "Info console: a login with the key (address 127.0.0.1)"));

    let gone = ask(&host, "POST", "/console/logout", &own, "");
    assert!(gone.status == 200 && gone.cookie().1.contains("Max-Age=0"), "{}", gone.head);
    assert_eq!(get(&host, "/v1/stats", &own).status, 401);
    assert!(get(&host, "/console", &cookie).body.contains("login.js"));
    assert!(!logged(&lines, KEY) && !logged(&lines, token));
    host.stop();
}

#[test]
fn a_page_of_another_origin_can_neither_read_nor_act_nor_log_in() {
    let host = Host::start(&options(&[("allowed_origins", "*")]));
    let (address, Login { cookie, page }) = (host.server.addresses()[1].clone(), login(&host));
    let good = format!("{page}Origin: http://{address}\r\nSec-Fetch-Site: same-origin\r\n");
    assert_eq!(get(&host, "/v1/stats", &format!("{cookie}{good}")).status, 200);
    let bad = [
        String::new(),
        "Sec-Fetch-Site: same-origin\r\n".into(),
        "X-Push-Console: 0\r\n".into(),
        format!("{page}Origin: http://evil.example\r\n"),
        format!("{page}Origin: null\r\n"),
        format!("{page}Origin: http://127.0.0.1:1\r\n"),
        format!("{page}Sec-Fetch-Site: cross-site\r\n"),
        format!("{page}Sec-Fetch-Site: same-site\r\n"),
        format!("{good}Origin: http://evil.example\r\n"),
    ];
    for lines in &bad {
        for (method, path) in [
            ("GET", "/v1/stats"),
            ("GET", "/v1/tail?pattern=*"),
            ("GET", "/v1/connections"),
            ("POST", "/v1/publish?channel=a"),
            ("POST", "/v1/disconnect?all=1"),
            ("DELETE", "/v1/channels/a"),
            ("GET", "/metrics"),
            ("POST", "/console/logout"),
        ] {
            let answer = ask(&host, method, path, &format!("{cookie}{lines}"), "");
            assert!(answer.status == 403 && answer.body.contains("must come from the console"), "{path} {lines}");
            assert!(!answer.head.contains("access-control-"), "{}", answer.head);
        }
        let lines = lines.replace(&page, OWN);
        let answer = ask(&host, "POST", "/console/login", &lines, KEY);
        assert!(answer.status == 403 && !answer.head.contains("set-cookie"), "{lines}");
    }
    // The browser asks before it sends the header line from elsewhere, and nobody says yes.
    let asked = "Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n\
                 Access-Control-Request-Headers: x-push-console\r\n";
    for path in ["/console/login", "/v1/publish", "/console"] {
        let answer = ask(&host, "OPTIONS", path, asked, "");
        assert!(answer.status >= 400 && !answer.head.contains("access-control-"), "{path}: {}", answer.head);
    }
    assert_eq!(get(&host, "/v1/stats", &format!("{cookie}{good}")).status, 200, "the session is still there");
    host.stop();
}

#[test]
fn browsers_are_told_not_to_frame_sniff_or_run_anything_else() {
    let host = Host::start(&options(&[]));
    let own = login(&host).lines();
    for (path, lines) in [
        ("/console", ""),
        ("/console", &*own),
        ("/console/app.js", &own),
        ("/v1/stats", &own),
        ("/v1/stats", ""),
        ("/healthz", ""),
    ] {
        let answer = get(&host, path, lines);
        for line in [
            "x-content-type-options: nosniff",
            "x-frame-options: DENY",
            "referrer-policy: no-referrer",
            "cross-origin-resource-policy: same-origin",
        ] {
            assert!(answer.has(line), "{path}: {line}");
        }
        let policy = answer.head.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).unwrap();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "frame-ancestors 'none'",
            "form-action 'none'",
        ] {
            assert!(policy.split("; ").any(|known| known == part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !answer.head.contains("access-control-"), "{policy}");
    }
    for (method, path, allow) in [
        ("GET", "/console/login", "POST"),
        ("GET", "/console/logout", "POST"),
        ("POST", "/console", "GET"),
        ("PUT", "/console/app.js", "GET"),
    ] {
        let answer = ask(&host, method, path, &own, "");
        assert!(answer.status == 405 && answer.has(&format!("allow: {allow}")), "{path}: {}", answer.head);
    }
    host.stop();
}

#[test]
fn files_come_compressed_and_once() {
    let host = Host::start(&options(&[]));
    let plain = get(&host, "/console/console.css", "");
    let head = |lines: &str| get(&host, "/console/console.css", lines);
    let packed = head("Accept-Encoding: br, gzip\r\n");
    assert!(packed.has("content-encoding: gzip") && packed.has("content-type: text/css; charset=utf-8"));
    assert!(!plain.has("content-encoding: gzip") && packed.body.len() < plain.body.len() / 2);
    let etag = plain.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let again = head(&format!("Accept-Encoding: gzip\r\nIf-None-Match: \"x\", {etag}\r\n"));
    assert!(again.status == 304 && again.body.is_empty() && again.has(&format!("etag: {etag}")), "{}", again.head);
    host.stop();
}

#[test]
fn a_session_ends_with_its_time_and_with_the_key_and_a_tail_with_it() {
    let mut now = options(&[]);
    let host = Host::start(&now);
    let tail = |login: &Login| {
        let mut client = Client::over(TcpStream::connect(&host.server.addresses()[1]).unwrap());
        let address = &host.server.addresses()[1];
        let lines = login.lines();
        client.send(format!("GET /v1/tail?pattern=* HTTP/1.1\r\nHost: {address}\r\n{lines}\r\n").as_bytes());
        assert!(client.head().starts_with("HTTP/1.1 200 "));
        client.until("{\"type\":\"open\"}\n\n");
        client
    };
    let is_in = |login: &Login| is_in(&host, login);
    let reload = |options: &[(&str, &str)]| host.server.reload(&builder(options)).map(drop);
    for (name, value, reason) in [
        ("control_key", "another-key-of-some-length", "the option control_key has changed"),
        ("console_session", "1s", "the session is over"),
    ] {
        let one = login(&host);
        let mut seen = tail(&one);
        assert!(is_in(&one));
        let mut next = now.clone();
        next.push((name, value));
        reload(&next).unwrap();
        seen.until(&format!("{{\"type\":\"end\",\"reason\":\"{reason}\"}}"));
        until("the session is over", || !is_in(&one));
        reload(&now).unwrap();
        assert!(name == "console_session" || !is_in(&one), "it does not come back with the old key");
    }
    // Nor does one for which nobody has asked in between.
    let one = login(&host);
    let mut other_key = now.clone();
    other_key.push(("control_key", "another-key-of-some-length"));
    reload(&other_key).unwrap();
    reload(&now).unwrap();
    assert!(!is_in(&one));
    // A logout ends the tails of its session, and of no other.
    let [one, other] = [(); 2].map(|()| login(&host));
    let (mut seen, mut stays) = (tail(&one), tail(&other));
    assert_eq!(ask(&host, "POST", "/console/logout", &one.lines(), "").status, 200);
    seen.until("{\"type\":\"end\",\"reason\":\"the session is over\"}");
    host.publish("a", "x");
    stays.until("\"channel\":\"a\"");
    now.retain(|(name, _)| *name != "console");
    reload(&now).unwrap();
    stays.until("{\"type\":\"end\",\"reason\":\"the option console was turned off\"}");
    assert_eq!(get(&host, "/console", &other.cookie).status, 401);
    host.stop();
}

#[test]
fn the_sessions_are_bounded() {
    let host = Host::start(&options(&[]));
    let logins: Vec<_> = (0..65).map(|_| login(&host)).collect();
    let is_in = |at: usize| is_in(&host, &logins[at]);
    assert!(!is_in(0) && is_in(1) && is_in(64));
    host.stop();
}
