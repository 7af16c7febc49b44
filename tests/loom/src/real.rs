pub(crate) type ChannelId = u32;

pub(crate) mod message {
    pub(crate) use crate::models::Message;
}

mod sync {
    pub(super) use crate::models::{ArrayQueue, CachePadded};
    pub(super) use loom::sync::atomic::{fence, AtomicBool, Ordering};
}

#[path = "../../../src/hub/mailbox.rs"]
#[allow(dead_code)]
pub(crate) mod mailbox;

mod the_mailbox {
    crate::scenarios!();

    #[test]
    fn loses_no_message_of_two_publishers() {
        two_publishers_and_a_shard();
    }

    #[test]
    fn loses_no_command() {
        a_command_beside_the_mailbox();
    }

    #[test]
    fn is_woken_once_for_each_sleep() {
        a_wake_up_for_one_sleep();
    }
}
