//! Checks of arguments. Each call is checked in the process where it is made, wherever the hub is.

use crate::error::{Error, Kind};
use crate::framing::close::Close;
use crate::http::refusal::Refusal;
use crate::hub::{check_text, ChannelPattern};

/// The largest part of a request that a host may have read before it hands over the connection, in bytes.
const MAX_ADOPTED: usize = 1 << 20;
/// The longest reason of a close frame (RFC 6455, section 5.5).
const MAX_REASON: usize = 123;

/// The close codes that a host or an operator may give.
pub(crate) const CLOSE_CODES: &str = "1000, 1001, 1008, 1009, 1011 to 1013 and 3000 to 4999";

/// Checks the close code and the reason with which a host ends a connection.
pub(crate) fn checked_close(code: u16, reason: &str) -> Result<Close, Error> {
    let ours = matches!(code, 1000 | 1001 | 1008 | 1009 | 1011..=1013 | 3000..=4999);
    if !ours {
        return Err(Error::invalid(format!("code: {code}; {CLOSE_CODES} are allowed")));
    }
    if reason.len() > MAX_REASON {
        return Err(Error::invalid(format!("reason: {} bytes; at most {MAX_REASON} are allowed", reason.len())));
    }
    Ok(Close::new(code, reason.to_owned()))
}

/// Checks the arguments of a call that closes all connections of a user.
pub(crate) fn check_disconnection(user: &str, code: u16, reason: &str) -> Result<Close, Error> {
    check_text("user", user, 255)?;
    checked_close(code, reason)
}

/// Checks the arguments of a call that takes a channel from a user.
pub(crate) fn checked_revocation<'a>(
    user: &'a str,
    channel: &str,
    reason: &'a str,
) -> Result<(&'a str, ChannelPattern, &'a str), Error> {
    check_text("user", user, 255)?;
    let channels = ChannelPattern::written(channel)?;
    if reason.len() > MAX_REASON {
        return Err(Error::invalid(format!("reason: {} bytes; at most {MAX_REASON} are allowed", reason.len())));
    }
    Ok((user, channels, if reason.is_empty() { "revoked" } else { reason }))
}

pub(crate) fn checked_refusal(status: u16, reason: &str) -> Result<Refusal, Error> {
    let reason = if reason.is_empty() { "not allowed" } else { reason };
    if reason.len() > 255 {
        return Err(Error::invalid(format!("reason: {} bytes; at most 255 are allowed", reason.len())));
    }
    match status {
        401 => Ok(Refusal::unauthorized(reason.to_owned())),
        403 => Ok(Refusal::forbidden("denied", reason.to_owned())),
        429 => Ok(Refusal::too_many(reason.to_owned())),
        503 => Ok(Refusal::unavailable("denied", reason.to_owned())),
        _ => Err(Error::invalid(format!("status: {status}; 401, 403, 429 and 503 are allowed"))),
    }
}

/// Checks a payload for one connection.
pub(crate) fn check_send(data: &[u8], binary: bool, max: usize) -> Result<(), Error> {
    // The length is checked first: a payload that is too long is not read.
    if data.len() > max {
        let text = format!("data: {} bytes; at most {max} are allowed (option max_message)", data.len());
        return Err(Error::new(Kind::TooLarge, text));
    }
    if !binary && std::str::from_utf8(data).is_err() {
        return Err(Error::invalid("data is not UTF-8; send it as binary"));
    }
    Ok(())
}

/// Checks the part of a request that a host has read.
pub(crate) fn check_head(head: &[u8]) -> Result<(), Error> {
    if head.len() > MAX_ADOPTED {
        let text = format!("head: {} bytes; at most {MAX_ADOPTED} are allowed", head.len());
        return Err(Error::new(Kind::TooLarge, text));
    }
    Ok(())
}

/// The error of a call that publishes to a user where users have no channels.
pub(crate) fn no_user_channels() -> Error {
    Error::invalid("the hub's option user_channel is off, so users have no channels to publish to")
}
