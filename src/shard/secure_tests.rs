//! Connections of tests whose sink is a TLS session.

use super::sink_tests::take_socket;
use super::Shard;
use crate::shard::connection::tls::sink;
use crate::tls::outcome::Handshake;
use crate::tls::session::Session;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, LazyLock};

/// The options of both sides, made once, with a client for each version.
static CONFIGS: LazyLock<(Arc<ServerConfig>, [Arc<ClientConfig>; 2])> = LazyLock::new(|| {
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let provider = Arc::new(default_provider());
    let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let server = server.with_no_client_auth().with_single_cert(vec![pair.cert.der().clone()], key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(pair.cert.der().clone()).unwrap();
    let clients = [&TLS12, &TLS13].map(|version| {
        let client = ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[version]).unwrap();
        Arc::new(client.with_root_certificates(roots.clone()).with_no_client_auth())
    });
    (server.into(), clients)
});

/// Puts a TLS session in the place of the newest connection's socket, and does the handshake. The client's end must not
/// block.
pub(super) fn put_secure(shard: &mut Shard, client: &UnixStream) -> Box<ClientConnection> {
    let (token, fd) = take_socket(shard);
    let (server, clients) = &*CONFIGS;
    let config = clients[token.generation as usize % 2].clone();
    let mut tls = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
    let mut session = Session::new(fd, server.clone(), Vec::new()).unwrap();
    let (mut scratch, mut done) = (Vec::new(), false);
    while !done || tls.is_handshaking() {
        while tls.wants_write() && tls.write_tls(&mut &*client).is_ok() {}
        done = session.shake_hands(&mut scratch).unwrap() == Handshake::Done;
        while tls.wants_read() && tls.read_tls(&mut &*client).is_ok() {
            tls.process_new_packets().unwrap();
        }
    }
    let sink = sink(Box::new(session), &shard.handle);
    shard.side.sinks.insert(token.index, sink);
    Box::new(tls)
}
