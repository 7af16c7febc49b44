//! All connections are closed in small pieces, and those that come meanwhile stay.

use super::order_tests::{client, shard};
use super::Shard;
use crate::framing::close::Close;
use crate::shard::client::sweep::Tally;
use crate::shard::turn::command::Command;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{channel, Receiver};

const HEAD: &[u8] = b"GET /push?channel=a HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n";

fn come(shard: &mut Shard, user: Option<&str>) -> UnixStream {
    let (adopted, theirs) = client(user, HEAD);
    shard.adopt(adopted);
    theirs
}

fn sweep(shard: &Shard, code: u16) -> Receiver<u64> {
    let (told, hear) = channel();
    let tally = Tally::new(Box::new(move |closed| {
        let _ = told.send(closed);
    }));
    shard.handle.tell(Command::CloseAll { close: Close::new(code, ""), tally });
    hear
}

fn got(client: &mut UnixStream) -> String {
    let mut text = vec![0; 4096];
    let len = client.read(&mut text).unwrap();
    String::from_utf8_lossy(&text[..len]).into_owned()
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_turn_closes_few_and_each_is_closed_once_as_was_said_first() {
    let mut shard = shard();
    let mut clients: Vec<_> = (0..9).map(|n| come(&mut shard, (n % 2 == 0).then_some("ada"))).collect();
    let (first, second) = (sweep(&shard, 4001), sweep(&shard, 4002));
    shard.turn(&[]);
    assert!(first.try_recv().is_err(), "it has only begun");
    let mut later = come(&mut shard, None);
    let turns = (1..100).find(|_| {
        shard.turn(&[]);
        second.try_recv().is_ok_and(|closed| closed == 0)
    });
    assert!(turns.unwrap() > 3, "two at once");
    assert_eq!(first.try_recv(), Ok(9));
    for client in &mut clients {
        assert!(got(client).contains("4001"));
    }
    assert!(!got(&mut later).contains("\"code\""));
    assert!(shard.scans.sweeps.is_empty());
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn the_asker_is_told_when_the_shard_breaks_or_ends() {
    let mut shard = shard();
    let _clients: Vec<_> = (0..9).map(|_| come(&mut shard, None)).collect();
    let hear = sweep(&shard, 4001);
    shard.turn(&[]);
    shard.recover();
    assert_eq!(hear.try_recv(), Ok(2));
    let _clients: Vec<_> = (0..9).map(|_| come(&mut shard, None)).collect();
    let hear = sweep(&shard, 4001);
    shard.turn(&[]);
    drop(shard);
    assert_eq!(hear.try_recv(), Ok(2));
}
