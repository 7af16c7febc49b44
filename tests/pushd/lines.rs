//! The lines that pushd logs, with and without time, and what a failed reload leaves.

use super::common::killed::Killed;
use super::common::{metrics, socket_path, until};
use super::path;
use super::process::Pushd;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::SystemTime;

/// Runs pushd until it is told to end, and returns what it has logged.
fn logged(test: &str, form: &str) -> Vec<String> {
    let mut command = Pushd::command(&path(test));
    let mut child = command.arg(form).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut found = Vec::new();
    while !found.last().is_some_and(|line: &String| line.contains("listening on unix:")) {
        found.push(lines.next().expect("it says where it listens").unwrap());
    }
    let pushd = Pushd { child: Killed(child), address: String::new() };
    pushd.signal("TERM");
    found.extend(lines.map(Result::unwrap));
    assert_eq!(pushd.ended(), Some(0));
    found
}

/// True for the time of a line, if the test has just begun.
fn is_now(text: &str) -> bool {
    let now = SystemTime::now();
    let then = humantime::parse_rfc3339(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    text.len() == "2026-11-29T12:00:00.000Z".len() && now.duration_since(then).is_ok_and(|age| age.as_secs() < 3600)
}

#[test]
fn lines_have_a_time_if_they_are_to() {
    let plain = logged("plain", "--log-format=plain");
    assert!(plain.iter().all(|line| line.starts_with("pushd: info: ")), "{plain:#?}");
    let text = logged("text", "--log-format=text");
    for line in &text {
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(is_now(time) && rest.starts_with("pushd: info: "), "{line}");
    }
    assert!(text.last().unwrap().ends_with("stopped"), "{text:#?}");
    let json = logged("json", "--log-format=json");
    let messages = json.iter().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(is_now(line["time"].as_str().unwrap()) && line["level"] == "info", "{line}");
        assert_eq!(line.as_object().unwrap().len(), 3, "{line}");
        line["message"].as_str().unwrap().to_owned()
    });
    let messages: Vec<String> = messages.collect();
    assert!(messages.iter().any(|message| message.starts_with("listening on 127.0.0.1:")), "{messages:#?}");
    assert!(messages.contains(&"SIGTERM: ending within 60 s".to_owned()), "{messages:#?}");
}

#[test]
fn an_error_at_the_start_has_the_form_too() {
    let mut command = Pushd::command(&path("wrong"));
    let output = command.args(["-o", "nonsense=1", "--log-format=json"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let line: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(line["level"] == "error" && line["message"].as_str().unwrap().contains("unknown option"), "{line}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_ways_of_a_host_to_the_log_are_refused() {
    for option in ["log=pull", "log_fd=2"] {
        for check in [&["-t"][..], &[]] {
            let output = Pushd::command(&path("ways")).args(["-o", option]).args(check).output().unwrap();
            let text = String::from_utf8(output.stderr).unwrap();
            assert!(text.contains("options log and log_fd: pushd logs to stderr"), "{option} {check:?}: {text}");
            assert_eq!(output.status.code(), Some(2));
        }
    }
}

#[test]
fn a_file_that_can_not_be_read_again_shows_in_the_metrics() {
    let file = std::env::temp_dir().join(format!("pushd-{}-lines.toml", std::process::id()));
    std::fs::write(&file, "max_message = 10\n").unwrap();
    let control = socket_path();
    let mut command = Pushd::command(&path("metrics"));
    command.arg("-c").arg(&file).args(["-o", &format!("control=unix:{control}")]);
    let (pushd, _log) = Pushd::start_logged(command);
    let succeeded = || metrics(&control).lines().any(|line| line == "push_reload_success 1");
    until("the control API answers", || std::os::unix::net::UnixStream::connect(&control).is_ok());
    assert!(succeeded());
    std::fs::write(&file, "max_message =\n").unwrap();
    pushd.signal("HUP");
    until("it has failed", || !succeeded());
    std::fs::write(&file, "max_message = 20\n").unwrap();
    pushd.signal("HUP");
    until("it has succeeded", succeeded);
    std::fs::remove_file(&file).unwrap();
    pushd.terminate();
}
