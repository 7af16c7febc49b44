//! The C ABI: the only home of `#[no_mangle]`. A function parses its arguments, makes one call into
//! the crate, and turns the result into a status. What all of them need (panics, NULLs, forks,
//! stale handles) is in `guard` and `handle`.
#![allow(non_camel_case_types)] // C's names
#![allow(missing_debug_implementations)] // opaque types

mod callbacks;
mod config;
mod connections;
mod events;
mod fault;
mod guard;
mod handle;
mod info;
mod leftovers;
mod publish;
mod server;
mod types;
mod users;

pub use config::*;
pub use connections::*;
pub use events::*;
pub use info::*;
pub use publish::*;
pub use server::*;
pub use types::*;
pub use users::*;
