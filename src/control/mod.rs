//! The control API: publishing and queries over HTTP, on its own listeners. It has few connections but must serve any
//! HTTP client, so it uses hyper.

mod body;
mod connections;
#[cfg(feature = "console")]
mod console;
mod ending;
mod everyone;
mod guesses;
mod hosts;
mod io;
mod messages;
mod options;
mod pages;
#[cfg(test)]
mod panic_tests;
mod parameters;
mod places;
pub(crate) mod publishing;
mod routes;
mod rows;
mod tail;
#[cfg(feature = "tls")]
mod tls;

use crate::api::Api;
use crate::config::Address;
#[cfg(feature = "console")]
use crate::config::Config;
use crate::context::client::Client;
use crate::error::Error;
use crate::http::refusal::Refusal;
use crate::limits::Peer;
use crate::listeners::Bound;
use crate::log::Level;
use crate::metrics::Reason;
use crate::runtime::{self, Work};
use crate::sys::socket;
use crate::sys::watched::watch;
use http_body_util::Either;
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use io::{Channel, Socket};
use places::{Place, Places, PLACES};
use routes::{Caller, Desk};
use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
#[cfg(feature = "tls")]
use tls::Secure;
use tokio::io::Interest;
use tokio::sync::watch;

/// The largest request head. It is kept before the key is checked. The longest URL that hyper reads has 64 KB.
const MAX_HEAD: usize = 128 << 10;
/// The longest time that requests in progress get when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection may be idle between two requests. The first one has `head_timeout`.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take to send a request's body.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Told to a client whose connection began before a reload.
const OUTDATED: &str = "the authorities (option tls_client_ca) have changed since this connection began: connect again";

/// Set when the server stops: the time that requests in progress get.
type Stop = Option<Duration>;

/// A running control API. This handle stops it.
#[derive(Debug)]
pub(crate) struct Control {
    stop: watch::Sender<Option<Duration>>,
    /// Counts the times when the authorities of clients became others.
    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    authorities: watch::Sender<u64>,
    #[cfg(feature = "console")]
    sessions: Arc<console::Sessions>,
}

/// The work of its thread.
struct Run {
    desk: Arc<Desk>,
    listeners: Vec<(Arc<OwnedFd>, Door)>,
    ends: Ends,
}

/// The ends of connections.
#[derive(Debug, Clone)]
struct Ends {
    stop: watch::Receiver<Stop>,
    authorities: watch::Receiver<u64>,
}

impl Ends {
    /// Waits until the server stops.
    async fn stopped(mut self) {
        drop(self.stop.wait_for(Option::is_some).await);
    }

    /// Waits until the server stops, or a client of TLS may no longer be one that may connect.
    async fn come(self, door: Door) {
        let mut authorities = self.authorities.clone();
        match door.tls {
            // An error: the server is gone.
            true => drop(io::first(async { authorities.changed().await.is_ok() }, self.stopped()).await),
            false => self.stopped().await,
        }
    }

    /// Whether the authorities are others than when the connection began.
    fn is_outdated(&self, door: Door) -> bool {
        door.tls && self.authorities.has_changed().unwrap_or(false)
    }
}

/// The kind of a listener.
#[derive(Debug, Clone, Copy)]
struct Door {
    tcp: bool,
    tls: bool,
    /// 0 for a Unix socket.
    port: u16,
    /// Only this machine reaches it, and a page of any site could do so by a name of its own. With TLS it can't: there
    /// is no certificate for that name.
    local: bool,
}

impl Door {
    fn of(bound: &Bound) -> Self {
        let port = match &bound.address {
            Address::Tcp(address) | Address::Tls(address) => address.port(),
            Address::Unix(_) => 0,
        };
        let local = match &bound.address {
            Address::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Address::Tls(_) => false,
            Address::Unix(_) => true,
        };
        Door { tcp: !matches!(bound.address, Address::Unix(_)), tls: bound.is_tls(), port, local }
    }
}

impl Control {
    /// The control API, and the work of its thread. The runtime is made here, where errors can be reported.
    pub(crate) fn new(api: Arc<Api>, bound: &[Bound]) -> Result<(Self, Work), Error> {
        let (stop, stopped) = watch::channel(None);
        let (authorities, changed) = watch::channel(0);
        let ends = Ends { stop: stopped, authorities: changed };
        let listeners = bound.iter().map(|bound| (bound.socket(0), Door::of(bound))).collect();
        let desk = Arc::new(Desk::new(api));
        #[cfg(feature = "console")]
        let sessions = desk.sessions.clone();
        let run = Run { desk, listeners, ends };
        let runtime = runtime::single()?;
        let work = Box::new(move || {
            runtime.block_on(run.serve());
            // Work that did not end in time is dropped, and its connections with it.
            drop(runtime);
        });
        let control = Control {
            stop,
            authorities,
            #[cfg(feature = "console")]
            sessions,
        };
        Ok((control, work))
    }

    /// Ends the connections of TLS clients, which may have certificates of an authority that is none any more. Requests
    /// in progress are answered.
    #[cfg(feature = "tls")]
    pub(crate) fn end_secure(&self) {
        self.authorities.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Ends the sessions of the console that the options, which have just changed, no longer allow. They don't come back
    /// if the options do.
    #[cfg(feature = "console")]
    pub(crate) fn end_sessions(&self, config: &Config) {
        self.sessions.end_over(config);
    }

    /// Accepts no more connections. Requests in progress are answered.
    pub(crate) fn stop(&self, drain: Duration) {
        let _ = self.stop.send(Some(drain.min(STOP_TIMEOUT)));
    }
}

impl Run {
    async fn serve(self) {
        let places = Arc::new(Places::default());
        for (listener, door) in self.listeners {
            let (desk, places, ends) = (self.desk.clone(), places.clone(), self.ends.clone());
            tokio::spawn(async move {
                let api = desk.api.clone();
                if let Err(said) = io::caught(accept(listener, door, desk, places, ends)).await {
                    let text = "no more connections come through this listener";
                    api.note_panic(format_args!("control API: a bug in the library was caught: {said}; {text}"));
                }
            });
        }
        let mut stop = self.ends.stop.clone();
        let drain = stop.wait_for(Option::is_some).await.map_or(STOP_TIMEOUT, |drain| drain.unwrap_or(STOP_TIMEOUT));
        // Each connection holds a place, and ends by itself after the stop.
        let _ = tokio::time::timeout(drain, places.all_free()).await;
    }
}

async fn accept(listener: Arc<OwnedFd>, door: Door, desk: Arc<Desk>, places: Arc<Places>, ends: Ends) {
    let Ok(listener) = watch(listener, Interest::READABLE) else { return };
    loop {
        let next = async {
            let fd = listener.async_io(Interest::READABLE, |fd| socket::accept(fd.fd())).await?;
            let place = enter(&places, &fd, &desk.api).await;
            Ok::<_, std::io::Error>((fd, place))
        };
        match io::first(next, ends.clone().stopped()).await {
            None => return,
            Some(Ok((fd, place))) => {
                let (desk, ends) = (desk.clone(), ends.clone());
                tokio::spawn(async move {
                    let api = desk.api.clone();
                    if let Err(said) = io::caught(connection(fd, door, desk, ends, &place)).await {
                        api.note_panic(format_args!(
                            "control API: a bug in the library was caught: {said}; its connection is closed"
                        ));
                    }
                });
            }
            // The process has no descriptors left, accept(2) is not allowed, or the client has gone again. The pause
            // prevents a busy loop.
            Some(Err(error)) => {
                if error.kind() != std::io::ErrorKind::ConnectionAborted {
                    let text = format_args!("control API: accept: {error}");
                    desk.api.note_refusal(Client::default(), Level::Warn, Reason::Resources, text);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// A place for a connection. While all others have requests in progress, it waits, and so do those behind it.
async fn enter(places: &Arc<Places>, fd: &OwnedFd, api: &Api) -> Place {
    let address = Peer::of(fd).and_then(Peer::address);
    if let Some(place) = places.try_enter(address) {
        return place;
    }
    let client = Peer::last_of(fd).map_or_else(Client::default, Client::at);
    let text = "requests are in progress, and a connection waits for the end of one";
    api.note_refusal(client, Level::Warn, Reason::Busy, format_args!("control API: {PLACES} {text}"));
    places.enter(address).await
}

/// Serves a connection, unless it has to end before.
async fn connection(fd: OwnedFd, door: Door, desk: Arc<Desk>, ends: Ends, place: &Place) {
    let client = Peer::last_of(&fd).map_or_else(Client::default, Client::at);
    let fd = Arc::new(fd);
    let Ok(socket) = Socket::new(fd.clone()) else { return };
    let head_timeout = Duration::from_millis(desk.api.config().head_timeout_ms);
    let mut why = None;
    let end = async { why = Some(place.must_end(head_timeout).await) };
    io::first(begin(socket, client, door, &desk, ends, place), end).await;
    if let Some((reason, text)) = why {
        desk.api.note_refusal(client, Level::Info, reason, format_args!("control API: {text}"));
        // A forked child may hold the descriptor too; closing ours alone would not end the connection.
        socket::shutdown_both(&fd);
    }
}

#[cfg_attr(not(feature = "tls"), allow(unused_mut))]
async fn begin(socket: Socket, client: Client<'_>, door: Door, desk: &Arc<Desk>, mut ends: Ends, place: &Place) {
    // Later changes are looked for from before the certificates are read.
    #[cfg(feature = "tls")]
    ends.authorities.mark_unchanged();
    #[cfg(feature = "tls")]
    if let Some(config) = door.tls.then(|| desk.api.control_certificates()).flatten() {
        if let Ok(socket) = Secure::new(socket, config) {
            serve(socket, client, door, desk, ends, place).await;
        }
        return;
    }
    serve(socket, client, door, desk, ends, place).await;
}

async fn serve(
    socket: impl Read + Write + Channel + Unpin,
    client: Client<'_>,
    door: Door,
    desk: &Arc<Desk>,
    ends: Ends,
    place: &Place,
) {
    let head_timeout = Duration::from_millis(desk.api.config().head_timeout_ms);
    let from = Caller { client, tcp: door.tcp, tls: door.tls, port: door.port, local: door.local };
    let service = service_fn(|request| {
        let request = routes::addressed(request);
        place.asked(desk.knows(from, &request));
        let desk = desk.clone();
        let is_outdated = ends.is_outdated(door);
        let end = Box::pin(ends.clone().come(door));
        async move {
            let answer = match is_outdated {
                true => routes::refused(&desk.api, client, &Refusal::unavailable("busy", OUTDATED)),
                false => desk.answer(from, request, end).await,
            };
            // A tail goes on.
            if matches!(answer.body(), Either::Left(_)) {
                place.answered();
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT.max(head_timeout))
        .max_headers(64)
        .max_buf_size(MAX_HEAD)
        // A client may close its side after its request.
        .half_close(true)
        // A vectored write would raise SIGPIPE.
        .writev(false)
        .serve_connection(socket, service);
    let mut leaves = false;
    let end = async { leaves = io::first(ends.clone().come(door), place.leaves()).await.is_none() };
    let ended = match io::first(&mut connection, end).await {
        Some(ended) => ended,
        None => {
            if leaves {
                let text = format_args!("control API: {PLACES} connections were open, and this one was idle");
                desk.api.note_refusal(client, Level::Info, Reason::Busy, text);
            }
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    // hyper itself has answered a request that is not valid HTTP. It is only logged here.
    if let Some(error) = ended.err().filter(hyper::Error::is_parse) {
        let large = if error.is_parse_too_large() { ": its head is too large" } else { "" };
        let text = format_args!("control API: the request is not valid HTTP{large}");
        desk.api.note_refusal(client, Level::Info, Reason::Control, text);
    }
    let (socket, failure) = connection.into_parts().io.end();
    if let Some((reason, text)) = failure {
        desk.api.note_refusal(client, Level::Info, reason, format_args!("control API: {text}"));
    }
    io::first(socket.linger(), ends.stopped()).await;
}
