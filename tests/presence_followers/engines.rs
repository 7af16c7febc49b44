//! A hub with a log on a disk, and hubs that start again.

use super::common::folder::Folder;
use super::common::{Host, PATIENCE};
use super::followers::{ask, enter, Follower, Poller, FOLLOWING};
use super::{members, start, AT_ONCE, NEVER};

/// Stops a hub whose clients have gone, and waits until its log is closed, however busy the disk is.
fn close(host: Host) {
    host.server.stop(PATIENCE);
}

#[test]
fn a_hub_with_a_log_on_the_disk_has_presence_and_forgets_it_with_its_life() {
    let log = Folder::new("presence");
    let engine = log.engine();
    for sync in ["interval", "always"] {
        // The time limit is one that no slow disk reaches.
        let options = [NEVER, ("engine", &*engine), ("engine_sync", sync), ("engine_timeout", "1m")];
        let host = start(&options);
        let position = host.publish("room", "<before>");
        let there = ["ada", "bob"].map(|user| enter(&host, "stream", user, None));
        let mut follower = Follower::new(&host, "sse", None, "");
        follower.until("ada bob");
        let mut poll = Poller::new(&host, None, "");
        poll.until("ada bob");
        drop((there, follower, poll.client));
        close(host);
        let host = start(&options);
        let carl = enter(&host, "stream", "carl", None);
        members(&host, 1);
        // What was missed comes from the log, and those who were there before have not come back.
        host.publish("room", "<after>");
        for transport in FOLLOWING {
            let mut follower = Follower::new(&host, transport, None, &format!("since={position}"));
            follower.until("carl");
        }
        let mut again = Poller::new(&host, None, &format!("since={position}"));
        again.version = poll.version;
        assert_eq!(again.poll(""), ["<after>"]);
        assert_eq!(again.rooms.shown("room"), "carl");
        drop((carl, again));
        close(host);
    }
}

/// What a channel has of messages ends with its history, and who is on it has nothing to do with that.
#[test]
fn a_channel_without_messages_has_members() {
    let host = start(&[AT_ONCE, ("history_count", "0")]);
    let mut follower = Follower::new(&host, "stream", None, "");
    for _ in 0..3 {
        let ada = ask(&host, "ws", Some("ada"), "channel=room");
        follower.until("ada");
        host.publish("room", "<1>");
        follower.until_text("<1>");
        drop(ada);
        follower.until("");
    }
    drop(follower);
    members(&host, 0);
    host.stop();
}

/// News of presence are no messages: no position has to do with them, and they are in no history.
#[test]
fn positions_and_history_know_nothing_of_it() {
    let host = start(&[AT_ONCE]);
    let mut follower = Follower::new(&host, "ws", None, "");
    for _ in 0..3 {
        let ada = enter(&host, "stream", "ada", None);
        follower.until("ada");
        drop(ada);
        follower.until("");
    }
    let stats = host.server.stats().unwrap();
    assert_eq!((stats.seq, stats.published, stats.history_messages, stats.gaps), (0, 0, 0, 0));
    let (_, body) = host.get("channel=room&since=start&wait=0", "").response();
    assert!(body.contains(r#""messages":[]"#), "{body}");
    host.stop();
}
