//! Messages of attached hosts that leave a client out.

use super::{adopt, attached, hub, path};
use crate::common::{until, Client};
use push::hub::{ClientId, Publication};
use push::Server;

const ID: &str = "0a1b2c3d-0000-4000-8000-00000000000a";

fn stream(host: &Server, query: &str) -> Client {
    let head = format!("GET /push?transport=stream&channel=a&{query} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut client = adopt(host, &head, None);
    assert!(client.head().starts_with("HTTP/1.1 200 "));
    client
}

#[test]
fn each_call_of_a_host_may_leave_a_client_of_any_host_out() {
    let path = path();
    let hub = hub(&path, &[]);
    let hosts = [attached(&path, &[]), attached(&path, &[])];
    let mut theirs = hosts.each_ref().map(|host| stream(host, &format!("client={ID}")));
    let mut other = stream(&hosts[1], "");
    until("all are there", || hub.server.stats().unwrap().subscriptions == 3);
    let all = |data: &'static str| Publication::new("a", data.as_bytes());
    let own = |data| Publication { except: ClientId::parse(ID), ..all(data) };
    let host = &hosts[0];
    let start = host.position_of(&host.publish(&all("<start>")).unwrap());
    host.post(&own("<own 1>")).unwrap();
    host.post_broadcast(&own("<own 2>")).unwrap();
    host.post_batch(&[own("<own 3>"), all("<for all>")]).unwrap();
    let own = host.position_of(&host.publish(&own("<own 4>")).unwrap());
    host.publish(&all("<end>")).unwrap();
    for client in &mut theirs {
        let got = client.until("<end>");
        assert!(got.contains("<for all>") && !got.contains("<own"), "{got}");
        assert!(got.contains(&format!(r#"{{"type":"position","channel":"a","id":"{own}"}}"#)), "{got}");
    }
    let got = other.until("<end>");
    assert!((1..=4).all(|n| got.contains(&format!("<own {n}>"))), "{got}");
    // It comes back by another host.
    let got = stream(&hosts[1], &format!("client={ID}&since={start}")).until("<end>");
    assert!(got.contains("<for all>") && !got.contains("<own") && !got.contains("gap"), "{got}");
}
