//! tls-floor: the least that a single-threaded push server over TLS can do, as `load/floor.c` is without. The CPU time of
//! real servers is compared with it.
//!
//! It shakes hands, answers a WebSocket with a constant and anything else as an SSE subscriber, and takes `POST /pub`
//! without TLS at a port of its own. On a POST each subscriber gets a frame that is made once: the same TLS library
//! encrypts it into the same buffer for each, with the settings of libpush's listeners, and it goes out with one bare
//! `send`. There are no queues, no backpressure and no history. If the kernel does not take a record as a whole, its
//! connection is spoilt, and the load generator says so.
//!
//!     tls-floor PORT PUBLISH_PORT CERTIFICATE KEY

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::ServerConfig;
use slab::Slab;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// It ends after this time if its parent is gone.
const LIFETIME: Duration = Duration::from_secs(3600);
const MOST_PAYLOAD: usize = 65_535;
/// Room for an encrypted frame: 16 KB of content are one record, which adds less than 256 bytes.
const ROOM: usize = (MOST_PAYLOAD / 16_384 + 2) * (16_384 + 256);

const SUBSCRIBERS: Token = Token(0);
const PUBLISHERS: Token = Token(1);
/// The tokens of connections follow: an even one is a subscriber, an odd one a publisher.
const FIRST: usize = 2;

const UPGRADED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const STREAM: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
const PUBLISHED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, publish_port, certificate, key] = &arguments[..] else {
        // `cargo bench` runs all benchmarks, this one without its arguments.
        println!("tls-floor PORT PUBLISH_PORT CERTIFICATE KEY");
        return;
    };
    let mut floor = Floor::new(config(certificate, key), listener(port), listener(publish_port));
    let (began, mut events) = (Instant::now(), Events::with_capacity(512));
    while let Some(left) = LIFETIME.checked_sub(began.elapsed()) {
        match floor.poll.poll(&mut events, Some(left)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => panic!("{error}"),
            _ => events.iter().for_each(|event| floor.ready(event.token())),
        }
    }
}

fn listener(port: &str) -> TcpListener {
    let port = port.parse().expect("a port");
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap()
}

/// The settings of libpush's listeners, without what they do not share with others: several certificates, and tickets
/// that are good for days.
fn config(certificate: &str, key: &str) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let builder = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into());
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.ticketer = Ticketer::new().unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ignore_client_order = true;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.into()
}

struct Floor {
    poll: Poll,
    config: Arc<ServerConfig>,
    subscribers: TcpListener,
    publishers: TcpListener,
    clients: Slab<Client>,
    sources: Slab<Source>,
    websockets: Vec<usize>,
    streams: Vec<usize>,
    scratch: Vec<u8>,
    content: Vec<u8>,
}

/// A connection with TLS.
struct Client {
    socket: TcpStream,
    tls: UnbufferedServerConnection,
    /// A part of a record, or of a handshake's message.
    unread: Vec<u8>,
    /// What the handshake has to say.
    held: Vec<u8>,
    subscribes: bool,
}

/// A connection that publishes.
struct Source {
    socket: TcpStream,
    request: Vec<u8>,
}

struct Gone;

impl Floor {
    fn new(config: Arc<ServerConfig>, mut subscribers: TcpListener, mut publishers: TcpListener) -> Self {
        let poll = Poll::new().unwrap();
        poll.registry().register(&mut subscribers, SUBSCRIBERS, Interest::READABLE).unwrap();
        poll.registry().register(&mut publishers, PUBLISHERS, Interest::READABLE).unwrap();
        Floor {
            poll,
            config,
            subscribers,
            publishers,
            clients: Slab::new(),
            sources: Slab::new(),
            websockets: Vec::new(),
            streams: Vec::new(),
            scratch: vec![0; 1 << 20],
            content: Vec::new(),
        }
    }

    fn ready(&mut self, token: Token) {
        let index = token.0.wrapping_sub(FIRST) / 2;
        match token {
            SUBSCRIBERS => self.accept_subscribers(),
            PUBLISHERS => self.accept_publishers(),
            Token(even) if even % 2 == 0 => {
                if self.hear(index).is_err() {
                    self.clients.try_remove(index);
                    self.websockets.retain(|member| *member != index);
                    self.streams.retain(|member| *member != index);
                }
            }
            _ => {
                if self.take_publishes(index).is_err() {
                    self.sources.try_remove(index);
                }
            }
        }
    }

    fn accept_subscribers(&mut self) {
        while let Ok((mut socket, _)) = self.subscribers.accept() {
            let entry = self.clients.vacant_entry();
            socket.set_nodelay(true).unwrap();
            self.poll.registry().register(&mut socket, Token(FIRST + 2 * entry.key()), Interest::READABLE).unwrap();
            let tls = UnbufferedServerConnection::new(self.config.clone()).unwrap();
            entry.insert(Client { socket, tls, unread: Vec::new(), held: Vec::new(), subscribes: false });
        }
    }

    fn accept_publishers(&mut self) {
        while let Ok((mut socket, _)) = self.publishers.accept() {
            let entry = self.sources.vacant_entry();
            socket.set_nodelay(true).unwrap();
            let token = Token(FIRST + 2 * entry.key() + 1);
            self.poll.registry().register(&mut socket, token, Interest::READABLE).unwrap();
            entry.insert(Source { socket, request: Vec::new() });
        }
    }

    /// Reads what has come from a client.
    fn hear(&mut self, index: usize) -> Result<(), Gone> {
        let client = self.clients.get_mut(index).ok_or(Gone)?;
        self.content.clear();
        loop {
            match client.socket.read(&mut self.scratch) {
                Ok(0) => return Err(Gone),
                Ok(len) => {
                    client.unread.extend_from_slice(&self.scratch[..len]);
                    client.work(&mut self.content)?;
                    // Less than asked for means that there was no more (epoll(7)).
                    if len < self.scratch.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone),
            }
        }
        // Further content of a subscriber, such as a pong, is dropped.
        if client.subscribes || !self.content.starts_with(b"GET ") {
            return Ok(());
        }
        client.subscribes = true;
        let (answer, audience) = match self.content.windows(9).any(|part| part == b"websocket") {
            true => (UPGRADED, &mut self.websockets),
            false => (STREAM, &mut self.streams),
        };
        audience.push(index);
        client.send(answer, &mut self.scratch);
        Ok(())
    }

    /// Reads what has come from a publisher, and does each publish in it.
    fn take_publishes(&mut self, index: usize) -> Result<(), Gone> {
        let source = self.sources.get_mut(index).ok_or(Gone)?;
        loop {
            match source.socket.read(&mut self.scratch) {
                Ok(0) => return Err(Gone),
                Ok(len) => source.request.extend_from_slice(&self.scratch[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone),
            }
        }
        while let Some((payload, end)) = whole_publish(&self.sources[index].request)? {
            let request = &self.sources[index].request;
            let (websocket, event) = (frame(&request[payload..end]), event(&request[payload..end]));
            self.send_to_all(&websocket, &event);
            let source = &mut self.sources[index];
            source.request.drain(..end);
            let _ = source.socket.write(PUBLISHED);
        }
        Ok(())
    }

    fn send_to_all(&mut self, frame: &[u8], event: &[u8]) {
        let Floor { clients, websockets, streams, scratch, .. } = self;
        websockets.iter().for_each(|index| clients[*index].send(frame, scratch));
        streams.iter().for_each(|index| clients[*index].send(event, scratch));
    }
}

impl Client {
    /// Processes the records that have come, and sends what the handshake has to say.
    fn work(&mut self, content: &mut Vec<u8>) -> Result<(), Gone> {
        loop {
            let UnbufferedStatus { mut discard, state } = self.tls.process_tls_records(&mut self.unread);
            let mut goes_on = true;
            match state.map_err(|_| Gone)? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(|_| Gone)?;
                        discard += record.discard;
                        content.extend_from_slice(record.payload);
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    let begins = self.held.len();
                    self.held.resize(begins + 20_000, 0);
                    let len = data.encode(&mut self.held[begins..]).map_err(|_| Gone)?;
                    self.held.truncate(begins + len);
                }
                ConnectionState::TransmitTlsData(data) => {
                    let _ = self.socket.write(&self.held);
                    self.held = Vec::new();
                    data.done();
                }
                ConnectionState::PeerClosed | ConnectionState::Closed => return Err(Gone),
                // It waits for more, or all is done.
                _ => goes_on = false,
            }
            self.unread.drain(..discard);
            if !goes_on {
                if self.unread.is_empty() {
                    self.unread = Vec::new();
                }
                return Ok(());
            }
        }
    }

    /// Encrypts and sends.
    fn send(&mut self, content: &[u8], scratch: &mut [u8]) {
        let UnbufferedStatus { discard, state } = self.tls.process_tls_records(&mut self.unread);
        let sealed = match state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => traffic.encrypt(content, &mut scratch[..ROOM]).ok(),
            _ => None,
        };
        self.unread.drain(..discard);
        if let Some(len) = sealed {
            let _ = self.socket.write(&scratch[..len]);
        }
    }
}

/// Where the payload of the first publish begins and ends, if all of it has come.
fn whole_publish(request: &[u8]) -> Result<Option<(usize, usize)>, Gone> {
    let Some(head) = request.windows(4).position(|part| part == b"\r\n\r\n") else { return Ok(None) };
    let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
    let length = text.split_once("content-length:").and_then(|(_, rest)| rest.split_whitespace().next());
    let length =
        length.and_then(|length| length.parse::<usize>().ok()).filter(|len| *len <= MOST_PAYLOAD).ok_or(Gone)?;
    let (begins, ends) = (head + 4, head + 4 + length);
    Ok((request.len() >= ends).then_some((begins, ends)))
}

fn frame(payload: &[u8]) -> Vec<u8> {
    match payload.len() {
        len @ 0..=125 => [&[0x81, len as u8], payload].concat(),
        len => [&[0x81, 126, (len >> 8) as u8, len as u8], payload].concat(),
    }
}

fn event(payload: &[u8]) -> Vec<u8> {
    [b"data: ", payload, b"\n\n"].concat()
}
