pub(crate) type ChannelId = u32;

pub(crate) mod message {
    pub(crate) use crate::models::Message;
}

mod sync {
    pub(super) use crate::models::{ArrayQueue, CachePadded};
    pub(super) use loom::sync::atomic::{AtomicBool, Ordering};

    /// The planted bug: a fence that does nothing.
    pub(super) fn fence(_: Ordering) {}
}

#[path = "../../../src/hub/mailbox.rs"]
#[allow(dead_code)]
pub(crate) mod mailbox;

/// Proves that the tests can fail.
#[allow(dead_code)]
mod without_its_fence {
    crate::scenarios!();

    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_message_is_never_taken() {
        two_publishers_and_a_shard();
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_command_is_never_seen() {
        a_command_beside_the_mailbox();
    }
}
