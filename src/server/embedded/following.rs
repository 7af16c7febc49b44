//! The hub of a server, and what keeps its history.

use crate::attach::hub_side::{Recollection, Sessions};
use crate::config::{Config, Engine};
use crate::context::Context;
use crate::engine::{file, shared, Url};
use crate::error::{Error, Kind};
use crate::framing;
use crate::hub::{Epoch, Hub, Mailbox};
use crate::log::{Level, Log};
use crate::shard::turn::command::ShardHandle;
use crate::sys::clock;
use std::sync::Arc;
use std::time::Duration;

/// The hub of a context.
pub(super) struct HubOf(pub(super) Arc<Context>);

impl AsRef<Hub> for HubOf {
    fn as_ref(&self) -> &Hub {
        &self.0.hub
    }
}

/// What keeps the history of a hub.
pub(super) enum Following {
    Nothing,
    Disk(Box<file::Writer>),
    /// A log that it shares with other hubs.
    Log(Box<shared::Driver>, Arc<shared::Shared>),
}

/// The hub, and what keeps its history. The hub gets the messages of a log on disk back.
pub(super) fn hub(
    config: &Config,
    handles: &[Arc<ShardHandle>],
    log: &Log,
    sessions: &mut Sessions,
) -> Result<(Hub, Following), Error> {
    let bits = getrandom::u64()
        .map_err(|error| Error::system("the system has no random numbers", &std::io::Error::other(error)))?;
    let mailboxes = handles.iter().map(|handle| handle.mailbox.clone()).collect();
    if let Engine::Log(url) = &config.engine {
        return follower(config, url, mailboxes, log, bits);
    }
    let mut hub = Hub::new(Epoch::from_random(bits), &config.hub_settings(), mailboxes);
    let following = match &config.engine {
        Engine::Memory | Engine::Log(_) => Following::Nothing,
        Engine::File(path) => {
            let now = clock::monotonic_ms();
            let mut recall = |origin, seq, more| sessions.recall(origin, seq, more, now);
            let settings = config.log_settings();
            Following::Disk(Box::new(file::open(path, settings, &mut hub, framing::message, &mut recall, log)?))
        }
    };
    Ok((hub, following))
}

/// Gets what other hubs publish for attached hosts.
type Hear = Box<dyn FnMut(shared::Heard) + Send>;

/// Keeps what other hubs of a log do for hosts, where this hub may have to do it otherwise: where hosts attach.
pub(super) fn recollecting(hosts_attach: bool) -> (Option<Arc<Recollection>>, Hear) {
    if !hosts_attach {
        return (None, Box::new(|_| {}));
    }
    let recollection = Arc::new(Recollection::default());
    let noting = recollection.clone();
    let hear = move |heard| match heard {
        shared::Heard::Published(origin, seq, more) => noting.note(origin, seq, more),
        shared::Heard::Lost => noting.forget(),
    };
    (Some(recollection), Box::new(hear))
}

/// A hub that follows a log which others follow, too. Nothing is read yet.
fn follower(
    config: &Config,
    url: &Url,
    mailboxes: Vec<Arc<Mailbox>>,
    log: &Log,
    life: u64,
) -> Result<(Hub, Following), Error> {
    let mut hub = Hub::replica(&config.hub_settings(), mailboxes);
    let wrong = |text| Error::new(Kind::Config, format!("option engine: {text}"));
    let kept = config.log_settings().kept;
    if let Some(most) = url.max_message().filter(|most| *most == config.max_message) {
        let text = "a NATS with its defaults takes no larger ones (docs/engines.md)";
        log.line(Level::Info, format_args!("messages may have {most} bytes (option max_message): {text}"));
    }
    let parts = shared::Parts {
        settings: config.shared_settings().unwrap_or_else(|| Err("no URL".into())).map_err(wrong)?,
        name: config.hub_name().into(),
        place: url.to_string(),
        timeout: config.shared_timeout(),
        kept: (Duration::from_millis(kept.age_ms), kept.bytes),
        buffer: config.engine_buffer,
        make: framing::message,
        log: log.clone(),
    };
    // If the system has no random bits, a counter takes their place, so that two epochs still differ.
    let mut count = life;
    let random = move || {
        count = count.wrapping_add(1);
        getrandom::u64().unwrap_or(count)
    };
    let (driver, shared) = shared::Driver::new(parts, life.max(1), random);
    hub.publish_into(shared.inlet.clone());
    Ok((hub, Following::Log(Box::new(driver), shared)))
}
