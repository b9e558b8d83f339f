//! What clients can do, one function each, whatever the dialect they speak: a typed request in,
//! a typed answer or a [`Failure`](crate::failure::Failure) out.

pub(crate) mod config;
pub(crate) mod listen;
