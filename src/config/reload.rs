//! Decides which new options a running server applies.

use super::options::{self, take, Live};
use super::Config;
use crate::error::Error;
use crate::log::{Level, Log};
use std::sync::{Arc, PoisonError, RwLock};

/// The result of a reload.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reloaded {
    /// The options that have changed. `channel.*` stands for the options of all patterns.
    pub changed: Vec<&'static str>,
    /// The options that can't change while the server runs, and stay as they were.
    pub left: Vec<&'static str>,
}

impl Reloaded {
    pub(crate) fn log(&self, log: &Log) {
        let changed = if self.changed.is_empty() { "nothing".into() } else { self.changed.join(", ") };
        log.line(Level::Info, format_args!("options reloaded: {changed} changed"));
        if !self.left.is_empty() {
            let left = self.left.join(", ");
            log.line(Level::Warn, format_args!("these options need a restart and stay as they are: {left}"));
        }
    }
}

impl Config {
    /// The options after `wanted` is loaded while these are in use.
    pub(crate) fn reloaded(&self, wanted: &Config) -> Result<(Config, Reloaded), Error> {
        let (mut next, mut scratch) = (self.clone(), self.clone());
        let mut reloaded = Reloaded::default();
        let mut wanted = wanted.clone();
        // The engine stays as it is.
        wanted.fit_messages_to(&self.engine);
        next.sets_max_message = wanted.sets_max_message;
        for option in options::all() {
            match option.live {
                Live::Yes(take, _) if take(&mut next, &wanted) => reloaded.changed.push(option.name),
                Live::No(take, _) if take(&mut scratch, &wanted) => reloaded.left.push(option.name),
                Live::Yes(..) | Live::No(..) => {}
            }
        }
        let patterns = take(&mut next.channel_history, &wanted.channel_history)
            | take(&mut next.channel_slow, &wanted.channel_slow)
            | take(&mut next.channel_publish, &wanted.channel_publish)
            | take(&mut next.channel_presence, &wanted.channel_presence);
        if patterns {
            reloaded.changed.push("channel.*");
        }
        // Each set of options was checked, but the mixture of both may be wrong.
        next.check()?;
        Ok((next, reloaded))
    }
}

/// The options in use. A reload replaces them as a whole.
#[derive(Debug)]
pub(crate) struct Reloadable(RwLock<Arc<Config>>);

impl Reloadable {
    pub(crate) fn new(config: Config) -> Self {
        Reloadable(RwLock::new(Arc::new(config)))
    }

    /// The present options. This takes a lock, so the path of a message does not call it.
    pub(crate) fn get(&self) -> Arc<Config> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, config: Arc<Config>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Builder, Secret};

    fn config(options: &[(&str, &str)]) -> Config {
        Builder::with(options).config().clone()
    }

    #[test]
    fn what_can_change_changes_and_the_rest_stays() {
        let old = config(&[("listen", "127.0.0.1:1"), ("threads", "2"), ("outbox", "8KB")]);
        let new = config(&[("listen", "127.0.0.1:2"), ("heartbeat", "1s"), ("channel.a.history_count", "3")]);
        let (next, reloaded) = old.reloaded(&new).unwrap();
        assert_eq!(reloaded.changed, ["outbox", "heartbeat", "channel.*"]);
        assert_eq!(reloaded.left, ["listen", "threads"]);
        assert_eq!((next.listen, next.threads), (old.listen.clone(), 2));
        assert_eq!((next.heartbeat_ms, next.outbox), (1000, 1 << 20));
        assert_eq!(next.channel_history, new.channel_history);
        assert_eq!(old.reloaded(&old).unwrap().1, Reloaded::default());
    }

    #[cfg(feature = "nats")]
    #[test]
    fn the_largest_message_fits_the_engine_that_runs() {
        let mut builder = Builder::default();
        builder.set("engine", "nats://h").unwrap();
        let old = builder.build().unwrap().config().clone();
        for same in [&[("engine", "nats://h")][..], &[]] {
            let (next, reloaded) = old.reloaded(&config(same)).unwrap();
            assert_eq!((next.max_message, reloaded.changed), (old.max_message, vec![]));
        }
        let (set, reloaded) = old.reloaded(&config(&[("max_message", "2KB")])).unwrap();
        assert_eq!((set.max_message, reloaded.changed), (2048, vec!["max_message"]));
        assert_eq!(set.reloaded(&config(&[])).unwrap().0.max_message, old.max_message);
    }

    #[test]
    fn what_stays_and_what_changes_must_go_together() {
        let old = config(&[("control", "127.0.0.1:1"), ("control_key", "0123456789abcdef")]);
        // The listener would stay open without a key.
        let error = old.reloaded(&config(&[])).unwrap_err();
        assert!(error.to_string().contains("control_key"), "{error}");
        let (next, _) = old.reloaded(&config(&[("control_key", "fedcba9876543210")])).unwrap();
        assert!(next.control_key == Secret::new("fedcba9876543210"));
    }

    #[test]
    fn every_option_is_at_its_own_place() {
        // Each option that is set to another value is found changed, and no other option is.
        let values = ["none", "7", "8KB", "300ms", "true", "jwt", "/other", "0123456789abcdef0123456789abcdef", "3MB"];
        let more = [
            "file:/x",
            "never",
            "2m",
            "unix:/x",
            "debug",
            "0666",
            "99",
            "https://example.org",
            "127.0.0.1:5",
            "latest",
            "forwarded",
            "10.0.0.0/8",
            "false",
            "auto",
            "pull",
            "otlp:http://h:1",
            "100",
        ];
        let mut default = Config::default();
        // The options console and tls_client_ca need them.
        let has_tls = cfg!(feature = "tls");
        let control = if has_tls { "tls:127.0.0.1:1" } else { "127.0.0.1:1" };
        let of_tls = [("tls_certificate", "/a"), ("tls_key", "/b")].into_iter().filter(|_| has_tls);
        for (name, value) in of_tls.chain([("control", control), ("control_key", "fedcba9876543210")]) {
            let option = options::all().find(|option| option.name == name).unwrap();
            option.apply(&mut default, value).unwrap();
        }
        let is_here = |name: &str| {
            (has_tls || !name.starts_with("tls_"))
                && (cfg!(feature = "console") || !name.starts_with("console"))
                && (cfg!(feature = "trace") || name != "trace")
        };
        for option in options::all().filter(|option| is_here(option.name)) {
            let found = values.iter().chain(&more).find_map(|value| {
                let mut config = default.clone();
                option.apply(&mut config, value).ok()?;
                let (_, Reloaded { changed, left }) = default.reloaded(&config).ok()?;
                Some([changed, left].concat()).filter(|names| !names.is_empty())
            });
            assert!(
                found.is_some(),
                "option {}: give this test a value that is allowed and not the default",
                option.name
            );
            assert_eq!(found.as_deref(), Some(&[option.name][..]));
        }
    }
}
