//! The parsers that find the address of a client behind proxies.

use crate::config::{ForwardedHeader, TrustedProxies};
use crate::http::{forwarded, proxy_header};

/// A PROXY header. Bytes after a valid header change nothing, a part of a valid header is incomplete, and more bytes do
/// not make an invalid header valid.
pub(super) fn proxy_header(data: &[u8]) {
    let more = [data, b"GET"].concat();
    match proxy_header::read(data) {
        Ok(Some(header)) => {
            assert!(header.size <= data.len());
            assert_eq!(proxy_header::read(&more), Ok(Some(header)), "bytes after a header change the result");
            for cut in 0..header.size {
                assert_eq!(proxy_header::read(&data[..cut]), Ok(None), "the part up to {cut} is not incomplete");
            }
        }
        Ok(None) => assert!(data.len() < 4096, "it waits for more bytes than any header has"),
        Err(_) => assert!(proxy_header::read(&more).is_err(), "more bytes made it valid"),
    }
}

/// The header lines of trusted proxies. A stranger can write anything to the left of the client's address, and the
/// address that is found stays the same.
pub(super) fn forwarded(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let lines: Vec<&str> = text.split('\n').collect();
    let Some(trusted) = TrustedProxies::read("10.0.0.0/8, 2001:db8::/32") else { return };
    for header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
        let found = forwarded::client(&lines, header, &trusted);
        if found.is_none_or(|ip| trusted.contains_ip(ip)) {
            continue;
        }
        for stranger in ["1.1.1.1", "for=1.1.1.1", "for=\"1.1.1.1", "\"", "\\\"", ";", "unknown"] {
            let first = format!("{stranger}, {}", lines[0]);
            let longer: Vec<&str> = std::iter::once(first.as_str()).chain(lines[1..].iter().copied()).collect();
            assert_eq!(forwarded::client(&longer, header, &trusted), found, "{stranger}");
            let more: Vec<&str> = std::iter::once(stranger).chain(lines.iter().copied()).collect();
            assert_eq!(forwarded::client(&more, header, &trusted), found, "{stranger} in a line of its own");
        }
    }
}
