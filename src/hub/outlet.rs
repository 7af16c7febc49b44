//! Hubs that follow a log which others follow, too: they publish nothing themselves. A message goes into the log, and
//! is delivered when it comes back from there.

use super::{Act, Hub, Noted, OnSettled, Origin, Outgoing, Placing, Settled, Start};
use crate::error::Error;
use crate::trace::Span;
use std::sync::Arc;

/// Takes what is to go into the log. No call waits for the log.
pub(crate) trait Outlet: Send + Sync {
    /// Takes messages, all or none. They go into the log in the order of the calls. `on_settled` gets the result.
    /// `spans`: one for each message that has one, with its place in the batch.
    fn offer(&self, batch: &[Noted<'_>], spans: Vec<(usize, Span)>, on_settled: Option<OnSettled>)
        -> Result<(), Error>;
    /// Takes the order that a channel's history is to be cleared.
    fn offer_clear(&self, channel: &str, on_settled: Option<OnSettled>) -> Result<(), Error>;
    /// Takes acts for all other hubs, all or none.
    fn offer_acts(&self, acts: &[Act<'_>], on_settled: Option<OnSettled>) -> Result<(), Error>;
}

impl Hub {
    /// Has everything that is published go there.
    pub(crate) fn publish_into(&mut self, outlet: Arc<dyn Outlet>) {
        self.lasting = true;
        self.outlet = Some(outlet);
    }

    pub(super) fn offer(
        &self,
        outlet: &dyn Outlet,
        batch: &[Outgoing<'_>],
        origin: Option<Origin>,
        on_settled: Option<OnSettled>,
    ) -> Result<Placing, Error> {
        if batch.is_empty() {
            return Ok(Placing::Now(Settled::default()));
        }
        let noted: Vec<Noted<'_>> = batch.iter().map(|outgoing| Noted::of(outgoing, origin)).collect();
        let span = |(place, outgoing): (usize, &Outgoing<'_>)| Some((place, outgoing.span.clone()?));
        let spans = batch.iter().enumerate().filter_map(span).collect();
        outlet.offer(&noted, spans, on_settled)?;
        Ok(Placing::Later)
    }

    /// Tells the other hubs of the log what to do. There may be none: then nothing is to be done.
    pub(crate) fn tell_others(&self, acts: &[Act<'_>], on_settled: Option<OnSettled>) -> Result<Placing, Error> {
        let Some(outlet) = &self.outlet else { return Ok(Placing::Now(Settled::default())) };
        outlet.offer_acts(acts, on_settled)?;
        Ok(Placing::Later)
    }

    /// True if the hub shares a log with others.
    pub(crate) fn has_others(&self) -> bool {
        self.outlet.is_some()
    }

    /// True if a subscriber who begins there need not wait.
    pub(crate) fn can_serve(&self, start: Start<'_>) -> bool {
        self.state.lock().has_reached(start)
    }

    /// True if everything is applied that the log had when this hub began to follow it.
    pub(crate) fn has_caught_up(&self) -> bool {
        self.can_serve(Start::New)
    }
}
