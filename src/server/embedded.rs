//! A server whose hub is in this process: everything put together, and taken apart again with nothing lost.

use crate::api::Api;
use crate::attach::hub_side::{AttachListener, Sessions};
use crate::auth::Authority;
use crate::callbacks::{self, Leftover};
use crate::config::{Address, Builder, Config, Engine, Reloaded};
use crate::context::Context;
use crate::control::Control;
use crate::engine::file;
use crate::error::Error;
use crate::events::{Event, EventKind, Events};
use crate::hub::{Epoch, Hub};
use crate::listeners::{self, Bound};
use crate::log::{Level, Log};
use crate::runtime::{self, Work};
use crate::shard::turn::command::{Command, ShardHandle};
use crate::shard::turn::driver::Driver;
use crate::shard::Shard;
use crate::sys::clock;
use crate::transport;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A running hub with its shards. What it can be asked is its [`Api`].
#[derive(Debug)]
pub(crate) struct Embedded {
    api: Arc<Api>,
    context: Arc<Context>,
    addresses: Vec<String>,
    /// Subscribers' listeners.
    own: Mutex<Vec<Bound>>,
    /// The others. Both are kept for their Unix sockets' paths, which go with the server.
    others: Vec<Bound>,
    shard_threads: Vec<JoinHandle<()>>,
    control: Option<ControlThread>,
    attach: Option<AttachThread>,
    callback: Option<callbacks::Running>,
    /// The one that writes the engine's log.
    log_thread: Option<JoinHandle<()>>,
    /// Held while options are reloaded: one after the other.
    reloading: Mutex<()>,
    log: Log,
}

#[derive(Debug)]
struct ControlThread {
    control: Control,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct AttachThread {
    listener: AttachListener,
    thread: JoinHandle<()>,
}

impl Embedded {
    /// Starts a server; it listens when this returns.
    pub(crate) fn start(builder: Builder) -> Result<Self, Error> {
        let config = builder.config().clone();
        let count = config.shard_count();
        let handles = (0..count)
            .map(|_| ShardHandle::new(config.mailbox).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Error::system("a mailbox can't be made", &error))?;
        let (inputs, outputs) = callbacks::channels(&builder).unzip();
        let log = Log::new(outputs.as_ref().and_then(|outputs| outputs.lines.clone()), config.log_level);
        log.set_names_addresses(config.log_addresses);
        let events = events(&builder, outputs.as_ref(), &handles)?;
        let authority = Authority::new(&config)?;
        // First, so that clients that come while a log is read are not refused.
        let Listeners { own, control, attach } = Listeners::bind(&builder, count)?;
        let mut sessions = Sessions::default();
        let (hub, writer) = hub(&config, &handles, &log, &mut sessions)?;
        let mut context = Context::new(config, hub, events, authority, log.clone(), count);
        context.engine = writer.as_ref().map(|writer| writer.shared().clone());
        let context = Arc::new(context);

        let (drivers, mut work) = shards(&context, &handles, &own)?;
        let api = Arc::new(Api::new(context.clone(), handles, drivers));
        let mut control_api = None;
        if !control.is_empty() {
            let (running, run) = Control::new(api.clone(), &control)?;
            control_api = Some(running);
            work.push(("push-control".to_owned(), run));
        }
        let mut attach_listener = None;
        if let Some(bound) = &attach {
            let (running, run) = AttachListener::new(api.clone(), context.clone(), bound.socket(0), sessions)?;
            attach_listener = Some(running);
            work.push(("push-attach".to_owned(), run));
        }
        let ending = outputs.map(|outputs| outputs.ending);
        if let Some(inputs) = inputs {
            let (builder, context) = (builder.clone(), context.clone());
            work.push((
                "push-callback".to_owned(),
                Box::new(move || callbacks::run(&inputs, builder, &context.events)),
            ));
        }
        drop(builder);
        if let Some(writer) = writer {
            let context = context.clone();
            let ends = Box::new(move || context.hub.ends());
            work.push(("push-log".to_owned(), Box::new(move || writer.run(ends))));
        }

        let (threads, started) = runtime::spawn(work);
        let mut threads = threads.into_iter();
        let shard_threads = threads.by_ref().take(count).collect();
        let control_thread = control_api.and_then(|control| Some(ControlThread { control, thread: threads.next()? }));
        let attach_thread =
            attach_listener.and_then(|listener| Some(AttachThread { listener, thread: threads.next()? }));
        let callback = ending.and_then(|ending| Some(callbacks::Running { ending, thread: threads.next()? }));
        let log_thread = context.engine.is_some().then(|| threads.next()).flatten();
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
            callback,
            log_thread,
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

    /// What the hub can be asked.
    pub(crate) fn hub(&self) -> &Api {
        &self.api
    }

    /// Takes those of the options that can change now.
    pub(crate) fn reload(&self, builder: &Builder) -> Result<Reloaded, Error> {
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = builder.with_secrets()?;
        let (config, reloaded) = self.context.config.get().reloaded(wanted.config())?;
        let authority = Authority::new(&config)?;
        self.log.set_level(config.log_level);
        self.log.set_names_addresses(config.log_addresses);
        self.events().set_kinds(config.events);
        self.api.reconfigure(config, authority);
        if let Some(AttachThread { listener, .. }) = &self.attach {
            listener.reconfigure();
        }
        Ok(reloaded)
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Where its listeners can be reached.
    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Whether events go to attached hosts, and not to this process.
    pub(crate) fn serves_hosts(&self) -> bool {
        self.attach.is_some()
    }

    pub(crate) fn events(&self) -> &Events {
        &self.context.events
    }

    /// The host asks for events.
    pub(crate) fn want_events(&self) {
        self.events().want();
    }

    /// Begins to send the clients away; they are gone within `time`. Everything else goes on.
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
        // Nobody waits at them any more but the shards, which let go of them next.
        self.own.lock().unwrap_or_else(PoisonError::into_inner).iter_mut().for_each(Bound::close);
        for shard in self.api.shards() {
            shard.tell(Command::Drain { until_ms });
        }
    }

    /// Ends the server: what was published is delivered, clients are sent away, and after `time` the rest is cut off.
    /// Until then the control API answers, and attached hosts stay. When this returns no thread of the server runs, but
    /// for one that is left over because a function of the host does not return.
    pub(crate) fn stop(self, time: Duration) -> Option<Leftover> {
        let began = Instant::now();
        self.begin_drain(time);
        // Shards are done in time, whatever clients do.
        self.context.drained.wait(time.saturating_add(SLACK));
        self.log.line(Level::Info, format_args!("stopping"));
        self.end(time.saturating_sub(began.elapsed()))
    }

    /// Ends all threads.
    fn end(mut self, time: Duration) -> Option<Leftover> {
        let until = Instant::now().checked_add(time);
        // First those that publish, too.
        if let Some(ControlThread { control, thread }) = self.control {
            control.stop(time);
            let _ = thread.join();
        }
        if let Some(AttachThread { listener, thread }) = self.attach {
            listener.stop();
            let _ = thread.join();
        }
        self.others.iter_mut().for_each(Bound::close);
        for shard in self.api.shards() {
            shard.tell(Command::End);
        }
        for thread in self.shard_threads {
            let _ = thread.join();
        }
        // Nobody publishes any more.
        self.context.engine.iter().for_each(|engine| engine.behind.stop());
        if let Some(thread) = self.log_thread {
            let _ = thread.join();
        }
        self.log.line(Level::Info, format_args!("stopped"));
        self.callback?.end(until)
    }
}

/// The sockets that a server listens on.
struct Listeners {
    /// For subscribers.
    own: Vec<Bound>,
    control: Vec<Bound>,
    /// For hosts.
    attach: Option<Bound>,
}

impl Listeners {
    /// Binds what the options name, but for what the builder brings.
    fn bind(builder: &Builder, shards: usize) -> Result<Self, Error> {
        let config = builder.config();
        let bind = |addresses: &[Address], shards| {
            addresses.iter().map(|address| listeners::bind(address, shards)).collect::<Result<Vec<_>, _>>()
        };
        let own = match &*builder.listen_sockets {
            [] => bind(&config.listen, shards)?,
            given => given.iter().map(listeners::given).collect::<Result<_, _>>()?,
        };
        let control = bind(&config.control, 1)?;
        let attach = match (&builder.attach_socket, &config.attach_listen) {
            (Some(socket), _) => Some(listeners::given(socket)?),
            (None, Some(path)) => Some(listeners::bind_path(path, config.attach_mode)?),
            (None, None) => None,
        };
        Ok(Listeners { own, control, attach })
    }
}

/// Threads to be, by name.
type Named = Vec<(String, Work)>;

fn shards(
    context: &Arc<Context>,
    handles: &[Arc<ShardHandle>],
    own: &[Bound],
) -> Result<(Vec<Arc<Driver>>, Named), Error> {
    let made = handles.iter().enumerate().map(|(number, handle)| {
        let sockets = own.iter().map(|bound| bound.socket(number)).collect();
        let shard = Shard::new(number, context.clone(), handle.clone(), sockets)
            .map_err(|error| Error::system("a shard can't be made", &error))?;
        let driver = Arc::new(Driver::new(shard));
        let running = driver.clone();
        let run: Work = Box::new(move || running.run());
        Ok::<_, Error>((driver, (format!("push-shard-{number}"), run)))
    });
    made.collect()
}

/// What a thread may be late by that has much to do.
const SLACK: Duration = Duration::from_secs(1);

/// The hub, and, where it has one, its log, which brings back what is in it.
fn hub(
    config: &Config,
    handles: &[Arc<ShardHandle>],
    log: &Log,
    sessions: &mut Sessions,
) -> Result<(Hub, Option<file::Writer>), Error> {
    let bits = getrandom::u64().map_err(|error| Error::system("no random numbers", &std::io::Error::other(error)))?;
    let mailboxes = handles.iter().map(|handle| handle.mailbox.clone()).collect();
    let mut hub = Hub::new(Epoch::from_random(bits), &config.hub_settings(), mailboxes);
    let writer = match &config.engine {
        Engine::Memory => None,
        Engine::File(path) => {
            let now = clock::monotonic_ms();
            let mut recall = |origin, seq| sessions.recall(origin, seq, now);
            Some(file::open(path, config.log_settings(), &mut hub, transport::message, &mut recall, log)?)
        }
    };
    Ok((hub, writer))
}

fn events(
    builder: &Builder,
    outputs: Option<&callbacks::Outputs>,
    handles: &[Arc<ShardHandle>],
) -> Result<Events, Error> {
    let shards = handles.to_vec();
    let resume = Box::new(move || shards.iter().for_each(|shard| shard.tell(Command::Resume)));
    let notify = outputs.and_then(|outputs| outputs.notify.clone());
    Events::new(builder.config().event_queue, builder.config().events, notify, resume)
        .map_err(|error| Error::system("an event descriptor can't be made", &error))
}
