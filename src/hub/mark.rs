//! Marks: the beginning and the end of a channel's stream. A mark is published, numbered, kept and delivered as a message
//! is. So it comes to each subscriber in its place among the messages, and every hub of a log shows it.

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A new stream begins. What the channel had before is no longer in its history.
    Begin,
    /// Nothing more will come, until the channel begins anew or somebody publishes to it.
    End,
}

impl Mark {
    /// Its word in the objects that clients get.
    pub fn word(self) -> &'static str {
        match self {
            Mark::Begin => "begin",
            Mark::End => "end",
        }
    }

    /// The name of its event for an EventSource.
    pub fn event(self) -> &'static str {
        match self {
            Mark::Begin => "push-begin",
            Mark::End => "push-end",
        }
    }
}
