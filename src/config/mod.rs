//! Options. They are set by name and text and checked once. The result is a plain struct that needs no further checks.

mod auth;
mod builder;
mod client_publish;
mod file;
pub(crate) mod hosts;
pub mod options;
mod origins;
mod parts;
mod presence;
mod reload;
pub(crate) mod secrets;
pub(crate) mod showing;
mod values;
mod wrong;

use crate::engine::file::{Kept, Settings as LogSettings};
use crate::engine::{hub_name, shared};
use crate::error::{Error, Kind};
use crate::events::{EventKind, EventKinds};
use crate::hub::{ChannelPattern, Retention, Settings, SlowPolicy};
use crate::log::{Level, LogTo};
use crate::sys::socket::Probes;
use crate::sys::{clock, own};
use crate::trace::Endpoint;
use std::path::PathBuf;
use std::time::Duration;

/// The least time that servers of a log get to answer.
const MIN_ENGINE_TIMEOUT_MS: u64 = 100;

pub use crate::engine::Sync as EngineSync;
pub use auth::Auth;
pub(crate) use auth::MIN_SECRET;
pub use builder::Builder;
pub use client_publish::ClientPublish;
pub(crate) use reload::Reloadable;
pub use reload::Reloaded;
pub use values::{Address, Engine, ForwardedHeader, Secret, TrustedProxies};

/// Declares the options' struct, and makes one in which each field is zero or empty. So a field stands here once.
macro_rules! fields {
    ($(#[$attribute:meta])* pub struct $name:ident { $($(#[$doc:meta])* pub $field:ident: $kind:ty,)* }) => {
        $(#[$attribute])*
        pub struct $name { $($(#[$doc])* pub $field: $kind,)* }

        impl $name {
            /// Each field is zero or empty. The table of options has the defaults.
            fn blank() -> Self {
                $name { $($field: Default::default(),)* }
            }
        }
    };
}

fields! {
    /// All options, checked. There is one field for each of [`options::all`], which document them.
    #[derive(Debug, Clone)]
    #[allow(missing_docs)] // the table has each option's help, and is what the documentation is made from
    #[non_exhaustive]
    pub struct Config {
        pub listen: Vec<Address>,
        pub tls_certificate: Vec<String>,
        pub tls_key: Vec<String>,
        pub tls_client_ca: String,
        pub tls_kernel: bool,
        pub path: String,
        pub health_path: String,
        pub allowed_hosts: Vec<String>,
        pub control: Vec<Address>,
        pub control_key: Secret,
        pub console: bool,
        pub console_session_ms: u64,
        pub auth: Auth,
        pub auth_timeout_ms: u64,
        pub jwt_secret: Vec<Secret>,
        pub jwt_keys: Vec<String>,
        pub jwt_jwks: Secret,
        pub jwt_audience: String,
        pub jwt_issuer: String,
        pub token_cookie: String,
        pub log: LogTo,
        /// The number of a descriptor.
        pub log_fd: Option<i32>,
        pub log_level: Level,
        pub log_addresses: bool,
        pub threads: usize,
        pub allowed_origins: Vec<String>,
        pub client_publish: ClientPublish,
        pub user_channel: bool,
        pub compression: bool,
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
        pub max_patterns: usize,
        pub patterns_total: usize,
        pub max_calls: usize,
        pub call_timeout_ms: u64,
        pub max_message: usize,
        /// The operator has decided on it. Otherwise it depends on the engine.
        pub sets_max_message: bool,
        pub max_client_message: usize,
        pub max_head: usize,
        pub outbox: usize,
        pub outbox_total: usize,
        pub inbox_total: usize,
        pub slow_policy: SlowPolicy,
        pub mailbox: usize,
        pub events: EventKinds,
        pub event_queue: usize,
        pub head_timeout_ms: u64,
        pub message_timeout_ms: u64,
        pub heartbeat_ms: u64,
        pub ping_timeout_ms: u64,
        pub poll_timeout_ms: u64,
        pub keep_alive_ms: u64,
        pub close_timeout_ms: u64,
        pub retry_ms: u64,
        pub key_window_ms: u64,
        pub history: Retention,
        pub history_total: usize,
        pub presence_grace_ms: u64,
        pub presence_detail: usize,
        pub presence_total: usize,
        pub engine: Engine,
        pub engine_namespace: String,
        /// `None` means that of the machine, and what tells this hub from others there.
        pub hub_name: Option<String>,
        pub engine_sync: EngineSync,
        pub engine_timeout_ms: u64,
        /// `None` means as much as the history options need.
        pub engine_retention_age_ms: Option<u64>,
        /// `None` means as much as the history options need.
        pub engine_retention_bytes: Option<u64>,
        pub engine_buffer: usize,
        pub trace: Option<Endpoint>,
        /// Of how many publishes one has a span. 0: none has.
        pub trace_sample: u64,
        pub trace_service: String,
        pub trace_timeout_ms: u64,
        pub trace_queue: usize,
        pub attach: Option<PathBuf>,
        pub attach_name: String,
        pub attach_timeout_ms: u64,
        pub attach_buffer: usize,
        pub attach_listen: Option<PathBuf>,
        pub attach_mode: u32,
        pub attach_uids: Vec<u32>,
        pub attach_gids: Vec<u32>,
        /// The retention of channels that match a pattern, in the order set.
        pub channel_history: Vec<(ChannelPattern, Retention)>,
        /// The slow policy of channels that match a pattern, in the order set.
        pub channel_slow: Vec<(ChannelPattern, SlowPolicy)>,
        /// How clients may publish to channels that match a pattern, in the order set.
        pub channel_publish: Vec<(ChannelPattern, ClientPublish)>,
        /// Of channels that match no pattern. It is false: only patterns can have it.
        pub presence: bool,
        /// Whether channels that match a pattern have presence, in the order set.
        pub channel_presence: Vec<(ChannelPattern, bool)>,
    }
}

impl Default for Config {
    fn default() -> Self {
        let mut config = Config::blank();
        for option in options::all() {
            // The test below checks that each default fits its own bounds.
            let _ = option.apply(&mut config, option.default);
        }
        // A default is not a decision of the operator.
        config.auth = Auth::Unset;
        config.sets_max_message = false;
        config
    }
}

impl Config {
    /// The header that trusted proxies write. `None` if no proxy is trusted.
    pub(crate) fn trusted_header(&self) -> Option<&'static str> {
        match self.forwarded_header {
            _ if self.trusted_proxies.is_empty() => None,
            ForwardedHeader::XForwardedFor => Some("x-forwarded-for"),
            ForwardedHeader::Forwarded => Some("forwarded"),
        }
    }

    /// True if a new connection can exceed a limit, or a PROXY header must tell its address. Otherwise no connection is
    /// checked for that.
    pub(crate) fn checks_new_connections(&self) -> bool {
        self.connect_rate > 0 || self.max_per_address > 0 || self.connect_rate_per_address > 0 || self.proxy_protocol
    }

    /// How the kernel finds out that a silent client is gone: a poll, for example, to which nothing is sent while it
    /// waits.
    pub(crate) fn probes(&self) -> Probes {
        const COUNT: u64 = 3;
        let seconds = |ms: u64| ms.div_ceil(1000);
        let interval = seconds(self.ping_timeout_ms / COUNT).max(1);
        Probes { idle: seconds(self.heartbeat_ms), interval, count: COUNT }
    }

    /// Lowers the largest message to what the servers of a log take by their defaults, if nobody has decided on it.
    fn fit_messages_to(&mut self, engine: &Engine) {
        if let (false, Engine::Log(url)) = (self.sets_max_message, engine) {
            self.max_message = url.max_message().unwrap_or(self.max_message);
        }
    }

    /// Checks that the options fit together, at the start and at each reload.
    fn check(&self) -> Result<(), Error> {
        let open_control = self.control.iter().any(|address| !matches!(address, Address::Unix(_)));
        if open_control && self.control_key.is_empty() {
            return Err(Error::new(
                Kind::Config,
                "option control: a TCP address needs the option control_key, or whoever reaches the port may publish",
            ));
        }
        self.check_console()?;
        self.check_tls()?;
        self.check_trace()?;
        self.check_presence()?;
        if self.attach.is_none() && self.asks_about_messages() && !self.events.has(EventKind::Publish) {
            let text =
                "option client_publish: host needs `publish` in the option events; otherwise nobody would be asked";
            return Err(Error::new(Kind::Config, text));
        }
        if self.path == self.health_path {
            return Err(Error::new(Kind::Config, "options path and health_path: they must differ"));
        }
        if self.proxy_protocol && self.trusted_proxies.is_empty() {
            return Err(Error::new(
                Kind::Config,
                "option proxy_protocol: it needs the option trusted_proxies, or any client could claim any address",
            ));
        }
        Ok(())
    }

    /// The settings of the hub.
    pub(crate) fn hub_settings(&self) -> Settings<'_> {
        Settings {
            retention: self.history,
            patterns: &self.channel_history,
            slow_policy: self.slow_policy,
            slow_patterns: &self.channel_slow,
            total_bytes: self.history_total,
            key_window_ms: self.key_window_ms,
            client_patterns: if self.max_patterns > 0 { self.patterns_total } else { 0 },
            clock_us: clock::monotonic_us,
        }
    }

    /// The settings of the log.
    pub(crate) fn log_settings(&self) -> LogSettings {
        let ages = self.channel_history.iter().map(|(_, retention)| retention.age_ms);
        let needed = ages.chain([self.history.age_ms, self.key_window_ms]).max().unwrap_or(0);
        let bytes = (self.history_total as u64).saturating_mul(4).max(256 << 20);
        let kept = Kept {
            age_ms: self.engine_retention_age_ms.unwrap_or(needed),
            bytes: self.engine_retention_bytes.unwrap_or(bytes),
        };
        LogSettings { sync: self.engine_sync, kept, buffer: self.engine_buffer }
    }

    /// The settings of a log that hubs share, if the option `engine` names one.
    pub(crate) fn shared_settings(&self) -> Option<Result<shared::Settings, String>> {
        let Engine::Log(url) = &self.engine else { return None };
        let Kept { age_ms, bytes } = self.log_settings().kept;
        let options = shared::Options {
            namespace: self.engine_namespace.clone(),
            timeout: self.shared_timeout(),
            key_window: Duration::from_millis(self.key_window_ms),
            kept: (Duration::from_millis(age_ms), bytes),
            max_message: self.max_message,
        };
        Some(shared::Settings::new(url, &options))
    }

    /// The name of this hub, for operators. The port is that at which an operator reaches the hub, or else its clients do.
    /// A process without a port has its number. A process with several hubs gives them names.
    pub(crate) fn hub_name(&self) -> String {
        if let Some(name) = &self.hub_name {
            return name.clone();
        }
        let port = |address: &Address| match address {
            Address::Tcp(at) | Address::Tls(at) => Some(at.port()).filter(|port| *port > 0),
            Address::Unix(_) => None,
        };
        let port = self.control.iter().chain(&self.listen).find_map(port);
        let mark = port.map_or_else(|| format!("/{}", std::process::id()), |port| format!(":{port}"));
        hub_name::of_machine(own::host_name().as_deref(), &mark)
    }

    /// How long the servers of a log that hubs share may take to answer.
    pub(crate) fn shared_timeout(&self) -> Duration {
        Duration::from_millis(self.engine_timeout_ms.max(MIN_ENGINE_TIMEOUT_MS))
    }

    /// The number of shards for the option `threads` on this machine.
    pub(crate) fn shard_count(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, |cores| cores.get().min(8)),
            threads => threads,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts a server with one option that needs a part of the library. Returns the error.
    #[cfg(not(all(feature = "tls", feature = "redis", feature = "nats", feature = "console", feature = "trace")))]
    fn refused(name: &str, value: &str) -> String {
        let mut builder = crate::Builder::default();
        builder.set("auth", "none").unwrap();
        builder.set("listen", "none").unwrap();
        builder.set(name, value).unwrap();
        let error = crate::Server::start(builder).err().unwrap_or_else(|| panic!("{name}={value} is not refused"));
        assert_eq!(error.kind(), Kind::Config, "{error}");
        error.to_string()
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn a_build_without_tls_refuses_its_options_and_says_why() {
        for (name, value) in [
            ("listen", "tls:127.0.0.1:0"),
            ("tls_certificate", "/etc/cert.pem"),
            ("tls_key", "/etc/key.pem"),
            ("tls_client_ca", "/etc/ca.pem"),
            ("tls_kernel", "auto"),
        ] {
            let error = refused(name, value);
            assert!(error.contains("no TLS (the cargo feature tls is off)"), "{name}: {error}");
        }
    }

    #[cfg(not(feature = "console"))]
    #[test]
    fn a_build_without_the_console_refuses_it_and_says_why() {
        let error = refused("console", "true");
        assert!(error.contains("no console (the cargo feature console is off)"), "{error}");
    }

    #[cfg(not(feature = "trace"))]
    #[test]
    fn a_build_without_spans_refuses_the_option_and_says_why() {
        let error = refused("trace", "otlp:http://127.0.0.1:4318");
        assert!(error.contains("exports no spans (the cargo feature trace is off)"), "{error}");
    }

    #[cfg(not(all(feature = "redis", feature = "nats")))]
    #[test]
    fn a_build_without_an_engine_refuses_its_urls_and_says_why() {
        let (redis, nats) = (cfg!(feature = "redis"), cfg!(feature = "nats"));
        let urls =
            [("redis", redis, "redis://127.0.0.1"), ("redis", redis, "rediss://host"), ("nats", nats, "nats://host")];
        for (feature, _, url) in urls.into_iter().filter(|(_, is_built, _)| !is_built) {
            let error = refused("engine", url);
            let reason = format!("no engine {feature} (the cargo feature {feature} is off)");
            assert!(error.contains(&reason), "{error}");
        }
    }

    #[test]
    fn every_default_is_within_its_bounds() {
        let mut config = Config::blank();
        for option in options::all() {
            option
                .apply(&mut config, option.default)
                .unwrap_or_else(|allowed| panic!("{} = {:?} is not {allowed}", option.name, option.default));
        }
    }
}
