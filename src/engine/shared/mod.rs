//! What every log that hubs share has in common: how it is found, and the connection to it, as the hub's side and the
//! engine's side see it.

#[cfg(all(test, any(feature = "redis", feature = "nats")))]
pub(crate) mod certificates;
pub(crate) mod connection;
#[cfg(test)]
pub(crate) mod contract_tests;
mod driver;
mod hubs;
mod inlet;
mod last_numbers;
mod marks;
mod members;
#[cfg(test)]
pub(crate) mod model;
pub(crate) mod pause;
mod placeholder;
mod requests;
#[cfg(any(feature = "redis", feature = "nats"))]
pub(crate) mod secret;
mod settings;
mod status;
#[cfg(test)]
mod tests;
#[cfg(any(feature = "redis", feature = "nats"))]
pub(crate) mod tls;
mod words;

pub(crate) use super::replica::Heard;
pub(crate) use driver::{Driver, Parts};
pub use hubs::Hubs;
use inlet::Inlet;
pub(crate) use inlet::Shared;
pub(crate) use members::Member;
pub(crate) use placeholder::has_placeholder;
pub use settings::Url;
#[cfg(feature = "nats")]
pub(crate) use settings::ROOM_IN_NATS;
pub(crate) use settings::{Options, Settings};
pub(crate) use status::Numbers;
