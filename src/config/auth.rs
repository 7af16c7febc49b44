//! How subscribers are let in, and what a secret has to be.

/// The shortest secret for HS256, in bytes (RFC 7518, section 3.2).
pub(crate) const MIN_SECRET: usize = 32;

/// The option `auth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Auth {
    /// It was not set: as [`Auth::None`], but what the host hands over needs a grant.
    #[default]
    Unset,
    /// Everybody may subscribe to everything: loopback and trials. Said in so many words, it counts for what the host
    /// hands over without a grant, too.
    None,
    /// A JSON web token says who may what.
    Jwt,
    /// The host is asked, by an event.
    Host,
}
