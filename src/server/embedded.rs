//! A server whose hub is in this process. Starts all its parts, and stops them in an order that loses nothing.

mod following;
mod parts;
mod tracing;

use super::listening::Listeners;
use crate::api::Api;
use crate::attach::hub_side::{AttachListener, Sessions};
use crate::auth::Authority;
use crate::callbacks::{self, Latch, Leftover, Prepared};
use crate::config::{Builder, Reloaded};
use crate::context::engine::Engine;
use crate::context::Context;
use crate::control::Control;
use crate::engine::shared;
use crate::error::{Error, Kind};
use crate::events::{Event, EventKind, Events};
#[cfg(feature = "tls")]
use crate::handshakes::Handshakes;
use crate::listeners::Bound;
use crate::log::{Level, Log};
use crate::runtime;
use crate::shard::turn::command::{Command, ShardHandle};
use crate::sys::clock;
use crate::sys::output::Output;
#[cfg(feature = "tls")]
use crate::tls::Tls;
use following::{hub, recollecting, Following, HubOf};
use parts::{events, inboxes, presence, shards};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tracing::Tracing;

/// A running hub with its shards. [`Api`] has the calls to it.
#[derive(Debug)]
pub(crate) struct Embedded {
    api: Arc<Api>,
    context: Arc<Context>,
    addresses: Vec<String>,
    /// The listeners for subscribers.
    own: Mutex<Vec<Bound>>,
    /// The listeners for the control API and for hosts. Like `own`, they are kept to remove the paths of their Unix
    /// sockets at the end.
    others: Vec<Bound>,
    shard_threads: Vec<JoinHandle<()>>,
    control: Option<ControlThread>,
    attach: Option<AttachThread>,
    #[cfg(feature = "tls")]
    handshakes: Option<HandshakeThread>,
    /// The threads that tell the host of events and log lines.
    tellers: callbacks::Running,
    /// The thread that writes the engine's log.
    log_thread: Option<LogThread>,
    /// The thread that asks all hubs of the log.
    hubs_thread: Option<JoinHandle<()>>,
    tracing: Option<Tracing>,
    /// Held during a reload, so that reloads do not overlap.
    reloading: Mutex<()>,
    log: Log,
}

#[derive(Debug)]
struct ControlThread {
    control: Control,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct LogThread {
    latch: Arc<Latch>,
    thread: JoinHandle<()>,
}

#[cfg(feature = "tls")]
#[derive(Debug)]
struct HandshakeThread {
    handshakes: Handshakes,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct AttachThread {
    listener: AttachListener,
    thread: JoinHandle<()>,
}

impl Embedded {
    /// Starts a server. Its listeners are bound when this returns. `output` is the descriptor for its log, if one is set.
    pub(crate) fn start(builder: Builder, output: Option<Output>) -> Result<Self, Error> {
        let config = builder.config().clone();
        let count = config.shard_count();
        let handles = (0..count)
            .map(|number| ShardHandle::new(number, config.mailbox).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Error::system("a mailbox can't be made", &error))?;
        let Prepared { log, notify, tellers } = callbacks::prepare(&builder, output)?;
        let events = events(&builder, notify, &handles)?;
        let authority = Authority::new(&config)?;
        #[cfg(feature = "tls")]
        let tls = Tls::new(&config, &log)?;
        // The listeners are bound first, so clients that come while a log is read are not refused.
        let Listeners { own, control, attach } = Listeners::bind(&builder, count)?;
        let mut sessions = Sessions::default();
        let (mut hub, following) = hub(&config, &handles, &log, &mut sessions)?;
        let (tracing, export) = Tracing::new(&config, &mut hub, &log)?.unzip();
        let (writer, engine) = match following {
            Following::Nothing => (None, None),
            Following::Disk(writer) => (Some(writer), None),
            Following::Log(driver, shared) => (None, Some((driver, shared, runtime::single()?))),
        };
        let mut context = Context::new(config, hub, events, authority, log.clone(), count);
        context.engine = match (&writer, &engine) {
            (Some(writer), _) => Engine::Disk(writer.shared().clone()),
            (None, Some((_, shared, _))) => Engine::Shared(shared.clone()),
            (None, None) => Engine::Memory,
        };
        context.inboxes = inboxes(&handles);
        context.presence = presence(&context.config.get(), &handles);
        #[cfg(feature = "tls")]
        {
            context.tls = tls.clone();
        }
        let context = Arc::new(context);

        let (drivers, mut work) = shards(&context, &handles, &own)?;
        #[cfg(feature = "tls")]
        let mut handshakes = None;
        #[cfg(feature = "tls")]
        if let Some((tls, sockets)) = tls.zip(super::listening::with_tls(&own)) {
            let (running, run) = Handshakes::new(context.clone(), tls, handles.clone(), sockets)
                .map_err(|error| Error::system("the thread for handshakes of TLS can't be prepared", &error))?;
            handshakes = Some(running);
            work.push(("push-tls".to_owned(), run));
        }
        let api = Arc::new(Api::new(context.clone(), handles, drivers));
        let mut control_api = None;
        if !control.is_empty() {
            let (running, run) = Control::new(api.clone(), &control)?;
            control_api = Some(running);
            work.push(("push-control".to_owned(), run));
        }
        let (recollection, hear) = recollecting(attach.is_some() && engine.is_some());
        sessions.recall_from(recollection);
        let mut attach_listener = None;
        if let Some(bound) = &attach {
            let (running, run) = AttachListener::new(api.clone(), context.clone(), bound.socket(0), sessions)?;
            attach_listener = Some(running);
            work.push(("push-attach".to_owned(), run));
        }
        let (tell, endings) = tellers.work(&builder, &context);
        work.extend(tell);
        drop(builder);
        let mut log_latch = None;
        if let Some(writer) = writer {
            let hub = Box::new(HubOf(context.clone()));
            let (latch, run) = callbacks::latched(Box::new(move || writer.run(hub)));
            log_latch = Some(latch);
            work.push(("push-log".to_owned(), run));
        }
        let asks = engine.is_some();
        if let Some((driver, _, runtime)) = engine {
            let hub = Box::new(HubOf(context.clone()));
            let run = move || {
                runtime.block_on(driver.run(hub, hear));
                // The system's look-up of a name may still be under way, and is not waited for.
                runtime.shutdown_background();
            };
            let (latch, run) = callbacks::latched(Box::new(run));
            log_latch = Some(latch);
            work.push(("push-engine".to_owned(), run));
        }

        if asks {
            let api = api.clone();
            work.push(("push-hubs".to_owned(), Box::new(move || api.serve_questions())));
        }

        work.extend(export.map(|export| ("push-trace".to_owned(), export)));
        let (threads, started) = runtime::spawn(work);
        let mut threads = threads.into_iter();
        let shard_threads = threads.by_ref().take(count).collect();
        #[cfg(feature = "tls")]
        let handshakes =
            handshakes.and_then(|handshakes| Some(HandshakeThread { handshakes, thread: threads.next()? }));
        let control_thread = control_api.and_then(|control| Some(ControlThread { control, thread: threads.next()? }));
        let attach_thread =
            attach_listener.and_then(|listener| Some(AttachThread { listener, thread: threads.next()? }));
        let tellers = endings.running(&mut threads);
        let log_thread = log_latch.and_then(|latch| Some(LogThread { latch, thread: threads.next()? }));
        let hubs_thread = asks.then(|| threads.next()).flatten();
        let tracing = tracing.map(|tracing| tracing.runs(threads.next()));
        let others: Vec<Bound> = control.into_iter().chain(attach).collect();
        let addresses = own.iter().chain(&others).map(|bound| bound.address.to_string()).collect();
        let server = Embedded {
            api,
            context,
            addresses,
            own: Mutex::new(own),
            others,
            shard_threads,
            control: control_thread,
            attach: attach_thread,
            #[cfg(feature = "tls")]
            handshakes,
            tellers,
            log_thread,
            hubs_thread,
            tracing,
            reloading: Mutex::default(),
            log,
        };
        if let Err(error) = started {
            server.end(Duration::ZERO);
            return Err(error);
        }
        for address in &server.addresses {
            server.log.line(Level::Info, format_args!("listening on {address}"));
        }
        Ok(server)
    }

    /// The calls to the hub.
    pub(crate) fn hub(&self) -> &Api {
        &self.api
    }

    /// The log that the hub shares with others, if it does.
    pub(crate) fn shared_log(&self) -> Option<Arc<shared::Shared>> {
        self.context.engine.shared().cloned()
    }

    /// Applies the options that can change now.
    pub(crate) fn reload(&self, builder: &Builder) -> Result<Reloaded, Error> {
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let reloaded = self.apply(builder);
        self.note_reload(reloaded.is_ok());
        reloaded
    }

    /// Notes for the metrics how a reload went.
    pub(crate) fn note_reload(&self, succeeded: bool) {
        self.context.metrics.reload_failed.store(!succeeded, Ordering::Relaxed);
    }

    fn apply(&self, builder: &Builder) -> Result<Reloaded, Error> {
        let wanted = builder.with_secrets()?;
        let (config, reloaded) = self.context.config.get().reloaded(wanted.config())?;
        let authority = Authority::new(&config)?;
        let wrong = |text| Error::new(Kind::Config, format!("option engine: {text}"));
        let log = config.shared_settings().transpose().map_err(wrong)?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.context.tls {
            // The files may be new, though their names are not.
            let certificates = tls.read(&config, &self.log)?;
            let others_may_connect = tls.set(certificates);
            if let Some(ControlThread { control, .. }) = self.control.as_ref().filter(|_| others_may_connect) {
                control.end_secure();
            }
        }
        self.log.set_level(config.log_level);
        self.log.set_names_addresses(config.log_addresses);
        self.events().set_kinds(config.events);
        if let Some((shared, log)) = self.context.engine.shared().zip(log) {
            shared.inlet.reconnect(log, config.shared_timeout());
        }
        self.tracing.iter().for_each(|tracing| tracing.reconfigure(&config));
        self.api.reconfigure(config, authority);
        #[cfg(feature = "console")]
        if let Some(ControlThread { control, .. }) = &self.control {
            control.end_sessions(&self.context.config.get());
        }
        #[cfg(feature = "tls")]
        if let Some(HandshakeThread { handshakes, .. }) = &self.handshakes {
            handshakes.reconfigure(&self.context.config.get());
        }
        if let Some(AttachThread { listener, .. }) = &self.attach {
            listener.reconfigure();
        }
        Ok(reloaded)
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// The addresses of its listeners.
    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// True if events go to attached hosts instead of this process.
    pub(crate) fn serves_hosts(&self) -> bool {
        self.attach.is_some()
    }

    pub(crate) fn events(&self) -> &Events {
        &self.context.events
    }

    /// Notes that the host wants events.
    pub(crate) fn want_events(&self) {
        self.events().want();
    }

    /// Begins to send the clients away. They are gone within `time`. Everything else goes on.
    pub(crate) fn drain(&self, time: Duration) -> Result<(), Error> {
        self.begin_drain(time);
        Ok(())
    }

    fn begin_drain(&self, time: Duration) {
        if self.context.drained.begin() {
            self.log.line(Level::Info, format_args!("draining"));
            if self.events().wanted() {
                self.events().push(Event::of_server(EventKind::Drain));
            }
        }
        let until_ms = clock::monotonic_ms().saturating_add(time.as_millis() as u64);
        // Only the shards use these sockets from now on, and they close them next.
        self.own.lock().unwrap_or_else(PoisonError::into_inner).iter_mut().for_each(Bound::close);
        for shard in self.api.shards() {
            shard.tell(Command::Drain { until_ms });
        }
    }

    /// Ends the server. Published messages are delivered, clients are sent away, and after `time` the other connections
    /// are cut off. Until then the control API answers, and attached hosts stay. When this returns, no thread of the
    /// server runs, except a callback thread that is in a function of the host, or the log's if its disk does not answer.
    pub(crate) fn stop(self, time: Duration) -> Option<Leftover> {
        let began = Instant::now();
        // Clients get the accepted messages before they are sent away.
        self.context.engine.await_settled((time / 4).min(SLACK));
        self.begin_drain(time.saturating_sub(began.elapsed()));
        // The shards finish in time, whatever clients do.
        self.context.drained.wait(time.saturating_add(SLACK));
        self.log.line(Level::Info, format_args!("stopping"));
        self.end(time.saturating_sub(began.elapsed()))
    }

    /// Ends all threads.
    fn end(mut self, time: Duration) -> Option<Leftover> {
        let until = Instant::now().checked_add(time);
        // The threads that publish end first.
        if let Some(ControlThread { control, thread }) = self.control {
            control.stop(time);
            let _ = thread.join();
        }
        if let Some(AttachThread { listener, thread }) = self.attach {
            listener.stop();
            let _ = thread.join();
        }
        self.others.iter_mut().for_each(Bound::close);
        self.api.end_questions();
        self.hubs_thread.into_iter().for_each(|thread| drop(thread.join()));
        #[cfg(feature = "tls")]
        if let Some(HandshakeThread { handshakes, thread }) = self.handshakes {
            handshakes.stop();
            let _ = thread.join();
        }
        for shard in self.api.shards() {
            shard.tell(Command::End);
        }
        for thread in self.shard_threads {
            let _ = thread.join();
        }
        // No thread publishes any more.
        let log_left = self.log_thread.and_then(|log_thread| {
            let patience = callbacks::patience(until);
            if let Some(shared) = self.context.engine.shared() {
                // It ends by itself.
                shared.inlet.end(Instant::now() + patience);
                return Leftover::of_log(log_thread.latch, log_thread.thread, patience.saturating_add(SLACK));
            }
            let engine = self.context.engine.disk()?;
            engine.behind.stop(Instant::now().checked_add(patience));
            let left = Leftover::of_log(log_thread.latch, log_thread.thread, patience.saturating_add(SLACK / 2))?;
            let text = engine.behind.unwritten();
            self.log.line(Level::Error, format_args!("engine: the disk does not answer, and the hub ends: {text}"));
            Some(left)
        });
        self.tracing.into_iter().for_each(|tracing| tracing.stop(until));
        self.log.line(Level::Info, format_args!("stopped"));
        self.tellers.end(until, log_left)
    }
}

/// How late a busy thread may be.
const SLACK: Duration = Duration::from_secs(1);
