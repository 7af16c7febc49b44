//! One connection, with the other end in the test.

use super::*;
use crate::metrics::TlsPlace;
use crate::tls::kernel::Kernel;
use crate::tls::outcome::Handshake;
use rcgen::generate_simple_self_signed;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
use rustls::crypto::{CipherSuiteCommon, CryptoProvider};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, SupportedCipherSuite, SupportedProtocolVersion, Tls12CipherSuite,
};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

/// The other end, and its socket.
struct Peer {
    connection: ClientConnection,
    socket: UnixStream,
}

impl Peer {
    fn send(&mut self) {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut self.socket).unwrap();
        }
    }

    fn receive(&mut self) {
        self.connection.read_tls(&mut self.socket).unwrap();
        self.connection.process_new_packets().unwrap();
    }

    /// The next content, which is at most so long.
    fn next(&mut self, most: usize) -> Vec<u8> {
        let mut content = vec![0; most];
        let len = loop {
            match self.connection.reader().read(&mut content) {
                Ok(len) => break len,
                Err(_) => self.receive(),
            }
        };
        content.truncate(len);
        content
    }
}

/// A connection whose peer has sent some content together with the end of its handshake.
fn shaken(version: &'static SupportedProtocolVersion, content: &[u8]) -> (Session, Peer) {
    shaken_with(rustls::crypto::aws_lc_rs::default_provider(), version, content)
}

/// The same with other cryptography on our side.
fn shaken_with(ours: CryptoProvider, version: &'static SupportedProtocolVersion, content: &[u8]) -> (Session, Peer) {
    shaken_as(ours, version, content, |_| {})
}

/// The same with something that the peer does before it sends the end of its handshake.
fn shaken_as(
    ours: CryptoProvider,
    version: &'static SupportedProtocolVersion,
    content: &[u8],
    at_end: impl Fn(&mut ClientConnection),
) -> (Session, Peer) {
    let pair = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(ours.into()).with_protocol_versions(&[version]).unwrap();
    let mut server = server.with_no_client_auth().with_single_cert(vec![pair.cert.der().clone()], key).unwrap();
    server.enable_secret_extraction = true;
    let mut roots = RootCertStore::empty();
    roots.add(pair.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(client), ServerName::try_from("localhost").unwrap()).unwrap();
    let (ours, socket) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let mut session = Session::new(ours.into(), Arc::new(server), Vec::new()).unwrap();
    let mut peer = Peer { connection, socket };
    peer.connection.writer().write_all(content).unwrap();
    let mut scratch = Vec::new();
    loop {
        peer.send();
        match session.shake_hands(&mut scratch).unwrap() {
            Handshake::Done => return (session, peer),
            Handshake::Waits => {
                peer.receive();
                if !peer.connection.is_handshaking() {
                    at_end(&mut peer.connection);
                }
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_write_before_the_first_read_loses_nothing() {
    // With TLS 1.2 the client is not the first to be done, so no content comes with the end of the handshake.
    let (mut session, mut peer) = shaken(&TLS13, b"content");
    let (mut scratch, mut into) = (Vec::new(), vec![0; 65_536]);
    assert_eq!(session.write(&[IoSlice::new(b"answer")], &mut scratch), Ok(6));
    assert_eq!(session.read(&mut into, &mut scratch), Ok(Read::Part(7)));
    assert_eq!(&into[..7], b"content");
    assert_eq!(session.read(&mut into, &mut scratch), Ok(Read::Nothing));
    assert_eq!(peer.next(6), b"answer");
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn an_end_before_the_first_read_is_told() {
    for version in [&TLS12, &TLS13] {
        let (mut session, mut peer) = shaken(version, b"content");
        session.end(&mut Vec::new());
        let read = loop {
            match peer.connection.reader().read(&mut [0; 10]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => peer.receive(),
                read => break read,
            }
        };
        assert_eq!(read.unwrap(), 0, "a goodbye, and not an end without one");
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn bytes_that_come_after_our_end_are_thrown_away_whatever_they_are() {
    for version in [&TLS12, &TLS13] {
        let (mut session, mut peer) = shaken(version, b"");
        let (mut scratch, mut into) = (Vec::new(), vec![0; 65_536]);
        peer.socket.write_all(b"\x17\x03\x03\0\x20").unwrap();
        assert_eq!(session.read(&mut into, &mut scratch), Ok(Read::Nothing));
        assert!(session.kept() >= 5 && session.since().is_some());
        session.end_writing(&mut scratch);
        assert_eq!((session.kept(), session.since()), (0, None));
        peer.socket.write_all(&[b'a'; 32]).unwrap();
        peer.socket.write_all(b"\x15\x03\x03\0\x02\x02\x00").unwrap();
        assert_eq!(session.read(&mut into, &mut scratch), Ok(Read::Part(0)));
        assert_eq!(session.read(&mut into, &mut scratch), Ok(Read::Nothing));
        peer.socket.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(session.read(&mut into, &mut scratch), Ok(Read::End));
        assert_eq!(session.failure(), None);
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn the_time_of_a_record_begins_with_it_and_not_with_the_last_byte() {
    let (mut session, mut peer) = shaken(&TLS13, b"");
    let (mut scratch, mut into) = (Vec::new(), vec![0; 65_536]);
    let mut records = Vec::new();
    for _ in 0..2 {
        peer.connection.writer().write_all(&[b'x'; 1000]).unwrap();
        peer.connection.write_tls(&mut records).unwrap();
    }
    let mut came = |session: &mut Session, bytes: &[u8]| {
        peer.socket.write_all(bytes).unwrap();
        let read = session.read(&mut into, &mut scratch).unwrap();
        (read, session.since())
    };
    let half = records.len() / 2;
    let (read, began) = came(&mut session, &records[..100]);
    assert!(read == Read::Nothing && began.is_some());
    session.give_time(7);
    assert_eq!(came(&mut session, &records[100..200]), (Read::Nothing, Some(7)), "it is the same record");
    let (read, began) = came(&mut session, &records[200..half + 100]);
    assert!(read == Read::Bytes(1000) && began.is_some_and(|began| began > 7), "this is the next one");
    assert_eq!(came(&mut session, &records[half + 100..]), (Read::Bytes(1000), None));
    assert_eq!(session.kept(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn keys_that_are_used_up_end_a_connection_with_a_goodbye() {
    // The limit of AES-GCM is 2^24 records. TLS 1.3 has new keys then, and TLS 1.2 has none.
    let SupportedCipherSuite::Tls12(suite) = TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 else { panic!() };
    let common = CipherSuiteCommon { confidentiality_limit: 10, ..suite.common };
    let suite: &'static Tls12CipherSuite = Box::leak(Box::new(Tls12CipherSuite { common, ..*suite }));
    let mut ours = rustls::crypto::aws_lc_rs::default_provider();
    ours.cipher_suites = vec![SupportedCipherSuite::Tls12(suite)];
    let (mut session, mut peer) = shaken_with(ours, &TLS12, b"");
    let mut scratch = Vec::new();
    let written = (0..20).take_while(|_| session.write(&[IoSlice::new(b"x")], &mut scratch) == Ok(1)).count();
    assert!((5..10).contains(&written), "{written}");
    session.end(&mut scratch);
    let mut content = Vec::new();
    loop {
        let mut byte = [0];
        match peer.connection.reader().read(&mut byte) {
            Ok(0) => break,
            Ok(_) => content.push(byte[0]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => peer.receive(),
            Err(error) => panic!("an end without a goodbye: {error}"),
        }
    }
    assert_eq!(content, vec![b'x'; written]);
}

/// Tries to move a connection to a kernel, of which its socket knows nothing. Returns the reason why it stays.
fn stays(session: Session, kernel: &Kernel) -> (Session, TlsPlace) {
    match Box::new(session).into_kernel(kernel, &mut Vec::new()) {
        Err(Stays::Here(session, place)) => (*session, place),
        other => panic!("{other:?}"),
    }
}

/// The content that a connection reads until nothing is there.
fn content(session: &mut Session) -> Vec<u8> {
    let (mut all, mut into) = (Vec::new(), vec![0; 65_536]);
    loop {
        match session.read(&mut into, &mut Vec::new()).unwrap() {
            Read::Part(len) | Read::Bytes(len) => all.extend_from_slice(&into[..len]),
            _ => return all,
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_connection_that_the_kernel_does_not_take_goes_on_as_it_was() {
    for version in [&TLS12, &TLS13] {
        for (kernel, expected) in [(Kernel::NONE, TlsPlace::Unavailable), (Kernel::ALL, TlsPlace::Refused)] {
            let (session, mut peer) = shaken(version, b"content");
            let (mut session, place) = stays(session, &kernel);
            assert_eq!(place, expected);
            // With TLS 1.2 the client is done only now, and sends its content.
            if peer.connection.is_handshaking() {
                peer.receive();
            }
            peer.send();
            assert_eq!(content(&mut session), b"content");
            assert_eq!(session.write(&[IoSlice::new(b"answer")], &mut Vec::new()), Ok(6));
            assert_eq!(peer.next(6), b"answer");
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_connection_moves_only_between_two_records() {
    // More than is read at once in a handshake, so that the read ends within a record. The rest is in the socket.
    let sent: Vec<u8> = (0..40_000_u32).map(|number| number as u8).collect();
    let (session, _peer) = shaken(&TLS13, &sent);
    assert!(!session.unread.is_empty());
    let (mut session, place) = stays(session, &Kernel::ALL);
    assert_eq!(place, TlsPlace::Refused, "it was ready to move");
    assert!(session.unread.is_empty() && !session.early.is_empty() && session.early.len() < sent.len());
    assert_eq!(content(&mut session), sent);
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_connection_does_not_move_while_a_part_of_a_record_is_missing() {
    for cut in [1, 4, 5, 6, 500] {
        let (session, mut peer) = shaken(&TLS13, b"first");
        peer.connection.writer().write_all(&[b'x'; 1000]).unwrap();
        let mut record = Vec::new();
        peer.connection.write_tls(&mut record).unwrap();
        let mut session = session;
        session.unread.extend_from_slice(&record[..cut]);
        let (mut session, place) = stays(session, &Kernel::ALL);
        assert_eq!((place, session.unread.len()), (TlsPlace::Unfinished, cut));
        assert!(session.since().is_some(), "the rest of it has its time");
        assert_eq!(content(&mut session), b"first");
        peer.socket.write_all(&record[cut..]).unwrap();
        assert_eq!(content(&mut session), [b'x'; 1000]);
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_connection_does_not_move_after_a_goodbye_or_an_error_or_before_all_was_sent() {
    let (session, mut peer) = shaken(&TLS13, b"content");
    let mut session = session;
    peer.connection.send_close_notify();
    peer.connection.write_tls(&mut session.unread).unwrap();
    let (mut session, place) = stays(session, &Kernel::ALL);
    assert_eq!((place, content(&mut session)), (TlsPlace::Unfinished, b"content".to_vec()));

    let (mut session, _peer) = shaken(&TLS13, b"");
    session.unread = b"\x17\x03\x03\0\x20".iter().copied().chain([7; 32]).collect();
    let (session, place) = stays(session, &Kernel::ALL);
    assert!(place == TlsPlace::Unfinished && session.failure().is_some());

    let (mut session, _peer) = shaken(&TLS13, b"");
    session.held = vec![0; 4 << 20];
    let (session, place) = stays(session, &Kernel::ALL);
    assert!(place == TlsPlace::Unfinished && session.held() > 0);
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_client_with_new_keys_before_the_move_stays() {
    // Behind the handshake, and together with its end.
    for is_early in [false, true] {
        let (session, mut peer) = if is_early {
            shaken_as(rustls::crypto::aws_lc_rs::default_provider(), &TLS13, b"", |connection| {
                connection.refresh_traffic_keys().unwrap();
            })
        } else {
            let (mut session, mut peer) = shaken(&TLS13, b"");
            peer.connection.refresh_traffic_keys().unwrap();
            while peer.connection.wants_write() {
                peer.connection.write_tls(&mut session.unread).unwrap();
            }
            (session, peer)
        };
        peer.connection.writer().write_all(b"with new keys").unwrap();
        peer.send();
        let (mut session, place) = stays(session, &Kernel::ALL);
        assert_eq!(place, TlsPlace::Unfinished, "{is_early}");
        while content(&mut session) != b"with new keys" {}
        // The answer to the new keys comes with the next content.
        assert_eq!(session.write(&[IoSlice::new(b"x")], &mut Vec::new()), Ok(1));
        peer.receive();
        let mut byte = [0];
        assert!(peer.connection.reader().read(&mut byte).is_ok() && byte == *b"x", "{is_early}");
    }
}
