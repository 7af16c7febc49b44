//! Certificates that a test makes for its servers and hubs.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An authority, in a folder of its own that is removed at the end.
pub(crate) struct Authority {
    folder: PathBuf,
    params: CertificateParams,
    signing: KeyPair,
    /// The file with its certificate.
    pub(crate) pem: String,
}

/// The files of a certificate and its key.
pub(crate) struct Signed {
    pub(crate) pem: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let place = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("push-authority-{}-{place}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let signing = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&signing).unwrap();
        let pem = write(folder.join("authority.pem"), &certificate.pem());
        Authority { folder, params, signing, pem }
    }

    /// A certificate for these names and addresses.
    pub(crate) fn sign(&self, file: &str, names: &[&str]) -> Signed {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.signing);
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        Signed {
            pem: write(self.folder.join(format!("{file}.pem")), &certificate.pem()),
            key: write(self.folder.join(format!("{file}.key")), &key.serialize_pem()),
        }
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn write(path: PathBuf, text: &str) -> String {
    fs::write(&path, text).unwrap();
    path.display().to_string()
}
