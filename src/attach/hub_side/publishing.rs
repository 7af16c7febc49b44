//! Requests of attached hosts that publish. Those of a session are done in the order of their numbers, each once.

use super::outcome::{Outcome, Shape};
use super::requests::Done;
use super::sessions::SessionId;
use super::{End, HubSide};
use crate::api::Api;
use crate::attach::MAX_IN_FLIGHT;
use crate::error::{Error, Kind};
use crate::hub::{OnSettled, Origin, Placed, Placing, Publication};

impl HubSide {
    /// Does a numbered request that publishes, once.
    pub(super) fn publish(
        &mut self,
        id: &SessionId,
        number: u64,
        shape: Shape,
        publications: &[Publication<'_>],
    ) -> Result<Done, End> {
        let api = self.api.clone();
        let is_ready = self.context.engine.shared().is_none_or(|shared| shared.status.is_ready());
        if !is_ready && self.now < self.patient_until {
            // What other hubs did for it may stand in what this hub has still to read.
            return Ok(Done::Later);
        }
        if is_ready && self.sessions.has_to_recollect(id) {
            let present = self.context.hub.breaks();
            if present != self.epoch {
                // The numbers that it would get are of another epoch than the host knows.
                self.go_on_in(present);
                return Ok(Done::Later);
            }
            if !self.sessions.recollect(id) {
                return Err(End::Fault("the session is another user's".into()));
            }
        }
        let Some(session) = self.sessions.get(id) else {
            return Err(session_is_gone());
        };
        if number <= session.done {
            // The host sent it again before it had the answer. That answer went out with the welcome.
            return Ok(Done::Yes);
        }
        if session.unanswered() >= MAX_IN_FLIGHT {
            return Ok(Done::Later);
        }
        let origin = Origin { session: *id, uid: session.uid(), number };
        let done = match session.recall(number) {
            // A log that has broken meanwhile may have lost it.
            Some(_) if self.context.hub.breaks() != self.epoch => {
                self.go_on_in(self.context.hub.breaks());
                return Ok(Done::Later);
            }
            // A batch of which the log has only the begin is submitted again. The log recognises the messages it has.
            Some(request) if request.is_whole || !api.lasts_first() => {
                Ok(Some(recalled(&api, shape, publications, &request.seqs().collect::<Vec<u64>>())))
            }
            _ if api.lasts_first() => {
                let (settled, session) = (self.settled.clone(), *id);
                let on_settled: OnSettled = Box::new(move |done| settled.add(session, number, done));
                let broadcast = shape == Shape::Broadcast;
                api.submit_of(origin, publications, broadcast, on_settled).map(|placing| match placing {
                    Placing::Now(settled) => Some(shape.answer(&settled.places)),
                    Placing::Later => None,
                })
            }
            _ => publish_now(&api, origin, shape, publications).map(Some),
        };
        let (answer, failed) = match done {
            Ok(None) => {
                session.take(number, shape);
                return Ok(Done::Yes);
            }
            Ok(Some(answer)) => (answer, Ok(())),
            // A log that can't be written recovers, or its operator ends the hub. A log that is closed takes nothing more
            // from this hub. Messages wait here and in the host's queue, for the next hub if need be.
            Err(error) if matches!(error.kind(), Kind::Busy | Kind::System | Kind::Closed) => return Ok(Done::Later),
            Err(error) => (Outcome::failed(&error), Err(error)),
        };
        let attachment = session.attachment();
        let into = attachment.and_then(|id| self.attached.get_mut(&id)).map(|attachment| attachment.out.tail());
        session.answer(number, answer, into);
        // Only the host knows whether a caller waits for the answer, so the failure is logged here as well.
        self.note_failed(attachment, "publishing", failed);
        Ok(Done::Yes)
    }
}

/// A session with a host stays, so this would be a bug.
pub(super) fn session_is_gone() -> End {
    End::Fault("its session is gone".into())
}

fn publish_now(api: &Api, origin: Origin, shape: Shape, publications: &[Publication<'_>]) -> Result<Outcome, Error> {
    match (shape, publications) {
        (Shape::Message, [publication]) => api.publish_of(origin, publication).map(placed),
        (Shape::Broadcast, [publication]) => api.broadcast_of(origin, publication).map(placed),
        _ => {
            let published = api.publish_batch_of(origin, publications)?;
            Ok(Outcome::batched(published.iter().map(|published| published.seq).collect()))
        }
    }
}

/// The answer that an earlier hub would have given.
fn recalled(api: &Api, shape: Shape, publications: &[Publication<'_>], seqs: &[u64]) -> Outcome {
    let last = seqs.last().copied().unwrap_or(0);
    match shape {
        Shape::Message | Shape::Broadcast => Outcome::Published { seq: last, subscribers: 0 },
        Shape::Batch if seqs.len() == publications.len() => Outcome::batched(seqs.to_vec()),
        // The log does not have again what had been published before, by its key. The keys are in it.
        Shape::Batch => {
            let mut left = seqs.iter().copied().peekable();
            let place = |known: Option<u64>| match known {
                Some(seq) => left.next_if_eq(&seq).unwrap_or(seq),
                None => left.next().unwrap_or(last),
            };
            Outcome::batched(api.known(publications).into_iter().map(place).collect())
        }
    }
}

fn placed(published: Placed) -> Outcome {
    Outcome::Published { seq: published.seq, subscribers: published.subscribers }
}
