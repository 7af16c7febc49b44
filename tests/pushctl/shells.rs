//! The completions in the shells themselves. That of bash is in `main.rs`.

use super::text;
use std::process::{Command, Stdio};

fn script(shell: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_pushctl")).args(["completion", shell]).output().unwrap();
    assert!(output.status.success());
    text(&output.stdout)
}

/// What a shell writes. It reads no files of its user.
fn run(shell: &str, flags: &[&str], test: &str) -> Vec<String> {
    let home = env!("CARGO_TARGET_TMPDIR");
    let mut command = Command::new(shell);
    command.env("HOME", home).env("XDG_CONFIG_HOME", home).args(flags).args(["-c", test]).stdin(Stdio::null());
    let output = command.output().unwrap_or_else(|error| panic!("{shell}: {error}"));
    assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {}", text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

/// Checks that a shell completes each command's own flags, and no other's.
pub(super) fn completes_flags(completed: impl Fn(&str) -> String) {
    for (line, flag) in
        [("pushctl connections --sl", "--slow"), ("pushctl kick --cod", "--code"), ("pushctl stats --slow", "")]
    {
        assert_eq!(completed(line), flag, "{line}");
    }
}

#[test]
fn fish_completes_commands_and_their_flags() {
    let script = script("fish");
    let completed = |line: &str| {
        let lines = run("fish", &["--no-config"], &format!("{script}\ncomplete -C '{line}'"));
        // Each word has its description behind a tab.
        lines.iter().map(|line| line.split('\t').next().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(completed("pushctl co"), "completion config connections");
    completes_flags(completed);
    assert_eq!(completed("pushctl --json mess"), "messages");
    assert_eq!(completed("pushctl completion "), "bash fish zsh");
}

/// The functions of zsh that complete are replaced by some that write their arguments, one in each line.
#[test]
fn zsh_gets_commands_and_flags_as_whole_words() {
    let script = script("zsh");
    let told = |state: &str, command: &str| {
        let stubs = format!(
            "_arguments() {{ print -rl -- \"$@\"; state={state} line=({command}); }}\n\
             _describe() {{ print -rl -- \"${{(@P)2}}\"; }}\n"
        );
        run("zsh", &["-f"], &format!("{stubs}{script}"))
    };
    let has = |lines: &[String], line: &str| assert!(lines.iter().any(|known| known == line), "{line}: {lines:#?}");
    let commands = told("command", "");
    has(&commands, "connections:list the connections of this hub");
    has(&commands, "*--server-name[https\\: the name in the hub's certificate (ADDRESS's)]:NAME:_files");
    let is_word = |line: &&String| line.starts_with(|first: char| first.is_ascii_lowercase()) && line.contains(':');
    let names: Vec<&str> = commands.iter().filter(is_word).map(|line| line.split(':').next().unwrap()).collect();
    assert!(names.len() > 10 && names.contains(&"completion"), "{names:?}");
    // Each command has flags of its own, or none but the common ones.
    for name in names {
        let flags = told("value", name);
        has(&flags, "*:value:_files");
        has(&flags, "*--json[write what the hub answers, as JSON]");
        let slow = "*--slow[only those that are behind, the slowest first]";
        assert_eq!(flags.iter().any(|line| line == slow), name == "connections", "{name}: {flags:#?}");
    }
    has(&told("value", "kick"), "*--code[the close code (4403)]:CODE:_files");
}
