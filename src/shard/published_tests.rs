//! What clients are told of their messages that were published later, or perhaps were not.

use super::inbox_tests::{phases, read, shard, websocket, OPEN};
use super::pipelining_tests::turn;
use crate::framing::close::Close;
use crate::shard::connection::conn::{Phase, Token};
use crate::shard::turn::command::Command;

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn nothing_is_said_of_a_publish_to_a_client_that_is_closed_meanwhile() {
    let mut shard = shard(1 << 20);
    let mut client = websocket(&mut shard);
    let to = Token { index: 0, generation: shard.conns[0].generation };
    shard.close(0, Close::NOT_ALLOWED);
    assert_eq!(phases(&shard), [Phase::Closing]);
    shard.handle.tell(Command::Published { to, reference: None, channel: "a".into(), place: Some((0, 1)) });
    turn(&mut shard);
    assert_eq!(phases(&shard), [Phase::Closing]);
    assert!(!read(&mut client).contains("published"));
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_client_is_told_of_each_publish_that_comes_later_and_of_one_in_doubt() {
    let mut shard = shard(1 << 20);
    let mut client = websocket(&mut shard);
    let to = Token { index: 0, generation: shard.conns[0].generation };
    for (reference, place) in [(Some(7), None), (None, Some((0, 1))), (Some(9), Some((0, 2)))] {
        shard.handle.tell(Command::Published { to, reference, channel: "a".into(), place });
    }
    turn(&mut shard);
    assert_eq!(phases(&shard), [OPEN]);
    let told = read(&mut client);
    let answers: Vec<&str> = told.split('{').skip(1).map(|text| &text[..text.find('}').unwrap()]).collect();
    let doubt = r#""type":"error","code":"timeout","message":""#;
    assert!(answers[0].starts_with(doubt) && answers[0].ends_with(r#""channel":"a","ref":7"#), "{answers:?}");
    assert!(answers[1].starts_with(r#""type":"published","channel":"a","id":""#), "{answers:?}");
    assert!(!answers[1].contains("ref") && answers[2].ends_with(r#"-2","ref":9"#), "{answers:?}");
}
