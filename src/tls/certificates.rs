//! Certificates and their keys, from files in PEM.

use super::{wrong_file, Provider};
use crate::auth::certificate::{self, VALIDITY};
use crate::certificates;
use crate::config::{secrets, Config};
use crate::error::Error;
use crate::log::{Level, Log};
use crate::sys::clock;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use spki::der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use spki::der::{self, Decode, Reader, Tag, Tagged};
use std::sync::Arc;

/// The certificates with their keys, in the order of the options.
#[derive(Debug)]
pub(super) struct Pairs(Vec<Pair>);

#[derive(Debug, Clone)]
struct Pair {
    key: Arc<CertifiedKey>,
    /// The certificate has no list of names, so it says nothing about which clients it is for.
    for_any_name: bool,
    validity: Validity,
    /// The paths of both files.
    files: [String; 2],
}

impl Pairs {
    /// Reads the files. A pair that can't be used must not keep the others from being renewed, nor the other options
    /// from being applied: the one that was read `before` from the same files stays. If there is none, a certificate
    /// that is out of date is used all the same, unless no other is good. The log says so.
    pub(super) fn read(config: &Config, before: Option<&Self>, provider: &Provider, log: &Log) -> Result<Self, Error> {
        let (mut pairs, mut lines) = (Vec::new(), Vec::new());
        let (mut outdated, mut has_good) = (None, false);
        for (certificate, key) in config.tls_certificate.iter().zip(&config.tls_key) {
            let read = Pair::read(certificate, key, provider);
            let wrong = match &read {
                Ok(pair) => {
                    pair.out_of_date().map(|why| wrong_file("tls_certificate", certificate, format_args!("{why}")))
                }
                Err(error) => Some(error.clone()),
            };
            let is_same = |pair: &&Pair| pair.files == [certificate.as_str(), key.as_str()];
            let old = before.and_then(|before| before.0.iter().find(is_same));
            pairs.push(match (read, wrong, old) {
                (Ok(pair), None, _) => {
                    has_good = true;
                    pair
                }
                (_, Some(error), Some(old)) => {
                    has_good = true;
                    lines.push(format!("{error}; the pair that was read before stays in use"));
                    old.clone()
                }
                (Ok(pair), Some(error), None) => {
                    lines.push(format!("{error}; it is used all the same, since another certificate is good"));
                    outdated.get_or_insert(error);
                    pair
                }
                (Err(error), ..) => return Err(error),
            });
        }
        if let Some(error) = outdated.filter(|_| !has_good) {
            return Err(error);
        }
        lines.iter().for_each(|line| log.line(Level::Warn, format_args!("{line}")));
        Ok(Pairs(pairs))
    }
}

/// Chooses the certificate by the name that the client asks for. A client that asks for none gets any: the first.
impl ResolvesServerCert for Pairs {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = match hello.server_name() {
            Some(name) => Some(ServerName::try_from(name).ok()?),
            None => None,
        };
        let named = self.0.iter().filter(|pair| name.as_ref().is_none_or(|name| pair.is_for(name)));
        // There may be two for a name, with keys of two kinds, or one that is out of date.
        let unfit = |pair: &&Pair| {
            (pair.key.key.choose_scheme(hello.signature_schemes()).is_none(), pair.out_of_date().is_some())
        };
        named.min_by_key(unfit).map(|pair| pair.key.clone())
    }
}

impl Pair {
    fn read(certificate: &str, key: &str, provider: &Provider) -> Result<Self, Error> {
        let wrong = |what: &str| wrong_file("tls_certificate", certificate, format_args!("{what}"));
        let chain = read_chain("tls_certificate", certificate)?;
        let validity = chain.first().and_then(|leaf| validity(leaf).ok()).ok_or_else(|| wrong("it can't be parsed"))?;
        let for_any_name = chain.first().is_some_and(|leaf| !has_names(leaf));
        let private = read_key(key)?;
        let pair = CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                wrong_file("tls_key", key, format_args!("it is not the key of the certificate in {certificate}"))
            }
            rustls::Error::InvalidCertificate(_) => wrong(&error.to_string()),
            error => wrong_file("tls_key", key, format_args!("{error}")),
        })?;
        let files = [certificate.to_owned(), key.to_owned()];
        Ok(Pair { key: Arc::new(pair), for_any_name, validity, files })
    }

    /// Why the certificate can't be used at this time, if it can't.
    fn out_of_date(&self) -> Option<&'static str> {
        let now = clock::unix_seconds();
        match &self.validity {
            Validity { until, .. } if now > *until => Some("it has expired"),
            Validity { from, .. } if now < *from => Some("it is not valid yet"),
            _ => None,
        }
    }

    fn is_for(&self, name: &ServerName<'_>) -> bool {
        let names = |leaf| ParsedCertificate::try_from(leaf).is_ok_and(|leaf| verify_server_name(&leaf, name).is_ok());
        self.for_any_name || self.key.cert.first().is_some_and(names)
    }
}

/// The certificates in a file: at least one.
fn read_chain(option: &str, path: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = secrets::read(option, path)?;
    certificates::chain(&text).map_err(|what| wrong_file(option, path, format_args!("{what}")))
}

fn read_key(path: &str) -> Result<PrivateKeyDer<'static>, Error> {
    let text = secrets::read("tls_key", path)?;
    certificates::key(&text).map_err(|what| wrong_file("tls_key", path, format_args!("{what}")))
}

/// The time in which a certificate may be used, in seconds since 1970.
#[derive(Debug, Clone, Copy)]
struct Validity {
    from: i64,
    until: i64,
}

fn validity(der: &[u8]) -> der::Result<Validity> {
    certificate::field(der, VALIDITY, |fields| {
        AnyRef::decode(fields)?.sequence(|times| Ok(Validity { from: time(times)?, until: time(times)? }))
    })
}

fn time<'a>(times: &mut impl Reader<'a>) -> der::Result<i64> {
    let time = AnyRef::decode(times)?;
    let since_1970 = match time.tag() {
        Tag::UtcTime => time.decode_as::<UtcTime>()?.to_unix_duration(),
        _ => time.decode_as::<GeneralizedTime>()?.to_unix_duration(),
    };
    Ok(i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX))
}

/// Whether a certificate has the extension subjectAltName (RFC 5280, section 4.2.1.6): its identifier is in it.
fn has_names(der: &[u8]) -> bool {
    memchr::memmem::find(der, &[0x06, 0x03, 0x55, 0x1d, 0x11]).is_some()
}
