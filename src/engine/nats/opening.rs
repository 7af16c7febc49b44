//! From the settings to a session: one server after the other is tried, and what it is gets checked.

use super::super::shared::connection::Failure;
use super::super::shared::tls::Tls;
use super::session::{Names, Session};
use super::settings::{Settings, Who};
use super::words::SUBJECTS;
use async_nats::{rustls, Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, ServerError, ServerInfo};
use std::error::Error;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Batches that are atomic and know duplicates.
const VERSION: (u32, u32, u32) = (2, 12, 1);

/// What a connection that was made says of itself later.
pub(super) struct Complaints {
    /// Why its connection is of no use any more.
    pub(super) lost: mpsc::Receiver<Failure>,
    /// What the server refuses about the words between hubs, over their own connection.
    pub(super) of_words: mpsc::Receiver<Failure>,
}

/// The servers to try, in their order, beginning at another one each time.
pub(super) fn order(settings: &Settings, turn: usize) -> impl Iterator<Item = &(String, u16)> {
    let servers = &settings.servers;
    (0..servers.len()).map(move |at| &servers[(turn + at) % servers.len()])
}

/// Connects to one server.
pub(super) async fn open(
    settings: &Settings,
    server: &(String, u16),
    hub: u64,
) -> Result<(Session, Complaints), Failure> {
    let (client, complaints) = connect(settings, server, |options| options).await?;
    let (info, server) = (client.server_info(), shown(server));
    check(&info, &server)?;
    let names = Names::new(&settings.options.namespace, hub);
    let process = info.server_id;
    Ok((Session { client, server, process, timeout: settings.options.timeout, names }, complaints))
}

/// Makes a connection to one server. `bounded`: what it has other options for.
pub(super) async fn connect(
    settings: &Settings,
    server: &(String, u16),
    bounded: impl FnOnce(ConnectOptions) -> ConnectOptions,
) -> Result<(Client, Complaints), Failure> {
    let shown = shown(server);
    let ((complain, lost), (complain_of_words, of_words)) = (mpsc::channel(4), mpsc::channel(4));
    let options = bounded(options(settings, &shown, complain, complain_of_words)?);
    let scheme = if settings.tls.is_some() { "tls" } else { "nats" };
    let connecting = options.connect(format!("{scheme}://{shown}"));
    let client = connecting.await.map_err(|error| refused(&shown, settings, &error))?;
    Ok((client, Complaints { lost, of_words }))
}

/// A server, as sentences name it.
pub(super) fn shown((host, port): &(String, u16)) -> String {
    format!("{host}:{port}")
}

fn options(
    settings: &Settings,
    shown: &str,
    complain: mpsc::Sender<Failure>,
    complain_of_words: mpsc::Sender<Failure>,
) -> Result<ConnectOptions, Failure> {
    let server = shown.to_owned();
    let heard = move |event: Event| {
        let why = match event {
            Event::ServerError(ServerError::Other(why)) if why.contains(SUBJECTS) => {
                let why = format!("the NATS server {server} refuses messages between hubs: {why}");
                let _ = complain_of_words.try_send(Failure(why));
                None
            }
            Event::Disconnected | Event::Closed => Some("is lost".to_owned()),
            Event::LameDuckMode => Some("ends: the server is about to stop".to_owned()),
            Event::ServerError(ServerError::Other(why)) => Some(format!("got an error: {why}")),
            Event::ServerError(ServerError::AuthorizationViolation) => Some("is no longer allowed".to_owned()),
            _ => None,
        };
        if let Some(why) = why {
            // The first one counts.
            let _ = complain.try_send(Failure(format!("the connection to the NATS server {server} {why}")));
        }
        std::future::ready(())
    };
    let options = ConnectOptions::new()
        .name("libpush")
        .connection_timeout(settings.options.timeout)
        .ignore_discovered_servers()
        .retain_servers_order()
        // A connection that is lost stays lost: what comes next has to be sure that the log is the same.
        .max_reconnects(1)
        .event_callback(heard);
    let options = match &settings.who {
        Who::Anyone => options,
        Who::Token(token) => options.token(token.clone()),
        Who::User(user, password) => options.user_and_password(user.clone(), password.clone()),
        Who::Nkey(seed) => options.nkey(seed.clone()),
        // Its error would show what is in there.
        Who::Credentials(text) => options.credentials(text).map_err(|_| {
            Failure("the `credentials` of the NATS URL are not those that NATS makes: a JWT and a seed".to_owned())
        })?,
    };
    Ok(match &settings.tls {
        None => options,
        Some(Tls { ca, own }) => {
            // The one cryptography, whichever others the crates of this build could have. It may be set already.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            let options = options.require_tls(true);
            let options = ca.iter().fold(options, |options, ca| options.add_root_certificates(ca.into()));
            own.iter().fold(options, |options, (cert, key)| options.add_client_certificate(cert.into(), key.into()))
        }
    })
}

pub(super) fn late(server: &(String, u16), limit: Duration) -> Failure {
    Failure(format!("the NATS server {} did not answer within {limit:.1?}", shown(server)))
}

fn refused(shown: &str, settings: &Settings, error: &ConnectError) -> Failure {
    let mut cause: &dyn Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Failure(match error.kind() {
        ConnectErrorKind::AuthorizationViolation => {
            format!("the NATS server {shown} does not know this user, password, token or key")
        }
        ConnectErrorKind::Authentication => format!("the nkey or the credentials can't be used: {cause}"),
        ConnectErrorKind::Dns => format!("the NATS server {shown} has no address: {cause}"),
        ConnectErrorKind::TimedOut => {
            format!("the NATS server {shown} did not answer within {:.1?}", settings.options.timeout)
        }
        ConnectErrorKind::Tls => format!("TLS with the NATS server {shown} fails: {cause}"),
        _ => format!("the NATS server {shown} can't be reached: {cause}"),
    })
}

fn check(info: &ServerInfo, shown: &str) -> Result<(), Failure> {
    let (major, minor, patch) = VERSION;
    match version(&info.version) {
        Some(version) if version >= VERSION => {}
        _ => {
            let is: String = info.version.chars().filter(|char| !char.is_control()).take(32).collect();
            return Err(Failure(format!(
                "the NATS server {shown} has version {is}, and at least {major}.{minor}.{patch} is needed"
            )));
        }
    }
    match info.headers {
        true => Ok(()),
        false => Err(Failure(format!("the NATS server {shown} does not allow headers (no_header_support)"))),
    }
}

/// `2.12.1-beta.2` is 2.12.1.
fn version(text: &str) -> Option<(u32, u32, u32)> {
    let mut parts = text.split(['.', '-', '+']).map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?))
}

/// Ends what a session has with its server, soon.
pub(super) async fn close(client: &Client, wait: Duration) {
    let _ = timeout(wait, client.drain()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_too_old_is_named() {
        assert_eq!(version("2.12.1-beta.2"), Some((2, 12, 1)));
        assert_eq!(version("2"), None);
        let checked = |text: &str| {
            let info = ServerInfo { version: text.to_owned(), headers: true, ..ServerInfo::default() };
            check(&info, "h:1").map_err(|why| why.0)
        };
        assert_eq!(checked("2.15.0"), Ok(()));
        let old = "the NATS server h:1 has version 2.11.9, and at least 2.12.1 is needed";
        assert_eq!(checked("2.11.9"), Err(old.to_owned()));
        assert!(checked("").unwrap_err().contains("has version ,"));
    }
}
