//! The errors of Redis, each as one sentence for an operator.

use super::super::shared::connection::Failure;
use redis::{ErrorKind, RedisError};

/// The most bytes of a server's own words.
const MOST: usize = 200;

/// The codes at the beginning of a server's errors, and their meanings.
const CODES: [(&str, &str); 18] = [
    ("NOAUTH", "wants a password, and the URL has none"),
    ("WRONGPASS", "does not accept the user or the password"),
    ("NOPERM", "does not let this user do what the engine needs (docs/engines.md lists it)"),
    ("READONLY", "is a read-only replica; the log is on the master"),
    ("LOADING", "is still loading its data"),
    ("MASTERDOWN", "is a replica, and its master is down"),
    ("OOM", "is out of memory (maxmemory), and takes no more messages"),
    ("MISCONF", "can't save to its disk, and takes no more messages"),
    ("NOREPLICAS", "has too few good replicas (min-replicas-to-write), and takes no more messages"),
    ("BUSY", "is busy with somebody's script"),
    ("CLUSTERDOWN", "belongs to a cluster that is down"),
    ("MOVED", "does not have the log any more; another node of the cluster has it"),
    ("ASK", "is just giving the log to another node of the cluster"),
    ("TRYAGAIN", "is just giving the log to another node of the cluster"),
    ("CROSSSLOT", "keeps the parts of the log apart; all of them must be in one slot"),
    ("WRONGTYPE", "has something else where the log should be; choose another engine_namespace"),
    ("NOSCRIPT", "has forgotten the engine's scripts"),
    ("DENIED", "is in protected mode: it takes connections from its own machine only"),
];

/// The code of a server's error, also if a script met it: before version 7 the code is within the text then.
pub(super) fn code(error: &RedisError) -> Option<&str> {
    let code = error.code()?;
    let text = error.detail().unwrap_or("");
    let within = |known: &&str| text.contains(&format!("-{known} "));
    match code {
        "ERR" => Some(CODES.iter().map(|(known, _)| *known).find(within).unwrap_or("ERR")),
        code => Some(code),
    }
}

/// True if a server takes no entries just now, and may take them later, over this connection.
pub(super) fn is_refusal(error: &RedisError) -> bool {
    matches!(code(error), Some("OOM" | "MISCONF" | "NOREPLICAS"))
}

/// The sentence. `server` names the server.
pub(super) fn failure(server: &str, error: &RedisError) -> Failure {
    if error.kind() == ErrorKind::AuthenticationFailed {
        return Failure(format!("Redis {server} does not accept the user or the password"));
    }
    if let Some((_, meaning)) = code(error).and_then(|code| CODES.iter().find(|(known, _)| *known == code)) {
        return Failure(format!("Redis {server} {meaning}"));
    }
    if error.is_io_error() || error.is_connection_dropped() {
        return Failure(format!("the connection to Redis {server} is lost: {}", words(&error.to_string())));
    }
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => Failure(format!("Redis {server} says {code} {}", words(detail))),
        _ => Failure(format!("Redis {server}: {}", words(&error.to_string()))),
    }
}

/// A server's own words: one short line. Servers repeat arguments that they do not know, which may be secrets.
fn words(text: &str) -> String {
    let text = text.split(", with args").next().unwrap_or("");
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match plain.char_indices().find(|(at, _)| *at >= MOST) {
        Some((at, _)) => format!("{}...", &plain[..at]),
        None => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::make_extension_error;

    fn said(code: &str, detail: &str) -> String {
        failure("h:1", &make_extension_error(code.to_owned(), Some(detail.to_owned()))).0
    }

    #[test]
    fn known_codes_are_explained_also_within_a_script() {
        assert!(said("OOM", "command not allowed").contains("out of memory"));
        let nested = "Error running script (call to f_1): @user_script:9: @user_script: 9: -OOM command not allowed";
        assert!(said("ERR", nested).contains("out of memory"), "{}", said("ERR", nested));
        assert!(is_refusal(&make_extension_error("ERR".to_owned(), Some(nested.to_owned()))));
    }

    #[test]
    fn other_words_are_short_and_without_arguments() {
        let text = said("ERR", "unknown command 'AUTH', with args beginning with: 'user' 'secret'");
        assert!(text.contains("unknown command 'AUTH'") && !text.contains("secret"), "{text}");
        let text = said("ERR", &format!("a\r\nb{}", "\u{e4}".repeat(500)));
        assert!(text.len() < 300 && !text.contains('\n'), "{text}");
    }
}
