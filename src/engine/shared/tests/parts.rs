//! Calls that are larger than the buffer: they are appended in parts.

use super::{message, start_with, until, Model};
use crate::hub::{Outgoing, Placing, Publication, Settled};
use std::time::Duration;
use tokio::time::{timeout, Instant};

/// Heartbeats are so seldom that none comes in between.
const SELDOM: Duration = Duration::from_secs(600);
const BUFFER: usize = 4096;

#[tokio::test(start_paused = true)]
async fn each_part_goes_as_soon_as_the_part_before_has_come_back() {
    // Many messages fit into the buffer at once, or not even one.
    for (count, bytes) in [(120, 300), (12, 5000)] {
        let model = Model::new(14);
        let hub = start_with(&model, 1, 1000, BUFFER, SELDOM);
        until("it has caught up", || hub.shared.status.is_ready()).await;
        let text = "x".repeat(bytes);
        let outgoing = |_| Outgoing::new("a", None, message(&Publication::new("a", text.as_bytes())));
        let (tell, told) = tokio::sync::oneshot::channel();
        let began = Instant::now();
        let on_settled = Box::new(move |settled: Settled| drop(tell.send(settled)));
        let placing = hub.hub.submit((0..count).map(outgoing).collect(), None, 0, Some(on_settled)).unwrap();
        assert_eq!(placing, Placing::Later);
        let settled = timeout(Duration::from_secs(60), told).await.expect("it ends").unwrap();
        assert_eq!(settled.places.len(), count);
        assert!(settled.places.is_sorted_by(|a, b| a.seq < b.seq), "{settled:?}");
        // There are at least eight parts. A driver that waits for anything else looks only once a second.
        assert!(began.elapsed() < Duration::from_secs(2), "{count} of {bytes} bytes: {:?}", began.elapsed());
        hub.end().await;
    }
}
