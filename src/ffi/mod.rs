//! The C ABI, and the only place with `#[no_mangle]`.  Each function parses its arguments, makes
//! one call into the crate, and turns the result into a status.  `guard` and `handle` deal with
//! panics, NULL, forks and stale handles.
#![allow(non_camel_case_types)] // C's names
#![allow(missing_debug_implementations)] // opaque types

mod answers;
mod callbacks;
mod config;
mod connections;
mod event_types;
mod events;
mod fault;
mod granted;
mod guard;
mod handle;
mod info;
mod last_error;
mod leftovers;
mod log;
mod publish;
mod pulled;
mod refusal;
mod server;
mod types;
mod users;

pub use answers::*;
pub use config::*;
pub use connections::*;
pub use events::*;
pub use info::*;
pub use last_error::*;
pub use log::*;
pub use publish::*;
pub use refusal::*;
pub use server::*;
pub use types::*;
pub use users::*;
