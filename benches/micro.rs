//! Micro-benchmarks of the hot paths: `cargo bench`. Compare figures of one run only, since the machine's speed
//! changes.

use divan::counter::BytesCount;
use divan::{black_box, Bencher};
use push::dialect::{Compression, Dialect, Encoder, Format};
use push::framing::inflate::Inflater;
use push::framing::ws::{self, Rules};
use push::framing::Transport;
use push::hub::{
    Cut, Epoch, Hub, Join, Leave, Mailbox, Message, Outgoing, Publication, Replay, Request, Retention, Settings, Start,
};
use std::sync::Arc;

fn main() {
    divan::main();
}

const PAYLOAD: &[u8] = &[b'x'; 100];

fn hub(count: usize) -> (Hub, Arc<Mailbox>) {
    let mailbox = Arc::new(Mailbox::new(8192, Box::new(|| {})));
    let settings = Settings {
        retention: Retention { count, age_ms: 300_000, bytes: 4 << 20 },
        patterns: &[],
        slow_policy: Default::default(),
        slow_patterns: &[],
        total_bytes: 64 << 20,
        key_window_ms: 120_000,
        client_patterns: 20_000,
        clock_us: || 0,
    };
    (Hub::new(Epoch::from_random(1), &settings, vec![mailbox.clone()]), mailbox)
}

fn message() -> Arc<Message> {
    Message::new(&Publication::new("news", PAYLOAD), false, &[0x81, 100])
}

fn publish(hub: &Hub, channel: &str) {
    let outgoing = Outgoing::new(channel, None, message());
    black_box(hub.publish(outgoing, 1).is_ok());
}

fn subscribe(hub: &Hub, start: Start<'_>, replay: &mut Replay) -> u32 {
    let mut ids = Vec::new();
    let request = Request {
        shard: 0,
        names: &["news"],
        start,
        limit: 1 << 20,
        broadcasts: true,
        cut: Cut::Tail,
        join: Join::Always,
    };
    hub.subscribe(&request, replay, &mut ids);
    ids[0].0
}

#[divan::bench(args = [0, 100])]
fn publish_without_subscribers(bencher: Bencher, history: usize) {
    let (hub, _) = hub(history);
    bencher.bench(|| publish(&hub, "news"));
}

#[divan::bench]
fn publish_into_a_mailbox(bencher: Bencher) {
    let (hub, mailbox) = hub(100);
    subscribe(&hub, Start::New, &mut Replay::default());
    bencher.bench(|| {
        publish(&hub, "news");
        black_box(mailbox.pop());
    });
}

#[divan::bench(args = [1_000, 1_000_000])]
fn publish_among_channels(bencher: Bencher, channels: usize) {
    let (hub, _) = hub(1);
    let names: Vec<String> = (0..channels).map(|n| format!("channel/{n}")).collect();
    names.iter().for_each(|name| publish(&hub, name));
    let mut next = 0;
    bencher.bench_local(|| {
        // The steps are so large that the caches do not help.
        next = (next + 7_919) % channels;
        publish(&hub, &names[next]);
    });
}

#[divan::bench]
fn subscribe_and_leave(bencher: Bencher) {
    let (hub, _) = hub(100);
    publish(&hub, "news");
    let mut replay = Replay::default();
    bencher.bench_local(|| {
        let channel = subscribe(&hub, Start::New, &mut replay);
        hub.leave(0, &[Leave { channel, count: 1, last: true }]);
    });
}

#[divan::bench(args = [1, 100])]
fn read_history(bencher: Bencher, messages: u64) {
    let (hub, _) = hub(100);
    (0..100).for_each(|_| publish(&hub, "news"));
    let mut replay = Replay::default();
    bencher.bench_local(|| {
        let channel = subscribe(&hub, Start::After(100 - messages), &mut replay);
        hub.leave(0, &[Leave { channel, count: 1, last: true }]);
    });
}

#[divan::bench(args = Format::all())]
fn encode(bencher: Bencher, format: Format) {
    let encoder = Encoder::new(Epoch::from_random(1));
    bencher.counter(BytesCount::of_slice(PAYLOAD)).with_inputs(message).bench_values(|message| {
        black_box(format.encode(&message, &encoder, true).len());
        message
    });
}

#[divan::bench]
fn parse_a_head(bencher: Bencher) {
    let head: &[u8] = b"GET /push?channel=news HTTP/1.1\r\nHost: example.org\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
        Accept-Language: en-US,en;q=0.9\r\nAccept-Encoding: gzip, deflate, br\r\nCookie: session=0123456789abcdef\r\n\r\n";
    let config = push::Builder::default().build().expect("the defaults are valid");
    bencher.bench_local(|| {
        let head = push::http::request::read(black_box(head), config.config(), &push::http::request::Known::default());
        assert!(matches!(head, Ok(Some(head)) if head.wish.is_ok()));
    });
}

#[divan::bench(args = [16, 1024, 65_536])]
fn parse_a_frame(bencher: Bencher, len: usize) {
    let mut frame = vec![0x82, 0x80 | 127];
    frame.extend_from_slice(&(len as u64).to_be_bytes());
    frame.extend_from_slice(&[1, 2, 3, 4]);
    frame.resize(frame.len() + len, 7);
    bencher.counter(BytesCount::new(len)).with_inputs(|| frame.clone()).bench_local_values(|mut frame| {
        let mut partial = None;
        let rules = Rules { max_message: 1 << 20, inflater: None };
        let result = ws::read(&mut partial, &mut frame, rules, &mut |received| {
            black_box(&received);
        });
        black_box(result.is_ok());
        frame
    });
}

/// JSON objects like those that an application publishes.
fn json(len: usize) -> Vec<u8> {
    let object = |n: usize| {
        let (price, size) = (10_000 + n * 7919 % 997, 1 + n * 31 % 50);
        format!(
            r#"{{"symbol":"S{}","price":{price}.{:02},"size":{size},"side":"{}","venue":"XNAS"}},"#,
            n % 17,
            n % 100,
            ["buy", "sell"][n * 13 % 2]
        )
    };
    (0..).flat_map(|n| object(n).into_bytes()).take(len).collect()
}

#[divan::bench(args = [128, 256, 1024, 16_384, 1 << 20])]
fn deflate_a_message(bencher: Bencher, len: usize) {
    let encoder = Encoder::new(Epoch::from_random(1));
    let payload = json(len);
    let message = || Message::new(&Publication::new("news", &payload), false, &[0x81, 100]);
    bencher.counter(BytesCount::new(len)).with_inputs(message).bench_local_values(|message| {
        black_box(
            Format::new(Transport::WebSocket, Dialect::Raw, Compression::Deflate)
                .encode(&message, &encoder, true)
                .len(),
        );
        message
    });
}

#[divan::bench(args = [128, 1024, 65_536])]
fn inflate_a_message(bencher: Bencher, len: usize) {
    let encoder = Encoder::new(Epoch::from_random(1));
    let message = Message::new(&Publication::new("news", &json(len)), false, &[0x81, 100]);
    let frame = Format::new(Transport::WebSocket, Dialect::Raw, Compression::Deflate).encode(&message, &encoder, true);
    let deflated = &frame[if frame.len() < 128 { 2 } else { 4 }..];
    let mut inflater = Inflater::default();
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        assert_eq!(inflater.message(black_box(deflated), len).map(<[u8]>::len), Ok(len));
    });
}
