//! TLS on the library's own listeners: the certificates, and the state that all connections share.
//!
//! The cryptography is that of aws-lc, through rustls. It is named wherever it is needed, so nothing is installed for
//! the whole process: a host may use rustls itself, in another way.

mod certificates;
pub(crate) mod kernel;
pub(crate) mod outcome;
pub(crate) mod session;
mod tickets;

use crate::config::{secrets, Config};
use crate::error::{Error, Kind};
use crate::log::Log;
use certificates::Pairs;
use kernel::Kernel;
use rustls::crypto::aws_lc_rs::{self as provider, Ticketer};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::TrustAnchor;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// The protocol that clients may ask for (RFC 7301).
const PROTOCOL: &[u8] = b"http/1.1";

/// The TLS of a server. A reload replaces its certificates; existing connections keep theirs.
#[derive(Debug)]
pub(crate) struct Tls {
    /// Makes the tickets of subscribers. A reload keeps it, so that clients can still resume.
    tickets: Arc<dyn ProducesTickets>,
    current: RwLock<Arc<Certificates>>,
    kernel: Mutex<Asked>,
}

/// What the kernel has of TLS. It is asked when that is wanted for the first time, and for the first time after a reload:
/// somebody may have loaded its module meanwhile.
#[derive(Debug, Default)]
struct Asked {
    kernel: Option<Kernel>,
    is_old: bool,
}

/// The certificates in use, in the form in which a handshake wants them.
#[derive(Debug)]
pub(crate) struct Certificates {
    pub(crate) subscribers: Arc<ServerConfig>,
    pub(crate) control: Arc<ServerConfig>,
    pairs: Arc<Pairs>,
    /// The authorities of the clients of `control`. Empty: these need no certificates.
    authorities: Vec<TrustAnchor<'static>>,
}

impl Tls {
    /// Reads the certificates, if an address to listen on needs them.
    pub(crate) fn new(config: &Config, log: &Log) -> Result<Option<Arc<Self>>, Error> {
        if !config.listens_with_tls() {
            return Ok(None);
        }
        let tickets = tickets::new().map_err(unusable)?;
        let current = RwLock::new(Arc::new(Certificates::read(config, &tickets, None, log)?));
        Ok(Some(Arc::new(Tls { tickets, current, kernel: Mutex::default() })))
    }

    /// Reads the certificates again. They are not used before [`Self::set`].
    pub(crate) fn read(&self, config: &Config, log: &Log) -> Result<Certificates, Error> {
        Certificates::read(config, &self.tickets, Some(&self.current().pairs), log)
    }

    /// New connections get these certificates, and the kernel is asked anew. Returns whether the authorities of the control API's clients have
    /// changed.
    pub(crate) fn set(&self, certificates: Certificates) -> bool {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *current, Arc::new(certificates));
        self.asked().is_old = true;
        before.authorities != current.authorities
    }

    /// What the kernel has of TLS. `told` gets it when it is known, and when it has changed.
    pub(crate) fn kernel(&self, told: impl FnOnce(&Kernel)) -> Kernel {
        self.kernel_of(Kernel::probe, told)
    }

    fn kernel_of(&self, probe: impl FnOnce() -> Kernel, told: impl FnOnce(&Kernel)) -> Kernel {
        let mut asked = self.asked();
        if let Asked { kernel: Some(kernel), is_old: false } = *asked {
            return kernel;
        }
        let found = probe();
        let kernel = asked.kernel.map_or(found, |before| found.or(before));
        if asked.kernel != Some(kernel) {
            told(&kernel);
        }
        *asked = Asked { kernel: Some(kernel), is_old: false };
        kernel
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The certificates for a new connection.
    pub(crate) fn current(&self) -> Arc<Certificates> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Certificates {
    fn read(
        config: &Config,
        tickets: &Arc<dyn ProducesTickets>,
        before: Option<&Pairs>,
        log: &Log,
    ) -> Result<Self, Error> {
        let provider = Arc::new(provider::default_provider());
        let pairs = Arc::new(Pairs::read(config, before, &provider, log)?);
        let builder = || ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let mut subscribers = builder().map_err(unusable)?.with_no_client_auth().with_cert_resolver(pairs.clone());
        subscribers.ticketer = tickets.clone();
        // The kernel may get the keys of a connection after its handshake.
        subscribers.enable_secret_extraction = true;
        let control = builder().map_err(unusable)?;
        let mut authorities = Vec::new();
        let mut control = match &*config.tls_client_ca {
            "" => {
                let mut control = control.with_no_client_auth().with_cert_resolver(pairs.clone());
                // Its keys live for hours only. In TLS 1.2 they protect the key of the control API.
                control.ticketer = Ticketer::new().map_err(unusable)?;
                control
            }
            path => {
                let roots = self::authorities(path)?;
                authorities.clone_from(&roots.roots);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
                let wrong = |error| wrong_file("tls_client_ca", path, format_args!("{error}"));
                let control = control.with_client_cert_verifier(verifier.build().map_err(wrong)?);
                let mut control = control.with_cert_resolver(pairs.clone());
                // A ticket would stand for a certificate that is not verified again, and may have expired since.
                control.send_tls13_tickets = 0;
                control
            }
        };
        for config in [&mut subscribers, &mut control] {
            config.alpn_protocols = vec![PROTOCOL.to_vec()];
            // All ciphers are good. The first of ours is the fastest where the processor has AES.
            config.ignore_client_order = true;
            config.session_storage = Arc::new(NoServerSessionStorage {});
        }
        Ok(Certificates { subscribers: subscribers.into(), control: control.into(), pairs, authorities })
    }
}

/// The authorities in a file, which sign the certificates of clients.
fn authorities(path: &str) -> Result<RootCertStore, Error> {
    let text = secrets::read("tls_client_ca", path)?;
    crate::certificates::authorities(&text).map_err(|what| wrong_file("tls_client_ca", path, format_args!("{what}")))
}

fn unusable(error: rustls::Error) -> Error {
    Error::new(Kind::System, format!("TLS can't be used: {error}"))
}

/// The error for a file with wrong content.
fn wrong_file(option: &str, path: &str, what: std::fmt::Arguments<'_>) -> Error {
    Error::new(Kind::Config, format!("option {option}: file {path}: {what}"))
}

type Provider = Arc<CryptoProvider>;

#[cfg(test)]
impl Tls {
    /// With a certificate made for the occasion.
    pub(crate) fn of_test() -> Arc<Self> {
        use crate::log::Level;
        let (certificate, key) = (tests::file("certificate"), tests::file("key"));
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&certificate, pair.cert.pem()).unwrap();
        std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
        let paths = |path: &std::path::Path| vec![path.to_str().unwrap().to_owned()];
        let config = Config { tls_certificate: paths(&certificate), tls_key: paths(&key), ..Config::default() };
        let tickets = tickets::new().unwrap();
        let current =
            RwLock::new(Arc::new(Certificates::read(&config, &tickets, None, &Log::new(None, Level::Error)).unwrap()));
        [certificate, key].iter().for_each(|path| std::fs::remove_file(path).unwrap());
        Arc::new(Tls { tickets, current, kernel: Mutex::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static FILES: AtomicUsize = AtomicUsize::new(0);

    pub(super) fn file(what: &str) -> PathBuf {
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        std::env::temp_dir().join(format!("libpush-{what}-{}-{number}.pem", std::process::id()))
    }

    #[test]
    #[cfg_attr(miri, ignore = "files")]
    fn the_kernel_is_asked_again_after_a_reload_and_a_change_is_told() {
        let tls = Tls::of_test();
        let ask = |probe: &dyn Fn() -> Kernel| {
            let mut told = None;
            let kernel = tls.kernel_of(probe, |kernel| told = Some(*kernel));
            (kernel, told)
        };
        let never = || -> Kernel { panic!("it is asked again") };
        assert_eq!(ask(&|| Kernel::NONE), (Kernel::NONE, Some(Kernel::NONE)));
        assert_eq!(ask(&never), (Kernel::NONE, None));
        // Somebody loads the module.
        let reload = || {
            let current = tls.current();
            let (subscribers, control) = (current.subscribers.clone(), current.control.clone());
            let pairs = current.pairs.clone();
            tls.set(Certificates { subscribers, control, pairs, authorities: Vec::new() });
        };
        reload();
        assert_eq!(ask(&|| Kernel::ALL), (Kernel::ALL, Some(Kernel::ALL)));
        assert_eq!(ask(&never), (Kernel::ALL, None));
        reload();
        assert_eq!(ask(&|| Kernel::ALL), (Kernel::ALL, None), "it is the same");
        reload();
        assert_eq!(ask(&|| Kernel::NONE), (Kernel::ALL, None), "it could not be asked");
    }

    #[test]
    #[cfg_attr(miri, ignore = "files")]
    fn a_million_tickets_cost_no_memory_and_allow_no_early_data() {
        let tls = Tls::of_test();
        let current = tls.current();
        for config in [&current.subscribers, &current.control] {
            // The state of a session is in its ticket, which the client keeps. The server keeps nothing.
            assert!(!config.session_storage.can_cache() && config.ticketer.enabled());
            assert!(!config.session_storage.put(vec![1], vec![2]) && config.session_storage.get(&[1]).is_none());
            assert_eq!(config.max_early_data_size, 0);
            assert!(config.send_tls13_tickets <= 2);
        }
        // The clients stay for days, and get their tickets when they come.
        let days = |count: u32| count * 24 * 60 * 60;
        assert!((days(2)..=days(7)).contains(&tls.tickets.lifetime()), "{}", tls.tickets.lifetime());
        let sealed = tls.tickets.encrypt(b"a session").unwrap();
        assert_eq!(tls.tickets.decrypt(&sealed).as_deref(), Some(&b"a session"[..]));
        assert_eq!(tls.tickets.decrypt(&sealed[1..]), None);
    }
}
