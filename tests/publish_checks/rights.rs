//! Clients that go, or lose their rights, while their messages wait.

use super::*;

/// The host may have kept the message by then, and the others would never see it.
#[test]
fn a_message_is_published_though_its_client_has_gone() {
    let host = start(&[("threads", "1")]);
    let mut reader = host.websocket("channel=chat.1", false);
    let mut client = adopted(&host.server, Some(grant("ann", &["chat.*"])));
    client.say(r#"{"type":"publish","channel":"chat.1","data":"1","key":"k"}"#);
    publish(&mut client, 2, "chat.1", "2");
    let asked = [(); 2].map(|()| next(&host.server));
    drop(client);
    until_left(&host, 1);
    // The next client may have its place.
    let mut other = adopted(&host.server, Some(grant("bob", &["chat.*"])));
    host.server.allow_publish(asked[1].request, None).unwrap();
    host.server.allow_publish(asked[0].request, None).unwrap();
    host.server.allow_publish(asked[0].request, None).unwrap();
    other.say(r#"{"type":"ping","ref":1}"#);
    expect(&mut other, "pong", 1);
    // The user comes back and is not sure, and so sends it again: the host is asked again, and it is published once.
    let mut client = adopted(&host.server, Some(grant("ann", &["chat.*"])));
    client.say(r#"{"type":"publish","ref":3,"channel":"chat.1","data":"1","key":"k"}"#);
    host.server.allow_publish(next(&host.server).request, None).unwrap();
    expect(&mut client, "published", 3);
    assert_eq!(host.server.stats().unwrap().duplicates, 1);
    assert_eq!(all(&host, &mut reader, "chat.1"), ["1", "2"]);
    host.stop();
}

#[test]
fn nothing_is_published_of_a_client_whose_rights_were_taken_away() {
    type Take = fn(&Server, u64);
    let before_it_goes: [(Take, &str); 6] = [
        (|server, connection| server.renew(connection, grant("ann", &["other"])).unwrap(), "publish"),
        (|server, connection| server.renew(connection, grant("bob", &["*"])).unwrap(), "publish"),
        (|server, _| server.revoke_channel("ann", "chat.*", "").unwrap(), "publish"),
        (|server, connection| server.close(connection, 4000, "").unwrap(), "closed"),
        (|server, connection| server.close(connection, 1001, "").unwrap(), "closed"),
        (|server, _| server.disconnect_user("ann", 1000, "").unwrap(), "closed"),
    ];
    for (number, (take, told)) in before_it_goes.into_iter().enumerate() {
        let host = start(&[("threads", "1")]);
        let mut reader = host.websocket("channel=chat.1", false);
        let mut client = adopted(&host.server, Some(grant("ann", &["chat.*"])));
        publish(&mut client, 1, "chat.1", "x");
        let event = next(&host.server);
        take(&host.server, event.connection);
        host.server.allow_publish(event.request, None).unwrap();
        done_before(&host);
        match told {
            "closed" => drop(client.end()),
            code => expect(&mut client, code, 1),
        }
        assert!(all(&host, &mut reader, "chat.1").is_empty(), "{number}");
        assert_eq!(host.server.stats().unwrap().publish_checks_waiting, 0, "{number}");
        host.stop();
    }
    // The same after it has gone.
    let after_it_has_gone: [Take; 2] = [
        |server, _| server.revoke_channel("ann", "chat.1", "").unwrap(),
        |server, _| server.disconnect_user("ann", 1000, "").unwrap(),
    ];
    for (number, take) in after_it_has_gone.into_iter().enumerate() {
        let host = start(&[("threads", "1")]);
        let mut reader = host.websocket("channel=chat.1", false);
        let mut clients = ["ann", "bob"].map(|user| adopted(&host.server, Some(grant(user, &["chat.*"]))));
        let asked = clients.each_mut().map(|client| {
            publish(client, 1, "chat.1", "x");
            next(&host.server)
        });
        drop(clients);
        until_left(&host, 1);
        take(&host.server, 0);
        asked.iter().for_each(|event| host.server.allow_publish(event.request, None).unwrap());
        done_before(&host);
        assert_eq!(all(&host, &mut reader, "chat.1"), ["x"], "{number}: that of the other user");
        host.stop();
    }
}
