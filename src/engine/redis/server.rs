//! Checks that a server can keep a log: its version, its role, and its policy for full memory.

use super::super::shared::connection::Failure;

/// The first version that has all commands of the scripts (XTRIM with MINID).
const MIN_VERSION: (u32, u32) = (6, 2);
/// The first version in which a script is refused if there are too few good replicas.
const MIN_REPLICAS_HOLDS: (u32, u32) = (7, 0);

/// Checks the answer of a server to `INFO`.
pub(super) fn check(server: &str, info: &str) -> Result<(), Failure> {
    let failed = |why: String| Err(Failure(format!("Redis {server} {why}")));
    let version = field(info, "redis_version").unwrap_or("of no version");
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    let number = (parts.next().flatten().unwrap_or(0), parts.next().flatten().unwrap_or(0));
    if number < MIN_VERSION {
        return failed(format!(
            "is version {}; {}.{} or later is needed",
            short(version),
            MIN_VERSION.0,
            MIN_VERSION.1
        ));
    }
    // It is in INFO if min-replicas-to-write is set.
    if number < MIN_REPLICAS_HOLDS && field(info, "min_slaves_good_slaves").is_some() {
        return failed(format!(
            "is version {}, in which min-replicas-to-write does not hold for scripts, so it would not keep entries from \
             being lost; use 7.0 or later, or set min-replicas-to-write 0",
            short(version)
        ));
    }
    if field(info, "loading").is_some_and(|loading| loading != "0") {
        return failed("is still loading its data".to_owned());
    }
    if field(info, "role") != Some("master") {
        let of = field(info, "master_host").map_or_else(String::new, |host| format!(" of {}", short(host)));
        return failed(format!("is a replica{of}; the log is on the master"));
    }
    let policy = field(info, "maxmemory_policy").unwrap_or("noeviction");
    if field(info, "maxmemory").is_some_and(|most| most != "0") && policy.starts_with("allkeys") {
        return failed(format!(
            "may evict the log when its memory is full: maxmemory-policy is {}; allowed is noeviction, or a policy \
             that begins with volatile",
            short(policy)
        ));
    }
    Ok(())
}

/// The value in a line of `INFO`.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(version: &str, role: &str, more: &str) -> Result<(), String> {
        check("h:1", &format!("# Server\r\nredis_version:{version}\r\nrole:{role}\r\n{more}")).map_err(|why| why.0)
    }

    #[test]
    fn a_server_that_can_keep_a_log_is_taken() {
        for version in ["6.2.0", "7.0.15", "10.1"] {
            said(version, "master", "maxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\nloading:0\r\n").unwrap();
        }
        said("7.2.4", "master", "maxmemory:5\r\nmaxmemory_policy:volatile-lru\r\n").unwrap();
        said("7.0.0", "master", "min_slaves_good_slaves:0\r\n").unwrap();
        said("7.2.4", "master", "maxmemory:5\r\nmaxmemory_policy:noeviction\r\n").unwrap();
    }

    #[test]
    fn another_is_refused_with_the_reason() {
        for (version, role, more, part) in [
            ("6.0.16", "master", "", "is version 6.0.16; 6.2 or later is needed"),
            ("x", "master", "", "6.2 or later"),
            ("6.2.14", "master", "min_slaves_good_slaves:1\r\n", "min-replicas-to-write does not hold"),
            ("7.0.0", "slave", "master_host:10.0.0.1\r\n", "is a replica of 10.0.0.1; the log is on the master"),
            ("7.0.0", "master", "loading:1\r\n", "still loading"),
            ("7.0.0", "master", "maxmemory:5\r\nmaxmemory_policy:allkeys-lfu\r\n", "may evict the log"),
        ] {
            let why = said(version, role, more).unwrap_err();
            assert!(why.starts_with("Redis h:1 ") && why.contains(part), "{why}");
        }
    }
}
