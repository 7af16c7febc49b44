//! Certificates that a test makes for itself.
#![allow(dead_code)] // each test uses its part

use rcgen::{date_time_ymd, CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A certificate that signs itself, and its key, in two files that are removed at the end.
#[derive(Debug)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
    pub der: CertificateDer<'static>,
    pub key_der: Vec<u8>,
}

impl Pair {
    /// A pair for these names.
    pub fn new(names: &[&str]) -> Self {
        Pair::until(names, 2999)
    }

    /// A pair that ends with the first day of a year.
    pub fn until(names: &[&str], year: i32) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let place = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = |kind| std::env::temp_dir().join(format!("push-tls-{}-{place}.{kind}.pem", std::process::id()));
        let (pem, key, der, key_der) = made(names, year);
        let write = |path: PathBuf, text: &str| {
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        Pair { certificate: write(path("certificate"), &pem), key: write(path("key"), &key), der, key_der }
    }

    /// Replaces the content of the files by a new pair for these names.
    pub fn renew(&mut self, names: &[&str]) {
        self.renew_until(names, 2999);
    }

    /// The same with a pair that ends with the first day of a year.
    pub fn renew_until(&mut self, names: &[&str], year: i32) {
        let (pem, key, der, key_der) = made(names, year);
        std::fs::write(&self.certificate, pem).unwrap();
        std::fs::write(&self.key, key).unwrap();
        (self.der, self.key_der) = (der, key_der);
    }

    /// The options for it.
    pub fn options(&self) -> [(&str, &str); 2] {
        [("tls_certificate", &self.certificate), ("tls_key", &self.key)]
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.certificate);
        let _ = std::fs::remove_file(&self.key);
    }
}

fn made(names: &[&str], year: i32) -> (String, String, CertificateDer<'static>, Vec<u8>) {
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    params.not_after = date_time_ymd(year, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem(), certificate.der().clone(), key.serialize_der())
}
