//! The lines that pushd logs to stderr, in the form that `--log-format` asks for.

use push::log::{written, Level};
use std::fmt;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::time::SystemTime;

/// The form of a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Form {
    /// `pushd: info: …`, for a service manager that notes the time itself.
    #[default]
    Plain,
    /// `2026-11-29T12:00:00.000Z pushd: info: …`.
    Text,
    /// An object in each line: `time`, `level` and `message`.
    Json,
}

/// The names of the forms, for the usage.
pub(super) const FORMS: &str = "plain, text or json";

static FORM: OnceLock<Form> = OnceLock::new();

impl Form {
    pub(super) fn read(text: &str) -> Option<Self> {
        match text {
            "plain" => Some(Form::Plain),
            "text" => Some(Form::Text),
            "json" => Some(Form::Json),
            _ => None,
        }
    }

    /// All lines from now on have this form. Only the first call counts.
    pub(super) fn set(self) {
        let _ = FORM.set(self);
    }

    /// A line. With `names_level` its level stands before the message also where there are no members.
    fn line(self, time: SystemTime, level: Level, names_level: bool, message: &str) -> String {
        let named = names_level.then_some(level);
        match self {
            Form::Plain => written(None, "pushd", named, message),
            Form::Text => written(Some(time), "pushd", named, message),
            Form::Json => {
                let (time, word) = (humantime::format_rfc3339_millis(time), level.shown());
                let message = serde_json::Value::from(message);
                format!("{{\"time\":\"{time}\",\"level\":\"{word}\",\"message\":{message}}}")
            }
        }
    }
}

/// Writes a line to stderr. `eprintln!` would panic if nobody reads the log any more or its disk is full. That is no
/// reason to end.
fn write(level: Level, names_level: bool, message: &str) {
    let form = FORM.get().copied().unwrap_or_default();
    let line = form.line(SystemTime::now(), level, names_level, message);
    let _ = writeln!(io::stderr(), "{line}");
}

/// Logs a line.
pub(super) fn log(level: Level, message: fmt::Arguments<'_>) {
    write(level, true, &message.to_string());
}

/// Says something to the person who has called the program.
pub(super) fn say(level: Level, message: fmt::Arguments<'_>) {
    write(level, false, &message.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn each_form_has_its_parts() {
        let time = UNIX_EPOCH + Duration::from_millis(1_795_953_600_123);
        let line = |form: &str, level, named, text| Form::read(form).unwrap().line(time, level, named, text);
        assert_eq!(line("plain", Level::Warn, true, "a"), "pushd: warning: a");
        assert_eq!(line("plain", Level::Error, false, "a"), "pushd: a");
        assert_eq!(line("text", Level::Info, true, "a \"b\""), "2026-11-29T12:00:00.123Z pushd: info: a \"b\"");
        assert_eq!(
            line("json", Level::Info, true, "a \"b\"\n\u{1b}"),
            r#"{"time":"2026-11-29T12:00:00.123Z","level":"info","message":"a \"b\"\n\u001b"}"#
        );
        assert!(line("json", Level::Error, false, "a").ends_with(r#""level":"error","message":"a"}"#));
        assert_eq!([Form::read("JSON"), Form::read("")], [None, None]);
    }
}
