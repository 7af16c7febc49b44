//! Calls about users' own channels (option `user_channel`).

use super::Server;
use crate::error::Error;
use crate::grant::Grant;
use crate::hub::{channel_of_user, Placed, Publication};
use crate::log::Level;

impl Server {
    /// Publishes one message to all connections of a user; see `push_publish_user`. Its channel is that of the user, so
    /// the one in `publication` does not count.
    pub fn publish_user(&self, user: &str, publication: &Publication<'_>) -> Result<Placed, Error> {
        let channel = channel_of_user(user)?;
        self.publish(&Publication { channel: &channel, to_user: true, ..*publication })
    }

    /// Publishes one message to all connections of a user without waiting for its position.
    pub fn post_user(&self, user: &str, publication: &Publication<'_>) -> Result<(), Error> {
        let channel = channel_of_user(user)?;
        self.post(&Publication { channel: &channel, to_user: true, ..*publication })
    }

    /// Refuses a grant that names what is not the host's to give. A caller gets only a status, so the log says why.
    pub(super) fn check_names(&self, grant: &Grant) -> Result<(), Error> {
        if !self.users_have_channels() {
            return Ok(());
        }
        grant.check_names().inspect_err(|error| {
            self.log().limited(Level::Warn, "grant", format_args!("a grant of the host is refused: {error}"));
        })
    }
}
