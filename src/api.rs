//! The calls to a hub in this process. The C API, the control API and attached hosts share them.

mod acts;
mod checks;
mod everyone;
mod figures;
mod kept;
mod lasting;
mod listing;
mod of_hosts;
mod publishing;
pub(crate) mod questions;
mod tailing;

use crate::auth::Authority;
use crate::config::{Auth, Config};
use crate::context::client::Client;
use crate::context::Context;
use crate::error::{Error, Kind};
use crate::grant::{Grant, Handover, Latest};
use crate::http::refusal::Refusal;
use crate::http::unserved;
use crate::hub::{ChannelInfo, Placed, Replacement};
use crate::limits::Inboxes;
use crate::log::Level;
use crate::metrics::losses::Loss;
use crate::metrics::Reason;
use crate::shard::client::checks::Instead;
use crate::shard::client::presence::{PresenceQuery, Present, Wanted};
use crate::shard::client::query::Tell;
use crate::shard::connection::conn::{ConnectionId, RequestId};
use crate::shard::turn::command::{Adopted, Command, ShardHandle};
use crate::shard::turn::driver::Driver;
use crate::sys::clock;
use crate::sys::socket::Checked;
use crate::waiter::Waiter;
pub(crate) use acts::not_in_time_for_others;
use bytes::Bytes;
pub(crate) use checks::{
    check_disconnection, check_head, check_send, checked_close, checked_refusal, checked_revocation, no_user_channels,
    CLOSE_CODES,
};
pub(crate) use everyone::{hubs_late, PendingUsers};
pub(crate) use kept::Kept;
pub(crate) use lasting::{not_in_time, places};
use questions::Questions;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
pub(crate) use tailing::{unix_ms, Tail};

/// The largest number of messages in a batch.
pub const MAX_BATCH: usize = 8192;

/// See the module. Any thread may call any method.
#[derive(Debug)]
pub struct Api {
    context: Arc<Context>,
    shards: Vec<Arc<ShardHandle>>,
    drivers: Vec<Arc<Driver>>,
    /// The latest grant of the clients that this process hands over.
    latest_grant: Mutex<Latest>,
    /// The shard that gets the next connection from the host.
    next_shard: AtomicUsize,
    /// Options that calls read. Copies are kept here, so that calls take no lock for them.
    max_message: AtomicUsize,
    max_connections: AtomicUsize,
    anybody_may: AtomicBool,
    /// The option `user_channel`. A reload does not change it.
    user_channel: bool,
    /// Questions to all hubs, if this one shares a log with others.
    questions: Option<Arc<Questions>>,
}

impl Api {
    pub(crate) fn new(context: Arc<Context>, shards: Vec<Arc<ShardHandle>>, drivers: Vec<Arc<Driver>>) -> Self {
        let config = context.config.get();
        let max_message = AtomicUsize::new(config.max_message);
        let max_connections = AtomicUsize::new(config.max_connections);
        let anybody_may = AtomicBool::new(config.auth == Auth::None);
        let user_channel = config.user_channel;
        let questions = context.engine.shared().map(|shared| Questions::new(shared.clone(), context.log.clone()));
        Api {
            questions,
            context,
            shards,
            drivers,
            latest_grant: Mutex::default(),
            next_shard: AtomicUsize::new(0),
            max_message,
            max_connections,
            anybody_may,
            user_channel,
        }
    }

    /// Applies new options, and new keys if there are any. Calls in progress may still use the old ones.
    pub(crate) fn reconfigure(&self, config: Config, authority: Authority) {
        let config = Arc::new(config);
        self.context.config.set(config.clone());
        self.context.set_authority(authority);
        self.max_message.store(config.max_message, Ordering::Relaxed);
        self.max_connections.store(config.max_connections, Ordering::Relaxed);
        self.anybody_may.store(config.auth == Auth::None, Ordering::Relaxed);
        self.context.hub.reconfigure(&config.hub_settings(), clock::monotonic_ms());
        self.context.engine.reconfigure(&config.log_settings());
        for shard in &self.shards {
            shard.tell(Command::Reconfigure(config.clone()));
        }
    }

    /// Takes over a connection, or returns it with the error. Here it would gain nothing to wait for further connections.
    pub(crate) fn adopt(&self, fd: OwnedFd, connection: Handover<'_>) -> Result<(), (Error, OwnedFd)> {
        let Handover { head, grant, checked, .. } = connection;
        self.adopt_shared(fd, head, grant.map(|grant| self.shared_grant(grant)), checked)
    }

    /// Does nothing: [`Self::adopt`] leaves no connection waiting.
    pub(crate) fn flush(&self) {}

    /// Returns a grant that clients with the same rights share, if they come one after the other.
    fn shared_grant(&self, grant: Grant) -> Arc<Grant> {
        // If another thread holds the lock, it is not worth waiting for.
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
        checked: Checked,
    ) -> Result<(), (Error, OwnedFd)> {
        if let Err(error) = check_head(head) {
            return Err((error, fd));
        }
        if checked.tls.is_some() && cfg!(not(feature = "tls")) {
            let error = Error::new(Kind::Unsupported, "this build of the library has no TLS, not even in the kernel");
            let client = Client::of(&fd).granted(grant.as_deref());
            return Err((self.not_taken(client, Reason::NotPlain, error), fd));
        }
        // The connection is counted here, before a shard takes it: a host may hand over many until then.
        let max = self.max_connections.load(Ordering::Relaxed);
        if self.context.limits.connections.enter() >= max && max > 0 {
            self.context.limits.connections.leave();
            let text = format!("max_connections is reached: {max}");
            let client = Client::of(&fd).granted(grant.as_deref());
            return Err((self.not_taken(client, Reason::MaxConnections, Error::new(Kind::Limit, text)), fd));
        }
        let number = self.next_shard.fetch_add(1, Ordering::Relaxed) % self.drivers.len();
        self.drivers[number].adopt(Adopted { fd, head: head.into(), grant, checked }).map_err(|(fd, grant)| {
            self.context.limits.connections.leave();
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

    /// Answers a request with yes; see `push_allow`.
    pub fn allow(&self, request: u64, grant: Grant) -> Result<(), Error> {
        let (shard, request) = self.find_request(request)?;
        shard.tell(Command::Allow { request, grant: Arc::new(grant) });
        Ok(())
    }

    /// Answers a request with no; see `push_deny`.
    pub fn deny(&self, request: u64, status: u16, reason: &str) -> Result<(), Error> {
        let refusal = checked_refusal(status, reason)?;
        let (shard, request) = self.find_request(request)?;
        shard.tell(Command::Deny { request, refusal });
        Ok(())
    }

    /// Answers a client's call; see `push_answer`.
    pub fn answer_call(&self, request: u64, data: &[u8], binary: bool) -> Result<(), Error> {
        check_send(data, binary, self.max_send())?;
        let (shard, request) = self.find_request(request)?;
        let command = Command::Answer { request, data: Bytes::copy_from_slice(data), binary };
        shard.ask(command).map_err(|_| busy())
    }

    /// Lets a client's message be published; see `push_allow_publish`.
    pub fn allow_publish(&self, request: u64, instead: Option<&Replacement<'_>>) -> Result<(), Error> {
        instead.map_or(Ok(()), |instead| instead.check(self.max_message()))?;
        let (shard, request) = self.find_request(request)?;
        let instead = instead.map(|instead| Box::new(Instead::of(instead)));
        shard.ask(Command::AllowPublish { request, instead }).map_err(|_| busy())
    }

    /// Closes one connection; see `push_close`.
    pub fn close(&self, connection: u64, code: u16, reason: &str) -> Result<(), Error> {
        let close = checked_close(code, reason)?;
        let (shard, id) = self.find(connection)?;
        shard.tell(Command::Close { to: id.token, close });
        Ok(())
    }

    /// Gives a connection another grant; see `push_renew`.
    pub fn renew(&self, connection: u64, grant: Grant) -> Result<(), Error> {
        let (shard, id) = self.find(connection)?;
        shard.tell(Command::Renew { of: id.token, grant: Box::new(grant) });
        Ok(())
    }

    /// Takes over a connection that an attached host has passed. If there is no room, it answers the client and closes
    /// the connection, since no other process has the descriptor any more.
    pub(crate) fn adopt_or_refuse(&self, fd: OwnedFd, head: &[u8], grant: Arc<Grant>, checked: Checked) {
        if let Err((error, fd)) = self.adopt_shared(fd, head, Some(grant), checked) {
            let refusal =
                Refusal::unavailable(if error.kind() == Kind::Busy { "busy" } else { "full" }, error.to_string());
            self.refuse_unserved(&fd, head, &refusal);
        }
    }

    /// Answers a request that no shard has taken.
    pub(crate) fn refuse_unserved(&self, fd: &OwnedFd, head: &[u8], refusal: &Refusal) {
        self.context.metrics.refused.fetch_add(1, Ordering::Relaxed);
        unserved::refuse(fd, head, &self.context.config.get(), refusal);
    }

    /// Asks each shard which users are on a channel. The answer comes to the waiter.
    pub(crate) fn present(&self, channel: &str) -> Arc<Waiter<Present>> {
        let waiter = Arc::new(Waiter::default());
        let told = waiter.clone();
        self.ask_present(channel, Box::new(move |present| told.tell(present)));
        waiter
    }

    /// Asks each shard which users are on a channel. `tell` gets the combined answer. Returns false if the channel does
    /// not exist, so nobody is on it.
    pub(crate) fn ask_present(&self, channel: &str, tell: Tell<Present>) -> bool {
        let Some(id) = self.context.hub.channel_id(channel) else {
            tell(Present::default());
            return false;
        };
        let query = Arc::new(PresenceQuery::new(Wanted { channel: id, name: channel.into() }, tell));
        for shard in &self.shards {
            shard.tell(Command::Present(query.clone()));
        }
        true
    }

    /// A channel that exists.
    pub(crate) fn channel(&self, channel: &str) -> Option<ChannelInfo> {
        self.context.hub.channel(channel)
    }

    /// Looks for channels whose names begin with `prefix`, at most `limit` of them, in no particular order: among some
    /// hundred channels at once, from 0 on. Returns where to go on, if there are more.
    pub(crate) fn list_channels(
        &self,
        prefix: &str,
        limit: usize,
        from: usize,
        found: &mut Vec<ChannelInfo>,
    ) -> Option<usize> {
        self.context.hub.list_some(prefix, limit, from, found)
    }

    /// The messages that a channel lost because of slow clients.
    pub(crate) fn loss(&self, channel: &str) -> Loss {
        self.context.metrics.losses.of(channel)
    }

    /// The present options.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.context.config.get()
    }

    /// True if clients are being sent away.
    pub(crate) fn is_draining(&self) -> bool {
        self.context.drained.has_begun()
    }

    /// Counts and logs a refusal to a client that no shard knows.
    pub(crate) fn note_refusal(&self, client: Client<'_>, level: Level, reason: Reason, text: fmt::Arguments<'_>) {
        self.context.note_refusal_of(client, level, reason, text);
    }

    /// Logs what a client did, under the rate limit of its `kind`.
    #[cfg(feature = "console")]
    pub(crate) fn note(&self, client: Client<'_>, level: Level, kind: &'static str, text: fmt::Arguments<'_>) {
        client.log(&self.context.log, level, kind, text);
    }

    /// The certificates for the control API.
    #[cfg(feature = "tls")]
    pub(crate) fn control_certificates(&self) -> Option<Arc<rustls::ServerConfig>> {
        self.context.tls.as_ref().map(|tls| tls.current().control.clone())
    }

    /// The position of a message, as clients see it.
    pub fn position(&self, placed: &Placed) -> String {
        self.context.hub.epoch_at(placed.epoch_index).position(placed.seq)
    }

    /// The position of a number, as clients see it.
    pub(crate) fn position_now(&self, seq: u64) -> String {
        self.context.hub.present_epoch().position(seq)
    }

    /// The largest payload that [`Self::send`] takes.
    pub(crate) fn max_send(&self) -> usize {
        self.max_message().max(self.context.config.get().max_client_message)
    }

    /// The option `max_message`.
    pub(crate) fn max_message(&self) -> usize {
        self.max_message.load(Ordering::Relaxed)
    }

    /// True if the option `auth` is set to `none`. Then a client needs no grant.
    pub(crate) fn anybody_may(&self) -> bool {
        self.anybody_may.load(Ordering::Relaxed)
    }

    /// True if users have channels of their own (option `user_channel`). Then no grant may name these.
    pub(crate) fn users_have_channels(&self) -> bool {
        self.user_channel
    }

    /// The bytes of unfinished messages and requests, and the option `inbox_total`.
    pub(crate) fn inboxes(&self) -> (&Inboxes, usize) {
        (&self.context.inboxes, self.context.config.get().inbox_total)
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
        let shard = self.shards.get(id.shard).filter(|shard| id.token.generation != 0 && shard.live.contains(id.token));
        Ok((shard.ok_or_else(|| self.no_such_connection())?, id))
    }

    /// A hub knows only its own connections, and can't tell one that has ended from one of another hub.
    fn no_such_connection(&self) -> Error {
        let text = match self.has_others() {
            true => "no such connection at this hub; it has ended, or another hub of the log has it: ask that hub",
            false => "no such connection",
        };
        Error::new(Kind::NotFound, text)
    }
}

fn busy() -> Error {
    Error::new(Kind::Busy, "the queue of a thread is full; nothing was done")
}
