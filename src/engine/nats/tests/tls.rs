//! Encrypted connections.

use super::servers::Server;
use super::{connected, options, refused};
use crate::engine::nats::Settings;
use crate::engine::shared::certificates::{Authority, Signed};
use crate::engine::shared::contract_tests::run;

#[test]
fn certificates_are_checked_on_both_sides() {
    run(async {
        let (ca, other) = (Authority::new("ca"), Authority::new("other"));
        let of_server = ca.sign("server", &["127.0.0.1"]);
        let (hub, stranger) = (ca.sign("hub", &["hub"]), other.sign("stranger", &["hub"]));
        let mut server = Server::alone("");
        server.kill();
        server.configure(&format!(
            "jetstream {{ store_dir: \"FOLDER/alone\" }}\n\
             tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true }}",
            of_server.pem, of_server.key, ca.pem
        ));
        server.start();
        let settings = |ca: &Authority, own: &Signed| {
            let url = format!("tls://127.0.0.1:{}?ca={}&cert={}&key={}", server.port, ca.pem, own.pem, own.key);
            Settings::parse(&url, &options("tls")).unwrap()
        };
        connected(&settings(&ca, &hub), 1).await;
        let why = refused(&settings(&other, &hub)).await;
        assert!(why.contains("invalid peer certificate"), "{why}");
        let why = refused(&settings(&ca, &stranger)).await;
        assert!(why.contains("127.0.0.1") && !why.contains("did not answer"), "{why}");
        // A file may be gone later.
        let missing = ca.sign("missing", &["hub"]);
        let of_missing = settings(&ca, &missing);
        std::fs::remove_file(&missing.pem).unwrap();
        let why = refused(&of_missing).await;
        assert!(why.contains("TLS with the NATS server") && why.contains("No such file"), "{why}");
        // A URL without encryption: the server wants it, and the system does not know who signed its certificate.
        let plain = Settings::parse(&server.url(), &options("tls")).unwrap();
        assert!(refused(&plain).await.contains("certificate"));
    });
}
