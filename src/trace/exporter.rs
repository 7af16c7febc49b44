//! The thread that exports spans.
//!
//! It posts what waits each second, or when half of the queue is taken. While the collector is away it tries again, less
//! and less often, with the same spans. Further spans wait in the queue, and are dropped and counted beyond that.

use super::otlp;
use super::post::{Post, Said};
use super::refusals::{Reason, Refusals};
use super::{Endpoint, Tracer};
use crate::certificates;
use crate::error::{Error, Kind};
use crate::log::{Level, Log};
use crate::panics;
use crate::runtime::{self, Work};
use bytes::Bytes;
use rustls::crypto::aws_lc_rs;
use rustls::ClientConfig;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until, Instant};
use tokio_rustls::TlsConnector;

/// The most spans of one request.
const BATCH: usize = 512;
/// How long a span waits for others.
const EVERY: Duration = Duration::from_secs(1);
/// How long after a stop a collector is waited for that has not answered the last request, or was never asked.
const LAST_TRY: Duration = Duration::from_secs(1);
/// The longest time between two tries, also if the collector asks for a longer one: it may have been started anew.
const LONGEST: Duration = Duration::from_secs(30);

/// How spans are exported.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) endpoint: Endpoint,
    /// The attribute `service.name`.
    pub(crate) service: String,
    pub(crate) timeout: Duration,
}

/// The thread, for others.
#[derive(Debug)]
pub(crate) struct Exporter {
    stop: watch::Sender<Option<Stop>>,
    timeout_ms: Arc<AtomicU64>,
}

/// The thread has to end.
#[derive(Debug, Clone, Copy)]
struct Stop {
    since: Instant,
    until: Instant,
}

impl Stop {
    /// When a request is given up. Whoever stops the hub waits for it. So a collector that may not be there at all does
    /// not get all of the time.
    fn latest(self, answers: bool) -> Instant {
        match answers {
            true => self.until,
            false => self.until.min(self.since + LAST_TRY),
        }
    }
}

/// The work of the thread.
struct Run {
    tracer: Arc<Tracer>,
    service: String,
    /// The attribute `service.instance.id`.
    instance: String,
    url: String,
    timeout_ms: Arc<AtomicU64>,
    log: Log,
    stop: watch::Receiver<Option<Stop>>,
    post: Post,
    held: Option<Batch>,
    /// How often the present batch has failed.
    failures: u32,
    /// The collector has answered the last request. Before the first one nobody knows whether it is there.
    answers: bool,
    told: Told,
    refusals: Refusals,
}

/// Spans under way, encoded once. They count as dropped if nothing else becomes of them: a panic may be in between.
struct Batch {
    body: Bytes,
    spans: u64,
    tracer: Arc<Tracer>,
}

impl Batch {
    /// The collector has said what becomes of them. Returns their number.
    fn settle(&mut self) -> u64 {
        std::mem::take(&mut self.spans)
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.tracer.tally.dropped.fetch_add(self.spans, Ordering::Relaxed);
    }
}

/// What the log has said last.
#[derive(Debug, Default, PartialEq, Eq)]
enum Told {
    #[default]
    Nothing,
    Up,
    Down(String),
}

/// Why spans are left.
enum Failed {
    /// The collector can't be reached, or does not answer.
    Away,
    /// The collector has no time for them. It may say when it has.
    Busy(Option<Duration>),
}

impl Exporter {
    /// The thread's work. Whatever can be wrong from the beginning is an error here.
    pub(crate) fn new(tracer: Arc<Tracer>, settings: Settings, log: Log) -> Result<(Self, Work), Error> {
        let Settings { endpoint, service, timeout } = settings;
        let tls = endpoint.secure.then(connector).transpose();
        let tls = tls.map_err(|why| Error::new(Kind::Config, format!("option trace: {why}")))?;
        let (stop, stopped) = watch::channel(None);
        let timeout_ms = Arc::new(AtomicU64::new(timeout.as_millis() as u64));
        let run = Run {
            tracer,
            service,
            instance: otlp::new_instance(),
            url: endpoint.url(),
            timeout_ms: timeout_ms.clone(),
            log,
            stop: stopped,
            post: Post::new(endpoint, tls),
            held: None,
            failures: 0,
            answers: false,
            told: Told::default(),
            refusals: Refusals::default(),
        };
        let runtime = runtime::single()?;
        let work = Box::new(move || {
            let (log, url, tracer) = (run.log.clone(), run.url.clone(), run.tracer.clone());
            // Spans end also while the collector hangs. A panic in either ends both.
            let all = async {
                tokio::select! {
                    () = run.run() => {}
                    () = sweeping(tracer.clone()) => {}
                }
            };
            if catch_unwind(AssertUnwindSafe(|| runtime.block_on(all))).is_err() {
                let said = panics::said();
                tracer.tally.panics.fetch_add(1, Ordering::Relaxed);
                let text = format_args!("trace: {url}: a bug in the library was caught: {said}; no spans are exported");
                log.line(Level::Error, text);
            }
            // The system's look-up of a name may still be under way, and is not waited for.
            runtime.shutdown_background();
        });
        Ok((Exporter { stop, timeout_ms }, work))
    }

    /// Changes how long the collector may take.
    pub(crate) fn set_timeout(&self, timeout: Duration) {
        self.timeout_ms.store(timeout.as_millis() as u64, Ordering::Relaxed);
    }

    /// The thread exports what is left, and ends at that time at the latest. No shard runs any more.
    pub(crate) fn stop(&self, until: std::time::Instant) {
        let _ = self.stop.send(Some(Stop { since: Instant::now(), until: until.into() }));
    }
}

/// TLS to a collector. The cryptography is named, so nothing is installed for the whole process.
fn connector() -> Result<TlsConnector, String> {
    let roots = certificates::of_the_system().ok_or("this system trusts no authorities, and https needs them")?;
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    Ok(TlsConnector::from(Arc::new(builder.with_root_certificates(roots).with_no_client_auth())))
}

impl Run {
    async fn run(mut self) {
        let mut pause = EVERY;
        while !self.is_stopped() {
            let has_failed = self.failures > 0;
            let mut stop = self.stop.clone();
            tokio::select! {
                _ = stop.changed() => {}
                () = sleep(pause) => {}
                // What has failed is not tried again sooner because more has come.
                () = self.tracer.queue.filled(), if !has_failed => {}
            }
            if self.is_stopped() {
                break;
            }
            pause = match self.export_all().await {
                Ok(()) => EVERY,
                Err(failed) => self.pause(&failed),
            };
        }
        self.finish().await;
    }

    /// Exports what is left. A collector that is away is not waited for, but one that asks for a moment is.
    async fn finish(mut self) {
        self.tracer.under_way.end_all();
        while let Err(Failed::Busy(after)) = self.export_all().await {
            let again = Instant::now() + after.unwrap_or(EVERY).clamp(EVERY, LONGEST);
            if again >= self.until() {
                break;
            }
            sleep_until(again).await;
        }
        let queued = self.tracer.queue.take(usize::MAX).len() as u64;
        self.tracer.tally.dropped.fetch_add(queued, Ordering::Relaxed);
        let left = queued + self.held.take().map_or(0, |batch| batch.spans);
        if left > 0 {
            let text = format_args!("trace: {}: the hub ends; {left} spans are dropped", self.url);
            self.log.line(Level::Warn, text);
        }
    }

    fn is_stopped(&self) -> bool {
        // Without the other side nobody would say it.
        self.stop.borrow().is_some() || self.stop.has_changed().is_err()
    }

    /// The latest end of the thread. Only for one that is stopped.
    fn until(&self) -> Instant {
        self.stop.borrow().map_or_else(Instant::now, |stop| stop.until)
    }

    /// The time until the next try: twice as long after each failure, and not the same for all hubs.
    fn pause(&self, failed: &Failed) -> Duration {
        let doubled = EVERY * (1 << self.failures.min(5));
        let spread = 0.75 + f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX) / 2.0;
        let wanted = match failed {
            Failed::Busy(Some(after)) => *after,
            Failed::Busy(None) | Failed::Away => doubled.mul_f64(spread),
        };
        wanted.clamp(EVERY, LONGEST)
    }

    /// Exports all spans that wait.
    async fn export_all(&mut self) -> Result<(), Failed> {
        loop {
            let Some(mut batch) = self.held.take().or_else(|| self.next_batch()) else { return Ok(()) };
            let said = self.ask(batch.body.clone()).await;
            let tally = &self.tracer.tally;
            match said {
                Ok(Said::Taken { rejected, why }) => {
                    let spans = batch.settle();
                    let rejected = rejected.min(spans);
                    tally.exported.fetch_add(spans - rejected, Ordering::Relaxed);
                    tally.rejected.fetch_add(rejected, Ordering::Relaxed);
                    (self.failures, self.answers) = (0, true);
                    self.say_up();
                    if rejected > 0 {
                        self.warn(Reason::Partial, rejected, |spans| format!("it has rejected {spans} spans: {why}"));
                    } else if !why.is_empty() {
                        self.warn(Reason::Warning, 0, |_| format!("it has taken the spans, and says: {why}"));
                    }
                }
                Ok(Said::Never(why, status)) => {
                    let spans = batch.settle();
                    tally.rejected.fetch_add(spans, Ordering::Relaxed);
                    (self.failures, self.answers) = (0, true);
                    self.warn(Reason::Status(status), spans, |spans| format!("{why}; {spans} spans are dropped"));
                }
                Ok(Said::Later(why, after)) => {
                    self.hold(batch, why);
                    self.answers = true;
                    return Err(Failed::Busy(after));
                }
                Err(why) => {
                    self.hold(batch, why);
                    self.answers = false;
                    return Err(Failed::Away);
                }
            }
        }
    }

    fn next_batch(&self) -> Option<Batch> {
        let spans = self.tracer.queue.take(BATCH);
        if spans.is_empty() {
            return None;
        }
        let mut batch = Batch { body: Bytes::new(), spans: spans.len() as u64, tracer: self.tracer.clone() };
        #[cfg(test)]
        super::exporter_tests::maybe_panic(&spans);
        batch.body = otlp::request(&self.service, &self.instance, spans).into();
        Some(batch)
    }

    fn hold(&mut self, batch: Batch, why: String) {
        self.held = Some(batch);
        self.failures = self.failures.saturating_add(1);
        self.say_down(why);
    }

    /// Posts a request. It takes no longer than the collector may take, and ends with the thread.
    async fn ask(&mut self, body: Bytes) -> Result<Said, String> {
        let limit = Duration::from_millis(self.timeout_ms.load(Ordering::Relaxed));
        let end = given_up(self.stop.clone(), self.answers);
        tokio::select! {
            said = self.post.post(body, limit) => said,
            () = end => Err("it has not answered".to_owned()),
        }
    }

    fn say_up(&mut self) {
        let again = match std::mem::replace(&mut self.told, Told::Up) {
            Told::Up => return,
            Told::Down(_) => " again",
            Told::Nothing => "",
        };
        self.log.limited(Level::Info, "trace", format_args!("trace: {}: the collector takes spans{again}", self.url));
    }

    fn say_down(&mut self, why: String) {
        if matches!(&self.told, Told::Down(said) if *said == why) {
            return;
        }
        let next = if self.is_stopped() { "" } else { "; the hub tries again" };
        self.log.limited(Level::Warn, "trace", format_args!("trace: {}: {why}{next}", self.url));
        self.told = Told::Down(why);
    }

    /// Says that spans are refused, if the log has not just had that. `text`: with the spans since then.
    fn warn(&mut self, reason: Reason, spans: u64, text: impl Fn(u64) -> String) {
        if let Some(spans) = self.refusals.note(reason, spans, std::time::Instant::now()) {
            self.log.limited(Level::Warn, "trace", format_args!("trace: {}: {}", self.url, text(spans)));
        }
    }
}

/// Ends the spans that no shard hands on any more, also while the collector hangs.
async fn sweeping(tracer: Arc<Tracer>) {
    loop {
        sleep(EVERY).await;
        tracer.under_way.sweep();
    }
}

/// Waits until a request is given up, since the thread has to end.
async fn given_up(mut stop: watch::Receiver<Option<Stop>>, answers: bool) {
    let stop = stop.wait_for(Option::is_some).await.map_or(None, |stop| *stop);
    if let Some(stop) = stop {
        sleep_until(stop.latest(answers)).await;
    }
}
