//! The URL of the option `engine` for Redis: servers, user, encryption.

use super::super::shared::secret::Secret;
use crate::number;
use percent_encoding::percent_decode_str;

/// The schemes, each with its meaning.
const SCHEMES: [(&str, Way, bool); 5] = [
    ("redis", Way::Direct, false),
    ("rediss", Way::Direct, true),
    ("redis+unix", Way::Unix, false),
    ("redis+sentinel", Way::Sentinel, false),
    ("rediss+sentinel", Way::Sentinel, true),
];
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;
/// What mostly is wrong. A part of a URL is never repeated, as it may be one of a password then.
const ENCODED: &str = "in a user, password or parameter, `/` is written %2F, `?` %3F, `,` %2C and `@` %40";
/// The most servers that a URL names.
const MOST: usize = 32;

/// The way to the server that has the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The URL names servers. The first that answers has the log, or says which one has (a cluster does).
    Direct,
    Unix,
    /// The URL names sentinels, which know the master's address.
    Sentinel,
}

/// A user and a password.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
}

/// The parts of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) way: Way,
    pub(super) tls: bool,
    /// Names and ports. With `Way::Unix`, one path.
    pub(super) hosts: Vec<(String, u16)>,
    /// The name by which sentinels know the master.
    pub(super) service: String,
    pub(super) db: u32,
    pub(super) server: Credentials,
    pub(super) sentinel: Credentials,
    /// Files in PEM: the authorities to trust, this client's certificate, its key.
    pub(super) ca: Option<String>,
    pub(super) cert: Option<String>,
    pub(super) key: Option<String>,
}

/// True if the option's value is for this engine.
pub(crate) fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| SCHEMES.iter().any(|(name, ..)| *name == scheme))
}

impl Url {
    /// Errors do not repeat the URL: it may have a password in it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or((text, ""));
        let Some((_, way, tls)) = SCHEMES.iter().find(|(name, ..)| *name == scheme) else {
            let names = SCHEMES.map(|(name, ..)| format!("{name}://"));
            return Err(format!("the URL of Redis does not begin with {}", names.join(", ")));
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| (&rest[..at], &rest[at..]));
        let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        if user.contains(',') || query.contains('@') || path.contains('@') {
            return Err(format!("the URL of Redis has a part that could be of a password: {ENCODED}"));
        }
        let mut url = Url {
            way: *way,
            tls: *tls,
            hosts: Vec::new(),
            service: String::new(),
            db: 0,
            server: credentials(user)?,
            sentinel: Credentials::default(),
            ca: None,
            cert: None,
            key: None,
        };
        url.take_path(hosts, path)?;
        query.split('&').filter(|pair| !pair.is_empty()).try_for_each(|pair| url.take_parameter(pair))?;
        for (credentials, of) in [(&url.server, "user"), (&url.sentinel, "sentinel_user")] {
            if credentials.user.is_some() && credentials.password.is_none() {
                return Err(format!("the URL of Redis has a {of} and no password for it"));
            }
        }
        if url.cert.is_some() != url.key.is_some() {
            return Err("the URL of Redis needs cert and key, or neither".to_owned());
        }
        Ok(url)
    }

    fn take_path(&mut self, hosts: &str, path: &str) -> Result<(), String> {
        let path = decoded(path)?;
        if self.way == Way::Unix {
            if !hosts.is_empty() || path.len() < 2 {
                return Err(
                    "redis+unix:// is followed by the path of a socket, as in redis+unix:///run/redis.sock".to_owned()
                );
            }
            self.hosts.push((path, 0));
            return Ok(());
        }
        let port = if self.way == Way::Sentinel { SENTINEL_PORT } else { PORT };
        for host in hosts.split(',') {
            self.hosts.push(address(host, port)?);
        }
        if self.hosts.len() > MOST {
            return Err(format!("the URL of Redis names more than {MOST} servers"));
        }
        let path = path.trim_matches('/');
        let db = match self.way {
            Way::Sentinel => {
                let (service, db) = path.split_once('/').unwrap_or((path, ""));
                if service.is_empty() {
                    return Err("the URL of the sentinels has no name of a service, as in \
                         redis+sentinel://host1,host2/mymaster"
                        .to_owned());
                }
                service.clone_into(&mut self.service);
                db
            }
            _ => path,
        };
        if !db.is_empty() {
            self.db = number_of_db(db)?;
        }
        Ok(())
    }

    fn take_parameter(&mut self, pair: &str) -> Result<(), String> {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value)?;
        if value.is_empty() {
            return Err("a parameter of the URL of Redis has no value".to_owned());
        }
        let sentinel = self.way == Way::Sentinel;
        match name {
            "user" => self.server.user = Some(value),
            "password" => self.server.password = Some(Secret::read(&value)?),
            "sentinel_user" if sentinel => self.sentinel.user = Some(value),
            "sentinel_password" if sentinel => self.sentinel.password = Some(Secret::read(&value)?),
            "db" => self.db = number_of_db(&value)?,
            "ca" if self.tls => self.ca = Some(value),
            "cert" if self.tls => self.cert = Some(value),
            "key" if self.tls => self.key = Some(value),
            _ => {
                let mut allowed = vec!["user", "password", "db"];
                allowed.extend(["sentinel_user", "sentinel_password"].iter().filter(|_| sentinel));
                allowed.extend(["ca", "cert", "key"].iter().filter(|_| self.tls));
                return Err(format!(
                    "the URL of Redis has a parameter that is unknown or does not belong there; allowed is {}",
                    allowed.join(", ")
                ));
            }
        }
        Ok(())
    }
}

fn credentials(text: &str) -> Result<Credentials, String> {
    let Some((user, password)) = text.split_once(':') else {
        let user = Some(decoded(text)?).filter(|user| !user.is_empty());
        return Ok(Credentials { user, password: None });
    };
    let user = Some(decoded(user)?).filter(|user| !user.is_empty());
    let password = decoded(password)?;
    let password = if password.is_empty() { None } else { Some(Secret::read(&password)?) };
    Ok(Credentials { user, password })
}

fn address(text: &str, default: u16) -> Result<(String, u16), String> {
    let wrong = || {
        format!(
            "the URL of Redis has something else where a host is expected, as in redis://host:{PORT}/0, or several with \
             commas between them; {ENCODED}"
        )
    };
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(wrong)?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(wrong)?) })
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    if host.is_empty() || !host.bytes().all(is_name) {
        return Err(wrong());
    }
    let port = port.map_or(Some(default), number::read).filter(|port| *port > 0);
    Ok((host.to_owned(), port.ok_or_else(wrong)?))
}

fn number_of_db(text: &str) -> Result<u32, String> {
    let number = number::read(text).filter(|number| *number <= i32::MAX as u32);
    number.ok_or_else(|| {
        format!("the URL of Redis has something else where the number of a database is expected; {ENCODED}")
    })
}

fn decoded(text: &str) -> Result<String, String> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(|text| text.into_owned()).map_err(|_| "the URL of Redis has bytes that are no UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Vec<(String, u16)> {
        Url::parse(text).unwrap().hosts
    }

    #[test]
    fn a_url_says_where_and_as_whom() {
        let url = Url::parse("redis://us%40er:p%3Aw:d@redis.example:7000/3").unwrap();
        assert_eq!((url.way, url.tls, url.db), (Way::Direct, false, 3));
        assert_eq!(url.hosts, [("redis.example".to_owned(), 7000)]);
        assert_eq!(url.server.user.as_deref(), Some("us@er"));
        assert_eq!(url.server.password.unwrap().text(), "p:w:d");
        assert_eq!(hosts("redis://h"), [("h".to_owned(), 6379)]);
        assert_eq!(hosts("redis://h/?db=2"), [("h".to_owned(), 6379)]);
        assert_eq!(
            hosts("redis://a,b:1,[::1]:2"),
            [("a".to_owned(), 6379), ("b".to_owned(), 1), ("::1".to_owned(), 2)]
        );
        assert_eq!(hosts("redis+unix:///run/re%20dis.sock"), [("/run/re dis.sock".to_owned(), 0)]);
        let url = Url::parse("redis+sentinel://:pw@a,b/mymaster/2?sentinel_password=spw").unwrap();
        assert_eq!((url.service.as_str(), url.db, url.hosts.len()), ("mymaster", 2, 2));
        assert_eq!(url.hosts[0].1, SENTINEL_PORT);
        assert_eq!(url.sentinel.password.unwrap().text(), "spw");
        let url = Url::parse("rediss://h?ca=%2Fca.pem&cert=/c&key=/k").unwrap();
        assert_eq!((url.tls, url.ca.as_deref(), url.cert.as_deref()), (true, Some("/ca.pem"), Some("/c")));
    }

    #[test]
    fn a_password_may_be_in_a_file() {
        let path = std::env::temp_dir().join(format!("push-redis-password-{}", std::process::id()));
        std::fs::write(&path, "s3cret\n").unwrap();
        let name = path.display().to_string();
        for url in [format!("redis://h?password=file:{name}"), format!("redis://:file:{}@h", name.replace('/', "%2F"))]
        {
            assert_eq!(Url::parse(&url).unwrap().server.password.unwrap().text(), "s3cret", "{url}");
        }
        std::fs::remove_file(&path).unwrap();
        let error = Url::parse(&format!("redis://h?password=file:{name}")).unwrap_err();
        assert!(error.contains(&name), "{error}");
    }

    #[test]
    fn a_placeholder_is_no_password() {
        let path = std::env::temp_dir().join(format!("push-redis-placeholder-{}", std::process::id()));
        std::fs::write(&path, "secret1${REDIS_PASSWORD}\n").unwrap();
        let name = path.display().to_string();
        for url in [
            "redis://:secret1$%7BREDIS_PASSWORD%7D@h".to_owned(),
            "redis://h?password=secret1%24%7BREDIS_PASSWORD:-%7D".to_owned(),
            "redis+sentinel://h/s?sentinel_password=secret1$%7BREDIS_PASSWORD%7D".to_owned(),
            format!("redis://h?password=file:{name}"),
        ] {
            let error = Url::parse(&url).unwrap_err();
            assert!(error.contains("a placeholder ${NAME}") && !error.contains("secret1"), "{url}: {error}");
        }
        std::fs::remove_file(&path).unwrap();
        let url = Url::parse("redis://:cost$%7B%7D@h").unwrap();
        assert_eq!(url.server.password.unwrap().text(), "cost${}");
    }

    #[test]
    fn errors_say_what_is_wrong_and_not_the_password() {
        for (url, part) in [
            ("http://:secret1@h", "redis://, rediss://"),
            ("redis://:secret1@", "where a host is expected"),
            ("redis://:secret1@h:0", "where a host is expected"),
            ("redis://:secret1@h:70000", "where a host is expected"),
            ("redis://:secret1@h:06379", "where a host is expected"),
            ("redis://:secret1@h:+6379", "where a host is expected"),
            ("redis://:secret1@h, i", "where a host is expected"),
            ("redis://:secret1@[::1", "where a host is expected"),
            ("redis://:secret1@h/x", "number of a database"),
            ("redis://:secret1@h/-1", "number of a database"),
            ("redis://:secret1@h/02", "number of a database"),
            ("redis://:secret1@h/%2B2", "number of a database"),
            ("redis://:secret1@h?passwort=secret1", "allowed is user, password, db"),
            ("redis://:secret1@h?ca=/x", "allowed is user, password, db"),
            ("redis://:secret1@h?db=", "no value"),
            ("redis://user@h", "no password"),
            ("redis://:secret1%ff@h", "no UTF-8"),
            ("redis+sentinel://:secret1@h", "no name of a service"),
            ("redis+unix://:secret1@h/x", "path of a socket"),
            ("rediss://:secret1@h?cert=/x", "cert and key"),
            ("redis://:a,secret1@h", "written %2F"),
            ("redis://:a/secret1@h", "written %2F"),
            ("redis://:a?secret1@h", "written %2F"),
            ("redis://:a?secret1&b=secret1@h", "written %2F"),
            ("redis://:secret1", "where a host is expected"),
            ("redis://user:secret1", "where a host is expected"),
            ("redis://h/secret1", "number of a database"),
            ("redis://h?secret1", "no value"),
        ] {
            let error = Url::parse(url).unwrap_err();
            assert!(error.contains(part), "{url}: {error}");
            assert!(!error.contains("secret1"), "{error}");
        }
        let many = format!("redis://{}", vec!["h"; MOST + 1].join(","));
        assert!(Url::parse(&many).unwrap_err().contains("more than 32"));
    }

    #[test]
    fn schemes_are_recognised() {
        for url in ["redis://h", "rediss://h", "redis+sentinel://h/x", "redis+unix:///x"] {
            assert!(is_url(url));
        }
        for other in ["redis", "redis:h", "file:/x", "nats://h", "memory"] {
            assert!(!is_url(other));
        }
    }
}
