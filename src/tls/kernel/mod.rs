//! TLS in the kernel: whether it has it, and for which ciphers; and the connections that were moved there.
//!
//! A connection moves after its handshake ([`super::session::Session::into_kernel`]). From then on its socket is written
//! and read almost like a plain one, and the session with its state is freed.

mod connection;
mod control;

use super::session::Session;
use crate::sys::ktls::{self, Cipher, Keys, Version};
pub(crate) use connection::InKernel;
use rustls::{ConnectionTrafficSecrets, ProtocolVersion};
use std::fmt;
use std::os::fd::OwnedFd;

const VERSIONS: [Version; 2] = [Version::Tls12, Version::Tls13];
const CIPHERS: [Cipher; 3] = [Cipher::Aes128Gcm, Cipher::Aes256Gcm, Cipher::Chacha20Poly1305];

/// The ciphers that the kernel has, by version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kernel([[bool; CIPHERS.len()]; VERSIONS.len()]);

impl Kernel {
    /// Asks the kernel, by trying each cipher out.
    pub(crate) fn probe() -> Self {
        let is_there = ktls::is_there();
        Kernel(VERSIONS.map(|version| CIPHERS.map(|cipher| is_there && ktls::takes(version, cipher))))
    }

    /// What it was found to have, now or before. It loses nothing while it runs; a probe may fail for another reason, such
    /// as a lack of descriptors.
    pub(crate) fn or(self, before: Self) -> Self {
        let mut both = self;
        for (one, other) in both.0.iter_mut().flatten().zip(before.0.iter().flatten()) {
            *one |= *other;
        }
        both
    }

    pub(crate) fn has_any(&self) -> bool {
        self.0.iter().flatten().any(|has| *has)
    }

    fn has(&self, version: Version, cipher: Cipher) -> bool {
        let version = VERSIONS.iter().position(|it| *it == version);
        let cipher = CIPHERS.iter().position(|it| *it == cipher);
        version.zip(cipher).is_some_and(|(version, cipher)| self.0[version][cipher])
    }

    /// The kernel's names for a version and a cipher, if it has both.
    pub(super) fn names(&self, version: ProtocolVersion, suite: rustls::CipherSuite) -> Option<(Version, Cipher)> {
        let version = match version {
            ProtocolVersion::TLSv1_2 => Version::Tls12,
            ProtocolVersion::TLSv1_3 => Version::Tls13,
            _ => return None,
        };
        let cipher = cipher_of(suite)?;
        self.has(version, cipher).then_some((version, cipher))
    }

    /// As if it had everything.
    #[cfg(test)]
    pub(super) const ALL: Kernel = Kernel([[true; CIPHERS.len()]; VERSIONS.len()]);
    #[cfg(test)]
    pub(super) const NONE: Kernel = Kernel([[false; CIPHERS.len()]; VERSIONS.len()]);
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.has_any() {
            return f.write_str("the kernel has no TLS (its module is named tls)");
        }
        f.write_str("the kernel has TLS")?;
        for (name, version) in [("1.2", Version::Tls12), ("1.3", Version::Tls13)] {
            write!(f, "; {name}:")?;
            for cipher in CIPHERS.into_iter().filter(|cipher| self.has(version, *cipher)) {
                write!(f, " {cipher:?}")?;
            }
        }
        Ok(())
    }
}

/// The cipher of a suite.
fn cipher_of(suite: rustls::CipherSuite) -> Option<Cipher> {
    use rustls::CipherSuite as Suite;
    Some(match suite {
        Suite::TLS13_AES_128_GCM_SHA256
        | Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => Cipher::Aes128Gcm,
        Suite::TLS13_AES_256_GCM_SHA384
        | Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        | Suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => Cipher::Aes256Gcm,
        Suite::TLS13_CHACHA20_POLY1305_SHA256
        | Suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        | Suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => Cipher::Chacha20Poly1305,
        _ => return None,
    })
}

/// The keys of one direction for the kernel, for the records from number `sequence` on.
pub(super) fn keys(version: Version, secrets: &ConnectionTrafficSecrets, sequence: u64) -> Option<Keys> {
    let (cipher, key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Cipher::Aes128Gcm, key, iv),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Cipher::Aes256Gcm, key, iv),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Cipher::Chacha20Poly1305, key, iv),
        _ => return None,
    };
    let mut iv: [u8; 12] = iv.as_ref().try_into().ok()?;
    if version == Version::Tls12 && cipher != Cipher::Chacha20Poly1305 {
        set_apart(&mut iv);
    }
    Keys::new(version, cipher, key.as_ref(), &iv, sequence)
}

/// Sees to it that no nonce is used twice. With AES-GCM in TLS 1.2 each record carries the last eight bytes of its nonce
/// (RFC 5288, section 3). The library has XORed the number of the record into them, and the kernel counts up from
/// what it is given: it would begin with the nonce of the library's first record. With another first bit, it is 2^63 away
/// from all that were used. A receiver takes these bytes from the records, so for it they mean nothing.
fn set_apart(iv: &mut [u8; 12]) {
    iv[4] ^= 0x80;
}

/// An established connection, by the place where its records are encrypted.
#[derive(Debug)]
pub(crate) enum Link {
    Library(Box<Session>),
    Kernel(InKernel),
}

impl Link {
    pub(crate) fn socket(&self) -> &OwnedFd {
        match self {
            Link::Library(session) => session.socket(),
            Link::Kernel(connection) => connection.socket(),
        }
    }

    /// How many bytes are kept of what has come, and of what goes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Link::Library(session) => session.kept() + session.held(),
            Link::Kernel(connection) => connection.kept(),
        }
    }

    pub(crate) fn end(&mut self, scratch: &mut Vec<u8>) {
        match self {
            Link::Library(session) => session.end(scratch),
            Link::Kernel(connection) => connection.end(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::aws_lc_rs::default_provider;
    use rustls::crypto::cipher::{AeadKey, Iv};
    use rustls::SupportedCipherSuite;

    #[test]
    fn each_cipher_of_the_library_has_a_name_in_the_kernel() {
        for suite in default_provider().cipher_suites {
            let version = match suite {
                SupportedCipherSuite::Tls12(_) => ProtocolVersion::TLSv1_2,
                SupportedCipherSuite::Tls13(_) => ProtocolVersion::TLSv1_3,
            };
            let (_, cipher) = Kernel::ALL.names(version, suite.suite()).unwrap();
            let name = format!("{:?}", suite.suite());
            let expected = match cipher {
                Cipher::Aes128Gcm => "AES_128_GCM_SHA256",
                Cipher::Aes256Gcm => "AES_256_GCM_SHA384",
                Cipher::Chacha20Poly1305 => "CHACHA20_POLY1305_SHA256",
            };
            assert!(name.ends_with(expected), "{name}: {cipher:?}");
            assert_eq!(Kernel::NONE.names(version, suite.suite()), None);
        }
    }

    #[test]
    fn a_cipher_counts_only_in_the_version_in_which_the_kernel_has_it() {
        let mut kernel = Kernel::NONE;
        kernel.0[1][0] = true;
        let names = |version, suite| kernel.names(version, suite);
        let (new, old) = (ProtocolVersion::TLSv1_3, ProtocolVersion::TLSv1_2);
        use rustls::CipherSuite as Suite;
        assert_eq!(names(new, Suite::TLS13_AES_128_GCM_SHA256), Some((Version::Tls13, Cipher::Aes128Gcm)));
        assert_eq!(names(new, Suite::TLS13_AES_256_GCM_SHA384), None);
        assert_eq!(names(old, Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256), None);
        assert_eq!(names(ProtocolVersion::TLSv1_1, Suite::TLS13_AES_128_GCM_SHA256), None);
        assert_eq!(names(new, Suite::TLS13_AES_128_CCM_SHA256), None);
        assert_eq!(kernel.to_string(), "the kernel has TLS; 1.2:; 1.3: Aes128Gcm");
        assert_eq!(Kernel::NONE.to_string(), "the kernel has no TLS (its module is named tls)");
    }

    #[test]
    fn the_kernel_uses_no_nonce_that_the_library_has_used() {
        let secrets = |iv| ConnectionTrafficSecrets::Aes128Gcm { key: AeadKey::from([0; 32]), iv };
        // An AeadKey of this length is one of AES-256, so the key does not fit.
        assert!(keys(Version::Tls12, &secrets(Iv::from([0; 12])), 1).is_none());
        for iv in [[0; 12], [255; 12], [0x5a; 12]] {
            let key = || AeadKey::from([3; 32]);
            let secrets = ConnectionTrafficSecrets::Aes256Gcm { key: key(), iv: Iv::from(iv) };
            let of_kernel = keys(Version::Tls12, &secrets, 1).unwrap();
            let first = u64::from_be_bytes(of_kernel.as_bytes()[4..12].try_into().unwrap());
            let of_library = u64::from_be_bytes(iv[4..].try_into().unwrap());
            for number in [0, 1, 2, 1 << 24] {
                let used = of_library ^ number;
                assert!(used.wrapping_sub(first) > 1 << 32, "the kernel would come to {used} after {first}");
            }
            // With TLS 1.3 both XOR the number of the record, so the kernel goes on where the library was.
            let same = keys(Version::Tls13, &secrets, 1).unwrap();
            assert_eq!(same.as_bytes()[4..12], iv[4..]);
            let secrets = ConnectionTrafficSecrets::Chacha20Poly1305 { key: key(), iv: Iv::from(iv) };
            assert_eq!(keys(Version::Tls12, &secrets, 1).unwrap().as_bytes()[4..16], iv);
        }
    }
}
