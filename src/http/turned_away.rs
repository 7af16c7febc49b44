//! The response to a client that the host turns away itself. It has the form of the library's own refusals.

use super::refusal::Refusal;
use super::unserved::ANY_ORIGIN;
use crate::config::Config;
use crate::error::{Error, Kind};
use std::borrow::Cow;

/// No response is longer, in bytes.
pub(crate) const MAX_RESPONSE: usize = 8192;
/// The length of a code and of a message, in bytes. In JSON each byte may become six.
const MAX_CODE: usize = 64;
const MAX_MESSAGE: usize = 1024;
/// How much of a request is read to find the form of the answer. It is a little less than a head may have.
const ENOUGH: usize = 16_000;

/// Why a host turns a client away.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Why {
    /// A call failed. `None` is an error that has no kind, such as a bug of the library.
    Failed(Option<Kind>),
    /// The host's own reason, as an HTTP status.
    Status(i32),
}

/// The host's own words, if it has any: a word for programs, and a sentence for people.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Words<'a> {
    pub(crate) code: Option<&'a str>,
    pub(crate) message: Option<&'a str>,
}

/// The whole response. `head` is the part of the request that the host has read. A page of any origin may read what the
/// library says. What the host says is for the origins that `config` allows.
pub(crate) fn response(why: Why, words: Words<'_>, head: &[u8], config: &Config) -> Result<Vec<u8>, Error> {
    let refusal = refusal(why, words)?;
    let reader = match (why, words) {
        (Why::Failed(_), Words { code: None, message: None }) => &ANY_ORIGIN,
        _ => config,
    };
    let response = refusal.response_read_by(&head[..head.len().min(ENOUGH)], reader, config.retry_ms);
    // Only the name of an origin can be that long.
    Ok(if response.len() > MAX_RESPONSE { refusal.response("") } else { response })
}

fn refusal(why: Why, words: Words<'_>) -> Result<Refusal, Error> {
    let too_long = |name: &str, text: Option<&str>, max: usize| match text {
        Some(text) if text.len() > max => {
            Err(Error::invalid(format!("{name}: {} bytes; at most {max} are allowed", text.len())))
        }
        _ => Ok(()),
    };
    too_long("code", words.code, MAX_CODE)?;
    too_long("message", words.message, MAX_MESSAGE)?;
    let own = |default: &'static str| -> Cow<'static, str> {
        words.message.map_or(default.into(), |message| message.to_owned().into())
    };
    let refusal = match why {
        Why::Failed(Some(kind)) => Refusal::failed(kind, own(sentence(Some(kind)))),
        Why::Failed(None) => Refusal::internal(own(sentence(None))),
        Why::Status(status @ 400..=599) => Refusal::by_host(status as u16, own("not allowed")),
        Why::Status(status) => {
            return Err(Error::invalid(format!("why: {status}; a PUSH_ERR_ status, or 400 to 599, is allowed")));
        }
    };
    Ok(match words.code {
        Some(code) => refusal.with_code(code),
        None => refusal,
    })
}

/// The library's words for the client on whose behalf a call failed.
fn sentence(kind: Option<Kind>) -> &'static str {
    match kind {
        Some(Kind::Invalid) => "a channel, user, info, event or key is missing or not allowed",
        Some(Kind::TooLarge) => "the message or the request is larger than is allowed here",
        Some(Kind::NotFound) => "there is no such connection",
        Some(Kind::Busy) => "the hub can't be reached, or too many requests wait for it; nothing was done, try again",
        Some(Kind::Closed) => "the server is going away",
        Some(Kind::Limit) => "max_connections is reached",
        Some(Kind::Timeout) => "the hub has not answered in time; the request may have been done, or will be",
        // The host's log says more. It is nothing for strangers.
        Some(Kind::System | Kind::Config | Kind::Descriptor | Kind::Unsupported) | None => "the server can't do that",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: &str = "GET /push?channel=a HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n";
    const HEADERS: &str = "GET /push?channel=a HTTP/1.1\r\nHost: h\r\n";

    fn words<'a>(code: &'a str, message: &'a str) -> Words<'a> {
        Words { code: Some(code), message: Some(message) }
    }

    fn told(why: Why, message: Option<&str>, head: &str, config: &Config) -> String {
        let own = message.map_or(Words::default(), |message| words("code", message));
        String::from_utf8(response(why, own, head.as_bytes(), config).unwrap()).unwrap()
    }

    #[test]
    fn an_event_source_is_told_to_come_back_if_that_may_help() {
        let config = Config { retry_ms: 7000, ..Config::default() };
        for status in 400..600 {
            let given = told(Why::Status(status), Some("why"), EVENTS, &config);
            let passes = matches!(status, 408 | 425 | 429) || status >= 500;
            assert_eq!(given.starts_with("HTTP/1.1 200 "), passes, "{given}");
            assert!(passes || given.starts_with(&format!("HTTP/1.1 {status} ")), "{given}");
            if let Some((_, time)) = given.split_once("\r\n\r\nretry: ") {
                let time: u64 = time.split('\n').next().unwrap().parse().unwrap();
                assert!((7000..=14_000).contains(&time), "{given}");
            }
            let plain = told(Why::Status(status), Some("why"), HEADERS, &config);
            assert!(plain.starts_with(&format!("HTTP/1.1 {status} ")), "{plain}");
            assert_eq!(plain.contains("\r\nRetry-After: "), passes, "{plain}");
            assert!(plain.ends_with("\r\n\r\n{\"error\":{\"code\":\"code\",\"message\":\"why\"}}\n"), "{plain}");
        }
        for status in [0, 399, 600, 65_536 + 400] {
            assert!(response(Why::Status(status), Words::default(), b"", &config).is_err(), "{status}");
        }
    }

    #[test]
    fn a_failed_call_has_a_status_and_words_of_its_own() {
        for (kind, begin, retry) in [
            (Some(Kind::Invalid), "HTTP/1.1 400 ", false),
            (Some(Kind::TooLarge), "HTTP/1.1 413 ", false),
            (Some(Kind::Busy), "HTTP/1.1 503 ", true),
            (Some(Kind::Closed), "HTTP/1.1 503 ", true),
            (Some(Kind::Limit), "HTTP/1.1 503 ", true),
            (Some(Kind::Timeout), "HTTP/1.1 504 ", false),
            (Some(Kind::System), "HTTP/1.1 503 ", true),
            (Some(Kind::NotFound), "HTTP/1.1 404 ", false),
            (Some(Kind::Config), "HTTP/1.1 500 ", false),
            (Some(Kind::Unsupported), "HTTP/1.1 500 ", false),
            (Some(Kind::Descriptor), "HTTP/1.1 500 ", false),
            (None, "HTTP/1.1 500 ", false),
        ] {
            let told = told(Why::Failed(kind), None, "", &Config::default());
            assert!(told.starts_with(begin) && told.contains(sentence(kind)), "{told}");
            assert_eq!(told.contains("\r\nRetry-After: "), retry, "{told}");
        }
    }

    #[test]
    fn a_page_of_another_origin_reads_the_librarys_words_and_where_it_is_allowed_the_hosts() {
        let head = format!("{EVENTS}Origin: https://other.test\r\n");
        let allowing = Config { allowed_origins: vec!["https://other.test".into()], ..Config::default() };
        let readable = |told: String| told.contains("\r\nAccess-Control-Allow-Origin: https://other.test\r\n");
        for config in [Config::default(), allowing.clone()] {
            assert!(readable(told(Why::Failed(Some(Kind::Busy)), None, &head, &config)));
        }
        for why in [Why::Failed(Some(Kind::Busy)), Why::Status(503), Why::Status(403)] {
            assert!(!readable(told(why, Some("secret"), &head, &Config::default())));
            assert!(readable(told(why, Some("secret"), &head, &allowing)));
        }
    }

    #[test]
    fn the_longest_response_has_its_bound() {
        let (code, message) = ("\u{1}".repeat(MAX_CODE), "\u{1}".repeat(MAX_MESSAGE));
        for origin in [1, 200, 1000, 15_000, 100_000] {
            let head = format!("{EVENTS}Origin: https://{}\r\n\r\n", "o".repeat(origin));
            for why in [Why::Status(426), Why::Status(503), Why::Failed(Some(Kind::Busy))] {
                let config = Config { allowed_origins: vec!["*".into()], ..Config::default() };
                let told = response(why, words(&code, &message), head.as_bytes(), &config).unwrap();
                assert!(told.len() <= MAX_RESPONSE, "{}", told.len());
            }
        }
        let why = Why::Status(403);
        assert!(response(why, words(&format!("{code}c"), ""), b"", &Config::default()).is_err());
        assert!(response(why, words("", &format!("{message}m")), b"", &Config::default()).is_err());
    }
}
