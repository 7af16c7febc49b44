//! The options of a server and its clients, without certificates in files.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{default_provider, kx_group, sign};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme};
use std::sync::{Arc, LazyLock};

/// The options of both sides, made once, with a client for each version.
pub(super) static CONFIGS: LazyLock<(Arc<ServerConfig>, [Arc<ClientConfig>; 2])> = LazyLock::new(|| {
    use aws_lc_rs::signature::{EcdsaKeyPair, ECDSA_P256_SHA256_ASN1_SIGNING};
    let mut provider = default_provider();
    provider.kx_groups = vec![kx_group::X25519];
    let provider = Arc::new(provider);
    let random = aws_lc_rs::rand::SystemRandom::new();
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).expect("a key");
    let key = sign::any_ecdsa_type(&PrivatePkcs8KeyDer::from(key.as_ref()).into()).expect("a key that signs");
    // The client looks at no certificate, so any bytes are one.
    let pair = CertifiedKey::new(vec![CertificateDer::from(vec![0x30, 0])], key);
    let server = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let resolver = Arc::new(SingleCertAndKey::from(pair));
    let server = server.expect("versions").with_no_client_auth().with_cert_resolver(resolver);
    let clients = [&TLS12, &TLS13].map(|version| {
        let client = ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[version]);
        let client = client.expect("versions").dangerous();
        Arc::new(client.with_custom_certificate_verifier(Arc::new(Anybody(provider.clone()))).with_no_client_auth())
    });
    (server.into(), clients)
});

/// Takes every certificate for the right one.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
