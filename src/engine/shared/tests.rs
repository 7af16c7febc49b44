//! The driver over the model of a log, in a time of its own.

mod clearing;
mod last_numbers;
mod members;
mod parts;

use super::model::Model;
use super::{Driver, Parts, Settings, Shared};
use crate::framing::message;
use crate::hub::{
    Hub, Mailbox, Message, OnSettled, Outgoing, Placing, Publication, Retention, Settings as HubSettings, Settled,
};
use crate::log::{Level, Log};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout, Instant};

const TIMEOUT: Duration = Duration::from_millis(500);

struct Running {
    hub: Arc<Hub>,
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    looks: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

/// The hub, and how often the driver has looked at it.
struct Of(Arc<Hub>, Arc<AtomicU64>);

impl AsRef<Hub> for Of {
    fn as_ref(&self) -> &Hub {
        self.1.fetch_add(1, Ordering::Relaxed);
        &self.0
    }
}

fn start(model: &Model, name: u64, room: usize, buffer: usize) -> Running {
    start_with(model, name, room, buffer, TIMEOUT)
}

fn start_with(model: &Model, name: u64, room: usize, buffer: usize, limit: Duration) -> Running {
    let mailbox = Arc::new(Mailbox::new(room, Box::new(|| {})));
    let settings = HubSettings {
        key_window_ms: 1 << 40,
        ..HubSettings::keeping(Retention { count: 10_000, age_ms: 1 << 40, bytes: 1 << 30 })
    };
    let mut hub = Hub::replica(&settings, vec![mailbox.clone()]);
    let mut random = name << 32;
    let parts = Parts {
        settings: Settings::Model(model.clone()),
        name: format!("hub-{name}").into(),
        place: "model".into(),
        timeout: limit,
        kept: (Duration::from_secs(3600), 1 << 30),
        buffer,
        make: message,
        log: Log::new(None, Level::Error),
    };
    let (driver, shared) = Driver::new(parts, name, move || {
        random += 1;
        random
    });
    hub.publish_into(shared.inlet.clone());
    let hub = Arc::new(hub);
    let looks = Arc::new(AtomicU64::new(0));
    let thread = tokio::spawn(driver.run(Box::new(Of(hub.clone(), looks.clone())), Box::new(|_| {})));
    Running { hub, shared, mailbox, looks, thread }
}

impl Running {
    fn publish(&self, data: &str, on_settled: Option<OnSettled>) -> Result<Placing, crate::Error> {
        let publication = Publication::new("a", data.as_bytes());
        let outgoing = Outgoing::new("a", None, message(&publication));
        self.hub.submit(vec![outgoing], None, 0, on_settled)
    }

    /// Publishes, and waits for the number.
    async fn number(&self, data: &str) -> Option<u64> {
        let (tell, told) = tokio::sync::oneshot::channel();
        let placing = self.publish(data, Some(Box::new(move |settled: Settled| drop(tell.send(settled)))));
        assert_eq!(placing.unwrap(), Placing::Later);
        timeout(Duration::from_secs(60), told).await.ok()?.ok().map(|settled| settled.places[0].seq)
    }

    /// What its history has.
    fn messages(&self) -> Vec<(u64, String)> {
        use crate::hub::{Cut, Item, Join, Replay, Request, Start};
        let request = Request {
            shard: 0,
            names: &["a"],
            start: Start::Last(100_000),
            limit: usize::MAX,
            broadcasts: false,
            cut: Cut::Head,
            join: Join::Never,
        };
        let mut replay = Replay::default();
        self.hub.subscribe(&request, &mut replay, &mut Vec::new());
        let text = |message: &Arc<Message>| {
            // The model puts the place of each message behind its payload.
            let data = message.data();
            (message.seq(), String::from_utf8_lossy(&data[..data.len() - 4]).into_owned())
        };
        let found = replay.items.iter().filter_map(|item| match item {
            Item::Message(message) => Some(text(message)),
            Item::Gap(..) | Item::Loss(..) => None,
        });
        found.collect()
    }

    /// Its mailbox gets what comes from now on.
    fn subscribe(&self) {
        use crate::hub::{Cut, Join, Replay, Request, Start};
        let request = Request {
            shard: 0,
            names: &["a"],
            start: Start::New,
            limit: 1 << 20,
            broadcasts: false,
            cut: Cut::Tail,
            join: Join::Always,
        };
        self.hub.subscribe(&request, &mut Replay::default(), &mut Vec::new());
    }

    async fn end(self) {
        self.shared.inlet.end(std::time::Instant::now() + Duration::from_secs(3600));
        timeout(Duration::from_secs(60), self.thread).await.expect("it ends").unwrap();
    }
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < Duration::from_secs(120), "never: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_hub_publishes_all_have_under_the_same_numbers() {
    let model = Model::new(1);
    let hubs = [start(&model, 1, 1000, 1 << 20), start(&model, 2, 1000, 1 << 20)];
    let mut numbers = Vec::new();
    for at in 0..50 {
        numbers.push(hubs[at % 2].number(&at.to_string()).await.unwrap());
    }
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    until("both have all", || hubs.iter().all(|hub| hub.messages().len() == 50)).await;
    assert_eq!(hubs[0].messages(), hubs[1].messages());
    assert_eq!(hubs[0].hub.present_epoch(), hubs[1].hub.present_epoch());
    until("they are healthy", || hubs.iter().all(|hub| hub.shared.status.failure().is_none())).await;
    let [one, two] = hubs;
    one.end().await;
    two.end().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_doubled_or_moved_over_a_log_that_misbehaves() {
    for seed in 0..40 {
        let model = Model::new(seed);
        (model.log().0.delay, _) = (1 + seed as usize % 40, model.calm(false));
        let hubs = [start(&model, 1, 20_000, 1 << 20), start(&model, 2, 20_000, 1 << 20)];
        let told = Arc::new(Mutex::new(0));
        for round in 0..30 {
            for at in 0..20 {
                let told = told.clone();
                let count: OnSettled = Box::new(move |_| *told.lock().unwrap() += 1);
                hubs[0].publish(&format!("{:04}", round * 20 + at), Some(count)).unwrap();
            }
            match (seed + round) % 5 {
                0 => model.cut(),
                1 => model.fail_over(0),
                2 => {
                    let (mut log, now) = model.log();
                    log.away = now + 300;
                    drop(log);
                    model.cut();
                }
                _ => {}
            }
            sleep(Duration::from_millis(40)).await;
        }
        model.calm(true);
        until("all are told", || *told.lock().unwrap() == 600).await;
        until("the other hub has all", || hubs[1].messages().len() == 600).await;
        let texts: Vec<String> = hubs[1].messages().into_iter().map(|(_, text)| text).collect();
        assert!(texts.iter().enumerate().all(|(at, text)| *text == format!("{at:04}")), "seed {seed}: {texts:?}");
        assert_eq!(hubs[0].shared.inlet.waiting(), 0);
        for hub in hubs {
            hub.end().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_does_not_answer_is_noticed_in_time_and_found_again() {
    let model = Model::new(3);
    let hub = start(&model, 1, 1000, 1 << 20);
    until("it is healthy", || hub.shared.status.failure().is_none()).await;
    model.hang(true);
    let began = Instant::now();
    until("it is unhealthy", || hub.shared.status.failure().is_some()).await;
    assert!(began.elapsed() <= TIMEOUT * 2, "{:?}", began.elapsed());
    until("it says why", || hub.shared.status.failure().is_some_and(|why| why.contains("engine_timeout"))).await;
    hub.publish("x", None).unwrap();
    sleep(Duration::from_secs(30)).await;
    model.hang(false);
    until("it is healthy again", || hub.shared.status.failure().is_none()).await;
    until("it is published", || hub.messages().len() == 1).await;
    assert!(hub.shared.status.numbers().reconnects > 0);
    hub.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_can_be_read_and_takes_nothing_is_tried_more_and_more_seldom() {
    let model = Model::new(8);
    let hub = start(&model, 1, 1000, 1 << 20);
    until("it is healthy", || hub.shared.status.failure().is_none()).await;
    model.fill(true);
    sleep(Duration::from_secs(5)).await;
    let before = model.connects();
    sleep(Duration::from_secs(20)).await;
    let tries = model.connects() - before;
    assert!((2..20).contains(&tries), "{tries} connections in 20 s");
    assert_eq!(hub.shared.status.failure().as_deref(), Some("the model is full"));
    hub.publish("x", None).unwrap();
    model.fill(false);
    until("it is healthy again", || hub.shared.status.failure().is_none()).await;
    until("it is published", || hub.messages().len() == 1).await;
    // A connection that was good for a while is made again at once.
    sleep(Duration::from_secs(1)).await;
    let (before, began) = (model.connects(), Instant::now());
    model.cut();
    until("it is connected again", || model.connects() > before).await;
    assert!(began.elapsed() < Duration::from_millis(200), "{:?}", began.elapsed());
    hub.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_reload_makes_the_connection_anew_and_loses_nothing() {
    let (model, other) = (Model::new(12), Model::new(13));
    let hub = start(&model, 1, 1000, 1 << 20);
    until("it is healthy", || hub.shared.status.failure().is_none()).await;
    assert!(hub.number("before").await.is_some());
    for at in 0..20 {
        hub.publish(&at.to_string(), None).unwrap();
    }
    hub.shared.inlet.reconnect(Settings::Model(other.clone()), 2 * TIMEOUT);
    until("it is connected by the new settings", || other.connects() == 1).await;
    until("all are there", || hub.messages().len() == 21).await;
    assert_eq!(model.connects(), 1);
    hub.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_hub_without_its_log_sleeps() {
    let model = Model::new(9);
    let hub = start(&model, 1, 1000, 1 << 20);
    until("it is healthy", || hub.shared.status.failure().is_none()).await;
    (model.log().0.away, _) = (u64::MAX, model.cut());
    until("it is unhealthy", || hub.shared.status.failure().is_some()).await;
    let before = hub.looks.load(Ordering::Relaxed);
    sleep(Duration::from_secs(20)).await;
    let looks = hub.looks.load(Ordering::Relaxed) - before;
    assert!(looks < 300, "it looked {looks} times in 20 s");
    model.log().0.away = 0;
    until("it is healthy again", || hub.shared.status.failure().is_none()).await;
    hub.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_was_lost_keeps_what_comes_into_it_again() {
    let model = Model::new(10);
    let hub = start(&model, 1, 1000, 1 << 20);
    hub.shared.status.set_kept((Duration::from_secs(8), 1 << 30));
    for at in 0..50 {
        assert!(hub.number(&at.to_string()).await.is_some());
    }
    sleep(Duration::from_secs(5)).await;
    model.log().0.replace();
    model.cut();
    until("all are there again", || hub.messages().len() == 50).await;
    // The hub counts what it finds as new, and nothing of that is old yet. Numbers of the life before are.
    sleep(Duration::from_secs(6)).await;
    assert_eq!(model.log().0.first(), 1);
    sleep(Duration::from_secs(6)).await;
    assert!(model.log().0.first() > 1, "what is old is forgotten");
    hub.end().await;
}

#[tokio::test(start_paused = true)]
async fn how_far_a_slow_hub_is_behind_is_known() {
    let model = Model::new(11);
    let (slow, other) = (start(&model, 1, 8, 1 << 20), start(&model, 2, 1000, 1 << 20));
    until("it has caught up", || slow.hub.has_caught_up()).await;
    slow.subscribe();
    for at in 0..9000 {
        other.publish(&format!("{at:0200}"), None).unwrap();
        if at % 100 == 0 {
            until("there is room", || other.shared.inlet.waiting() < 1 << 18).await;
        }
    }
    until("the other hub has all", || other.messages().len() == 9000).await;
    until("the slow one says it", || slow.shared.status.numbers().behind > 8500).await;
    slow.end().await;
    other.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_bounded_and_a_refused_call_does_nothing() {
    let model = Model::new(4);
    let hub = start(&model, 1, 1000, 4096);
    until("it is healthy", || hub.shared.status.failure().is_none()).await;
    (model.log().0.away, _) = (u64::MAX, model.cut());
    let mut taken = 0;
    while hub.publish(&format!("{taken:04}"), None).is_ok() {
        taken += 1;
    }
    assert!((5..40).contains(&taken), "{taken}");
    let error = hub.publish("more", None).unwrap_err();
    assert_eq!(error.kind(), crate::error::Kind::Busy);
    model.log().0.away = 0;
    until("all are there", || hub.messages().len() == taken).await;
    until("there is room", || hub.shared.inlet.waiting() == 0).await;
    assert_eq!(hub.messages().last().unwrap().1, format!("{:04}", taken - 1));
    hub.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_mailbox_makes_the_tail_wait_and_drops_nothing() {
    let model = Model::new(5);
    let (slow, other) = (start(&model, 1, 8, 1 << 20), start(&model, 2, 1000, 1 << 20));
    until("it has caught up", || slow.hub.has_caught_up()).await;
    slow.subscribe();
    for at in 0..100 {
        other.publish(&at.to_string(), None).unwrap();
    }
    until("the other hub has all", || other.messages().len() == 100).await;
    sleep(Duration::from_secs(5)).await;
    assert!(slow.messages().len() <= 8);
    let mut delivered = Vec::new();
    until("all are delivered", || {
        delivered.extend(std::iter::from_fn(|| slow.mailbox.pop()).filter(|delivery| delivery.as_break().is_none()));
        delivered.len() == 100
    })
    .await;
    assert!(delivered.is_sorted_by(|a, b| a.message.seq() < b.message.seq()));
    slow.end().await;
    other.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_ends_leaves_nothing_behind_and_ends_in_time() {
    let model = Model::new(6);
    let hub = start(&model, 1, 1000, 1 << 20);
    for at in 0..300 {
        hub.publish(&at.to_string(), None).unwrap();
    }
    hub.end().await;
    let other = start(&model, 2, 1000, 1 << 20);
    until("all are there", || other.messages().len() == 300).await;
    (model.log().0.away, _) = (u64::MAX, model.cut());
    other.publish("never", None).unwrap();
    // By the clock of the test, which does not go on while this machine is busy.
    other.shared.inlet.end((Instant::now() + Duration::from_millis(200)).into_std());
    assert_eq!(other.publish("x", None).unwrap_err().kind(), crate::error::Kind::Closed);
    timeout(Duration::from_secs(5), other.thread).await.expect("it ends").unwrap();
}

#[tokio::test(start_paused = true)]
async fn messages_that_the_log_loses_are_appended_again_by_their_hub() {
    let model = Model::new(7);
    let hubs = [start(&model, 1, 1000, 1 << 20), start(&model, 2, 1000, 1 << 20)];
    for at in 0..20 {
        assert!(hubs[at % 2].number(&at.to_string()).await.is_some());
    }
    let before = hubs[0].hub.present_epoch();
    model.fail_over(8);
    until("both have another epoch", || hubs.iter().all(|hub| hub.hub.present_epoch() != before)).await;
    until("both have all", || hubs.iter().all(|hub| hub.messages().len() == 20)).await;
    let texts = |hub: &Running| {
        let mut texts: Vec<u64> = hub.messages().iter().map(|(_, text)| text.parse().unwrap()).collect();
        texts.sort_unstable();
        texts
    };
    assert_eq!(texts(&hubs[0]), (0..20).collect::<Vec<_>>());
    assert_eq!(hubs[0].messages(), hubs[1].messages());
    assert!(hubs[0].shared.status.numbers().fences >= 2);
    for hub in hubs {
        hub.end().await;
    }
}
