//! The commands, and what a call asks for.

use super::Failure;
use lexopt::{Arg, Parser, ValueExt};
use push::number;
use std::ffi::OsString;

/// A flag: its name, the name of its value (empty: it has none), and what it is for.
pub(super) type Flag = (&'static str, &'static str, &'static str);

/// A command. The usage and the completions are made from this.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) name: &'static str,
    /// What may follow it, for people.
    pub(super) values: &'static str,
    /// How many values it needs at least and at most.
    pub(super) count: (usize, usize),
    pub(super) flags: &'static [Flag],
    pub(super) help: &'static str,
}

/// The flags of all commands.
pub(super) const COMMON: &[Flag] = &[
    ("address", "ADDRESS", "the control API: unix:PATH, HOST:PORT or https://HOST:PORT"),
    ("key-file", "FILE", "a file with the key (option control_key)"),
    ("ca", "FILE", "https: the authorities to trust, in PEM (those of the system)"),
    ("cert", "FILE", "https: the certificate to show, if the hub asks for one"),
    ("cert-key", "FILE", "https: the key of that certificate"),
    ("server-name", "NAME", "https: the name in the hub's certificate (ADDRESS's)"),
    ("insecure", "", "send the key in clear over the network"),
    ("json", "", "write what the hub answers, as JSON"),
    ("help", "", "show this text"),
    ("version", "", "show the version"),
];

const MANY: usize = 100;
const CODE: Flag = ("code", "CODE", "the close code (4403)");
const REASON: Flag = ("reason", "TEXT", "the reason that clients are told");
const LIMIT: Flag = ("limit", "N", "show at most N");

/// The table of commands. A row has the name, what may follow it, how many values it needs at least and at most, the
/// help, and the flags.
macro_rules! commands {
    ($($name:ident $values:literal ($least:expr, $most:expr), $help:literal, [$($flag:expr),* $(,)?];)+) => {
        pub(super) static COMMANDS: &[Command] = &[$(
            Command {
                name: stringify!($name),
                values: $values,
                count: ($least, $most),
                flags: &[$($flag),*],
                help: $help,
            },
        )+];
    };
}

commands! {
    publish "[CHANNEL] [DATA]" (0, 2),
        "publish DATA, or what comes from the standard input, to a channel or to users", [
        ("user", "USER", "to a user, not to a channel; may come several times"),
        ("event", "NAME", "the event type"),
        ("idempotency-key", "KEY", "publish it once, however often it is called"),
        ("except", "CLIENT", "not to the client that has chosen this id"),
        ("binary", "", "the data is bytes"),
    ];
    tail "CHANNEL|PREFIX*" (1, 1), "show what is published, as it is published", [
        ("count", "N", "end after N messages")
    ];
    channels "[PREFIX]" (0, 1), "list the channels, with subscribers and what was lost for slow ones", [LIMIT];
    connections "" (0, 0), "list the connections of this hub", [
        ("user", "USER", "only this user's"),
        ("channel", "CHANNEL", "only those on this channel"),
        ("address-of", "IP|unix", "only those from this address"),
        ("slow", "", "only those that are behind, the slowest first"),
        LIMIT,
        ("all", "", "all pages"),
    ];
    users "CHANNEL" (1, 1), "list the users on a channel", [("after", "USER", "begin after this name"), LIMIT];
    kick "[ID...]" (0, MANY), "close connections, by the numbers that `connections` lists, by user, or all", [
        ("user", "USER", "all connections of a user; may come several times"),
        ("all", "", "everybody at this hub"),
        CODE,
        REASON,
    ];
    messages "CHANNEL" (1, 1), "show what is kept of a channel", [
        ("last", "N", "the newest N (100)"), ("since", "POSITION", "those after a position"), LIMIT
    ];
    stats "" (0, 0), "show the counters", [("cluster", "", "of all hubs that share the log, added up")];
    config "[OPTION...]" (0, MANY), "show the options in use; secrets are hidden", [
        ("changed", "", "only those that are not at their defaults")
    ];
    hosts "" (0, 0), "list the attached hosts", [];
    hubs "" (0, 0), "list the hubs that share the log", [];
    top "" (0, 0), "show rates and the slowest clients, live", [
        ("interval", "SECONDS", "the time between two looks (2)"), ("count", "N", "end after N looks")
    ];
    completion "bash|zsh|fish" (1, 1), "write the completions of a shell", [];
}

/// What a call asks for.
#[derive(Debug)]
pub(super) struct Called {
    pub(super) command: &'static Command,
    pub(super) values: Vec<String>,
    /// The flags that were given, in their order.
    flags: Vec<(&'static str, String)>,
}

impl Called {
    pub(super) fn has(&self, flag: &str) -> bool {
        self.one(flag).is_some()
    }

    pub(super) fn one(&self, flag: &str) -> Option<&str> {
        self.flags.iter().find(|(name, _)| *name == flag).map(|(_, value)| &**value)
    }

    pub(super) fn all<'c>(&'c self, flag: &'c str) -> impl Iterator<Item = &'c str> {
        self.flags.iter().filter(move |(name, _)| *name == flag).map(|(_, value)| &**value)
    }

    /// A flag that is a number.
    pub(super) fn number(&self, flag: &str) -> Result<Option<u64>, Failure> {
        let number = |text: &str| number::read(text).filter(|number| *number > 0);
        let wrong = |text: &str| Failure::Usage(format!("--{flag} {text:?}: a number from 1 on is expected"));
        self.one(flag).map(|text| number(text).ok_or_else(|| wrong(text))).transpose()
    }
}

/// A call that asks for the usage or the version, or for a command.
#[derive(Debug)]
pub(super) enum Call {
    Help,
    Version,
    Command(Called),
}

/// Reads the arguments of the program, without its name.
pub(super) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Call, Failure> {
    let mut parser = Parser::from_args(arguments);
    let wrong = |error: lexopt::Error| Failure::Usage(error.to_string());
    let (mut command, mut values): (Option<&'static Command>, Vec<String>) = (None, Vec::new());
    let mut given: Vec<(String, Option<String>)> = Vec::new();
    while let Some(argument) = parser.next().map_err(wrong)? {
        let name = match argument {
            Arg::Value(value) if command.is_none() => {
                let name = value.string().map_err(wrong)?;
                let known = COMMANDS.iter().find(|command| command.name == name);
                command = Some(known.ok_or_else(|| unknown_command(&name))?);
                continue;
            }
            Arg::Value(value) => {
                values.push(value.string().map_err(wrong)?);
                continue;
            }
            Arg::Short('a') => "address".to_owned(),
            Arg::Short('k') => "key-file".to_owned(),
            Arg::Short('n') => "count".to_owned(),
            Arg::Short('h') => return Ok(Call::Help),
            Arg::Short('V') => return Ok(Call::Version),
            Arg::Short(other) => return Err(Failure::Usage(format!("unknown flag -{other}"))),
            Arg::Long("help") => return Ok(Call::Help),
            Arg::Long("version") => return Ok(Call::Version),
            Arg::Long("key") => return Err(Failure::Usage(NO_KEY.to_owned())),
            Arg::Long(name) => name.to_owned(),
        };
        // A flag may stand before its command. Whether a value follows depends on its name alone.
        let all = COMMANDS.iter().flat_map(|command| command.flags).chain(COMMON);
        let Some((_, value, _)) = all.clone().find(|(known, ..)| *known == name) else {
            return Err(Failure::Usage(format!("unknown flag --{name}")));
        };
        let value = match value.is_empty() {
            true => None,
            false => Some(parser.value().and_then(|value| value.string()).map_err(wrong)?),
        };
        given.push((name, value));
    }
    let command = command.ok_or_else(|| Failure::Usage("a command is missing".to_owned()))?;
    let mut flags = Vec::new();
    for (name, value) in given {
        let Some((name, ..)) = command.flags.iter().chain(COMMON).find(|(known, ..)| *known == name) else {
            let allowed: Vec<_> = command.flags.iter().map(|(name, ..)| format!("--{name}")).collect();
            let allowed = if allowed.is_empty() { "none of its own".to_owned() } else { allowed.join(", ") };
            return Err(Failure::Usage(format!("{} has no flag --{name}; it has {allowed}", command.name)));
        };
        if flags.iter().any(|(known, _)| known == name) && *name != "user" {
            return Err(Failure::Usage(format!("--{name} comes twice")));
        }
        flags.push((*name, value.unwrap_or_default()));
    }
    let (least, most) = command.count;
    if values.len() < least || values.len() > most {
        let expected = if command.values.is_empty() { "nothing" } else { command.values };
        return Err(Failure::Usage(format!("{}: {expected} is expected behind it", command.name)));
    }
    Ok(Call::Command(Called { command, values, flags }))
}

const NO_KEY: &str =
    "there is no --key: everybody on this machine could read it (ps); use -k FILE, PUSHCTL_KEY_FILE or \
                      PUSHCTL_KEY";

fn unknown_command(name: &str) -> Failure {
    let names: Vec<_> = COMMANDS.iter().map(|command| command.name).collect();
    Failure::Usage(format!("unknown command {name:?}; there are {}", names.join(", ")))
}

/// The text of `-h`.
pub(super) fn usage() -> String {
    let mut text =
        "pushctl [-a ADDRESS] [-k FILE] [--json] COMMAND ...\n\nAsks a hub of libpush through its control API \
                    (option control).\n\n"
            .to_owned();
    for Command { name, values, flags, help, .. } in COMMANDS {
        text += &format!("  {name} {values}\n      {help}\n");
        for flag in *flags {
            text += &shown(flag, 6);
        }
    }
    text += "\nWith each command:\n";
    for flag in COMMON {
        text += &shown(flag, 2);
    }
    text + "\nThe environment may have PUSHCTL_ADDRESS, and the key in PUSHCTL_KEY or the name of its\nfile in \
            PUSHCTL_KEY_FILE. Without an address it is unix:/run/pushd/control.sock. For https\naddresses it may also have \
            PUSHCTL_CA, PUSHCTL_CERT, PUSHCTL_CERT_KEY and PUSHCTL_SERVER_NAME.\nA flag that is wrong ends it with 2, a hub \
            that refuses or can't be reached with 1.\n"
}

fn shown((name, value, help): &Flag, indent: usize) -> String {
    let short = match *name {
        "address" => "-a, ",
        "key-file" => "-k, ",
        "count" => "-n, ",
        "help" => "-h, ",
        "version" => "-V, ",
        _ => "",
    };
    let flag = format!("{short}--{name} {value}");
    format!("{:indent$}{:32} {help}\n", "", flag.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(text: &str) -> Result<Called, String> {
        match read(text.split_whitespace().map(OsString::from)) {
            Ok(Call::Command(called)) => Ok(called),
            Ok(other) => Err(format!("{other:?}")),
            Err(Failure::Usage(text) | Failure::Hub(text)) => Err(text),
        }
    }

    #[test]
    fn flags_may_stand_anywhere_and_belong_to_their_command() {
        let call = called("--json kick --user ada 7 --user=bob -a unix:/x 8 --code 4000").unwrap();
        assert_eq!((call.command.name, &*call.values.join(",")), ("kick", "7,8"));
        assert_eq!((call.all("user").collect::<Vec<_>>(), call.has("json")), (vec!["ada", "bob"], true));
        assert_eq!((call.one("address"), call.number("code").unwrap()), (Some("unix:/x"), Some(4000)));
        for (text, told) in [
            ("", "a command is missing"),
            ("kik", "unknown command \"kik\"; there are publish, tail"),
            ("tail", "CHANNEL|PREFIX* is expected"),
            ("tail a b", "CHANNEL|PREFIX* is expected"),
            ("hosts x", "nothing is expected"),
            ("hosts --slow", "hosts has no flag --slow; it has none of its own"),
            ("tail a --slow", "tail has no flag --slow; it has --count"),
            ("tail a --cuont 3", "unknown flag --cuont"),
            ("tail a -x", "unknown flag -x"),
            ("tail a --count", "missing argument"),
            ("tail a -n 1 --count 2", "--count comes twice"),
            ("stats --key secret", "everybody on this machine could read it"),
            ("stats --json=1", "unexpected argument"),
        ] {
            let error = called(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
        for wrong in ["0", "+2", "02", "-2", "2s", "x"] {
            let error = called(&format!("top --interval={wrong}")).unwrap().number("interval");
            assert!(matches!(error, Err(Failure::Usage(text)) if text.contains("a number from 1 on")), "{wrong}");
        }
    }

    /// The words of a line as a shell would pass them on.
    fn words(line: &str) -> Vec<OsString> {
        let parts = line.split('\'').enumerate().flat_map(|(at, part)| match at % 2 {
            0 => part.split_whitespace().map(OsString::from).collect::<Vec<_>>(),
            _ => vec![OsString::from(part)],
        });
        parts.skip(1).collect()
    }

    #[test]
    fn the_commands_of_the_documents_are_right_and_each_one_is_there() {
        let mut seen = std::collections::BTreeSet::new();
        for page in ["docs/operating.md", "README.md", "docs/tls.md"] {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
            let text = std::fs::read_to_string(path).unwrap();
            let lines = text.lines().map(str::trim).filter(|line| line.starts_with("pushctl ") && line.contains("  "));
            let inline = text.split('`').filter(|part| part.starts_with("pushctl ") && *part != "pushctl -h");
            for line in lines.chain(inline) {
                let line = line.split(['#', '>']).next().unwrap();
                match read(words(line)) {
                    Ok(Call::Command(called)) => drop(seen.insert(called.command.name)),
                    other => panic!("{page}: {line}: {other:?}"),
                }
            }
        }
        assert_eq!(seen, COMMANDS.iter().map(|command| command.name).collect());
    }

    #[test]
    fn a_flag_has_the_same_form_at_each_command() {
        let all: Vec<_> = COMMANDS.iter().flat_map(|command| command.flags).chain(COMMON).collect();
        for (name, value, _) in &all {
            assert!(all.iter().all(|(other, its, _)| other != name || its.is_empty() == value.is_empty()), "{name}");
            assert!(usage().contains(&format!("--{name}")), "{name}");
        }
        assert!(usage().lines().all(|line| line.len() <= 100), "{}", usage());
    }
}
