//! The listing of connections, for operators. Each shard looks through its own, some in each turn, and keeps the numbers
//! of at most a page of them. Then it tells about these, again some in each turn.

use super::query::{Gather, Query};
use crate::framing::Transport;
use crate::hub::ChannelId;
use crate::limits::Peer;
use crate::shard::connection::conn::{Conn, ConnectionId, Flags};
use crate::shard::Shard;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// What looking at one connection costs. A free place of the slab costs 1, and a slab that was once large has many.
const LOOK: usize = 32;
/// What it costs to ask the system for the address of one.
const ASK: usize = 8 * LOOK;
/// What it costs to compare a name. A number of a channel costs 1.
const COMPARE: usize = 8;
/// What telling of one connection costs, and what each name of a channel costs then.
const TELL: usize = 16 * LOOK;
const NAME: usize = 4 * LOOK;
/// About how much one turn looks at, and tells: some 20 microseconds, for which the clients of the shard wait.
const LOOKED: usize = if cfg!(test) { 4 * LOOK } else { 512 * LOOK };
const TOLD: usize = if cfg!(test) { 2 * (TELL + NAME) } else { 24 * (TELL + NAME) };
/// The most channels that are named of one connection.
const MAX_NAMES: usize = 8;

/// The connections that are asked for.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) user: Option<Box<str>>,
    /// The number of the channel, which the hub may have given to another one since, and its name.
    pub(crate) channel: Option<(ChannelId, Box<str>)>,
    pub(crate) address: Option<Peer>,
    pub(crate) order: Order,
    /// The largest number of connections in the answer.
    pub(crate) limit: usize,
}

/// The order of the listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// By number, from the first one that is greater than this.
    After(u64),
    /// Only those that are behind, and those for which most bytes wait first.
    Slowest,
}

/// A connection, as an operator sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Listed {
    /// The number by which events and `push_close` name it.
    pub(crate) id: u64,
    pub(crate) user: Option<Arc<str>>,
    pub(crate) address: Option<Peer>,
    /// `None`: it is beginning, ending, or between two polls.
    pub(crate) transport: Option<Transport>,
    /// For how long it has been there: to within a second, or a hundredth.
    pub(crate) connected_ms: u64,
    /// A host has handed it over.
    pub(crate) adopted: bool,
    /// The number of its channels, and the first names.
    pub(crate) channels: usize,
    pub(crate) names: Vec<Arc<str>>,
    /// The bytes that wait for it.
    pub(crate) waiting: u64,
    /// For how long something has waited without a break.
    pub(crate) behind_ms: u64,
    /// It is being sent what it missed, and has not all of it yet.
    pub(crate) catching_up: bool,
}

/// What the shards have found.
#[derive(Debug)]
pub(crate) struct Found {
    rows: Vec<Listed>,
    count: u64,
    /// Up to this number nothing was left out.
    until: u64,
}

impl Default for Found {
    fn default() -> Self {
        Found { rows: Vec::new(), count: 0, until: u64::MAX }
    }
}

/// A page of the listing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) rows: Vec<Listed>,
    /// The number of all connections that are asked for, on this page or not.
    pub(crate) count: u64,
    /// There are more.
    pub(crate) more: bool,
    /// The number after which the next page begins, if there is one.
    pub(crate) next: Option<u64>,
}

impl Found {
    /// Puts the answers of the shards together.
    pub(crate) fn page(self, order: Order, limit: usize) -> Page {
        let Found { mut rows, count, until } = self;
        if order == Order::Slowest {
            rows.sort_by_key(|row| (Reverse(row.waiting), row.id));
            rows.truncate(limit);
            let more = count > limit as u64;
            return Page { rows, count, more, next: None };
        }
        // What one shard tells beyond the last number of another one could have others before it.
        rows.retain(|row| row.id <= until);
        let is_cut = rows.len() > limit;
        if is_cut {
            rows.select_nth_unstable_by_key(limit, |row| row.id);
            rows.truncate(limit);
        }
        rows.sort_by_key(|row| row.id);
        let next = if is_cut { rows.last().map(|row| row.id) } else { Some(until).filter(|until| *until < u64::MAX) };
        Page { rows, count, more: next.is_some(), next }
    }
}

impl Gather for Found {
    fn add(&mut self, mut part: Self) {
        if self.rows.is_empty() {
            std::mem::swap(&mut self.rows, &mut part.rows);
        } else {
            self.rows.append(&mut part.rows);
        }
        self.count += part.count;
        self.until = self.until.min(part.until);
    }
}

/// A question to all shards for their connections.
pub(crate) type ListingQuery = Query<Wanted, Found>;

/// A listing under way on one shard.
#[derive(Debug)]
pub(in crate::shard) struct Walk {
    query: Arc<ListingQuery>,
    /// The place of the slab to look at next.
    next: usize,
    /// The best so far, by rank and number. The last of them is on top.
    best: BinaryHeap<(u64, u64)>,
    /// The numbers of those to tell about, once all are looked through. The first one is at the end.
    chosen: Option<Vec<u64>>,
    part: Found,
}

impl Walk {
    fn new(query: Arc<ListingQuery>) -> Self {
        Walk { query, next: 0, best: BinaryHeap::new(), chosen: None, part: Found::default() }
    }

    /// A connection that is wanted. The lower the rank, the earlier it is listed.
    fn note(&mut self, rank: u64, id: u64) {
        if self.best.len() < self.query.wanted().limit {
            return self.best.push((rank, id));
        }
        // Connections stand mostly in the order of their numbers, so most of them come behind a full page.
        if self.best.peek().is_some_and(|last| (rank, id) < *last) {
            self.best.push((rank, id));
            self.best.pop();
        }
        // The number of the last one that stays.
        self.part.until = self.best.peek().map_or(0, |(_, id)| *id);
    }

    fn choose(&mut self) {
        let best = std::mem::take(&mut self.best).into_sorted_vec();
        // A list of rows that grows would move those that it has.
        self.part.rows.reserve_exact(best.len());
        self.chosen = Some(best.into_iter().rev().map(|(_, id)| id).collect());
    }
}

impl Shard {
    pub(in crate::shard) fn begin_listing(&mut self, query: Arc<ListingQuery>) {
        self.scans.listings.push_back(Walk::new(query));
    }

    /// Goes on with one listing. Returns true if there is more to do.
    pub(in crate::shard) fn go_on_listing(&mut self) -> bool {
        let Some(mut walk) = self.scans.listings.pop_front() else { return false };
        if walk.chosen.is_none() {
            self.look_through(&mut walk);
            self.scans.listings.push_back(walk);
        } else if self.tell_chosen(&mut walk) {
            walk.query.add(walk.part);
        } else {
            self.scans.listings.push_back(walk);
        }
        !self.scans.listings.is_empty()
    }

    fn look_through(&self, walk: &mut Walk) {
        let query = walk.query.clone();
        let wanted = query.wanted();
        let (mut cost, mut next) = (0, walk.next);
        while cost < LOOKED && next < self.conns.capacity() {
            let index = next;
            next += 1;
            let Some(conn) = self.conns.get(index) else {
                cost += 1;
                continue;
            };
            if !self.is_wanted(index as u32, conn, wanted, &mut cost) {
                continue;
            }
            let id = self.number_of(index as u32);
            match wanted.order {
                Order::After(after) => {
                    walk.part.count += 1;
                    if id > after {
                        walk.note(0, id);
                    }
                }
                Order::Slowest => {
                    let waiting = self.waiting(index as u32, conn);
                    // For a client that catches up, nothing may wait but in the history.
                    if waiting > 0 || conn.outbox.is_some() {
                        walk.part.count += 1;
                        walk.note(u64::MAX - waiting, id);
                    }
                }
            }
        }
        walk.next = next;
        if next >= self.conns.capacity() {
            walk.choose();
        }
    }

    /// Tells about some of the chosen connections that are still there. True: about all.
    fn tell_chosen(&self, walk: &mut Walk) -> bool {
        let Some(chosen) = &mut walk.chosen else { return true };
        let (query, mut cost) = (walk.query.clone(), 0);
        while cost < TOLD {
            let Some(id) = chosen.pop() else { break };
            let Some(index) = self.find(ConnectionId::from_number(id).token) else {
                cost += LOOK;
                continue;
            };
            // A proxy's connection may carry the request of another client by now.
            if self.is_wanted(index, &self.conns[index as usize], query.wanted(), &mut cost) {
                let row = self.listed(index);
                cost += TELL + row.as_ref().map_or(0, |row| row.names.len() * NAME);
                walk.part.rows.extend(row);
            }
        }
        chosen.is_empty()
    }

    /// Adds what it costs to find that out.
    fn is_wanted(&self, index: u32, conn: &Conn, wanted: &Wanted, cost: &mut usize) -> bool {
        *cost += LOOK;
        let has_user = |user: &str| conn.grant.as_ref().and_then(|grant| grant.user()).is_some_and(|of| **of == *user);
        if !wanted.user.as_deref().is_none_or(has_user) {
            return false;
        }
        if let Some((id, name)) = &wanted.channel {
            *cost += conn.subs.len() + conn.awaited().len() * COMPARE;
            if !self.has_channel(index, conn, *id, name) {
                return false;
            }
        }
        let Some(address) = wanted.address else { return true };
        *cost += ASK;
        self.client(index).address.peer() == Some(address)
    }

    /// Whether a connection is on a channel, or will be when it has caught up.
    fn has_channel(&self, index: u32, conn: &Conn, id: ChannelId, name: &str) -> bool {
        let is_same = self.subscriptions.channels.get(id).is_some_and(|local| *local.name == *name);
        (is_same && self.subscriptions.channels.is_on(conn, index, id))
            || conn.awaited().iter().any(|awaited| **awaited == *name)
    }

    /// The bytes that wait for a connection in this process.
    fn waiting(&self, index: u32, conn: &Conn) -> u64 {
        let in_outbox = conn.outbox.as_ref().map_or(0, |outbox| outbox.bytes());
        (in_outbox + self.side.sinks.held(index, conn.socket.as_ref())) as u64
    }

    fn listed(&self, index: u32) -> Option<Listed> {
        let conn = self.conns.get(index as usize)?;
        let awaited = conn.awaited();
        let mut names = self.subscriptions.channels.first_names(conn, MAX_NAMES);
        names.extend(awaited.iter().take(MAX_NAMES - names.len()).map(|name| Arc::from(&**name)));
        let since = conn.outbox.as_ref().map_or(self.turn.now, |outbox| outbox.since);
        Some(Listed {
            id: self.number_of(index),
            user: conn.grant.as_ref().and_then(|grant| grant.user()).cloned(),
            address: self.client(index).address.peer(),
            transport: conn.transport(),
            connected_ms: self
                .registry
                .arrivals
                .time_of(conn.generation)
                .map_or(0, |at| self.turn.now.saturating_sub(at)),
            adopted: conn.is(Flags::ADOPTED),
            channels: conn.subs.len() + awaited.len(),
            names,
            waiting: self.waiting(index, conn),
            behind_ms: self.turn.now.saturating_sub(since),
            catching_up: conn.outbox.as_ref().is_some_and(|outbox| outbox.catch_up.is_some()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ids: &[u64], until: u64) -> Found {
        let rows = ids.iter().map(|id| Listed { id: *id, ..Listed::default() }).collect();
        Found { rows, count: ids.len() as u64, until }
    }

    fn together(parts: Vec<Found>, limit: usize) -> (Vec<u64>, Option<u64>) {
        let wanted = Wanted { user: None, channel: None, address: None, order: Order::After(0), limit };
        let (told, hear) = std::sync::mpsc::channel();
        let query = Query::new(wanted, Box::new(move |found: Found| told.send(found).unwrap()));
        parts.into_iter().for_each(|part| query.add(part));
        drop(query);
        let page = hear.recv().unwrap().page(Order::After(0), limit);
        assert_eq!(page.more, page.next.is_some());
        (page.rows.iter().map(|row| row.id).collect(), page.next)
    }

    #[test]
    fn a_page_has_nothing_behind_the_end_of_a_shard_that_has_more() {
        const ALL: u64 = u64::MAX;
        assert_eq!(together(vec![found(&[], ALL), found(&[2, 1], ALL)], 2), (vec![1, 2], None));
        assert_eq!(together(vec![found(&[1, 3], 3), found(&[2, 4], ALL)], 2), (vec![1, 2], Some(2)));
        // Of the first shard only the number 5 is still there, and more may follow it.
        assert_eq!(together(vec![found(&[5], 5), found(&[10, 20], ALL)], 2), (vec![5], Some(5)));
        // All that were chosen have gone meanwhile.
        assert_eq!(together(vec![found(&[], 7), found(&[10], ALL)], 2), (vec![], Some(7)));
        assert_eq!(together(vec![found(&[1, 2, 3], 3), found(&[4, 5, 6], 6)], 3), (vec![1, 2, 3], Some(3)));
    }

    #[test]
    fn the_slowest_come_first_and_one_that_is_no_longer_slow_comes_last() {
        let mut all = found(&[1, 2, 3, 4], 2);
        for (row, waiting) in all.rows.iter_mut().zip([0, 7, 9, 7]) {
            row.waiting = waiting;
        }
        let page = all.page(Order::Slowest, 3);
        assert_eq!(page.rows.iter().map(|row| row.id).collect::<Vec<_>>(), [3, 2, 4]);
        assert_eq!((page.count, page.more, page.next), (4, true, None));
    }

    #[test]
    fn a_walk_keeps_the_first_of_a_page_and_says_where_it_ends() {
        let (told, hear) = std::sync::mpsc::channel();
        let wanted = Wanted { user: None, channel: None, address: None, order: Order::After(0), limit: 3 };
        let tell = Box::new(move |found: Found| told.send(found.until).unwrap());
        let mut walk = Walk::new(Arc::new(Query::new(wanted, tell)));
        for id in [3, 9, 5] {
            walk.note(0, id);
        }
        assert_eq!(walk.part.until, u64::MAX, "nothing was left out");
        for id in [4, 1, 8, 100] {
            walk.note(0, id);
        }
        walk.choose();
        assert_eq!((walk.chosen.take().unwrap(), walk.part.until), (vec![4, 3, 1], 4));
        // The shard ends, or panics: the asker is told nevertheless.
        drop(walk);
        assert_eq!(hear.recv(), Ok(u64::MAX));
    }
}
