//! The table of options: the only place with their names, defaults, bounds and help. This file says what an option is.
//! The options themselves are in one file for each topic.

use super::showing::{Raw, Show};
use super::{secrets, values, Config, Secret};
use crate::number;

/// A table of options. A row has the option's help as its documentation, and then: its name and its default; `live` or
/// `fixed`, see below; the type of its value, with the bounds; its field in [`Config`], if that has another name; and how
/// its value is shown, if the field alone does not say that.
macro_rules! options {
    ($(
        $(#[doc = $help:literal])+
        $name:ident = $default:literal, $change:ident, $kind:ident $value:tt
            $(in $($place:ident).+)? $(shown $show:expr)?;
    )+) => {
        pub(super) static OPTIONS: &[super::Spec] = &[$(
            option!($name in [$($($place).+)?], $default, $change, $kind $value, [$($show)?], concat!($($help),+)),
        )+];
    };
}

/// A row of the table. Without a field, it is the one with the option's name.
macro_rules! option {
    ($name:ident in [], $($rest:tt)+) => {
        option!($name in [$name], $($rest)+)
    };
    (
        $name:ident in [$($place:ident).+], $default:literal, $change:ident, $kind:ident $value:tt,
        [$($show:expr)?], $help:expr
    ) => {
        super::Spec {
            name: stringify!($name),
            default: $default,
            live: $change!($($place).+ $(, $show)?),
            help: super::help($help),
            value: value!($($place).+, $kind $value),
        }
    };
}

/// The type of an option's value. A `Text` has a function that reads it, a `Word` has its words and their values. Where
/// the value alone does not say what is set, the fields of [`Value`] stand in braces.
macro_rules! value {
    ($($place:ident).+, Flag ()) => {
        super::Value::Flag { set: |c, flag| c.$($place).+ = flag }
    };
    ($($place:ident).+, Text ($allowed:expr, $read:expr)) => {
        super::Value::Text {
            allowed: $allowed,
            set: |c, text| {
                let read: fn(&str) -> Option<_> = $read;
                read(text).map(|value| c.$($place).+ = value)
            },
        }
    };
    ($($place:ident).+, Word ($allowed:expr, $($word:literal => $value:expr),+)) => {
        super::Value::Text {
            allowed: $allowed,
            set: |c, text| {
                c.$($place).+ = match text {
                    $($word => $value,)+
                    _ => return None,
                };
                Some(())
            },
        }
    };
    ($($place:ident).+, $kind:ident ($min:expr, $max:expr)) => {
        super::Value::$kind { min: $min, max: $max, set: |c, n| c.$($place).+ = n as _ }
    };
    ($($place:ident).+, $kind:ident { $($fields:tt)+ }) => {
        super::Value::$kind { $($fields)+ }
    };
}

/// An option that a running server can change. Where its field alone does not say how its value is written, the second
/// part does.
macro_rules! live {
    ($($place:ident).+) => {
        live!($($place).+, |config| super::Show::raw(&config.$($place).+))
    };
    ($($place:ident).+, $show:expr) => {
        super::Live::Yes(|config, other| super::take(&mut config.$($place).+, &other.$($place).+), $show)
    };
}

/// An option that only a new start can change.
macro_rules! fixed {
    ($($place:ident).+) => {
        fixed!($($place).+, |config| super::Show::raw(&config.$($place).+))
    };
    ($($place:ident).+, $show:expr) => {
        super::Live::No(|config, other| super::take(&mut config.$($place).+, &other.$($place).+), $show)
    };
}

mod attach;
mod auth;
mod channels;
mod engine;
mod history;
mod limits;
mod listening;
mod presence;
mod queues;
mod serving;
mod timeouts;
mod trace;

/// The tables, in the order of the reference.
static TOPICS: [&[Spec]; 11] = [
    listening::OPTIONS,
    auth::OPTIONS,
    serving::OPTIONS,
    limits::OPTIONS,
    queues::OPTIONS,
    timeouts::OPTIONS,
    history::OPTIONS,
    presence::OPTIONS,
    engine::OPTIONS,
    trace::OPTIONS,
    attach::OPTIONS,
];

/// The largest number of patterns in `channel.PATTERN.` options.
pub const MAX_PATTERNS: usize = 64;

/// One option.
#[derive(Debug)]
pub struct Spec {
    /// Its name, in the C API, in TOML and in flags.
    pub name: &'static str,
    /// Its default, as text.
    pub default: &'static str,
    /// Whether a running server can change it; see [`Config::reloaded`].
    pub(super) live: Live,
    /// One line for the table of options.
    pub help: &'static str,
    value: Value,
}

/// Whether a reload changes an option. The first function takes the value over from another config, and returns true if it
/// was different. The second one reads it.
#[derive(Debug)]
pub(super) enum Live {
    /// A reload changes it.
    Yes(fn(&mut Config, &Config) -> bool, fn(&Config) -> Raw),
    /// It keeps its value until the next start.
    No(fn(&mut Config, &Config) -> bool, fn(&Config) -> Raw),
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
    /// A secret, which is never shown. It may be in a file (`file:PATH`). If `several` is true, it is a list.
    Secret {
        allowed: &'static str,
        several: bool,
        fits: Fits,
        set: fn(&mut Config, Vec<Secret>),
        all: SecretsOf,
    },
}

/// Checks that a secret is valid.
type Fits = fn(&[u8]) -> bool;

/// The place of an option's secrets in [`Config`].
type SecretsOf = fn(&mut Config) -> &mut [Secret];

impl Spec {
    /// Reads `text` into `config`. The error says what is allowed.
    pub(super) fn apply(&self, config: &mut Config, text: &str) -> Result<(), String> {
        let text = text.trim();
        let done = match &self.value {
            Value::Count { min, max, set } => within(number::read(text), *min, *max).map(|value| set(config, value)),
            Value::Size { min, max, set } => within(values::size(text), *min, *max).map(|value| set(config, value)),
            Value::Time { min, max, set } => within(values::time_ms(text), *min, *max).map(|value| set(config, value)),
            Value::Flag { set } => text.parse().ok().map(|value| set(config, value)),
            Value::Text { set, .. } => set(config, text),
            Value::Secret { several, fits, set, .. } => {
                secrets_in(text, *several, *fits).map(|secrets| set(config, secrets))
            }
        };
        done.ok_or_else(|| self.allowed() + self.form(text))
    }

    /// The secrets of this option in a config, and the check for them.
    pub(super) fn secrets<'c>(&self, config: &'c mut Config) -> Option<(&'c mut [Secret], Fits)> {
        match self.value {
            Value::Secret { fits, all, .. } => Some((all(config), fits)),
            _ => None,
        }
    }

    /// True if its value must never be shown.
    pub fn is_secret(&self) -> bool {
        matches!(self.value, Value::Secret { .. })
    }

    /// Its value in a config.
    pub(super) fn raw(&self, config: &Config) -> Raw {
        match self.live {
            Live::Yes(_, raw) | Live::No(_, raw) => raw(config),
        }
    }

    /// A value as a person would set it. It is empty for a secret.
    pub(super) fn written(&self, raw: Raw) -> String {
        match (raw, &self.value) {
            (Raw::Number(bytes), Value::Size { .. }) => values::show_size(bytes),
            (Raw::Number(ms), Value::Time { .. }) => values::show_time(ms),
            (Raw::Number(number), _) => number.to_string(),
            (Raw::Text(text), _) => text,
            (Raw::Secret(_), _) => String::new(),
        }
    }

    /// A hint at the form of a value, for a text that can't be read at all.
    fn form(&self, text: &str) -> &'static str {
        let digits = text.strip_prefix(['+', '0']).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        match self.value {
            Value::Count { .. } | Value::Size { .. } | Value::Time { .. } if digits => {
                ", without a sign and without a zero before the number"
            }
            Value::Size { .. } if values::size(text).is_none() => ", a whole number with KB, MB or GB",
            Value::Time { .. } if values::time_ms(text).is_none() => ", a whole number with ms, s, m, h or d",
            _ => "",
        }
    }

    /// True if a running server can change it.
    pub fn is_live(&self) -> bool {
        matches!(self.live, Live::Yes(..))
    }

    /// A description of the allowed values.
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

fn within(value: Option<u64>, min: u64, max: u64) -> Option<u64> {
    value.filter(|value| (min..=max).contains(value))
}

/// The secrets in a text, if each names a file or is valid itself.
fn secrets_in(text: &str, several: bool, fits: Fits) -> Option<Vec<Secret>> {
    let parts = if several { list(text) } else { vec![text.to_owned()] };
    let fits = |part: &String| match secrets::path_of(part) {
        Some(path) => !path.is_empty(),
        None => fits(part.as_bytes()) && !crate::engine::shared::has_placeholder(part.as_bytes()),
    };
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.iter().all(fits).then(|| parts.into_iter().map(Secret::new).collect())
}

/// The parts of a text, separated by commas.
pub(super) fn list(text: &str) -> Vec<String> {
    text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

/// A name that is only shown: 1 to `max` bytes without control characters.
fn label(text: &str, max: usize) -> Option<String> {
    let fits = (1..=max).contains(&text.len()) && !text.chars().any(char::is_control);
    fits.then(|| text.into())
}

fn numbers(text: &str) -> Option<Vec<u32>> {
    list(text).iter().map(|text| number::read(text)).collect()
}

/// All options, in the order of the reference.
pub fn all() -> impl Iterator<Item = &'static Spec> {
    TOPICS.iter().copied().flatten()
}

/// The help of a row, without the space before its documentation.
const fn help(documentation: &'static str) -> &'static str {
    documentation.split_at(1).1
}

/// The option with this name.
pub fn find(name: &str) -> Option<&'static Spec> {
    all().find(|option| option.name == name)
}

/// The option of the channels that match a pattern, with this name: one that only patterns have, or a general one.
pub(super) fn find_for_channels(name: &str) -> Option<&'static Spec> {
    channels::OPTIONS.iter().find(|option| option.name == name).or_else(|| find(name))
}

/// Takes a value over. Returns true if it was different.
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
