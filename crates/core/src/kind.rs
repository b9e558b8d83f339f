//! Kinds of data, one module each: its values, its apply, its rows on disk and in snapshots.
//!
//! Adding a kind touches its module, its variants in [`crate::command::Command`] and the two
//! matches in [`crate::store`] that route commands and rows.

pub mod cluster;
pub mod config;
pub mod gray;
pub mod history;
pub mod namespace;
pub mod origin;
