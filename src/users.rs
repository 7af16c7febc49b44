//! Presence: the users on a channel, page by page.

use crate::engine::Hubs;
use crate::error::Error;
use crate::hub::{check_channel, check_text};
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

impl Users {
    /// Counts the users of connections, and lists those after `after`. `named` has the user of each connection that has
    /// one, in any order.
    pub(crate) fn count(mut named: Vec<Arc<str>>, anonymous: usize, after: &str, limit: usize) -> Self {
        named.sort_unstable();
        let connections = (named.len() + anonymous) as u64;
        let mut users = Users { connections, anonymous: anonymous as u64, ..Users::default() };
        for same in named.chunk_by(|a, b| a == b) {
            users.count += 1;
            if *same[0] <= *after {
                continue;
            }
            if users.page.len() == limit {
                users.more = true;
            } else {
                users.page.push(User { name: same[0].clone(), connections: same.len() as u64 });
            }
        }
        users
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

    fn named(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    /// The page as one line of text.
    fn page(names: &[&str], after: &str, limit: usize) -> String {
        let users = Users::count(named(names), 7, after, limit);
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
        let mut expected = all.clone();
        expected.sort();
        for limit in [1, 3, 499, 500, 501] {
            let (mut seen, mut after) = (Vec::new(), String::new());
            loop {
                let named = all.iter().map(|name| Arc::from(name.as_str())).collect();
                let users = Users::count(named, 0, &after, limit);
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
    fn wrong_arguments_are_refused() {
        let long = "x".repeat(256);
        assert!(check("c", "", 0).is_ok() && check("c", &long[1..], MAX_USERS).is_ok());
        for (channel, after, limit) in [("", "", 1), (&*long, "", 1), ("c", &*long, 1), ("c", "\n", 1)] {
            assert!(check(channel, after, limit).is_err());
        }
        assert!(check("c", "", MAX_USERS + 1).unwrap_err().to_string().contains("limit: 10001"));
    }
}
