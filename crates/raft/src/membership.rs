//! Who takes part: founding, joining, being told of each other, and changing the members.
//!
//! Changes are made by the leader alone, one at a time, under one lock; a change that another
//! leader made meanwhile is noticed by the log id of the members it was based on.

mod change;
mod founding;
mod hello;
mod join;
mod tend;

pub use self::change::{Change, MembershipError};
pub(crate) use self::hello::Myself;
pub(crate) use self::tend::Tending;

/// What this release can apply. Level 1 is release 0.1; 2 adds the feature level itself, retired
/// nodes and checkpoints; 3 history, gray releases, namespaces and atomic changes.
pub const FEATURE_LEVEL: u32 = 3;
