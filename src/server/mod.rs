//! A server as the C API and Rust hosts see it. Its hub is in this process, or in another that the server attaches to.

#[cfg(test)]
mod cluster_tests;
mod embedded;
mod listening;
mod to_users;

pub use crate::api::MAX_BATCH;
use crate::attach::host_side::Attached;
use crate::auth::Authority;
use crate::callbacks;
pub use crate::callbacks::Leftover;
use crate::config::{Builder, Config, Reloaded};
use crate::context::client::Client;
use crate::engine::shared::Shared;
use crate::error::{Error, Kind};
use crate::events::{Event, Events};
use crate::grant::{Grant, Handover};
use crate::hub::{Placed, Publication, Replacement};
use crate::log::{Level, Log, Pulled};
use crate::metrics::Stats;
use crate::sys::{keys, socket, standard};
#[cfg(feature = "tls")]
use crate::tls::Tls;
use crate::users::Users;
use embedded::Embedded;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

/// A running server. Any thread may call any method.
///
/// With the option `attach` the hub is another process. Calls that need no answer (`post`, [`Server::adopt`],
/// [`Server::send`] and the like) then return as soon as they are on their way, or [`Kind::Busy`] if too much waits.
/// Calls that need an answer wait for it, at most for the option `attach_timeout`. After that they return
/// [`Kind::Busy`] if nothing was done, and [`Kind::Timeout`] if that is not known.
#[derive(Debug)]
pub struct Server(Backend);

/// Whether a hub serves clients yet, and how it is with its log. It may be kept longer than the server.
#[derive(Debug, Clone)]
pub struct Readiness(Option<Arc<Shared>>);

impl Readiness {
    /// Waits for at most `time` until the hub has read all entries that the log had at the hub's start. Returns whether
    /// it has.
    pub fn wait(&self, time: Duration) -> bool {
        self.0.as_ref().is_none_or(|shared| shared.status.await_ready(time))
    }

    /// Why the hub can't follow its log at present. `None` if there is no such problem.
    pub fn failure(&self) -> Option<String> {
        self.0.as_ref()?.status.failure().map(|why| why.to_string())
    }

    /// True if the hub shares a log with others, so that the answers can change.
    pub fn changes(&self) -> bool {
        self.0.is_some()
    }
}

#[derive(Debug)]
enum Backend {
    Embedded(Box<Embedded>),
    Attached(Box<Attached>),
}

/// Makes the same call on either backend. Both have the same methods, so each call is written once.
macro_rules! either {
    ($backend:expr, $server:ident => $done:expr) => {
        match $backend {
            Backend::Embedded($server) => $done,
            Backend::Attached($server) => $done,
        }
    };
}

/// Asks the hub: directly if it is in this process, else through the attach socket.
macro_rules! ask {
    ($self:ident, $hub:ident => $asked:expr) => {
        either!(&$self.0, server => {
            let $hub = server.hub();
            $asked
        })
    };
}

impl Server {
    /// Starts a server. Its listeners are bound when this returns.
    pub fn start(builder: Builder) -> Result<Self, Error> {
        let builder = builder.build()?;
        keys::claim().map_err(|error| Error::system("a key for thread-specific data", &error))?;
        // Before the hold, which may take the number of a descriptor that is closed.
        let output = callbacks::output(builder.config())?;
        let _held = standard::hold();
        Ok(Server(match builder.config().attach.clone() {
            None => Backend::Embedded(Box::new(Embedded::start(builder, output)?)),
            Some(path) => Backend::Attached(Box::new(Attached::start(&builder, path, output)?)),
        }))
    }

    /// Checks options as [`Self::start`] does, and reads the files that they name: secrets, keys and certificates. It
    /// binds no address, connects to nothing, and does not look at the directory of the option `engine`.
    pub fn check(builder: &Builder) -> Result<(), Error> {
        let built = builder.build()?;
        let config = built.config();
        callbacks::check_output(config)?;
        if config.attach.is_none() {
            Authority::new(config)?;
            #[cfg(feature = "tls")]
            Tls::new(config, &Log::new(None, Level::Error))?;
        }
        Ok(())
    }

    /// The addresses of its listeners, in the order of `listen`, `control`, `attach_listen`. An attached server has
    /// none.
    pub fn addresses(&self) -> &[String] {
        either!(&self.0, server => server.addresses())
    }

    /// Says when the hub has read the log that it shares with others. Of another hub it says so at once.
    pub fn readiness(&self) -> Readiness {
        match &self.0 {
            Backend::Embedded(server) => Readiness(server.shared_log()),
            Backend::Attached(_) => Readiness(None),
        }
    }

    /// Publishes one message; see `push_publish_message`.
    pub fn publish(&self, publication: &Publication<'_>) -> Result<Placed, Error> {
        ask!(self, hub => hub.publish(publication))
    }

    /// Publishes one message without waiting for its position.
    pub fn post(&self, publication: &Publication<'_>) -> Result<(), Error> {
        ask!(self, hub => hub.post(publication))
    }

    /// Publishes to every connection.
    pub fn broadcast(&self, publication: &Publication<'_>) -> Result<Placed, Error> {
        ask!(self, hub => hub.broadcast(publication))
    }

    /// Publishes to every connection without waiting for the message's position.
    pub fn post_broadcast(&self, publication: &Publication<'_>) -> Result<(), Error> {
        ask!(self, hub => hub.post_broadcast(publication))
    }

    /// Publishes all messages or none, with no other message between them.
    pub fn publish_batch(&self, publications: &[Publication<'_>]) -> Result<Vec<Placed>, Error> {
        ask!(self, hub => hub.publish_batch(publications))
    }

    /// Like [`Self::publish_batch`], without waiting for the positions.
    pub fn post_batch(&self, publications: &[Publication<'_>]) -> Result<(), Error> {
        ask!(self, hub => hub.post_batch(publications))
    }

    /// Takes over a connection, or returns it with the error. A grant of `None` is [`Kind::Invalid`], unless the option
    /// `auth` is set to `none`.
    pub fn adopt(&self, fd: OwnedFd, head: &[u8], grant: Option<Grant>) -> Result<(), (Error, OwnedFd)> {
        self.hand_over_unchecked(fd, head, grant, false)
    }

    /// Takes over a connection that others follow at once; see `push_adopt_more`.
    pub fn adopt_more(&self, fd: OwnedFd, head: &[u8], grant: Option<Grant>) -> Result<(), (Error, OwnedFd)> {
        self.hand_over_unchecked(fd, head, grant, true)
    }

    /// Takes over a connection of which nothing is known yet.
    fn hand_over_unchecked(
        &self,
        fd: OwnedFd,
        head: &[u8],
        grant: Option<Grant>,
        followed: bool,
    ) -> Result<(), (Error, OwnedFd)> {
        match socket::check_encryption(&fd) {
            Ok(checked) => self.hand_over(fd, Handover { head, grant, checked, followed }),
            Err(text) => Err((Error::new(Kind::Descriptor, text), fd)),
        }
    }

    /// Takes over a connection whose descriptor was checked.
    pub(crate) fn hand_over(&self, fd: OwnedFd, connection: Handover<'_>) -> Result<(), (Error, OwnedFd)> {
        let fd = self.check_granted(connection.grant.is_some(), fd)?;
        if let Err(error) = connection.grant.as_ref().map_or(Ok(()), |grant| self.check_names(grant)) {
            return Err((error, fd));
        }
        ask!(self, hub => hub.adopt(fd, connection))
    }

    /// Returns the descriptor if there is a grant, or the options let anybody in. A host that forgets the grant must not
    /// open all channels that way.
    fn check_granted(&self, granted: bool, fd: OwnedFd) -> Result<OwnedFd, (Error, OwnedFd)> {
        if granted || ask!(self, hub => hub.anybody_may()) {
            return Ok(fd);
        }
        let text = "a grant is missing, and auth=none is not set: pass a grant, or PUSH_GRANT_ALL for every channel";
        let said = format_args!("a client from the host is refused: {text}");
        Client::of(&fd).log(self.log(), Level::Warn, "no grant", said);
        Err((Error::invalid(text), fd))
    }

    /// Sends the connections that [`Self::adopt_more`] has left waiting.
    pub fn flush(&self) {
        ask!(self, hub => hub.flush());
    }

    /// Sends to one connection; see `push_send`.
    pub fn send(&self, connection: u64, data: &[u8], binary: bool) -> Result<(), Error> {
        ask!(self, hub => hub.send(connection, data, binary))
    }

    /// Answers a request with yes; see `push_allow`.
    pub fn allow(&self, request: u64, grant: Grant) -> Result<(), Error> {
        self.check_names(&grant)?;
        ask!(self, hub => hub.allow(request, grant))
    }

    /// Answers a request with no; see `push_deny`.
    pub fn deny(&self, request: u64, status: u16, reason: &str) -> Result<(), Error> {
        ask!(self, hub => hub.deny(request, status, reason))
    }

    /// Answers a client's call; see `push_answer`.
    pub fn answer_call(&self, request: u64, data: &[u8], binary: bool) -> Result<(), Error> {
        ask!(self, hub => hub.answer_call(request, data, binary))
    }

    /// Lets a client's message be published, as it is or replaced; see `push_allow_publish`.
    pub fn allow_publish(&self, request: u64, instead: Option<&Replacement<'_>>) -> Result<(), Error> {
        ask!(self, hub => hub.allow_publish(request, instead))
    }

    /// Closes one connection; see `push_close`.
    pub fn close(&self, connection: u64, code: u16, reason: &str) -> Result<(), Error> {
        ask!(self, hub => hub.close(connection, code, reason))
    }

    /// Closes all connections of a user. Each shard does so in its next turn.
    pub fn disconnect_user(&self, user: &str, code: u16, reason: &str) -> Result<(), Error> {
        ask!(self, hub => hub.disconnect_user(user, code, reason))
    }

    /// Takes a channel, or all channels that match a pattern, from a user's connections; see `push_revoke_channel`.
    pub fn revoke_channel(&self, user: &str, channel: &str, reason: &str) -> Result<(), Error> {
        ask!(self, hub => hub.revoke_channel(user, channel, reason))
    }

    /// Gives a connection another grant; see `push_renew`.
    pub fn renew(&self, connection: u64, grant: Grant) -> Result<(), Error> {
        self.check_names(&grant)?;
        ask!(self, hub => hub.renew(connection, grant))
    }

    /// The position of a number in the hub's present epoch, as clients see it. Empty if no hub was there yet.
    pub fn position(&self, seq: u64) -> String {
        ask!(self, hub => hub.position_now(seq))
    }

    /// The position of a message, as clients see it.
    pub fn position_of(&self, placed: &Placed) -> String {
        ask!(self, hub => hub.position(placed))
    }

    /// Counters and gauges of the hub.
    pub fn stats(&self) -> Result<Stats, Error> {
        ask!(self, hub => hub.stats())
    }

    /// The users on a channel: at most `limit` of them by name, beginning after the name `after` (empty: with the
    /// first), and the counts of all. See `push_users_get`.
    pub fn users(&self, channel: &str, after: &str, limit: usize) -> Result<Users, Error> {
        let users = ask!(self, hub => hub.users(channel, after, limit))?;
        users.hubs.as_ref().map_or(Ok(()), |hubs| hubs.check_answered())?;
        Ok(users)
    }

    /// Applies the builder's options that can change while the server runs, as
    /// [`crate::config::options::Spec::is_live`] says. It applies all of them or, on an error, none. The log names the
    /// options that have changed, and those that need a new start. Files of keys are read again. The builder's
    /// callbacks and sockets are used only at the start.
    pub fn reload(&self, builder: &Builder) -> Result<Reloaded, Error> {
        // A start with these options would be refused, and so is the reload.
        let calls_back = self.log().is_told() && self.config().log_fd.is_none();
        let fits = builder.check_log(calls_back).inspect_err(|_| self.note_unread_options());
        let reloaded = fits.and_then(|()| either!(&self.0, server => server.reload(builder)));
        match &reloaded {
            Ok(reloaded) => reloaded.log(self.log()),
            Err(error) => self
                .log()
                .line(Level::Error, format_args!("the options are not reloaded and stay as they were: {error}")),
        }
        reloaded
    }

    /// Notes that options could not be read, so that there is nothing to reload: `push_reload_success` is 0 then. An
    /// attached server has no metrics.
    pub fn note_unread_options(&self) {
        if let Backend::Embedded(server) = &self.0 {
            server.note_reload(false);
        }
    }

    /// A descriptor that is readable while events wait. [`Kind::Unsupported`] if they go to a callback or to attached
    /// hosts.
    pub fn event_fd(&self) -> Result<RawFd, Error> {
        let events = self.pulled_events()?;
        self.want_events();
        Ok(events.as_raw_fd())
    }

    /// Takes the next event. Without a timeout, it waits for ever.
    pub fn next_event(&self, timeout: Option<Duration>) -> Result<Event, Error> {
        let events = self.pulled_events()?;
        self.want_events();
        events.next(timeout)
    }

    /// Ends every wait in [`Self::next_event`], now and later.
    pub fn end_waiting(&self) {
        if !self.events().called_back() {
            self.events().close();
        }
    }

    /// The queue of log lines, if the option `log` is `pull`. It can be read after [`Self::stop`], too.
    pub fn pulled_log(&self) -> Option<Arc<Pulled>> {
        self.log().pulled().cloned()
    }

    /// True if this thread runs the callbacks of this server or of another one.
    pub fn is_callback_thread(&self) -> bool {
        callbacks::is_callback_thread()
    }

    /// Begins to send the clients away, and returns; see `push_drain`. [`Kind::Unsupported`] if they belong to another
    /// process.
    pub fn drain(&self, time: Duration) -> Result<(), Error> {
        either!(&self.0, server => server.drain(time))
    }

    /// Ends the server. Published messages are delivered, clients are sent away, and after `drain` the other
    /// connections are cut off. An attached server sends the requests that wait for the hub; its clients stay with the
    /// hub. When this returns, no thread of the server runs, except one that is in a function of the host. Such a
    /// function gets the rest of `drain`, and at least a second, to return. After that no function of the host is
    /// called. The same time has a descriptor of `log_fd` that takes no line. Lines that were not pulled can still be.
    pub fn stop(self, drain: Duration) -> Option<Leftover> {
        let log = self.log().clone();
        let left = either!(self.0, server => server.stop(drain));
        log.end();
        left
    }

    /// True if users have channels of their own (option `user_channel` of the hub, as far as that is known).
    fn users_have_channels(&self) -> bool {
        ask!(self, hub => hub.users_have_channels())
    }

    /// The present options. An attached server has those of its own side only.
    pub(crate) fn config(&self) -> Arc<Config> {
        ask!(self, hub => hub.config())
    }

    pub(crate) fn log(&self) -> &Log {
        either!(&self.0, server => server.log())
    }

    fn events(&self) -> &Events {
        either!(&self.0, server => server.events())
    }

    fn want_events(&self) {
        either!(&self.0, server => server.want_events());
    }

    fn pulled_events(&self) -> Result<&Events, Error> {
        if either!(&self.0, server => server.serves_hosts()) {
            return Err(Error::new(
                Kind::Unsupported,
                "events go to the attached hosts (option attach_listen), so they can't be pulled here",
            ));
        }
        if self.events().called_back() {
            return Err(Error::new(
                Kind::Unsupported,
                "events go to the callback of push_config_on_event, so they can't be pulled",
            ));
        }
        Ok(self.events())
    }
}
