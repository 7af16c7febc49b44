//! One line of the log, and its form for people.

use super::Level;
use std::borrow::Cow;
use std::time::SystemTime;

/// A line of the log.
#[derive(Debug, Clone)]
pub struct Line {
    pub(crate) level: Level,
    pub(crate) time: SystemTime,
    pub(crate) text: String,
    /// The lines before this one that were dropped, if no other line tells of them.
    pub(crate) lost: u64,
}

impl Line {
    /// Its level.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The time at which it was logged.
    pub fn time(&self) -> SystemTime {
        self.time
    }

    /// What it says. If lines before it were dropped, it also says how many.
    pub fn text(&self) -> Cow<'_, str> {
        match self.lost {
            0 => Cow::Borrowed(&self.text),
            lost => Cow::Owned(format!("{}{}", self.text, note(lost))),
        }
    }

    /// The line as people read it, with the newline, in at most `max` bytes. A longer text is cut.
    pub(crate) fn written(&self, max: usize) -> String {
        let end = if self.lost > 0 { note(self.lost) } else { String::new() } + "\n";
        let mut line = written(Some(self.time), "libpush", Some(self.level), &self.text);
        let room = max.saturating_sub(end.len());
        if line.len() > room {
            const ELLIPSIS: &str = "…";
            let mut len = room.saturating_sub(ELLIPSIS.len());
            while !line.is_char_boundary(len) {
                len -= 1;
            }
            line.truncate(len);
            line += ELLIPSIS;
        }
        line + &end
    }
}

fn note(lost: u64) -> String {
    format!(" (lines dropped before this one: {lost})")
}

/// A line as people read it: `2026-11-29T12:00:00.123Z pushd: warning: …`, with the time in UTC. The time and the level
/// may be left out.
pub fn written(time: Option<SystemTime>, program: &str, level: Option<Level>, text: &str) -> String {
    let time = time.map_or(String::new(), |time| format!("{} ", humantime::format_rfc3339_millis(time)));
    let level = level.map_or(String::new(), |level| format!("{}: ", level.shown()));
    format!("{time}{program}: {level}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn line(text: &str, lost: u64) -> Line {
        let time = UNIX_EPOCH + Duration::from_millis(1_795_953_600_123);
        Line { level: Level::Warn, time, text: text.into(), lost }
    }

    #[test]
    fn a_line_for_people_has_time_level_and_text() {
        assert_eq!(line("a", 0).written(100), "2026-11-29T12:00:00.123Z libpush: warning: a\n");
        assert_eq!(written(None, "pushd", None, "a"), "pushd: a");
        assert_eq!(line("a", 0).text(), "a");
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_and_still_says_what_was_lost() {
        for max in [100, 101, 102] {
            let text = line(&"ü".repeat(4000), 7).written(max);
            assert!(text.ends_with("ü… (lines dropped before this one: 7)\n"), "{text}");
            assert!(text.len() <= max && text.len() > max - 2, "{}", text.len());
        }
        let whole = line("a", 0).written(usize::MAX);
        assert_eq!(line("a", 0).written(whole.len()), whole);
        assert!(line("a", 7).text().ends_with("a (lines dropped before this one: 7)"));
    }
}
