//! What a server can be asked, whoever asks: the host through the C API, an operator through the control API.

mod checks;
mod of_hosts;

use crate::auth::Authority;
use crate::config::{Auth, Config};
use crate::context::client::Client;
use crate::context::Context;
use crate::error::{Error, Kind};
use crate::grant::{Grant, Latest};
use crate::http::refusal::Refusal;
use crate::http::unserved;
use crate::hub::{ChannelInfo, Key, Outgoing, Placed, Publication};
use crate::log::Level;
use crate::metrics::losses::Loss;
use crate::metrics::prometheus::{Engine, Exposition};
use crate::metrics::Reason;
use crate::metrics::Stats;
use crate::shard::client::presence::{Census, Present, Tell};
use crate::shard::connection::conn::{ConnectionId, RequestId};
use crate::shard::turn::command::{Adopted, Command, ShardHandle};
use crate::shard::turn::driver::Driver;
use crate::sys::clock;
use crate::transport::message;
use crate::users::{self, Users};
use crate::waiter::Waiter;
use bytes::Bytes;
pub(crate) use checks::{
    check_disconnection, check_head, check_send, checked_close, checked_refusal, checked_revocation,
};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How many messages a batch may have.
pub const MAX_BATCH: usize = 8192;

/// See the module. Every method may be called by any thread.
#[derive(Debug)]
pub struct Api {
    context: Arc<Context>,
    shards: Vec<Arc<ShardHandle>>,
    drivers: Vec<Arc<Driver>>,
    /// Of the clients that this process hands over.
    latest_grant: Mutex<Latest>,
    /// Where the next connection from the host goes.
    next_shard: AtomicUsize,
    /// Options that a call looks at, here so that it takes no lock for them.
    max_message: AtomicUsize,
    max_connections: AtomicUsize,
    anybody_may: AtomicBool,
}

impl Api {
    pub(crate) fn new(context: Arc<Context>, shards: Vec<Arc<ShardHandle>>, drivers: Vec<Arc<Driver>>) -> Self {
        let config = context.config.get();
        let max_message = AtomicUsize::new(config.max_message);
        let max_connections = AtomicUsize::new(config.max_connections);
        let anybody_may = AtomicBool::new(config.auth == Auth::None);
        Api {
            context,
            shards,
            drivers,
            latest_grant: Mutex::default(),
            next_shard: AtomicUsize::new(0),
            max_message,
            max_connections,
            anybody_may,
        }
    }

    /// Options have changed, and perhaps the keys that they name. What was asked before may still go by the old ones.
    pub(crate) fn reconfigure(&self, config: Config, authority: Authority) {
        let config = Arc::new(config);
        self.context.config.set(config.clone());
        self.context.set_authority(authority);
        self.max_message.store(config.max_message, Ordering::Relaxed);
        self.max_connections.store(config.max_connections, Ordering::Relaxed);
        self.anybody_may.store(config.auth == Auth::None, Ordering::Relaxed);
        self.context.hub.reconfigure(&config.hub_settings(), clock::monotonic_ms());
        if let Some(engine) = &self.context.engine {
            let settings = config.log_settings();
            engine.set_kept(settings.kept);
            engine.behind.set_bound(settings.buffer);
        }
        for shard in &self.shards {
            shard.tell(Command::Reconfigure(config.clone()));
        }
    }

    /// Publishes one message; see `push_publish_message`.
    pub fn publish(&self, publication: &Publication<'_>) -> Result<Placed, Error> {
        publication.check(self.max_message(), false)?;
        self.context.hub.publish(outgoing(publication), clock::monotonic_ms()).map(Placed::from)
    }

    /// As [`Self::publish`], for a caller that does not need the place.
    pub(crate) fn post(&self, publication: &Publication<'_>) -> Result<(), Error> {
        self.publish(publication).map(drop)
    }

    /// Publishes to every connection.
    pub fn broadcast(&self, publication: &Publication<'_>) -> Result<Placed, Error> {
        publication.check(self.max_message(), true)?;
        let publication = Publication { channel: "", ..*publication };
        self.context.hub.publish(outgoing(&publication), clock::monotonic_ms()).map(Placed::from)
    }

    /// As [`Self::broadcast`], for a caller that does not need the place.
    pub(crate) fn post_broadcast(&self, publication: &Publication<'_>) -> Result<(), Error> {
        self.broadcast(publication).map(drop)
    }

    /// Publishes all or none, with nothing between them.
    pub fn publish_batch(&self, publications: &[Publication<'_>]) -> Result<Vec<Placed>, Error> {
        let batch = self.checked_batch(publications)?;
        let published = self.context.hub.publish_batch(batch, clock::monotonic_ms())?;
        Ok(published.into_iter().map(Placed::from).collect())
    }

    fn checked_batch<'p>(&self, publications: &[Publication<'p>]) -> Result<Vec<Outgoing<'p>>, Error> {
        if publications.len() > MAX_BATCH {
            return Err(Error::invalid(format!("a batch has at most {MAX_BATCH} messages")));
        }
        for publication in publications {
            publication.check(self.max_message(), false)?;
        }
        Ok(publications.iter().map(outgoing).collect())
    }

    /// As [`Self::publish_batch`], for a caller that does not need the places.
    pub(crate) fn post_batch(&self, publications: &[Publication<'_>]) -> Result<(), Error> {
        self.publish_batch(publications).map(drop)
    }

    /// Takes over a connection; hands it back with the error.
    ///
    /// `delays`: the socket may delay small writes, as TCP does by default.
    pub fn adopt(&self, fd: OwnedFd, head: &[u8], grant: Option<Grant>, delays: bool) -> Result<(), (Error, OwnedFd)> {
        self.adopt_shared(fd, head, grant.map(|grant| self.shared_grant(grant)), delays)
    }

    /// As [`Self::adopt`]: nothing is gained here by waiting for those that follow.
    pub(crate) fn adopt_more(
        &self,
        fd: OwnedFd,
        head: &[u8],
        grant: Option<Grant>,
        delays: bool,
    ) -> Result<(), (Error, OwnedFd)> {
        self.adopt(fd, head, grant, delays)
    }

    /// Nothing waits that [`Self::adopt_more`] has left.
    pub(crate) fn flush(&self) {}

    /// One for clients of the same rights that come one after the other.
    fn shared_grant(&self, grant: Grant) -> Arc<Grant> {
        // Another thread is at it: not worth waiting for.
        match self.latest_grant.try_lock() {
            Ok(mut latest) => latest.share(grant),
            Err(_) => Arc::new(grant),
        }
    }

    fn adopt_shared(
        &self,
        fd: OwnedFd,
        head: &[u8],
        grant: Option<Arc<Grant>>,
        delays: bool,
    ) -> Result<(), (Error, OwnedFd)> {
        if let Err(error) = check_head(head) {
            return Err((error, fd));
        }
        // Counted here, not when a shard comes to it: a host may hand over many before that.
        let max = self.max_connections.load(Ordering::Relaxed);
        if self.context.connections.fetch_add(1, Ordering::Relaxed) >= max && max > 0 {
            self.context.connections.fetch_sub(1, Ordering::Relaxed);
            let text = format!("max_connections is reached: {max}");
            let client = Client::of(&fd).granted(grant.as_deref());
            return Err((self.not_taken(client, Reason::MaxConnections, Error::new(Kind::Limit, text)), fd));
        }
        let number = self.next_shard.fetch_add(1, Ordering::Relaxed) % self.drivers.len();
        self.drivers[number].adopt(Adopted { fd, head: head.into(), grant, delays }).map_err(|(fd, grant)| {
            self.context.connections.fetch_sub(1, Ordering::Relaxed);
            (self.not_taken(Client::of(&fd).granted(grant.as_deref()), Reason::Busy, busy()), fd)
        })
    }

    /// Notes that a connection could not be handed over.
    fn not_taken(&self, client: Client<'_>, reason: Reason, error: Error) -> Error {
        let text = format_args!("a connection is not taken over: {error}");
        self.context.note_refusal_of(client, Level::Info, reason, text);
        error
    }

    /// Sends to one connection; see `push_send`.
    pub fn send(&self, connection: u64, data: &[u8], binary: bool) -> Result<(), Error> {
        check_send(data, binary, self.max_send())?;
        let (shard, id) = self.find(connection)?;
        let command = Command::Send { to: id.token, data: Bytes::copy_from_slice(data), binary };
        shard.ask(command).map_err(|_| busy())
    }

    /// Says yes to a request; see `push_allow`.
    pub fn allow(&self, request: u64, grant: Grant) -> Result<(), Error> {
        let (shard, request) = self.find_request(request)?;
        shard.tell(Command::Allow { request, grant: Arc::new(grant) });
        Ok(())
    }

    /// Says no to a request; see `push_deny`.
    pub fn deny(&self, request: u64, status: u16, reason: &str) -> Result<(), Error> {
        let refusal = checked_refusal(status, reason)?;
        let (shard, request) = self.find_request(request)?;
        shard.tell(Command::Deny { request, refusal });
        Ok(())
    }

    /// Closes one connection; see `push_close`.
    pub fn close(&self, connection: u64, code: u16, reason: &str) -> Result<(), Error> {
        let close = checked_close(code, reason)?;
        let (shard, id) = self.find(connection)?;
        shard.tell(Command::Close { to: id.token, close });
        Ok(())
    }

    /// Closes all connections of a user. They are looked for by each shard, in its own time.
    pub fn disconnect_user(&self, user: &str, code: u16, reason: &str) -> Result<(), Error> {
        let close = check_disconnection(user, code, reason)?;
        let user: Arc<str> = user.into();
        for shard in &self.shards {
            shard.tell(Command::CloseUser { user: user.clone(), close: close.clone() });
        }
        Ok(())
    }

    /// Takes a channel, or all that fit a pattern, from a user's connections. They are looked for by each shard, in its
    /// own time.
    pub fn revoke_channel(&self, user: &str, channel: &str, reason: &str) -> Result<(), Error> {
        let (user, channels, reason) = checked_revocation(user, channel, reason)?;
        let (user, channels, reason) = (Arc::<str>::from(user), Arc::new(channels), Arc::<str>::from(reason));
        for shard in &self.shards {
            let (user, channels, reason) = (user.clone(), channels.clone(), reason.clone());
            shard.tell(Command::Revoke { user, channels, reason });
        }
        Ok(())
    }

    /// Gives a connection another grant; see `push_renew`.
    pub fn renew(&self, connection: u64, grant: Grant) -> Result<(), Error> {
        let (shard, id) = self.find(connection)?;
        shard.tell(Command::Renew { of: id.token, grant: Box::new(grant) });
        Ok(())
    }

    /// Takes over a connection that an attached host has passed, or, if there is no room, answers it and ends it: the
    /// descriptor is in no other process any more.
    pub(crate) fn adopt_or_refuse(&self, fd: OwnedFd, head: &[u8], grant: Arc<Grant>, delays: bool) {
        if let Err((error, fd)) = self.adopt_shared(fd, head, Some(grant), delays) {
            let refusal =
                Refusal::unavailable(if error.kind() == Kind::Busy { "busy" } else { "full" }, error.to_string());
            self.refuse_unserved(&fd, head, &refusal);
        }
    }

    /// Answers a request that no shard gets.
    pub(crate) fn refuse_unserved(&self, fd: &OwnedFd, head: &[u8], refusal: &Refusal) {
        self.context.metrics.refused.fetch_add(1, Ordering::Relaxed);
        unserved::refuse(fd, head, &self.context.config.get(), refusal);
    }

    /// Who is on a channel; see `push_users_get`. Waits until each shard has come to it in its next turn.
    pub fn users(&self, channel: &str, after: &str, limit: usize) -> Result<Users, Error> {
        users::check(channel, after, limit)?;
        Ok(self.present(channel).wait(Duration::MAX).unwrap_or_default().count(after, limit))
    }

    /// Asks each shard who is on a channel, and says where the answer comes.
    pub(crate) fn present(&self, channel: &str) -> Arc<Waiter<Present>> {
        let waiter = Arc::new(Waiter::default());
        let told = waiter.clone();
        self.ask_present(channel, Box::new(move |present| told.tell(present)));
        waiter
    }

    /// Asks each shard who is on a channel; `tell` gets what all of them say. False: there is no such channel, and
    /// nobody on it.
    pub(crate) fn ask_present(&self, channel: &str, tell: Tell) -> bool {
        let Some(id) = self.context.hub.channel_id(channel) else {
            tell(Present::default());
            return false;
        };
        let census = Arc::new(Census::new(id, channel, tell));
        for shard in &self.shards {
            shard.tell(Command::Present(census.clone()));
        }
        true
    }

    /// A channel that exists.
    pub(crate) fn channel(&self, channel: &str) -> Option<ChannelInfo> {
        self.context.hub.channel(channel)
    }

    /// Channels whose name begins with `prefix`, at most `limit`, in no order.
    pub(crate) fn channels(&self, prefix: &str, limit: usize) -> Vec<ChannelInfo> {
        self.context.hub.channels(prefix, limit)
    }

    /// What slow clients cost a channel.
    pub(crate) fn loss(&self, channel: &str) -> Loss {
        self.context.losses.of(channel)
    }

    /// Forgets a channel's history; its subscribers stay. False: there is no such channel.
    pub(crate) fn clear(&self, channel: &str) -> bool {
        self.context.hub.clear(channel)
    }

    /// The options as they are now.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.context.config.get()
    }

    /// Whether clients are being sent away.
    pub(crate) fn is_draining(&self) -> bool {
        self.context.drained.has_begun()
    }

    /// Counts and logs something that was not done for somebody whom no shard knows.
    pub(crate) fn note_refusal(&self, client: Client<'_>, level: Level, reason: Reason, text: fmt::Arguments<'_>) {
        self.context.note_refusal_of(client, level, reason, text);
    }

    /// The position of a message as clients see it.
    pub fn position(&self, placed: &Placed) -> String {
        self.position_now(placed.seq)
    }

    /// The position of a number as clients see it.
    pub(crate) fn position_now(&self, seq: u64) -> String {
        self.context.hub.epoch().position(seq)
    }

    /// What keeps messages from being published at all; `None`: all is well.
    pub fn failure(&self) -> Option<String> {
        let why = self.context.engine.as_ref()?.behind.failure()?;
        Some(format!("engine: {why}"))
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Result<Stats, Error> {
        Ok(self.collect_stats())
    }

    /// The same, which in this process can't fail.
    pub(crate) fn collect_stats(&self) -> Stats {
        let metrics = self.shards.iter().map(|shard| &shard.metrics);
        let mut stats = Stats::collect(&self.context.hub.stats(), metrics, self.context.log.dropped());
        let context = &self.context;
        stats.refused += self.context.metrics.refused.load(Ordering::Relaxed);
        stats.events_dropped += context.events.dropped();
        stats.events_waiting = context.events.waiting() as u64;
        stats.mailbox = self.shards.iter().map(|shard| shard.mailbox.waiting() as u64).sum();
        stats.hosts = context.hosts.load(Ordering::Relaxed) as u64;
        stats.undone = context.metrics.undone.load(Ordering::Relaxed);
        stats.logs_suppressed = context.log.suppressed();
        stats.draining = context.drained.has_begun().into();
        stats
    }

    /// The same, and what has labels or buckets, for Prometheus.
    pub fn exposition(&self) -> Exposition {
        let shards = self.shards.iter().map(|shard| &shard.metrics);
        Exposition::collect(self.collect_stats(), shards, &self.context.metrics, self.engine())
    }

    fn engine(&self) -> Engine {
        self.context.engine.as_ref().map_or(Engine::default(), |engine| Engine {
            up: engine.behind.failure().is_none(),
            waiting: engine.behind.waiting(),
            log: engine.bytes(),
        })
    }

    /// The largest that [`Self::send`] takes.
    pub(crate) fn max_send(&self) -> usize {
        self.max_message().max(self.context.config.get().max_client_message)
    }

    /// The option `max_message`.
    pub(crate) fn max_message(&self) -> usize {
        self.max_message.load(Ordering::Relaxed)
    }

    /// Whether the option `auth` was set to `none`: then a client needs no grant.
    pub(crate) fn anybody_may(&self) -> bool {
        self.anybody_may.load(Ordering::Relaxed)
    }

    pub(crate) fn shards(&self) -> &[Arc<ShardHandle>] {
        &self.shards
    }

    fn find_request(&self, request: u64) -> Result<(&ShardHandle, u64), Error> {
        let id = RequestId::from_number(request);
        let shard = self.shards.get(id.shard).filter(|_| id.count != 0);
        Ok((shard.ok_or_else(|| Error::new(Kind::NotFound, "no such request"))?, id.count))
    }

    fn find(&self, connection: u64) -> Result<(&ShardHandle, ConnectionId), Error> {
        let id = ConnectionId::from_number(connection);
        let shard = self.shards.get(id.shard).filter(|shard| id.token.generation != 0 && shard.roster.lives(id.token));
        let shard = shard.ok_or_else(|| Error::new(Kind::NotFound, "no such connection"))?;
        Ok((shard, id))
    }
}

/// A publication on its way into the hub.
fn outgoing<'a>(publication: &Publication<'a>) -> Outgoing<'a> {
    Outgoing { channel: publication.channel, key: publication.key.map(Key::Host), message: message(publication) }
}

fn busy() -> Error {
    Error::new(Kind::Busy, "the queue of a thread is full; nothing was done")
}
