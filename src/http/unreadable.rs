//! The refusals of request heads that can't be read, or that are too large.

use super::refusal::Refusal;
use super::request::MAX_HEADERS;
use crate::config::Config;

pub(super) fn unreadable(error: httparse::Error, bytes: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::too_large(format!("more than {MAX_HEADERS} header lines")),
        _ if check_line_ends(bytes).is_err() => bare_line_feed(),
        error => Refusal::malformed("http", format!("not an HTTP/1.1 request: {}", in_words(error))),
    }
}

fn in_words(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "a header line has no name, or one with a character that no name has",
        httparse::Error::HeaderValue => "a header line's value has a character that no value has",
        httparse::Error::Version => "its version is neither HTTP/1.0 nor HTTP/1.1",
        httparse::Error::NewLine => "a line does not end where it must",
        _ => "its first line is not METHOD, PATH and version",
    }
}

/// Lines must end in CR LF. A bare LF allows request smuggling (RFC 9112, section 2.2).
pub(super) fn check_line_ends(bytes: &[u8]) -> Result<(), Refusal> {
    // Parsers skip empty lines before the request line, but those must end in CR LF as well.
    let bare = |index: usize| index == 0 || bytes[index - 1] != b'\r';
    match memchr::memchr_iter(b'\n', bytes).any(bare) {
        true => Err(bare_line_feed()),
        false => Ok(()),
    }
}

fn bare_line_feed() -> Refusal {
    Refusal::malformed("line_end", "lines must end in CR LF")
}

pub(super) fn too_large(bytes: &[u8], config: &Config) -> Refusal {
    let max = config.max_head;
    let first_line = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    if first_line >= max {
        Refusal::uri_too_long(format!("the request line is longer than {max} bytes (option max_head)"))
    } else {
        Refusal::too_large(format!("the request head is larger than {max} bytes (option max_head)"))
    }
}
