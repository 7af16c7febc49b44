//! Heartbeats go to clients that the library does not read from, too.

use super::inbox_tests::{phases, read, shard, websocket, OPEN};
use super::order_tests::leave;
use super::pipelining_tests::turn;
use crate::framing::Transport;
use crate::shard::connection::conn::Flags;

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_client_that_the_library_does_not_read_from_gets_heartbeats_and_need_not_answer() {
    for reason in [Flags::PAUSED, Flags::HELD, Flags::THROTTLED] {
        let mut shard = shard(1 << 20);
        let mut client = websocket(&mut shard);
        shard.heartbeat(0, Transport::WebSocket);
        assert!(shard.conns[0].is(Flags::UNANSWERED));
        shard.conns[0].flags.insert(reason);
        read(&mut client);
        for _ in 0..3 {
            shard.heartbeat(0, Transport::WebSocket);
            turn(&mut shard);
            assert_eq!((phases(&shard), read(&mut client).chars().count()), (vec![OPEN], 2), "a ping: {reason:?}");
        }
        // One that has gone is found.
        leave(&client);
        shard.heartbeat(0, Transport::WebSocket);
        turn(&mut shard);
        assert_eq!(phases(&shard), [], "{reason:?}");
    }
}
