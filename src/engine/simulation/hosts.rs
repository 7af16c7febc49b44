//! Hosts that publish. They number their messages. When they come to another hub, they send the messages again that
//! were not answered.

use super::{id_of, Content, Sent, World, CHANNELS};
use crate::engine::entry::{Entry, Logged};
use crate::engine::envelope::Body;
use crate::engine::log_model::key_of;
use crate::engine::replica::Outcome;
use crate::hub::{Key, Mark, Noted, Origin};
use std::collections::VecDeque;

#[derive(Debug)]
pub(super) struct Host {
    at: usize,
    /// The hub that it is attached to, and the life of that hub.
    pub(super) hub: usize,
    life: u64,
    number: u64,
    /// The messages without an answer: the host's number, the content, and the hub's counter if it was sent.
    unanswered: VecDeque<(u64, Content, Option<u64>)>,
}

impl Host {
    pub(super) fn new(at: usize, hub: usize) -> Self {
        Host { at, hub, life: 0, number: 0, unanswered: VecDeque::new() }
    }
}

impl World {
    pub(super) fn publish(&mut self) {
        let host = self.random.below(self.hosts.len());
        let key = self.random.one_in(4).then(|| format!("k{}", self.random.below(5)));
        let channel = self.random.below(CHANNELS.len());
        let mark = match self.random.below(16) {
            0 | 1 => Some(Mark::End),
            // It clears a history: a client may then be told of a gap.
            2 if !self.plan.gentle => Some(Mark::Begin),
            _ => None,
        };
        match mark.filter(|_| channel > 0) {
            None => self.publish_in(channel, key, None, host),
            mark => self.publish_in(channel, None, mark, host),
        }
    }

    pub(super) fn publish_in(&mut self, channel: usize, key: Option<String>, mark: Option<Mark>, host: usize) {
        let content = self.sent.len() as Content;
        // Most are for all. Some of these are the numbers of no client.
        let except = (mark.is_none() && content.is_multiple_of(3)).then_some(content as usize / 3 % 8);
        self.sent.push(Sent { channel, key, mark, except, host, confirmed_by: None });
        let host = &mut self.hosts[host];
        host.number += 1;
        host.unanswered.push_back((host.number, content, None));
        let at = host.at;
        self.send(at);
    }

    /// Lets a host send the messages to its hub that it has not sent to this life of the hub.
    pub(super) fn send(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        let hub = &mut self.hubs[host.hub];
        if host.life != hub.life {
            host.life = hub.life;
            host.unanswered.iter_mut().for_each(|(.., sent)| *sent = None);
        }
        let wall = (self.now as i64 + hub.skew) as u64;
        for (number, content, sent) in host.unanswered.iter_mut().filter(|(.., sent)| sent.is_none()) {
            let message = &self.sent[*content as usize];
            let origin = Origin { session: [at as u8; 16], uid: 0, number: *number };
            let noted = Noted {
                channel: CHANNELS[message.channel],
                event: None,
                key: message.key.as_deref().map(Key::Host),
                binary: true,
                mark: message.mark,
                origin: Some(origin),
                except: message.except.map(id_of),
                data: &content.to_le_bytes(),
            };
            let logged = Logged { time_ms: wall, more: false, noted };
            let key = key_of(&logged).unwrap_or_default();
            *sent = hub.replica.publish(&key, &Body::Entry(Entry::Message(logged)));
            if self.notes.talks {
                println!("{:>7} host {at} publishes {content} at hub {}, as {sent:?}", self.now, host.hub);
            }
            if sent.is_none() {
                break;
            }
        }
    }

    /// Takes the outcome of a message from a hub.
    pub(super) fn answered(&mut self, hub: usize, counter: u64, outcome: Outcome) {
        let life = self.hubs[hub].life;
        for host in self.hosts.iter_mut().filter(|host| host.hub == hub && host.life == life) {
            let found = host.unanswered.iter().position(|(.., sent)| *sent == Some(counter));
            let Some((_, content, _)) = found.and_then(|at| host.unanswered.remove(at)) else { continue };
            if matches!(outcome, Outcome::Published(_)) {
                self.sent[content as usize].confirmed_by = Some(life);
            }
        }
    }

    /// After a hub was killed, its hosts go to another hub, or to its next life.
    pub(super) fn leave_hub(&mut self, hub: usize) {
        for at in 0..self.hosts.len() {
            if self.hosts[at].hub == hub && self.random.one_in(2) {
                self.hosts[at].hub = self.random.below(self.plan.hubs);
            }
        }
    }

    pub(super) fn hosts_are_answered(&mut self) -> bool {
        (0..self.hosts.len()).for_each(|at| self.send(at));
        self.hosts.iter().all(|host| host.unanswered.is_empty())
    }
}
