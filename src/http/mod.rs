//! HTTP: the request heads of subscribers, the proxy headers before them, refusals, the check of Origin.

pub(crate) mod extensions;
pub(crate) mod fields;
pub mod forwarded;
pub mod origin;
pub mod proxy_header;
pub(crate) mod query;
pub mod refusal;
pub mod request;
pub mod response;
pub(crate) mod subprotocol;
mod target;
pub(crate) mod turned_away;
mod unreadable;
pub(crate) mod unserved;
