//! The settings in a URL: the servers, the hub's user there, and the log.
//!
//! `nats://user:password@one:4222,two:4222/?replicas=3`. A user name without a password is a token. The parameters are
//! `replicas`, `max_bytes`, `password`, `token`, `nkey`, `credentials`, `ca`, `cert` and `key`. Each secret may be
//! `file:PATH`.

use super::super::shared::tls::Tls;
use super::super::shared::{has_placeholder, Options};
use super::life::Confirmed;
use crate::number;
use percent_encoding::percent_decode_str;
use std::fmt;
use std::fs;
use std::sync::Arc;

const PARAMETERS: &str = "replicas, max_bytes, password, token, nkey, credentials, ca, cert and key";
/// What mostly is wrong.
const ENCODED: &str = "in a name, password or parameter, `,` is written %2C, `/` %2F, `?` %3F and `@` %40";
const PLACEHOLDER: &str = "a placeholder ${NAME}; the library does not replace placeholders";
const PORT: u16 = 4222;
/// The largest number of servers in one URL.
const SERVERS: usize = 64;

/// A place of a log, and a hub's way to it.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(super) options: Options,
    /// Name or address, and port.
    pub(super) servers: Vec<(String, u16)>,
    pub(super) who: Who,
    pub(super) tls: Option<Tls>,
    /// The number of servers that keep the log. `None`: it stays as it is; a new log in a cluster gets 3.
    pub(super) replicas: Option<usize>,
    /// The most bytes of a new log. `None`: there is no bound.
    pub(super) max_bytes: Option<u64>,
    /// Knowledge from earlier connections to the log. Copies of these settings share it.
    pub(super) confirmed: Arc<Confirmed>,
}

/// The hub's user on the servers.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Who {
    Anyone,
    Token(String),
    User(String, String),
    /// The seed of an nkey.
    Nkey(String),
    /// The text of a credentials file: a JWT and a seed.
    Credentials(String),
}

impl Settings {
    /// Reads a URL. The error names what is wrong, and no secrets.
    pub(crate) fn parse(url: &str, options: &Options) -> Result<Settings, String> {
        let namespace = &options.namespace;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if namespace.is_empty() || namespace.len() > 64 || !namespace.bytes().all(is_plain) {
            return Err("the namespace of a log in NATS has 1 to 64 letters, digits, `-` and `_`".to_owned());
        }
        let (scheme, rest) = url.split_once("://").ok_or("a NATS URL begins with nats:// or tls://")?;
        let encrypted = match scheme {
            "nats" => false,
            "tls" => true,
            _ => return Err("a NATS URL begins with nats:// or tls://".to_owned()),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (servers, userinfo) = servers(rest, scheme)?;
        let mut given = Parameters::read(query)?;
        let who = who(userinfo, &mut given)?;
        let tls = tls(encrypted, &mut given)?;
        let replicas = given.number("replicas", 1, 5)?.map(|count| count as usize);
        let max_bytes = given.number("max_bytes", 1 << 20, i64::MAX as u64)?;
        Ok(Settings { options: options.clone(), servers, who, tls, replicas, max_bytes, confirmed: Arc::default() })
    }
}

impl Settings {
    pub(crate) fn max_message(&self) -> usize {
        self.options.max_message
    }

    pub(crate) fn is_same(&self, other: &Settings) -> bool {
        let of = |settings: &Settings| (settings.options.clone(), settings.replicas, settings.max_bytes);
        of(self) == of(other) && self.servers == other.servers && self.who == other.who && self.tls == other.tls
    }

    /// Takes over what is known of the log's earlier connections.
    pub(crate) fn follow(&mut self, before: &Settings) {
        self.confirmed.clone_from(&before.confirmed);
    }
}

type Userinfo = Option<(String, Option<String>)>;

fn servers(list: &str, scheme: &str) -> Result<(Vec<(String, u16)>, Userinfo), String> {
    let mut servers = Vec::new();
    let mut userinfo: Userinfo = None;
    for (place, item) in list.split(',').enumerate() {
        let item = match item.split_once("://") {
            Some((other, item)) if other == scheme => item,
            Some(_) => return Err("all servers of a NATS URL have the same scheme".to_owned()),
            None => item,
        };
        let (before, host) = item.rsplit_once('@').map_or((None, item), |(before, host)| (Some(before), host));
        if let Some(before) = before {
            let (user, password) =
                before.split_once(':').map_or((before, None), |(user, password)| (user, Some(password)));
            let found = Some((decoded(user)?, password.map(decoded).transpose()?));
            if userinfo.is_some() && userinfo != found {
                return Err("all servers of a NATS URL have the same user".to_owned());
            }
            userinfo = found;
        }
        // It is not shown: it may be a part of a password.
        servers.push(
            server(host)
                .ok_or_else(|| format!("server {} of the NATS URL is not HOST or HOST:PORT; {ENCODED}", place + 1))?,
        );
    }
    match servers.len() {
        0..=SERVERS => Ok((servers, userinfo)),
        _ => Err(format!("a NATS URL names at most {SERVERS} servers")),
    }
}

fn server(place: &str) -> Option<(String, u16)> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            let port = if port.is_empty() { None } else { Some(port.strip_prefix(':')?) };
            (format!("[{host}]"), port)
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (place.to_owned(), None),
        },
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_plain) {
        return None;
    }
    let port = port.map_or(Some(PORT), number::read)?;
    Some((host, port))
}

fn who(userinfo: Userinfo, given: &mut Parameters<'_>) -> Result<Who, String> {
    let mut found = Vec::new();
    let password = given.secret("password")?;
    match (userinfo, password) {
        (Some((user, None)), Some(password)) => found.push(Who::User(user, password)),
        (Some((user, Some(password))), None) => found.push(Who::User(user, password)),
        (Some((token, None)), None) => found.push(Who::Token(token)),
        (Some((_, Some(_))), Some(_)) => return Err("a NATS URL has one password".to_owned()),
        (None, Some(_)) => return Err("a NATS URL with `password` has a user: nats://USER@HOST".to_owned()),
        (None, None) => {}
    }
    found.extend(given.secret("token")?.map(Who::Token));
    found.extend(given.secret("nkey")?.map(Who::Nkey));
    found.extend(given.secret("credentials")?.map(Who::Credentials));
    match found.len() {
        0 | 1 => Ok(found.pop().unwrap_or(Who::Anyone)),
        _ => Err("a NATS URL says once who the hub is: by user, token, nkey or credentials".to_owned()),
    }
}

fn tls(encrypted: bool, given: &mut Parameters<'_>) -> Result<Option<Tls>, String> {
    let ca = given.take("ca");
    let own = match (given.take("cert"), given.take("key")) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => return Err("a NATS URL has both `cert` and `key`, or neither".to_owned()),
    };
    match encrypted {
        true => Tls::new(ca, own).map(Some).map_err(|why| format!("TLS of the NATS URL: {why}")),
        false if ca.is_some() || own.is_some() => {
            Err("`ca`, `cert` and `key` are for NATS URLs that begin with tls://".to_owned())
        }
        false => Ok(None),
    }
}

/// The parameters behind the `?` of a URL, decoded.
struct Parameters<'a>(Vec<(&'a str, String)>);

impl<'a> Parameters<'a> {
    fn read(query: &'a str) -> Result<Self, String> {
        let mut found: Vec<(&str, String)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !PARAMETERS.split([',', ' ']).any(|known| known == name && name != "and") {
                // It is shown if it can't be a part of a password.
                let name = if query.contains('@') { "something".to_owned() } else { format!("`{}`", shown(name)) };
                return Err(format!("{name} is no parameter of a NATS URL: these are {PARAMETERS}; {ENCODED}"));
            }
            if found.iter().any(|(other, _)| *other == name) {
                return Err(format!("`{name}` is twice in the NATS URL"));
            }
            if value.is_empty() {
                return Err(format!("`{name}` has no value in the NATS URL"));
            }
            found.push((name, decoded(value)?));
        }
        Ok(Parameters(found))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(other, _)| *other == name)?;
        Some(self.0.swap_remove(at).1)
    }

    fn secret(&mut self, name: &str) -> Result<Option<String>, String> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let Some(path) = value.strip_prefix("file:") else { return Ok(Some(value)) };
        let text = fs::read_to_string(path).map_err(|error| format!("`{name}` of the NATS URL: {path}: {error}"))?;
        match text.trim() {
            text if has_placeholder(text.as_bytes()) => {
                Err(format!("`{name}` of the NATS URL: {path}: its content (not shown) has {PLACEHOLDER}"))
            }
            "" => Err(format!("`{name}` of the NATS URL: {path} is empty")),
            text => Ok(Some(text.to_owned())),
        }
    }

    fn number(&mut self, name: &str, least: u64, most: u64) -> Result<Option<u64>, String> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = number::read(&value).filter(|number| (least..=most).contains(number));
        number.map(Some).ok_or_else(|| format!("`{name}` of the NATS URL is a number from {least} to {most}"))
    }
}

fn decoded(text: &str) -> Result<String, String> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| "a part of the NATS URL is not UTF-8")?;
    if has_placeholder(text.as_bytes()) {
        return Err(format!("a part of the NATS URL (not shown) has {PLACEHOLDER}"));
    }
    match text.chars().any(char::is_control) {
        true => Err("a part of the NATS URL has a control character".to_owned()),
        false => Ok(text.into_owned()),
    }
}

/// The beginning of a text from outside.
fn shown(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(32).collect()
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("options", &self.options)
            .field("servers", &self.servers)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Who {
    /// Without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Who::Anyone => "Anyone",
            Who::Token(_) => "Token",
            Who::User(..) => "User",
            Who::Nkey(_) => "Nkey",
            Who::Credentials(_) => "Credentials",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::shared::certificates::Authority;
    use super::*;
    use std::time::Duration;

    fn options() -> Options {
        Options {
            namespace: "shop".to_owned(),
            timeout: Duration::from_secs(5),
            key_window: Duration::from_secs(120),
            kept: (Duration::from_secs(60), 1 << 20),
            max_message: 1 << 16,
        }
    }

    fn parsed(url: &str) -> Settings {
        Settings::parse(url, &options()).unwrap()
    }

    #[test]
    fn a_url_names_servers_a_user_and_parameters() {
        let settings = parsed("nats://u%40x:p%3Aw@one,two:4300/?replicas=3&max_bytes=1048576");
        assert_eq!(settings.servers, [("one".to_owned(), 4222), ("two".to_owned(), 4300)]);
        assert_eq!(settings.who, Who::User("u@x".to_owned(), "p:w".to_owned()));
        assert_eq!((settings.replicas, settings.max_bytes), (Some(3), Some(1 << 20)));
        let authority = Authority::new("a");
        let hub = authority.sign("hub", &["hub"]);
        let url =
            format!("tls://t0ken@[::1]:1,tls://t0ken@two?ca={}&cert=file:{}&key={}", authority.pem, hub.pem, hub.key);
        let settings = parsed(&url);
        assert_eq!(settings.servers, [("[::1]".to_owned(), 1), ("two".to_owned(), 4222)]);
        assert_eq!(settings.who, Who::Token("t0ken".to_owned()));
        let own = Some((hub.pem.clone(), hub.key.clone()));
        assert_eq!(settings.tls, Some(Tls { ca: Some(authority.pem.clone()), own }));
        assert!(matches!(parsed("nats://h?nkey=SUAB").who, Who::Nkey(_)));
    }

    #[test]
    fn a_secret_may_be_in_a_file_and_is_never_shown() {
        let folder = std::env::temp_dir().join(format!("libpush-nats-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("password");
        fs::write(&path, "hunter2\n").unwrap();
        let settings = parsed(&format!("nats://u@h?password=file:{}", path.display()));
        assert_eq!(settings.who, Who::User("u".to_owned(), "hunter2".to_owned()));
        assert!(!format!("{settings:?} {:?}", settings.who).contains("hunter2"));
        fs::write(&path, "hunter2-${NATS_PASSWORD}").unwrap();
        let url = format!("nats://u@h?password=file:{}", path.display());
        let placeholder = Settings::parse(&url, &options()).unwrap_err();
        assert!(placeholder.contains("a placeholder ${NAME}") && !placeholder.contains("hunter2"), "{placeholder}");
        fs::write(&path, "\n").unwrap();
        let empty = Settings::parse(&format!("nats://h?token=file:{}", path.display()), &options()).unwrap_err();
        assert!(empty.contains("is empty"), "{empty}");
        fs::remove_dir_all(folder).unwrap();
        let gone = Settings::parse(&format!("nats://h?token=file:{}", path.display()), &options()).unwrap_err();
        assert!(gone.contains("`token`") && gone.contains("No such file"), "{gone}");
    }

    #[test]
    fn a_wrong_url_is_refused_and_the_error_names_what_is_wrong() {
        for (url, says) in [
            ("redis://h", "nats:// or tls://"),
            ("nats:h", "nats:// or tls://"),
            ("nats://", "server 1 of"),
            ("nats://h:99999", "server 1 of the NATS URL is not HOST or HOST:PORT"),
            ("nats://h,,i", "server 2 of"),
            ("nats://h h", "server 1 of"),
            ("nats://[zz]:1", "server 1 of"),
            ("nats://u:hunter2?x@h", "is written %2C"),
            ("nats://u:hunter2/x@h?y", "no parameter"),
            ("nats://u:a?hunter2@h", "is written %2C"),
            ("nats://u:a?b&hunter2@h", "is written %2C"),
            ("nats://u:hunter2", "server 1 of"),
            ("nats://h,tls://i", "same scheme"),
            ("nats://a:b@h,c:d@i", "same user"),
            ("nats://h?wat=1", "`wat` is no parameter"),
            ("nats://h?and=1", "`and` is no parameter"),
            ("nats://h?replicas=9", "from 1 to 5"),
            ("nats://h?replicas=03", "from 1 to 5"),
            ("nats://h?replicas=%2B3", "from 1 to 5"),
            ("nats://h:04222", "server 1 of"),
            ("nats://h:+4222", "server 1 of"),
            ("nats://h?replicas=1&replicas=2", "twice"),
            ("nats://h?token=", "no value"),
            ("nats://h?password=x", "has a user"),
            ("nats://a:b@h?password=x", "one password"),
            ("nats://a:b@h?token=x", "says once"),
            ("nats://h?ca=/x", "begin with tls://"),
            ("tls://h?cert=/x", "both `cert` and `key`"),
            ("tls://h?ca=/nowhere/at/all", "TLS of the NATS URL: file /nowhere/at/all: No such file"),
            ("nats://%00@h", "control character"),
            ("nats://u:hunter2,hunter3@h", "is written %2C"),
            ("nats://u:hunter2$%7BPASSWORD%7D@h", "a placeholder ${NAME}"),
            ("nats://hunter2$%7BTOKEN%7D@h", "a placeholder ${NAME}"),
            ("nats://h?token=hunter2$%7BTOKEN:-x%7D", "a placeholder ${NAME}"),
        ] {
            let error = Settings::parse(url, &options()).unwrap_err();
            assert!(error.contains(says) && !error.contains("hunter"), "{url}: {error}");
        }
        let dotted = Options { namespace: "a.b".to_owned(), ..options() };
        assert!(Settings::parse("nats://h", &dotted).unwrap_err().contains("namespace"));
    }
}
