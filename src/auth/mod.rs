//! Authorization of subscribers on the library's own listeners. (A connection that the host hands over carries the
//! host's grant.)

#[cfg_attr(not(feature = "tls"), allow(dead_code))]
pub(crate) mod certificate;
mod edwards;
mod jwt;
mod public_key;
mod token;

use crate::config::{Auth, Config};
use crate::error::Error;
use crate::grant::Grant;
use crate::http::refusal::Refusal;
pub use jwt::Verifier;

/// The decision on a subscriber's request.
#[derive(Debug)]
pub enum Decision {
    /// Admit the client, without a grant.
    Open,
    /// Admit the client with this grant.
    Granted(Grant),
    /// Ask the host.
    AskHost,
}

/// Decides on requests. It is made from the options, and made again when they are reloaded.
#[derive(Debug)]
pub struct Authority {
    auth: Auth,
    verifier: Option<Verifier>,
    /// The option `user_channel`: no token may name the channels of users.
    user_channel: bool,
}

impl Authority {
    /// Reads the keys that the options name.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let verifier = match config.auth {
            Auth::Jwt => Some(Verifier::new(config)?),
            Auth::Unset | Auth::None | Auth::Host => None,
        };
        Ok(Authority { auth: config.auth, verifier, user_channel: config.user_channel })
    }

    /// Decides on a request that carries this token.
    pub fn decide(&self, token: Option<&str>) -> Result<Decision, Refusal> {
        match (self.auth, &self.verifier) {
            (Auth::Unset | Auth::None, _) => Ok(Decision::Open),
            (Auth::Host, _) => Ok(Decision::AskHost),
            (Auth::Jwt, Some(verifier)) => {
                let token = token.ok_or_else(|| {
                    Refusal::unauthorized(
                        "a token is needed: Authorization: Bearer, ?token=, the cookie or a WebSocket's subprotocol",
                    )
                })?;
                let grant = verifier.verify(token)?;
                if self.user_channel {
                    grant.check_names().map_err(jwt::bad_claims)?;
                }
                Ok(Decision::Granted(grant))
            }
            // `new` does not make this pair. It refuses the client, to fail closed.
            (Auth::Jwt, None) => Err(Refusal::unauthorized("no keys are configured")),
        }
    }
}
