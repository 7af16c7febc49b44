//! The control API: publishing and looking, over HTTP, on listeners of its own. Few connections, any clients: this is
//! hyper's.

mod io;
mod parameters;
pub(crate) mod publishing;
mod routes;

use crate::api::Api;
use crate::context::client::Client;
use crate::error::Error;
use crate::limits::Peer;
use crate::listeners::Bound;
use crate::log::Level;
use crate::metrics::Reason;
use crate::runtime::{self, Work};
use crate::sys::socket;
use crate::sys::watched::watch;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use io::Socket;
use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::sync::{watch, Semaphore};

/// Connections at once.
const MAX_CONNECTIONS: usize = 256;
/// How long the requests under way may take at most when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a client may take to send a request's body.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Set when the server stops: how long the requests under way may take.
type Stop = Option<Duration>;

/// A running control API, to be stopped.
#[derive(Debug)]
pub(crate) struct Control {
    stop: watch::Sender<Option<Duration>>,
}

/// What its thread does.
struct Run {
    api: Arc<Api>,
    listeners: Vec<(Arc<OwnedFd>, bool)>,
    stop: watch::Receiver<Stop>,
}

impl Control {
    /// The control API, and its thread's work. The runtime is made here, where its errors can be told.
    pub(crate) fn new(api: Arc<Api>, bound: &[Bound]) -> Result<(Self, Work), Error> {
        let (stop, stopped) = watch::channel(None);
        let is_tcp = |bound: &Bound| matches!(bound.address, crate::config::Address::Tcp(_));
        let listeners = bound.iter().map(|bound| (bound.socket(0), is_tcp(bound))).collect();
        let run = Run { api, listeners, stop: stopped };
        let runtime = runtime::single()?;
        let work = Box::new(move || {
            runtime.block_on(run.serve());
            // What did not end in time is dropped, and with it its connections.
            drop(runtime);
        });
        Ok((Control { stop }, work))
    }

    /// Accepts nothing any more; requests under way are answered.
    pub(crate) fn stop(&self, drain: Duration) {
        let _ = self.stop.send(Some(drain.min(STOP_TIMEOUT)));
    }
}

impl Run {
    async fn serve(self) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        for (listener, tcp) in self.listeners {
            tokio::spawn(accept(listener, tcp, self.api.clone(), room.clone(), self.stop.clone()));
        }
        let mut stop = self.stop.clone();
        let drain = stop.wait_for(Option::is_some).await.map_or(STOP_TIMEOUT, |drain| drain.unwrap_or(STOP_TIMEOUT));
        // Connections end by themselves once stopped: each holds a place.
        let _ = tokio::time::timeout(drain, room.acquire_many(MAX_CONNECTIONS as u32)).await;
    }
}

async fn accept(listener: Arc<OwnedFd>, tcp: bool, api: Arc<Api>, room: Arc<Semaphore>, stop: watch::Receiver<Stop>) {
    let Ok(listener) = watch(listener, Interest::READABLE) else { return };
    loop {
        let next = async {
            let place = room.clone().acquire_owned().await;
            (place, listener.async_io(Interest::READABLE, |fd| socket::accept(fd.fd())).await)
        };
        match io::first(next, stopped(stop.clone())).await {
            None => return,
            Some((place, Ok(fd))) => {
                let (api, stop) = (api.clone(), stop.clone());
                tokio::spawn(async move {
                    connection(fd, tcp, api, stop).await;
                    drop(place);
                });
            }
            // Out of descriptors, not allowed to, or a client that left again: none is worth a busy loop.
            Some((_, Err(error))) => {
                if error.kind() != std::io::ErrorKind::ConnectionAborted {
                    let text = format_args!("control API: accept: {error}");
                    api.note_refusal(Client::default(), Level::Warn, Reason::Resources, text);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn stopped(mut stop: watch::Receiver<Stop>) {
    drop(stop.wait_for(Option::is_some).await);
}

async fn connection(fd: OwnedFd, tcp: bool, api: Arc<Api>, stop: watch::Receiver<Stop>) {
    let client = Peer::last_of(&fd).map_or_else(Client::default, Client::at);
    let Ok(socket) = Socket::new(fd) else { return };
    let service = service_fn(|request| {
        let api = api.clone();
        async move { Ok::<_, Infallible>(routes::answer(&api, tcp, client, request).await) }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(30))
        .max_headers(64)
        // A client may end its side once it has asked.
        .half_close(true)
        // A vectored write would raise SIGPIPE.
        .writev(false)
        .serve_connection(socket, service);
    let ended = match io::first(&mut connection, stopped(stop.clone())).await {
        Some(ended) => ended,
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    // What is no request hyper answers itself.
    if let Some(error) = ended.err().filter(hyper::Error::is_parse) {
        let large = if error.is_parse_too_large() { ": its head is too large" } else { "" };
        let text = format_args!("control API: no request of HTTP{large}");
        api.note_refusal(client, Level::Info, Reason::Control, text);
    }
    io::first(connection.into_parts().io.linger(), stopped(stop)).await;
}
