//! The table of options: the only place that knows their names, defaults, bounds and help.

use super::values::{self, ForwardedHeader, Secret, TrustedProxies};
use super::Config;
use crate::auth::{Auth, FILE, MIN_SECRET};
use crate::events::EventKinds;
use crate::hub::SlowPolicy;
use crate::log::Level;

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
    Count { min: u64, max: u64, set: fn(&mut Config, u64) },
    Size { min: u64, max: u64, set: fn(&mut Config, u64) },
    Time { min: u64, max: u64, set: fn(&mut Config, u64) },
    Flag { set: fn(&mut Config, bool) },
    Text { allowed: &'static str, set: fn(&mut Config, &str) -> Option<()> },
}

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
        };
        done.ok_or_else(|| self.allowed())
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
            Value::Text { allowed, .. } => (*allowed).into(),
        }
    }
}

fn number(value: Option<u64>, min: u64, max: u64) -> Option<u64> {
    value.filter(|value| (min..=max).contains(value))
}

/// The parts of a text with commas between.
fn list(text: &str) -> Vec<String> {
    text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

fn numbers(text: &str) -> Option<Vec<u32>> {
    list(text).iter().map(|number| number.parse().ok()).collect()
}

/// The option of that name.
pub fn find(name: &str) -> Option<&'static Spec> {
    OPTIONS.iter().find(|option| option.name == name)
}

/// An option that a running server takes a new value of.
macro_rules! live {
    ($($place:ident).+) => {
        Live::Yes(|config, other| take(&mut config.$($place).+, &other.$($place).+))
    };
}

/// One that is settled at the start.
macro_rules! fixed {
    ($($place:ident).+) => {
        Live::No(|config, other| take(&mut config.$($place).+, &other.$($place).+))
    };
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

/// All options, in the order of the reference.
pub static OPTIONS: &[Spec] = &[
    Spec {
        name: "listen",
        default: "127.0.0.1:8090",
        live: fixed!(listen),
        help: "Where the library itself accepts subscribers. `none` where the host hands its connections over",
        value: Value::Text {
            allowed: "none, or a list of IP:PORT, localhost:PORT and unix:PATH",
            set: |c, text| values::addresses(text).map(|list| c.listen = list),
        },
    },
    Spec {
        name: "path",
        default: "/push",
        live: live!(path),
        help: "The path of the subscribers' URL",
        value: Value::Text {
            allowed: "a path that begins with / and has no ?, # or spaces",
            set: |c, text| {
                let fits = text.starts_with('/') && text.len() <= 255;
                let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?' && byte != b'#');
                (fits && plain).then(|| c.path = text.into())
            },
        },
    },
    Spec {
        name: "control",
        default: "none",
        live: fixed!(control),
        help: "Where the control API listens. A TCP address needs `control_key`",
        value: Value::Text {
            allowed: "none, or a list of IP:PORT, localhost:PORT and unix:PATH",
            set: |c, text| values::addresses(text).map(|list| c.control = list),
        },
    },
    Spec {
        name: "control_key",
        default: "",
        live: live!(control_key),
        help: "The key that control requests carry as `Authorization: Bearer`",
        value: Value::Text {
            allowed: "16 to 255 characters without spaces, or nothing",
            set: |c, text| {
                let fits = text.is_empty() || (16..=255).contains(&text.len());
                let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
                (fits && plain).then(|| c.control_key = Secret::new(text))
            },
        },
    },
    Spec {
        name: "auth",
        default: "none",
        live: live!(auth),
        help: "Who may subscribe on the library's own listeners: everybody; clients with a JSON web token; clients \
               that the host allows when an event asks it. Connections that the host hands over carry its grant and \
               are not asked about",
        value: Value::Text {
            allowed: "none, jwt or host",
            set: |c, text| {
                c.auth = match text {
                    "none" => Auth::None,
                    "jwt" => Auth::Jwt,
                    "host" => Auth::Host,
                    _ => return None,
                };
                Some(())
            },
        },
    },
    Spec {
        name: "auth_timeout",
        default: "5s",
        live: live!(auth_timeout_ms),
        help: "How long the host may take to answer with auth=host before the client gets 503",
        value: Value::Time { min: 100, max: 10 * MINUTE, set: |c, n| c.auth_timeout_ms = n },
    },
    Spec {
        name: "jwt_secret",
        default: "",
        live: live!(jwt_secret),
        help: "Secrets for tokens signed with HS256; several while keys are rotated",
        value: Value::Text {
            allowed: "a list of secrets of at least 32 bytes, or of file:PATH",
            set: |c, text| {
                let secrets = list(text);
                let fit = secrets.iter().all(|secret| secret.len() >= MIN_SECRET || secret.starts_with(FILE));
                fit.then(|| c.jwt_secret = secrets.into_iter().map(Secret::new).collect())
            },
        },
    },
    Spec {
        name: "jwt_keys",
        default: "",
        live: live!(jwt_keys),
        help: "Public keys or certificates in PEM, as paths or inline: RSA of 2048 to 4096 bits for RS256, P-256 for \
               ES256, Ed25519 for EdDSA. All keys of a file count; of a chain of certificates its first",
        value: Value::Text {
            allowed: "a list of paths and PEM texts",
            set: |c, text| {
                c.jwt_keys = list(text);
                Some(())
            },
        },
    },
    Spec {
        name: "jwt_jwks",
        default: "",
        live: live!(jwt_jwks),
        help: "A JWK set, as a path or inline",
        value: Value::Text {
            allowed: "a path, or a JSON object",
            set: |c, text| {
                c.jwt_jwks = Secret::new(text);
                Some(())
            },
        },
    },
    Spec {
        name: "jwt_audience",
        default: "",
        live: live!(jwt_audience),
        help: "What a token's `aud` must name. Empty: it is not checked",
        value: Value::Text {
            allowed: "text",
            set: |c, text| {
                c.jwt_audience = text.into();
                Some(())
            },
        },
    },
    Spec {
        name: "jwt_issuer",
        default: "",
        live: live!(jwt_issuer),
        help: "What a token's `iss` must be. Empty: it is not checked",
        value: Value::Text {
            allowed: "text",
            set: |c, text| {
                c.jwt_issuer = text.into();
                Some(())
            },
        },
    },
    Spec {
        name: "token_cookie",
        default: "push_token",
        live: live!(token_cookie),
        help: "The cookie that may carry a token, as `Authorization: Bearer` and `?token=` may",
        value: Value::Text {
            allowed: "a cookie's name",
            set: |c, text| {
                let fits =
                    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
                fits.then(|| c.token_cookie = text.into())
            },
        },
    },
    Spec {
        name: "log_level",
        default: "info",
        live: live!(log_level),
        help: "The least severe level that is logged. Of refusals and ends of connections at most 10 of a kind are \
               logged in 10 seconds",
        value: Value::Text {
            allowed: "error, warn, info or debug",
            set: |c, text| {
                c.log_level = match text {
                    "error" => Level::Error,
                    "warn" => Level::Warn,
                    "info" => Level::Info,
                    "debug" => Level::Debug,
                    _ => return None,
                };
                Some(())
            },
        },
    },
    Spec {
        name: "threads",
        default: "0",
        live: fixed!(threads),
        help: "Threads that serve subscribers. 0: one for each core, at most 8",
        value: Value::Count { min: 0, max: 64, set: |c, n| c.threads = n as usize },
    },
    Spec {
        name: "allowed_origins",
        default: "",
        live: live!(allowed_origins),
        help: "Web origins besides the host's own that may subscribe. `*`: all",
        value: Value::Text {
            allowed: "*, or a list of origins such as https://example.org",
            set: |c, text| {
                let list = list(text);
                let good = |origin: &String| {
                    origin == "*"
                        || origin == "null"
                        || (origin.contains("://")
                            && !origin.ends_with('/')
                            && origin.bytes().all(|b| b.is_ascii_graphic()))
                };
                list.iter().all(good).then(|| c.allowed_origins = list)
            },
        },
    },
    Spec {
        name: "client_publish",
        default: "false",
        live: live!(client_publish),
        help: "Whether clients without a grant may publish (subprotocol push.v1.json)",
        value: Value::Flag { set: |c, flag| c.client_publish = flag },
    },
    Spec {
        name: "compression",
        default: "false",
        live: live!(compression),
        help: "Whether messages to and from WebSocket clients that offer it are compressed (permessage-deflate): each published \
               message once for all of them. Off by default, because sizes tell: where a message has a secret beside text that \
               somebody else can choose, the secret can be guessed from the sizes on the wire (CRIME, BREACH), even through TLS; \
               and an uncompressed message needs no copy. Costs about 350 KB for each of `threads`, and nothing per client",
        value: Value::Flag { set: |c, flag| c.compression = flag },
    },
    Spec {
        name: "max_connections",
        default: "0",
        live: live!(max_connections),
        help: "Open connections, beyond which clients get 503. 0: as many as descriptors allow",
        value: Value::Count { min: 0, max: 10_000_000, set: |c, n| c.max_connections = n as usize },
    },
    Spec {
        name: "max_per_address",
        default: "0",
        live: live!(max_per_address),
        help: "Open connections of one IPv4 address or one IPv6 network of 64 bits, beyond which it gets 429. 0: no \
               limit, since an address may be a proxy's or a whole town's",
        value: Value::Count { min: 0, max: 10_000_000, set: |c, n| c.max_per_address = n as usize },
    },
    Spec {
        name: "max_per_user",
        default: "0",
        live: live!(max_per_user),
        help: "Open subscription connections of one user, beyond which another is refused with 429. 0: no limit",
        value: Value::Count { min: 0, max: 10_000_000, set: |c, n| c.max_per_user = n as usize },
    },
    Spec {
        name: "connect_rate",
        default: "0",
        live: live!(connect_rate),
        help: "New connections per second, beyond which clients get 429; a second's worth may come at once. 0: no \
               limit",
        value: Value::Count { min: 0, max: 1_000_000, set: |c, n| c.connect_rate = n },
    },
    Spec {
        name: "connect_rate_per_address",
        default: "0",
        live: live!(connect_rate_per_address),
        help: "The same for each address; behind a trusted proxy requests count, not connections",
        value: Value::Count { min: 0, max: 1_000_000, set: |c, n| c.connect_rate_per_address = n },
    },
    Spec {
        name: "client_rate",
        default: "1000",
        live: live!(client_rate),
        help: "Messages and pings per second of one WebSocket client; a second's worth may come at once. One that \
               sends more is read more slowly, one that is ten seconds ahead is closed with 4429. A token takes a \
               tenth of a second. 0: no limit",
        value: Value::Count { min: 0, max: 1_000_000, set: |c, n| c.client_rate = n },
    },
    Spec {
        name: "trusted_proxies",
        default: "",
        live: live!(trusted_proxies),
        help: "Proxies that are believed about a client's address: what they say in `forwarded_header` and with \
               `proxy_protocol`",
        value: Value::Text {
            allowed: "a list of IP addresses, networks such as 10.0.0.0/8, and unix for those that come through a \
                      Unix socket",
            set: |c, text| TrustedProxies::read(text).map(|trusted| c.trusted_proxies = trusted),
        },
    },
    Spec {
        name: "forwarded_header",
        default: "x-forwarded-for",
        live: live!(forwarded_header),
        help: "The header that these proxies write. The other one is ignored: it may be the client's own",
        value: Value::Text {
            allowed: "x-forwarded-for or forwarded",
            set: |c, text| {
                c.forwarded_header = match text {
                    "x-forwarded-for" => ForwardedHeader::XForwardedFor,
                    "forwarded" => ForwardedHeader::Forwarded,
                    _ => return None,
                };
                Some(())
            },
        },
    },
    Spec {
        name: "proxy_protocol",
        default: "false",
        live: fixed!(proxy_protocol),
        help: "Whether connections to `listen` begin with a PROXY header, version 1 or 2. All of them must then, and \
               must come from `trusted_proxies`",
        value: Value::Flag { set: |c, flag| c.proxy_protocol = flag },
    },
    Spec {
        name: "max_channels",
        default: "100",
        live: live!(max_channels),
        help: "Channels of one connection",
        value: Value::Count { min: 1, max: 10_000, set: |c, n| c.max_channels = n as usize },
    },
    Spec {
        name: "max_message",
        default: "1MB",
        live: live!(max_message),
        help: "The largest payload that may be published",
        value: Value::Size { min: 1, max: 64 * MB, set: |c, n| c.max_message = n as usize },
    },
    Spec {
        name: "max_client_message",
        default: "64KB",
        live: live!(max_client_message),
        help: "The largest message that a client may send; for a larger one the connection is closed with 1009",
        value: Value::Size { min: 1, max: 64 * MB, set: |c, n| c.max_client_message = n as usize },
    },
    Spec {
        name: "max_head",
        default: "16KB",
        live: live!(max_head),
        help: "The largest request head; for a larger one the client gets 413, or 414 if the URL is the reason",
        value: Value::Size { min: KB, max: 64 * KB, set: |c, n| c.max_head = n as usize },
    },
    Spec {
        name: "outbox",
        default: "1MB",
        live: live!(outbox),
        help: "Bytes that may wait for a client that reads slowly; beyond that `slow_policy` decides",
        value: Value::Size { min: 4 * KB, max: GB, set: |c, n| c.outbox = n as usize },
    },
    Spec {
        name: "slow_policy",
        default: "disconnect",
        live: live!(slow_policy),
        help: "What gives way when a client's outbox is full: the connection, which is closed with 4429 and recovers \
               with its position; the messages that have waited longest, with a gap in their place; all waiting \
               messages of a channel but the newest. `channel.PATTERN.slow_policy` sets it for the channels that \
               match",
        value: Value::Text {
            allowed: "disconnect, drop-oldest or latest",
            set: |c, text| {
                c.slow_policy = match text {
                    "disconnect" => SlowPolicy::Disconnect,
                    "drop-oldest" => SlowPolicy::DropOldest,
                    "latest" => SlowPolicy::Latest,
                    _ => return None,
                };
                Some(())
            },
        },
    },
    Spec {
        name: "outbox_total",
        default: "1GB",
        live: live!(outbox_total),
        help: "Bytes that may wait for all slow clients together, a share for each thread. The less of it is left, \
               the less may wait for one client: those with the most give way first",
        value: Value::Size { min: MB, max: 1024 * GB, set: |c, n| c.outbox_total = n as usize },
    },
    Spec {
        name: "mailbox",
        default: "8192",
        live: fixed!(mailbox),
        help: "Messages that may wait for a thread; beyond that publishing answers PUSH_ERR_BUSY",
        value: Value::Count { min: 16, max: 1 << 20, set: |c, n| c.mailbox = n as usize },
    },
    Spec {
        name: "events",
        default: "open,message,close",
        live: live!(events),
        help: "Which events about connections the host gets. Naming only those that it uses saves waking it for the \
               rest; questions with auth=host and those about draining always come",
        value: Value::Text {
            allowed: "none, or a list of open, message and close",
            set: |c, text| EventKinds::read(text).map(|kinds| c.events = kinds),
        },
    },
    Spec {
        name: "event_queue",
        default: "4096",
        live: fixed!(event_queue),
        help: "Events that may wait for the host; beyond that the clients that cause them are not read",
        value: Value::Count { min: 16, max: 1 << 20, set: |c, n| c.event_queue = n as usize },
    },
    Spec {
        name: "head_timeout",
        default: "10s",
        live: live!(head_timeout_ms),
        help: "How long a client may take to send its request",
        value: Value::Time { min: 100, max: 10 * MINUTE, set: |c, n| c.head_timeout_ms = n },
    },
    Spec {
        name: "heartbeat",
        default: "25s",
        live: live!(heartbeat_ms),
        help: "How often a quiet connection gets a WebSocket ping, an SSE comment or an empty line",
        value: Value::Time { min: 100, max: DAY, set: |c, n| c.heartbeat_ms = n },
    },
    Spec {
        name: "ping_timeout",
        default: "20s",
        live: live!(ping_timeout_ms),
        help: "How long a WebSocket client may take to answer a ping before it is closed with 4408",
        value: Value::Time { min: 100, max: HOUR, set: |c, n| c.ping_timeout_ms = n },
    },
    Spec {
        name: "poll_timeout",
        default: "25s",
        live: live!(poll_timeout_ms),
        help: "How long a long-poll waits before it is answered without messages",
        value: Value::Time { min: 100, max: HOUR, set: |c, n| c.poll_timeout_ms = n },
    },
    Spec {
        name: "keep_alive",
        default: "60s",
        live: live!(keep_alive_ms),
        help: "How long a connection stays open between two polls",
        value: Value::Time { min: 100, max: HOUR, set: |c, n| c.keep_alive_ms = n },
    },
    Spec {
        name: "close_timeout",
        default: "5s",
        live: live!(close_timeout_ms),
        help: "How long a client may take to answer a close",
        value: Value::Time { min: 100, max: 10 * MINUTE, set: |c, n| c.close_timeout_ms = n },
    },
    Spec {
        name: "retry",
        default: "2s",
        live: live!(retry_ms),
        help: "How long an EventSource is advised to wait before it comes back",
        value: Value::Time { min: 100, max: HOUR, set: |c, n| c.retry_ms = n },
    },
    Spec {
        name: "key_window",
        default: "2m",
        live: live!(key_window_ms),
        help: "How long an idempotency key is remembered, if it is among the latest 100,000",
        value: Value::Time { min: 0, max: DAY, set: |c, n| c.key_window_ms = n },
    },
    Spec {
        name: "history_count",
        default: "100",
        live: live!(history.count),
        help: "Messages kept for each channel. 0: no history",
        value: Value::Count { min: 0, max: 1_000_000, set: |c, n| c.history.count = n as usize },
    },
    Spec {
        name: "history_age",
        default: "5m",
        live: live!(history.age_ms),
        help: "How long a message is kept",
        value: Value::Time { min: 100, max: 365 * DAY, set: |c, n| c.history.age_ms = n },
    },
    Spec {
        name: "history_bytes",
        default: "4MB",
        live: live!(history.bytes),
        help: "Bytes kept for each channel",
        value: Value::Size { min: 0, max: 16 * GB, set: |c, n| c.history.bytes = n as usize },
    },
    Spec {
        name: "history_total",
        default: "64MB",
        live: live!(history_total),
        help: "Bytes kept for all channels together; beyond that the oldest messages go",
        value: Value::Size { min: 0, max: 1024 * GB, set: |c, n| c.history_total = n as usize },
    },
    Spec {
        name: "attach",
        default: "none",
        live: fixed!(attach),
        help: "Attaches to the hub of another process, at its `attach_listen`, instead of starting one here. Of the \
               other options only `events`, `event_queue`, `log_level` and those that begin with `attach_` apply \
               then",
        value: Value::Text {
            allowed: "none, or unix:PATH",
            set: |c, text| values::unix_path(text).map(|path| c.attach = path),
        },
    },
    Spec {
        name: "attach_name",
        default: "host",
        live: fixed!(attach_name),
        help: "The name of this host at the hub. Hosts of the same name stand in for each other: when one is gone, \
               its clients' events go to another",
        value: Value::Text {
            allowed: "1 to 64 bytes without control characters",
            set: |c, text| {
                let fits = (1..=64).contains(&text.len()) && !text.chars().any(char::is_control);
                fits.then(|| c.attach_name = text.into())
            },
        },
    },
    Spec {
        name: "attach_timeout",
        default: "2s",
        live: live!(attach_timeout_ms),
        help: "How long a call that needs the hub's answer waits for it; then it answers PUSH_ERR_BUSY if nothing \
               was done, else PUSH_ERR_TIMEOUT",
        value: Value::Time { min: 0, max: MINUTE, set: |c, n| c.attach_timeout_ms = n },
    },
    Spec {
        name: "attach_buffer",
        default: "16MB",
        live: live!(attach_buffer),
        help: "Bytes that may wait for the hub while it is slow or away; beyond that publishing answers \
               PUSH_ERR_BUSY",
        value: Value::Size { min: 64 * KB, max: 16 * GB, set: |c, n| c.attach_buffer = n as usize },
    },
    Spec {
        name: "attach_listen",
        default: "none",
        live: fixed!(attach_listen),
        help: "Where hosts of other processes may attach to this hub. Events then go to them",
        value: Value::Text {
            allowed: "none, or unix:PATH",
            set: |c, text| values::unix_path(text).map(|path| c.attach_listen = path),
        },
    },
    Spec {
        name: "attach_mode",
        default: "0600",
        live: fixed!(attach_mode),
        help: "The mode of that socket's file",
        value: Value::Text {
            allowed: "an octal number from 0600 to 0777",
            set: |c, text| {
                let mode = u32::from_str_radix(text, 8).ok()?;
                (mode & !0o777 == 0 && mode & 0o600 == 0o600).then(|| c.attach_mode = mode)
            },
        },
    },
    Spec {
        name: "attach_uids",
        default: "",
        live: live!(attach_uids),
        help: "Users, by number, whose processes may attach. If this and `attach_gids` are empty: the hub's own user",
        value: Value::Text {
            allowed: "a list of numbers",
            set: |c, text| numbers(text).map(|list| c.attach_uids = list),
        },
    },
    Spec {
        name: "attach_gids",
        default: "",
        live: live!(attach_gids),
        help: "Groups, by number, whose processes may attach; only a process's primary group counts",
        value: Value::Text {
            allowed: "a list of numbers",
            set: |c, text| numbers(text).map(|list| c.attach_gids = list),
        },
    },
];
