//! The frames that a host sends to the hub.

use super::fields::{self, Fields};
use super::{framed, Malformed};
use crate::api::MAX_BATCH;
use crate::grant::Grant;
use crate::hub::{Publication, Replacement};
use crate::users::MAX_USERS;

/// A hello begins with these bytes. They and the version behind them are the same in all versions of the protocol.
const MAGIC: &[u8; 8] = b"libpush\0";

const HELLO: u8 = 1;
const PUBLISH: u8 = 2;
const BROADCAST: u8 = 3;
const BATCH: u8 = 4;
const ADOPT: u8 = 5;
const SEND: u8 = 6;
const CLOSE: u8 = 7;
const ALLOW: u8 = 8;
const DENY: u8 = 9;
const DISCONNECT: u8 = 10;
const STATS: u8 = 11;
const CREDIT: u8 = 12;
const REVOKE: u8 = 13;
const RENEW: u8 = 14;
const USERS: u8 = 15;
const ANSWER: u8 = 16;
const ALLOW_PUBLISH: u8 = 17;

/// The first frame of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello<'a> {
    /// The version of the protocol that the host speaks. If we do not speak it, the other fields are not read and stay
    /// empty.
    pub(crate) version: u16,
    /// Names this run of the host.
    pub(crate) session: [u8; 16],
    /// The highest request number whose result the host has.
    pub(crate) answered: u64,
    /// The epoch of the hub that the host was attached to before. Empty if there was none.
    pub(crate) epoch: &'a str,
    /// The host's name. Hosts of the same name stand in for each other.
    pub(crate) name: &'a str,
}

/// A frame from a host. The hub answers the numbered ones: those that publish in their order.
#[derive(Debug, Clone)]
pub(crate) enum FromHost<'a> {
    Hello(Hello<'a>),
    Publish {
        number: u64,
        publication: Publication<'a>,
    },
    Broadcast {
        number: u64,
        publication: Publication<'a>,
    },
    Batch {
        number: u64,
        publications: Vec<Publication<'a>>,
    },
    /// A descriptor comes with this frame.
    Adopt {
        grant: Option<Grant>,
        head: &'a [u8],
    },
    Send {
        connection: u64,
        binary: bool,
        data: &'a [u8],
    },
    Close {
        connection: u64,
        code: u16,
        reason: &'a str,
    },
    Allow {
        request: u64,
        grant: Grant,
    },
    Deny {
        request: u64,
        status: u16,
        reason: &'a str,
    },
    /// The answer to a client's call.
    Answer {
        request: u64,
        binary: bool,
        data: &'a [u8],
    },
    /// The host allows a message of a client to be published: as it is, or replaced.
    AllowPublish {
        request: u64,
        instead: Option<Replacement<'a>>,
    },
    /// A command: it has no answer of its own. `number` grows from one command of the host to the next. Hosts that speak
    /// an older version do not say it.
    Disconnect {
        user: &'a str,
        code: u16,
        reason: &'a str,
        number: Option<u64>,
    },
    /// A command.
    Revoke {
        user: &'a str,
        channel: &'a str,
        reason: &'a str,
        number: Option<u64>,
    },
    Renew {
        connection: u64,
        grant: Grant,
    },
    Stats {
        number: u64,
    },
    /// Asks which users are on a channel: at most `limit` users whose names sort after `after`.
    Users {
        number: u64,
        channel: &'a str,
        after: &'a str,
        limit: u32,
        /// How long the host waits for the answer. Hosts that speak an older version do not say it.
        time_ms: Option<u32>,
    },
    /// The host has room for this many more events. The first credit also says that the host wants events.
    Credit {
        events: u32,
    },
}

impl<'a> FromHost<'a> {
    /// Appends the frame.
    pub(crate) fn write(&self, into: &mut Vec<u8>) {
        match self {
            FromHost::Hello(hello) => framed(into, HELLO, |into| {
                into.extend_from_slice(MAGIC);
                into.extend_from_slice(&hello.version.to_le_bytes());
                into.extend_from_slice(&hello.session);
                into.extend_from_slice(&hello.answered.to_le_bytes());
                fields::text(into, hello.epoch);
                fields::text(into, hello.name);
            }),
            FromHost::Publish { number, publication } => numbered(into, PUBLISH, *number, publication),
            FromHost::Broadcast { number, publication } => numbered(into, BROADCAST, *number, publication),
            FromHost::Batch { number, publications } => framed(into, BATCH, |into| {
                into.extend_from_slice(&number.to_le_bytes());
                into.extend_from_slice(&(publications.len() as u32).to_le_bytes());
                publications.iter().for_each(|publication| fields::publication(into, publication));
            }),
            FromHost::Adopt { grant, head } => framed(into, ADOPT, |into| {
                fields::flag(into, grant.is_some());
                if let Some(grant) = grant {
                    fields::grant(into, grant);
                }
                fields::bytes(into, head);
            }),
            FromHost::Send { connection, binary, data } => framed(into, SEND, |into| {
                into.extend_from_slice(&connection.to_le_bytes());
                fields::flag(into, *binary);
                fields::bytes(into, data);
            }),
            FromHost::Close { connection, code, reason } => reasoned(into, CLOSE, *connection, *code, reason),
            FromHost::Allow { request, grant } => framed(into, ALLOW, |into| {
                into.extend_from_slice(&request.to_le_bytes());
                fields::grant(into, grant);
            }),
            FromHost::Deny { request, status, reason } => reasoned(into, DENY, *request, *status, reason),
            FromHost::Answer { request, binary, data } => framed(into, ANSWER, |into| {
                into.extend_from_slice(&request.to_le_bytes());
                fields::flag(into, *binary);
                fields::bytes(into, data);
            }),
            FromHost::AllowPublish { request, instead } => framed(into, ALLOW_PUBLISH, |into| {
                into.extend_from_slice(&request.to_le_bytes());
                fields::replacement(into, instead.as_ref());
            }),
            FromHost::Disconnect { user, code, reason, number } => framed(into, DISCONNECT, |into| {
                fields::text(into, user);
                into.extend_from_slice(&code.to_le_bytes());
                fields::text(into, reason);
                number.iter().for_each(|number| into.extend_from_slice(&number.to_le_bytes()));
            }),
            FromHost::Revoke { user, channel, reason, number } => framed(into, REVOKE, |into| {
                fields::text(into, user);
                fields::text(into, channel);
                fields::text(into, reason);
                number.iter().for_each(|number| into.extend_from_slice(&number.to_le_bytes()));
            }),
            FromHost::Renew { connection, grant } => framed(into, RENEW, |into| {
                into.extend_from_slice(&connection.to_le_bytes());
                fields::grant(into, grant);
            }),
            FromHost::Stats { number } => framed(into, STATS, |into| into.extend_from_slice(&number.to_le_bytes())),
            FromHost::Users { number, channel, after, limit, time_ms } => framed(into, USERS, |into| {
                into.extend_from_slice(&number.to_le_bytes());
                fields::text(into, channel);
                fields::text(into, after);
                for field in [limit].into_iter().chain(time_ms) {
                    into.extend_from_slice(&field.to_le_bytes());
                }
            }),
            FromHost::Credit { events } => framed(into, CREDIT, |into| into.extend_from_slice(&events.to_le_bytes())),
        }
    }

    /// The bytes that [`Self::write`] appends, if the frame has a payload, which may be large. 0 for other frames.
    pub(crate) fn len_with_payload(&self) -> usize {
        /// The length, the type, and a number.
        const HEAD: usize = 4 + 1 + 8;
        match self {
            FromHost::Publish { publication, .. } | FromHost::Broadcast { publication, .. } => {
                HEAD + fields::publication_len(publication)
            }
            FromHost::Batch { publications, .. } => {
                HEAD + 4 + publications.iter().map(fields::publication_len).sum::<usize>()
            }
            FromHost::Send { data, .. } | FromHost::Answer { data, .. } => HEAD + 1 + 4 + data.len(),
            FromHost::AllowPublish { instead, .. } => HEAD + fields::replacement_len(instead.as_ref()),
            _ => 0,
        }
    }

    /// The first version of the protocol in which a hub understands this frame.
    pub(crate) fn since(&self) -> u16 {
        match self {
            FromHost::Users { .. } => 2,
            FromHost::Answer { .. } => super::ANSWERS_CALLS,
            FromHost::AllowPublish { .. } => super::PUBLISHES_ASKED,
            FromHost::Publish { publication, .. } | FromHost::Broadcast { publication, .. } => {
                fields::publication_since(publication)
            }
            FromHost::Batch { publications, .. } => {
                publications.iter().map(fields::publication_since).max().unwrap_or(super::OLDEST)
            }
            FromHost::Adopt { grant: Some(grant), .. }
            | FromHost::Allow { grant, .. }
            | FromHost::Renew { grant, .. } => fields::grant_since(grant),
            _ => super::OLDEST,
        }
    }

    /// A frame without the places of its messages in traces, for a hub that does not know them. `None`: it has none.
    /// `frame` is what [`Self::write`] has written.
    pub(crate) fn untraced(frame: &[u8]) -> Option<Vec<u8>> {
        let body = frame.get(4..).filter(|body| matches!(body.first(), Some(&(PUBLISH | BROADCAST | BATCH))))?;
        let mut request = FromHost::read(body).ok()?;
        let publications = match &mut request {
            FromHost::Publish { publication, .. } | FromHost::Broadcast { publication, .. } => {
                std::slice::from_mut(publication)
            }
            FromHost::Batch { publications, .. } => publications,
            _ => return None,
        };
        let traced = publications.iter_mut().filter_map(|publication| publication.trace.take()).count();
        (traced > 0).then(|| {
            let mut without = Vec::with_capacity(frame.len());
            request.write(&mut without);
            without
        })
    }

    /// True if the frame only asks and changes nothing.
    pub(crate) fn only_asks(&self) -> bool {
        matches!(self, FromHost::Stats { .. } | FromHost::Users { .. })
    }

    /// True if the frame is a request that publishes nothing. So it needs no order with those that publish, and may be
    /// answered twice. A batch without messages is one: it follows a command, and its answer says that the command was
    /// done.
    pub(crate) fn is_free(&self) -> bool {
        self.only_asks() || matches!(self, FromHost::Batch { publications, .. } if publications.is_empty())
    }

    /// The number of a command.
    pub(crate) fn command(&self) -> Option<u64> {
        match self {
            FromHost::Disconnect { number, .. } | FromHost::Revoke { number, .. } => *number,
            _ => None,
        }
    }

    /// The number of messages that it publishes.
    pub(crate) fn messages(&self) -> usize {
        match self {
            FromHost::Publish { .. } | FromHost::Broadcast { .. } => 1,
            FromHost::Batch { publications, .. } => publications.len(),
            _ => 0,
        }
    }

    /// True if a frame, in the form that [`Self::read`] takes, has a descriptor.
    pub(crate) fn is_adopt(frame: &[u8]) -> bool {
        frame.first() == Some(&ADOPT)
    }

    /// Reads a frame: type and body, without the length.
    pub(crate) fn read(frame: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(frame);
        let read = match fields.u8()? {
            HELLO => {
                let (hello, spoken) = read_hello(&mut fields)?;
                if !spoken {
                    return Ok(FromHost::Hello(hello));
                }
                FromHost::Hello(hello)
            }
            PUBLISH => FromHost::Publish { number: fields.u64()?, publication: fields.publication()? },
            BROADCAST => FromHost::Broadcast { number: fields.u64()?, publication: fields.publication()? },
            BATCH => {
                let (number, count) = (fields.u64()?, fields.u32()? as usize);
                if count > MAX_BATCH {
                    return Err(Malformed("a batch of too many messages"));
                }
                let publications = (0..count).map(|_| fields.publication()).collect::<Result<_, _>>()?;
                FromHost::Batch { number, publications }
            }
            ADOPT => {
                let grant = fields.flag()?.then(|| fields.grant()).transpose()?;
                FromHost::Adopt { grant, head: fields.bytes()? }
            }
            SEND => FromHost::Send { connection: fields.u64()?, binary: fields.flag()?, data: fields.bytes()? },
            ANSWER => FromHost::Answer { request: fields.u64()?, binary: fields.flag()?, data: fields.bytes()? },
            ALLOW_PUBLISH => FromHost::AllowPublish { request: fields.u64()?, instead: fields.replacement()? },
            CLOSE => FromHost::Close { connection: fields.u64()?, code: fields.u16()?, reason: fields.text()? },
            ALLOW => FromHost::Allow { request: fields.u64()?, grant: fields.grant()? },
            DENY => FromHost::Deny { request: fields.u64()?, status: fields.u16()?, reason: fields.text()? },
            DISCONNECT => FromHost::Disconnect {
                user: fields.text()?,
                code: fields.u16()?,
                reason: fields.text()?,
                number: fields.has_more().then(|| fields.u64()).transpose()?,
            },
            REVOKE => FromHost::Revoke {
                user: fields.text()?,
                channel: fields.text()?,
                reason: fields.text()?,
                number: fields.has_more().then(|| fields.u64()).transpose()?,
            },
            RENEW => FromHost::Renew { connection: fields.u64()?, grant: fields.grant()? },
            STATS => FromHost::Stats { number: fields.u64()? },
            USERS => {
                let (number, channel, after, limit) = (fields.u64()?, fields.text()?, fields.text()?, fields.u32()?);
                if limit as usize > MAX_USERS {
                    return Err(Malformed("a request for too many users"));
                }
                let time_ms = fields.has_more().then(|| fields.u32()).transpose()?;
                FromHost::Users { number, channel, after, limit, time_ms }
            }
            CREDIT => FromHost::Credit { events: fields.u32()? },
            _ => return Err(Malformed("a frame of unknown type")),
        };
        fields.end()?;
        Ok(read)
    }
}

/// Reads a hello. A hello of a version that we do not speak may have any fields after the version. The flag is true if
/// we speak the version.
fn read_hello<'a>(fields: &mut Fields<'a>) -> Result<(Hello<'a>, bool), Malformed> {
    if fields.array::<8>()? != *MAGIC {
        return Err(Malformed("a hello of another protocol"));
    }
    let version = fields.u16()?;
    if !super::speaks(version) {
        return Ok((Hello { version, session: [0; 16], answered: 0, epoch: "", name: "" }, false));
    }
    let hello = Hello {
        version,
        session: fields.array()?,
        answered: fields.u64()?,
        epoch: fields.text()?,
        name: fields.text()?,
    };
    Ok((hello, true))
}

fn numbered(into: &mut Vec<u8>, kind: u8, number: u64, publication: &Publication<'_>) {
    framed(into, kind, |into| {
        into.extend_from_slice(&number.to_le_bytes());
        fields::publication(into, publication);
    });
}

fn reasoned(into: &mut Vec<u8>, kind: u8, whom: u64, code: u16, reason: &str) {
    framed(into, kind, |into| {
        into.extend_from_slice(&whom.to_le_bytes());
        into.extend_from_slice(&code.to_le_bytes());
        fields::text(into, reason);
    });
}
