//! A third-party client: tokio-tungstenite.

mod common;

use common::Host;
use futures_util::{SinkExt, StreamExt};
use push::events::EventKind;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn messages_come_and_go() {
    let host = Host::start(&[]);
    host.server.event_fd().unwrap();
    let url = format!("ws://{}/push?channel=a", host.address());
    let (mut socket, response) = tokio_tungstenite::connect_async(url).await.unwrap();
    assert!(response.headers().contains_key("push-position"));
    for n in 0..100 {
        host.publish("a", &n.to_string());
    }
    for n in 0..100 {
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(n.to_string()));
    }
    socket.send(Message::binary(vec![7; 50_000])).await.unwrap();
    let event = loop {
        let event = host.server.next_event(Some(common::PATIENCE)).unwrap();
        if event.kind == EventKind::Message {
            break event;
        }
        assert_eq!((event.kind, event.channel.as_deref()), (EventKind::Open, Some("a")));
    };
    assert_eq!((event.data.len(), event.binary), (50_000, true));
    host.server.send(event.connection, b"answer", false).unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("answer"));
    host.server.close(event.connection, 4001, "enough").unwrap();
    match socket.next().await.unwrap().unwrap() {
        Message::Close(Some(frame)) => assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4001, "enough")),
        other => panic!("{other:?}"),
    }
    assert!(socket.next().await.is_none());
    let event = host.server.next_event(Some(common::PATIENCE)).unwrap();
    assert_eq!((event.kind, event.code), (EventKind::Close, 4001));
    host.stop();
}
