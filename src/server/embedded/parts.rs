//! The parts of a hub that its shards share: the shards, the bound of their inboxes, and the queue of events.

use crate::config::{Builder, Config};
use crate::context::{presence, Context};
use crate::error::Error;
use crate::events::Events;
use crate::limits::Inboxes;
use crate::listeners::Bound;
use crate::presence::Presence;
use crate::runtime::Work;
use crate::shard::turn::command::{Command, ShardHandle};
use crate::shard::turn::driver::Driver;
use crate::shard::Shard;
use crossbeam::channel::Sender;
use std::sync::Arc;

/// Threads to start, by name.
type Named = Vec<(String, Work)>;

pub(super) fn shards(
    context: &Arc<Context>,
    handles: &[Arc<ShardHandle>],
    own: &[Bound],
) -> Result<(Vec<Arc<Driver>>, Named), Error> {
    let made = handles.iter().enumerate().map(|(number, handle)| {
        let plain = own.iter().filter(|bound| !bound.is_tls());
        let sockets = plain.map(|bound| bound.socket(number)).collect();
        let shard = Shard::new(context.clone(), handle.clone(), sockets)
            .map_err(|error| Error::system("a shard can't be made", &error))?;
        let driver = Arc::new(Driver::new(shard));
        let running = driver.clone();
        let run: Work = Box::new(move || running.run());
        Ok::<_, Error>((driver, (format!("push-shard-{number}"), run)))
    });
    made.collect()
}

pub(super) fn inboxes(handles: &[Arc<ShardHandle>]) -> Inboxes {
    let shards = handles.to_vec();
    Inboxes::new(handles.len(), Box::new(move |shard| shards[shard].tell(Command::MakeRoom)))
}

/// The owner of presence. It wakes the shards, which look then whether there is news.
pub(super) fn presence(config: &Config, handles: &[Arc<ShardHandle>]) -> Presence {
    let shards = handles.to_vec();
    let wake = Box::new(move |shard: usize| shards[shard].mailbox.wake());
    Presence::new(presence::bounds(config), handles.len(), wake)
}

pub(super) fn events(
    builder: &Builder,
    notify: Option<Sender<()>>,
    handles: &[Arc<ShardHandle>],
) -> Result<Events, Error> {
    let shards = handles.to_vec();
    let resume = Box::new(move || shards.iter().for_each(|shard| shard.tell(Command::Resume)));
    Events::new(builder.config().event_queue, builder.config().events, notify, resume)
        .map_err(|error| Error::system("an event descriptor can't be made", &error))
}
