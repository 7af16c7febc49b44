//! The table of options: the only place that knows their names, defaults, bounds and help. What an option is stands
//! here, the options themselves by topic below.

use super::{secrets, values, Config, Secret};

/// An option that a running server takes a new value of; for the tables below.
macro_rules! live {
    ($($place:ident).+) => {
        super::Live::Yes(|config, other| super::take(&mut config.$($place).+, &other.$($place).+))
    };
}

/// One that is settled at the start.
macro_rules! fixed {
    ($($place:ident).+) => {
        super::Live::No(|config, other| super::take(&mut config.$($place).+, &other.$($place).+))
    };
}

mod attach;
mod auth;
mod engine;
mod history;
mod limits;
mod listening;
mod queues;
mod serving;
mod timeouts;

/// The tables, in the order of the reference.
static TOPICS: [&[Spec]; 9] = [
    listening::OPTIONS,
    auth::OPTIONS,
    serving::OPTIONS,
    limits::OPTIONS,
    queues::OPTIONS,
    timeouts::OPTIONS,
    history::OPTIONS,
    engine::OPTIONS,
    attach::OPTIONS,
];

/// How many `channel.PATTERN.` there may be.
pub const MAX_PATTERNS: usize = 64;

/// One option.
#[derive(Debug)]
pub struct Spec {
    /// Its name, in the C API, in TOML and in flags.
    pub name: &'static str,
    /// Its default, as one would write it.
    pub default: &'static str,
    /// Whether a running server takes a new value of it: see [`Config::reloaded`].
    pub(super) live: Live,
    /// One line for the reference.
    pub help: &'static str,
    value: Value,
}

/// What a reload does about an option, and the option's place in [`Config`]: takes the value over from another config,
/// and says whether it was a different one.
#[derive(Debug)]
pub(super) enum Live {
    /// It changes.
    Yes(fn(&mut Config, &Config) -> bool),
    /// It stays as it is until the next start.
    No(fn(&mut Config, &Config) -> bool),
}

/// The type of an option's value, with its bounds and its place in [`Config`].
#[derive(Debug)]
enum Value {
    Count {
        min: u64,
        max: u64,
        set: fn(&mut Config, u64),
    },
    Size {
        min: u64,
        max: u64,
        set: fn(&mut Config, u64),
    },
    Time {
        min: u64,
        max: u64,
        set: fn(&mut Config, u64),
    },
    Flag {
        set: fn(&mut Config, bool),
    },
    Text {
        allowed: &'static str,
        set: fn(&mut Config, &str) -> Option<()>,
    },
    /// Shown nowhere; each may be in a file (`file:PATH`). `several`: a list of them.
    Secret {
        allowed: &'static str,
        several: bool,
        fits: Fits,
        set: fn(&mut Config, Vec<Secret>),
        all: SecretsOf,
    },
}

/// Whether a secret is what it must be.
type Fits = fn(&[u8]) -> bool;

/// Where the secrets of an option are.
type SecretsOf = fn(&mut Config) -> &mut [Secret];

impl Spec {
    /// Reads `text` into `config`, or says what is allowed.
    pub(super) fn apply(&self, config: &mut Config, text: &str) -> Result<(), String> {
        let text = text.trim();
        let done = match &self.value {
            Value::Count { min, max, set } => number(text.parse().ok(), *min, *max).map(|value| set(config, value)),
            Value::Size { min, max, set } => number(values::size(text), *min, *max).map(|value| set(config, value)),
            Value::Time { min, max, set } => number(values::time_ms(text), *min, *max).map(|value| set(config, value)),
            Value::Flag { set } => text.parse().ok().map(|value| set(config, value)),
            Value::Text { set, .. } => set(config, text),
            Value::Secret { several, fits, set, .. } => {
                secrets_in(text, *several, *fits).map(|secrets| set(config, secrets))
            }
        };
        done.ok_or_else(|| self.allowed() + self.form(text))
    }

    /// The secrets of this option in a config, and what they must be.
    pub(super) fn secrets<'c>(&self, config: &'c mut Config) -> Option<(&'c mut [Secret], Fits)> {
        match self.value {
            Value::Secret { fits, all, .. } => Some((all(config), fits)),
            _ => None,
        }
    }

    /// Whether its value may be repeated nowhere.
    pub fn is_secret(&self) -> bool {
        matches!(self.value, Value::Secret { .. })
    }

    /// How a value is written, for one that can't be read at all.
    fn form(&self, text: &str) -> &'static str {
        match self.value {
            Value::Size { .. } if values::size(text).is_none() => ", a whole number with KB, MB or GB",
            Value::Time { .. } if values::time_ms(text).is_none() => ", a whole number with ms, s, m, h or d",
            _ => "",
        }
    }

    /// Whether a running server takes a new value of it.
    pub fn is_live(&self) -> bool {
        matches!(self.live, Live::Yes(_))
    }

    /// What is allowed, in words.
    pub fn allowed(&self) -> String {
        match &self.value {
            Value::Count { min, max, .. } => format!("a number from {min} to {max}"),
            Value::Size { min, max, .. } => {
                format!("a size from {} to {}", values::show_size(*min), values::show_size(*max))
            }
            Value::Time { min, max, .. } => {
                format!("a time from {} to {}", values::show_time(*min), values::show_time(*max))
            }
            Value::Flag { .. } => "true or false".into(),
            Value::Text { allowed, .. } | Value::Secret { allowed, .. } => (*allowed).into(),
        }
    }
}

fn number(value: Option<u64>, min: u64, max: u64) -> Option<u64> {
    value.filter(|value| (min..=max).contains(value))
}

/// The secrets in a text, if each of them is the name of a file or fits itself.
fn secrets_in(text: &str, several: bool, fits: Fits) -> Option<Vec<Secret>> {
    let parts = if several { list(text) } else { vec![text.to_owned()] };
    let fits = |part: &String| match secrets::path_of(part) {
        Some(path) => !path.is_empty(),
        None => fits(part.as_bytes()) && !secrets::has_placeholder(part.as_bytes()),
    };
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.iter().all(fits).then(|| parts.into_iter().map(Secret::new).collect())
}

/// The parts of a text with commas between.
pub(super) fn list(text: &str) -> Vec<String> {
    text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

fn numbers(text: &str) -> Option<Vec<u32>> {
    list(text).iter().map(|number| number.parse().ok()).collect()
}

/// All options, in the order of the reference.
pub fn all() -> impl Iterator<Item = &'static Spec> {
    TOPICS.iter().copied().flatten()
}

/// The option of that name.
pub fn find(name: &str) -> Option<&'static Spec> {
    all().find(|option| option.name == name)
}

/// Takes a value over, and says whether it was a different one.
pub(super) fn take<T: Clone + PartialEq>(place: &mut T, other: &T) -> bool {
    let differs = place != other;
    place.clone_from(other);
    differs
}

const KB: u64 = 1 << 10;
const MB: u64 = 1 << 20;
const GB: u64 = 1 << 30;
const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
