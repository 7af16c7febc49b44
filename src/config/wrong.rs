//! The errors for wrong options. A host has room for 255 bytes (`err[256]` in C). Each sentence fits, and the most
//! important part comes first.

use super::builder::OPTIONS_OF_CHANNELS;
use super::options::{self, Spec};
use crate::error::{Error, Kind};
use std::borrow::Cow;
use std::fmt::Write;

/// How much of a name or a value is repeated.
const SHOWN: usize = 60;

pub(super) fn error(text: String) -> Error {
    Error::new(Kind::Config, text)
}

/// A text from outside, in quotes. It is cut with an ellipsis.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::from("\"");
    for letter in text.chars() {
        let letter = letter.escape_debug();
        if shown.len() + letter.len() > SHOWN {
            return shown + "...\"";
        }
        // Writing into a String does not fail.
        let _ = write!(shown, "{letter}");
    }
    shown + "\""
}

/// A name, or the beginning of a long one.
pub(super) fn named(name: &str) -> String {
    let shown = shown(name);
    shown.strip_suffix('"').unwrap_or(&shown)[1..].to_owned()
}

/// The error for an unknown option.
pub(super) fn unknown(name: &str) -> Error {
    if let Some((first, rest)) = name.split_once('.') {
        let example = "channel.PATTERN.history_count";
        let meant = if edits(first, "channel") <= 2 { format!("channel.{}", named(rest)) } else { example.into() };
        return error(format!("unknown option {}; did you mean {meant}?", shown(name)));
    }
    if OPTIONS_OF_CHANNELS.contains(&name) {
        return error(format!("unknown option {}; did you mean channel.PATTERN.{name}?", shown(name)));
    }
    let known = options::all().map(|option| option.name);
    let (edits, nearest) = known.map(|known| (edits(name, known), known)).min().unwrap_or_default();
    let advice = if edits * 3 <= name.len() {
        format!("did you mean {nearest}?")
    } else {
        match sharing_a_word(name) {
            Some(names) => format!("similar ones are {names}"),
            None => "the README lists all options".into(),
        }
    };
    error(format!("unknown option {}; {advice}", shown(name)))
}

/// Options that share a word with a name, four at most.
fn sharing_a_word(name: &str) -> Option<String> {
    let words: Vec<_> = name.split(['_', '-']).filter(|word| (3..=SHOWN).contains(&word.len())).take(8).collect();
    let shares = |known: &&str| known.split('_').any(|word| words.contains(&word));
    let names: Vec<_> = options::all().map(|option| option.name).filter(shares).take(4).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// The error for an unknown option of channels.
pub(super) fn unknown_of_channels(name: &str) -> Error {
    error(format!("unknown option {}; the options of channels are {}", shown(name), OPTIONS_OF_CHANNELS.join(", ")))
}

/// The error for a value that is not allowed.
pub(super) fn refused(option: &Spec, name: &str, value: &str, allowed: &str) -> Error {
    // A secret must not get into a log.
    let is_secret = option.is_secret() || (matches!(option.name, "engine" | "trace") && value.contains(['@', '?']));
    let shown = if is_secret { "the value (not shown)".into() } else { shown(value) };
    let hint = hint(option.name, value).map_or_else(String::new, |hint| format!("; {hint}"));
    error(format!("option {}: {shown} is not allowed; allowed is {allowed}{hint}", named(name)))
}

/// A hint for values that are a common mistake.
fn hint(name: &str, value: &str) -> Option<Cow<'static, str>> {
    if name == "allowed_origins" {
        return super::origins::read(value).err().map(Cow::Owned);
    }
    if value.contains("unix:@") {
        return Some("an abstract socket has no file whose mode says who may connect".into());
    }
    if name.starts_with("jwt_") && (value.starts_with("http://") || value.starts_with("https://")) {
        return Some("nothing is fetched from there".into());
    }
    crate::engine::shared::has_placeholder(value.as_bytes()).then(|| "nothing replaces ${NAME}".into())
}

/// The number of letters to insert, delete or change to make one text into the other (Levenshtein).
pub(super) fn edits(wrong: &str, known: &str) -> usize {
    // A longer text is not a misspelt name, and the work is the product of both lengths.
    if wrong.len() > 64 {
        return usize::MAX / 3;
    }
    let mut row: Vec<usize> = (0..=known.len()).collect();
    for (i, a) in wrong.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in known.bytes().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[known.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Builder;

    fn set(name: &str, value: &str) -> String {
        Builder::default().set(name, value).unwrap_err().to_string()
    }

    #[test]
    fn the_name_that_was_meant_is_told() {
        for (wrong, advice) in [
            ("max_mesage", r#"unknown option "max_mesage"; did you mean max_message?"#),
            ("origins", r#"unknown option "origins"; similar ones are allowed_origins"#),
            ("channels.news.*.history_count", r#"...history_count"; did you mean channel.news.*.history_count?"#),
            ("server.listen", r#"unknown option "server.listen"; did you mean channel.PATTERN.history_count?"#),
            ("frobnicate", r#"unknown option "frobnicate"; the README lists all options"#),
            ("", r#"unknown option ""; the README lists all options"#),
        ] {
            let error = set(wrong, "1");
            assert!(error.ends_with(advice.trim_start_matches("...")), "{error}");
        }
    }

    #[test]
    fn every_error_about_an_option_fits_in_what_a_host_has_for_it() {
        let long =
            ["x".repeat(1 << 20), "\u{1}".repeat(1000), "\u{1F4A9}".repeat(1000), "-1.5".into(), "\"".repeat(99)];
        for value in &long {
            for option in options::all() {
                if let Err(error) = Builder::default().set(option.name, value) {
                    let error = error.to_string();
                    assert!(error.len() < 256 && error.contains("allowed is "), "{error}");
                }
            }
            for name in [value.as_str(), &format!("channel.{value}.history_count"), &format!("channel.{value}.x")] {
                let error = set(name, "-1");
                assert!(error.len() < 256, "{error}");
            }
            let error = Builder::default().load_text(&format!("[{value:?}]\nx = 1\n")).unwrap_err().to_string();
            assert!(error.len() < 256, "{error}");
        }
    }

    #[test]
    fn no_secret_in_a_url_is_repeated() {
        for (name, value) in [
            ("engine", "http://user:SECRET@h"),
            ("engine", "http://h?token=SECRET"),
            ("trace", "otlp:http://user:SECRET@h:4318"),
            ("trace", "otlp:http://SECRET@h:4318/v1/traces"),
            ("trace", "otlp:http://h/v1/traces?api-key=SECRET"),
            ("trace", "https://h:4318/v1/traces?api-key=SECRET"),
        ] {
            let error = set(name, value);
            assert!(!error.contains("SECRET") && error.contains("allowed is "), "{error}");
        }
    }

    #[test]
    fn values_that_are_meant_well_are_told_what_to_write() {
        for (name, value, advice) in [
            ("heartbeat", "0.5s", "from 100ms to 1d, a whole number with ms, s, m, h or d"),
            ("max_message", "0.5MB", "from 1 to 64MB, a whole number with KB, MB or GB"),
            ("max_message", "65MB", "allowed is a size from 1 to 64MB"),
            ("listen", "unix:@name", "; an abstract socket has no file whose mode says who may connect"),
            ("control", "unix:@name", "; an abstract socket has no file whose mode says who may connect"),
            ("attach", "unix:@name", "; an abstract socket has no file whose mode says who may connect"),
            ("attach_listen", "unix:@name", "; an abstract socket has no file whose mode says who may connect"),
            (
                "jwt_jwks",
                "https://example.org/jwks.json",
                "allowed is a path, or a JSON object; nothing is fetched from there",
            ),
            ("jwt_keys", "https://example.org/key.pem", "; nothing is fetched from there"),
            ("allowed_origins", "https://a.example, https://b.example:443", ": write https://b.example"),
            ("allowed_origins", "https://b.example/app", "; browsers send no path: write https://b.example"),
            ("jwt_secret", "${JWT_SECRET:-0123456789abcdef0123456789abcdef}", "; nothing replaces ${NAME}"),
            ("control_key", "${CONTROL_KEY_OF_PUSHD}", "; nothing replaces ${NAME}"),
            ("engine", "redis://:${REDIS_PASSWORD}@redis:6379/0", "; nothing replaces ${NAME}"),
            ("engine", "nats://nats:4222?token=${NATS_TOKEN:-none}", "; nothing replaces ${NAME}"),
        ] {
            let error = set(name, value);
            assert!(error.ends_with(advice), "{error}");
            let is_secret = options::find(name).unwrap().is_secret();
            assert!(!is_secret || !error.contains(value), "a secret must not be repeated: {error}");
        }
    }
}
