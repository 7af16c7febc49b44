//! Followers that read late, and members that come and go without end.

use super::common::{adopted, until, Client, Host};
use super::followers::{ask, enter, grant, head, Follower, Poller, FOLLOWING};
use super::{members, start, subscriptions, AT_ONCE, NEVER};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

/// A follower over a socket with a small buffer, which does not read for now.
fn slow(host: &Host, transport: &'static str, query: &str) -> Follower {
    let (ours, theirs) = UnixStream::pair().unwrap();
    host.server.adopt(theirs.into(), head(transport, query).as_bytes(), Some(grant(None, None))).unwrap();
    Follower::of(Client::over(OwnedFd::from(ours).into()), transport)
}

/// News of presence never close anybody, whatever the bound of the outbox is. When the client reads again, it is told
/// how things are now.
#[test]
fn one_that_reads_nothing_for_a_while_is_not_closed_and_hears_how_things_are() {
    let host = start(&[AT_ONCE, ("outbox", "16KB"), ("channel.flood.*.history_count", "0")]);
    let mut quick = Follower::new(&host, "stream", None, "");
    quick.until("");
    let mut slow = FOLLOWING
        .map(|transport| slow(&host, transport, &format!("channel=room&presence=1&channel=flood.{transport}")));
    let stats = || host.server.stats().unwrap();
    let message = "x".repeat(3000);
    for (place, (follower, transport)) in slow.iter_mut().zip(FOLLOWING).enumerate() {
        let flood = format!("flood.{transport}");
        follower.until("");
        follower.until_in(&flood, "off");
        // Its socket is full. What waits beside it is less than the bound.
        until("its socket is never full", || {
            host.publish(&flood, &message);
            until("it is not delivered", || stats().deliveries == stats().published);
            stats().outboxes > place as u64
        });
    }
    // Many times more news than an outbox holds.
    let mut last: Vec<Client> = Vec::new();
    for round in 0..12 {
        let info = format!("{round}-{}", "i".repeat(900));
        last = (0..8).map(|n| enter(&host, "stream", &format!("m{n}"), Some(&info))).collect();
        let shown: Vec<String> = (0..8).map(|n| format!("m{n}={info}")).collect();
        quick.until(&shown.join(" "));
    }
    assert_eq!(stats().slow_closed, 0);
    let shown = quick.rooms.shown("room");
    for follower in &mut slow {
        follower.until(&shown);
    }
    drop(last);
    for follower in &mut slow {
        follower.until("");
    }
    for (follower, transport) in slow.iter_mut().zip(FOLLOWING) {
        host.publish(&format!("flood.{transport}"), "<end>");
        follower.until_text("<end>");
    }
    assert_eq!(stats().slow_closed, 0);
    host.stop();
}

/// Each follower is told in the end how things are, whatever was merged on the way.
#[test]
fn all_followers_agree_when_nobody_comes_and_goes_any_more() {
    for detail in [100, 10] {
        let host = start(&[AT_ONCE, ("presence_detail", &detail.to_string())]);
        let mut followers: Vec<Follower> = Vec::new();
        let mut poll = Poller::new(&host, None, "");
        poll.rooms.hurried = true;
        let mut there: Vec<Client> = Vec::new();
        let mut newest: BTreeMap<String, String> = BTreeMap::new();
        for round in 0..150_usize {
            let user = format!("m{:02}", round * 7 % 30);
            let info = (round % 3 == 0).then(|| format!("of-round-{}", round % 11));
            there.push(enter(&host, ["ws", "sse", "stream", "raw"][round % 4], &user, info.as_deref()));
            newest.insert(user.clone(), info.map_or(user.clone(), |info| format!("{user}={info}")));
            if there.len() > 12 {
                there.swap_remove(round * 5 % 12);
            }
            if round % 10 == 0 {
                let mut follower = Follower::new(&host, FOLLOWING[round / 10 % 4], None, "");
                follower.rooms.hurried = true;
                followers.push(follower);
            }
            if round % 20 == 0 {
                poll.poll("&wait=0");
            }
        }
        subscriptions(&host, (there.len() + followers.len()) as u64);
        let users = host.server.users("room", "", 100).unwrap();
        members(&host, users.page.len() as u64);
        let expected = match users.page.len() > detail {
            true => format!("#{}", users.page.len()),
            false => users.page.iter().map(|user| newest[&*user.name].clone()).collect::<Vec<_>>().join(" "),
        };
        for follower in &mut followers {
            follower.until(&expected);
        }
        poll.until(&expected);
        host.stop();
    }
}

#[test]
fn a_crowd_that_comes_at_once_is_told_in_few_words() {
    const CROWD: usize = 400;
    let host = start(&[AT_ONCE, ("presence_detail", "1000")]);
    let mut followers = FOLLOWING.map(|transport| Follower::new(&host, transport, None, ""));
    let crowd: Vec<Client> = (0..CROWD)
        .map(|n| adopted(&host.server, &head("stream", "channel=room"), Some(grant(Some(&format!("m{n:03}")), None))))
        .collect();
    members(&host, CROWD as u64);
    let all: Vec<String> = (0..CROWD).map(|n| format!("m{n:03}")).collect();
    for follower in &mut followers {
        follower.until(&all.join(" "));
        let told = follower.rooms.told.len();
        assert!(told <= CROWD + 1, "each is told at most once: {told}");
    }
    drop(crowd);
    for follower in &mut followers {
        follower.until("");
        assert!(follower.rooms.told.len() <= 2 * CROWD + 2);
    }
    host.stop();
}

#[test]
fn who_follows_again_and_again_gets_each_list_and_harms_nobody() {
    let host = start(&[NEVER, ("client_rate", "0")]);
    let _ada = enter(&host, "stream", "ada", None);
    members(&host, 1);
    let mut other = Follower::new(&host, "stream", None, "");
    other.until("ada");
    let mut follower = Follower::of(ask(&host, "ws", None, "channel=quiet"), "ws");
    for _ in 0..50 {
        follower.client.say(r#"{"type":"subscribe","channel":"room","presence":true}"#);
        follower.until("ada");
        follower.client.say(r#"{"type":"unsubscribe","channel":"room"}"#);
        follower.until_text(r#"{"type":"unsubscribed""#);
        follower.rooms = Default::default();
    }
    // All of it at once, without waiting for the answers.
    for _ in 0..50 {
        follower.client.say(r#"{"type":"subscribe","channel":"room","presence":true}"#);
        follower.client.say(r#"{"type":"unsubscribe","channel":"room"}"#);
    }
    follower.client.say(r#"{"type":"subscribe","channel":"room","presence":true,"ref":7}"#);
    follower.until_text(r#""ref":7"#);
    let _bob = enter(&host, "sse", "bob", None);
    follower.until("ada bob");
    other.until("ada bob");
    assert!(other.rooms.told.len() <= 2, "{:?}", other.rooms.told);
    host.stop();
}
