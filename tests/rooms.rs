//! The rooms of `src/` import one way: from the top of the map in `src/lib.rs` down. Their files are short, and their
//! structs have few fields.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms, from the top down, as the map in `src/lib.rs` has them.
fn map(lib: &str) -> Vec<String> {
    let rows = lib.lines().filter_map(|line| line.strip_prefix("//! | "));
    let name = |row: &str| row.split('|').next().unwrap_or("").trim().trim_matches(['[', ']', '`']).to_owned();
    rows.map(name).filter(|name| name != "room").collect()
}

/// The rooms that `src/lib.rs` declares.
fn declared(lib: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        Some(line.strip_prefix("pub ").unwrap_or(line).strip_prefix("mod ")?.strip_suffix(';')?.to_owned())
    };
    lib.lines().filter_map(name).collect()
}

/// Every file of Rust below a folder, with the room that it belongs to.
fn files(src: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let mut folders = vec![src.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let first = path.strip_prefix(src).unwrap().components().next().unwrap();
                found.push((first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned(), path));
            }
        }
    }
    found
}

/// The rooms that a file's code names after `crate::`, in braces or not. Comments do not count. Unit tests at the end
/// of a file do not count either: they may import what they need.
fn imports(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or("");
    let code: String =
        code.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| [line, "\n"]).collect();
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let (names, several) = match rest.strip_prefix('{') {
            Some(list) => (list.split('}').next().unwrap_or(""), true),
            None => (rest, false),
        };
        for name in names.split(',').take(if several { usize::MAX } else { 1 }) {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            found.insert(name.trim_start().chars().take_while(|c| word(*c)).collect());
        }
    }
    found
}

/// The imports of a room that go up, or to a room that the map does not have.
fn wrong_ways(order: &[String], room: &str, text: &str) -> Vec<String> {
    let place = |name: &str| order.iter().position(|other| other == name);
    let own = place(room);
    let is_room = |name: &String| name.starts_with(|first: char| first.is_ascii_lowercase());
    imports(text)
        .into_iter()
        .filter(is_room)
        .filter(|name| name != room && (own.is_none() || place(name) <= own))
        .collect()
}

#[test]
fn rooms_import_only_rooms_below_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = fs::read_to_string(src.join("lib.rs")).unwrap();
    let order = map(&lib);
    assert_eq!(order.iter().cloned().collect::<BTreeSet<_>>(), declared(&lib), "the map names each room once");
    assert_eq!(order.len(), declared(&lib).len(), "the map names each room once");
    let mut wrong = Vec::new();
    let mut read = 0;
    for (room, path) in files(&src) {
        let name = path.file_name().unwrap().to_str().unwrap();
        // Tests in files of their own, and models that fuzzers drive, are part of no release.
        let is_test = name == "tests.rs" || name.ends_with("_tests.rs") || name.ends_with("_model.rs");
        if is_test || matches!(&*room, "lib" | "bin") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        read += 1;
        wrong.extend(wrong_ways(&order, &room, &text).into_iter().map(|to| format!("{}: crate::{to}", path.display())));
    }
    assert!(read > 100, "only {read} files were read");
    assert!(wrong.is_empty(), "these imports go up in the map of src/lib.rs:\n{}", wrong.join("\n"));
}

/// The most lines of a file: more than that nobody reads from the top down.
const MAX_LINES: usize = 400;

#[test]
fn no_file_is_longer_than_can_be_read() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lines = |path: &Path| fs::read_to_string(path).unwrap().lines().count();
    let all: Vec<(usize, PathBuf)> = files(&src).into_iter().map(|(_, path)| (lines(&path), path)).collect();
    assert!(all.len() > 100, "only {} files were read", all.len());
    let long: Vec<_> = all.iter().filter(|(lines, _)| *lines > MAX_LINES).collect();
    assert!(long.is_empty(), "split these by responsibility, they have more than {MAX_LINES} lines: {long:?}");
}

/// The most fields of a struct. One that has more is several things.
const MAX_FIELDS: usize = 15;

/// The structs that may have more fields, with the reason of each.
const TABLES: [(&str, &str); 3] = [
    ("Config", "the table of the options"),
    ("push_stats", "the table of the counters, as C has it"),
    ("push_grant", "the terms of a grant, as C has them: it only grows, at its end"),
];

/// A line of code without its indentation and its visibility, and the length of the indentation.
fn item(line: &str) -> (usize, &str) {
    let code = line.trim_start();
    let visible = code.strip_prefix("pub(").and_then(|rest| rest.split_once(") ")).map(|(_, rest)| rest);
    (line.len() - code.len(), visible.or_else(|| code.strip_prefix("pub ")).unwrap_or(code))
}

/// The structs of a file that have named fields, each with the number of these. The file is formatted: each field begins
/// a line, and the brace at the end stands below the first line of the struct.
fn structs(text: &str) -> Vec<(String, usize)> {
    let word = |text: &str| text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let (indent, code) = item(line);
        let Some(rest) = code.strip_prefix("struct ") else { continue };
        // Bounds may stand between the name and the fields.
        let ends = |line: &&str| line.ends_with(['{', '}', ';']);
        if !Some(line).filter(ends).or_else(|| lines.find(ends)).is_some_and(|line| line.ends_with('{')) {
            continue;
        }
        let is_field = |line: &&str| {
            let (inner, code) = item(line);
            let code = code.trim_start_matches("r#");
            inner == indent + 4 && !word(code).is_empty() && code[word(code).len()..].starts_with(':')
        };
        let inside = lines.by_ref().take_while(|line| item(line) != (indent, "}"));
        found.push((word(rest), inside.filter(is_field).count()));
    }
    found
}

#[test]
fn no_struct_has_more_fields_than_belong_together() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all: Vec<(usize, String, PathBuf)> = Vec::new();
    for (_, path) in files(&src) {
        let text = fs::read_to_string(&path).unwrap();
        all.extend(structs(&text).into_iter().map(|(name, fields)| (fields, name, path.clone())));
    }
    assert!(all.len() > 300, "only {} structs were read", all.len());
    all.retain(|(fields, ..)| *fields > MAX_FIELDS);
    all.sort();
    let (tables, large): (Vec<_>, Vec<_>) =
        all.iter().partition(|(_, name, _)| TABLES.iter().any(|(table, _)| table == name));
    let lines: Vec<_> =
        large.iter().map(|(fields, name, path)| format!("{fields} {name} {}", path.display())).collect();
    let text = lines.join("\n");
    assert!(large.is_empty(), "split these along what they mean, they have more than {MAX_FIELDS} fields:\n{text}");
    assert_eq!(tables.len(), TABLES.len(), "the exceptions are those that are needed: {tables:?}");
}

#[test]
fn the_fields_of_a_struct_are_counted() {
    let text = "
pub(crate) struct Two<'a> {
    /// not: this
    pub(in crate::hub) one: Box<dyn Fn(u64) -> u64>,
    #[cfg(test)]
    pub two: Option<Vec<(&'a str, u64)>>,
}

struct Unit;

struct Pair(u64, pub u64);

struct Empty {}

    struct Inner<T>
    where
        T: Copy,
    {
        r#type: T,
    }
}

fn build() -> Two {
    Two { one: 1, two: 2 }
}
";
    let counts: Vec<_> = structs(text).into_iter().map(|(name, count)| format!("{name} {count}")).collect();
    assert_eq!(counts, ["Two 2", "Inner 1"]);
}

#[test]
fn an_import_that_goes_up_is_found() {
    let order: Vec<String> = ["ffi", "server", "hub", "sys"].map(String::from).into();
    let wrong = |text| wrong_ways(&order, "hub", text);
    assert!(wrong("use crate::sys::clock;\nuse crate::hub::Message;\n").is_empty());
    assert_eq!(wrong("use crate::server::Server;\n"), ["server"]);
    assert_eq!(wrong("use crate::{sys, ffi::guard};\n"), ["ffi"]);
    assert_eq!(wrong("fn a() -> crate::server::Server {}\n"), ["server"]);
    assert_eq!(wrong("use crate::attic::Box;\n"), ["attic"], "a room that the map does not have");
    assert!(wrong("// crate::server is above\n").is_empty());
    assert!(wrong("#[cfg(test)]\nmod tests {\n    use crate::server::Server;\n}\n").is_empty());
}
