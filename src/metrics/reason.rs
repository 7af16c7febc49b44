//! The reasons of refusals: the labels of `push_refusals_total`.

use std::ops::{Index, IndexMut};

/// The reason of a refusal to a client, to a caller of the control API or to an attaching host. The words are labels of
/// a metric, so they do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the words explain themselves
pub enum Reason {
    Malformed,
    Unauthorized,
    Channel,
    Origin,
    Host,
    Expired,
    Denied,
    NotFound,
    Method,
    Timeout,
    TooLarge,
    WebSocketVersion,
    MaxConnections,
    MaxPerAddress,
    MaxPerUser,
    ConnectRate,
    ConnectRatePerAddress,
    ClientRate,
    InboxTotal,
    MessageTimeout,
    MaxChannels,
    MaxPatterns,
    PatternsTotal,
    ClientRequest,
    ProxyHeader,
    Tls,
    TlsName,
    TlsKeys,
    NotTls,
    NotPlain,
    Draining,
    Busy,
    Resources,
    ControlKey,
    Control,
    Attach,
}

/// A count for each reason.
#[derive(Debug)]
pub struct ByReason<C>([C; Reason::COUNT]);

impl<C: Default> Default for ByReason<C> {
    fn default() -> Self {
        ByReason(std::array::from_fn(|_| C::default()))
    }
}

impl<C> Index<Reason> for ByReason<C> {
    type Output = C;

    fn index(&self, reason: Reason) -> &C {
        &self.0[reason as usize]
    }
}

impl<C> IndexMut<Reason> for ByReason<C> {
    fn index_mut(&mut self, reason: Reason) -> &mut C {
        &mut self.0[reason as usize]
    }
}

impl Reason {
    /// The number of reasons.
    pub const COUNT: usize = 36;
    /// All reasons. The index of a reason is its number.
    pub const ALL: [Reason; Reason::COUNT] = [
        Reason::Malformed,
        Reason::Unauthorized,
        Reason::Channel,
        Reason::Origin,
        Reason::Host,
        Reason::Expired,
        Reason::Denied,
        Reason::NotFound,
        Reason::Method,
        Reason::Timeout,
        Reason::TooLarge,
        Reason::WebSocketVersion,
        Reason::MaxConnections,
        Reason::MaxPerAddress,
        Reason::MaxPerUser,
        Reason::ConnectRate,
        Reason::ConnectRatePerAddress,
        Reason::ClientRate,
        Reason::InboxTotal,
        Reason::MessageTimeout,
        Reason::MaxChannels,
        Reason::MaxPatterns,
        Reason::PatternsTotal,
        Reason::ClientRequest,
        Reason::ProxyHeader,
        Reason::Tls,
        Reason::TlsName,
        Reason::TlsKeys,
        Reason::NotTls,
        Reason::NotPlain,
        Reason::Draining,
        Reason::Busy,
        Reason::Resources,
        Reason::ControlKey,
        Reason::Control,
        Reason::Attach,
    ];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Malformed => "malformed",
            Reason::Unauthorized => "unauthorized",
            Reason::Channel => "channel",
            Reason::Origin => "origin",
            Reason::Host => "host",
            Reason::Expired => "expired",
            Reason::Denied => "denied",
            Reason::NotFound => "not_found",
            Reason::Method => "method",
            Reason::Timeout => "timeout",
            Reason::TooLarge => "too_large",
            Reason::WebSocketVersion => "websocket_version",
            Reason::MaxConnections => "max_connections",
            Reason::MaxPerAddress => "max_per_address",
            Reason::MaxPerUser => "max_per_user",
            Reason::ConnectRate => "connect_rate",
            Reason::ConnectRatePerAddress => "connect_rate_per_address",
            Reason::ClientRate => "client_rate",
            Reason::InboxTotal => "inbox_total",
            Reason::MessageTimeout => "message_timeout",
            Reason::MaxChannels => "max_channels",
            Reason::MaxPatterns => "max_patterns",
            Reason::PatternsTotal => "patterns_total",
            Reason::ClientRequest => "client_request",
            Reason::ProxyHeader => "proxy_header",
            Reason::Tls => "tls",
            Reason::TlsName => "tls_name",
            Reason::TlsKeys => "tls_keys",
            Reason::NotTls => "not_tls",
            Reason::NotPlain => "not_plain",
            Reason::Draining => "draining",
            Reason::Busy => "busy",
            Reason::Resources => "resources",
            Reason::ControlKey => "control_key",
            Reason::Control => "control",
            Reason::Attach => "attach",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_number_as_index_and_a_word_of_its_own() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
            assert_eq!(Reason::ALL.iter().filter(|other| other.word() == reason.word()).count(), 1);
        }
    }
}
