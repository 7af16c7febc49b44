use super::*;

fn head<'b>(bytes: &'b [u8], config: &Config) -> Result<Option<Head<'b>>, Refusal> {
    read(bytes, config, &Known::default())
}

/// The status and word with which a request is refused.
fn refused(text: &str) -> (u16, &'static str) {
    let config = Config::default();
    let told = |refusal: Refusal| match refusal.code {
        Cow::Borrowed(code) => (refusal.status, code),
        Cow::Owned(code) => panic!("a host's word: {code}"),
    };
    match head(text.as_bytes(), &config) {
        Ok(Some(head)) => match head.wish {
            Err(refusal) => told(refusal),
            Ok(wish) => panic!("served: {wish:?}"),
        },
        Ok(None) => (0, "incomplete"),
        Err(refusal) => told(refusal),
    }
}

fn get(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h:1\r\n{lines}\r\n")
}

fn served(text: &str, check: impl FnOnce(Subscribe<'_>)) {
    let config = Config::default();
    match head(text.as_bytes(), &config).unwrap().unwrap().wish.unwrap() {
        Wish::Subscribe(subscribe) => check(subscribe),
        wish => panic!("{wish:?}"),
    }
}

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[test]
fn the_transport_follows_from_headers_or_query() {
    let cases = [
        ("/push?channel=a", UPGRADE, Transport::WebSocket),
        ("/push?channel=a", "Accept: text/event-stream\r\n", Transport::Sse),
        ("/push?channel=a", "Accept: application/x-ndjson;q=1, */*\r\n", Transport::Stream),
        ("/push?channel=a", "Accept: */*\r\n", Transport::Poll),
        ("/push?channel=a", "Accept: text/event-stream\r\nAccept: */*\r\n", Transport::Sse),
        ("/push?channel=a", "Accept: */*\r\nAccept: application/x-ndjson\r\n", Transport::Stream),
        ("/push?channel=a&transport=stream", "Accept: text/event-stream\r\n", Transport::Stream),
        ("/push?channel=a&transport=poll", UPGRADE, Transport::Poll),
        ("/push?channel=a&transport=sse", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", Transport::Sse),
    ];
    for (target, lines, transport) in cases {
        served(&get(target, lines), |subscribe| assert_eq!(subscribe.transport, transport, "{target} {lines}"));
    }
}

#[test]
fn compression_is_agreed_to_where_it_is_on() {
    let offer = "Sec-WebSocket-Extensions: x-other\r\nsec-websocket-extensions: permessage-deflate\r\n";
    let extension = |target: &str, lines: &str, compression| {
        let config = Config { compression, ..Config::default() };
        let text = get(target, lines);
        match head(text.as_bytes(), &config).unwrap().unwrap().wish.unwrap() {
            Wish::Subscribe(subscribe) => subscribe.extension.is_some(),
            wish => panic!("{wish:?}"),
        }
    };
    let websocket = format!("{UPGRADE}{offer}");
    assert!(extension("/push?channel=a", &websocket, true));
    assert!(!extension("/push?channel=a", &websocket, false), "it is off");
    assert!(!extension("/push?channel=a", UPGRADE, true), "nobody asked");
    assert!(!extension("/push?channel=a&transport=sse", &websocket, true), "it is for WebSockets");
    for malformed in ["", ";", "permessage-deflate; \"", "\u{fffd}", "permessage-deflate; x=\"", ",,,"] {
        let lines = format!("{UPGRADE}Sec-WebSocket-Extensions: {malformed}\r\n");
        for compression in [false, true] {
            assert!(!extension("/push?channel=a", &lines, compression), "{malformed}");
        }
    }
}

#[test]
fn channels_are_decoded_and_counted_once() {
    served(&get("/push?channel=a%2Fb&channel=%C3%BC&channel=a%2Fb&since=e-7&last=3", ""), |subscribe| {
        assert_eq!(subscribe.channels, ["a/b", "ü"]);
        assert_eq!(subscribe.start(), Start::Since(Position { epoch: "e", seq: 7 }));
    });
    served(&get("/push?channel=a&since=e-7", "Last-Event-ID: e-9\r\n"), |subscribe| {
        assert_eq!(subscribe.start(), Start::Since(Position { epoch: "e", seq: 9 }), "the header wins");
    });
    served(&get("/push?channel=a&last=3", ""), |subscribe| assert_eq!(subscribe.start(), Start::Last(3)));
    served(&get("/push?channel=a", ""), |subscribe| assert_eq!(subscribe.start(), Start::New));
    let start = "/push?channel=a&since=start&last=3";
    served(&get(start, ""), |subscribe| assert_eq!(subscribe.start(), Start::Beginning));
    served(&get(start, "Last-Event-ID: e-9\r\n"), |subscribe| {
        assert_eq!(subscribe.start(), Start::Since(Position { epoch: "e", seq: 9 }), "an EventSource comes back");
    });
    served(&get("http://h:1/push?channel=a", ""), |subscribe| assert_eq!(subscribe.channels, ["a"]));
    let two = UPGRADE.replace("Connection: keep-alive, Upgrade", "Connection: Upgrade\r\nConnection: keep-alive");
    let two = format!("Sec-WebSocket-Protocol: push.v1.json\r\nSec-WebSocket-Protocol: chat\r\n{two}");
    served(&get("/push", &two), |subscribe| assert!(subscribe.json));
    // Upgrade is a list, too, in whatever order (RFC 9110, section 7.8).
    for upgrade in
        ["Upgrade: websocket\r\nUpgrade: h2c", "Upgrade: h2c\r\nUpgrade: websocket", "Upgrade: h2c , WebSocket"]
    {
        let lines = UPGRADE.replace("Upgrade: websocket", upgrade);
        served(&get("/push?channel=a", &lines), |subscribe| assert_eq!(subscribe.transport, Transport::WebSocket));
    }
}

#[test]
fn a_websocket_without_channels_needs_the_subprotocol() {
    assert_eq!(refused(&get("/push", UPGRADE)), (400, "channel"));
    let lines = format!("{UPGRADE}Sec-WebSocket-Protocol: chat, push.v1.json\r\n");
    served(&get("/push", &lines), |subscribe| assert!(subscribe.json && subscribe.channels.is_empty()));
}

#[test]
fn a_token_may_stand_among_the_subprotocols() {
    let token = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.c2lnbmF0dXJl";
    let lines = format!("{UPGRADE}Sec-WebSocket-Protocol: push.v1.json, {token}\r\n");
    let cookie = format!("{lines}Cookie: push_token=b\r\n");
    let bearer = format!("{cookie}Authorization: Bearer c\r\n");
    for (query, lines, expected) in
        [("", &lines, token), ("", &cookie, token), ("", &bearer, "c"), ("?token=d", &bearer, "d")]
    {
        served(&get(&format!("/push{query}"), lines), |subscribe| {
            assert_eq!(subscribe.token.as_deref(), Some(expected), "{query} {lines}");
            assert_eq!((subscribe.json, subscribe.subprotocol), (true, Some(SUBPROTOCOL)));
        });
    }
    // It is a WebSocket's.
    served(&get("/push?channel=a&transport=poll", &cookie), |subscribe| {
        assert_eq!((subscribe.token.as_deref(), subscribe.subprotocol), (Some("b"), None));
    });
}

#[test]
fn what_is_wrong_is_named() {
    let many: String = (0..101).map(|n| format!("channel={n}&")).collect();
    let with = |old: &str, new: &str| get("/push?channel=a", &UPGRADE.replace(old, new));
    let cases = [
        (get("/push", ""), (400, "channel")),
        (get("/push?channel=", ""), (400, "channel")),
        (get("/push?channel=a%00", ""), (400, "channel")),
        (get("/push?channel=%ff", ""), (400, "channel")),
        (get(&format!("/push?{many}"), ""), (400, "channels")),
        (get("/push?channel=a&since=x", ""), (400, "position")),
        (get("/push?channel=a&last=0", ""), (400, "last")),
        (get("/push?channel=a&last=%2B5", ""), (400, "last")),
        (get("/push?channel=a&last=005", ""), (400, "last")),
        (get("/push?channel=a&format=xml", ""), (400, "format")),
        (get("/push?channel=a&transport=udp", ""), (400, "transport")),
        (get("/push?channel=a&transport=ws", ""), (400, "upgrade")),
        (get("/push?channel=a", "Content-Length: 1\r\n"), (400, "body")),
        (get("/push?channel=a", "Content-Length: 0\r\nContent-Length: 0\r\n"), (400, "body")),
        (get("/push?channel=a", "Transfer-Encoding: chunked\r\n") + "1\r\n", (400, "body")),
        (get("/push?channel=a", "Host: other\r\n"), (400, "host")),
        ("GET /push?channel=a HTTP/1.1\r\n\r\n".into(), (400, "host")),
        (get("/push?channel=a", "Origin: http://evil\r\n"), (403, "origin")),
        (with("13", "8"), (426, "websocket_version")),
        (with("Upgrade: w", "Sec-WebSocket-Protocol: PUSH.V1.JSON\r\nUpgrade: w"), (400, "subprotocol")),
        (with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""), (400, "upgrade")),
        (with("dGhlIHNhbXBsZSBub25jZQ==", "short"), (400, "upgrade")),
        // Only SP and HTAB may surround a value (RFC 9110, section 5.6.3).
        (with("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ==\u{a0}"), (400, "upgrade")),
        (get("/push?channel=a", "Content-Length: 0\u{a0}\r\n"), (400, "body")),
        (with("keep-alive, Upgrade", "close"), (400, "upgrade")),
        ("HEAD /push?channel=a HTTP/1.1\r\nHost: h\r\n\r\n".into(), (405, "method_not_allowed")),
        ("POST /push?channel=a HTTP/1.1\r\nHost: h\r\n\r\n".into(), (405, "method_not_allowed")),
        ("GET /push HTTP/1.1\nHost: h\n\n".into(), (400, "line_end")),
        ("GET /push HTTP/1.1\r\nHost: h\n".into(), (400, "line_end")),
        ("\u{16}\u{3}\u{1}garbage".into(), (400, "http")),
        ("GET /push HTTP/1.1\r\nHost".into(), (0, "incomplete")),
        (get(&format!("/push?channel={}", "x".repeat(17_000)), ""), (414, "uri_too_long")),
        (get("/push?channel=a", &format!("X: {}\r\n", "x".repeat(17_000))), (413, "too_large")),
        (format!("GET /push?channel={}", "x".repeat(17_000)), (414, "uri_too_long")),
        (get("/push?channel=a", &"A: b\r\n".repeat(120)), (413, "too_large")),
    ];
    for (text, expected) in cases {
        assert_eq!(refused(&text), expected, "{text:.200}");
    }
}

#[test]
fn a_handshake_that_a_proxy_damaged_is_no_poll() {
    let config = Config::default();
    let refused = |text: &str| match head(text.as_bytes(), &config).unwrap().unwrap().wish {
        Err(refusal) => refusal,
        Ok(wish) => panic!("served: {wish:?}"),
    };
    let missing = |text: &str, missing: &str| {
        let refusal = refused(text);
        assert_eq!((refusal.status, &*refusal.code), (400, "upgrade"), "{text}");
        assert!(refusal.message.contains(&format!("without: {missing}. ")), "{}", refusal.message);
        assert!(refusal.message.contains("proxy"), "{}", refusal.message);
    };
    let without_upgrade = UPGRADE.replace("Upgrade: websocket\r\n", "");
    let without_both = without_upgrade.replace("Connection: keep-alive, Upgrade\r\n", "");
    let get = |lines: &str| get("/push?channel=a", lines);
    missing(&get(&without_upgrade), "Upgrade: websocket");
    missing(&get(&without_both), "Upgrade: websocket, Connection: Upgrade");
    missing(&get(&UPGRADE.replace("keep-alive, Upgrade", "close")), "Connection: Upgrade");
    missing(&get(&UPGRADE.replace("Upgrade: websocket", "Upgrade: h2c")), "Upgrade: websocket");
    missing(&get(UPGRADE).replace("HTTP/1.1", "HTTP/1.0"), "HTTP/1.1");
    // As nginx passes it on without `proxy_http_version 1.1`.
    let lines = format!("Connection: close\r\n{without_both}");
    missing(&get(&lines).replace("HTTP/1.1", "HTTP/1.0"), "HTTP/1.1, Upgrade: websocket, Connection: Upgrade");
    for line in ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "Sec-WebSocket-Version: 13\r\n"] {
        missing(&get(line), "Upgrade: websocket, Connection: Upgrade");
        missing(&get(&format!("Accept: text/event-stream\r\n{line}")), "Upgrade: websocket, Connection: Upgrade");
    }
}

/// The ids of other servers: an empty one, times in milliseconds, ULIDs, URNs, and garbage.
const FOREIGN: [&str; 8] = [
    "42",
    "1700000000:0",
    "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
    "-",
    "e-99999999999999999999",
    "\u{fffd}",
    "a b",
];

#[test]
fn what_a_client_has_seen_of_another_server_is_a_position_of_another_life() {
    let elsewhere = Start::Since(Position { epoch: "0", seq: 0 });
    let long = "x".repeat(10_000);
    for id in FOREIGN.iter().chain([&&*long]) {
        for accept in ["text/event-stream", "application/x-ndjson", "*/*"] {
            let lines = format!("Accept: {accept}\r\nLast-Event-ID: {id}\r\n");
            served(&get("/push?channel=a&since=e-7&last=3", &lines), |subscribe| {
                assert_eq!(subscribe.start(), elsewhere, "{id:.50} {accept}");
                assert_eq!(subscribe.since.as_deref(), Some("0-0"), "it is not repeated in the answer");
            });
        }
        let query: String = form_urlencoded::byte_serialize(id.as_bytes()).collect();
        served(&get(&format!("/push?channel=a&lastEventId={query}"), UPGRADE), |subscribe| {
            assert_eq!(subscribe.start(), elsewhere, "{id:.50}");
        });
    }
    for none in ["Last-Event-ID:\r\n", "Last-Event-ID: \t\r\n"] {
        served(&get("/push?channel=a&lastEventId=", none), |subscribe| assert_eq!(subscribe.start(), Start::New));
    }
}

#[test]
fn what_a_client_has_seen_may_stand_in_the_query() {
    let begins = |query: &str, lines: &str, seq| {
        served(&get(&format!("/push?channel=a&{query}"), lines), |subscribe| {
            assert_eq!(subscribe.start(), Start::Since(Position { epoch: "e", seq }), "{query} {lines}");
        });
    };
    for name in ["lastEventId", "last-event-id", "Last-Event-ID", "lastEventID", "last_event_id", "Last%2DEvent%2DID"] {
        begins(&format!("{name}=e-5"), "", 5);
        begins(&format!("since=e-9&{name}=e-5"), "", 5);
        begins(&format!("{name}=e-5&since=e-9"), "", 5);
        // The newer of two ids counts. A URL keeps the id with which it was made, and so may a header that a program
        // once set.
        begins(&format!("{name}=e-5"), "Last-Event-ID: e-6\r\n", 6);
        begins(&format!("{name}=e-5"), "Last-Event-ID: e-4\r\n", 5);
        begins(&format!("{name}=e-5"), "Last-Event-ID: 42\r\n", 5);
        begins(&format!("{name}=42"), "Last-Event-ID: e-4\r\n", 4);
        begins(&format!("{name}=other-5"), "Last-Event-ID: e-4\r\n", 4);
    }
    begins("since=e-9", "Last-Event-ID: e-4\r\n", 4);
}

#[test]
fn what_is_there_of_a_head_tells_an_event_source() {
    let config = Config { allowed_origins: vec!["https://app".into()], ..Config::default() };
    let text = get("/push?channel=a", "Accept: text/event-stream\r\nOrigin: https://app\r\nCookie: a=b\r\n");
    let at = |what: &str| text.find(what).unwrap();
    for end in 0..=text.len() {
        let (sse, cors) = read_partly(&text.as_bytes()[..end], &config);
        assert_eq!(sse, end >= at("Origin"), "{end}");
        assert_eq!(!cors.is_empty(), end >= at("Cookie"), "{end}");
    }
    for other in ["", "\r\n", "\n", "GET", "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n", "\u{16}\u{3}\u{1}garbage\n"] {
        assert_eq!(read_partly(other.as_bytes(), &config), (false, String::new()));
    }
}

#[test]
fn other_origins_get_cors_lines_where_allowed() {
    let config = Config { allowed_origins: vec!["https://app".into()], ..Config::default() };
    let text = get("/push?channel=a", "Origin: https://app\r\n");
    let head = head(text.as_bytes(), &config).unwrap().unwrap();
    assert!(head.cors.contains("Access-Control-Allow-Origin: https://app\r\n"));
    let own = get("/push?channel=a", "Origin: http://h:1\r\n");
    assert_eq!(super::read(own.as_bytes(), &config, &Known::default()).unwrap().unwrap().cors, "");
}

#[test]
fn the_host_of_an_absolute_target_counts_in_place_of_the_host_line() {
    let text = get("http://other:2/push?channel=a", "Origin: http://other:2\r\n");
    let config = Config::default();
    let read = head(text.as_bytes(), &config).unwrap().unwrap();
    assert!(read.wish.is_ok());
    assert_eq!((read.host, read.path), ("other:2", "/push"));
    assert_eq!(refused(&get("http://other:2/push?channel=a", "Origin: http://h:1\r\n")), (403, "origin"));
    assert_eq!(refused(&get("http://me@h:1/push?channel=a", "")), (400, "target"));
    // A host that has routed the request itself may know other schemes.
    let text = get("wss://other:2/push?channel=a", "Origin: https://other:2\r\n");
    let routed = super::read(text.as_bytes(), &config, &Known { any_path: true, ..Known::default() }).unwrap().unwrap();
    assert!(matches!(routed.wish, Ok(Wish::Subscribe(_))));
    assert_eq!(routed.host, "other:2");
    assert!(matches!(head(text.as_bytes(), &config).unwrap().unwrap().wish, Ok(Wish::Elsewhere { head: false })));
    let root = Config { path: "/".into(), ..Config::default() };
    let text = get("http://h:1?channel=a", "");
    assert!(matches!(head(text.as_bytes(), &root).unwrap().unwrap().wish, Ok(Wish::Subscribe(_))));
}

#[test]
fn the_token_is_found_in_whichever_line_of_cookies_it_stands() {
    for lines in [
        "Cookie: push_token=abc\r\nCookie: other=1\r\n",
        "Cookie: other=1\r\nCookie: push_token=abc\r\n",
        "Cookie: push_token=abc; other=1\r\nCookie: push_token=def\r\n",
        "Cookie: a_push_token=def\r\nCookie: push_tokens=def\r\nCookie: x;push_token= abc\r\n",
    ] {
        served(&get("/push?channel=a", lines), |subscribe| {
            assert_eq!(subscribe.token.as_deref(), Some("abc"), "{lines}")
        });
    }
}

#[test]
fn another_cookie_that_is_not_utf_8_does_not_hide_the_token() {
    let request =
        [&b"GET /push?channel=a HTTP/1.1\r\nHost: h\r\nCookie: name=J\xfcrgen; push_token=abc; x=\xff\r\n\r\n"[..]]
            .concat();
    let config = Config::default();
    match head(&request, &config).unwrap().unwrap().wish.unwrap() {
        Wish::Subscribe(subscribe) => assert_eq!(subscribe.token.as_deref(), Some("abc")),
        wish => panic!("{wish:?}"),
    }
}

#[test]
fn where_users_have_channels_no_request_names_one_and_it_need_not_name_any() {
    let config = Config { user_channel: true, ..Config::default() };
    let wish = |text: &str| head(text.as_bytes(), &config).unwrap().unwrap().wish.map(|_| ());
    for name in ["user:ada", "user%3Aada", "%75ser:", "users&channel=user:ada", "user:*x"] {
        for lines in ["", "Accept: text/event-stream\r\n", UPGRADE] {
            let text = get(&format!("/push?channel={name}"), lines);
            let refusal = wish(&text).unwrap_err();
            assert_eq!((refusal.status, &*refusal.code), (403, "channel"), "{name}");
            assert!(refusal.message.contains("option user_channel"), "{}", refusal.message);
            if !name.contains('*') {
                served(&text, |subscribe| assert!(subscribe.channels.iter().any(|name| name.starts_with("user:"))));
            }
        }
    }
    let without = get("/push", "");
    assert!(wish(&without).is_ok(), "only the user of the client is not known yet");
    assert_eq!(refused(&without), (400, "channel"));
}
