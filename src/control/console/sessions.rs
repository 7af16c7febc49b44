//! Sessions of the console. They are kept in memory only, so a restart of the hub ends them.

use crate::config::{Config, Secret};
use crate::error::Error;
use aws_lc_rs::digest::{digest, SHA256};
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most sessions. A further one ends the oldest.
const MAX_SESSIONS: usize = 64;
/// The random bytes of a token.
const TOKEN: usize = 32;

/// One login.
#[derive(Debug)]
pub(in crate::control) struct Session {
    /// The key that was shown. When the option changes, the session ends.
    key: Secret,
    /// The digest of the value that the console's page sends with each request, beside the cookie.
    page: Digest,
    began: Instant,
    /// It was ended before its time.
    ended: AtomicBool,
}

/// What a login gives to a browser. Neither of the two is worth anything without the other.
#[derive(Debug)]
pub(super) struct Tokens {
    /// For the cookie, which the browser sends to all ports of the host.
    pub(super) cookie: String,
    /// For the page, which keeps it where pages of other ports can't read it.
    pub(super) page: String,
}

impl Session {
    /// Whether its page has sent this value.
    pub(super) fn is_of(&self, page: &str) -> bool {
        digest_of(page) == self.page
    }

    /// The reason why the session is over. `None`: it is not.
    pub(in crate::control) fn over(&self, config: &Config) -> Option<&'static str> {
        let lasts = Duration::from_millis(config.console_session_ms);
        if config.control_key != self.key {
            Some("the option control_key has changed")
        } else if !config.console {
            Some("the option console was turned off")
        } else if self.ended.load(Ordering::Relaxed) || self.began.elapsed() >= lasts {
            Some("the session is over")
        } else {
            None
        }
    }
}

/// All sessions, oldest first. Only the digest of a token is kept: the time that a search takes says nothing about the
/// tokens.
#[derive(Debug, Default)]
pub(in crate::control) struct Sessions(Mutex<Vec<(Digest, Arc<Session>)>>);

type Digest = [u8; 32];

impl Sessions {
    /// Begins a session for a client that has shown the key.
    pub(super) fn begin(&self, config: &Config) -> Result<Tokens, Error> {
        let tokens = Tokens { cookie: token()?, page: token()? };
        let session = Session {
            key: config.control_key.clone(),
            page: digest_of(&tokens.page),
            began: Instant::now(),
            ended: AtomicBool::new(false),
        };
        let mut sessions = self.lock();
        sessions.retain(|(_, session)| session.over(config).is_none());
        if sessions.len() >= MAX_SESSIONS {
            sessions.remove(0).1.ended.store(true, Ordering::Relaxed);
        }
        sessions.push((digest_of(&tokens.cookie), Arc::new(session)));
        Ok(tokens)
    }

    /// The session of a token, if it is not over.
    pub(super) fn find(&self, token: &str, config: &Config) -> Option<Arc<Session>> {
        let wanted = digest_of(token);
        let mut sessions = self.lock();
        let at = sessions.iter().position(|(digest, _)| *digest == wanted)?;
        if sessions[at].1.over(config).is_some() {
            sessions.remove(at);
            return None;
        }
        Some(sessions[at].1.clone())
    }

    /// Ends the session of a token.
    pub(super) fn end(&self, token: &str) {
        let wanted = digest_of(token);
        self.lock().retain(|(digest, session)| {
            let is_wanted = *digest == wanted;
            session.ended.fetch_or(is_wanted, Ordering::Relaxed);
            !is_wanted
        });
    }

    /// Ends all sessions that these options do not allow. Whoever uses one, such as a tail, is told.
    pub(in crate::control) fn end_over(&self, config: &Config) {
        self.lock().retain(|(_, session)| {
            let is_over = session.over(config).is_some();
            session.ended.fetch_or(is_over, Ordering::Relaxed);
            !is_over
        });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Digest, Arc<Session>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn token() -> Result<String, Error> {
    let mut bytes = [0; TOKEN];
    getrandom::fill(&mut bytes).map_err(|error| Error::system("random bytes", &error.into()))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn digest_of(token: &str) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Builder;

    fn config(options: &[(&str, &str)]) -> Config {
        let mut builder = Builder::default();
        let usual = [("control", "unix:/c"), ("control_key", "0123456789abcdef"), ("console", "true")];
        usual.iter().chain(options).for_each(|(name, value)| builder.set(name, value).unwrap());
        builder.build().unwrap().config().clone()
    }

    #[test]
    fn one_more_than_the_most_ends_the_oldest() {
        let (sessions, config) = (Sessions::default(), config(&[]));
        let tokens: Vec<_> = (0..=MAX_SESSIONS).map(|_| sessions.begin(&config).unwrap().cookie).collect();
        assert!(tokens.iter().all(|token| token.len() == 43));
        let first = sessions.find(&tokens[1], &config).unwrap();
        assert!(sessions.find(&tokens[0], &config).is_none() && first.over(&config).is_none());
        assert_eq!(sessions.lock().len(), MAX_SESSIONS);
        sessions.begin(&config).unwrap();
        assert_eq!(first.over(&config), Some("the session is over"), "whoever uses it is told");
    }

    #[test]
    fn a_session_ends_with_its_time_its_key_its_logout_and_the_console() {
        let (sessions, config_now) = (Sessions::default(), config(&[]));
        let [one, other] = [(); 2].map(|()| sessions.begin(&config_now).unwrap().cookie);
        let session = sessions.find(&other, &config_now).unwrap();
        for (name, value, why) in [
            ("control_key", "fedcba9876543210", "the option control_key has changed"),
            ("console", "false", "the option console was turned off"),
        ] {
            assert_eq!(session.over(&config(&[(name, value)])), Some(why));
        }
        let mut short = config_now.clone();
        short.console_session_ms = 0;
        assert_eq!(session.over(&short), Some("the session is over"));
        sessions.end(&one);
        assert!(sessions.find(&one, &config_now).is_none() && session.over(&config_now).is_none());
        sessions.end(&other);
        assert_eq!(session.over(&config_now), Some("the session is over"));
        assert!(sessions.find("", &config_now).is_none() && sessions.lock().is_empty());
    }

    #[test]
    fn only_the_page_of_the_login_has_its_value() {
        let (sessions, config) = (Sessions::default(), config(&[]));
        let [one, other] = [(); 2].map(|()| sessions.begin(&config).unwrap());
        let session = sessions.find(&one.cookie, &config).unwrap();
        assert!(session.is_of(&one.page) && sessions.find(&one.page, &config).is_none());
        for wrong in [&other.page, &one.cookie, "", "1"] {
            assert!(!session.is_of(wrong), "{wrong}");
        }
    }

    /// Nobody asks while the key is another one.
    #[test]
    fn a_session_does_not_come_back_with_its_key() {
        let (sessions, config_now) = (Sessions::default(), config(&[]));
        let cookie = sessions.begin(&config_now).unwrap().cookie;
        let session = sessions.find(&cookie, &config_now).unwrap();
        sessions.end_over(&config_now);
        assert!(sessions.find(&cookie, &config_now).is_some(), "another option has changed");
        sessions.end_over(&config(&[("control_key", "fedcba9876543210")]));
        sessions.end_over(&config_now);
        assert!(sessions.find(&cookie, &config_now).is_none());
        assert_eq!(session.over(&config_now), Some("the session is over"), "a tail of it ends, too");
    }
}
