//! Agreement of Quorate: the Raft log, the state machine adapter, snapshots, the peer service,
//! forwarding and reads. It moves commands and decides nothing by what is in them.

pub mod types;
pub mod identity;
pub mod error;
pub mod status;
pub mod start;
pub mod node;
mod propose;
mod pending;
mod forward;
mod read;
mod progress;
mod leader;
mod machine;
pub mod log;
pub mod snapshot;
mod peer;
mod membership;
mod maintain;
mod metrics;
