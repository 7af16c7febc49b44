//! Some additions belong in several places that the compiler does not connect. These tests name the place that is
//! missing. CONTRIBUTING.md has a recipe for each kind of addition.

use push::config::options;
use std::path::Path;

/// Calls without a door in Go, each with the reason.
const NOT_IN_GO: [(&str, &str); 8] = [
    ("push_adopt_more", "each client has its own goroutine, so there is no turn of a loop to collect them in"),
    ("push_flush", "the same"),
    ("push_config_on_event", "no thread of the library calls into Go: Events pulls"),
    ("push_grant_all", "Anyone grants everything by a pattern"),
    ("push_last_error", "a goroutine has no thread of its own; the package has sentences of its own"),
    ("push_next_log", "the Logger gets the log, through a pipe"),
    ("push_log_line_fd", "the same"),
    ("push_log_line_clear", "the same"),
];

/// Calls without a door in nginx, each with the reason.
const NOT_IN_NGINX: [(&str, &str); 28] = [
    ("push_abi_version", "the module and the library are installed together"),
    ("push_last_error", "calls run on threads of nginx's pool, and answers are written on another"),
    ("push_version", "the same"),
    ("push_adopt", "push_adopt_more collects the connections of a turn"),
    ("push_allow", "locations decide who may subscribe"),
    ("push_deny", "the same"),
    ("push_grant_all", "push_grant decides"),
    ("push_renew", "the application renews through the hub's control API or a host of its own"),
    ("push_broadcast", "the control API has it"),
    ("push_publish_batch", "the control API has it"),
    ("push_disconnect_user", "the control API has it"),
    ("push_revoke_channel", "the control API has it"),
    ("push_users_get", "the control API has it"),
    ("push_users_clear", "the same"),
    ("push_close", "the control API has it"),
    ("push_send", "nginx takes no events"),
    ("push_answer", "the same"),
    ("push_allow_publish", "the same; a hub in a worker refuses client_publish=host"),
    ("push_config_on_event", "the same"),
    ("push_event_fd", "the same"),
    ("push_next_event", "the same"),
    ("push_event_clear", "the same"),
    ("push_next_log", "the lines come to nginx's error log through a socket"),
    ("push_log_line_fd", "the same"),
    ("push_log_line_clear", "the same"),
    ("push_config_load", "push_option sets options"),
    ("push_listen_address", "the module has no listener of its own"),
    ("push_reload", "a reload starts new workers"),
];

/// Calls that need no check in a forked child: they have no server, or touch only memory of their own.
const NOT_IN_FORKS: [&str; 7] = [
    "push_abi_version",
    "push_version",
    "push_last_error",
    "push_config_on_event",
    "push_config_on_log",
    "push_grant_all",
    "push_users_clear",
];

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The text of all files of a folder with one of these endings.
fn read_all(folder: &str, endings: &[&str]) -> String {
    let entries = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let kept = paths.filter(|path| path.extension().is_some_and(|end| endings.iter().any(|known| end == *known)));
    kept.map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// Whether a name occurs in a text, not as a part of another name.
fn has(text: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(name)
        .any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + name.len()..].starts_with(is_part))
}

/// The functions that `push.h` declares.
fn calls() -> Vec<String> {
    let header = read("include/push.h");
    let declared = |line: &str| {
        let name = line.split('(').next()?.rsplit([' ', '*']).next()?;
        let is_call = name.starts_with("push_") && !line.starts_with([' ', '#', '/', '*']) && !line.contains("typedef");
        is_call.then(|| name.to_owned())
    };
    header.lines().filter(|line| line.contains('(')).filter_map(declared).collect()
}

#[test]
fn each_c_call_has_its_places() {
    let calls = calls();
    assert!(calls.len() > 30, "{calls:?}");
    let exports = read("tests/c/exports.txt");
    let arguments = read("tests/c/arguments.c") + &read("tests/c/grants.c");
    let forks = read("tests/c/forks.c");
    let go = read_all("examples-go/push", &["go", "c"]);
    let nginx = read_all("examples-c/nginx", &["c"]);
    let mut missing = Vec::new();
    for call in &calls {
        let is_listed = |list: &[(&str, &str)]| list.iter().any(|(name, _)| name == call);
        let mut needs = |there: bool, place: &str| {
            if !there {
                missing.push(format!("{call}: {place}"));
            }
        };
        needs(has(&exports, call), "a line in tests/c/exports.txt");
        needs(has(&arguments, call) || call == "push_grant_all", "wrong arguments in tests/c/arguments.c");
        needs(
            has(&forks, call) || NOT_IN_FORKS.contains(&call.as_str()),
            "a call in a forked child in tests/c/forks.c",
        );
        needs(has(&go, call) != is_listed(&NOT_IN_GO), "a door in examples-go/push, or a reason in NOT_IN_GO here");
        needs(has(&nginx, call) != is_listed(&NOT_IN_NGINX), "a door in nginx, or a reason in NOT_IN_NGINX here");
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn each_option_has_its_bounds_in_the_test_from_c() {
    let bounds = read("tests/c/options.c");
    let missing: Vec<_> =
        options::all().filter(|option| !bounds.contains(&format!("{{\"{}\",", option.name))).collect();
    let names: Vec<_> = missing.iter().map(|option| option.name).collect();
    assert!(names.is_empty(), "tests/c/options.c has no row for {names:?}");
}

#[test]
fn each_counter_has_its_places() {
    let places = [
        ("include/push.h", "uint64_t {};"),
        ("examples-go/push/library.go", "uint64(s.{})"),
        ("examples-c/nginx/ngx_http_push_status.c", "FIELD({})"),
        ("examples-c/legacy-server.c", "FIELD({})"),
    ];
    let mut missing = Vec::new();
    for (path, form) in places {
        let text = read(path);
        let names = push::metrics::TABLE.iter().map(|metric| form.replace("{}", metric.name));
        missing.extend(names.filter(|line| !text.contains(line)).map(|line| format!("{path}: {line}")));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// A C compiler warns of a struct that is begun with too few values, and hosts may make errors of warnings.
#[test]
fn each_beginning_of_a_struct_has_a_value_for_each_field() {
    let header = read("include/push.h");
    let mut found = 0;
    for (at, begin) in header.match_indices("_INIT {sizeof(") {
        let values = &header[at + begin.len()..];
        let (name, _) = values.split_once(')').unwrap();
        let values = values.split('}').next().unwrap().matches(',').count() + 1;
        let end = header.find(&format!("}} {name};\n")).unwrap_or_else(|| panic!("{name} is not declared"));
        let fields = header[..end].rsplit("typedef struct").next().unwrap().lines().filter(|line| line.ends_with(';'));
        assert_eq!(values, fields.count(), "values of {name} in cbindgen.toml, and its fields");
        found += 1;
    }
    assert!(found > 3, "{found}");
}
