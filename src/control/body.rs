//! Reads the bodies of requests.

use super::BODY_TIMEOUT;
use crate::api::Api;
use crate::http::refusal::Refusal;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;

/// Reads the whole body. Its time and size are bounded. `inbox_total` bounds all bodies together.
pub(super) async fn collect(api: &Api, body: Incoming, max: usize, bound: &str) -> Result<Bytes, Refusal> {
    let collected = tokio::time::timeout(BODY_TIMEOUT, parts(api, Limited::new(body, max)));
    match collected.await.map_err(|_| Refusal::timeout_of_body())? {
        Ok(body) => Ok(body),
        Err(Failed::Full) => {
            let message = "unfinished bodies take too much memory (option inbox_total)";
            Err(Refusal::unavailable("inbox_total", message))
        }
        Err(Failed::Body(error)) if error.is::<LengthLimitError>() => {
            Err(Refusal::too_large(format!("the body is larger than {max} bytes ({bound})")))
        }
        Err(Failed::Body(_)) => Err(Refusal::malformed("body", "the body is incomplete, or its chunks are malformed")),
    }
}

/// The reason why a body was not read.
enum Failed {
    /// All bodies together take too much memory.
    Full,
    Body(Box<dyn std::error::Error + Send + Sync>),
}

async fn parts(api: &Api, mut body: Limited<Incoming>) -> Result<Bytes, Failed> {
    let (inboxes, total) = api.inboxes();
    let (mut counted, mut whole) = (inboxes.body(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        // A frame without data has trailers.
        let Ok(part) = frame.map_err(Failed::Body)?.into_data() else { continue };
        if !counted.add(part.len(), total) {
            return Err(Failed::Full);
        }
        whole.extend_from_slice(&part);
    }
    Ok(whole.freeze())
}
