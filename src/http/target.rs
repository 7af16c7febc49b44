//! The target of a request (RFC 9112, section 3.2).

use super::fields::is_host;
use super::refusal::Refusal;

/// The parts of a target.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target<'b> {
    /// The host that an absolute target names, as it is written. It counts in place of the Host line (RFC 9112, section
    /// 3.2.2).
    pub(super) host: Option<&'b str>,
    /// The path. A target with another scheme than http and https has none of ours: this is then all before the query.
    pub(super) path: &'b str,
    pub(super) query: &'b str,
}

impl<'b> Target<'b> {
    /// Reads a target. A client may send scheme and host, too, as if to a proxy. Nothing is wrong with a target that
    /// leads elsewhere; see [`Self::check_host`] for one that leads here.
    pub(super) fn read(text: &'b str) -> Self {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) else {
            return Target { host: None, path, query };
        };
        let (host, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Target { host: Some(host), path, query };
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        // An empty path is the same as / (RFC 9110, section 4.2.3).
        Target { host: Some(host), path: if path.is_empty() { "/" } else { path }, query }
    }

    /// Checks the host that an absolute target names.
    pub(super) fn check_host(&self) -> Result<(), Refusal> {
        let Some(host) = self.host else { return Ok(()) };
        // A user before the host is as wrong as no host (RFC 9110, sections 4.2.1 and 4.2.4).
        let wrong = if host.contains('@') {
            "the URL in the request line has a user before its host; leave the user out"
        } else if host.is_empty() || host.starts_with(':') {
            "the URL in the request line has a scheme, but names no host"
        } else if !is_host(host) {
            "the host in the URL of the request line has characters that no host has"
        } else {
            return Ok(());
        };
        Err(Refusal::malformed("target", wrong))
    }
}

/// RFC 3986, section 3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_a_path_and_may_have_a_host() {
        let target = |text| {
            let target = Target::read(text);
            target.check_host().unwrap();
            (target.host, target.path, target.query)
        };
        assert_eq!(target("/push?a=1&b=2"), (None, "/push", "a=1&b=2"));
        assert_eq!(target("/push"), (None, "/push", ""));
        assert_eq!(target("/to/http://h/x?y"), (None, "/to/http://h/x", "y"));
        assert_eq!(target("push?to=http://h/x"), (None, "push", "to=http://h/x"));
        assert_eq!(target("*"), (None, "*", ""));
        assert_eq!(target("http://h:1/push?a=/b"), (Some("h:1"), "/push", "a=/b"));
        assert_eq!(target("HTTPS://[::1]:1/"), (Some("[::1]:1"), "/", ""));
        assert_eq!(target("http://h"), (Some("h"), "/", ""));
        assert_eq!(target("http://h?a=/b?c"), (Some("h"), "/", "a=/b?c"));
        // Such a path is that of no option, since these begin with a slash.
        assert_eq!(target("ftp://h/push?a"), (Some("h"), "ftp://h/push", "a"));
        assert_eq!(target("://h/push"), (None, "://h/push", ""));
    }

    #[test]
    fn a_host_that_is_none_is_refused_by_what_is_wrong_with_it() {
        for (wrong, why) in [
            ("http:///push", "names no host"),
            ("http://", "names no host"),
            ("http://?a", "names no host"),
            ("http://:80/push", "names no host"),
            ("http://me@h/push", "has a user"),
            ("http://me:secret@/push", "has a user"),
            ("http://h\"/push", "characters that no host has"),
            ("ws://h|/push", "characters that no host has"),
        ] {
            let refusal = Target::read(wrong).check_host().unwrap_err();
            assert_eq!((refusal.status, &*refusal.code), (400, "target"), "{wrong}");
            assert!(refusal.message.contains(why), "{wrong}: {}", refusal.message);
        }
    }
}
