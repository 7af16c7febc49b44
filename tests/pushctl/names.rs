//! Names and data of strangers in the output of pushctl: markup, quotes, flags, changes of direction, what can't be seen,
//! and as many bytes of emoji as a name may have.

use super::common::until;
use super::everywhere::{connect, At};
use super::{hub, text, Running};
use std::process::{Command, Stdio};

/// Each with the form in which a terminal gets it.
fn names() -> Vec<(String, String)> {
    let same =
        ["<b onclick=x>&amp;</b>", "<img src=x onerror=\"alert(1)\">", "\"'`$(touch x);${x}", "--user", "-n", "a b"];
    let mut names: Vec<(String, String)> = same.map(|name| (name.to_owned(), name.to_owned())).into();
    names.extend(
        [
            ("a\u{202e}b\u{200b}c", "a\\u{202e}b\\u{200b}c"),
            ("a\\u{202e}b", "a\\\\u{202e}b"),
            ("a  12 B  [x] b", "a\\u{20}\\u{20}12 B\\u{20}\\u{20}[x] b"),
            (" a\u{a0}\u{3000}b ", "\\u{20}a\\u{a0}\\u{3000}b\\u{20}"),
            ("\u{e0041}\u{feff}\u{2066}", "\\u{e0041}\\u{feff}\\u{2066}"),
        ]
        .map(|(name, shown)| (name.to_owned(), shown.to_owned())),
    );
    let emoji = "\u{1f600}".repeat(63);
    names.push((emoji.clone(), emoji));
    names
}

const HOSTILE: &str = "\u{1b}[2J\u{1b}]0;x\u{7}\u{9b}31m\r\n\u{8}\u{202e}\u{2028}<script>";

/// Nothing in it moves the cursor, changes colours, or turns other text around.
fn check(output: &str) {
    let is_bad = |char: char| {
        char.is_control() && char != '\n'
            || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
            || matches!(char, '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    };
    assert!(!output.contains(is_bad), "{output:?}");
}

#[test]
fn names_of_strangers_are_shown_and_do_nothing() {
    let (host, address) = hub(&[]);
    let at = At::new(&address, &[]);
    let told = |arguments: &[&str]| {
        let told = at.told(arguments);
        check(&told);
        told
    };
    let mut tail = Running::begin(at.command(&["tail", "*"])).looks_on();
    let mut clients: Vec<_> = names().iter().map(|(name, _)| connect(&host.server, name, name)).collect();
    until("all are there", || at.json(&["connections"])["count"] == clients.len());
    for (name, shown) in names() {
        told(&["publish", "--", &name, HOSTILE]);
        let line = tail.line();
        check(&line);
        assert!(line.contains(&format!("Z  {shown}  ")), "{line}");
        let has = |output: String| assert!(output.contains(&shown), "{shown}: {output}");
        has(told(&["channels", "--", &name]));
        has(told(&["users", "--", &name]));
        has(told(&["connections", &format!("--user={name}")]));
        has(told(&["connections", &format!("--channel={name}")]));
        assert!(told(&["messages", "--", &name]).contains("\\u{1b}[2J\\u{1b}]0;x\\u{7}\\u{9b}31m\\r\\n"));
        // As JSON it is the same name.
        let json = at.json(&["channels", "--", &name]);
        assert!(json["channels"].as_array().unwrap().iter().any(|channel| channel["channel"] == *name), "{json}");
        let json = at.json(&["connections", &format!("--user={name}")]);
        assert_eq!((&json["connections"][0]["names"][0], &json["count"]), (&name.clone().into(), &1.into()));
        for arguments in [&["channels"][..], &["connections"], &["users", "--", &name], &["messages", "--", &name]] {
            check(&at.told(&[&arguments[..1], &["--json"], &arguments[1..]].concat()));
        }
    }
    check(&at.told(&["top", "--interval", "1", "-n", "1"]));
    check(&at.told(&["top", "--interval", "1", "-n", "1", "--json"]));
    // Errors repeat what was asked for.
    for arguments in
        [&["messages", "no\u{202e}\u{1b}one"][..], &["kick", "\u{1b}[2J"], &["config", "\u{9b}2J"], &["\u{1b}c"]]
    {
        let output = at.command(arguments).output().unwrap();
        assert!(!output.status.success());
        check(&text(&output.stderr));
    }
    for ((name, _), client) in names().iter().zip(&mut clients) {
        // A close frame has less room than a name.
        let reason: String = name.chars().take(30).collect();
        let closed = told(&["kick", &format!("--user={name}"), &format!("--reason={reason}")]);
        assert_eq!((&*closed, client.end()), ("1 connections are closed at this hub\n", (4403, reason)));
    }
    host.stop();
}

/// In a terminal `top` draws over the page before. Nothing of a name may leave its line, however wide it is there.
#[test]
fn a_terminal_keeps_its_lines() {
    let (host, address) = hub(&[("outbox", "64MB")]);
    let emoji = "\u{1f600}".repeat(63);
    let _lazy = [
        super::walk::lazy(&host.server, &emoji, &["prices"]),
        super::walk::lazy(&host.server, "b\u{202e}ob", &["prices"]),
    ];
    let payload = "x".repeat(1 << 20);
    (0..16).for_each(|_| drop(host.publish("prices", &payload)));
    let at = At::new(&address, &[]);
    until("both are behind", || at.json(&["connections", "--slow"])["count"] == 2);
    let program = env!("CARGO_BIN_EXE_pushctl");
    let inside = format!("stty cols 60 rows 30 && exec {program} -a {address} top --interval 1 -n 2");
    let output = Command::new("script").args(["-qec", &inside, "/dev/null"]).stdin(Stdio::null()).output().unwrap();
    let page = text(&output.stdout);
    assert!(output.status.success(), "{page}");
    let pages: Vec<&str> = page.split("\u{1b}[H").skip(1).collect();
    assert_eq!(pages.len(), 2, "{page:?}");
    for page in pages {
        let lines: Vec<&str> = page.strip_suffix("\u{1b}[J").unwrap().split("\u{1b}[K\r\n").collect();
        assert!(lines.len() < 30 && lines.iter().any(|line| line.contains("2 clients are behind")), "{lines:?}");
        for line in &lines {
            check(line);
            // An emoji has two cells.
            let cells: usize = line.chars().map(|char| if char == '\u{1f600}' { 2 } else { 1 }).sum();
            assert!(cells <= 60, "{cells}: {line}");
        }
        assert!(lines.iter().any(|line| line.contains("\u{1f600}\u{2026}")), "the name is cut: {lines:?}");
    }
    host.stop();
}
