//! A listing goes on in small pieces, and ends even if the shard does.

use super::order_tests::{client, shard};
use super::Shard;
use crate::limits::Peer;
use crate::shard::client::listing::{Found, ListingQuery, Order, Page, Wanted};
use crate::shard::connection::conn::Conn;
use crate::shard::turn::command::Command;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{channel, Receiver};
use std::sync::Arc;

const HEAD: &[u8] = b"GET /push?channel=a HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n";

fn come(shard: &mut Shard, user: &str) -> UnixStream {
    let (adopted, theirs) = client(Some(user), HEAD);
    shard.adopt(adopted);
    theirs
}

fn ask(shard: &Shard, after: u64, limit: usize) -> Receiver<Found> {
    ask_for(shard, all(after, limit))
}

fn all(after: u64, limit: usize) -> Wanted {
    Wanted { user: None, channel: None, address: None, order: Order::After(after), limit }
}

fn ask_for(shard: &Shard, wanted: Wanted) -> Receiver<Found> {
    let (told, hear) = channel();
    let tell = Box::new(move |found| drop(told.send(found)));
    shard.handle.tell(Command::List(Arc::new(ListingQuery::new(wanted, tell))));
    hear
}

/// Takes turns until the answer is there, and does something before each. Returns the number of turns as well.
fn answer(shard: &mut Shard, after: u64, limit: usize, mut meanwhile: impl FnMut(&mut Shard, usize)) -> (Page, usize) {
    let hear = ask(shard, after, limit);
    for turn in 1..10_000 {
        meanwhile(shard, turn);
        shard.turn(&[]);
        if let Ok(found) = hear.try_recv() {
            return (found.page(Order::After(after), limit), turn);
        }
    }
    panic!("the listing does not end");
}

fn is_other(conn: &Conn) -> bool {
    conn.grant.as_ref().and_then(|grant| grant.user()).is_some_and(|user| user.starts_with("other"))
}

fn users(page: &Page) -> Vec<String> {
    page.rows.iter().map(|row| row.user.as_deref().unwrap().to_owned()).collect()
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_turn_looks_at_few_connections_and_the_shard_has_turns_until_the_end() {
    let mut shard = shard();
    let _clients: Vec<_> = (0..40).map(|n| come(&mut shard, &format!("{n:02}"))).collect();
    let (page, turns) = answer(&mut shard, 0, 1000, |_, _| {});
    assert_eq!(users(&page), (0..40).map(|n| format!("{n:02}")).collect::<Vec<_>>());
    // In tests a turn looks at 4 places, or tells about 2 connections.
    assert!((40 / 4 + 40 / 2..100).contains(&turns), "{turns}");
    // Two at once: each goes on, and both end.
    let both = [ask(&shard, 0, 5), ask(&shard, 0, 1000)];
    for _ in 0..200 {
        shard.turn(&[]);
    }
    for hear in both {
        assert!(hear.try_recv().is_ok());
    }
    assert!(shard.scans.listings.is_empty());
}

/// The rows that are told, and the turns that it takes.
fn turns_for(shard: &mut Shard, wanted: Wanted) -> (usize, usize) {
    let limit = wanted.limit;
    let hear = ask_for(shard, wanted);
    for turn in 1..10_000 {
        shard.turn(&[]);
        if let Ok(found) = hear.try_recv() {
            return (found.page(Order::After(0), limit).rows.len(), turn);
        }
    }
    panic!("the listing does not end");
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn what_takes_longer_to_look_at_or_to_tell_takes_more_turns() {
    let mut shard = shard();
    let several: String = (0..40).map(|number| format!("&channel=c{number}")).collect();
    let head = String::from_utf8(HEAD.to_vec()).unwrap().replace("channel=a", &several[1..]);
    let _clients: Vec<_> = (0..20)
        .map(|_| {
            let (adopted, theirs) = client(Some("ada"), head.as_bytes());
            shard.adopt(adopted);
            theirs
        })
        .collect();
    let (rows, turns) = turns_for(&mut shard, all(0, 1000));
    // 4 are looked at in a turn. Of those with eight names a turn tells one.
    assert!(rows == 20 && (20 / 4 + 20 / 2 + 1..60).contains(&turns), "{rows} {turns}");
    let (rows, by_user) = turns_for(&mut shard, Wanted { user: Some("bob".into()), ..all(0, 1000) });
    assert!(rows == 0 && by_user < 20 / 4 + 5, "{by_user}");
    // The system is asked for each address.
    let somewhere = Some(Peer::Ip("192.0.2.1".parse().unwrap()));
    let (rows, by_address) = turns_for(&mut shard, Wanted { address: somewhere, ..all(0, 1000) });
    assert!(rows == 0 && by_address >= 20, "{by_address}");
    // Each has a list of channels that is looked through.
    let channel = shard.context.hub.channel_id("c7").map(|id| (id, "c8".into()));
    let (rows, by_channel) = turns_for(&mut shard, Wanted { channel, ..all(0, 1000) });
    assert!(rows == 0 && by_channel > by_user, "{by_channel}");
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_slab_that_was_once_large_costs_few_turns() {
    let mut shard = shard();
    let mut clients: Vec<_> = (0..400).map(|n| come(&mut shard, &format!("{n:03}"))).collect();
    // The last one stays.
    let all: Vec<u32> = shard.conns.iter().map(|(index, _)| index as u32).collect();
    all[..399].iter().for_each(|index| shard.drop_conn(*index));
    clients.drain(..399);
    let (page, turns) = answer(&mut shard, 0, 1000, |_, _| {});
    assert_eq!(users(&page), ["399"]);
    assert!(turns < 400 / 4, "{turns}");
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn those_that_stay_are_listed_once_whatever_comes_and_goes_in_between() {
    let mut shard = shard();
    let _clients: Vec<_> = (0..30).map(|n| come(&mut shard, &format!("{n:02}"))).collect();
    let (mut after, mut seen, mut others, mut count) = (0, Vec::new(), Vec::new(), 0);
    loop {
        let (page, _) = answer(&mut shard, after, 4, |shard, turn| {
            count += 1;
            if turn % 3 == 0 {
                others.push(come(shard, &format!("other {count}")));
            }
            // A place becomes free, and the next one that comes gets it.
            if turn % 5 == 0 {
                let left = shard.conns.iter().find(|(_, conn)| is_other(conn)).map(|(index, _)| index as u32);
                left.into_iter().for_each(|index| shard.drop_conn(index));
            }
        });
        seen.extend(users(&page).into_iter().filter(|user| !user.starts_with("other")));
        match page.next {
            // Others may come faster than the pages are read.
            Some(next) if seen.len() < 30 => after = next,
            _ => break,
        }
    }
    assert_eq!(seen, (0..30).map(|n| format!("{n:02}")).collect::<Vec<_>>());
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_listing_ends_when_the_shard_breaks_or_ends() {
    let mut shard = shard();
    let _clients: Vec<_> = (0..20).map(|n| come(&mut shard, &format!("{n:02}"))).collect();
    let hear = ask(&shard, 0, 1000);
    shard.turn(&[]);
    assert!(hear.try_recv().is_err(), "it has only begun");
    shard.recover();
    assert_eq!(hear.try_recv().unwrap().page(Order::After(0), 1000), Page::default());
    let hear = ask(&shard, 0, 1000);
    shard.turn(&[]);
    shard.turn(&[]);
    drop(shard);
    assert!(hear.try_recv().is_ok());
}
