//! What can go wrong, named by what the caller can do about it.

use std::time::Duration;

/// A write that did not end with a reply of apply.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// No leader was known until the deadline. Nothing was written: try again.
    #[error("no leader")]
    NoLeader,
    /// Too many proposals of this node are open. Nothing was written: back off.
    #[error("more than {limit} proposals are open")]
    Overloaded {
        /// Most open proposals.
        limit: usize,
    },
    /// The leader's disk has no room. Nothing was written: try again when there is.
    #[error("disk full")]
    DiskFull,
    /// A leader took it but no majority confirmed it within the deadline. It may still commit:
    /// read before repeating.
    #[error("no majority within {waited:?}")]
    NoMajority {
        /// How long the caller waited.
        waited: Duration,
    },
    /// The leader was lost, or this node did not apply it in time. It may have committed: read
    /// before repeating.
    #[error("outcome unknown after {waited:?}")]
    OutcomeUnknown {
        /// How long the caller waited.
        waited: Duration,
    },
    /// This node is stopping or has stopped. Nothing is known of the write.
    #[error("node is stopping")]
    Stopped,
}

/// A read that this node may not answer from its own state.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No leader confirmed a read index within the deadline.
    #[error("no leader confirmed the read within {waited:?}")]
    NoLeader {
        /// How long the caller waited.
        waited: Duration,
    },
    /// This node has not applied the wanted revision within the deadline.
    #[error("revision {wanted} not applied within {waited:?}, this node is at {applied}")]
    Behind {
        /// The revision asked for.
        wanted: u64,
        /// What this node has applied.
        applied: u64,
        /// How long the caller waited.
        waited: Duration,
    },
    /// This node is stopping.
    #[error("node is stopping")]
    Stopped,
}
