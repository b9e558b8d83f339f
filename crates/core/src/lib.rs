//! State and waiting of Quorate: domain types, the datum store, the watch index and long polls.
//!
//! This crate knows nothing of Raft, HTTP, gRPC or sockets, and reads no clock inside apply:
//! [`store::Store::apply`] is a pure function of (state, revision, command, leader's time), so that
//! every replica computes the same state and the same state hash.

pub mod command;
pub mod content;
pub mod crash;
pub mod key;
pub mod kind;
pub mod poll;
pub mod record;
pub mod store;
pub mod subscribe;
pub mod time;
pub mod watch;
