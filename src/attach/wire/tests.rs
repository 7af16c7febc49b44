mod grants;
mod users;

use super::*;
use crate::error::Kind;
use crate::events::{Event, EventKind, Publishing};
use crate::fuzzing::random::Random;
use crate::grant::Grant;
use crate::hub::{ClientId, Mark, Publication, Replacement, Traceparent};
use crate::users::{User, Users, MAX_USERS};
use bytes::Bytes;
use grants::{
    grant_that_informs, grant_that_informs_and_subscribes, grant_that_publishes_elsewhere, grant_that_subscribes,
};
use std::cell::Cell;

thread_local! {
    /// The bytes of the frames that this thread has written.
    pub(crate) static WRITTEN: Cell<usize> = const { Cell::new(0) };
}

fn hello() -> Hello<'static> {
    Hello { version: VERSION, session: [7; 16], answered: 9, epoch: "abc", name: "nginx" }
}

fn grant() -> Grant {
    Grant::new(Some("ann"), &["news".into()], &["a.*".into(), "*".into()], 5, true, true).unwrap()
}

fn users(names: &[&str]) -> Users {
    let page = names.iter().map(|name| User { name: (*name).into(), connections: 1 << 40 }).collect();
    Users { page, more: true, count: 3, connections: u64::MAX, anonymous: 5, hubs: None }
}

fn from_hosts() -> Vec<FromHost<'static>> {
    let plain = Publication::new("c", b"data");
    let full = Publication { event: Some("e"), key: Some("k"), binary: true, ..plain };
    let trace = Traceparent::parse(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let traced = Publication { trace, ..full };
    let to_user = Publication { channel: "user:ann", to_user: true, ..full };
    let except = Some(ClientId::from_bytes([9; 16]));
    let replacement = Replacement { data: &[0, 255], event: Some("e"), binary: true };
    vec![
        FromHost::Hello(hello()),
        FromHost::Publish { number: 1, publication: traced },
        FromHost::Publish { number: 1, publication: to_user },
        FromHost::Publish { number: 1, publication: Publication { except, ..plain } },
        FromHost::Broadcast { number: 1, publication: Publication { except, channel: "", ..traced } },
        FromHost::Batch { number: 2, publications: vec![Publication { except, ..to_user }, plain] },
        FromHost::Batch { number: 2, publications: vec![Publication { trace, ..to_user }, plain] },
        FromHost::Publish { number: 1, publication: Publication { mark: Some(Mark::End), trace, ..plain } },
        FromHost::Batch { number: 2, publications: vec![plain, traced] },
        FromHost::Publish { number: 1, publication: full },
        FromHost::Publish { number: 1, publication: Publication::mark("c", Mark::Begin) },
        FromHost::Publish { number: 1, publication: Publication::mark("c", Mark::End) },
        FromHost::Broadcast { number: 2, publication: Publication { channel: "", ..plain } },
        FromHost::Batch { number: u64::MAX, publications: vec![plain, full] },
        FromHost::Adopt { grant: None, head: b"GET / HTTP/1.1\r\n" },
        FromHost::Adopt { grant: Some(grant()), head: b"" },
        FromHost::Adopt { grant: Some(grant_that_subscribes()), head: b"" },
        FromHost::Adopt { grant: Some(grant_that_publishes_elsewhere()), head: b"" },
        FromHost::Adopt { grant: Some(grant_that_informs()), head: b"head" },
        FromHost::Renew { connection: 9, grant: grant_that_informs_and_subscribes() },
        FromHost::Send { connection: 3, binary: true, data: b"x" },
        FromHost::Close { connection: 4, code: 4000, reason: "why" },
        FromHost::Allow { request: 5, grant: grant() },
        FromHost::Deny { request: 6, status: 403, reason: "" },
        FromHost::Answer { request: 7, binary: true, data: &[0, 255] },
        FromHost::AllowPublish { request: 7, instead: None },
        FromHost::AllowPublish { request: 7, instead: Some(replacement) },
        FromHost::AllowPublish { request: 7, instead: Some(Replacement { event: None, ..replacement }) },
        FromHost::Disconnect { user: "ann", code: 4403, reason: "out", number: None },
        FromHost::Revoke { user: "ann", channel: "a.*", reason: "why", number: None },
        FromHost::Renew { connection: 9, grant: grant() },
        FromHost::Stats { number: 7 },
        FromHost::Users { number: 8, channel: "c", after: "ann", limit: MAX_USERS as u32, time_ms: None },
        FromHost::Credit { events: 8 },
    ]
}

fn event_of_a_request() -> Event {
    Event {
        kind: EventKind::Request,
        connection: 1,
        request: 2,
        user: Some("ann".into()),
        channel: Some("c".into()),
        data: Bytes::from_static(b"head"),
        binary: true,
        code: 1006,
        publishing: None,
        host: 0,
    }
}

fn from_hubs() -> Vec<FromHub<'static>> {
    let publishing = |event: Option<&str>, key: Option<&str>| {
        let publishing = Publishing { event: event.map(Box::from), key: key.map(Box::from) };
        let publishing = Some(Box::new(publishing));
        FromHub::Event(Event { kind: EventKind::Publish, publishing, ..event_of_a_request() })
    };
    vec![
        FromHub::Welcome {
            epoch: "abc",
            done: 1,
            max_message: 2,
            max_send: 3,
            max_batch: None,
            life: None,
            user_channel: None,
        },
        FromHub::Refused { because: RefusedBecause::Full, text: "no" },
        FromHub::Published { number: 1, seq: 2, subscribers: 3 },
        FromHub::Batched { number: 1, seqs: vec![2, 3, 5] },
        FromHub::Failed { number: 1, kind: Kind::TooLarge, text: "why" },
        FromHub::Stats { number: 1, json: b"{}" },
        FromHub::Users { number: 1, users: users(&["ann", "b\u{fc}b"]) },
        FromHub::Users { number: 1, users: Users::default() },
        FromHub::Event(event_of_a_request()),
        publishing(None, None),
        publishing(Some("e"), Some("k")),
        FromHub::Limits { max_message: 1, max_send: 2 },
        FromHub::Epoch { epoch: "abc" },
    ]
}

fn written(write: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes
}

/// The types of frames that a side can read.
fn readable<R>(read: impl Fn(&[u8]) -> Result<R, Malformed>) -> Vec<u8> {
    let unknown = |kind: &u8| matches!(read(&[*kind]), Err(Malformed("a frame of unknown type")));
    (0..=u8::MAX).filter(|kind| !unknown(kind)).collect()
}

#[test]
fn the_lists_above_have_each_type_of_frame() {
    let kinds = |frames: Vec<Vec<u8>>| {
        let mut kinds: Vec<u8> =
            frames.iter().map(|frame| first_frame(frame, MAX_FRAME).unwrap().unwrap()[0]).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    };
    let hosts = from_hosts().iter().map(|frame| written(|into| frame.write(into))).collect();
    assert_eq!(kinds(hosts), readable(|frame| FromHost::read(frame).map(drop)));
    let hubs = from_hubs().iter().map(|frame| written(|into| frame.write(into))).collect();
    assert_eq!(kinds(hubs), readable(|frame| FromHub::read(frame).map(drop)));
}

#[test]
fn frames_round_trip() {
    for sent in from_hosts() {
        let bytes = written(|into| sent.write(into));
        let frame = first_frame(&bytes, MAX_FRAME).unwrap().unwrap();
        assert_eq!(framed_len(frame), bytes.len());
        let read = FromHost::read(frame).unwrap();
        assert_eq!(format!("{read:?}"), format!("{sent:?}"));
    }
    for sent in from_hubs() {
        let bytes = written(|into| sent.write(into));
        let frame = first_frame(&bytes, MAX_FRAME).unwrap().unwrap();
        assert_eq!(format!("{:?}", FromHub::read(frame).unwrap()), format!("{sent:?}"));
    }
}

#[test]
fn the_length_of_a_frame_with_a_payload_is_known_before_it_is_written() {
    for sent in from_hosts() {
        let may_have = |sent: &FromHost<'_>| {
            matches!(sent, FromHost::Send { .. } | FromHost::Answer { .. } | FromHost::AllowPublish { .. })
        };
        let has_payload = sent.messages() > 0 || may_have(&sent);
        let expected = if has_payload { written(|into| sent.write(into)).len() } else { 0 };
        assert_eq!(sent.len_with_payload(), expected, "{sent:?}");
    }
}

#[test]
fn a_welcome_tells_newer_hosts_more_of_the_hub() {
    let newest = (Some(16), Some(u64::MAX), Some(true));
    for (max_batch, life, user_channel) in [
        (None, None, None),
        (Some(16), None, None),
        (Some(16), Some(u64::MAX), None),
        (Some(16), Some(u64::MAX), Some(false)),
        newest,
    ] {
        let sent =
            FromHub::Welcome { epoch: "abc", done: 1, max_message: 2, max_send: 3, max_batch, life, user_channel };
        let bytes = written(|into| sent.write(into));
        let Ok(FromHub::Welcome { max_batch: batch, life: read, user_channel: users, .. }) = FromHub::read(&bytes[4..])
        else {
            panic!("no welcome")
        };
        assert_eq!((batch, read, users), (max_batch, life, user_channel));
        if user_channel.is_some() {
            // This field is a flag, so the frame without it is the one for the version before.
            assert!(FromHub::read(&bytes[4..bytes.len() - 1]).is_ok());
            assert!(FromHub::read(&[&bytes[4..bytes.len() - 1], &[2]].concat()).is_err());
            continue;
        }
        assert!(FromHub::read(&bytes[4..bytes.len() - 1]).is_err());
        assert!(FromHub::read(&[&bytes[4..], b"x"].concat()).is_err());
    }
}

#[test]
fn a_question_gets_the_time_of_its_host_when_it_is_sent_to_a_newer_hub() {
    let older = FromHost::Users { number: 1, channel: "c", after: "a", limit: 5, time_ms: None };
    let newer = FromHost::Users { number: 1, channel: "c", after: "a", limit: 5, time_ms: Some(1500) };
    let mut bytes = b"before it".to_vec();
    let start = bytes.len();
    older.write(&mut bytes);
    append(&mut bytes, start, &1500u32.to_le_bytes());
    assert_eq!(bytes[start..], written(|into| newer.write(into)));
    assert_eq!(format!("{:?}", FromHost::read(&bytes[start + 4..]).unwrap()), format!("{newer:?}"));
    assert!(FromHost::read(&bytes[start + 4..bytes.len() - 1]).is_err());
}

#[test]
fn a_command_gets_its_number_when_it_is_sent_to_a_newer_hub() {
    let commands = |number| {
        [
            FromHost::Disconnect { user: "ann", code: 4403, reason: "out", number },
            FromHost::Revoke { user: "ann", channel: "a.*", reason: "why", number },
        ]
    };
    for (older, newer) in commands(None).iter().zip(commands(Some(u64::MAX - 1))) {
        let mut bytes = b"before it".to_vec();
        let start = bytes.len();
        older.write(&mut bytes);
        append(&mut bytes, start, &(u64::MAX - 1).to_le_bytes());
        assert_eq!(bytes[start..], written(|into| newer.write(into)));
        assert_eq!(format!("{:?}", FromHost::read(&bytes[start + 4..]).unwrap()), format!("{newer:?}"));
        (1..8).for_each(|cut| assert!(FromHost::read(&bytes[start + 4..bytes.len() - cut]).is_err(), "{cut}"));
        assert!(FromHost::read(&[&bytes[start + 4..], b"x"].concat()).is_err());
    }
}

#[test]
fn only_messages_to_users_need_a_hub_that_knows_their_channels() {
    let to_user = Publication { to_user: true, ..Publication::new("user:ann", b"x") };
    let batch = vec![Publication::mark("c", Mark::End), to_user];
    assert_eq!(FromHost::Publish { number: 1, publication: to_user }.since(), USER_CHANNELS);
    assert_eq!(FromHost::Batch { number: 1, publications: batch }.since(), USER_CHANNELS);
    let named = Publication::new("user:ann", b"x");
    assert_eq!(FromHost::Publish { number: 1, publication: named }.since(), OLDEST, "a host may name it itself");
}

#[test]
fn only_messages_that_leave_a_client_out_need_a_hub_that_knows_of_that() {
    let one = Publication { except: Some(ClientId::from_bytes([9; 16])), ..Publication::new("c", b"x") };
    let to_user = Publication { to_user: true, ..Publication::new("user:ann", b"x") };
    assert_eq!(FromHost::Publish { number: 1, publication: one }.since(), EXCEPTS);
    assert_eq!(FromHost::Broadcast { number: 1, publication: Publication { channel: "", ..one } }.since(), EXCEPTS);
    assert_eq!(FromHost::Batch { number: 1, publications: vec![one, to_user] }.since(), EXCEPTS);
    assert_eq!(FromHost::Batch { number: 1, publications: vec![to_user] }.since(), USER_CHANNELS);
    assert_eq!(FromHost::Batch { number: 1, publications: Vec::new() }.since(), OLDEST);
}

#[test]
fn only_marks_need_a_hub_that_knows_them() {
    let end = Publication::mark("c", Mark::End);
    assert_eq!(FromHost::Publish { number: 1, publication: end }.since(), MARKS);
    assert_eq!(FromHost::Batch { number: 1, publications: vec![Publication::new("c", b""), end] }.since(), MARKS);
    assert_eq!(FromHost::Publish { number: 1, publication: Publication::new("c", b"") }.since(), OLDEST);
}

#[test]
fn a_frame_loses_its_traces_for_a_hub_that_does_not_know_them() {
    let trace = Traceparent::parse(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let plain = Publication::new("c", b"data");
    let traced = Publication { trace, ..plain };
    let frames = |one, other| {
        [
            FromHost::Publish { number: 7, publication: one },
            FromHost::Broadcast { number: 7, publication: Publication { channel: "", ..one } },
            FromHost::Batch { number: 7, publications: vec![other, one] },
        ]
    };
    for (traced, plain) in frames(traced, plain).iter().zip(frames(plain, plain)) {
        assert_eq!(traced.since(), OLDEST, "an older hub gets it all the same");
        let (traced, plain) = (written(|into| traced.write(into)), written(|into| plain.write(into)));
        assert_eq!(FromHost::untraced(&traced).as_deref(), Some(&*plain));
        assert_eq!(FromHost::untraced(&plain), None);
        assert_eq!(FromHost::untraced(&traced[..traced.len() - 1]), None);
    }
    assert_eq!(FromHost::untraced(&written(|into| FromHost::Stats { number: 7 }.write(into))), None);
    // The ids are checked: nobody would find a span whose trace is zeros.
    let mut bytes = written(|into| FromHost::Publish { number: 7, publication: traced }.write(into));
    bytes[14..30].fill(0);
    assert!(FromHost::read(&bytes[4..]).is_err());
}

#[test]
fn cut_and_stretched_frames_are_refused() {
    for sent in from_hosts() {
        let bytes = written(|into| sent.write(into));
        for end in 0..bytes.len() {
            assert_eq!(first_frame(&bytes[..end], MAX_FRAME), Ok(None));
        }
        for end in 5..bytes.len() {
            assert!(FromHost::read(&bytes[4..end]).is_err(), "{sent:?} cut at {end}");
        }
        let stretched = [&bytes[4..], b"x"].concat();
        assert!(FromHost::read(&stretched).is_err(), "{sent:?}");
    }
    for sent in from_hubs() {
        let bytes = written(|into| sent.write(into));
        for end in 5..bytes.len() {
            assert!(FromHub::read(&bytes[4..end]).is_err(), "{sent:?} cut at {end}");
        }
    }
}

#[test]
fn lengths_are_bounded() {
    assert!(first_frame(&[0, 0, 0, 0], MAX_FRAME).is_err());
    assert!(first_frame(&[0xff; 4], MAX_FRAME).is_err());
    assert!(first_frame(&257u32.to_le_bytes(), MAX_HELLO).is_err());
    // Counts and lengths inside a frame can't claim more than the frame has.
    let mut batch = vec![4];
    batch.extend_from_slice(&[0; 8]);
    batch.extend_from_slice(&10_001u32.to_le_bytes());
    assert_eq!(FromHost::read(&batch).unwrap_err(), Malformed("a batch of too many messages"));
    let mut send = vec![6];
    send.extend_from_slice(&[0; 9]);
    send.extend_from_slice(&u32::MAX.to_le_bytes());
    assert!(FromHost::read(&send).is_err());
}

#[test]
fn garbage_is_refused() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut next = || random.next();
    for _ in 0..100_000 {
        let length = (next() % 64) as usize + 1;
        let mut frame: Vec<u8> = (0..length).map(|_| next() as u8).collect();
        frame[0] = (next() % 80) as u8;
        // Neither call panics. A frame that is read by chance stays within its bounds.
        let _ = FromHost::read(&frame);
        let _ = FromHub::read(&frame);
    }
}

#[test]
fn a_hello_of_an_older_version_is_read_completely() {
    let older = Hello { version: OLDEST, ..hello() };
    let bytes = written(|into| FromHost::Hello(older.clone()).write(into));
    assert!(matches!(FromHost::read(&bytes[4..]), Ok(FromHost::Hello(read)) if read == older));
}

#[test]
fn a_hello_of_another_version_is_still_understood() {
    let mut bytes = written(|into| FromHost::Hello(Hello { version: VERSION + 1, ..hello() }).write(into));
    bytes.truncate(4 + 1 + 8 + 2 + 3);
    let FromHost::Hello(hello) = FromHost::read(&bytes[4..]).unwrap() else { panic!("no hello") };
    assert_eq!((hello.version, hello.name), (VERSION + 1, ""));
}
