//! Text for a terminal. Names and data come from strangers: nothing of them may move the cursor, change what was written
//! before, or look like something else.

use std::fmt::Write;
use unicode_width::UnicodeWidthStr;

/// True for a character that is not shown as it is: a control character, or one that changes the direction or the look of
/// others, or is invisible.
fn is_unsafe(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}')
        || matches!(char, '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
        || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(char, '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// True for a space that is not the usual one, and for what looks like a space.
fn is_other_space(char: char) -> bool {
    char == '\u{2800}' || char.is_whitespace() && char != ' ' && !char.is_control()
}

/// A text as it may be written: each unsafe character is escaped as in Rust, and a backslash is doubled, so that two
/// texts never look the same.
pub(super) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|char| write_clean(char, &mut out));
    out
}

fn write_clean(char: char, out: &mut String) {
    match char {
        '\\' => out.push_str("\\\\"),
        '\n' | '\t' | '\r' => out.extend(char.escape_default()),
        _ if is_unsafe(char) => out.extend(char.escape_unicode()),
        _ => out.push(char),
    }
}

/// A name as it may be written beside others. Two spaces are between columns, so of the spaces in a name only single ones
/// between other characters stay as they are.
pub(super) fn clean_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let (mut before, mut chars) = (' ', name.chars().peekable());
    while let Some(char) = chars.next() {
        let is_single = before != ' ' && chars.peek().is_some_and(|next| *next != ' ');
        match char {
            ' ' if !is_single => out.extend(char.escape_unicode()),
            _ if is_other_space(char) => out.extend(char.escape_unicode()),
            _ => write_clean(char, &mut out),
        }
        before = char;
    }
    out
}

/// JSON in which each unsafe character is escaped. It means the same.
pub(super) fn clean_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for char in json.chars() {
        if char == '\n' || !is_unsafe(char) {
            out.push(char);
            continue;
        }
        for unit in char.encode_utf16(&mut [0; 2]) {
            // Writing into a String does not fail.
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    out
}

/// The beginning of a text, so that it takes at most so many cells of a terminal. The end of a text that was cut shows it.
pub(super) fn cut(text: &str, cells: usize) -> String {
    if text.width() <= cells {
        return text.to_owned();
    }
    let Some(left) = cells.checked_sub(1) else { return String::new() };
    // Several characters together may be wider than each alone, so the whole beginning is measured.
    let ends = text.char_indices().map(|(at, _)| at);
    let end = ends.take_while(|end| text[..*end].width() <= left).last().unwrap_or(0);
    format!("{}\u{2026}", &text[..end])
}

/// A number of bytes as a person reads it.
pub(super) fn bytes(count: u64) -> String {
    let units = [("GB", 1u64 << 30), ("MB", 1 << 20), ("KB", 1 << 10)];
    match units.iter().find(|(_, size)| count >= *size) {
        Some((unit, size)) => format!("{:.1} {unit}", count as f64 / *size as f64),
        None => format!("{count} B"),
    }
}

/// A time in milliseconds as a person reads it.
pub(super) fn time(ms: u64) -> String {
    match ms {
        0 => "-".to_owned(),
        1..=999 => format!("{ms} ms"),
        1000..=59_999 => format!("{:.1} s", ms as f64 / 1000.0),
        60_000..=3_599_999 => format!("{} min {} s", ms / 60_000, ms / 1000 % 60),
        _ => format!("{} h {} min", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// Rows below a head, each column as wide as its widest cell. Cells are cleaned here. Numbers stand at the right.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    table_within(head, rows, usize::MAX)
}

/// The same, with a bound for the width of a column, so that a long name does not push the others away.
pub(super) fn table_within(head: &[&str], rows: &[Vec<String>], widest: usize) -> String {
    let shown = |cell: &String| cut(&clean_name(cell), widest);
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(shown).collect()).collect();
    let wide = |text: &str| text.width();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| wide(cell));
        cells.chain([wide(head[column])]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let is_number = |column: usize| {
        let begins = |cell: &String| cell.is_empty() || cell == "-" || cell.starts_with(|c: char| c.is_ascii_digit());
        rows.iter().filter_map(|row| row.get(column)).all(|cell| begins(cell) && wide(cell) < 16)
    };
    let right: Vec<bool> = (0..head.len()).map(is_number).collect();
    let mut out = String::new();
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    for row in std::iter::once(&head).chain(&rows) {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[column].saturating_sub(wide(cell)));
            let gap = if column == 0 { "" } else { "  " };
            line += &if right[column] { format!("{gap}{pad}{cell}") } else { format!("{gap}{cell}{pad}") };
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_stranger_reaches_the_terminal_raw() {
        let hostile = "a\u{1b}[2J\u{9b}31m\r\n\t\u{7}\u{202e}\u{200b}\u{e0041}\u{85}\\\u{1f600}\u{e4}";
        let shown = clean(hostile);
        assert_eq!(shown, "a\\u{1b}[2J\\u{9b}31m\\r\\n\\t\\u{7}\\u{202e}\\u{200b}\\u{e0041}\\u{85}\\\\\u{1f600}\u{e4}");
        for char in ('\0'..=char::MAX).filter(|char| is_unsafe(*char)) {
            assert!(!clean(&char.to_string()).contains(char), "{char:?}");
        }
        // What looks escaped was not.
        assert_ne!(clean("\u{1b}"), clean("\\u{1b}"));
        let rows = [vec![hostile.to_owned(), "1".to_owned()]];
        assert!(!table(&["A", "B"], &rows).contains(['\u{1b}', '\u{9b}', '\u{202e}']));
    }

    #[test]
    fn no_name_looks_like_two_columns() {
        for (name, shown) in [
            ("a b c", "a b c"),
            ("a  b", "a\\u{20}\\u{20}b"),
            (" a ", "\\u{20}a\\u{20}"),
            (" ", "\\u{20}"),
            ("a \u{a0}b\u{3000}c", "a \\u{a0}b\\u{3000}c"),
            ("a\t\u{2003}\u{2800}b\\", "a\\t\\u{2003}\\u{2800}b\\\\"),
            ("", ""),
        ] {
            assert_eq!(clean_name(name), shown, "{name:?}");
        }
        let rows = [vec!["a  1".to_owned(), "b".to_owned()]];
        assert_eq!(table(&["A", "B"], &rows), "A               B\na\\u{20}\\u{20}1  b\n");
    }

    #[test]
    fn a_text_is_cut_by_what_it_takes_of_the_terminal() {
        for (text, cells, shown) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab\u{2026}"),
            ("\u{1f600}\u{1f600}", 4, "\u{1f600}\u{1f600}"),
            ("\u{1f600}\u{1f600}\u{1f600}", 4, "\u{1f600}\u{2026}"),
            ("\u{1f600}a", 2, "\u{2026}"),
            ("e\u{301}e\u{301}", 2, "e\u{301}e\u{301}"),
            // A heart alone is narrow, and one that is to be shown as a picture is wide.
            ("\u{2764}\u{fe0f}\u{2764}\u{fe0f}\u{2764}\u{fe0f}", 4, "\u{2764}\u{fe0f}\u{2764}\u{2026}"),
            ("abc", 0, ""),
        ] {
            assert_eq!(cut(text, cells), shown, "{text} {cells}");
        }
        let rows = [vec!["\u{1f600}".repeat(63), "1".to_owned()], vec!["a".to_owned(), "2".to_owned()]];
        let table = table_within(&["NAME", "COUNT"], &rows, 8);
        assert_eq!(table, "NAME     COUNT\n\u{1f600}\u{1f600}\u{1f600}\u{2026}      1\na            2\n");
    }

    #[test]
    fn json_means_the_same_when_it_is_clean() {
        let value = serde_json::json!({"a": "x\u{7f}\u{9b}\u{202e}\u{e0041}\u{1f600}\n", "\u{85}": 1});
        let clean = clean_json(&format!("{value}\n"));
        assert!(clean.ends_with("}\n") && !clean.contains(['\u{7f}', '\u{9b}', '\u{202e}', '\u{e0041}']), "{clean}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&clean).unwrap(), value);
    }

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let rows = [["long name", "5"], ["b", "1000"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&["NAME", "COUNT"], &rows), "NAME       COUNT\nlong name      5\nb           1000\n");
        assert_eq!((bytes(1023), bytes(1536), bytes(5 << 30)), ("1023 B".into(), "1.5 KB".into(), "5.0 GB".into()));
        assert_eq!(
            [0, 999, 1500, 61_000, 3_660_000].map(time),
            ["-", "999 ms", "1.5 s", "1 min 1 s", "1 h 1 min"].map(str::to_owned)
        );
    }
}
