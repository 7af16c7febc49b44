//! TLS to the servers of a log: whom the hub trusts, and who it is to them.

use super::secret::read_file;
use crate::certificates;
use rustls::crypto::aws_lc_rs;
use rustls::ClientConfig;
use std::sync::Arc;

/// Files in PEM. They are read for each connection, so that those that were renewed count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    /// The authorities to trust. `None`: those that the system trusts.
    pub(crate) ca: Option<String>,
    /// The hub's own certificate, and its key.
    pub(crate) own: Option<(String, String)>,
}

impl Tls {
    /// Checks the files. A value may be `file:PATH`, as that of a secret.
    pub(crate) fn new(ca: Option<String>, own: Option<(String, String)>) -> Result<Self, String> {
        let path = |value: String| value.strip_prefix("file:").map(str::to_owned).unwrap_or(value);
        let tls = Tls { ca: ca.map(path), own: own.map(|(cert, key)| (path(cert), path(key))) };
        tls.config()?;
        Ok(tls)
    }

    /// What a connection is made with. The cryptography is named, so nothing is installed for the whole process.
    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let roots = match &self.ca {
            Some(path) => certificates::authorities(read_file(path)?.as_bytes()).map_err(|what| wrong(path, &what))?,
            None => certificates::of_the_system()
                .ok_or("this system trusts no authorities: `ca` in the URL names a file with those to trust")?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let builder = builder.with_root_certificates(roots);
        let Some((cert, key)) = &self.own else { return Ok(Arc::new(builder.with_no_client_auth())) };
        let chain = certificates::chain(read_file(cert)?.as_bytes()).map_err(|what| wrong(cert, &what))?;
        let private = certificates::key(read_file(key)?.as_bytes()).map_err(|what| wrong(key, &what))?;
        builder.with_client_auth_cert(chain, private).map(Arc::new).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                wrong(key, &format!("it is not the key of the certificate in {cert}"))
            }
            error => wrong(cert, &error.to_string()),
        })
    }
}

fn wrong(path: &str, what: &str) -> String {
    format!("file {path}: {what}")
}

#[cfg(test)]
mod tests {
    use super::super::certificates::Authority;
    use super::*;

    #[test]
    fn files_are_checked_and_the_error_names_the_file() {
        let (one, two) = (Authority::new("one"), Authority::new("two"));
        let (hub, other) = (one.sign("hub", &["hub"]), two.sign("other", &["other"]));
        let own = |cert: &str, key: &str| Some((cert.to_owned(), key.to_owned()));
        let file = |path: &str| Some(format!("file:{path}"));
        let tls = Tls::new(file(&one.pem), own(&hub.pem, &format!("file:{}", hub.key))).unwrap();
        assert_eq!((tls.ca, tls.own), (Some(one.pem.clone()), own(&hub.pem, &hub.key)));
        for (ca, own, says) in [
            (file("/nowhere/at/all"), None, "file /nowhere/at/all: No such file"),
            (file(&hub.key), None, "it has no certificate in PEM"),
            (file(&one.pem), own(&hub.key, &hub.key), "it has no certificate in PEM"),
            (file(&one.pem), own(&hub.pem, &hub.pem), "it has no private key in PEM"),
            (file(&one.pem), own(&hub.pem, &other.key), "it is not the key of the certificate in"),
        ] {
            let error = Tls::new(ca, own).unwrap_err();
            assert!(error.starts_with("file /") && error.contains(says), "{error}");
            assert!(!error.contains("PRIVATE"), "{error}");
        }
    }
}
