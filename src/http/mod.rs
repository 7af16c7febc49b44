//! HTTP at the edge: subscribers' request heads, refusals, the Origin rule, and the control API.

pub mod control;
pub mod origin;
pub mod refusal;
pub mod request;
pub mod response;
