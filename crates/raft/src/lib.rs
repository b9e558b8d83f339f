//! Agreement of Quorate: the Raft log, the state machine adapter, snapshots, the peer service,
//! forwarding and reads. It moves commands and decides nothing by what is in them.

pub mod ask;
pub mod backup;
pub mod check;
pub mod error;
mod forward;
pub mod host;
pub mod identity;
mod leader;
pub mod log;
mod machine;
mod maintain;
pub mod membership;
mod met;
mod metrics;
pub mod node;
mod peer;
mod pending;
mod progress;
mod propose;
mod read;
pub mod restore;
pub mod snapshot;
pub mod start;
pub mod status;
pub mod trim;
pub mod types;
pub mod verify;
