//! A server as the C API and Rust hosts know it, wherever its hub is: in this process, or in another that it attaches
//! to.

mod embedded;

pub use crate::api::MAX_BATCH;
use crate::attach::host_side::Attached;
use crate::callbacks;
pub use crate::callbacks::Leftover;
use crate::config::{Builder, Reloaded};
use crate::context::client::Client;
use crate::error::{Error, Kind};
use crate::events::{Event, Events};
use crate::grant::Grant;
use crate::hub::{Placed, Publication};
use crate::log::{Level, Log};
use crate::metrics::Stats;
use crate::sys::{keys, standard};
use crate::users::Users;
use embedded::Embedded;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// A running server. Every method may be called by any thread.
///
/// With the option `attach` the hub is another process, and calls differ in what they can say: those that need no
/// answer (`post`, [`Server::adopt`], [`Server::send`] and the like) say that the call is on its way, or [`Kind::Busy`]
/// where too much waits; those that do wait for it for the option `attach_timeout`, then say [`Kind::Busy`] where
/// nothing was done and [`Kind::Timeout`] where that can't be known.
#[derive(Debug)]
pub struct Server(Backend);

#[derive(Debug)]
enum Backend {
    Embedded(Box<Embedded>),
    Attached(Box<Attached>),
}

/// The same on either backend. Both have the same methods for it, so each call stands here once.
macro_rules! either {
    ($backend:expr, $server:ident => $done:expr) => {
        match $backend {
            Backend::Embedded($server) => $done,
            Backend::Attached($server) => $done,
        }
    };
}

/// Asks the hub: the one in this process directly, another through the attach socket.
macro_rules! ask {
    ($self:ident, $hub:ident => $asked:expr) => {
        either!(&$self.0, server => {
            let $hub = server.hub();
            $asked
        })
    };
}

impl Server {
    /// Starts a server; it listens when this returns.
    pub fn start(builder: Builder) -> Result<Self, Error> {
        let builder = builder.build()?;
        keys::claim().map_err(|error| Error::system("a key for thread-specific data", &error))?;
        let _held = standard::hold();
        Ok(Server(match builder.config().attach.clone() {
            None => Backend::Embedded(Box::new(Embedded::start(builder)?)),
            Some(path) => Backend::Attached(Box::new(Attached::start(&builder, path)?)),
        }))
    }

    /// Where its listeners can be reached: those of `listen`, of `control`, of `attach_listen`. An attached server has
    /// none.
    pub fn addresses(&self) -> &[String] {
        either!(&self.0, server => server.addresses())
    }

    /// Publishes one message; see `push_publish_message`.
    pub fn publish(&self, publication: &Publication<'_>) -> Result<Placed, Error> {
        ask!(self, hub => hub.publish(publication))
    }

    /// Publishes one message, and does not wait for its place.
    pub fn post(&self, publication: &Publication<'_>) -> Result<(), Error> {
        ask!(self, hub => hub.post(publication))
    }

    /// Publishes to every connection.
    pub fn broadcast(&self, publication: &Publication<'_>) -> Result<Placed, Error> {
        ask!(self, hub => hub.broadcast(publication))
    }

    /// Publishes to every connection, and does not wait for the message's place.
    pub fn post_broadcast(&self, publication: &Publication<'_>) -> Result<(), Error> {
        ask!(self, hub => hub.post_broadcast(publication))
    }

    /// Publishes all or none, with nothing between them.
    pub fn publish_batch(&self, publications: &[Publication<'_>]) -> Result<Vec<Placed>, Error> {
        ask!(self, hub => hub.publish_batch(publications))
    }

    /// As [`Self::publish_batch`], and does not wait for their places.
    pub fn post_batch(&self, publications: &[Publication<'_>]) -> Result<(), Error> {
        ask!(self, hub => hub.post_batch(publications))
    }

    /// Takes over a connection; hands it back with the error. `None` as its grant is [`Kind::Invalid`], unless the option
    /// `auth` was set to `none`.
    pub fn adopt(&self, fd: OwnedFd, head: &[u8], grant: Option<Grant>) -> Result<(), (Error, OwnedFd)> {
        self.adopt_checked(fd, head, grant, true)
    }

    /// As [`Server::adopt`]. `delays`: the socket may delay small writes, as TCP does by default.
    pub(crate) fn adopt_checked(
        &self,
        fd: OwnedFd,
        head: &[u8],
        grant: Option<Grant>,
        delays: bool,
    ) -> Result<(), (Error, OwnedFd)> {
        if let Err(error) = self.check_granted(grant.is_some(), &fd) {
            return Err((error, fd));
        }
        ask!(self, hub => hub.adopt(fd, head, grant, delays))
    }

    /// Takes over a connection that others follow at once; see `push_adopt_more`.
    pub fn adopt_more(&self, fd: OwnedFd, head: &[u8], grant: Option<Grant>) -> Result<(), (Error, OwnedFd)> {
        self.adopt_more_checked(fd, head, grant, true)
    }

    /// As [`Server::adopt_more`]. `delays`: the socket may delay small writes, as TCP does by default.
    pub(crate) fn adopt_more_checked(
        &self,
        fd: OwnedFd,
        head: &[u8],
        grant: Option<Grant>,
        delays: bool,
    ) -> Result<(), (Error, OwnedFd)> {
        if let Err(error) = self.check_granted(grant.is_some(), &fd) {
            return Err((error, fd));
        }
        ask!(self, hub => hub.adopt_more(fd, head, grant, delays))
    }

    /// Without a grant a client may do nothing, unless the options say that anybody may. A host that has forgotten its
    /// grant must not open all channels by that.
    fn check_granted(&self, granted: bool, fd: &OwnedFd) -> Result<(), Error> {
        if granted || ask!(self, hub => hub.anybody_may()) {
            return Ok(());
        }
        let text = "there is no grant, and auth=none is not set: give a grant, or PUSH_GRANT_ALL for every channel";
        let said = format_args!("a client is not let in by the host: {text}");
        Client::of(fd).log(self.log(), Level::Warn, "no grant", said);
        Err(Error::invalid(text))
    }

    /// Sends what [`Self::adopt_more`] has left.
    pub fn flush(&self) {
        ask!(self, hub => hub.flush());
    }

    /// Sends to one connection; see `push_send`.
    pub fn send(&self, connection: u64, data: &[u8], binary: bool) -> Result<(), Error> {
        ask!(self, hub => hub.send(connection, data, binary))
    }

    /// Says yes to a request; see `push_allow`.
    pub fn allow(&self, request: u64, grant: Grant) -> Result<(), Error> {
        ask!(self, hub => hub.allow(request, grant))
    }

    /// Says no to a request; see `push_deny`.
    pub fn deny(&self, request: u64, status: u16, reason: &str) -> Result<(), Error> {
        ask!(self, hub => hub.deny(request, status, reason))
    }

    /// Closes one connection; see `push_close`.
    pub fn close(&self, connection: u64, code: u16, reason: &str) -> Result<(), Error> {
        ask!(self, hub => hub.close(connection, code, reason))
    }

    /// Closes all connections of a user. They are looked for by each shard, in its own time.
    pub fn disconnect_user(&self, user: &str, code: u16, reason: &str) -> Result<(), Error> {
        ask!(self, hub => hub.disconnect_user(user, code, reason))
    }

    /// Takes a channel, or all that fit a pattern, from a user's connections; see `push_revoke_channel`.
    pub fn revoke_channel(&self, user: &str, channel: &str, reason: &str) -> Result<(), Error> {
        ask!(self, hub => hub.revoke_channel(user, channel, reason))
    }

    /// Gives a connection another grant; see `push_renew`.
    pub fn renew(&self, connection: u64, grant: Grant) -> Result<(), Error> {
        ask!(self, hub => hub.renew(connection, grant))
    }

    /// The position of a number in the hub's present life, as clients see it. Empty while no hub was ever there.
    pub fn position(&self, seq: u64) -> String {
        ask!(self, hub => hub.position_now(seq))
    }

    /// The position of a message as clients see it.
    pub fn position_of(&self, placed: &Placed) -> String {
        ask!(self, hub => hub.position(placed))
    }

    /// Counters and gauges of the hub.
    pub fn stats(&self) -> Result<Stats, Error> {
        ask!(self, hub => hub.stats())
    }

    /// Who is on a channel: at most `limit` users, by name, after that of `after` (none: from the first), and counts of
    /// all; see `push_users_get`.
    pub fn users(&self, channel: &str, after: &str, limit: usize) -> Result<Users, Error> {
        ask!(self, hub => hub.users(channel, after, limit))
    }

    /// Takes those options of a builder that can change while the server runs; which they are says
    /// [`crate::config::options::Spec::is_live`]. All or none: on an error nothing has changed. The log tells what has,
    /// and what would have to wait for a new start. Files of keys are read again. The builder's callbacks and sockets
    /// count only at the start.
    pub fn reload(&self, builder: &Builder) -> Result<Reloaded, Error> {
        let reloaded = either!(&self.0, server => server.reload(builder));
        match &reloaded {
            Ok(reloaded) => reloaded.log(self.log()),
            Err(error) => {
                self.log().line(Level::Error, format_args!("options not reloaded, all stays as it was: {error}"))
            }
        }
        reloaded
    }

    /// Readable while events wait. [`Kind::Unsupported`]: they go to a callback, or to attached hosts.
    pub fn event_fd(&self) -> Result<RawFd, Error> {
        let events = self.pulled_events()?;
        self.want_events();
        Ok(events.as_raw_fd())
    }

    /// Takes the next event; `None` waits for ever.
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

    /// Whether this is a thread that a host's functions run on, of this server or another.
    pub fn is_callback_thread(&self) -> bool {
        callbacks::is_callback_thread()
    }

    /// Begins to send the clients away, and returns; see `push_drain`. [`Kind::Unsupported`]: they are another
    /// process's.
    pub fn drain(&self, time: Duration) -> Result<(), Error> {
        either!(&self.0, server => server.drain(time))
    }

    /// Ends the server. What was published is delivered, clients are sent away, and after `drain` the rest is cut off;
    /// an attached server sends what waits for the hub, and its clients stay with that. When this returns no thread of
    /// the server runs, but for one where a function of the host does not return: it has what is left of `drain`, and a
    /// second at least. None is called any more then.
    pub fn stop(self, drain: Duration) -> Option<Leftover> {
        either!(self.0, server => server.stop(drain))
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
            return Err(Error::new(Kind::Unsupported, "events go to the attached hosts (option attach_listen)"));
        }
        if self.events().called_back() {
            return Err(Error::new(Kind::Unsupported, "events go to the callback of push_config_on_event"));
        }
        Ok(self.events())
    }
}
