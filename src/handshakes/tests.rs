//! The thread without a thread: a test takes its turns.

use super::thread::Thread;
use crate::auth::Authority;
use crate::config::Builder;
use crate::context::Context;
use crate::events::Events;
use crate::hub::{Epoch, Hub};
use crate::limits::Peer;
use crate::log::{Level, Line, Log, Sink};
use crate::metrics::Reason;
use crate::shard::turn::command::ShardHandle;
use crate::sys::clock;
use crate::sys::epoll::Event;
use crate::sys::eventfd::EventFd;
use crate::sys::socket;
use crate::tls::Tls;
use crossbeam::channel::{unbounded, Receiver};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

struct World {
    thread: Thread,
    context: Arc<Context>,
    listener: Arc<OwnedFd>,
    lines: Receiver<Line>,
    address: SocketAddr,
}

impl World {
    fn new(options: &[(&str, &str)]) -> Self {
        let config = Builder::with(options).config().clone();
        let handle = Arc::new(ShardHandle::new(0, 64).unwrap());
        let hub = Hub::new(Epoch::from_random(1), &config.hub_settings(), vec![handle.mailbox.clone()]);
        let events = Events::new(16, config.events, None, Box::new(|| {})).unwrap();
        let authority = Authority::new(&config).unwrap();
        let (sender, lines) = unbounded();
        let log = Log::new(Some(Sink::Thread(sender)), Level::Info);
        let context = Arc::new(Context::new(config, hub, events, authority, log, 1));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listener: Arc<OwnedFd> = Arc::new(listener.into());
        let wake = EventFd::new().unwrap();
        let thread = Thread::new(context.clone(), Tls::of_test(), vec![handle], vec![listener.clone()], &wake).unwrap();
        World { thread, context, listener, lines, address }
    }

    /// Takes a turn; says how many events there were.
    fn turn(&mut self, wait_ms: u64) -> usize {
        let mut events = [Event { events: 0, u64: 0 }; 64];
        let count = self.thread.epoll.wait(&mut events, Some(wait_ms)).unwrap();
        self.thread.turn(&events[..count]);
        count
    }

    /// One with a client whose handshake is under way.
    fn with_client(options: &[(&str, &str)]) -> (Self, TcpStream) {
        let mut world = World::new(options);
        let client = world.connect();
        world.until("it is there", |world| world.thread.clients.len() == 1);
        (world, client)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn until(&mut self, what: &str, there: impl Fn(&World) -> bool) {
        for _ in 0..1000 {
            if there(self) {
                return;
            }
            self.turn(20);
        }
        panic!("{what}");
    }
}

fn refusals(world: &World, reason: Reason) -> u64 {
    world.context.metrics.refusals[reason].load(Ordering::Relaxed)
}

fn is_over(mut client: &TcpStream) -> bool {
    match client.read(&mut [0]) {
        Ok(len) => len == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_refused_client_is_cut_off_in_both_directions_though_another_process_has_the_descriptor() {
    // One is refused before it has a place, one at once afterwards, one behind its PROXY header, one too late.
    let proxied = [("proxy_protocol", "true"), ("trusted_proxies", "127.0.0.1"), ("head_timeout", "20s")];
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [u8]);
    let cases: [Case<'_>; 4] = [
        (&[("proxy_protocol", "true"), ("trusted_proxies", "192.0.2.1")], b""),
        (&[("connect_rate_per_address", "1")], b""),
        (&proxied, b"GET / HTTP/1.1\r\n\r\n"),
        (&[("head_timeout", "1s")], b""),
    ];
    for (options, sends) in cases {
        let mut world = World::new(options);
        let count = |world: &World| world.context.limits.connections.count();
        let is_rate = options[0].0 == "connect_rate_per_address";
        // The copies stand for those that a forked child has.
        let mut clients = Vec::new();
        let mut copies = Vec::new();
        // More than a second's worth of clients may come at once. On a slow machine the last one may be so late that it
        // passes.
        for number in 1..100 {
            let before = count(&world);
            let mut client = world.connect();
            client.write_all(sends).unwrap();
            clients.push(client);
            let fd = loop {
                match socket::accept(&world.listener) {
                    Ok(fd) => break fd,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            };
            copies.push(fd.try_clone().unwrap());
            world.thread.accepted(fd);
            let passes = is_rate && count(&world) > before;
            if number >= 3 && !passes {
                break;
            }
        }
        let passed = if is_rate { count(&world) } else { 0 };
        let is_late = options[0].0 == "head_timeout";
        if is_late {
            assert_eq!(world.thread.clients.len(), 3);
        }
        world.until("the others are refused", |world| count(world) <= passed);
        // The last one is refused in each case. Its end comes though a copy of the descriptor is open.
        assert!(is_over(clients.last().unwrap()), "{options:?}");
        assert!(!copies.is_empty());
        drop(clients);
        world.thread.forget_all();
        assert_eq!(count(&world), 0, "{options:?}: a count is left");
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_listener_that_was_shut_down_is_watched_no_more() {
    let mut world = World::new(&[]);
    socket::shutdown_both(&world.listener);
    world.until("it is not ready any more", |world| {
        let mut events = [Event { events: 0, u64: 0 }; 4];
        world.thread.epoll.wait(&mut events, Some(0)).unwrap() == 0
    });
    for _ in 0..3 {
        assert_eq!(world.turn(0), 0, "it spins");
    }
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn listeners_rest_while_nothing_can_be_accepted_and_lose_nobody() {
    let mut world = World::new(&[]);
    let _client = world.connect();
    let Thread { listeners, epoll, .. } = &mut world.thread;
    listeners.iter_mut().for_each(|listener| listener.rest(epoll, clock::monotonic_ms()));
    let until = world.thread.listeners[0].rests_until().expect("a time");
    let mut events = [Event { events: 0, u64: 0 }; 4];
    assert_eq!(world.thread.epoll.wait(&mut events, Some(0)).unwrap(), 0, "it would spin");
    assert!(world.thread.timeout().is_some(), "nothing would wake it");
    world.until("they are awake", |world| world.thread.listeners[0].rests_until().is_none());
    assert!(clock::monotonic_ms() >= until);
    world.until("the client is accepted", |world| world.thread.clients.len() == 1);
    world.thread.forget_all();
    assert_eq!(world.context.limits.connections.count(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn clients_that_come_and_go_behind_a_slow_one_do_not_add_up() {
    let (mut world, _slow) = World::with_client(&[("head_timeout", "60s"), ("max_per_address", "0")]);
    let slow = world.thread.order[0].1;
    for _ in 0..10_000 {
        let (ours, _) = std::os::unix::net::UnixStream::pair().unwrap();
        world.thread.accepted(ours.into());
        let (index, _) = world.thread.clients.iter().next_back().unwrap();
        world.thread.end(index);
    }
    assert!(world.thread.order.len() < 5000, "{}", world.thread.order.len());
    assert_eq!(world.thread.order[0].1, slow, "it keeps its place, and its time");
    assert_eq!(world.thread.clients.len(), 1);
    assert_eq!(world.context.limits.connections.count(), 1);
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_handshake_that_gives_way_to_others_is_not_counted_as_a_late_one() {
    let (mut world, client) = World::with_client(&[("head_timeout", "60s")]);
    world.thread.make_room();
    assert!(is_over(&client));
    assert_eq!((refusals(&world, Reason::Busy), refusals(&world, Reason::Timeout)), (1, 0));
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_client_that_has_gone_before_it_is_accepted_is_not_taken_for_an_untrusted_proxy() {
    let mut world = World::new(&[("proxy_protocol", "true"), ("trusted_proxies", "127.0.0.1")]);
    let client = world.connect();
    let fd = loop {
        match socket::accept(&world.listener) {
            Ok(fd) => break fd,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    };
    // It resets the connection.
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    world.until("it has gone", |_| Peer::of(&fd).is_none());
    world.thread.accepted(fd);
    assert_eq!(refusals(&world, Reason::ProxyHeader), 0);
    assert_eq!(world.context.limits.connections.count(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "sockets")]
fn a_panic_is_logged_and_ends_the_handshakes_under_way() {
    let (mut world, client) = World::with_client(&[("head_timeout", "60s")]);
    world.thread.catching(|_| panic!("planted"));
    assert!(is_over(&client));
    assert_eq!(world.context.metrics.panics.load(Ordering::Relaxed), 1);
    let is_of_panic = |line: &Line| line.level == Level::Error && line.text.contains("was caught");
    assert!(world.lines.try_iter().any(|line| is_of_panic(&line)));
}
