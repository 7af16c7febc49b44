//! The option `auth`, and the rules for secrets.

/// The shortest secret for HS256, in bytes (RFC 7518, section 3.2).
pub(crate) const MIN_SECRET: usize = 32;

/// The option `auth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Auth {
    /// The option was not set. Like [`Auth::None`], but a connection that the host hands over needs a grant.
    #[default]
    Unset,
    /// Everybody may subscribe to everything, for loopback and trials. Only if the option is set to this may the host
    /// hand over connections without a grant.
    None,
    /// A JSON web token says what the client may do.
    Jwt,
    /// The host decides. An event asks it.
    Host,
}
