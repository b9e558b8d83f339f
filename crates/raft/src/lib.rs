//! Agreement of Quorate: the Raft log, the state machine adapter, snapshots, the peer service,
//! forwarding and reads. It moves commands and decides nothing by what is in them.

pub mod types;
