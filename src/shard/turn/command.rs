//! Commands: requests of other threads to a shard.

use crate::config::Config;
use crate::framing::close::Close;
use crate::grant::Grant;
use crate::http::refusal::Refusal;
use crate::hub::{ChannelPattern, Delivery, Mailbox, Wake};
use crate::metrics::ShardMetrics;
use crate::shard::client::checks::Instead;
use crate::shard::client::listing::ListingQuery;
use crate::shard::client::presence::PresenceQuery;
use crate::shard::client::sweep::Tally;
use crate::shard::connection::conn::Token;
use crate::shard::turn::live_set::LiveSet;
use crate::sys::eventfd::EventFd;
use crate::sys::socket::Checked;
use bytes::Bytes;
use crossbeam::queue::SegQueue;
use std::borrow::Cow;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

/// How many commands may wait for a shard.
const MAX_COMMANDS: usize = 65_536;
/// How many bytes may wait for a shard: of `push_send`, and those that have come of connections.
const MAX_COMMAND_BYTES: usize = 256 << 20;

/// A request to a shard.
#[derive(Debug)]
pub(crate) enum Command {
    /// Serve this connection.
    Adopt(Adopted<'static>),
    /// Serve this connection, after its TLS handshake.
    #[cfg(feature = "tls")]
    Secured(crate::shard::connection::tls::Secured),
    /// Send this to one connection.
    Send { to: Token, data: Bytes, binary: bool },
    /// Close one connection.
    Close { to: Token, close: Close },
    /// Close all connections of a user.
    CloseUser { user: Arc<str>, close: Close, tally: Option<Arc<Tally>> },
    /// Close all connections.
    CloseAll { close: Close, tally: Arc<Tally> },
    /// Take channels from all connections of a user.
    Revoke { user: Arc<str>, channels: Arc<ChannelPattern>, reason: Arc<str> },
    /// Give one connection another grant.
    Renew { of: Token, grant: Box<Grant> },
    /// The host says yes to a request.
    Allow { request: u64, grant: Arc<Grant> },
    /// The host says no to a request.
    Deny { request: u64, refusal: Refusal },
    /// The host answers a client's call.
    Answer { request: u64, data: Bytes, binary: bool },
    /// The host lets a client's message be published, as it is or replaced.
    AllowPublish { request: u64, instead: Option<Box<Instead>> },
    /// Tell one connection that what it has published lasts now, and where it is: the index of the epoch, and the number.
    /// Without a place nobody knows what became of it. `reference`: the client's number of its request.
    Published { to: Token, reference: Option<u64>, channel: Box<str>, place: Option<(u32, u64)> },
    /// List the users on a channel.
    Present(Arc<PresenceQuery>),
    /// List connections.
    List(Arc<ListingQuery>),
    /// Clients' messages may be read again.
    Resume,
    /// All shards together keep too much of unfinished messages, and the largest client is here.
    MakeRoom,
    /// Options have changed.
    Reconfigure(Arc<Config>),
    /// Deliver the mailbox, and send the clients away by then (monotonic milliseconds).
    Drain { until_ms: u64 },
    /// End the thread and all connections.
    End,
}

/// A connection that the host hands over.
#[derive(Debug)]
pub(crate) struct Adopted<'h> {
    pub(crate) fd: OwnedFd,
    /// The bytes that the host has read of it. They are borrowed from the host unless the connection has to wait.
    pub(crate) head: Cow<'h, [u8]>,
    pub(crate) grant: Option<Arc<Grant>>,
    /// What is known of its socket.
    pub(crate) checked: Checked,
}

/// A shard as other threads see it.
#[derive(Debug)]
pub(crate) struct ShardHandle {
    pub(in crate::shard) number: usize,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) metrics: ShardMetrics,
    pub(crate) live: LiveSet,
    commands: SegQueue<Command>,
    waiting: AtomicUsize,
    waiting_bytes: AtomicUsize,
    /// The bytes of news of presence that wait for clients.
    news_bytes: AtomicUsize,
    pub(in crate::shard) wake: Arc<EventFd>,
}

/// The mailbox's way to wake a shard.
struct Waker(Arc<EventFd>);

impl Wake for Waker {
    fn wake(&self) {
        self.0.signal();
    }
}

impl ShardHandle {
    pub(crate) fn new(number: usize, mailbox_capacity: usize) -> std::io::Result<Self> {
        let wake = Arc::new(EventFd::new()?);
        // The queue has no way to say that memory is out, and ends the process. It is the one large piece that a start
        // needs.
        Vec::<(usize, Delivery)>::new()
            .try_reserve_exact(mailbox_capacity)
            .map_err(|_| std::io::ErrorKind::OutOfMemory)?;
        Ok(ShardHandle {
            number,
            mailbox: Arc::new(Mailbox::new(mailbox_capacity, Box::new(Waker(wake.clone())))),
            metrics: ShardMetrics::default(),
            live: LiveSet::new(),
            commands: SegQueue::new(),
            waiting: AtomicUsize::new(0),
            waiting_bytes: AtomicUsize::new(0),
            news_bytes: AtomicUsize::new(0),
            wake,
        })
    }

    /// Leaves a command; hands it back when too much waits.
    pub(crate) fn ask(&self, command: Command) -> Result<(), Command> {
        let bytes = command.bytes();
        let busy = self.waiting.load(Ordering::Relaxed) >= MAX_COMMANDS
            || self.waiting_bytes.load(Ordering::Relaxed) + bytes > MAX_COMMAND_BYTES;
        if busy {
            return Err(command);
        }
        self.tell(command);
        Ok(())
    }

    /// Leaves a command that must not be lost.
    pub(crate) fn tell(&self, command: Command) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.waiting_bytes.fetch_add(command.bytes(), Ordering::Relaxed);
        self.commands.push(command);
        self.mailbox.wake();
    }

    pub(in crate::shard) fn next_command(&self) -> Option<Command> {
        let command = self.commands.pop()?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.waiting_bytes.fetch_sub(command.bytes(), Ordering::Relaxed);
        Some(command)
    }

    /// Notes how many bytes of news of presence wait for a client now, and waited before. Only the shard's thread writes.
    pub(in crate::shard) fn note_news(&self, before: usize, now: usize) {
        if before != now {
            let all = self.news_bytes.load(Ordering::Relaxed);
            self.news_bytes.store((all + now).saturating_sub(before), Ordering::Relaxed);
        }
    }

    /// The bytes of news of presence that wait for clients.
    pub(in crate::shard) fn news_bytes(&self) -> usize {
        self.news_bytes.load(Ordering::Relaxed)
    }

    pub(in crate::shard) fn has_commands(&self) -> bool {
        !self.commands.is_empty()
    }
}

impl Command {
    fn bytes(&self) -> usize {
        match self {
            Command::Send { data, .. } | Command::Answer { data, .. } => data.len(),
            Command::AllowPublish { instead: Some(instead), .. } => instead.bytes(),
            Command::Adopt(adopted) => adopted.head.len(),
            #[cfg(feature = "tls")]
            Command::Secured(secured) => secured.bytes(),
            _ => 0,
        }
    }
}
