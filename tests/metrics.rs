//! Names and labels of the metrics are an interface. They stay, and `docs/operating.md` lists them all.

mod common;

use common::{metrics, socket_path, Host};
use std::collections::{BTreeMap, BTreeSet};

/// Each metric with its kind, and its label with the values that do not depend on the build. More may come. These stay.
const STABLE: &str = "\
push_build_info gauge version
push_published_total counter
push_duplicates_total counter
push_busy_total counter
push_deliveries_total counter
push_bytes_sent_total counter
push_accepted_total counter
push_adopted_total counter
push_refused_total counter
push_slow_closed_total counter
push_gaps_total counter
push_received_total counter
push_events_dropped_total counter
push_logs_dropped_total counter
push_channels gauge
push_subscriptions gauge
push_history_messages gauge
push_history_bytes gauge
push_seq gauge
push_outboxes gauge
push_outbox_bytes gauge
push_inbox_bytes gauge
push_mailbox gauge
push_events_waiting gauge
push_hosts gauge
push_logs_suppressed_total counter
push_draining gauge
push_undone_total counter
push_ended_channels gauge
push_calls_total counter
push_calls_given_up_total counter
push_calls_waiting gauge
push_publish_checks_total counter
push_publish_checks_given_up_total counter
push_publish_checks_waiting gauge
push_patterns gauge
push_presence_members gauge
push_presence_bytes gauge
push_presence_refused_total counter
push_connections gauge transport: websocket sse stream poll none
push_panics_total counter
push_lost_messages_total counter
push_reload_success gauge
push_engine_up gauge
push_engine_waiting_bytes gauge
push_engine_log_bytes gauge
push_refusals_total counter reason: malformed unauthorized channel origin host expired denied not_found method timeout too_large websocket_version max_connections max_per_address max_per_user connect_rate connect_rate_per_address client_rate inbox_total message_timeout max_channels max_patterns patterns_total client_request proxy_header tls tls_name tls_keys not_tls not_plain draining busy resources control_key control attach
push_tls_connections_total counter place: kernel off unavailable cipher unfinished refused handed_over
push_closed_total counter code: 1000 1001 1002 1005 1006 1007 1008 1009 1011 4403 4408 4429 other
push_dropped_messages_total counter policy: drop-oldest latest
push_trace_spans_total counter outcome: exported rejected dropped
push_publish_latency_seconds histogram le: 0.00001 0.000025 0.00005 0.0001 0.00025 0.0005 0.001 0.0025 0.005 0.01 0.025 0.05 0.1 0.25 1 +Inf
push_turn_seconds histogram le: 0.00001 0.000025 0.00005 0.0001 0.00025 0.0005 0.001 0.0025 0.005 0.01 0.025 0.05 0.1 0.25 1 +Inf
process_cpu_seconds_total counter
process_open_fds gauge
process_max_fds gauge
process_resident_memory_bytes gauge
process_virtual_memory_bytes gauge
process_start_time_seconds gauge
";

/// What a hub that shares a log with others has beside these, behind [`LAST_OF_LOGS`].
const SHARED: &str = "\
push_engine_lag_entries gauge
push_engine_fences_total counter
push_engine_reconnects_total counter
push_engine_append_seconds summary
push_hub_words_dropped_total counter reason: malformed newer late busy old
";
const LAST_OF_LOGS: &str = "push_engine_log_bytes gauge\n";

/// The families of an exposition in the form of [`STABLE`].
fn families(text: &str) -> String {
    let mut labels: BTreeMap<&str, (&str, Vec<&str>)> = BTreeMap::new();
    for (name, rest) in text.lines().filter_map(|line| line.split_once('{')) {
        let (label, value) = rest.split_once("=\"").unwrap();
        let values = labels.entry(name.trim_end_matches("_bucket")).or_default();
        values.0 = label;
        values.1.push(value.split('"').next().unwrap());
    }
    let mut lines = Vec::new();
    for family in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = family.split(' ').next().unwrap();
        match labels.get(name) {
            Some((label, _)) if *label == "version" => lines.push(format!("{family} {label}")),
            Some((label, values)) => lines.push(format!("{family} {label}: {}", values.join(" "))),
            None => lines.push(family.to_owned()),
        }
    }
    lines.join("\n")
}

#[test]
fn names_and_labels_of_metrics_stay_and_are_documented() {
    let found = |engine| {
        let path = socket_path();
        let host = Host::start(&[("control", &format!("unix:{path}")), ("engine", engine)]);
        let found = families(&metrics(&path));
        host.stop();
        found
    };
    assert_eq!(found("memory"), STABLE.trim_end());
    // Nobody is at this port, and the metrics are there nevertheless.
    let with_shared = STABLE.replace(LAST_OF_LOGS, &[LAST_OF_LOGS, SHARED].concat());
    assert_eq!(found("redis://127.0.0.1:1"), with_shared.trim_end());
    let docs = include_str!("../docs/operating.md");
    // The words in backquotes in the first column of a table, and those in the second.
    let cells = |line: &'static str| {
        let mut columns = line.split('|').skip(1);
        let mut next = || columns.next().unwrap_or_default().split('`').skip(1).step_by(2).collect::<BTreeSet<_>>();
        (next(), next())
    };
    let described: BTreeMap<&str, BTreeSet<&str>> = docs
        .lines()
        .filter(|line| line.starts_with("| `push_") || line.starts_with("| `process_"))
        .map(cells)
        .flat_map(|(names, labels)| names.into_iter().map(move |name| (name, labels.clone())))
        .collect();
    let mut expected: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for family in with_shared.lines() {
        let mut words = family.split(' ');
        let (name, _kind, label) = (words.next().unwrap(), words.next(), words.next());
        expected.insert(name, label.map(|label| label.trim_end_matches(':')).into_iter().collect());
    }
    // The page mentions it at `push_refusals_total`.
    expected.remove("push_refused_total");
    assert_eq!(described, expected);
    let pages = include_str!("../docs/protocol.md");
    let codes = STABLE.split_once("push_closed_total counter code: ").unwrap().1.lines().next().unwrap();
    for code in codes.split(' ').filter(|code| code.starts_with('4')) {
        assert!(pages.contains(&format!("\n| {code} | ")), "docs/protocol.md has no row for the close code {code}");
    }
    let reasons: BTreeSet<&str> = docs
        .split_once("### Refusals")
        .unwrap()
        .1
        .lines()
        .skip_while(|line| !line.starts_with("| `reason`"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .flat_map(|line| cells(line).0)
        .collect();
    assert_eq!(reasons, push::metrics::Reason::ALL.into_iter().map(|reason| reason.word()).collect());
}
