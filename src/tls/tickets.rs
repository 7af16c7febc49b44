//! The tickets with which subscribers come back without a full handshake.
//!
//! A client gets its tickets in the handshake, and stays connected for days. When its network is cut, the keys of these
//! tickets must still be there, or a crowd that comes back costs a full handshake each. So they live longer than those
//! of the library for TLS, which serves connections that last for seconds.

use aws_lc_rs::aead::{Aad, Nonce, RandomizedNonceKey, AES_256_GCM, NONCE_LEN};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use rustls::crypto::GetRandomFailed;
use rustls::server::ProducesTickets;
use rustls::ticketer::TicketRotator;
use rustls::Error;
use std::fmt;
use std::sync::Arc;

/// How long a key makes tickets, in seconds. It opens them for as long again, and a client may use a ticket for as long.
/// The most that TLS 1.3 allows is 7 days (RFC 8446, section 4.6.1).
pub(super) const LIFETIME: u32 = 2 * 24 * 60 * 60;

pub(super) fn new() -> Result<Arc<dyn ProducesTickets>, Error> {
    Ok(Arc::new(TicketRotator::new(LIFETIME, || match Key::new() {
        Ok(key) => Ok(Box::new(key)),
        Err(Unspecified) => Err(GetRandomFailed),
    })?))
}

/// A key of tickets. A ticket is a nonce, and behind it the state of a session, encrypted. A key may encrypt 2^32 of them
/// (NIST SP 800-38D, section 8.3): in its two days it would have to make 24,000 a second.
struct Key(RandomizedNonceKey);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    fn new() -> Result<Self, Unspecified> {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes)?;
        RandomizedNonceKey::new(&AES_256_GCM, &bytes).map(Key)
    }
}

impl ProducesTickets for Key {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = plain.to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::empty(), &mut sealed).ok()?;
        Some([&nonce.as_ref()[..], &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = ticket.split_first_chunk::<NONCE_LEN>()?;
        let mut opened = sealed.to_vec();
        let len = self.0.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), &mut opened).ok()?.len();
        opened.truncate(len);
        Some(opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "cryptography in C")]
    fn only_the_key_that_made_a_ticket_opens_it() {
        let (key, other) = (Key::new().unwrap(), Key::new().unwrap());
        let tickets = [key.encrypt(b"a session").unwrap(), key.encrypt(b"a session").unwrap()];
        assert_ne!(tickets[0], tickets[1], "an observer must not see that two are the same");
        assert_eq!(key.decrypt(&tickets[0]).as_deref(), Some(&b"a session"[..]));
        assert_eq!(other.decrypt(&tickets[0]), None);
        for at in 0..tickets[0].len() {
            let mut spoilt = tickets[0].clone();
            spoilt[at] ^= 1;
            assert_eq!(key.decrypt(&spoilt), None, "byte {at}");
            assert_eq!(key.decrypt(&tickets[0][..at]), None, "the first {at} bytes");
        }
    }
}
