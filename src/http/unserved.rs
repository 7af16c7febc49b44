//! Refuses requests before a shard has them: no hub is there, or the hub has no room.

use super::proxy_header;
use super::refusal::Refusal;
use crate::config::Config;
use crate::sys::socket;
use std::os::fd::OwnedFd;
use std::sync::LazyLock;

/// With this the request of a client is read that no hub has taken. A host does not know which origins the hub allows,
/// and need not: the answer in the library's words is the same for every page.
pub(crate) static ANY_ORIGIN: LazyLock<Config> =
    LazyLock::new(|| Config { allowed_origins: vec!["*".into()], ..Config::default() });

/// How much of a request is read to find the form of the answer.
const ENOUGH: usize = 16 * 1024;

/// Answers a request and ends our side of the connection. `head` is the part of the request that was read. This never
/// waits: what the socket does not take at once is lost.
pub(crate) fn refuse(fd: &OwnedFd, head: &[u8], config: &Config, refusal: &Refusal) {
    let mut head = head.to_vec();
    // Unread data would turn the close into a reset, and the answer might be lost.
    while head.len() < ENOUGH {
        let len = head.len();
        head.resize(ENOUGH, 0);
        let read = socket::recv(fd, &mut head[len..]).unwrap_or(0);
        head.truncate(len + read);
        if read == 0 {
            break;
        }
    }
    // A proxy may have sent its own header before the request.
    let proxied = match proxy_header::read(&head) {
        Ok(Some(header)) if config.proxy_protocol => header.size,
        _ => 0,
    };
    let _ = socket::send(fd, &refusal.response_to(&head[proxied..], config));
    // A host may have handed over a connection whose TLS is in the kernel.
    #[cfg(feature = "tls")]
    crate::sys::ktls::say_goodbye(fd);
    socket::shutdown_write(fd);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    /// The answer to a client of which `head` was read and `unread` was not.
    fn answer(config: &Config, head: &str, unread: &str) -> String {
        let (ours, mut client) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        client.write_all(unread.as_bytes()).unwrap();
        refuse(&ours.into(), head.as_bytes(), config, &Refusal::full());
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    #[cfg_attr(miri, ignore = "sockets")]
    fn an_event_source_is_told_to_come_back_whatever_precedes_its_accept_line() {
        let cookie = "c".repeat(8000);
        let request = format!(
            "GET /push?channel=a HTTP/1.1\r\nHost: h\r\nCookie: a={cookie}\r\nAccept: text/event-stream\r\n\r\n"
        );
        let header = "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n";
        let proxied = Config { proxy_protocol: true, ..Config::default() };
        for (config, unread) in [(Config::default(), request.clone()), (proxied.clone(), [header, &request].concat())] {
            let told = answer(&config, "", &unread);
            assert!(told.starts_with("HTTP/1.1 200 ") && told.contains("event: push-close\n"), "{told}");
        }
        // The header is absent here, since the shard has already read it.
        let told = answer(&proxied, &request, "");
        assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
        let plain = answer(&proxied, header, "GET /push?channel=a HTTP/1.1\r\nHost: h\r\n\r\n");
        assert!(plain.starts_with("HTTP/1.1 503 "), "{plain}");
    }
}
