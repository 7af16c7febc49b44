//! HTTP at the edge: subscribers' request heads, refusals, the Origin rule.

pub(crate) mod extensions;
pub(crate) mod fields;
pub mod forwarded;
pub(crate) mod members;
pub mod origin;
pub mod proxy_header;
pub(crate) mod query;
pub mod refusal;
pub mod request;
pub mod response;
pub(crate) mod subprotocol;
pub(crate) mod unserved;
