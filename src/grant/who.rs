//! The user of a grant, and what the others on a channel are told of it.

use crate::error::Error;
use crate::hub::check_text;
use std::sync::Arc;

/// The longest `info` of a grant, in bytes.
pub const MAX_INFO: usize = 1024;

/// A user, with an info or without. Most users have none, and it takes no room in their grants: this is as large as
/// `Option<Arc<str>>`. The null pointer, which an `Arc` never is, stands for the second variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Who {
    Named(Arc<str>),
    /// A user with an info, or nobody.
    Other(Option<Arc<Informed>>),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Informed {
    user: Arc<str>,
    info: Box<str>,
}

impl Who {
    pub(super) fn nobody() -> Self {
        Who::Other(None)
    }

    pub(super) fn checked(user: Option<&str>, info: Option<&str>) -> Result<Self, Error> {
        let Some(user) = user else {
            return match info {
                None => Ok(Who::nobody()),
                Some(_) => Err(Error::invalid("info: it is about a user, and the grant has none")),
            };
        };
        check_text("user", user, 255)?;
        let Some(info) = info else { return Ok(Who::Named(user.into())) };
        check_text("info", info, MAX_INFO)?;
        Ok(Who::Other(Some(Arc::new(Informed { user: user.into(), info: info.into() }))))
    }

    pub(super) fn user(&self) -> Option<&Arc<str>> {
        match self {
            Who::Named(user) => Some(user),
            Who::Other(informed) => informed.as_ref().map(|informed| &informed.user),
        }
    }

    pub(super) fn info(&self) -> Option<&str> {
        match self {
            Who::Named(_) => None,
            Who::Other(informed) => informed.as_ref().map(|informed| &*informed.info),
        }
    }
}
