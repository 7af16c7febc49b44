//! Options from a TOML file: flattened to the names and texts that `Builder::set` takes.

use crate::error::{Error, Kind};
use toml::{Table, Value};

/// The settings of a file, in its order. Lists become texts with commas.
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

/// In one line, for logs.
fn not_toml(text: &str, error: &toml::de::Error) -> Error {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = 1 + text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
    let message = error.message().replace('\n', " ");
    // What is wrong most often, and told by the parser as a number that is none.
    let value = text.lines().nth(line - 1).and_then(|line| line.split_once('=')).map(|(_, value)| value.trim_start());
    let bare = value.is_some_and(|value| !value.is_empty() && !value.starts_with(['"', '\'', '[', '{', '#']));
    let hint = if bare { "; all values but numbers, true and false need quotes" } else { "" };
    Error::new(Kind::Config, format!("not TOML: line {line}: {message}{hint}"))
}

/// `[channel."news.*"]` tables.
fn channels(patterns: Table, settings: &mut Vec<(String, String)>) -> Result<(), Error> {
    for (pattern, options) in patterns {
        let Value::Table(options) = options else {
            return Err(Error::new(Kind::Config, format!("channel.{pattern}: a table is expected")));
        };
        for (option, value) in options {
            let name = format!("channel.{pattern}.{option}");
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
        other => Err(Error::new(
            Kind::Config,
            format!("option {name}: a {} is not allowed; write a text, a number, true or false", other.type_str()),
        )),
    }
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
        assert!(error.starts_with("not TOML: line 2: ") && !error.contains('\n'), "{error}");
        assert!(!error.contains("quotes"), "{error}");
        for bare in ["listen = none", "max_message = 1MB", "a = 1\nheartbeat = 5s # often"] {
            let error = settings(bare).unwrap_err().to_string();
            assert!(error.ends_with("; all values but numbers, true and false need quotes"), "{error}");
        }
        assert!(settings("a = 1.5").is_err());
        assert!(settings("[channel]\nnews = 1").is_err());
    }
}
