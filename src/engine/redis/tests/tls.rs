//! Encrypted connections: to one server, to a cluster, through sentinels; and what is said if something about it is
//! wrong.

use super::*;
use crate::engine::contract::Ask;
use crate::engine::shared::certificates::{Authority, Signed};
use crate::engine::shared::contract_tests::ports::free_port;
use crate::engine::shared::contract_tests::{heartbeat, run};
use redis::Value;

/// The names of the servers of these tests.
const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// A server with a port for TLS beside its plain one.
struct Encrypted {
    server: Process,
    port: u16,
}

impl Encrypted {
    fn start(ca: &Authority, own: &Signed, more: &[&str]) -> Self {
        let port = free_port();
        let tls_port = port.to_string();
        let files = ["--tls-cert-file", &own.pem, "--tls-key-file", &own.key, "--tls-ca-cert-file", &ca.pem];
        let arguments = [&["--tls-port", &tls_port][..], &files, more].concat();
        Encrypted { server: Process::start(Program::Redis, &arguments), port }
    }

    /// A URL for it, with more of a query.
    fn url(&self, host: &str, query: &str) -> String {
        format!("rediss://{host}:{}?{query}", self.port)
    }
}

/// Why no connection can be made. On a slow machine the time for all servers may be over before that for one.
async fn refusal(url: &str, timeout: Duration) -> String {
    for _ in 0..20 {
        match connect(&settings(url, timeout), 1).await {
            Ok(_) => panic!("it connects"),
            Err(why) if why.0.contains("no Redis that may have the log has answered") => {}
            Err(why) => return why.0,
        }
    }
    panic!("no try was in time")
}

async fn append(url: &str, counter: u64) {
    let mut hub = Hub::over(patiently(&settings(url, LONG), 1).await, 1);
    hub.append_one(counter, &heartbeat()).await;
    hub.ask(Ask::Tail { after: 0 }).await;
    assert!(!hub.tailed_to(counter).await.is_empty());
}

#[test]
fn a_server_is_known_by_its_authority_and_its_name() {
    run(async {
        let (ca, other) = (Authority::new("ca"), Authority::new("other"));
        let redis = Encrypted::start(&ca, &ca.sign("server", &NAMES), &["--tls-auth-clients", "no"]);
        append(&redis.url("127.0.0.1", &format!("ca={}", ca.pem)), 1).await;
        append(&redis.url("localhost", &format!("ca=file:{}", ca.pem)), 2).await;

        let why = refusal(&redis.url("localhost", &format!("ca={}", other.pem)), LONG).await;
        assert!(why.contains("is of an authority that is not trusted (ca in the URL"), "{why}");
        let why = refusal(&redis.url("localhost", ""), LONG).await;
        assert!(why.contains("is of an authority that is not trusted"), "the system does not know it: {why}");

        let redis = Encrypted::start(&ca, &ca.sign("other", &["redis.example"]), &["--tls-auth-clients", "no"]);
        for host in NAMES {
            let why = refusal(&redis.url(host, &format!("ca={}", ca.pem)), LONG).await;
            assert!(why.contains(&format!("certificate of Redis {host}:{} is for other names", redis.port)), "{why}");
        }
    });
}

#[test]
fn a_server_may_want_a_certificate_of_the_hub() {
    run(async {
        let (ca, other) = (Authority::new("ca"), Authority::new("other"));
        let (hub, stranger) = (ca.sign("hub", &["hub"]), other.sign("stranger", &["hub"]));
        for protocols in ["TLSv1.3", "TLSv1.2"] {
            let own = ca.sign("server", &NAMES);
            let redis = Encrypted::start(&ca, &own, &["--tls-auth-clients", "yes", "--tls-protocols", protocols]);
            let url = |own: &Signed| redis.url("localhost", &format!("ca={}&cert={}&key={}", ca.pem, own.pem, own.key));
            append(&url(&hub), 1).await;
            let why = refusal(&url(&stranger), LONG).await;
            assert!(why.contains("does not accept the hub's certificate"), "{protocols}: {why}");
            let why = refusal(&redis.url("localhost", &format!("ca={}", ca.pem)), LONG).await;
            // Version 1.2 has no word of its own for it.
            let expected = if protocols == "TLSv1.3" { "wants a certificate of the hub" } else { "HandshakeFailure" };
            assert!(why.contains(expected), "{protocols}: {why}");
        }
    });
}

#[test]
fn tls_on_one_side_only_is_said() {
    run(async {
        let ca = Authority::new("ca");
        let redis = Encrypted::start(&ca, &ca.sign("server", &NAMES), &[]);
        let why = refusal(&format!("redis://:s3cret@127.0.0.1:{}", redis.port), LONG).await;
        assert!(why.contains("the URL has to begin with rediss"), "{why}");
        let plain = redis.server.url().replace("redis://", "rediss://:s3cret@");
        let why = refusal(&format!("{plain}?ca={}", ca.pem), Duration::from_secs(4)).await;
        assert!(why.contains("the URL has to begin with redis, and not with rediss"), "{why}");
        assert!(!why.contains("s3cret"), "{why}");
        // A server may read the handshake as the beginning of a line. It then waits for the end of the line.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("rediss://:s3cret@{}?ca={}", silent.local_addr().unwrap(), ca.pem);
        let why = refusal(&url, Duration::from_millis(400)).await;
        assert!(why.contains("has not answered for 300 ms; if it speaks no TLS"), "{why}");
    });
}

#[test]
fn files_that_are_renewed_count_for_the_next_connection() {
    run(async {
        let ca = Authority::new("ca");
        let redis = Encrypted::start(&ca, &ca.sign("server", &NAMES), &["--tls-auth-clients", "yes"]);
        let hub = ca.sign("hub", &["hub"]);
        let url = redis.url("localhost", &format!("ca={}&cert={}&key={}", ca.pem, hub.pem, hub.key));
        let settings = settings(&url, LONG);
        let renewed = ca.sign("renewed", &["hub"]);
        std::fs::rename(&renewed.pem, &hub.pem).unwrap();
        let why = connect(&settings, 1).await.map(drop).unwrap_err().0;
        assert!(why.contains("TLS with Redis can't be used") && why.contains("not the key"), "{why}");
        std::fs::rename(&renewed.key, &hub.key).unwrap();
        connect(&settings, 1).await.unwrap();
    });
}

#[test]
fn the_nodes_of_a_cluster_are_reached_over_tls() {
    run(async {
        let ca = Authority::new("ca");
        let own = ca.sign("node", &NAMES);
        let options = ["--cluster-enabled", "yes", "--cluster-config-file", "nodes.of", "--tls-cluster", "yes"];
        let options = [&options[..], &["--tls-auth-clients", "no"]].concat();
        let nodes: Vec<Encrypted> = (0..3).map(|_| Encrypted::start(&ca, &own, &options)).collect();
        several::join(nodes.iter().map(|node| (&node.server, node.port)).collect()).await;
        for (place, node) in nodes.iter().enumerate() {
            append(&node.url("127.0.0.1", &format!("ca={}", ca.pem)), place as u64 + 1).await;
        }
    });
}

#[test]
fn sentinels_are_asked_and_the_master_is_reached_over_tls() {
    run(async {
        let ca = Authority::new("ca");
        let own = ca.sign("server", &NAMES);
        let master = Encrypted::start(&ca, &own, &["--tls-auth-clients", "no"]);
        let config = std::env::temp_dir().join(format!("push-redis-{}-tls-sentinel.conf", std::process::id()));
        let text = format!("sentinel monitor main 127.0.0.1 {} 1\n", master.port);
        std::fs::write(&config, text).unwrap();
        let options = ["--sentinel", "--tls-replication", "yes", "--tls-auth-clients", "no"];
        let options = [&[config.to_str().unwrap()][..], &options].concat();
        let sentinel = Encrypted::start(&ca, &own, &options);
        let url = |port: u16, ca: &str| format!("rediss+sentinel://localhost:{port}/main?ca={ca}");
        append(&url(sentinel.port, &ca.pem), 1).await;
        assert_eq!(master.server.must(&["XLEN", "{push}:log"]), Value::Int(1));
        let why = refusal(&url(sentinel.port, &Authority::new("other").pem), LONG).await;
        assert!(why.contains("certificate of sentinel localhost") && why.contains("not trusted"), "{why}");
        let why = refusal(&url(sentinel.server.port, &ca.pem), Duration::from_secs(4)).await;
        assert!(why.contains("sentinel localhost") && why.contains("not with rediss"), "{why}");
        let _ = std::fs::remove_file(&config);
    });
}
