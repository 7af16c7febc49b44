//! Publishers and followers of a hub that ends and starts again.

use super::pushd::{request, stream};
use super::truth::{marked, marks, Id, Told, Truth};
use crate::common::until;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::Mutex;
use std::time::Duration;

pub const CHANNELS: [&str; 2] = ["a", "b"];
/// The beginning of the mark of each channel's last message.
const END: &str = "pEnd";

/// The load on a hub, and everything that is known of its messages.
#[derive(Debug)]
pub struct Load {
    port: u16,
    control: u16,
    /// The position from which on all messages are known.
    pub first: Id,
    stopped: AtomicBool,
    /// True if the followers should end at once.
    given_up: AtomicBool,
    /// The number of requests that were answered.
    pub answered: AtomicU64,
    /// The messages that were acknowledged: their positions and marks.
    pub acknowledged: Mutex<Vec<(Id, String)>>,
    /// The bytes that payloads may have beyond the usual ones, so that a log needs more segments.
    more: AtomicUsize,
    /// The bytes for which such a log has room in this life of its hub.
    room: AtomicUsize,
}

/// The bytes that a payload has more, while that is allowed.
const MORE: usize = 6000;
/// The usual bytes for which a log with small segments has room in each life, beside those that payloads have more.
const USUAL: usize = 400_000;
/// About how many bytes a message has in a log beside its payload.
const BESIDE: usize = 60;

impl Load {
    pub fn new(port: u16, control: u16) -> Self {
        let first = ids(&publish_in_the_end(control, "a", "pFirst")).remove(0);
        let acknowledged = Mutex::new(vec![(first.clone(), "pFirst".into())]);
        let [stopped, given_up] = [false, false].map(AtomicBool::new);
        Load {
            port,
            control,
            first,
            stopped,
            given_up,
            answered: AtomicU64::new(0),
            acknowledged,
            more: AtomicUsize::new(0),
            room: AtomicUsize::new(usize::MAX),
        }
    }

    /// Makes the next payloads longer, by so many bytes in all. Then not much more is published in this life of the
    /// hub, however long it is on a slow machine: the log must not become so large that its beginning is deleted.
    pub fn publish_more(&self, bytes: usize) {
        self.more.store(bytes, Ordering::Relaxed);
        self.room.store(if bytes > 0 { bytes + USUAL } else { usize::MAX }, Ordering::Relaxed);
    }

    /// A mark, and more bytes. Some payloads are so long that a write of them covers several sectors.
    fn payload(&self, mark: &str, n: u64) -> String {
        let more = if n % 50 == 1 { 5000 } else { n * 37 % 300 };
        let less = |left: usize| left.checked_sub(MORE);
        let much = self.more.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).map_or(0, |_| MORE);
        format!("{}{}", marked(mark), ".".repeat(more as usize + much))
    }

    /// Ends the publishers.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Publishes the last messages, for which the followers wait.
    pub fn end(&self) {
        for channel in CHANNELS {
            publish_in_the_end(self.control, channel, &format!("{END}.{channel}"));
        }
    }

    /// Publishes messages one after the other, each with a key. It repeats each until it is answered.
    pub fn publish_with_keys(&self) {
        for n in 1u64.. {
            let (mark, channel) = (format!("p1.{n}"), CHANNELS[n as usize % 2]);
            let what = format!("POST /v1/publish?channel={channel}&key=k{n}");
            let mut answered = false;
            while !answered {
                if self.stopped.load(Ordering::Relaxed) {
                    return;
                }
                answered = self.publish(&what, self.payload(&mark, n).as_bytes(), &[&mark]);
            }
        }
    }

    /// Publishes batches, each once.
    pub fn publish_batches(&self) {
        for n in 1u64.. {
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            let marks: Vec<String> = (0..1 + n % 4).map(|at| format!("p2.{n}.{at}.{}", 1 + n % 4)).collect();
            let message = |(at, mark): (usize, &String)| serde_json::json!({"channel": CHANNELS[at % 2], "data": self.payload(mark, n + at as u64)});
            let batch: Vec<serde_json::Value> = marks.iter().enumerate().map(message).collect();
            let marks: Vec<&str> = marks.iter().map(|mark| &**mark).collect();
            self.publish("POST /v1/publish", serde_json::to_string(&batch).unwrap().as_bytes(), &marks);
        }
    }

    /// Publishes one message to the first channel. A slow disk may answer too late. With its key the message is one.
    pub fn publish_one(&self, mark: &str) {
        let (what, payload) = (format!("POST /v1/publish?channel=a&key={mark}"), self.payload(mark, 1));
        until("it is not published", || self.publish(&what, payload.as_bytes(), &[mark]));
    }

    /// Publishes messages. True if the hub has answered with their positions.
    pub fn publish(&self, what: &str, body: &[u8], marks: &[&str]) -> bool {
        let size = body.len() + BESIDE * marks.len();
        while self.room.load(Ordering::Relaxed) < size && !self.stopped.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let answer = request(self.control, what, body);
        if matches!(answer, Some((200 | 504, _))) {
            let less = |room: usize| Some(room.saturating_sub(size));
            let _ = self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
        // A little slower than the machine can, so that others have their turn.
        std::thread::sleep(Duration::from_millis(2));
        match answer {
            Some((200, body)) => {
                let ids = ids(&body);
                assert_eq!(ids.len(), marks.len(), "{body}");
                let mut acknowledged = self.acknowledged.lock().unwrap();
                acknowledged.extend(ids.into_iter().zip(marks.iter().map(|mark| mark.to_string())));
                self.answered.fetch_add(1, Ordering::Relaxed);
                true
            }
            // The hub goes away, can't write at present, or does not know yet.
            Some((503 | 504, _)) | None => false,
            Some((status, body)) => panic!("{status} {body}"),
        }
    }

    /// Follows channels from a position, through all ends and starts, up to the last messages.
    pub fn follow(&self, channels: &[&str], from: &Id) -> Vec<Told> {
        let (mut told, mut position, mut ends) = (Vec::new(), from.text(), 0);
        let query: String = channels.iter().map(|channel| format!("channel={channel}&")).collect();
        while ends < channels.len() && !self.given_up.load(Ordering::Relaxed) {
            let Some(values) = stream(self.port, &format!("{query}since={position}")) else {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            for value in values {
                let text = |name: &str| value[name].as_str().unwrap_or_else(|| panic!("no {name}: {value}")).to_owned();
                match value["type"].as_str() {
                    Some("message") => {
                        let mark = marks(text("data").as_bytes()).remove(0);
                        ends += usize::from(mark.starts_with(END));
                        told.push(Told::Message { channel: text("channel"), id: Id::parse(&text("id")), mark });
                    }
                    Some("gap") => told.push(Told::Gap { channel: text("channel"), id: Id::parse(&text("id")) }),
                    _ => continue,
                }
                position = text("id");
                if ends == channels.len() {
                    break;
                }
            }
        }
        told
    }

    /// Judges everything that clients and publishers were told. Each follower began at the first position.
    pub fn judge(&self, truth: &Truth, followers: &[(&[&str], Vec<Told>)]) -> Result<(), String> {
        let acknowledged = self.acknowledged.lock().unwrap();
        for (channels, told) in followers {
            channels.iter().try_for_each(|channel| truth.judge(&self.first, channel, told))?;
        }
        acknowledged.iter().try_for_each(|(id, mark)| truth.knows(id, mark).map(drop))?;
        let told = followers.iter().flat_map(|(_, told)| told).filter_map(|told| match told {
            Told::Message { id, mark, .. } => Some((id, &**mark)),
            Told::Gap { .. } => None,
        });
        Truth::one_each(told.chain(acknowledged.iter().map(|(id, mark)| (id, &**mark))))?;
        // A key stands for one message. A batch is there as a whole, or not at all.
        let mut counts: HashMap<&str, u64> = HashMap::new();
        for mark in truth.messages.values().map(|(_, mark)| mark) {
            let is_of_batch = mark.starts_with("p2.");
            let whole =
                if is_of_batch { mark.splitn(3, '.').take(2).map(str::len).sum::<usize>() + 1 } else { mark.len() };
            *counts.entry(&mark[..whole]).or_default() += 1;
            let parts: u64 = if is_of_batch { mark.rsplit('.').next().unwrap().parse().unwrap() } else { 1 };
            if counts[&mark[..whole]] > parts {
                return Err(format!("{mark} is in the log twice"));
            }
        }
        let whole = |(mark, count): (&&str, &u64)| match mark.strip_prefix("p2.") {
            Some(n) if *count != 1 + n.parse::<u64>().unwrap() % 4 => Err(format!("{count} messages of {mark}")),
            _ => Ok(()),
        };
        counts.iter().try_for_each(whole)
    }
}

/// Ends the publishers and followers of a load, also if the test panics.
#[derive(Debug)]
pub struct Guard<'a>(pub &'a Load);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.stop();
        self.0.given_up.store(std::thread::panicking(), Ordering::Relaxed);
    }
}

/// Publishes a message, however slow the disk is. Returns the answer.
fn publish_in_the_end(control: u16, channel: &str, mark: &str) -> String {
    let mut answer = (0, String::new());
    until("it is not published", || {
        let what = format!("POST /v1/publish?channel={channel}&key={mark}");
        answer = request(control, &what, marked(mark).as_bytes()).expect("an answer");
        answer.0 == 200
    });
    answer.1
}

/// The positions in an answer to publishing.
fn ids(body: &str) -> Vec<Id> {
    let value: serde_json::Value = serde_json::from_str(body).unwrap();
    let id = |value: &serde_json::Value| Id::parse(value["id"].as_str().unwrap());
    value.as_array().map_or_else(|| vec![id(&value)], |all| all.iter().map(id).collect())
}
