//! Measures what clients' patterns (`pattern=news.*`) cost a publish: beside 10,000 of them, over the same beside none.
//! It is the hub alone, without sockets and threads, so that nothing else is in the figure. Prints one line of JSON.
//!
//!     patterns
//!
//! - none: to a channel with a subscriber, in a hub with patterns off, as they are by default
//! - unfit: beside 10,000 patterns, of which none fits
//! - fit: beside 10,000 patterns, of which one fits
//! - changed: to 1,000 channels in turn, each once since the patterns have changed. The hub remembers for each channel
//!   what fits it, until then. Of the patterns one fits each channel, and they have all lengths that there are, so the
//!   hub has to look as often as it ever has. Its floor are the same 1,000 channels with patterns off
//!
//! The rounds alternate, and a ratio is that within a round. `make bench` runs it (benches/README.md).

use push::hub::{
    Cut, Epoch, Hub, Join, Leave, Mailbox, Message, Outgoing, Publication, Replay, Request, Retention, Settings, Start,
};
use std::sync::Arc;
use std::time::Instant;

const ROUNDS: usize = 41;
/// The publishes of a round to the one channel.
const BATCH: usize = 20_000;
const PATTERNS: usize = 10_000;
const CHANNELS: usize = 1_000;
/// The longest prefix that a pattern may have.
const LONGEST: usize = 64;
const PAYLOAD: [u8; 100] = [b'x'; 100];

fn main() {
    // No prefix is longer than the names of the channels: the hub looks for no longer ones.
    let one = || vec![topic(CHANNELS / 2)];
    let many = || (0..CHANNELS).map(topic).collect::<Vec<_>>();
    let unfit: Vec<_> = (0..PATTERNS).map(|n| format!("other.{n}.*")).collect();
    let fit: Vec<_> = (0..PATTERNS).map(|n| format!("topic.{n}.*")).collect();
    let lengths: Vec<_> = (1..=LONGEST).map(|length| format!("{}*", "~".repeat(length))).collect();
    let of_all_lengths: Vec<_> = lengths.into_iter().chain(fit.iter().cloned()).take(PATTERNS).collect();

    let (none, unfit, fit) = (Case::new(one(), &[]), Case::new(one(), &unfit), Case::new(one(), &fit));
    let (many_none, changed) = (Case::new(many(), &[]), Case::new(many(), &of_all_lengths));
    assert!(fit.reaches("topic.77.nobody") && changed.reaches("topic.77.nobody"), "the pattern does not fit");
    assert!(!none.reaches("topic.77.nobody") && !unfit.reaches("topic.77.nobody"), "a pattern fits");

    let cases: [&dyn Fn() -> f64; 5] = [
        &|| none.publish(BATCH),
        &|| unfit.publish(BATCH),
        &|| fit.publish(BATCH),
        &|| many_none.publish(CHANNELS),
        &|| {
            changed.change_patterns();
            changed.publish(CHANNELS)
        },
    ];
    let round = |number: usize| {
        let mut ns = [0.0; 5];
        for step in 0..cases.len() {
            let at = (number + step) % cases.len();
            ns[at] = cases[at]();
        }
        ns
    };
    round(0);
    let rounds: Vec<[f64; 5]> = (0..ROUNDS).map(round).collect();
    let of = |pick: fn(&[f64; 5]) -> f64| median(rounds.iter().map(pick).collect());
    println!(
        "{{\"patterns_none_ns\":{:.1},\"patterns_unfit_ns\":{:.1},\"patterns_fit_ns\":{:.1},\
         \"patterns_changed_ns\":{:.1},\"patterns_unfit_over_none\":{:.3},\"patterns_fit_over_none\":{:.3},\
         \"patterns_changed_over_none\":{:.3}}}",
        of(|ns| ns[0]),
        of(|ns| ns[1]),
        of(|ns| ns[2]),
        of(|ns| ns[4]),
        of(|ns| ns[1] / ns[0]),
        of(|ns| ns[2] / ns[0]),
        of(|ns| ns[4] / ns[3]),
    );
}

fn topic(n: usize) -> String {
    format!("topic.{n}.{}", "x".repeat(LONGEST))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A hub with a subscriber to each of some channels, and a subscriber to each of some patterns.
struct Case {
    hub: Hub,
    mailbox: Arc<Mailbox>,
    channels: Vec<String>,
}

impl Case {
    fn new(channels: Vec<String>, patterns: &[String]) -> Self {
        let mailbox = Arc::new(Mailbox::new(8192, Box::new(|| {})));
        let settings = Settings {
            retention: Retention { count: 10, age_ms: 300_000, bytes: 4 << 20 },
            patterns: &[],
            slow_policy: Default::default(),
            slow_patterns: &[],
            total_bytes: 64 << 20,
            key_window_ms: 120_000,
            client_patterns: if patterns.is_empty() { 0 } else { 2 * PATTERNS },
            clock_us: || 0,
        };
        let hub = Hub::new(Epoch::from_random(1), &settings, vec![mailbox.clone()]);
        let case = Case { hub, mailbox, channels };
        for names in case.channels.chunks(100).chain(patterns.chunks(100)) {
            case.subscribe(names);
        }
        case
    }

    /// Returns what ends the subscriptions again.
    fn subscribe<S: AsRef<str>>(&self, names: &[S]) -> Vec<Leave> {
        let (start, cut, join) = (Start::New, Cut::Head, Join::Always);
        let request = Request { shard: 0, names, start, limit: 1 << 20, broadcasts: true, cut, join };
        let mut ids = Vec::new();
        self.hub.subscribe(&request, &mut Replay::default(), &mut ids);
        assert_eq!(ids.len(), names.len(), "subscribed");
        ids.iter().map(|(channel, _)| Leave { channel: *channel, count: 1, last: true }).collect()
    }

    fn change_patterns(&self) {
        let leaves = self.subscribe(&["changed*"]);
        self.hub.leave(0, &leaves);
    }

    /// Publishes to a channel. True if the message came into the mailbox of the shard.
    fn reaches(&self, channel: &str) -> bool {
        let message = Message::new(&Publication::new(channel, &PAYLOAD), false, &[0x81, 100]);
        assert!(self.hub.publish(Outgoing::new(channel, None, message), 1).is_ok(), "published");
        self.mailbox.pop().is_some()
    }

    /// The time of a publish to the channels in turn, in nanoseconds.
    fn publish(&self, count: usize) -> f64 {
        let began = Instant::now();
        let reached = self.channels.iter().cycle().take(count).filter(|channel| self.reaches(channel)).count();
        let ns = began.elapsed().as_nanos() as f64 / count as f64;
        assert_eq!((reached, self.mailbox.waiting()), (count, 0), "each came once");
        ns
    }
}
