//! Presence: the users on a channel, page by page.

mod sorted;

use crate::engine::Hubs;
use crate::error::Error;
use crate::hub::{check_channel, check_text};
pub(crate) use sorted::{Sorted, AT_ONCE};
use std::sync::Arc;

/// The most users on one page.
pub const MAX_USERS: usize = 10_000;

/// One of a channel's users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user's name, from the grant or token.
    pub name: Arc<str>,
    /// The number of connections that this user has on the channel.
    pub connections: u64,
}

/// A page of a channel's users, and counts of all users and connections on the channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users {
    /// The users of this page, sorted by the bytes of their names.
    pub page: Vec<User>,
    /// Whether there are more users after this page.
    pub more: bool,
    /// The number of all users.
    pub count: u64,
    /// The number of all connections, with and without a user.
    pub connections: u64,
    /// The number of connections without a user.
    pub anonymous: u64,
    /// The hubs that have answered, if hubs share a log. The counts are of these.
    pub hubs: Option<Box<Hubs>>,
}

/// Users of connections, one for each connection, in no order: in several lists, as they were found.
pub(crate) type Named = Vec<Vec<Arc<str>>>;

/// A count of the users of connections that goes on in steps: there may be a million connections, and others wait for the
/// same thread.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    names: Sorted<Arc<str>>,
    counted: Counted,
}

/// What is counted so far.
#[derive(Debug, Default)]
struct Counted {
    after: Box<str>,
    limit: usize,
    /// The user who was counted last.
    last: Option<Arc<str>>,
    users: Users,
}

impl Counting {
    /// Counts users, and lists at most `limit` of those after `after`. `anonymous`: the connections without one.
    pub(crate) fn new(named: Named, anonymous: usize, after: &str, limit: usize) -> Self {
        let connections = (named.iter().map(Vec::len).sum::<usize>() + anonymous) as u64;
        let users = Users { connections, anonymous: anonymous as u64, ..Users::default() };
        let mut names = Sorted::default();
        named.into_iter().for_each(|some| names.add(some));
        Counting { names, counted: Counted { after: after.into(), limit, last: None, users } }
    }

    /// Goes on. Returns true if there is more to do.
    pub(crate) fn step(&mut self) -> bool {
        self.names.step(|name| self.counted.note(name))
    }

    /// The users, after the last step.
    pub(crate) fn end(self) -> Users {
        self.counted.users
    }

    /// The users, in one go.
    pub(crate) fn all(mut self) -> Users {
        while self.step() {}
        self.end()
    }
}

impl Counted {
    /// Counts a connection of the next user, or one more of the last one.
    fn note(&mut self, name: Arc<str>) {
        let page = &mut self.users.page;
        if self.last.as_ref() == Some(&name) {
            if let Some(user) = page.last_mut().filter(|user| user.name == name) {
                user.connections += 1;
            }
            return;
        }
        self.users.count += 1;
        if *name > *self.after {
            if page.len() == self.limit {
                self.users.more = true;
            } else {
                page.push(User { name: name.clone(), connections: 1 });
            }
        }
        self.last = Some(name);
    }
}

/// Checks the arguments of a presence query.
pub(crate) fn check(channel: &str, after: &str, limit: usize) -> Result<(), Error> {
    check_channel(channel)?;
    if !after.is_empty() {
        check_text("after", after, 255)?;
    }
    if limit > MAX_USERS {
        return Err(Error::invalid(format!("limit: {limit}; at most {MAX_USERS} are allowed")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(names: &[&str], anonymous: usize, after: &str, limit: usize) -> Users {
        let named = names.chunks(5).map(|some| some.iter().map(|name| Arc::from(*name)).collect()).collect();
        Counting::new(named, anonymous, after, limit).all()
    }

    /// The page as one line of text.
    fn page(names: &[&str], after: &str, limit: usize) -> String {
        let users = count(names, 7, after, limit);
        assert_eq!((users.anonymous, users.connections), (7, names.len() as u64 + 7));
        let listed: Vec<_> = users.page.iter().map(|user| format!("{}:{}", user.name, user.connections)).collect();
        format!("{} of {}, more: {}", listed.join(" "), users.count, users.more)
    }

    #[test]
    fn users_are_counted_and_sorted_by_name() {
        let names = ["c", "a", "c", "b", "\u{fc}", "c", "B"];
        assert_eq!(page(&names, "", 10), "B:1 a:1 b:1 c:3 \u{fc}:1 of 5, more: false");
        assert_eq!(page(&names, "", 5), "B:1 a:1 b:1 c:3 \u{fc}:1 of 5, more: false");
        assert_eq!(page(&names, "", 4), "B:1 a:1 b:1 c:3 of 5, more: true");
        assert_eq!(page(&names, "a", 1), "b:1 of 5, more: true");
        assert_eq!(page(&names, "aa", 1), "b:1 of 5, more: true", "after a user that has gone");
        assert_eq!(page(&names, "c", 9), "\u{fc}:1 of 5, more: false");
        assert_eq!(page(&names, "\u{fc}", 9), " of 5, more: false");
        assert_eq!(page(&names, "", 0), " of 5, more: true");
        assert_eq!(page(&names, "\u{fc}", 0), " of 5, more: false");
        assert_eq!(page(&[], "", 0), " of 0, more: false");
    }

    #[test]
    fn each_user_is_on_exactly_one_page() {
        let all: Vec<String> = (0..500).map(|number| format!("u{}", number * 7919 % 500)).collect();
        let names: Vec<&str> = all.iter().map(|name| &**name).collect();
        let mut expected = all.clone();
        expected.sort();
        for limit in [1, 3, 499, 500, 501] {
            let (mut seen, mut after) = (Vec::new(), String::new());
            loop {
                let users = count(&names, 0, &after, limit);
                seen.extend(users.page.iter().map(|user| user.name.to_string()));
                after.clone_from(seen.last().unwrap());
                if !users.more {
                    break;
                }
            }
            assert_eq!(seen, expected, "pages of {limit}");
        }
    }

    #[test]
    fn a_large_count_is_made_in_many_short_steps() {
        let all: Vec<String> = (0..100).map(|number| format!("u{:02}", number * 7919 % 40)).collect();
        let named = vec![all.iter().map(|name| Arc::from(name.as_str())).collect()];
        let mut counting = Counting::new(named, 2, "u05", 20);
        let mut steps = 1;
        while counting.step() {
            steps += 1;
        }
        // Each name is sorted once, and counted once.
        assert!((2 * 100 / AT_ONCE..2 * 100 / AT_ONCE + 4).contains(&steps), "{steps}");
        let users = counting.end();
        let expected = |name: &str| all.iter().filter(|one| *one == name).count() as u64;
        assert!(users.page.iter().all(|user| user.connections == expected(&user.name)), "{:?}", users.page);
        assert_eq!((users.count, users.connections, users.page.len(), users.more), (40, 102, 20, true));
        assert_eq!((&*users.page[0].name, &*users.page[19].name), ("u06", "u25"));
    }

    #[test]
    fn wrong_arguments_are_refused() {
        let long = "x".repeat(256);
        assert!(check("c", "", 0).is_ok() && check("c", &long[1..], MAX_USERS).is_ok());
        for (channel, after, limit) in [("", "", 1), (&*long, "", 1), ("c", &*long, 1), ("c", "\n", 1)] {
            assert!(check(channel, after, limit).is_err());
        }
        assert!(check("c", "", MAX_USERS + 1).unwrap_err().to_string().contains("limit: 10001"));
    }
}
