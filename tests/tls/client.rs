//! A client that speaks TLS, and one that says what it likes.

use crate::certificates::Pair;
use crate::common::{take_until, Host, PATIENCE, UPGRADE};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

/// The versions of TLS.
pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// The options of a client that trusts a certificate, and has one itself or none.
pub fn config(trusted: &Pair, own: Option<&Pair>, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let builder = builder.with_root_certificates(roots);
    match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let key = PrivateKeyDer::try_from(own.key_der.clone()).unwrap();
            builder.with_client_auth_cert(vec![own.der.clone()], key).unwrap()
        }
    }
}

/// The address of a server's first listener with TLS.
pub fn address(host: &Host) -> String {
    let secure = host.server.addresses().iter().find_map(|address| address.strip_prefix("tls:"));
    secure.unwrap().to_owned()
}

/// A connection over TLS that sends and reads bytes.
pub struct Client {
    pub tls: StreamOwned<ClientConnection, TcpStream>,
    read: Vec<u8>,
}

impl Client {
    pub fn connect(address: &str, name: &str, config: &Arc<ClientConfig>) -> Self {
        Client::over(TcpStream::connect(address).unwrap(), name, config)
    }

    pub fn over(stream: TcpStream, name: &str, config: &Arc<ClientConfig>) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connection = ClientConnection::new(config.clone(), name).unwrap();
        Client { tls: StreamOwned::new(connection, stream), read: Vec::new() }
    }

    /// A WebSocket client of the channel a, which the server has let in.
    pub fn websocket(host: &Host, config: &Arc<ClientConfig>) -> Self {
        let mut client = Client::connect(&address(host), "localhost", config).get("channel=a", UPGRADE);
        let head = client.until("\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        client
    }

    /// Sends a request for the subscribers' URL.
    pub fn get(mut self, query: &str, lines: &str) -> Self {
        self.send(format!("GET /push?{query} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n").as_bytes());
        self
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.tls.write_all(bytes).unwrap();
    }

    /// Reads until `end`, and returns the text before it.
    pub fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(text) = take_until(&mut self.read, end) {
                return text;
            }
            assert!(self.fill().unwrap(), "the server ended; {end:?} is not in {:?}", self.read);
        }
    }

    /// Reads this many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            assert!(self.fill().unwrap(), "the server ended");
        }
        self.read.drain(..count).collect()
    }

    /// Reads everything until the server ends the connection. That it does so without a goodbye is an error.
    pub fn rest(&mut self) -> Result<String, ErrorKind> {
        while self.fill()? {}
        Ok(String::from_utf8_lossy(&std::mem::take(&mut self.read)).into_owned())
    }

    /// Reads more. False: the end.
    fn fill(&mut self) -> Result<bool, ErrorKind> {
        let mut chunk = [0; 65_536];
        let len = self.tls.read(&mut chunk).map_err(|error| error.kind())?;
        self.read.extend_from_slice(&chunk[..len]);
        Ok(len > 0)
    }
}

/// What a server answers to bytes, until it ends the connection.
pub fn answer_to(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The server may have closed already.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    answer
}

impl Client {
    /// Whether an answer comes, and not the end.
    pub fn rest_is_answered(&mut self) -> bool {
        while !self.read.starts_with(b"HTTP/1.1 200 ") {
            if !matches!(self.fill(), Ok(true)) {
                return false;
            }
        }
        true
    }
}
