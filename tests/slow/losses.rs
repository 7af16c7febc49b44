//! The losses of slow clients are counted for each channel.

use super::{connect, flood, settled, MANY, OPTIONS};
use crate::common::{self, field, Host, CONTROL};
use push::hub::Publication;

/// The losses of a channel: subscribers closed, messages dropped, messages replaced.
fn lost(host: &Host, channel: &str) -> [u64; 3] {
    let object = host.control(&format!("/v1/channels/{channel}"));
    ["slow_closed", "dropped", "replaced"].map(|name| field(&object, name).parse().unwrap())
}

/// More messages than an outbox and the sockets hold, and the position where they begin.
fn long_history(host: &Host, channel: &str) -> String {
    flood(host, channel, MANY);
    host.server.position(0)
}

#[test]
fn a_client_that_stalls_in_a_long_replay_counts_for_its_channels() {
    let options = [("history_count", "10000"), ("history_bytes", "64MB"), ("heartbeat", "200ms"), ("threads", "1")];
    let host = Host::start(&[&options[..], &CONTROL].concat());
    let start = long_history(&host, "kept");
    let client = connect(&host, &format!("channel=kept&since={start}"), "Accept: application/x-ndjson\r\n");
    common::eventually(|| host.server.stats().unwrap().slow_closed == 1);
    // It is counted for its channels right after that.
    common::eventually(|| lost(&host, "kept") == [1, 0, 0]);
    drop(client);
    host.stop();
}

#[test]
fn a_gap_in_a_replay_of_raw_frames_counts_for_its_channels() {
    let host =
        Host::start(&[&OPTIONS[..3], &[("history_count", "1500"), ("history_bytes", "64MB")], &CONTROL].concat());
    let start = long_history(&host, "kept");
    let mut other = host.websocket("channel=other", false);
    let mut client = connect(&host, &format!("channel=kept&since={start}"), common::UPGRADE);
    // This client is gone before the messages come.
    flood(&host, "kept", MANY);
    settled(&host);
    assert_eq!(client.end(), (4429, "too slow: messages that it missed have left the history".into()));
    assert_eq!(client.rest(), "");
    common::eventually(|| host.server.stats().unwrap().outboxes == 0);
    let stats = host.server.stats().unwrap();
    assert_eq!((stats.slow_closed, stats.outbox_bytes), (1, 0));
    assert_eq!(lost(&host, "kept"), [1, 0, 0]);
    host.publish("other", "x");
    assert_eq!(other.text(), "x");
    assert_eq!(
        field(&host.control("/v1/channels/other"), "subscribers"),
        "1",
        "it took nothing of anybody else with it"
    );
    host.stop();
}

#[test]
fn the_control_api_shows_the_losses_of_a_channel() {
    let host = Host::start(&[&OPTIONS[..], &CONTROL].concat());
    let replacing = connect(&host, "channel=last.a", "Accept: application/x-ndjson\r\n");
    let dropping = connect(&host, "channel=drop.a", "Accept: application/x-ndjson\r\n");
    let closed = connect(&host, "channel=kept", "Accept: application/x-ndjson\r\n");
    flood(&host, "drop.a", MANY);
    flood(&host, "kept", MANY);
    // This is more than the other channels get at all, so that the two counts differ.
    flood(&host, "last.a", 3 * MANY);
    let stats = settled(&host);
    assert!(stats.dropped > 0 && stats.replaced > MANY as u64, "{stats:?}");
    assert_eq!(lost(&host, "drop.a"), [0, stats.dropped, 0]);
    assert_eq!(lost(&host, "last.a"), [0, 0, stats.replaced]);
    assert_eq!((lost(&host, "kept"), stats.slow_closed), ([1, 0, 0], 1));
    let metrics = host.control("/metrics");
    for (policy, count) in [("drop-oldest", stats.dropped), ("latest", stats.replaced)] {
        let line = format!("push_dropped_messages_total{{policy=\"{policy}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
    drop((dropping, replacing, closed));
    host.server.broadcast(&Publication::new("", b"x")).unwrap();
    host.stop();
}
