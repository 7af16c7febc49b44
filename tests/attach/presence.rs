//! Presence of clients that attached hosts have handed over. The hub's options count, not the hosts'.

use super::{adopt, attached, hub, path};
use crate::common::{socket_path, until, Client};
use push::error::Kind;
use push::grant::{Grant, Terms};
use push::hub::Publication;
use push::Server;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};

const ON: [(&str, &str); 2] = [("channel.room.presence", "true"), ("presence_grace", "0s")];

fn grant(user: Option<&str>, info: Option<&str>) -> Grant {
    let all = ["*".to_owned()];
    Grant::of(&Terms { user, info, patterns: &all, ..Terms::default() }).unwrap()
}

fn stream(host: &Server, query: &str, grant: Grant) -> Client {
    let head = format!("GET /push?transport=stream&channel=room{query} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut client = adopt(host, &head, Some(grant));
    assert!(client.head().starts_with("HTTP/1.1 200 "));
    client
}

/// Reads until a list, a join or a leave after which this is the number of members.
fn until_count(follower: &mut Client, count: usize) -> String {
    loop {
        let line = follower.until("\n");
        let is_news = ["presence", "join", "leave"].iter().any(|kind| line.contains(&format!(r#"{{"type":"{kind}""#)));
        if is_news && line.ends_with(&format!(r#""count":{count}}}"#)) {
            return line;
        }
    }
}

#[test]
fn users_of_all_hosts_are_members_of_one_channel() {
    let path = path();
    let hub = hub(&path, &ON);
    // What their own options say does not matter.
    let hosts =
        [attached(&path, &[]), attached(&path, &[("channel.room.presence", "false"), ("presence_detail", "0")])];
    let mut followers = hosts.each_ref().map(|host| stream(host, "&presence=1", grant(None, None)));
    let mut of_hub = stream(&hub.server, "&presence=1", grant(None, None));
    for follower in followers.iter_mut().chain([&mut of_hub]) {
        until_count(follower, 0);
    }
    let ada = stream(&hosts[0], "", grant(Some("ada"), Some("from one")));
    for follower in followers.iter_mut().chain([&mut of_hub]) {
        let told = until_count(follower, 1);
        assert!(told.contains(r#""user":"ada","info":"from one""#), "{told}");
    }
    // The same user at another host, with another info, which is no other member.
    let again = stream(&hosts[1], "", grant(Some("ada"), Some("from two")));
    for follower in followers.iter_mut().chain([&mut of_hub]) {
        let told = until_count(follower, 1);
        assert!(told.contains(r#""user":"ada","info":"from two""#), "{told}");
    }
    drop(ada);
    let bob = stream(&hub.server, "", grant(Some("bob"), None));
    for follower in followers.iter_mut().chain([&mut of_hub]) {
        until_count(follower, 2);
    }
    // A client that comes after the last change.
    let told = until_count(&mut stream(&hosts[1], "&presence=1", grant(None, None)), 2);
    assert!(told.ends_with(r#"[{"user":"ada","info":"from two"},{"user":"bob"}],"count":2}"#), "{told}");
    assert_eq!(hosts[0].stats().unwrap().presence_members, 2);
    drop((again, bob));
    for follower in followers.iter_mut().chain([&mut of_hub]) {
        until_count(follower, 0);
    }
}

#[test]
fn members_stay_when_their_host_goes_and_any_host_may_send_them_away() {
    let path = path();
    let hub = hub(&path, &ON);
    let (one, two) = (attached(&path, &[]), attached(&path, &[]));
    let mut follower = stream(&hub.server, "&presence=1", grant(None, None));
    let _ada = stream(&one, "", grant(Some("ada"), None));
    let _bob = stream(&one, "", grant(Some("bob"), None));
    until_count(&mut follower, 2);
    one.stop(std::time::Duration::from_secs(5));
    let _carl = stream(&two, "", grant(Some("carl"), None));
    until_count(&mut follower, 3);
    two.disconnect_user("ada", 4403, "out").unwrap();
    until_count(&mut follower, 2);
    two.revoke_channel("bob", "room", "moved").unwrap();
    let told = until_count(&mut follower, 1);
    let is_told = |text: &str| told.contains(text);
    assert!(is_told(r#"{"type":"leave","channel":"room","user":"bob""#) || is_told(r#"[{"user":"carl"}]"#), "{told}");
}

/// Reads a frame of the attach protocol, with the length before it.
fn read_frame(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut frame = vec![0; 4];
    stream.read_exact(&mut frame).ok()?;
    let len = u32::from_le_bytes(frame[..].try_into().unwrap());
    frame.resize(4 + len as usize, 0);
    stream.read_exact(&mut frame[4..]).ok()?;
    Some(frame)
}

/// A hub that speaks no version above 13, in which grants have no info. A real one behind it answers. Descriptors do
/// not get through.
fn older_hub(path: &str, behind: &str) {
    let (listener, behind) = (UnixListener::bind(path).unwrap(), behind.to_owned());
    std::thread::spawn(move || {
        for mut host in listener.incoming().map_while(Result::ok) {
            let Some(hello) = read_frame(&mut host) else { continue };
            if u16::from_le_bytes([hello[13], hello[14]]) > 13 {
                let text = "the host speaks a newer version, the hub speaks 1 to 13";
                let body = [&[66_u8, 1][..], &(text.len() as u16).to_le_bytes(), text.as_bytes()].concat();
                let _ = host.write_all(&[&(body.len() as u32).to_le_bytes()[..], &body].concat());
                continue;
            }
            let Ok(mut hub) = UnixStream::connect(&behind) else { continue };
            // If this comes late, the hub has closed. The host comes again.
            if hub.write_all(&hello).is_err() {
                continue;
            }
            let pairs = [(host.try_clone(), hub.try_clone()), (Ok(hub), Ok(host))];
            for (mut from, mut into) in pairs.map(|(from, into)| (from.unwrap(), into.unwrap())) {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut into);
                    let _ = into.shutdown(Shutdown::Both);
                });
            }
        }
    });
}

#[test]
fn an_older_hub_gets_no_grant_with_an_info_and_everything_else() {
    let (path, older) = (path(), socket_path());
    let hub = hub(&path, &ON);
    older_hub(&older, path.strip_prefix("unix:").unwrap());
    let host = attached(&format!("unix:{older}"), &[]);
    host.publish(&Publication::new("room", b"it is attached")).unwrap();
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let (error, theirs) = host.adopt(theirs.into(), b"", Some(grant(Some("ada"), Some("x")))).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
    assert!(error.to_string().contains("the hub is older"), "{error}");
    for refused in [
        host.renew(1 << 40, grant(Some("ada"), Some("x"))).unwrap_err(),
        host.allow(1 << 40, grant(Some("ada"), Some("x"))).unwrap_err(),
    ] {
        assert_eq!(refused.kind(), Kind::Unsupported, "{refused}");
    }
    // Nothing is lost by that: the descriptor is the caller's, and the host is attached.
    drop(theirs);
    host.publish(&Publication::new("room", b"it is still attached")).unwrap();
    until("both are published", || hub.server.stats().unwrap().published == 2);
    let _ = std::fs::remove_file(older);
}
