//! The subprotocol `push.v1.json`: the requests of a WebSocket client on a live connection.

use crate::auth::Decision;
use crate::dialect::push::replies;
use crate::dialect::push::requests::{self, ClientRequest, Refused};
use crate::framing::ws_frames;
use crate::metrics::Reason;
use crate::shard::connection::conn::Flags;
use crate::shard::Shard;
use bytes::Bytes;

/// The answer to a client's request. `None`: there is none, or it comes later.
pub(in crate::shard) type Answer = Result<Option<Vec<u8>>, Refused>;

impl Shard {
    /// Carries out a client's request and answers it. An error is answered too, and the connection goes on.
    pub(in crate::shard) fn push_v1(&mut self, index: u32, text: &[u8]) {
        let (reference, request) = ClientRequest::read(text);
        let request = match request {
            Ok(request) => request,
            Err(refused) => return self.reply_error(index, reference, None, refused),
        };
        if let Err(refused) = self.check_not_of_user(&request) {
            return self.reply_error(index, reference, request.channel(), refused);
        }
        let answer = match &request {
            ClientRequest::Subscribe(subscription) if subscription.by_pattern && !self.count_search(index) => return,
            ClientRequest::Subscribe(subscription) => self.subscribe_live(index, subscription),
            ClientRequest::Unsubscribe { name, by_pattern } => self.unsubscribe_live(index, name, *by_pattern),
            ClientRequest::Publish(publication) => self.publish_live(index, reference, publication),
            ClientRequest::Message { data, base64 } => self.message_live(index, data, *base64),
            ClientRequest::Call { data, base64 } => self.call_live(index, reference, data, *base64),
            ClientRequest::Token { .. } if !self.count_token(index) => return,
            ClientRequest::Token { token } => self.renew_by_token(index, token),
            ClientRequest::Ping => Ok(Some(replies::pong())),
        };
        match answer {
            Ok(Some(answer)) => self.reply(index, reference, answer),
            Ok(None) => {}
            Err(refused) => self.reply_error(index, reference, request.channel(), refused),
        }
    }

    fn message_live(&mut self, index: u32, data: &str, base64: bool) -> Answer {
        let data = requests::payload(data, base64)?;
        self.tell_message(index, Bytes::copy_from_slice(&data), base64);
        Ok(None)
    }

    /// A new token in time: the connection goes on with its rights.
    fn renew_by_token(&mut self, index: u32, token: &str) -> Answer {
        let conn = &self.conns[index as usize];
        if conn.is(Flags::ADOPTED) {
            return Err(Refused::new("token", "the host decides what this connection may do"));
        }
        let grant = match self.context.authority().decide(Some(token)) {
            Ok(Decision::Granted(grant)) => grant,
            Ok(_) => return Err(Refused::new("token", "this server takes no tokens (option auth)")),
            Err(refusal) => return Err(Refused::new("token", refusal.message)),
        };
        if conn.grant.as_ref().and_then(|old| old.user()) != grant.user() {
            return Err(Refused::new("user", "the token is another user's; open a connection for that one"));
        }
        let grant = match &conn.grant {
            Some(old) => grant.without_taken_from(old),
            None => grant,
        };
        let expires_at = grant.expires_at().unwrap_or(0);
        let token = self.token(index);
        self.renew(index, grant);
        Ok(self.find(token).map(|_| replies::token(expires_at)))
    }

    pub(in crate::shard) fn reply(&mut self, index: u32, reference: Option<u64>, answer: Vec<u8>) {
        self.transmit_bytes(index, ws_frames::text(&replies::with_ref(answer, reference)));
    }

    pub(in crate::shard) fn reply_error(
        &mut self,
        index: u32,
        reference: Option<u64>,
        channel: Option<&str>,
        refused: Refused,
    ) {
        let Refused { code, message } = refused;
        let reason = match code {
            "channels" => Reason::MaxChannels,
            "patterns" => Reason::MaxPatterns,
            "patterns_total" => Reason::PatternsTotal,
            _ => Reason::ClientRequest,
        };
        let text = format_args!("a request of push.v1.json is refused: {code}: {message}");
        self.note_refusal(self.client(index), reason, text);
        self.reply(index, reference, replies::error(code, &message, channel));
    }
}
