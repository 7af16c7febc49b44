//! The spans of a server's messages, and the thread that exports them (option `trace`).

#[cfg(feature = "trace")]
use crate::callbacks;
use crate::config::Config;
use crate::error::Error;
use crate::hub::Hub;
use crate::log::Log;
use crate::runtime::Work;
use crate::trace::Tracer;
#[cfg(feature = "trace")]
use crate::trace::{Exporter, Settings};
use std::sync::Arc;
use std::thread::JoinHandle;
#[cfg(feature = "trace")]
use std::time::Duration;
use std::time::Instant;

/// The thread, if spans are exported. Without the feature no option asks for that.
#[derive(Debug)]
pub(super) struct Tracing {
    tracer: Arc<Tracer>,
    #[cfg(feature = "trace")]
    exporter: Exporter,
    thread: Option<JoinHandle<()>>,
}

impl Tracing {
    /// Has the hub begin spans, if the options ask for that.
    #[cfg(feature = "trace")]
    pub(super) fn new(config: &Config, hub: &mut Hub, log: &Log) -> Result<Option<(Self, Work)>, Error> {
        let Some(endpoint) = config.trace.clone() else { return Ok(None) };
        let epoch = hub.epoch().clone();
        let position_of = Box::new(move |seq| epoch.position(seq));
        let tracer = Arc::new(Tracer::new(config.trace_sample, config.trace_queue, position_of));
        let timeout = Duration::from_millis(config.trace_timeout_ms);
        let settings = Settings { endpoint, service: config.trace_service.clone(), timeout };
        let (exporter, work) = Exporter::new(tracer.clone(), settings, log.clone())?;
        hub.trace_with(tracer.clone());
        Ok(Some((Tracing { tracer, exporter, thread: None }, work)))
    }

    #[cfg(not(feature = "trace"))]
    pub(super) fn new(_config: &Config, _hub: &mut Hub, _log: &Log) -> Result<Option<(Self, Work)>, Error> {
        Ok(None)
    }

    /// The thread runs.
    pub(super) fn runs(mut self, thread: Option<JoinHandle<()>>) -> Self {
        self.thread = thread;
        self
    }

    /// Applies options that have changed.
    pub(super) fn reconfigure(&self, config: &Config) {
        self.tracer.set_one_in(config.trace_sample);
        #[cfg(feature = "trace")]
        self.exporter.set_timeout(Duration::from_millis(config.trace_timeout_ms));
    }

    /// Exports what is left, and ends the thread. No other thread delivers any more.
    #[cfg_attr(not(feature = "trace"), allow(unused_variables))]
    pub(super) fn stop(self, until: Option<Instant>) {
        #[cfg(feature = "trace")]
        self.exporter.stop(Instant::now() + callbacks::patience(until).min(LONGEST));
        // It ends by itself, at that time at the latest.
        self.thread.into_iter().for_each(|thread| drop(thread.join()));
        // It may have ended before, with a panic.
        self.tracer.end();
    }
}

/// A drain may take weeks. A collector need not be waited for that long.
#[cfg(feature = "trace")]
const LONGEST: Duration = Duration::from_secs(60);

#[cfg(all(test, feature = "trace"))]
mod tests {
    use super::*;
    use crate::config::Builder;
    use crate::log::Level;

    #[test]
    fn nothing_is_left_of_a_server_also_if_its_thread_has_ended_early() {
        let mut builder = Builder::default();
        builder.set("trace", "otlp:http://127.0.0.1:1").unwrap();
        let config = builder.config();
        let tracer = Arc::new(Tracer::new(1, 10, Box::new(|seq| format!("e-{seq}"))));
        let settings = Settings {
            endpoint: config.trace.clone().unwrap(),
            service: "s".to_owned(),
            timeout: Duration::from_secs(1),
        };
        let (exporter, work) = Exporter::new(tracer.clone(), settings, Log::new(None, Level::Error)).unwrap();
        // The thread has panicked.
        drop(work);
        let tracing = Tracing { tracer: tracer.clone(), exporter, thread: None };
        tracer.begin(None, "a", 1).unwrap().place(1, None, 1, 1);
        let left = Arc::downgrade(&tracer);
        drop(tracer);
        tracing.stop(None);
        assert!(left.upgrade().is_none(), "a span that is under way keeps its tracer");
    }
}
