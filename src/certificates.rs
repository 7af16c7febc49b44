//! Certificates and private keys, from texts in PEM. An error is one sentence, and does not repeat the text.

#[cfg(any(feature = "tls", feature = "redis", feature = "nats"))]
use rustls::pki_types::pem::{self, PemObject};
#[cfg(any(feature = "tls", feature = "redis", feature = "nats"))]
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::RootCertStore;

/// The certificates in a text: at least one.
#[cfg(any(feature = "tls", feature = "redis", feature = "nats"))]
pub(crate) fn chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err("it has no certificate in PEM".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The authorities in a text, which sign the certificates of peers.
#[cfg(any(feature = "tls", feature = "redis", feature = "nats"))]
pub(crate) fn authorities(text: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(text)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

/// The authorities that the system trusts. `None`: it trusts none.
#[cfg(any(feature = "redis", feature = "nats", feature = "trace"))]
pub(crate) fn of_the_system() -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    (!roots.is_empty()).then_some(roots)
}

/// The private key in a text.
#[cfg(any(feature = "tls", feature = "redis", feature = "nats"))]
pub(crate) fn key(text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let is_encrypted = memchr::memmem::find(text, b"BEGIN ENCRYPTED PRIVATE KEY").is_some()
        || memchr::memmem::find(text, b"Proc-Type: 4,ENCRYPTED").is_some();
    if is_encrypted {
        return Err("the key needs a passphrase, and nobody could enter it".to_owned());
    }
    // The error of the parser does not repeat the file's content.
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => "it has no private key in PEM".to_owned(),
        error => error.to_string(),
    })
}
