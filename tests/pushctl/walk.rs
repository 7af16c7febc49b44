//! The walk-through of docs/operating.md, "One client is slow", with the commands that stand there.

use super::common::{builder, metrics, until, Client};
use super::everywhere::connect;
use super::{hub, json, pushctl, told, Running};
use push::grant::Grant;
use push::Server;
use socket2::{Domain, Socket, Type};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, TcpStream};

/// An EventSource of a user with a small receive buffer, which reads only the head.
pub(super) fn lazy(server: &Server, user: &str, channels: &[&str]) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(8192).unwrap();
    over(socket, server, user, channels, "")
}

/// An EventSource over this socket, which is handed over. `since` is what it says of its last event.
fn over(socket: Socket, server: &Server, user: &str, channels: &[&str], since: &str) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place: SocketAddr = listener.local_addr().unwrap();
    socket.connect(&place.into()).unwrap();
    let mut client = Client::over(TcpStream::from(socket));
    let query: Vec<String> = channels.iter().map(|channel| format!("channel={channel}")).collect();
    let head = format!("GET /push?{}&transport=sse HTTP/1.1\r\nHost: localhost\r\n{since}\r\n", query.join("&"));
    let names: Vec<String> = channels.iter().map(ToString::to_string).collect();
    let grant = Grant::new(Some(user), &names, &[], 0, false, false).unwrap();
    server.adopt(listener.accept().unwrap().0.into(), head.as_bytes(), Some(grant)).unwrap();
    assert!(client.head().starts_with("HTTP/1.1 200 "));
    client
}

/// The commands that stand in a section of docs/operating.md, between backticks.
fn commands(section: &str) -> BTreeSet<String> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operating.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, text) = page.split_once(&format!("\n## {section}\n")).expect("the section is there");
    let text = text.split("\n## ").next().unwrap();
    let parts = text.split('`').filter(|part| part.starts_with("pushctl "));
    parts.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// What is told by a command of the page. ID stands for a number.
struct Walk {
    address: String,
    taken: RefCell<BTreeSet<String>>,
}

impl Walk {
    fn words<'c>(&self, command: &'c str, id: &'c str) -> Vec<&'c str> {
        self.taken.borrow_mut().insert(command.to_owned());
        command.split(' ').skip(1).map(|word| if word == "ID" { id } else { word }).collect()
    }

    fn told(&self, command: &str, id: &str) -> String {
        told(&self.address, &self.words(command, id))
    }

    /// The cells of the rows of its table.
    fn rows(&self, command: &str) -> Vec<Vec<String>> {
        let table = self.told(command, "");
        let cells =
            |line: &str| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect();
        table.lines().map(cells).collect()
    }

    fn json(&self, command: &str) -> serde_json::Value {
        json(&self.address, &self.words(command, ""))
    }
}

#[test]
fn one_client_is_slow_which_why_and_what_to_do() {
    let options = [("outbox", "64MB"), ("history_count", "100"), ("history_bytes", "64MB")];
    let (host, address) = hub(&options);
    let walk = Walk { address: address.clone(), taken: RefCell::default() };
    let mut good = connect(&host.server, "bob", "prices");
    let slow = lazy(&host.server, "ada", &["prices", "news"]);
    let before = host.publish("prices", "before");
    let payload = "x".repeat(1 << 20);
    (0..24).for_each(|_| drop(host.publish("prices", &payload)));

    // The alert: clients are behind.
    let path = address.strip_prefix("unix:").unwrap();
    let gauge = |name: &str| {
        let text = metrics(path);
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<u64>().ok());
        line.unwrap_or_else(|| panic!("{name}: {text}"))
    };
    assert_eq!(good.text(), "before");
    for _ in 0..24 {
        assert_eq!(good.next_frame().1.len(), payload.len());
    }
    until("one is behind", || gauge("push_outboxes") == 1 && gauge("push_outbox_bytes") > 8 << 20);

    // Which?
    let which = "pushctl connections --slow";
    until("it has been so for a while", || walk.json(which)["connections"][0]["behind_ms"].as_u64() > Some(200));
    let rows = walk.rows(which);
    assert_eq!(rows[0], ["ID", "WAITING", "BEHIND", "CONNECTED", "USER", "ADDRESS", "TRANSPORT", "CHANNELS"]);
    assert_eq!((rows.len(), &rows[1][4..]), (2, &["ada", "127.0.0.1", "sse", "prices,news"].map(str::to_owned)[..]));
    let id = &*rows[1][0];
    assert!(rows[1][1].ends_with(" MB"), "{rows:?}");
    let top = [walk.words("pushctl top", ""), vec!["--interval", "1", "-n", "1"]].concat();
    let page = told(&address, &top);
    assert!(page.contains("1 clients are behind") && page.contains(id), "{page}");

    // Why? It reads nothing, while others on the channel are not behind: so it is not the hub, and not the channel.
    let of_channel = walk.json("pushctl connections --channel prices");
    let behind = of_channel["connections"].as_array().unwrap().iter().filter(|row| row["waiting"] != 0).count();
    assert_eq!((of_channel["count"].as_u64(), behind), (Some(2), 1));
    let mut tail = Running::begin(pushctl(&address, &walk.words("pushctl tail prices", ""))).looks_on();
    host.publish("prices", "how large it is");
    assert!(tail.line().ends_with("  15 B  how large it is"));
    assert_eq!(good.text(), "how large it is");
    drop(tail);
    let rows = walk.rows("pushctl channels prices");
    assert_eq!((&*rows[0][5], &*rows[1][5], &*rows[1][0]), ("DROPPED", "0", "prices"));

    // What to do: it is closed, comes back by itself with its position, and gets what it missed.
    let kick = "pushctl kick ID --code 4000 --reason slow";
    assert_eq!(walk.told(kick, id), format!("{id} is closed\n"));
    drop(slow);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let since = format!("Last-Event-ID: {before}\r\n");
    let mut back = over(socket, &host.server, "ada", &["prices", "news"], &since);
    for _ in 0..24 {
        back.until(&format!("data: {payload}\n"));
    }
    back.until("data: how large it is\n");
    // It does so each time, and its user should not.
    assert_eq!(walk.told("pushctl kick --user ada", ""), "1 connections are closed at this hub\n");
    assert!(back.rest().contains("4403"));
    // Or only the newest value counts.
    let mut now = vec![("control", &*address), ("channel.prices.slow_policy", "latest")];
    now.extend(options);
    host.server.reload(&builder(&now)).unwrap();
    assert!(walk.told("pushctl config", "").ends_with("[channel.\"prices\"]\n  slow_policy = latest\n"));

    // Is it over?
    until("nobody is behind", || gauge("push_outboxes") == 0 && walk.json(which)["count"] == 0);
    host.publish("prices", "the others go on");
    assert_eq!(good.text(), "the others go on");
    host.stop();
    assert_eq!(*walk.taken.borrow(), commands("One client is slow"), "the page has these commands, and no others");
}
