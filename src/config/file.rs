//! Reads options from a TOML file, as the names and texts that `Builder::set` takes.

use super::options;
use super::wrong::{edits, error, named, shown};
use crate::error::Error;
use toml::{Table, Value};

/// The settings of a file, in the order of their names, which does not matter. Lists become texts with commas.
pub(super) fn settings(text: &str) -> Result<Vec<(String, String)>, Error> {
    let table: Table = text.parse().map_err(|error| not_toml(text, &error))?;
    let mut settings = Vec::new();
    for (name, value) in table {
        match value {
            Value::Table(patterns) if name == "channel" => channels(patterns, &mut settings)?,
            value => settings.push((name.clone(), scalar(&name, value)?)),
        }
    }
    Ok(settings)
}

/// The error for a text that is not TOML: the line, and a hint at the most common mistake. The parser's own messages
/// fill pages, and may show a secret.
fn not_toml(text: &str, wrong: &toml::de::Error) -> Error {
    let at = wrong.span().map_or(0, |span| span.start.min(text.len()));
    let line = 1 + text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
    if wrong.message().starts_with("duplicate key") {
        return error(format!("line {line}: this name is set twice"));
    }
    let line_text = text.lines().nth(line - 1).unwrap_or_default();
    let (name, value) = line_text.split_once('=').unwrap_or((line_text, ""));
    let bare = value.trim_start().starts_with(|first| !"\"'[{#".contains(first));
    let hint = if name.trim().contains('*') {
        "; a pattern needs quotes, as in [channel.\"news.*\"]"
    } else if bare {
        "; all values but numbers, true and false need quotes"
    } else {
        ""
    };
    error(format!("line {line} is not TOML{hint}"))
}

/// `[channel."news.*"]` tables.
fn channels(patterns: Table, settings: &mut Vec<(String, String)>) -> Result<(), Error> {
    for (pattern, options) in patterns {
        let Value::Table(options) = options else {
            let name = named(&pattern);
            return Err(error(format!("channel.{name}: a table is expected, as in [channel.\"news.*\"]")));
        };
        for (option, value) in options {
            let name = format!("channel.{pattern}.{option}");
            if value.is_table() {
                let name = named(&name);
                return Err(error(format!("{name}: a pattern with dots needs quotes, as in [channel.\"news.sport\"]")));
            }
            let text = scalar(&name, value)?;
            settings.push((name, text));
        }
    }
    Ok(())
}

fn scalar(name: &str, value: Value) -> Result<String, Error> {
    match value {
        Value::String(text) => Ok(text),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Boolean(flag) => Ok(flag.to_string()),
        Value::Array(items) => {
            let items = items.into_iter().map(|item| scalar(name, item)).collect::<Result<Vec<_>, _>>()?;
            Ok(items.join(","))
        }
        Value::Table(_) => Err(no_table(name)),
        Value::Float(_) | Value::Datetime(_) => Err(error(format!(
            "option {}: write a whole number, true or false, or a text such as \"500ms\"",
            named(name)
        ))),
    }
}

/// Only channel patterns have tables.
fn no_table(name: &str) -> Error {
    let shown = shown(name);
    if options::find(name).is_some() {
        return error(format!("option {name}: a table is not allowed; write a text, a number, true or false"));
    }
    if edits(name, "channel") <= 2 {
        return error(format!("unknown table {shown}; did you mean channel, as in [channel.\"news.*\"]?"));
    }
    error(format!("unknown table {shown}; options stand at the top, without one, or in [channel.\"PATTERN\"]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_flatten_to_names_and_texts() {
        let text = "listen = [\"127.0.0.1:1\", \"unix:/x\"]\nthreads = 2\nclient_publish = true\n[channel.\"news.*\"]\nhistory_age = \"1h\"\n";
        let mut settings = settings(text).unwrap();
        settings.sort();
        let settings: Vec<_> = settings.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert_eq!(
            settings,
            [
                ("channel.news.*.history_age", "1h"),
                ("client_publish", "true"),
                ("listen", "127.0.0.1:1,unix:/x"),
                ("threads", "2")
            ]
        );
    }

    #[test]
    fn what_is_not_an_option_is_refused() {
        let error = settings("b = 1\na = ").unwrap_err().to_string();
        assert_eq!(error, "line 2 is not TOML");
        for bare in ["listen = none", "max_message = 1MB", "a = 1\nheartbeat = 5s # often"] {
            let error = settings(bare).unwrap_err().to_string();
            assert!(error.ends_with("; all values but numbers, true and false need quotes"), "{error}");
        }
        for (text, told) in [
            ("heartbeat = 1.5", "option heartbeat: write a whole number, true or false, or a text such as \"500ms\""),
            ("listen = 1979-05-27", "option listen: write a whole number, true or false, or a text such as \"500ms\""),
            ("[channel]\nnews = 1", "channel.news: a table is expected, as in [channel.\"news.*\"]"),
            (
                "[channels.\"news.*\"]\nhistory_count = 1",
                "unknown table \"channels\"; did you mean channel, as in [channel.\"news.*\"]?",
            ),
            (
                "[channel.news.sport]\nhistory_count = 1",
                "channel.news.sport: a pattern with dots needs quotes, as in [channel.\"news.sport\"]",
            ),
            (
                "[channel.news.*]\nhistory_count = 1",
                "line 1 is not TOML; a pattern needs quotes, as in [channel.\"news.*\"]",
            ),
            ("[listen]\na = 1", "option listen: a table is not allowed; write a text, a number, true or false"),
            (
                "[server]\nlisten = \"none\"",
                "unknown table \"server\"; options stand at the top, without one, or in [channel.\"PATTERN\"]",
            ),
            ("threads = 1\nthreads = 2", "line 2: this name is set twice"),
        ] {
            assert_eq!(settings(text).unwrap_err().to_string(), told, "{text}");
        }
    }
}
