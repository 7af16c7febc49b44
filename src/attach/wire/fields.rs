//! The fields that frames are made of. Integers are little-endian. The length of a text or of bytes stands before it.

use super::{Malformed, EXCEPTS, INFORMS, MARKS, OLDEST, SUBSCRIBES, USER_CHANNELS};
use crate::engine::Hubs;
use crate::grant::{Grant, Parts, MAX_CHANNELS};
use crate::hub::{check_text, ClientId, Mark, Publication, Replacement, Traceparent};
use crate::users::{User, Users, MAX_USERS};

/// The most missing hubs that are named.
const MAX_MISSING: usize = 4096;
const SHORT: Malformed = Malformed("a frame that ends too early");

/// A flag of a grant: further polls may come over the same connection.
const KEEP_ALIVE: u8 = 1;
/// A flag of a grant: it has the number of the channels to which the client is subscribed at once. Without this flag and
/// the next one, a grant has the same form as in all versions.
const AT_ONCE: u8 = 2;
/// A flag of a grant: it has an info about its user, at the end.
const INFO: u8 = 4;
/// In place of the flag that a message is binary: it is the beginning, or the end, of its channel's stream.
const BEGIN: u8 = 2;
const END: u8 = 3;
/// A bit beside these: the message has its place in a trace, which stands behind them.
const TRACED: u8 = 4;
/// Another one: it is for a user, and its channel is the one of the user.
const TO_USER: u8 = 8;
/// Another one: it leaves a client out, and the client's id stands behind the place in a trace.
const EXCEPTING: u8 = 16;

/// Reads fields from the front of a frame.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.0.split_first_chunk::<N>().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*array)
    }

    /// True if more fields follow. A peer with an older version of the protocol does not send them.
    pub(super) fn has_more(&self) -> bool {
        !self.0.is_empty()
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("a flag that is neither 0 nor 1")),
        }
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()? as usize;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(SHORT)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = usize::from(self.u16()?);
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(SHORT)?;
        self.0 = rest;
        std::str::from_utf8(bytes).map_err(|_| Malformed("a text that is not UTF-8"))
    }

    pub(super) fn optional_text(&mut self) -> Result<Option<&'a str>, Malformed> {
        self.flag()?.then(|| self.text()).transpose()
    }

    pub(super) fn publication(&mut self) -> Result<Publication<'a>, Malformed> {
        let flags = self.u8()?;
        let trace = match flags & TRACED {
            0 => None,
            _ => Some(Traceparent::from_bytes(&self.array()?).ok_or(Malformed("a trace that can't be"))?),
        };
        let except = match flags & EXCEPTING {
            0 => None,
            _ => Some(ClientId::from_bytes(self.array()?)),
        };
        let (binary, mark) = match flags & !(TRACED | TO_USER | EXCEPTING) {
            0 => (false, None),
            1 => (true, None),
            BEGIN => (false, Some(Mark::Begin)),
            END => (false, Some(Mark::End)),
            _ => return Err(Malformed("a message with unknown flags")),
        };
        Ok(Publication {
            binary,
            mark,
            channel: self.text()?,
            event: self.optional_text()?,
            key: self.optional_text()?,
            data: self.bytes()?,
            trace,
            to_user: flags & TO_USER != 0,
            except,
        })
    }

    pub(super) fn grant(&mut self) -> Result<Grant, Malformed> {
        let (user, subscribe, publish) = (self.optional_text()?, self.names()?, self.names()?);
        let (expires_at, flags) = (self.u64()? as i64, self.u8()?);
        if flags & !(KEEP_ALIVE | AT_ONCE | INFO) != 0 {
            return Err(Malformed("a grant with unknown flags"));
        }
        let at_once = if flags & AT_ONCE != 0 { usize::from(self.u16()?) } else { 0 };
        let info = if flags & INFO != 0 { Some(self.text()?) } else { None };
        let keep_alive = flags & KEEP_ALIVE != 0;
        let parts = Parts { user, info, subscribe, at_once, publish, expires_at, keep_alive };
        Grant::from_parts(&parts).map_err(|_| Malformed("a grant that is not allowed"))
    }

    fn names(&mut self) -> Result<Option<Vec<String>>, Malformed> {
        if !self.flag()? {
            return Ok(None);
        }
        let count = usize::from(self.u16()?);
        if count > MAX_CHANNELS {
            return Err(Malformed("a grant with too many channels"));
        }
        (0..count).map(|_| self.text().map(str::to_owned)).collect::<Result<_, _>>().map(Some)
    }

    pub(super) fn replacement(&mut self) -> Result<Option<Replacement<'a>>, Malformed> {
        if !self.flag()? {
            return Ok(None);
        }
        let (binary, event) = (self.flag()?, self.optional_text()?);
        Ok(Some(Replacement { data: self.bytes()?, event, binary }))
    }

    pub(super) fn users(&mut self) -> Result<Users, Malformed> {
        let (count, connections, anonymous, more) = (self.u64()?, self.u64()?, self.u64()?, self.flag()?);
        let listed = self.u32()? as usize;
        if listed > MAX_USERS {
            return Err(Malformed("a page of too many users"));
        }
        let mut page = Vec::new();
        let mut last = "";
        for _ in 0..listed {
            let name = self.text()?;
            check_text("user", name, 255).map_err(|_| Malformed("a user with a wrong name"))?;
            // A caller that asks for one page after the other thus comes to an end.
            if name <= last {
                return Err(Malformed("users that are not in order"));
            }
            page.push(User { name: name.into(), connections: self.u64()? });
            last = name;
        }
        let hubs = if self.has_more() { Some(Box::new(self.hubs()?)) } else { None };
        Ok(Users { page, more, count, connections, anonymous, hubs })
    }

    fn hubs(&mut self) -> Result<Hubs, Malformed> {
        let (asked, answered, missing) = (self.u32()? as usize, self.u32()? as usize, self.u16()?);
        let missing = (0..missing).map(|_| self.u64()).collect::<Result<_, _>>()?;
        let why = self.optional_text()?.map(str::to_owned);
        if why.as_ref().is_some_and(|why| why.contains('\0')) {
            return Err(Malformed("a reason that can't be"));
        }
        Ok(Hubs { asked, answered, missing, why, ..Hubs::default() })
    }

    /// Checks that nothing is left.
    pub(super) fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Malformed("a frame with something after its end"))
        }
    }
}

pub(super) fn flag(into: &mut Vec<u8>, value: bool) {
    into.push(value.into());
}

fn bit(set: bool, bit: u8) -> u8 {
    if set {
        bit
    } else {
        0
    }
}

pub(super) fn bytes(into: &mut Vec<u8>, value: &[u8]) {
    into.extend_from_slice(&(value.len() as u32).to_le_bytes());
    into.extend_from_slice(value);
}

/// Writes at most 65,535 bytes. All other texts are checked to be far shorter, so only the text of an error can be cut.
pub(super) fn text(into: &mut Vec<u8>, value: &str) {
    let value = &value[..value.floor_char_boundary_at(usize::from(u16::MAX))];
    into.extend_from_slice(&(value.len() as u16).to_le_bytes());
    into.extend_from_slice(value.as_bytes());
}

pub(super) fn optional_text(into: &mut Vec<u8>, value: Option<&str>) {
    flag(into, value.is_some());
    if let Some(value) = value {
        text(into, value);
    }
}

pub(super) fn publication(into: &mut Vec<u8>, publication: &Publication<'_>) {
    let kind = match publication.mark {
        None => u8::from(publication.binary),
        Some(Mark::Begin) => BEGIN,
        Some(Mark::End) => END,
    };
    let (traced, excepting) = (publication.trace.is_some(), publication.except.is_some());
    into.push(kind | bit(traced, TRACED) | bit(publication.to_user, TO_USER) | bit(excepting, EXCEPTING));
    publication.trace.iter().for_each(|trace| into.extend_from_slice(&trace.to_bytes()));
    publication.except.iter().for_each(|id| into.extend_from_slice(&id.to_bytes()));
    text(into, publication.channel);
    optional_text(into, publication.event);
    optional_text(into, publication.key);
    bytes(into, publication.data);
}

/// The bytes that [`publication`] writes.
pub(super) fn publication_len(publication: &Publication<'_>) -> usize {
    let optional = |text: Option<&str>| 1 + text.map_or(0, |text| 2 + text.len());
    let texts = 2 + publication.channel.len() + optional(publication.event) + optional(publication.key);
    let trace = if publication.trace.is_some() { Traceparent::BYTES } else { 0 };
    let except = if publication.except.is_some() { ClientId::BYTES } else { 0 };
    1 + trace + except + texts + 4 + publication.data.len()
}

/// The first version of the protocol in which a hub understands a message.
pub(super) fn publication_since(publication: &Publication<'_>) -> u16 {
    match publication {
        Publication { except: Some(_), .. } => EXCEPTS,
        Publication { to_user: true, .. } => USER_CHANNELS,
        Publication { mark: Some(_), .. } => MARKS,
        _ => OLDEST,
    }
}

pub(super) fn replacement(into: &mut Vec<u8>, replacement: Option<&Replacement<'_>>) {
    flag(into, replacement.is_some());
    if let Some(replacement) = replacement {
        flag(into, replacement.binary);
        optional_text(into, replacement.event);
        bytes(into, replacement.data);
    }
}

/// The bytes that [`replacement`] writes.
pub(super) fn replacement_len(replacement: Option<&Replacement<'_>>) -> usize {
    let event = |event: Option<&str>| 1 + event.map_or(0, |event| 2 + event.len());
    1 + replacement.map_or(0, |replacement| 1 + event(replacement.event) + 4 + replacement.data.len())
}

pub(super) fn grant(into: &mut Vec<u8>, grant: &Grant) {
    let parts = grant.parts();
    optional_text(into, parts.user);
    names(into, parts.subscribe.as_deref());
    names(into, parts.publish.as_deref());
    into.extend_from_slice(&parts.expires_at.to_le_bytes());
    let (at_once, informs) = (parts.at_once > 0, parts.info.is_some());
    into.push(bit(parts.keep_alive, KEEP_ALIVE) | bit(at_once, AT_ONCE) | bit(informs, INFO));
    if at_once {
        into.extend_from_slice(&(parts.at_once as u16).to_le_bytes());
    }
    parts.info.iter().for_each(|info| text(into, info));
}

/// The first version of the protocol in which a hub understands a grant.
pub(super) fn grant_since(grant: &Grant) -> u16 {
    match grant.info() {
        Some(_) => INFORMS,
        None if !grant.at_once().is_empty() => SUBSCRIBES,
        None => OLDEST,
    }
}

pub(super) fn users(into: &mut Vec<u8>, users: &Users) {
    for number in [users.count, users.connections, users.anonymous] {
        into.extend_from_slice(&number.to_le_bytes());
    }
    flag(into, users.more);
    into.extend_from_slice(&(users.page.len() as u32).to_le_bytes());
    for user in &users.page {
        text(into, &user.name);
        into.extend_from_slice(&user.connections.to_le_bytes());
    }
    if let Some(hubs) = &users.hubs {
        let missing = &hubs.missing[..hubs.missing.len().min(MAX_MISSING)];
        for number in [hubs.asked, hubs.answered] {
            into.extend_from_slice(&(number as u32).to_le_bytes());
        }
        into.extend_from_slice(&(missing.len() as u16).to_le_bytes());
        missing.iter().for_each(|hub| into.extend_from_slice(&hub.to_le_bytes()));
        optional_text(into, hubs.why_by_name().as_deref());
    }
}

fn names(into: &mut Vec<u8>, names: Option<&[String]>) {
    flag(into, names.is_some());
    if let Some(names) = names {
        into.extend_from_slice(&(names.len() as u16).to_le_bytes());
        names.iter().for_each(|name| text(into, name));
    }
}

/// `str::floor_char_boundary`, which the oldest compiler that we support does not have.
trait Floor {
    fn floor_char_boundary_at(&self, index: usize) -> usize;
}

impl Floor for str {
    fn floor_char_boundary_at(&self, index: usize) -> usize {
        let mut at = index.min(self.len());
        while !self.is_char_boundary(at) {
            at -= 1;
        }
        at
    }
}
