//! push's own dialect: JSON objects, and over a WebSocket the subprotocol `push.v1.json`, in which clients ask for
//! things.

pub mod json;
pub(crate) mod presence;
pub(crate) mod replies;
pub(crate) mod requests;

use crate::framing::close::Close;
use crate::framing::sse;
use crate::hub::Form;

/// The event that ends a stream of SSE.
pub fn close_event(close: &Close) -> Form {
    sse::close(&json::close(close), close.retry_ms)
}
