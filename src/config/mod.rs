//! Options: set by name and text, checked once, then a plain struct that nobody checks again.

mod auth;
mod builder;
mod file;
pub(crate) mod hosts;
pub mod options;
mod origins;
mod reload;
pub(crate) mod secrets;
mod values;
mod wrong;

use crate::engine::file::{Kept, Settings as LogSettings};
use crate::error::{Error, Kind};
use crate::events::EventKinds;
use crate::hub::{ChannelPattern, Retention, Settings, SlowPolicy};
use crate::log::Level;
use crate::sys::clock;
use std::path::PathBuf;

pub use crate::engine::Sync as EngineSync;
pub use auth::Auth;
pub(crate) use auth::MIN_SECRET;
pub use builder::Builder;
pub(crate) use reload::Reloadable;
pub use reload::Reloaded;
pub use values::{Address, Engine, ForwardedHeader, Secret, TrustedProxies};

/// Every option, checked. One field for each of [`options::all`], which document them.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // the table has each option's help, and is what the documentation is made from
#[non_exhaustive]
pub struct Config {
    pub listen: Vec<Address>,
    pub path: String,
    pub health_path: String,
    pub allowed_hosts: Vec<String>,
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
    pub log_addresses: bool,
    pub threads: usize,
    pub allowed_origins: Vec<String>,
    pub client_publish: bool,
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
    pub engine: Engine,
    pub engine_sync: EngineSync,
    /// `None`: what the history options need.
    pub engine_retention_age_ms: Option<u64>,
    /// The same.
    pub engine_retention_bytes: Option<u64>,
    pub engine_buffer: usize,
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
        for option in options::all() {
            // A default that does not fit its own bounds is found by the test below, not by a user.
            let _ = option.apply(&mut config, option.default);
        }
        // That it is the default is not the word of whoever runs the server.
        config.auth = Auth::Unset;
        config
    }
}

impl Config {
    /// All zero: the defaults stand in the table, once.
    fn blank() -> Self {
        Config {
            listen: Vec::new(),
            path: String::new(),
            health_path: String::new(),
            allowed_hosts: Vec::new(),
            control: Vec::new(),
            control_key: Secret::default(),
            auth: Auth::Unset,
            auth_timeout_ms: 0,
            jwt_secret: Vec::new(),
            jwt_keys: Vec::new(),
            jwt_jwks: Secret::default(),
            jwt_audience: String::new(),
            jwt_issuer: String::new(),
            token_cookie: String::new(),
            log_level: Level::Info,
            log_addresses: true,
            threads: 0,
            allowed_origins: Vec::new(),
            client_publish: false,
            compression: false,
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
            engine: Engine::Memory,
            engine_sync: EngineSync::Interval,
            engine_retention_age_ms: None,
            engine_retention_bytes: None,
            engine_buffer: 0,
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

    /// What of it is the log's.
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

    /// How many shards `threads` asks for on this machine.
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
