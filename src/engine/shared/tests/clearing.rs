//! What a call that clears a channel is told.

use super::{start, Model, Running};
use crate::hub::Settled;
use tokio::sync::oneshot::{channel, Receiver};

fn clear(hub: &Running) -> Receiver<Settled> {
    let (tell, told) = channel();
    hub.hub.submit_clear("a", Some(Box::new(move |settled| drop(tell.send(settled))))).unwrap();
    told
}

#[tokio::test(start_paused = true)]
async fn a_clear_is_answered_by_what_the_log_has_before_it() {
    let model = Model::new(1);
    let hub = start(&model, 1, 1000, 1 << 20);
    assert!(!clear(&hub).await.unwrap().cleared, "there is no channel yet");
    // Nothing of this has come back from the log when the next call comes.
    hub.publish("first", None).unwrap();
    let (first, second) = (clear(&hub), clear(&hub));
    hub.publish("next", None).unwrap();
    let third = clear(&hub);
    let cleared = async |told: Receiver<Settled>| told.await.unwrap().cleared;
    assert_eq!((cleared(first).await, cleared(second).await, cleared(third).await), (true, false, true));
    hub.end().await;
}
