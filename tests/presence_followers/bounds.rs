//! What bounds presence: numbers in place of lists (`presence_detail`, `outbox`), and memory (`presence_total`).

use super::common::{until, Client, Host};
use super::followers::{enter, Follower, Poller, FOLLOWING};
use super::{members, reload, start, subscriptions, AT_ONCE, NEVER, ON};

#[test]
fn above_presence_detail_only_the_number_is_told_and_below_it_a_list_again() {
    let options = [AT_ONCE, ("presence_detail", "3")];
    let host = start(&options);
    let mut followers = FOLLOWING.map(|transport| Follower::new(&host, transport, None, ""));
    let mut there: Vec<Client> = Vec::new();
    let mut all = |there: &[Client], shown: &str| {
        members(&host, there.len() as u64);
        for follower in &mut followers {
            follower.until(shown);
        }
    };
    for _ in 0..2 {
        for (name, shown) in [("a", "a"), ("b", "a b"), ("c", "a b c"), ("d", "#4"), ("e", "#5"), ("f", "#6")] {
            there.push(enter(&host, "stream", name, None));
            all(&there, shown);
        }
        for shown in ["#5", "#4", "a b c", "a b", "a", ""] {
            drop(there.pop());
            all(&there, shown);
        }
    }
    // The bound moves, and nobody does.
    there.extend(["a", "b", "c", "d"].map(|name| enter(&host, "sse", name, None)));
    for (detail, shown) in [("3", "#4"), ("4", "a b c d"), ("0", "#4"), ("100", "a b c d")] {
        reload(&host, &[AT_ONCE, ("presence_detail", detail)]);
        all(&there, shown);
    }
    host.stop();
}

#[test]
fn no_names_are_told_if_presence_detail_is_0() {
    let host = start(&[AT_ONCE, ("presence_detail", "0")]);
    let mut follower = Follower::new(&host, "stream", None, "");
    let mut there = Vec::new();
    for (name, shown) in [("a", "#1"), ("b", "#2")] {
        there.push(enter(&host, "ws", name, None));
        follower.until(shown);
        Follower::new(&host, "sse", None, "").until(shown);
    }
    drop(there.pop());
    follower.until("#1");
    assert!(follower.rooms.told.iter().all(|text| !text.contains(r#""user":"#)), "{:?}", follower.rooms.told);
    host.stop();
}

#[test]
fn a_list_that_is_longer_than_an_outbox_is_told_as_a_number() {
    let host = start(&[AT_ONCE, ("outbox", "16KB")]);
    let info = "i".repeat(1000);
    let names: Vec<String> = (0..24).map(|n| format!("m{n:02}")).collect();
    let mut there: Vec<Client> = names.iter().map(|name| enter(&host, "stream", name, Some(&info))).collect();
    members(&host, 24);
    let mut followers = FOLLOWING.map(|transport| Follower::new(&host, transport, None, ""));
    for follower in &mut followers {
        follower.until("#24");
    }
    let mut poll = Poller::new(&host, None, "");
    poll.until("#24");
    // As soon as it fits, it is a list.
    there.truncate(5);
    let five = names[..5].iter().map(|name| format!("{name}={info}")).collect::<Vec<_>>().join(" ");
    for follower in &mut followers {
        follower.until(&five);
    }
    poll.until(&five);
    host.stop();
}

/// Users come and go one after the other, and stay for the grace. The one that has gone first gives way.
#[test]
fn who_has_been_gone_for_longest_gives_way() {
    let host = start(&[NEVER, ("presence_total", "16KB"), ("presence_detail", "1000")]);
    let mut follower = Follower::new(&host, "stream", None, "");
    let info = "i".repeat(1000);
    let stays = enter(&host, "stream", "a-stays", Some(&info));
    let name = |n: usize| format!("m{n:02}={info}");
    for n in 0..40 {
        let client = enter(&host, "stream", &format!("m{n:02}"), Some(&info));
        until("it is shown", || {
            follower.object();
            follower.rooms.shown("room").contains(&name(n))
        });
        drop(client);
        subscriptions(&host, 2);
    }
    let stats = host.server.stats().unwrap();
    let kept = stats.presence_members as usize;
    assert!((5..=16).contains(&kept) && stats.presence_refused == 0, "{stats:?}");
    assert!(stats.presence_bytes <= 16 * 1024 && stats.presence_bytes > 1000 * kept as u64, "{stats:?}");
    let oldest = 41 - kept;
    let last: Vec<String> = (oldest..40).map(name).collect();
    follower.until(&format!("a-stays={info} {}", last.join(" ")));
    // One that comes back is gone no more, and the next one gives way.
    let _back = enter(&host, "stream", &format!("m{oldest:02}"), Some(&info));
    subscriptions(&host, 3);
    let _new = enter(&host, "stream", "new", Some(&info));
    let rest: Vec<String> = (oldest + 2..40).map(name).collect();
    follower.until(&format!("a-stays={info} {} {} new={info}", name(oldest), rest.join(" ")));
    drop(stays);
    host.stop();
}

#[test]
fn one_for_whom_there_is_no_room_is_counted_and_shown_later() {
    let (host, lines) =
        Host::logged(&[ON, AT_ONCE, ("presence_total", "16KB"), ("presence_detail", "1000"), ("threads", "2")]);
    let mut follower = Follower::new(&host, "stream", None, "");
    let info = "i".repeat(1000);
    let mut there = Vec::new();
    for n in 0..24 {
        there.push(enter(&host, "stream", &format!("m{n:02}"), Some(&info)));
    }
    subscriptions(&host, 25);
    let stats = || host.server.stats().unwrap();
    until("some are refused", || stats().presence_refused >= 24 - stats().presence_members);
    let kept = stats().presence_members as usize;
    assert!((5..=16).contains(&kept) && stats().presence_bytes <= 16 * 1024, "{:?}", stats());
    let shown =
        |range: std::ops::Range<usize>| range.map(|n| format!("m{n:02}={info}")).collect::<Vec<String>>().join(" ");
    while follower.rooms.count("room") != Some(kept) {
        follower.object();
    }
    let says = |line: &String| line.contains("presence_total");
    until("the log says so", || lines.lock().unwrap().iter().any(says));
    // Those who were shown go, and there is room for the others, who have done nothing.
    let rest = there.split_off(24 - 4);
    drop(there);
    follower.until(&shown(20..24));
    members(&host, 4);
    // A larger bound makes room as well.
    let _more: Vec<_> = (0..20).map(|n| enter(&host, "stream", &format!("m{n:02}"), Some(&info))).collect();
    subscriptions(&host, 25);
    let options = [ON, AT_ONCE, ("presence_detail", "1000"), ("threads", "2")];
    host.server.reload(&super::builder(&options)).unwrap();
    follower.until(&shown(0..24));
    drop(rest);
    follower.until(&shown(0..20));
    host.stop();
}

/// Names alone count as well, and a place for each member.
#[test]
fn members_without_info_are_bounded_too() {
    let host = start(&[AT_ONCE, ("presence_total", "1KB")]);
    let there: Vec<Client> = (0..100).map(|n| enter(&host, "stream", &format!("m{n:02}"), None)).collect();
    subscriptions(&host, 100);
    let stats = || host.server.stats().unwrap();
    until("some are refused", || stats().presence_refused > 0);
    assert!(stats().presence_bytes <= 1024 && stats().presence_members < 100, "{:?}", stats());
    drop(there);
    members(&host, 0);
    until("nothing is left", || stats().presence_bytes == 0);
    host.stop();
}
