use super::*;

fn ip(text: &str) -> Option<Peer> {
    Some(Peer::Ip(text.parse().unwrap()))
}

/// A header of version 2: command, family, addresses and extensions.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = (rest.len() as u16).to_be_bytes();
    [SIGNATURE, &[command, family][..], &length, rest].concat()
}

const V4_BLOCK: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0x10, 0x92, 0, 80];

fn v6_block() -> Vec<u8> {
    let address = "2001:db8::1".parse::<Ipv6Addr>().unwrap().octets();
    [&address[..], &address, &[0, 1, 0, 2]].concat()
}

#[test]
fn good_headers() {
    let longest = "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n";
    let unix = [[0; 108], [0; 108]].concat();
    let extension = [&V4_BLOCK[..], &[0x05, 0, 3, 1, 2, 3]].concat();
    let cases: Vec<(&str, Vec<u8>, Option<Peer>)> = vec![
        ("2.1: TCP4", "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n".into(), ip("192.0.2.1")),
        (
            "2.1: the longest TCP4",
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n".into(),
            ip("255.255.255.255"),
        ),
        ("2.1: TCP6", "PROXY TCP6 2001:db8::1 ::1 1 65535\r\n".into(), ip("2001:db8::1")),
        ("2.1: port 0", "PROXY TCP4 192.0.2.1 198.51.100.1 0 0\r\n".into(), ip("192.0.2.1")),
        ("2.1: TCP6 of an IPv4 client", "PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n".into(), ip("192.0.2.1")),
        ("2.1: UNKNOWN", "PROXY UNKNOWN\r\n".into(), None),
        ("2.1: UNKNOWN, with what is ignored", longest.into(), None),
        ("2.2: PROXY, TCP over IPv4", v2(0x21, 0x11, &V4_BLOCK), ip("192.0.2.1")),
        ("2.2: PROXY, TCP over IPv6", v2(0x21, 0x21, &v6_block()), ip("2001:db8::1")),
        ("2.2: PROXY, Unix stream", v2(0x21, 0x31, &unix), Some(Peer::Unix)),
        ("2.2: PROXY, UNSPEC: the real endpoint", v2(0x21, 0x00, &[1, 2, 3]), None),
        ("2.2: LOCAL", v2(0x20, 0x00, &[]), None),
        ("2.2: LOCAL, whatever family and block", v2(0x20, 0x99, &[1, 2, 3]), None),
        ("2.2.7: extensions are passed over", v2(0x21, 0x11, &extension), ip("192.0.2.1")),
    ];
    for (what, bytes, source) in cases {
        let more = [&bytes[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
        let expected = Ok(Some(ProxyHeader { source, size: bytes.len() }));
        assert_eq!(read(&more), expected, "{what}");
        assert_eq!(read(&bytes), expected, "{what}, alone");
        // "The receiver may have to wait": cut anywhere, it is neither good nor bad.
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), Ok(None), "{what}, cut at {end}");
        }
    }
}

#[test]
fn bad_headers() {
    let line = |text: &str| format!("PROXY {text}\r\n").into_bytes();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("2: no header", b"GET /push?channel=a HTTP/1.1\r\n\r\n".to_vec()),
        ("2: another first byte", b"\n".to_vec()),
        ("2.1: lower case", b"proxy TCP4 192.0.2.1 198.51.100.1 1 2\r\n".to_vec()),
        ("2.1: no blank", b"PROXY\r\n".to_vec()),
        ("2.1: two blanks", line("TCP4  192.0.2.1 198.51.100.1 1 2")),
        ("2.1: a blank at the end", line("TCP4 192.0.2.1 198.51.100.1 1 2 ")),
        ("2.1: an unknown protocol", line("UDP4 192.0.2.1 198.51.100.1 1 2")),
        ("2.1: nothing", line("")),
        ("2.1: UNKNOWN and no blank", line("UNKNOWNS")),
        ("2.1: another family", line("TCP4 ::1 ::1 1 2")),
        ("2.1: another family", line("TCP6 192.0.2.1 198.51.100.1 1 2")),
        ("2.1: a leading zero in an address", line("TCP4 192.0.02.1 198.51.100.1 1 2")),
        ("2.1: a leading zero in a port", line("TCP4 192.0.2.1 198.51.100.1 01 2")),
        ("2.1: a sign before a port", line("TCP4 192.0.2.1 198.51.100.1 +1 2")),
        ("2.1: a port that is too large", line("TCP4 192.0.2.1 198.51.100.1 65536 2")),
        ("2.1: no ports", line("TCP4 192.0.2.1 198.51.100.1")),
        ("2.1: one port", line("TCP4 192.0.2.1 198.51.100.1 1")),
        ("2.1: three ports", line("TCP4 192.0.2.1 198.51.100.1 1 2 3")),
        ("2.1: a lone LF", b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2\n\r\n".to_vec()),
        ("2.1: longer than 107 bytes", line(&format!("UNKNOWN {}", "x".repeat(100)))),
        ("2.1: longer than 107 bytes, without an end", [&b"PROXY UNKNOWN "[..], &[b'x'; 100]].concat()),
        ("2.1: not ASCII", [&b"PROXY \xff"[..], b"\r\n"].concat()),
        ("2.2: version 1 in binary", v2(0x11, 0x11, &V4_BLOCK)),
        ("2.2: version 3", v2(0x31, 0x11, &V4_BLOCK)),
        ("2.2: an unknown command", v2(0x22, 0x11, &V4_BLOCK)),
        ("2.2: datagrams over IPv4", v2(0x21, 0x12, &V4_BLOCK)),
        ("2.2: datagrams over IPv6", v2(0x21, 0x22, &v6_block())),
        ("2.2: an unknown family", v2(0x21, 0x41, &[0; 216])),
        ("2.2: a block that is too short", v2(0x21, 0x11, &V4_BLOCK[..11])),
        ("2.2: a block that is too short", v2(0x21, 0x21, &V4_BLOCK)),
        ("2.2: a block that is too short", v2(0x21, 0x31, &[0; 215])),
        ("2.2: a block that is too long", v2(0x21, 0x11, &[0; 5000])),
        ("2.2: a long block that is still to come", v2(0x21, 0x11, &[0; 5000])[..16].to_vec()),
        ("2.2: another signature", b"\r\n\r\n\0\r\nQUIZ\n".to_vec()),
    ];
    for (what, bytes) in cases {
        assert!(read(&bytes).is_err(), "{what}: {:?}", read(&bytes));
    }
}
