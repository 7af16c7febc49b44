//! Where the records of TLS clients are encrypted: the labels of `push_tls_connections_total`.

use std::sync::atomic::{AtomicU64, Ordering};

/// The place where the records of a connection are encrypted: the kernel, or the library, with the reason. The words are
/// labels of a metric, so they do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsPlace {
    /// In the kernel, after a handshake of the library.
    Kernel,
    /// The option `tls_kernel` does not want the kernel.
    Off,
    /// The kernel has no TLS.
    Unavailable,
    /// The kernel does not have the cipher.
    Cipher,
    /// The client's first bytes after the handshake had not come as a whole, or ours had not gone.
    Unfinished,
    /// The kernel did not take the socket.
    Refused,
    /// In the kernel, after a handshake of the host, which has handed the connection over.
    HandedOver,
}

impl TlsPlace {
    /// The number of places.
    pub const COUNT: usize = 7;
    const ALL: [TlsPlace; TlsPlace::COUNT] = [
        TlsPlace::Kernel,
        TlsPlace::Off,
        TlsPlace::Unavailable,
        TlsPlace::Cipher,
        TlsPlace::Unfinished,
        TlsPlace::Refused,
        TlsPlace::HandedOver,
    ];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            TlsPlace::Kernel => "kernel",
            TlsPlace::Off => "off",
            TlsPlace::Unavailable => "unavailable",
            TlsPlace::Cipher => "cipher",
            TlsPlace::Unfinished => "unfinished",
            TlsPlace::Refused => "refused",
            TlsPlace::HandedOver => "handed_over",
        }
    }
}

/// A count of connections for each place.
#[derive(Debug, Default)]
pub struct TlsPlaces([AtomicU64; TlsPlace::COUNT]);

impl TlsPlaces {
    /// Counts a connection.
    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    pub(crate) fn add(&self, place: TlsPlace) {
        self.0[place as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> [(&'static str, u64); TlsPlace::COUNT] {
        TlsPlace::ALL.map(|place| (place.word(), self.0[place as usize].load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_has_its_number_as_index_and_a_word_of_its_own() {
        let places = TlsPlaces::default();
        for (number, place) in TlsPlace::ALL.into_iter().enumerate() {
            assert_eq!(place as usize, number);
            (0..=number).for_each(|_| places.add(place));
        }
        let counts = places.counts();
        assert_eq!(counts.map(|(_, count)| count), [1, 2, 3, 4, 5, 6, 7]);
        for (word, _) in counts {
            assert_eq!(counts.iter().filter(|(other, _)| *other == word).count(), 1);
        }
    }
}
