//! The beginnings and the ends of streams in the output of pushctl.

use super::{hub, pushctl, told, Running};
use push::hub::{Mark, Publication};

#[test]
fn marks_of_streams_are_named_and_have_no_size() {
    let (host, at) = hub(&[]);
    let mut tail = Running::begin(pushctl(&at, &["tail", "answer", "-n", "3"])).looks_on();
    let mark = |mark| {
        let published = host.server.publish(&Publication::mark("answer", mark)).unwrap();
        host.server.position(published.seq)
    };
    let begin = mark(Mark::Begin);
    let id = host.publish("answer", "-- the stream ends");
    let end = mark(Mark::End);
    let mut behind_time = || tail.line().split_once("  ").unwrap().1.to_owned();
    assert_eq!(behind_time(), format!("answer  {begin}  -- the stream begins"));
    assert_eq!(behind_time(), format!("answer  {id}  18 B  \\u{{2d}}- the stream ends"));
    assert_eq!(behind_time(), format!("answer  {end}  -- the stream ends"));
    assert!(tail.child.wait().unwrap().success(), "marks count as messages");
    let kept = format!("{begin}  -- the stream begins\n{id}  \\u{{2d}}- the stream ends\n{end}  -- the stream ends\n");
    assert_eq!(told(&at, &["messages", "answer"]), kept);
    host.stop();
}
