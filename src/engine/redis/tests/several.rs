//! Several servers: Sentinel, Cluster, more than one address, a socket of the machine.

use super::*;
use crate::engine::contract::Ask;
use crate::engine::shared::contract_tests::{heartbeat, run};
use redis::Value;

#[test]
fn a_unix_socket_leads_to_the_log() {
    run(async {
        let mut log = Redis::start(Program::Redis, &["--unixsocket", "redis.sock"]);
        log.settings = settings(&format!("redis+unix://{}/redis.sock?db=3", log.server.folder.display()), LONG);
        let mut hub = Hub::connect(&log, 1).await;
        hub.append_one(1, &heartbeat()).await;
        assert_eq!(log.server.must(&["EXISTS", "{push}:log"]), Value::Int(0), "it is in database 3");
    });
}

#[test]
fn of_several_addresses_the_first_that_has_the_log_is_taken() {
    run(async {
        let mut log = Redis::start(Program::Redis, &[]);
        let replica = Process::start(Program::Redis, &["--replicaof", &format!("127.0.0.1 {}", log.server.port)]);
        log.settings = settings(&format!("redis://127.0.0.1:1,{},{}", replica.address(), log.server.address()), LONG);
        Hub::connect(&log, 1).await.append_one(1, &heartbeat()).await;
    });
}

/// Nodes that share the slots of a cluster.
async fn cluster(count: usize) -> Vec<Process> {
    // A node that is late for longer is taken for gone, and with it the cluster.
    let options = ["--cluster-enabled", "yes", "--cluster-config-file", "nodes.of", "--cluster-node-timeout", "30000"];
    let nodes: Vec<Process> = (0..count).map(|_| Process::start(Program::Redis, &options)).collect();
    join(nodes.iter().map(|node| (node, node.port)).collect()).await;
    nodes
}

/// Makes a cluster of nodes, each with the port by which others reach it.
pub(super) async fn join(nodes: Vec<(&Process, u16)>) {
    let count = nodes.len();
    let share = 16384 / count + 1;
    for (place, (node, port)) in nodes.iter().enumerate() {
        let (from, to) = (place * share, ((place + 1) * share - 1).min(16383));
        node.must(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()]);
        nodes[0].0.must(&["CLUSTER", "MEET", "127.0.0.1", &port.to_string()]);
    }
    for (node, _) in nodes {
        let start = Instant::now();
        loop {
            let Value::BulkString(info) = node.must(&["CLUSTER", "INFO"]) else { panic!("no cluster") };
            let info = String::from_utf8(info).unwrap();
            if info.contains("cluster_state:ok") && info.contains(&format!("cluster_known_nodes:{count}")) {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "{info}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

#[test]
fn any_node_of_a_cluster_leads_to_the_one_log() {
    run(async {
        let nodes = cluster(3).await;
        let mut counter = 0;
        for node in &nodes {
            let settings = settings(&node.url(), LONG);
            let mut hub = Hub::over(patiently(&settings, 1).await, 1);
            counter += 1;
            assert_eq!(hub.append_one(counter, &heartbeat()).await, counter);
            hub.ask(Ask::Tail { after: 0 }).await;
            assert_eq!(hub.tailed_to(counter).await.len() as u64, counter);
        }
    });
}

#[test]
fn a_node_whose_cluster_is_down_says_so() {
    run(async {
        let log = Redis::start(Program::Redis, &["--cluster-enabled", "yes", "--cluster-config-file", "nodes.of"]);
        let why = log.refusal().await;
        assert!(why.contains("cluster that is down"), "{why}");
    });
}

#[test]
fn sentinels_lead_to_the_master_and_to_the_next_one() {
    run(async {
        let mut master = Process::start(Program::Redis, &["--repl-diskless-sync-delay", "0"]);
        let of = format!("127.0.0.1 {}", master.port);
        let replica = Process::start(Program::Redis, &["--replicaof", &of]);
        replica.wait_for_info("master_link_status", "up");
        let config = std::env::temp_dir().join(format!("push-redis-{}-sentinel.conf", std::process::id()));
        // On a slow machine a master that lives may be late for some seconds.
        let text = format!(
            "sentinel monitor main {of} 1\nsentinel down-after-milliseconds main 600000\n\
             sentinel failover-timeout main 10000\n"
        );
        std::fs::write(&config, text).unwrap();
        let sentinel = Process::start(Program::Redis, &[config.to_str().unwrap(), "--sentinel"]);
        let url = |service: &str| format!("redis+sentinel://127.0.0.1:1,{}/{service}", sentinel.address());

        let unknown = connect(&settings(&url("other"), LONG), 1).await.unwrap_err();
        assert!(unknown.0.contains("sentinel 127.0.0.1") && unknown.0.contains("\"other\""), "{unknown}");
        let settings = settings(&url("main"), LONG);
        let mut hub = Hub::over(patiently(&settings, 1).await, 1);
        hub.append_one(1, &heartbeat()).await;
        let before = hub.identify(0).await;
        // The sentinel must know the replica before it can promote it.
        let start = Instant::now();
        while !matches!(sentinel.must(&["SENTINEL", "REPLICAS", "main"]), Value::Array(known) if !known.is_empty()) {
            assert!(start.elapsed() < PATIENCE, "the sentinel does not find the replica");
            sleep(Duration::from_millis(100)).await;
        }
        let start = Instant::now();
        while replica.must(&["XLEN", "{push}:log"]) != Value::Int(1) {
            assert!(start.elapsed() < PATIENCE, "the replica does not follow");
            sleep(Duration::from_millis(20)).await;
        }
        master.kill();
        sentinel.must(&["SENTINEL", "SET", "main", "down-after-milliseconds", "1000"]);
        hub.ask(Ask::Identify { number: 0 }).await;
        end_of(hub).await;
        let mut hub = Hub::over(patiently(&settings, 1).await, 1);
        let after = hub.identify(0).await;
        assert_ne!(after.log, before.log);
        assert_eq!(after.end, 1);
        hub.append_one(2, &heartbeat()).await;
        let _ = std::fs::remove_file(&config);
    });
}
