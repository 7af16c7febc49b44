//! Words between hubs, beside the log.

use super::hub::Hub;
use super::{Fresh, PATIENCE};
use crate::engine::contract::{Word, MAX_WORD};
use std::time::Duration;
use tokio::time::{timeout, Instant};

/// Says a word until it is heard: words may be lost. What was said before may come meanwhile.
async fn say(hubs: &mut [Hub], from: usize, to: Option<u64>, bytes: &[u8], hearing: &[usize]) {
    let since = Instant::now();
    let mut heard = vec![false; hubs.len()];
    while hearing.iter().any(|at| !heard[*at]) {
        assert!(since.elapsed() < PATIENCE, "not heard: {heard:?}");
        hubs[from].connection.words.send(Word { to, bytes: bytes.to_vec() }).await.unwrap();
        for at in 0..hubs.len() {
            while let Ok(Some(word)) = timeout(Duration::from_millis(20), hubs[at].connection.heard.recv()).await {
                let word = word.unwrap();
                if word == bytes {
                    assert!(to.is_none_or(|to| to == hubs[at].name), "it was for another hub");
                    heard[at] = true;
                }
            }
        }
    }
}

pub(crate) async fn words_come_to_all_hubs_or_to_one(fresh: Fresh) {
    let log = fresh();
    let mut hubs = Vec::new();
    for name in 1..=3 {
        hubs.push(Hub::connect(&*log, name).await);
    }
    say(&mut hubs, 0, None, b"to all", &[1, 2]).await;
    say(&mut hubs, 2, Some(1), b"to one", &[0]).await;
    let large: Vec<u8> = (0..MAX_WORD).map(|at| (at % 251) as u8).collect();
    say(&mut hubs, 1, Some(3), &large, &[2]).await;
    // They are no entries, and the log goes on.
    assert_eq!(hubs[0].identify(0).await.end, 0);
    let third = hubs.pop().unwrap().reconnect(&*log).await;
    hubs.push(third);
    say(&mut hubs, 0, None, b"", &[1, 2]).await;
    assert_eq!(hubs[0].identify(0).await.end, 0);
}
