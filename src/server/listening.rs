//! The sockets that a server listens on.

use crate::config::{Address, Builder, Config};
use crate::error::{Error, Kind};
use crate::listeners::{self, Bound};
#[cfg(feature = "tls")]
use std::os::fd::OwnedFd;
#[cfg(feature = "tls")]
use std::sync::Arc;

/// The sockets that a server listens on.
pub(super) struct Listeners {
    /// For subscribers.
    pub(super) own: Vec<Bound>,
    pub(super) control: Vec<Bound>,
    /// For hosts.
    pub(super) attach: Option<Bound>,
}

impl Listeners {
    /// Binds the addresses in the options. Sockets that the builder brings take their place.
    pub(super) fn bind(builder: &Builder, shards: usize) -> Result<Self, Error> {
        let config = builder.config();
        let bind = |addresses: &[Address], shards| {
            addresses.iter().map(|address| listeners::bind(address, shards)).collect::<Result<Vec<_>, _>>()
        };
        let own = match &*builder.listen_sockets {
            [] => bind(&config.listen, shards)?,
            given => {
                no_tls(config)?;
                given.iter().map(listeners::given).collect::<Result<_, _>>()?
            }
        };
        let control = bind(&config.control, 1)?;
        let attach = match (&builder.attach_socket, &config.attach_listen) {
            (Some(socket), _) => Some(listeners::given(socket)?),
            (None, Some(path)) => Some(listeners::bind_path(path, config.attach_mode)?),
            (None, None) => None,
        };
        Ok(Listeners { own, control, attach })
    }
}

/// Sockets that are given speak plain HTTP, so they must not take the place of an address for TLS.
fn no_tls(config: &Config) -> Result<(), Error> {
    match config.listen.iter().find(|address| matches!(address, Address::Tls(_))) {
        None => Ok(()),
        Some(address) => {
            let text = "sockets that are given take its place, and they speak plain HTTP only";
            Err(Error::new(Kind::Config, format!("option listen: {address}: {text}")))
        }
    }
}

/// The listeners whose clients speak TLS, if there is one.
#[cfg(feature = "tls")]
pub(super) fn with_tls(own: &[Bound]) -> Option<Vec<Arc<OwnedFd>>> {
    let sockets: Vec<_> = own.iter().filter(|bound| bound.is_tls()).map(|bound| bound.socket(0)).collect();
    (!sockets.is_empty()).then_some(sockets)
}
