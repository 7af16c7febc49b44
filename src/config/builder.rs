//! Collects options, from names and texts or from a file.

use super::options::Spec;
use super::{file, options, wrong, Config, Engine, EngineSync};
use crate::error::{Error, Kind};
use crate::events::EventSink;
use crate::hub::ChannelPattern;
use crate::log::{LogSink, LogTo};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// A set of options, with the host's callbacks.
#[derive(Clone, Default)]
pub struct Builder {
    config: Config,
    /// The history options that were set for patterns, each with its text. What a pattern does not set follows the
    /// general option, also if that is set later.
    histories: Vec<(ChannelPattern, Vec<(&'static Spec, String)>)>,
    /// The callback for log lines. Without one there is no log.
    pub on_log: Option<Arc<LogSink>>,
    /// The callback for events. Without one they can be pulled.
    pub on_event: Option<Arc<EventSink>>,
    /// Held during a callback. So servers started from the same config call its functions one at a time.
    pub(crate) turn: Arc<Mutex<()>>,
    /// Listening sockets for subscribers, used in place of the option `listen`.
    pub listen_sockets: Vec<Arc<OwnedFd>>,
    /// A listening socket for hosts, used in place of the option `attach_listen`.
    pub attach_socket: Option<Arc<OwnedFd>>,
}

partial_debug!(Builder { config });

impl Builder {
    /// One with these options, which are right.
    #[cfg(test)]
    pub(crate) fn with(options: &[(&str, &str)]) -> Self {
        let mut builder = Builder::default();
        options.iter().for_each(|(name, value)| builder.set(name, value).unwrap());
        builder
    }

    /// Sets one option. `channel.PATTERN.history_count` (or `_age`, `_bytes`) sets the history of the channels whose
    /// names match the pattern. `channel.PATTERN.slow_policy` sets their policy for clients that read slowly,
    /// `channel.PATTERN.client_publish` whether the host checks what clients publish to them, and
    /// `channel.PATTERN.presence` whether clients may ask who is there.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        if let Some((pattern, option)) = name.strip_prefix("channel.").and_then(|rest| rest.rsplit_once('.')) {
            return self.set_for_channels(name, pattern, option, value);
        }
        let option = options::find(name).ok_or_else(|| wrong::unknown(name))?;
        option.apply(&mut self.config, value).map_err(|allowed| wrong::refused(option, name, value, &allowed))?;
        if OPTIONS_OF_CHANNELS.contains(&name) {
            self.resolve_histories();
        }
        Ok(())
    }

    /// Sets the options in a TOML file. If anything in it is wrong, none of them is set.
    pub fn load(&mut self, path: &Path) -> Result<(), Error> {
        let bytes = std::fs::read(path).map_err(|error| Error::system(path.display(), &error))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::new(Kind::Config, format!("{}: not UTF-8, as TOML must be", path.display())))?;
        self.load_text(&text).map_err(|error| Error::new(error.kind(), format!("{}: {error}", path.display())))
    }

    /// Sets the options in a TOML text. If anything in it is wrong, none of them is set.
    pub(crate) fn load_text(&mut self, text: &str) -> Result<(), Error> {
        let mut changed = self.clone();
        for (name, value) in file::settings(text)? {
            changed.set(&name, &value)?;
        }
        *self = changed;
        Ok(())
    }

    /// Checks that the options fit together, and reads the files of secrets.
    pub fn build(&self) -> Result<Builder, Error> {
        // A host that attaches needs no secrets, and may not be allowed to read them.
        let mut built = if self.config.attach.is_some() { self.clone() } else { self.with_secrets()? };
        built.config.fit_messages_to(&self.config.engine);
        let config = &built.config;
        config.check()?;
        let wrong = |text: &'static str| Err(Error::new(Kind::Config, text));
        let for_hosts = config.attach_listen.is_some() || self.attach_socket.is_some();
        if config.attach.is_some() && for_hosts {
            return wrong("options attach and attach_listen: a hub does not attach to another");
        }
        if config.attach.is_some() && !config.control.is_empty() {
            return wrong("options attach and control: the control API is the hub's; set control there");
        }
        if config.attach.is_some() && config.engine != Engine::Memory {
            return wrong("options attach and engine: the history is the hub's; set engine there");
        }
        if matches!(config.engine, Engine::Log(_)) && config.engine_sync != EngineSync::Interval {
            return wrong("option engine_sync: it is for engine=file:DIRECTORY; Redis and NATS have settings of their own for that");
        }
        if let Some(Err(text)) = config.shared_settings() {
            return Err(Error::new(Kind::Config, format!("option engine: {text}")));
        }
        self.check_log(false)?;
        if for_hosts && self.on_event.is_some() {
            return wrong(
                "option attach_listen: events go to the hosts that attach, so there can be no event callback",
            );
        }
        Ok(built)
    }

    /// Checks that the log goes to one place. `calls_back`: it goes to a callback already.
    pub(crate) fn check_log(&self, calls_back: bool) -> Result<(), Error> {
        let calls_back = calls_back || self.on_log.is_some();
        let pulled = self.config.log == LogTo::Pull;
        let why = match self.config.log_fd {
            Some(_) if pulled => "option log_fd: with log=pull the host takes the lines, so set one of the two",
            Some(_) if calls_back => {
                "option log_fd: the log goes to a callback already (push_config_on_log; the package for Go, the nginx \
                 module and pushd have one)"
            }
            None if pulled && calls_back => {
                "option log: pull is not allowed, since the log goes to a callback already (push_config_on_log; the \
                 package for Go, the nginx module and pushd have one)"
            }
            _ => return Ok(()),
        };
        Err(Error::new(Kind::Config, why))
    }

    /// The same options, with the content of files in place of their names.
    pub(crate) fn with_secrets(&self) -> Result<Builder, Error> {
        let mut built = self.clone();
        built.config.read_secrets()?;
        Ok(built)
    }

    /// The present options.
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn set_for_channels(&mut self, name: &str, pattern: &str, option: &str, value: &str) -> Result<(), Error> {
        let spec = options::find_for_channels(option)
            .filter(|spec| OPTIONS_OF_CHANNELS.contains(&spec.name))
            .ok_or_else(|| wrong::unknown_of_channels(name))?;
        let pattern = ChannelPattern::parse(pattern)
            .map_err(|allowed| wrong::error(format!("option {}: {allowed}", wrong::named(name))))?;
        // The table's setter changes the general value. Here it gets a copy in that place.
        let mut scratch = self.config.clone();
        spec.apply(&mut scratch, value).map_err(|allowed| wrong::refused(spec, name, value, &allowed))?;
        let set = match option {
            "slow_policy" => put(&mut self.config.channel_slow, pattern, scratch.slow_policy),
            "client_publish" => put(&mut self.config.channel_publish, pattern, scratch.client_publish),
            "presence" => put(&mut self.config.channel_presence, pattern, scratch.presence),
            _ => self.set_history(pattern, spec, value),
        };
        set.ok_or_else(|| {
            let max = options::MAX_PATTERNS;
            wrong::error(format!("option {}: at most {max} channel patterns are allowed", wrong::named(name)))
        })
    }

    /// Sets a history option of a pattern. `None` if there are too many patterns.
    fn set_history(&mut self, pattern: ChannelPattern, spec: &'static Spec, value: &str) -> Option<()> {
        let mut own = find(&self.histories, &pattern).unwrap_or_default();
        own.retain(|(known, _)| known.name != spec.name);
        own.push((spec, value.to_owned()));
        put(&mut self.histories, pattern, own)?;
        self.resolve_histories();
        Some(())
    }

    fn resolve_histories(&mut self) {
        let mut scratch = self.config.clone();
        let resolved = self.histories.iter().map(|(pattern, own)| {
            scratch.history = self.config.history;
            for (spec, value) in own {
                // Each text was taken when it was set.
                let _ = spec.apply(&mut scratch, value);
            }
            (pattern.clone(), scratch.history)
        });
        self.config.channel_history = resolved.collect();
    }
}

/// The options that can be set for the channels that match a pattern.
pub(super) const OPTIONS_OF_CHANNELS: [&str; 6] =
    ["history_count", "history_age", "history_bytes", "slow_policy", "client_publish", "presence"];

fn find<T: Clone>(patterns: &[(ChannelPattern, T)], pattern: &ChannelPattern) -> Option<T> {
    patterns.iter().find(|(known, _)| known == pattern).map(|(_, value)| value.clone())
}

/// Sets the value of a pattern. `None` if there are too many patterns.
fn put<T>(patterns: &mut Vec<(ChannelPattern, T)>, pattern: ChannelPattern, value: T) -> Option<()> {
    match patterns.iter().position(|(known, _)| *known == pattern) {
        Some(index) => patterns[index].1 = value,
        None if patterns.len() >= options::MAX_PATTERNS => return None,
        None => patterns.push((pattern, value)),
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::SlowPolicy;

    #[test]
    fn an_error_names_the_option_the_value_and_what_is_allowed() {
        let mut builder = Builder::default();
        let error = builder.set("max_message", "65MB").unwrap_err().to_string();
        assert_eq!(error, "option max_message: \"65MB\" is not allowed; allowed is a size from 1 to 64MB");
        let error = builder.set("control_key", "short").unwrap_err().to_string();
        assert!(!error.contains("short"), "a key must not be repeated: {error}");
    }

    #[test]
    fn a_number_has_no_sign_and_no_zero_before_it() {
        let (mut builder, mut count) = (Builder::default(), 0);
        let is_numeric = |option: &&options::Spec| option.default.starts_with(|c: char| c.is_ascii_digit());
        // The mode of a file is octal, as everywhere.
        for option in options::all().filter(is_numeric).filter(|option| option.name != "attach_mode") {
            builder.set(option.name, option.default).unwrap();
            for wrong in ["+", "0", "-", "00"].map(|before| format!("{before}{}", option.default)) {
                let error = builder.set(option.name, &wrong).unwrap_err().to_string();
                assert!(error.contains(&wrong) && error.contains("allowed is "), "{error}");
            }
            count += 1;
        }
        assert!(count > 35, "{count}");
        const FORM: &str = ", without a sign and without a zero before the number";
        for (name, value, bounds, form) in [
            ("threads", "+2", "a number from 0 to 64", FORM),
            ("threads", "0002", "a number from 0 to 64", FORM),
            ("threads", "65", "a number from 0 to 64", ""),
            ("retry", "007s", "a time from 100ms to 1h", FORM),
            ("outbox", "064KB", "a size from 4KB to 1GB", FORM),
        ] {
            let error = builder.set(name, value).unwrap_err().to_string();
            assert_eq!(error, format!("option {name}: {value:?} is not allowed; allowed is {bounds}{form}"));
        }
        for list in ["0,033", "+0"] {
            assert!(builder.set("attach_uids", list).is_err() && builder.set("attach_gids", list).is_err(), "{list}");
        }
    }

    #[test]
    fn the_order_of_a_file_does_not_matter_for_patterns() {
        for text in [
            "history_age = \"1h\"\n[channel.\"news.*\"]\nhistory_count = 1000",
            "channel.\"news.*\".history_count = 1000\nhistory_age = \"1h\"",
        ] {
            let mut builder = Builder::default();
            builder.load_text(text).unwrap();
            let (_, retention) = &builder.config().channel_history[0];
            assert_eq!((retention.count, retention.age_ms), (1000, 3_600_000), "{text}");
        }
    }

    #[test]
    fn patterns_have_their_own_history() {
        let mut builder = Builder::default();
        builder.set("history_count", "7").unwrap();
        builder.set("channel.news.*.history_count", "1000").unwrap();
        builder.set("channel.news.*.history_age", "1h").unwrap();
        let (pattern, retention) = &builder.config().channel_history[0];
        assert!(pattern.matches("news.sport") && !pattern.matches("news"));
        assert_eq!((retention.count, retention.age_ms), (1000, 3_600_000));
        assert_eq!(builder.config().history.count, 7);
        let error = builder.set("channel.news.*.path", "/x").unwrap_err().to_string();
        let names = "history_count, history_age, history_bytes, slow_policy, client_publish, presence";
        assert!(error.ends_with(&format!("of channels are {names}")), "{error}");
        builder.set("channel.news.*.slow_policy", "latest").unwrap();
        assert_eq!(builder.config().channel_slow[0].1, SlowPolicy::Latest);
        // What the pattern does not set follows the general option, and what it sets stays.
        builder.set("history_bytes", "1MB").unwrap();
        builder.set("history_age", "2h").unwrap();
        let (_, retention) = &builder.config().channel_history[0];
        assert_eq!((retention.count, retention.age_ms, retention.bytes), (1000, 3_600_000, 1 << 20));
        builder.set("channel.news.*.history_age", "3h").unwrap();
        let (_, retention) = &builder.config().channel_history[0];
        assert_eq!((retention.count, retention.age_ms, retention.bytes), (1000, 3 * 3_600_000, 1 << 20));
        assert_eq!(builder.config().channel_history.len(), 1);
        assert_eq!(builder.config().slow_policy, SlowPolicy::Disconnect);
        let error = builder.set("channel.news.*.slow_policy", "never").unwrap_err().to_string();
        assert!(error.ends_with("allowed is disconnect, drop-oldest or latest"), "{error}");
        assert!(builder.set("channel.a*b.history_count", "1").is_err());
    }

    #[cfg(all(feature = "redis", feature = "nats"))]
    #[test]
    fn the_largest_message_fits_a_fresh_nats_unless_it_is_set() {
        let built = |options: &[(&str, &str)]| Builder::with(options).build().unwrap().config().max_message;
        assert_eq!(built(&[]), 1 << 20);
        assert_eq!(built(&[("engine", "redis://h")]), 1 << 20);
        assert_eq!(built(&[("engine", "nats://h")]), (1 << 20) - 4096);
        assert_eq!(built(&[("engine", "nats://h"), ("max_message", "1MB")]), 1 << 20);
        assert_eq!(built(&[("max_message", "2KB"), ("engine", "nats://h")]), 2048);
    }

    #[test]
    fn a_hub_does_not_attach() {
        let mut builder = Builder::default();
        builder.set("attach", "unix:/run/a").unwrap();
        assert!(builder.build().is_ok());
        builder.set("attach_listen", "unix:/run/b").unwrap();
        assert_eq!(builder.build().unwrap_err().kind(), Kind::Config);
        for (name, value) in
            [("attach", "127.0.0.1:1"), ("attach_mode", "0400"), ("attach_mode", "9"), ("attach_uids", "root")]
        {
            assert!(builder.set(name, value).is_err(), "{name}={value}");
        }
        builder.set("attach_uids", "0, 33").unwrap();
        assert_eq!(builder.config().attach_uids, [0, 33]);
    }

    #[test]
    fn the_log_goes_to_one_place() {
        let ways = [("log", "pull"), ("log_fd", "2")];
        for way in ways {
            let mut builder = Builder::with(&[way]);
            assert!(builder.build().is_ok(), "{way:?}");
            builder.on_log = Some(Arc::new(|_, _| {}));
            let error = builder.build().unwrap_err();
            assert!(error.kind() == Kind::Config && error.to_string().contains("to a callback already"), "{error}");
        }
        let error = Builder::with(&ways).build().unwrap_err().to_string();
        assert!(error.contains("set one of the two"), "{error}");
    }

    #[test]
    fn a_control_port_needs_a_key() {
        let mut builder = Builder::default();
        builder.set("control", "127.0.0.1:0").unwrap();
        assert_eq!(builder.build().unwrap_err().kind(), Kind::Config);
        builder.set("control_key", "0123456789abcdef").unwrap();
        assert!(builder.build().is_ok());
    }
}
