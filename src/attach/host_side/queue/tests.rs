use super::*;
use crate::attach::wire::tests::WRITTEN;
use crate::attach::wire::{first_frame, framed_len, FromHost, NUMBERS_COMMANDS, VERSION};
use crate::attach::{MAX_IN_FLIGHT, MAX_IN_FLIGHT_BYTES, RESERVED};
use crate::hub::Publication;
use std::io::Read;
use std::os::unix::net::UnixStream;

/// The last version in which all requests are one row.
const IN_ORDER: u16 = ANSWERS_AT_ONCE - 1;

/// The hub's end of the socket.
struct Hub {
    stream: UnixStream,
    read: Vec<u8>,
}

impl Hub {
    /// Attaches the queue, and goes on after a hub that has done the requests up to `done`.
    fn attach(queue: &mut Queue, version: u16, epoch: &str, life: Option<u64>, done: u64) -> Self {
        let (stream, host) = UnixStream::pair().unwrap();
        stream.set_nonblocking(true).unwrap();
        host.set_nonblocking(true).unwrap();
        let epoch = Epoch::from_text(epoch).unwrap();
        queue.attach(Arc::new(host.into()), HubThere { version, epoch, life, done });
        Hub { stream, read: Vec::new() }
    }

    /// The frames that the queue sends, as text.
    fn frames(&mut self, queue: &mut Queue) -> Vec<String> {
        let mut found = Vec::new();
        loop {
            queue.unblock();
            match self.come() {
                Some(come) => found.extend(come),
                None => return found,
            }
        }
    }

    /// The frames that are complete now, as text. `None`: no byte has come.
    fn come(&mut self) -> Option<Vec<String>> {
        let (mut found, mut part, mut any) = (Vec::new(), vec![0; 1 << 20], false);
        while let Ok(len @ 1..) = self.stream.read(&mut part) {
            any = true;
            self.read.extend_from_slice(&part[..len]);
            let mut at = 0;
            while let Some(frame) = first_frame(&self.read[at..], MAX_FRAME).unwrap() {
                found.push(match FromHost::read(frame).unwrap() {
                    FromHost::Publish { number, .. } => format!("publish {number}"),
                    FromHost::Close { connection, .. } => format!("close {connection}"),
                    FromHost::Users { number, time_ms, .. } => format!("users {number} {}", time_ms.is_some()),
                    FromHost::Disconnect { number: Some(number), .. } => format!("disconnect {number}"),
                    FromHost::Disconnect { number: None, .. } => "disconnect".into(),
                    FromHost::Batch { number, .. } => format!("batch {number}"),
                    other => format!("{other:?}"),
                });
                at += framed_len(frame);
            }
            self.read.drain(..at);
        }
        any.then_some(found)
    }
}

fn publish(queue: &mut Queue, data: &[u8]) -> Result<u64, Error> {
    queue.add_request(|number| FromHost::Publish { number, publication: Publication::new("a", data) })
}

fn close(queue: &mut Queue, connection: u64) {
    queue.add(&FromHost::Close { connection, code: 1000, reason: "" }, Content::OfThisHub).unwrap();
}

fn ask(queue: &mut Queue) -> (u64, Arc<Waiter>) {
    let waiter = Arc::new(Waiter::default());
    let question = |number| FromHost::Users { number, channel: "a", after: "", limit: 1, time_ms: None };
    let until = Instant::now() + Duration::from_secs(60);
    (queue.add_awaited(question, waiter.clone(), until).unwrap(), waiter)
}

fn disconnect(queue: &mut Queue) {
    queue.add_command(&FromHost::Disconnect { user: "ann", code: 4403, reason: "", number: None }).unwrap();
}

fn answer(queue: &mut Queue, number: u64) -> bool {
    queue.answer(number, |epoch_index| Ok(Reply::Batched { seqs: Vec::new(), epoch_index }))
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn messages_that_the_hub_does_not_answer_hold_up_nothing_else() {
    let mut queue = Queue::new(64 << 20);
    let mut hub = Hub::attach(&mut queue, VERSION, "e", Some(1), 0);
    for _ in 0..MAX_IN_FLIGHT {
        publish(&mut queue, b"x").unwrap();
    }
    let sent = hub.frames(&mut queue);
    assert_eq!((sent.len(), &*sent[0]), (MAX_IN_FLIGHT - RESERVED, "publish 1"));
    close(&mut queue, 7);
    let (question, waiter) = ask(&mut queue);
    disconnect(&mut queue);
    let command = question + 1;
    let asked = ["close 7".into(), format!("users {question} true")];
    let expected = [asked, [format!("disconnect {command}"), format!("batch {command}")]].concat();
    assert_eq!(hub.frames(&mut queue), expected);
    // These are answered in any order, and messages in their own.
    assert!(answer(&mut queue, question + 1) && answer(&mut queue, question) && waiter.take().is_some());
    assert!(!answer(&mut queue, 2), "a message before the oldest");
    assert_eq!(queue.answered(), 0);
    assert!(answer(&mut queue, 1));
    assert_eq!(
        (queue.answered(), hub.frames(&mut queue)),
        (1, vec![format!("publish {}", MAX_IN_FLIGHT - RESERVED + 1)])
    );
    assert!(answer(&mut queue, 1) && answer(&mut queue, question), "a reply that is repeated");
    assert!(!answer(&mut queue, question + 2), "a reply to nothing");
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn nothing_passes_the_messages_for_an_older_hub() {
    let mut queue = Queue::new(1 << 20);
    let mut hub = Hub::attach(&mut queue, IN_ORDER, "e", None, 0);
    (0..MAX_IN_FLIGHT - RESERVED + 1).for_each(|_| assert!(publish(&mut queue, b"").is_ok()));
    disconnect(&mut queue);
    close(&mut queue, 7);
    let last = MAX_IN_FLIGHT - RESERVED + 1;
    let frames = hub.frames(&mut queue);
    assert_eq!(frames.last(), Some(&format!("publish {}", last - 1)), "the window is full");
    assert!(answer(&mut queue, 1));
    let batch = format!("batch {}", last + 1);
    assert_eq!(hub.frames(&mut queue), [&*format!("publish {last}"), "disconnect", &batch, "close 7"]);
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn the_bytes_of_messages_that_the_hub_may_have_to_keep_are_bounded() {
    let mut queue = Queue::new(64 << 20);
    let mut hub = Hub::attach(&mut queue, VERSION, "e", Some(1), 0);
    for _ in 0..4 {
        publish(&mut queue, &vec![b'x'; MAX_IN_FLIGHT_BYTES / 3]).unwrap();
    }
    publish(&mut queue, &vec![b'x'; 2 * MAX_IN_FLIGHT_BYTES]).unwrap();
    close(&mut queue, 1);
    assert_eq!(hub.frames(&mut queue), ["publish 1", "publish 2", "close 1"]);
    assert!(answer(&mut queue, 1) && answer(&mut queue, 2));
    assert_eq!(hub.frames(&mut queue), ["publish 3", "publish 4"]);
    assert!(answer(&mut queue, 3));
    assert_eq!(hub.frames(&mut queue), [""; 0]);
    assert!(answer(&mut queue, 4));
    assert_eq!(hub.frames(&mut queue), ["publish 5"], "a large one goes alone");
    assert!(answer(&mut queue, 5) && queue.is_done());
    assert_eq!((queue.bytes, queue.in_flight.bytes), (0, 0));
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_hub_that_comes_back_gets_the_messages_that_it_has_not_done_and_the_commands_without_an_answer() {
    for (version, command, expected) in [
        (VERSION, "disconnect 2", &["disconnect 2", "batch 2", "publish 3"][..]),
        (NUMBERS_COMMANDS - 1, "disconnect", &["disconnect", "batch 2", "publish 3"]),
        // In its `done` all requests count.
        (IN_ORDER, "disconnect", &["publish 3"]),
    ] {
        let mut queue = Queue::new(1 << 20);
        let mut hub = Hub::attach(&mut queue, version, "e", Some(1), 0);
        publish(&mut queue, b"x").unwrap();
        disconnect(&mut queue);
        publish(&mut queue, b"x").unwrap();
        let (question, waiter) = ask(&mut queue);
        let sent = ["publish 1".into(), command.into(), "batch 2".into(), "publish 3".into()];
        let asked = format!("users {question} {}", version >= ANSWERS_AT_ONCE);
        assert_eq!(hub.frames(&mut queue), [&sent[..], &[asked]].concat());
        queue.detach();
        assert_eq!(waiter.take().unwrap().unwrap_err().kind(), Kind::Busy);
        let mut hub = Hub::attach(&mut queue, version, "e", Some(1), 2);
        assert_eq!(hub.frames(&mut queue), expected);
        assert!([1, 2, 3].into_iter().all(|number| answer(&mut queue, number)));
        assert!(queue.is_done() && queue.bytes == 0);
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn what_is_about_a_connection_is_for_the_life_of_the_hub_that_has_it() {
    let mut queue = Queue::new(1 << 20);
    let mut go_on = |epoch: &str, life: Option<u64>| {
        close(&mut queue, 1);
        queue.detach();
        let version = if life.is_some() { VERSION } else { IN_ORDER };
        let mut hub = Hub::attach(&mut queue, version, epoch, life, 0);
        let sent = hub.frames(&mut queue).len();
        assert_eq!((queue.bytes, queue.present_epoch().unwrap().as_str()), (0, epoch));
        // It is sent to a hub that is there.
        close(&mut queue, 2);
        assert_eq!(hub.frames(&mut queue), ["close 2"]);
        sent
    };
    let lives = [("a", Some(1)), ("b", Some(1)), ("b", Some(2)), ("b", None), ("b", None), ("c", None), ("c", Some(2))];
    assert_eq!(lives.map(|(epoch, life)| go_on(epoch, life)), [0, 1, 0, 0, 1, 0, 0]);
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_frame_without_an_answer_that_no_socket_has_taken_goes_to_the_next_attachment() {
    const LAST: u64 = 100_000;
    for (next_life, reaches) in [(1, true), (2, false)] {
        let mut queue = Queue::new(64 << 20);
        let mut hub = Hub::attach(&mut queue, VERSION, "e", Some(1), 0);
        // More than a socket takes. The last frame that it takes may not be whole.
        (1..=LAST).for_each(|connection| close(&mut queue, connection));
        assert!(queue.flush() && queue.wants_room(), "the socket is full");
        let taken = hub.come().unwrap().len() as u64;
        assert!(taken > 0 && taken < LAST / 2, "{taken}");
        // The other end is gone, and nobody here has seen it yet.
        drop(hub);
        queue.unblock();
        queue.detach();
        let mut hub = Hub::attach(&mut queue, VERSION, "e", Some(next_life), 0);
        let expected: Vec<String> = (taken + 1..=LAST).map(|connection| format!("close {connection}")).collect();
        assert_eq!(hub.frames(&mut queue), if reaches { expected } else { Vec::new() });
        assert!(queue.is_done() && queue.bytes == 0);
    }
}

#[test]
fn messages_that_wait_leave_room_for_what_is_done_to_users() {
    let mut queue = Queue::new(64 << 10);
    let error = std::iter::repeat_with(|| publish(&mut queue, &[b'x'; 1000])).find_map(Result::err).unwrap();
    assert_eq!(error.kind(), Kind::Busy);
    close(&mut queue, 1);
    disconnect(&mut queue);
    let close =
        |queue: &mut Queue| queue.add(&FromHost::Close { connection: 1, code: 1000, reason: "" }, Content::OfThisHub);
    let further = (0..100_000).take_while(|_| close(&mut queue).is_ok()).count();
    assert!((5_000..20_000).contains(&further), "{further}");
}

#[test]
fn a_message_without_room_is_not_even_written() {
    let mut queue = Queue::new(64 << 10);
    let publish = |queue: &mut Queue, len: usize| {
        let before = WRITTEN.get();
        let added = publish(queue, &vec![b'x'; len]).map_err(|error| error.kind());
        (added.map(drop), WRITTEN.get() - before)
    };
    // One that is larger than the bound goes alone.
    let (added, first) = publish(&mut queue, 100 << 10);
    assert!(added.is_ok() && first > 100 << 10);
    assert_eq!(publish(&mut queue, 0), (Err(Kind::Busy), 0));
    assert_eq!(publish(&mut queue, 1 << 20), (Err(Kind::Busy), 0));
    assert_eq!(publish(&mut queue, MAX_FRAME), (Err(Kind::TooLarge), 0));
    queue.set_bound(200 << 10);
    let (added, second) = publish(&mut queue, 10 << 10);
    assert_eq!((added, queue.bytes), (Ok(()), first + second + 2 * ENTRY));
}
