//! The contract, over one server and over three.

use super::servers::{Cluster, Server};
use super::Place;
use crate::engine::shared::contract_tests::{keeps_the_contract, Fresh};

mod alone {
    use super::*;

    const FRESH: Fresh = || {
        let server = Server::alone("");
        let url = server.url();
        Box::new(Place::new(server, &url))
    };

    keeps_the_contract!(FRESH);
}

mod three {
    use super::*;

    const FRESH: Fresh = || {
        let cluster = Cluster::shared();
        let url = cluster.url();
        Box::new(Place::new(cluster, &url))
    };

    keeps_the_contract!(FRESH, 3);
}
