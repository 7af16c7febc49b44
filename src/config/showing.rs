//! The options in use, as an operator may see them. A secret is never shown, nor one within a URL.

use super::options::{self, Spec};
use super::{
    values, Address, Auth, ClientPublish, Config, Engine, EngineSync, ForwardedHeader, Secret, TrustedProxies,
};
use crate::events::EventKinds;
use crate::hub::{ChannelPattern, Retention, SlowPolicy};
use crate::log::{Level, LogTo};
use crate::trace::Endpoint;
use std::path::PathBuf;

/// A field of [`Config`], before the type of its option says how it is written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Raw {
    /// A count, a size, or a time in milliseconds.
    Number(u64),
    Text(String),
    /// A secret. True: it is set.
    Secret(bool),
}

/// The kinds of fields.
pub(super) trait Show {
    fn raw(&self) -> Raw;
}

macro_rules! show {
    ($($kind:ty: $value:ident => $raw:expr,)*) => {
        $(impl Show for $kind {
            fn raw(&self) -> Raw {
                let $value = self;
                $raw
            }
        })*
    };
}

show! {
    u64: value => Raw::Number(*value),
    usize: value => Raw::Number(*value as u64),
    bool: value => Raw::Text(value.to_string()),
    String: value => Raw::Text(short(value)),
    Secret: value => Raw::Secret(!value.is_empty()),
    Vec<Secret>: value => Raw::Secret(!value.is_empty()),
    Vec<String>: value => Raw::Text(joined(value.iter().map(|item| short(item)))),
    Vec<u32>: value => Raw::Text(joined(value.iter())),
    Vec<Address>: value => Raw::Text(if value.is_empty() { "none".into() } else { joined(value.iter()) }),
    Option<PathBuf>: value => Raw::Text(value.as_ref().map_or("none".into(), |path| format!("unix:{}", path.display()))),
    TrustedProxies: value => Raw::Text(value.to_string()),
    Option<Endpoint>: value => Raw::Text(value.as_ref().map_or("none".into(), Endpoint::to_string)),
    EventKinds: value => Raw::Text(value.to_string()),
    Auth: value => Raw::Text(
        match value {
            Auth::Unset | Auth::None => "none",
            Auth::Jwt => "jwt",
            Auth::Host => "host",
        }
        .into()
    ),
    Level: value => Raw::Text(value.word().into()),
    LogTo: value => Raw::Text(
        match value {
            LogTo::Callback => "callback",
            LogTo::Pull => "pull",
        }
        .into()
    ),
    Option<i32>: value => Raw::Text(value.map_or("none".into(), |number| number.to_string())),
    ForwardedHeader: value => Raw::Text(
        match value {
            ForwardedHeader::XForwardedFor => "x-forwarded-for",
            ForwardedHeader::Forwarded => "forwarded",
        }
        .into()
    ),
    SlowPolicy: value => Raw::Text(value.word().into()),
    ClientPublish: value => Raw::Text(value.word().into()),
    EngineSync: value => Raw::Text(
        match value {
            EngineSync::Interval => "interval",
            EngineSync::Always => "always",
            EngineSync::Never => "never",
        }
        .into()
    ),
    Engine: value => Raw::Text(match value {
        Engine::Memory => "memory".into(),
        Engine::File(path) => format!("file:{}", path.display()),
        // It writes neither user nor password, and no parameter.
        Engine::Log(url) => url.to_string(),
    }),
}

fn joined(parts: impl Iterator<Item = impl ToString>) -> String {
    parts.map(|part| part.to_string()).collect::<Vec<_>>().join(",")
}

/// A text of one line. A longer one is left out: it is the content of a file where the name of one is usual, and may be a
/// private key. A list cuts such a text at its commas, so each part is looked at.
fn short(text: &str) -> String {
    if text.contains('\n') || text.contains("-----") {
        "(a text)".to_owned()
    } else {
        text.to_owned()
    }
}

/// `auto`, or what was set instead.
pub(super) fn or_auto(value: Option<u64>, show: fn(u64) -> String) -> Raw {
    Raw::Text(value.map_or_else(|| "auto".into(), show))
}

/// An option in use.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) spec: &'static Spec,
    /// `None`: it is a secret.
    pub(crate) value: Option<String>,
    /// Whether it is another than the default. Of a secret: whether it is set.
    pub(crate) changed: bool,
    /// What stands behind a value that leaves it to the library.
    pub(crate) means: Option<String>,
}

/// The options of the channels that match a pattern, in use.
#[derive(Debug)]
pub(crate) struct ShownPattern {
    pub(crate) pattern: String,
    /// The names of the options, and their values.
    pub(crate) options: Vec<(&'static str, String)>,
}

impl Config {
    /// All options, in the order of the reference.
    pub(crate) fn shown(&self) -> Vec<Shown> {
        let shown = |spec: &'static Spec| {
            let raw = spec.raw(self);
            let is_secret = spec.is_secret() || matches!(raw, Raw::Secret(_));
            let changed = match &raw {
                Raw::Secret(is_set) => *is_set,
                raw => *raw != spec.raw(&Config::default()),
            };
            // A default may be written in another form than ours.
            let written = |raw| if changed { spec.written(raw) } else { spec.default.to_owned() };
            let value = (!is_secret).then(|| written(raw));
            Shown { spec, value, changed, means: self.meaning(spec.name) }
        };
        options::all().map(shown).collect()
    }

    /// The value that the library has chosen for an option, where it may choose.
    fn meaning(&self, name: &str) -> Option<String> {
        match name {
            "threads" if self.threads == 0 => Some(self.shard_count().to_string()),
            "engine_retention_age" if self.engine_retention_age_ms.is_none() => {
                Some(values::show_time(self.log_settings().kept.age_ms))
            }
            "engine_retention_bytes" if self.engine_retention_bytes.is_none() => {
                Some(values::show_size(self.log_settings().kept.bytes))
            }
            "hub_name" if self.hub_name.is_none() => Some(self.hub_name()),
            _ => None,
        }
    }

    /// The options that were set for channels, in the order set.
    pub(crate) fn shown_patterns(&self) -> Vec<ShownPattern> {
        let mut found: Vec<ShownPattern> = Vec::new();
        for (pattern, Retention { count, age_ms, bytes }) in &self.channel_history {
            of(&mut found, pattern).extend([
                ("history_count", count.to_string()),
                ("history_age", values::show_time(*age_ms)),
                ("history_bytes", values::show_size(*bytes as u64)),
            ]);
        }
        for (pattern, policy) in &self.channel_slow {
            of(&mut found, pattern).push(("slow_policy", policy.word().to_owned()));
        }
        for (pattern, value) in &self.channel_publish {
            of(&mut found, pattern).push(("client_publish", value.word().to_owned()));
        }
        for (pattern, has) in &self.channel_presence {
            of(&mut found, pattern).push(("presence", has.to_string()));
        }
        found
    }
}

fn of<'f>(found: &'f mut Vec<ShownPattern>, pattern: &ChannelPattern) -> &'f mut Vec<(&'static str, String)> {
    let pattern = pattern.to_string();
    let at = found.iter().position(|known| known.pattern == pattern).unwrap_or_else(|| {
        found.push(ShownPattern { pattern, options: Vec::new() });
        found.len() - 1
    });
    &mut found[at].options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::Live;
    use crate::config::Builder;

    fn config(options: &[(&str, &str)]) -> Config {
        Builder::with(options).config().clone()
    }

    fn one(config: &Config, name: &str) -> Shown {
        config.shown().into_iter().find(|shown| shown.spec.name == name).unwrap()
    }

    fn shown(name: &str, value: &str) -> Option<String> {
        one(&config(&[(name, value)]), name).value
    }

    /// True if an option has the same value in both.
    fn is_same(option: &Spec, one: &Config, other: &Config) -> bool {
        let (Live::Yes(take, _) | Live::No(take, _)) = option.live;
        !take(&mut one.clone(), other)
    }

    #[test]
    fn each_default_is_shown_as_it_is_documented_and_is_not_changed() {
        let default = Config::default();
        for Shown { spec, value, changed, .. } in default.shown() {
            assert!(!changed, "{}", spec.name);
            assert_eq!(value.as_deref(), (!spec.is_secret()).then_some(spec.default), "{}", spec.name);
            if !spec.is_secret() && spec.name != "auth" {
                let text = spec.written(spec.raw(&default));
                assert!(is_same(spec, &config(&[(spec.name, &text)]), &default), "{}: {text}", spec.name);
            }
        }
    }

    /// The other half: each value that is shown can be set again, and is the same then.
    #[test]
    fn what_is_shown_can_be_set() {
        let values = [
            "none",
            "7",
            "8KB",
            "300ms",
            "true",
            "false",
            "jwt",
            "host",
            "/other",
            "3MB",
            "file:/x",
            "never",
            "always",
            "2m",
            "unix:/x",
            "tls:127.0.0.1:7,unix:/x",
            "debug",
            "error",
            "0666",
            "https://example.org",
            "127.0.0.1:5",
            "latest",
            "drop-oldest",
            "forwarded",
            "10.0.0.0/8,unix",
            "192.0.2.1",
            "auto",
            "off",
            "close,open",
            "0,33",
            "redis://h:1/2",
            "nats://a,b:5",
            "memory",
            "message",
        ];
        let mut tried = 0;
        for option in options::all().filter(|option| !option.is_secret()) {
            for value in values {
                let mut builder = Builder::default();
                if builder.set(option.name, value).is_err() {
                    continue;
                }
                tried += 1;
                let text = one(builder.config(), option.name).value.unwrap();
                let mut again = Builder::default();
                again.set(option.name, &text).unwrap_or_else(|error| panic!("{value} is shown as {text}: {error}"));
                assert_eq!(one(again.config(), option.name).value.as_deref(), Some(&*text), "{}", option.name);
                assert!(is_same(option, builder.config(), again.config()), "{}: {value} {text}", option.name);
            }
        }
        assert!(tried > 150, "{tried}");
    }

    #[test]
    fn no_secret_is_shown() {
        let long = "SECRET-SECRET-SECRET-SECRET-SECRET";
        let mut all = Vec::new();
        for (name, value) in [
            ("control_key", long.to_owned()),
            ("jwt_secret", format!("{long},other{long}")),
            ("jwt_jwks", format!("{{\"keys\":[{{\"k\":\"{long}\"}}]}}")),
            ("jwt_keys", format!("-----BEGIN PRIVATE KEY-----\n{long}\n-----END PRIVATE KEY-----\n")),
            ("jwt_keys", format!("-----BEGIN X-----\nDEK-Info: A,00\n\n{long}\n-----END X-----\n")),
            ("tls_key", format!("-----BEGIN PRIVATE KEY-----\n{long}\n-----END PRIVATE KEY-----\n")),
            ("tls_certificate", format!("-----BEGIN PRIVATE KEY-----\n{long}\n-----END PRIVATE KEY-----\n")),
            ("tls_client_ca", format!("-----BEGIN PRIVATE KEY-----\n{long}\n-----END PRIVATE KEY-----\n")),
            ("engine", format!("redis://user:{long}@host:1/2?sentinel_password={long}")),
            ("engine", format!("redis://:{long}@host")),
            ("engine", format!("redis://host?password={long}")),
            ("engine", format!("redis://:a/{long}@host")),
            ("engine", format!("redis://:a?{long}@host")),
            ("engine", format!("nats://{long}@host")),
            ("engine", format!("nats://one,two?token={long}")),
            ("engine", format!("nats://user:{long}@one,user:{long}@two")),
            ("engine", format!("nats://host?nkey={long}&credentials={long}")),
            ("engine", format!("redis://{long}:{long}")),
            ("trace", format!("otlp:http://host:4318/v1/traces?api-key={long}")),
        ] {
            let shown = one(&config(&[(name, &value)]), name);
            assert!(shown.changed, "{name}");
            all.push(format!("{shown:?}"));
        }
        assert!(all.iter().all(|shown| !shown.contains("SECRET")), "{all:#?}");
        assert_eq!(shown("engine", "redis://user:pass@host:1/2").as_deref(), Some("redis://host:1/2"));
        assert_eq!(shown("jwt_keys", "/etc/key.pem"), Some("/etc/key.pem".into()));
    }

    #[test]
    fn what_the_library_chooses_is_told() {
        let means = |options: &[(&str, &str)], name| one(&config(options), name).means;
        assert_eq!(means(&[("history_age", "2h")], "engine_retention_age"), Some("2h".into()));
        assert_eq!(means(&[("history_total", "1GB")], "engine_retention_bytes"), Some("4GB".into()));
        assert_eq!(means(&[("engine_retention_bytes", "1GB")], "engine_retention_bytes"), None);
        assert_eq!(means(&[("threads", "3")], "threads"), None);
        assert!(means(&[], "threads").unwrap().parse::<usize>().unwrap() > 0);
    }

    #[test]
    fn patterns_have_all_that_was_set_for_them() {
        let patterns = config(&[
            ("channel.a.*.slow_policy", "latest"),
            ("channel.b.history_count", "3"),
            ("channel.a.*.history_age", "1h"),
            ("channel.c.client_publish", "host"),
            ("channel.c.presence", "true"),
        ])
        .shown_patterns();
        let names: Vec<_> = patterns.iter().map(|shown| (&*shown.pattern, shown.options.len())).collect();
        assert_eq!(names, [("b", 3), ("a.*", 4), ("c", 2)]);
        assert_eq!(patterns[1].options[1], ("history_age", "1h".into()));
        assert_eq!(patterns[1].options[3], ("slow_policy", "latest".into()));
        assert_eq!(patterns[0].options[0], ("history_count", "3".into()));
        assert_eq!(patterns[2].options, [("client_publish", "host".into()), ("presence", "true".into())]);
    }
}
