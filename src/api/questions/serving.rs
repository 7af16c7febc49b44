//! The work of the thread (`push-hubs`): it answers questions, and collects the answers to those of this hub.

use super::queue::{Count, Todo};
use super::{Of, Place, Questions};
use crate::api::Api;
use crate::cluster::{self, channels, Answering, Done, Question, Said};
use crate::panics;
use crate::shard::client::presence::Present;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;

impl Api {
    /// The work of the thread, until the hub ends.
    pub(crate) fn serve_questions(&self) {
        let Some(questions) = &self.questions else { return };
        let _ends = Ends(questions);
        while let Some(todo) = questions.next() {
            // A panic is about one thing that was to be done. Whoever waits for its answer gets none in time.
            if catch_unwind(AssertUnwindSafe(|| self.work_on(questions, todo))).is_err() {
                let said = panics::said();
                self.note_panic(format_args!(
                    "questions between hubs: a bug in the library was caught: {said}; a question is not answered"
                ));
            }
        }
    }

    fn work_on(&self, questions: &Arc<Questions>, todo: Todo) {
        match todo {
            Todo::Count(count) => questions.count(count),
            Todo::Over(done) => done.tell(),
            Todo::Own(bytes) => {
                if let Ok(Said::Question { id, asker, sent, question }) = Said::read(&bytes) {
                    let of = Of { id, asker, sent };
                    if !questions.is_over(of) {
                        self.answer(questions, (of, None), question);
                    }
                }
            }
            Todo::Word(bytes) => match Said::read(&bytes) {
                Ok(Said::Part { id, hub, at, of, bytes }) => {
                    let done = questions.lock().table.heard(id, hub, (at, of), bytes);
                    done.into_iter().for_each(Done::tell);
                }
                Ok(Said::Question { id, asker, sent, question }) => {
                    let of = Of { id, asker, sent };
                    if let Some(place) = questions.admit(of) {
                        self.answer(questions, (of, Some(place)), question);
                    }
                }
                // It was read when it came.
                Err(_) => {}
            },
        }
    }

    /// Answers a question for this hub. `place`: of a question of another one.
    fn answer(&self, questions: &Arc<Questions>, (of, place): (Of, Option<Place>), question: Question<'_>) {
        #[cfg(test)]
        if questions.mute.load(std::sync::atomic::Ordering::SeqCst) {
            return;
        }
        #[cfg(test)]
        maybe_panic(&question);
        let position = |seq| self.position_now(seq);
        let bytes = match question {
            Question::Users { channel, after, limit } => {
                let (questions, after, limit) = (questions.clone(), Box::<str>::from(after), limit as usize);
                let exists = self.context.hub.channel_id(channel).is_some();
                let tell = move |present: Present| {
                    let answering = exists.then(|| Answering::new(of.id, present.into_parts(), &after, limit));
                    questions.leave(Count { of, place, answering });
                };
                self.ask_present(channel, Box::new(tell));
                return;
            }
            Question::Channels { prefix, limit } => {
                let limit = limit as usize;
                let mut found = self.context.hub.first_channels(prefix, limit + 1);
                let more = found.len() > limit;
                found.truncate(limit);
                channels(&found, more, position, |name| self.loss(name))
            }
            Question::Channel { name } => {
                let found: Vec<_> = self.channel(name).into_iter().collect();
                channels(&found, false, position, |name| self.loss(name))
            }
            Question::Stats => cluster::stats(&self.collect_stats()),
        };
        questions.send(of, &bytes);
    }
}

/// Ends the questions with the thread, also if that panics: nobody waits for it then.
struct Ends<'a>(&'a Questions);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The thread panics at a question for this channel, and when it counts users after this one; in this build only.
#[cfg(test)]
pub(crate) const BOOM: &str = "panics.in.the.thread.of.questions";

#[cfg(test)]
fn maybe_panic(question: &Question<'_>) {
    assert!(!matches!(question, Question::Channel { name: BOOM } | Question::Users { channel: BOOM, .. }), "planted");
}
