//! Records of a connection in the kernel that are no content: alerts, and messages about keys.

use crate::sys::ktls::Version;
pub(super) use crate::sys::ktls::{ALERT, CLOSE_NOTIFY};
use crate::tls::outcome::Failure;
use rustls::{AlertDescription, Error};

/// Types of records (RFC 8446, appendix B.1).
const HANDSHAKE: u8 = 22;
pub(super) const CONTENT: u8 = 23;
/// Types of handshake messages (RFC 8446, appendix B.3).
const CLIENT_HELLO: u8 = 1;
const KEY_UPDATE: u8 = 24;
/// The messages about new keys: one that wants no answer, and one that wants one (RFC 8446, section 4.6.3).
const KEY_UPDATES: [[u8; 5]; 2] = [[KEY_UPDATE, 0, 0, 1, 0], [KEY_UPDATE, 0, 0, 1, 1]];

/// Levels of alerts (RFC 8446, appendix B.2).
const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// How many warnings a client may send, as with the library for TLS.
const WARNINGS: u8 = 4;

/// What is to be done about a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Pass,
    /// This alert is the answer to it.
    Answer([u8; 2]),
    /// The peer has ended its side.
    End,
    /// The records behind it have other keys.
    NewKeys,
    /// The connection must end: for this reason, and with this alert if the peer does not know the reason itself.
    Wrong(Failure, Option<[u8; 2]>),
}

/// The patience with one client.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Patience {
    warnings: u8,
    has_renegotiated: bool,
}

impl Patience {
    /// Decides what is to be done about a record that is no content, as the library for TLS does in user space.
    pub(super) fn judge(&mut self, version: Version, kind: u8, record: &[u8]) -> Verdict {
        match (kind, record) {
            (ALERT, &[level, alert]) => self.alert(version, level, alert.into()),
            (ALERT, _) => wrong("an alert has no two bytes", AlertDescription::DecodeError),
            (HANDSHAKE, [KEY_UPDATE, ..]) if version == Version::Tls13 => {
                // It may come in parts. Nothing may stand behind it, since that would have other keys.
                if KEY_UPDATES.iter().any(|message| message.starts_with(record)) {
                    return Verdict::NewKeys;
                }
                wrong("a message about keys is malformed", AlertDescription::DecodeError)
            }
            (HANDSHAKE, [CLIENT_HELLO, ..]) if version == Version::Tls12 => {
                if std::mem::replace(&mut self.has_renegotiated, true) {
                    return wrong("it asked for renegotiation again", AlertDescription::NoRenegotiation);
                }
                Verdict::Answer([WARNING, AlertDescription::NoRenegotiation.into()])
            }
            (HANDSHAKE, [message, ..]) => {
                let text = format!("a handshake message of type {message} came after the handshake");
                wrong(text, AlertDescription::UnexpectedMessage)
            }
            _ => wrong(format!("a record of type {kind} came"), AlertDescription::UnexpectedMessage),
        }
    }

    fn alert(&mut self, version: Version, level: u8, alert: AlertDescription) -> Verdict {
        let received = || Failure::Tls(Error::AlertReceived(alert).to_string());
        match level {
            WARNING | FATAL if alert == AlertDescription::CloseNotify => Verdict::End,
            FATAL => Verdict::Wrong(received(), None),
            WARNING if self.warnings == WARNINGS => wrong("it sent too many warnings", AlertDescription::DecodeError),
            WARNING if version == Version::Tls12 || alert == AlertDescription::UserCanceled => {
                self.warnings += 1;
                Verdict::Pass
            }
            WARNING => Verdict::Wrong(received(), Some(fatal(AlertDescription::DecodeError))),
            _ => Verdict::Wrong(received(), Some(fatal(AlertDescription::IllegalParameter))),
        }
    }
}

/// An alert that ends the connection.
pub(super) fn fatal(alert: AlertDescription) -> [u8; 2] {
    [FATAL, alert.into()]
}

pub(super) fn wrong(text: impl Into<String>, alert: AlertDescription) -> Verdict {
    Verdict::Wrong(Failure::Tls(text.into()), Some(fatal(alert)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Version::{Tls12, Tls13};

    /// The alert of a wrong record, or `None` if it was not wrong or gets none.
    fn alert_of(verdict: &Verdict) -> Option<u8> {
        match verdict {
            Verdict::Wrong(_, Some([2, alert])) => Some(*alert),
            _ => None,
        }
    }

    #[test]
    fn a_goodbye_is_the_end_whatever_its_level() {
        for version in [Tls12, Tls13] {
            for level in [1, 2] {
                assert_eq!(Patience::default().judge(version, 21, &[level, 0]), Verdict::End);
            }
        }
    }

    #[test]
    fn other_alerts_end_the_connection_and_get_no_alert_if_they_are_fatal() {
        let judge = |version, record: &[u8]| Patience::default().judge(version, 21, record);
        for version in [Tls12, Tls13] {
            let verdict = judge(version, &[2, 40]);
            assert!(matches!(&verdict, Verdict::Wrong(Failure::Tls(text), None) if text.contains("HandshakeFailure")));
            assert_eq!(alert_of(&judge(version, &[3, 40])), Some(47), "a level that there is not");
            for record in [&[][..], &[2], &[1, 0, 1]] {
                assert_eq!(alert_of(&judge(version, record)), Some(50), "{record:?}");
            }
        }
        assert_eq!(alert_of(&judge(Tls13, &[1, 40])), Some(50), "TLS 1.3 has no such warnings");
    }

    #[test]
    fn warnings_are_counted() {
        for (version, warning) in [(Tls12, 41), (Tls12, 90), (Tls13, 90)] {
            let mut patience = Patience::default();
            for _ in 0..4 {
                assert_eq!(patience.judge(version, 21, &[1, warning]), Verdict::Pass);
            }
            assert_eq!(alert_of(&patience.judge(version, 21, &[1, warning])), Some(50));
        }
    }

    #[test]
    fn new_keys_are_known_by_their_first_byte() {
        let mut patience = Patience::default();
        for record in [&[24, 0, 0, 1, 0][..], &[24, 0, 0, 1, 1], &[24]] {
            assert_eq!(patience.judge(Tls13, 22, record), Verdict::NewKeys);
            assert_eq!(alert_of(&patience.judge(Tls12, 22, record)), Some(10), "TLS 1.2 has no such message");
        }
        for record in [&[24, 0xff][..], &[24, 0, 0, 1, 2], &[24, 0, 0, 1, 0, 24], &[24, 0, 0, 2, 0, 0]] {
            assert_eq!(alert_of(&patience.judge(Tls13, 22, record)), Some(50), "{record:?}");
        }
    }

    #[test]
    fn renegotiation_is_refused_once_and_then_ends_the_connection() {
        let mut patience = Patience::default();
        assert_eq!(patience.judge(Tls12, 22, &[1, 0, 0, 9]), Verdict::Answer([1, 100]));
        assert_eq!(alert_of(&patience.judge(Tls12, 22, &[1, 0, 0, 9])), Some(100));
        assert_eq!(alert_of(&Patience::default().judge(Tls13, 22, &[1, 0, 0, 9])), Some(10));
    }

    #[test]
    fn no_other_record_is_allowed() {
        for version in [Tls12, Tls13] {
            for (kind, record) in [(20, &[1][..]), (22, &[]), (22, &[4, 0, 0, 0]), (22, &[20]), (24, &[1]), (0, &[0])] {
                assert_eq!(alert_of(&Patience::default().judge(version, kind, record)), Some(10), "{kind} {record:?}");
            }
        }
    }
}
