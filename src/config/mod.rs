//! Options: set by name and text, checked once, then a plain struct that nobody checks again.

mod file;
pub mod options;
mod reload;
mod values;

use crate::auth::Auth;
use crate::error::{Error, Kind};
use crate::events::{EventKinds, EventSink};
use crate::hub::{ChannelPattern, Retention, Settings, SlowPolicy};
use crate::log::{Level, LogSink};
use crate::sys::clock;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

pub(crate) use reload::Reloadable;
pub use reload::Reloaded;
pub use values::{Address, ForwardedHeader, Secret, TrustedProxies};

/// Every option, checked. One field for each entry of [`options::OPTIONS`], which documents them.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // the table has each option's help, and is what the documentation is made from
#[non_exhaustive]
pub struct Config {
    pub listen: Vec<Address>,
    pub path: String,
    pub control: Vec<Address>,
    pub control_key: Secret,
    pub auth: Auth,
    pub auth_timeout_ms: u64,
    pub jwt_secret: Vec<Secret>,
    pub jwt_keys: Vec<String>,
    pub jwt_jwks: Secret,
    pub jwt_audience: String,
    pub jwt_issuer: String,
    pub token_cookie: String,
    pub log_level: Level,
    pub threads: usize,
    pub allowed_origins: Vec<String>,
    pub client_publish: bool,
    pub max_connections: usize,
    pub max_per_address: usize,
    pub max_per_user: usize,
    pub connect_rate: u64,
    pub connect_rate_per_address: u64,
    pub client_rate: u64,
    pub trusted_proxies: TrustedProxies,
    pub forwarded_header: ForwardedHeader,
    pub proxy_protocol: bool,
    pub max_channels: usize,
    pub max_message: usize,
    pub max_client_message: usize,
    pub max_head: usize,
    pub outbox: usize,
    pub outbox_total: usize,
    pub slow_policy: SlowPolicy,
    pub mailbox: usize,
    pub events: EventKinds,
    pub event_queue: usize,
    pub head_timeout_ms: u64,
    pub heartbeat_ms: u64,
    pub ping_timeout_ms: u64,
    pub poll_timeout_ms: u64,
    pub keep_alive_ms: u64,
    pub close_timeout_ms: u64,
    pub retry_ms: u64,
    pub key_window_ms: u64,
    pub history: Retention,
    pub history_total: usize,
    pub attach: Option<PathBuf>,
    pub attach_name: String,
    pub attach_timeout_ms: u64,
    pub attach_buffer: usize,
    pub attach_listen: Option<PathBuf>,
    pub attach_mode: u32,
    pub attach_uids: Vec<u32>,
    pub attach_gids: Vec<u32>,
    /// Retention of channels whose name fits a pattern, in the order set.
    pub channel_history: Vec<(ChannelPattern, Retention)>,
    /// What gives way to slow clients in channels whose name fits a pattern, in the order set.
    pub channel_slow: Vec<(ChannelPattern, SlowPolicy)>,
}

impl Default for Config {
    fn default() -> Self {
        let mut config = Config::blank();
        for option in options::OPTIONS {
            // A default that does not fit its own bounds is found by the test below, not by a user.
            let _ = option.apply(&mut config, option.default);
        }
        config
    }
}

impl Config {
    /// All zero: the defaults stand in the table, once.
    fn blank() -> Self {
        Config {
            listen: Vec::new(),
            path: String::new(),
            control: Vec::new(),
            control_key: Secret::default(),
            auth: Auth::None,
            auth_timeout_ms: 0,
            jwt_secret: Vec::new(),
            jwt_keys: Vec::new(),
            jwt_jwks: Secret::default(),
            jwt_audience: String::new(),
            jwt_issuer: String::new(),
            token_cookie: String::new(),
            log_level: Level::Info,
            threads: 0,
            allowed_origins: Vec::new(),
            client_publish: false,
            max_connections: 0,
            max_per_address: 0,
            max_per_user: 0,
            connect_rate: 0,
            connect_rate_per_address: 0,
            client_rate: 0,
            trusted_proxies: TrustedProxies::default(),
            forwarded_header: ForwardedHeader::default(),
            proxy_protocol: false,
            max_channels: 0,
            max_message: 0,
            max_client_message: 0,
            max_head: 0,
            outbox: 0,
            outbox_total: 0,
            slow_policy: SlowPolicy::Disconnect,
            mailbox: 0,
            events: EventKinds::none(),
            event_queue: 0,
            head_timeout_ms: 0,
            heartbeat_ms: 0,
            ping_timeout_ms: 0,
            poll_timeout_ms: 0,
            keep_alive_ms: 0,
            close_timeout_ms: 0,
            retry_ms: 0,
            key_window_ms: 0,
            history: Retention::default(),
            history_total: 0,
            attach: None,
            attach_name: String::new(),
            attach_timeout_ms: 0,
            attach_buffer: 0,
            attach_listen: None,
            attach_mode: 0,
            attach_uids: Vec::new(),
            attach_gids: Vec::new(),
            channel_history: Vec::new(),
            channel_slow: Vec::new(),
        }
    }

    /// The header that trusted proxies write; none where nobody is trusted.
    pub(crate) fn trusted_header(&self) -> Option<&'static str> {
        match self.forwarded_header {
            _ if self.trusted_proxies.is_empty() => None,
            ForwardedHeader::XForwardedFor => Some("x-forwarded-for"),
            ForwardedHeader::Forwarded => Some("forwarded"),
        }
    }

    /// Whether a connection may be one too many, or must say whose it is: if not, nobody asks.
    pub(crate) fn surplus_is_possible(&self) -> bool {
        self.connect_rate > 0 || self.max_per_address > 0 || self.connect_rate_per_address > 0 || self.proxy_protocol
    }

    /// Checks what a reload may change, too: that options go together.
    fn check(&self) -> Result<(), Error> {
        let open_control = self.control.iter().any(|address| matches!(address, Address::Tcp(_)));
        if open_control && self.control_key.is_empty() {
            return Err(Error::new(
                Kind::Config,
                "option control: a TCP address needs the option control_key, or whoever reaches the port may publish",
            ));
        }
        if self.proxy_protocol && self.trusted_proxies.is_empty() {
            return Err(Error::new(
                Kind::Config,
                "option proxy_protocol: it needs the option trusted_proxies, or everybody could name himself as he likes",
            ));
        }
        Ok(())
    }

    /// What of it is the hub's.
    pub(crate) fn hub_settings(&self) -> Settings<'_> {
        Settings {
            retention: self.history,
            patterns: &self.channel_history,
            slow_policy: self.slow_policy,
            slow_patterns: &self.channel_slow,
            total_bytes: self.history_total,
            key_window_ms: self.key_window_ms,
            clock_us: clock::monotonic_us,
        }
    }

    /// How many shards `threads` asks for on this machine.
    pub(crate) fn shard_count(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, |cores| cores.get().min(8)),
            threads => threads,
        }
    }
}

/// Options being collected, with the host's callbacks.
#[derive(Clone, Default)]
pub struct Builder {
    config: Config,
    /// Who gets the log; nobody by default.
    pub on_log: Option<Arc<LogSink>>,
    /// Who gets events; by default they can be pulled.
    pub on_event: Option<Arc<EventSink>>,
    /// Held during a callback: several servers started from one config still call its functions one at a time.
    pub(crate) turn: Arc<Mutex<()>>,
    /// Sockets that listen already, for subscribers, instead of those that the option `listen` names.
    pub listen_sockets: Vec<Arc<OwnedFd>>,
    /// One that listens already, for hosts, instead of the one that the option `attach_listen` names.
    pub attach_socket: Option<Arc<OwnedFd>>,
}

impl Builder {
    /// Sets one option. `channel.PATTERN.history_count` (`_age`, `_bytes`) sets the history of the channels
    /// whose name fits the pattern, `channel.PATTERN.slow_policy` what gives way there to clients that read slowly.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        if let Some((pattern, option)) = name.strip_prefix("channel.").and_then(|rest| rest.rsplit_once('.')) {
            return self.set_for_channels(name, pattern, option, value);
        }
        let option = options::find(name).ok_or_else(|| unknown(name))?;
        option.apply(&mut self.config, value).map_err(|allowed| refused(name, value, &allowed))
    }

    /// Sets the options that a TOML file names, all or none.
    pub fn load(&mut self, path: &Path) -> Result<(), Error> {
        let bytes = std::fs::read(path).map_err(|error| Error::system(path.display(), &error))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::new(Kind::Config, format!("{}: not UTF-8, as TOML must be", path.display())))?;
        self.load_text(&text).map_err(|error| Error::new(error.kind(), format!("{}: {error}", path.display())))
    }

    /// Sets the options that a text in TOML names, all or none.
    pub(crate) fn load_text(&mut self, text: &str) -> Result<(), Error> {
        let mut changed = self.clone();
        for (name, value) in file::settings(text)? {
            changed.set(&name, &value)?;
        }
        *self = changed;
        Ok(())
    }

    /// Checks what single options can't: that they go together.
    pub fn build(&self) -> Result<Builder, Error> {
        let config = &self.config;
        config.check()?;
        let wrong = |text: &'static str| Err(Error::new(Kind::Config, text));
        let for_hosts = config.attach_listen.is_some() || self.attach_socket.is_some();
        if config.attach.is_some() && for_hosts {
            return wrong("options attach and attach_listen: a hub does not attach to another");
        }
        if config.attach.is_some() && !config.control.is_empty() {
            return wrong("options attach and control: the control API is the hub's; set control there");
        }
        if for_hosts && self.on_event.is_some() {
            return wrong(
                "option attach_listen: events go to the hosts that attach, so there can be no event callback",
            );
        }
        Ok(self.clone())
    }

    /// The options as they stand.
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn set_for_channels(&mut self, name: &str, pattern: &str, option: &str, value: &str) -> Result<(), Error> {
        let spec = options::find(option)
            .filter(|spec| OPTIONS_OF_CHANNELS.contains(&spec.name))
            .ok_or_else(|| unknown(name))?;
        let pattern = ChannelPattern::parse(pattern)
            .map_err(|allowed| Error::new(Kind::Config, format!("option {name}: {allowed}")))?;
        // The table's setter works on the general value; lend it this pattern's.
        let mut scratch = self.config.clone();
        if let Some(retention) = find(&self.config.channel_history, &pattern) {
            scratch.history = retention;
        }
        spec.apply(&mut scratch, value).map_err(|allowed| refused(name, value, &allowed))?;
        let set = match option {
            "slow_policy" => put(&mut self.config.channel_slow, pattern, scratch.slow_policy),
            _ => put(&mut self.config.channel_history, pattern, scratch.history),
        };
        set.ok_or_else(|| {
            let max = options::MAX_PATTERNS;
            Error::new(Kind::Config, format!("option {name}: at most {max} channel patterns are allowed"))
        })
    }
}

/// What can be set for the channels whose name fits a pattern.
const OPTIONS_OF_CHANNELS: [&str; 4] = ["history_count", "history_age", "history_bytes", "slow_policy"];

fn find<T: Copy>(patterns: &[(ChannelPattern, T)], pattern: &ChannelPattern) -> Option<T> {
    patterns.iter().find(|(known, _)| known == pattern).map(|(_, value)| *value)
}

/// Sets the value of a pattern; nothing when there are too many.
fn put<T>(patterns: &mut Vec<(ChannelPattern, T)>, pattern: ChannelPattern, value: T) -> Option<()> {
    match patterns.iter().position(|(known, _)| *known == pattern) {
        Some(index) => patterns[index].1 = value,
        None if patterns.len() >= options::MAX_PATTERNS => return None,
        None => patterns.push((pattern, value)),
    }
    Some(())
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("config", &self.config).finish_non_exhaustive()
    }
}

fn unknown(name: &str) -> Error {
    let names: Vec<_> = options::OPTIONS.iter().map(|option| option.name).collect();
    let (edits, nearest) = names.iter().map(|known| (edits(name, known), *known)).min().expect("there are options");
    // First what was meant: a host's buffer cuts the list.
    let meant = if edits * 3 <= name.len() { format!("did you mean {nearest}? ") } else { String::new() };
    Error::new(Kind::Config, format!("unknown option {name:?}; {meant}the options are {}", names.join(", ")))
}

/// How many letters must be put in, taken out or changed to make the one of the other (Levenshtein).
fn edits(wrong: &str, known: &str) -> usize {
    // Nothing longer than this is a slip in writing a name, and the work is the product of both.
    if wrong.len() > 64 {
        return usize::MAX / 3;
    }
    let mut row: Vec<usize> = (0..=known.len()).collect();
    for (i, a) in wrong.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in known.bytes().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[known.len()]
}

fn refused(name: &str, value: &str, allowed: &str) -> Error {
    // A key belongs in no log.
    let secret = matches!(name, "control_key" | "jwt_secret");
    let shown = if secret { "the value (not shown)".into() } else { format!("{value:?}") };
    Error::new(Kind::Config, format!("option {name}: {shown} is not allowed; allowed is {allowed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_within_its_bounds() {
        let mut config = Config::blank();
        for option in options::OPTIONS {
            option
                .apply(&mut config, option.default)
                .unwrap_or_else(|allowed| panic!("{} = {:?} is not {allowed}", option.name, option.default));
        }
    }

    #[test]
    fn an_error_names_the_option_the_value_and_what_is_allowed() {
        let mut builder = Builder::default();
        let error = builder.set("max_message", "65MB").unwrap_err().to_string();
        assert_eq!(error, "option max_message: \"65MB\" is not allowed; allowed is a size from 1 to 64MB");
        let error = builder.set("max_mesage", "1").unwrap_err().to_string();
        let expected = "unknown option \"max_mesage\"; did you mean max_message? the options are listen, ";
        assert!(error.starts_with(expected), "{error}");
        for strange in ["frobnicate", &"x".repeat(1 << 20), ""] {
            let error = builder.set(strange, "1").unwrap_err().to_string();
            assert!(error.contains("; the options are listen, "), "{error}");
        }
        let error = builder.set("control_key", "short").unwrap_err().to_string();
        assert!(!error.contains("short"), "a key must not be repeated: {error}");
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
        assert!(builder.set("channel.news.*.path", "/x").is_err());
        builder.set("channel.news.*.slow_policy", "latest").unwrap();
        assert_eq!(builder.config().channel_slow[0].1, SlowPolicy::Latest);
        assert_eq!(builder.config().slow_policy, SlowPolicy::Disconnect);
        let error = builder.set("channel.news.*.slow_policy", "never").unwrap_err().to_string();
        assert!(error.ends_with("allowed is disconnect, drop-oldest or latest"), "{error}");
        assert!(builder.set("channel.a*b.history_count", "1").is_err());
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
    fn a_control_port_needs_a_key() {
        let mut builder = Builder::default();
        builder.set("control", "127.0.0.1:0").unwrap();
        assert_eq!(builder.build().unwrap_err().kind(), Kind::Config);
        builder.set("control_key", "0123456789abcdef").unwrap();
        assert!(builder.build().is_ok());
    }
}
