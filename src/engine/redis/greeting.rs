//! The first words on a connection: TLS, if the URL wants that, and a question that any Redis answers.
//!
//! A mistake about TLS shows here, before a password has gone out over TLS, and it is said in words of its own. A server
//! that wants a certificate of the hub says so only after the handshake (RFC 8446, section 4.4.2.4). Without a question
//! it would come as an error of whatever is asked first.

use super::super::shared::connection::Failure;
use super::failure::failure;
use redis::make_extension_error;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, Error};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::TlsConnector;

/// The longest answer to the first question.
const MOST: usize = 512;
const QUESTION: &[u8] = b"*1\r\n$4\r\nPING\r\n";
/// A TLS record with an alert begins with that (RFC 8446, section 5.1).
const ALERT: u8 = 21;
/// Errors after which a server ends the connection.
const ENDS: [&str; 2] = ["DENIED", "ERR max number of clients"];

/// What to look at if the server seems to speak no TLS.
pub(super) const IF_PLAIN: &str = "if it speaks no TLS, the URL has to begin with redis, and not with rediss";
const IF_ENCRYPTED: &str = "if it wants TLS, the URL has to begin with rediss";

/// Encrypts a connection. The server's certificate has to be for `host`.
pub(super) async fn encrypted(
    tls: &TlsConnector,
    stream: TcpStream,
    host: &str,
    server: &str,
) -> Result<TlsStream<TcpStream>, Failure> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Failure(format!("no certificate can be for the name of Redis {server}")))?;
    tls.connect(name, stream).await.map_err(|error| match error.get_ref() {
        Some(_) if error.kind() != io::ErrorKind::UnexpectedEof => of_tls(server, &error),
        _ => Failure(format!("Redis {server} has ended the connection at once: {error}; {IF_PLAIN}")),
    })
}

/// Makes sure that a Redis is there. An error that it answers with is found again, and told, with what is asked next.
pub(super) async fn greet<S>(stream: &mut S, server: &str, encrypted: bool) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // If the server has ended the connection already, it may have said why.
    if stream.write_all(QUESTION).await.is_ok() {
        let _ = stream.flush().await;
    }
    let mut said = [0; MOST];
    let mut len = 0;
    while len < MOST && !said[..len].contains(&b'\n') && said[..len].first() != Some(&ALERT) {
        match stream.read(&mut said[len..]).await {
            Ok(0) if encrypted => return Err(Failure(format!("Redis {server} has ended the connection at once"))),
            Ok(0) => return Err(Failure(format!("Redis {server} has ended the connection at once; {IF_ENCRYPTED}"))),
            Ok(more) => len += more,
            Err(error) if encrypted => return Err(of_tls(server, &error)),
            Err(error) => {
                return Err(Failure(format!("the connection to Redis {server} is lost: {error}; {IF_ENCRYPTED}")))
            }
        }
    }
    let strange = || Failure(format!("Redis {server} does not answer as a Redis does"));
    let line = said[..len].strip_suffix(b"\r\n");
    match line.and_then(|line| std::str::from_utf8(line).ok()) {
        Some(line) if line.starts_with('+') => Ok(()),
        Some(line) => match line.strip_prefix('-') {
            Some(error) if ENDS.iter().any(|known| error.starts_with(known)) => {
                let (code, detail) = error.split_once(' ').unwrap_or((error, ""));
                Err(failure(server, &make_extension_error(code.to_owned(), Some(detail.to_owned()))))
            }
            Some(_) => Ok(()),
            None => Err(strange()),
        },
        None if said[0] == ALERT => {
            Err(Failure(format!("Redis {server} speaks TLS: the URL has to begin with rediss")))
        }
        None => Err(strange()),
    }
}

/// The sentence for an error of an encrypted connection.
fn of_tls(server: &str, error: &io::Error) -> Failure {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    Failure(match cause {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => format!(
            "the certificate of Redis {server} is of an authority that is not trusted (ca in the URL names those that are)"
        ),
        Some(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => format!("the certificate of Redis {server} is for other names"),
        Some(Error::InvalidCertificate(_)) => format!("the certificate of Redis {server} is refused: {error}"),
        Some(Error::AlertReceived(AlertDescription::CertificateRequired)) => {
            format!("Redis {server} wants a certificate of the hub (cert and key in the URL)")
        }
        Some(Error::AlertReceived(alert)) if is_about_certificate(*alert) => {
            format!("Redis {server} does not accept the hub's certificate: {error}")
        }
        Some(Error::InvalidMessage(_)) => format!("Redis {server} speaks no TLS: {IF_PLAIN}"),
        Some(error) => format!("TLS with Redis {server} fails: {error}"),
        None => format!("the connection to Redis {server} is lost: {error}"),
    })
}

fn is_about_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError
    )
}
