//! TLS to the control API: whom to trust, and who pushctl is.

use super::hub::Address;

/// What the flags and the environment say of it.
#[derive(Debug, Default)]
#[cfg_attr(not(feature = "tls"), allow(dead_code))] // an address with TLS is refused before
pub(super) struct Asked {
    /// A file with the authorities to trust. `None`: those of the system.
    pub(super) ca: Option<String>,
    /// Files with the own certificate, and its key.
    pub(super) cert: Option<String>,
    pub(super) cert_key: Option<String>,
    /// The name in the hub's certificate. `None`: the host of the address.
    pub(super) server_name: Option<String>,
}

#[cfg(feature = "tls")]
pub(super) use secure::Secure;

#[cfg(feature = "tls")]
mod secure {
    use super::{Address, Asked};
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::pem::{self, PemObject};
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use std::io;
    use std::sync::Arc;
    use tokio::net::TcpStream;
    use tokio_rustls::client::TlsStream;
    use tokio_rustls::TlsConnector;

    /// What a connection is made with.
    pub(in super::super) struct Secure {
        connector: TlsConnector,
        name: ServerName<'static>,
    }

    impl Secure {
        /// Reads the files. The error says what is wrong with which of them.
        pub(in super::super) fn new(address: &Address, asked: Asked) -> Result<Self, String> {
            let name = asked.server_name.or_else(|| address.host().map(str::to_owned)).unwrap_or_default();
            let name = ServerName::try_from(name.clone()).map_err(|_| format!("{name:?} is no name of a server"))?;
            let roots = match &asked.ca {
                Some(file) => authorities(file)?,
                None => of_the_system()?,
            };
            let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
            let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
            let builder = builder.with_root_certificates(roots);
            let mut config = match (&asked.cert, &asked.cert_key) {
                (None, None) => builder.with_no_client_auth(),
                (Some(cert), Some(key)) => builder
                    .with_client_auth_cert(certificates(cert)?, private_key(key)?)
                    .map_err(|error| format!("certificate {cert} with key {key}: {error}"))?,
                _ => return Err("--cert and --cert-key belong together".to_owned()),
            };
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Ok(Secure { connector: Arc::new(config).into(), name })
        }

        /// Does the handshake.
        pub(in super::super) async fn begin(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
            self.connector.connect(self.name.clone(), stream).await
        }
    }

    fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
        let found = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        match found {
            Ok(found) if found.is_empty() => Err(format!("file {file}: it has no certificate in PEM")),
            found => found.map_err(|error| wrong(file, &error)),
        }
    }

    fn private_key(file: &str) -> Result<PrivateKeyDer<'static>, String> {
        PrivateKeyDer::from_pem_file(file).map_err(|error| match error {
            pem::Error::NoItemsFound => format!("file {file}: it has no private key in PEM without a passphrase"),
            error => wrong(file, &error),
        })
    }

    fn authorities(file: &str) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(file)? {
            roots.add(certificate).map_err(|error| format!("file {file}: {error}"))?;
        }
        Ok(roots)
    }

    fn of_the_system() -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if !roots.is_empty() {
            return Ok(roots);
        }
        let why = found.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
        Err(format!("this system trusts no authorities{why}: --ca names a file with those to trust"))
    }

    /// The parser's own error does not repeat what the file has.
    fn wrong(file: &str, error: &pem::Error) -> String {
        match error {
            pem::Error::Io(error) => format!("file {file}: {error}"),
            error => format!("file {file}: {error}"),
        }
    }
}

/// There is none in this build.
#[cfg(not(feature = "tls"))]
pub(super) enum Secure {}

#[cfg(not(feature = "tls"))]
impl Secure {
    pub(super) fn new(address: &Address, _: Asked) -> Result<Self, String> {
        Err(format!("{address}: this pushctl was built without TLS"))
    }

    pub(super) async fn begin(&self, _: tokio::net::TcpStream) -> std::io::Result<tokio::net::TcpStream> {
        match *self {}
    }
}
