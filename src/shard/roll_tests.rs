//! Who is on a channel is looked for in small pieces, and the asker is told even if the shard ends.

use super::order_tests::{client, shard};
use super::Shard;
use crate::shard::client::presence::{PresenceQuery, Present, Wanted};
use crate::shard::turn::command::Command;
use crate::users::Users;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{channel, Receiver};
use std::sync::Arc;

fn come(shard: &mut Shard, user: Option<&str>, channels: &str) -> UnixStream {
    let head = format!("GET /push?{channels} HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n");
    let (adopted, theirs) = client(user, head.as_bytes());
    shard.adopt(adopted);
    theirs
}

fn ask(shard: &Shard, name: &str) -> Receiver<Present> {
    let (told, hear) = channel();
    let wanted = Wanted { channel: shard.context.hub.channel_id(name).unwrap(), name: name.into() };
    let tell = Box::new(move |present| drop(told.send(present)));
    shard.handle.tell(Command::Present(Arc::new(PresenceQuery::new(wanted, tell))));
    hear
}

/// Takes turns until the answer is there, and does something before each. Returns the number of turns as well.
fn answer(shard: &mut Shard, name: &str, mut meanwhile: impl FnMut(&mut Shard, usize)) -> (Users, usize) {
    let hear = ask(shard, name);
    for turn in 1..10_000 {
        meanwhile(shard, turn);
        shard.turn(&[]);
        if let Ok(present) = hear.try_recv() {
            return (present.counting("", 1000).all(), turn);
        }
    }
    panic!("the question has no answer");
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_turn_looks_at_few_subscribers_and_each_is_counted_once() {
    let mut shard = shard();
    let mut clients: Vec<_> = (0..40).map(|n| come(&mut shard, Some(&format!("{:02}", n % 30)), "channel=a")).collect();
    clients.extend((0..10).map(|_| come(&mut shard, None, "channel=a&channel=b")));
    let (users, turns) = answer(&mut shard, "a", |_, _| {});
    assert_eq!((users.count, users.connections, users.anonymous), (30, 50, 10));
    // In tests a turn looks at 4 places at most.
    assert!((50 / 4..60).contains(&turns), "{turns}");
    assert_eq!(answer(&mut shard, "b", |_, _| {}).0.anonymous, 10);
    // Small questions behind a large one have their turn, too.
    let (large, small) = (ask(&shard, "a"), ask(&shard, "b"));
    let ends = |hear: &Receiver<Present>, shard: &mut Shard| {
        (1..1000).find(|_| {
            shard.turn(&[]);
            hear.try_recv().is_ok()
        })
    };
    assert!(ends(&small, &mut shard).is_some());
    assert!(large.try_recv().is_err(), "it goes on");
    assert!(ends(&large, &mut shard).is_some() && shard.scans.rolls.is_empty());
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn what_takes_longer_to_look_at_takes_more_turns() {
    let mut shard = shard();
    let several: String = (0..80).map(|number| format!("&channel=c{number}")).collect();
    let _clients: Vec<_> = (0..20).map(|_| come(&mut shard, Some("ada"), &format!("channel=a{several}"))).collect();
    let _others: Vec<_> = (0..20).map(|_| come(&mut shard, Some("ada"), "channel=b")).collect();
    let turns = ["a", "b"].map(|name| {
        let (users, turns) = answer(&mut shard, name, |_, _| {});
        assert_eq!((users.count, users.connections), (1, 20));
        turns
    });
    assert!(turns[0] > turns[1], "{turns:?}");
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn those_that_stay_are_counted_once_whatever_comes_and_goes_in_between() {
    let mut shard = shard();
    let _clients: Vec<_> = (0..30).map(|n| come(&mut shard, Some(&format!("{n:02}")), "channel=a")).collect();
    let (mut others, mut count) = (Vec::new(), 0);
    (0..10).for_each(|n| others.push(come(&mut shard, Some(&format!("other {n}")), "channel=a")));
    let (users, _) = answer(&mut shard, "a", |shard, turn| {
        // A place becomes free, and the next one that comes gets it, on this channel or on another one.
        let is_other = |user: &Arc<str>| user.starts_with("other");
        let left = shard
            .conns
            .iter()
            .find(|(_, conn)| conn.grant.as_ref().and_then(|grant| grant.user()).is_some_and(is_other));
        let left = left.map(|(index, _)| index as u32);
        left.into_iter().for_each(|index| shard.drop_conn(index));
        count += 1;
        let channel = if turn % 2 == 0 { "channel=a" } else { "channel=elsewhere" };
        others.push(come(shard, Some(&format!("other, later {count}")), channel));
    });
    let stayed = users.page.iter().map(|user| user.name.to_string()).filter(|user| !user.starts_with("other"));
    assert!(stayed.eq((0..30).map(|n| format!("{n:02}"))), "{users:?}");
    assert!(users.page.iter().all(|user| user.connections == 1), "{users:?}");
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn the_asker_is_told_when_the_channel_or_the_shard_ends() {
    let mut shard = shard();
    let come = |shard: &mut Shard| (0..20).map(|_| come(shard, Some("ada"), "channel=a")).collect::<Vec<_>>();
    let _clients = come(&mut shard);
    let hear = ask(&shard, "a");
    shard.turn(&[]);
    assert!(hear.try_recv().is_err(), "it has only begun");
    shard.recover();
    assert!(hear.try_recv().is_ok());
    let _clients = come(&mut shard);
    let (users, _) = answer(&mut shard, "a", |shard, turn| {
        let all: Vec<u32> = shard.conns.iter().map(|(index, _)| index as u32).collect();
        all.into_iter().filter(|_| turn == 3).for_each(|index| shard.drop_conn(index));
    });
    assert!(users.connections < 20, "all have left it meanwhile");
    let _clients = come(&mut shard);
    let hear = ask(&shard, "a");
    shard.turn(&[]);
    drop(shard);
    assert!(hear.try_recv().is_ok());
}
