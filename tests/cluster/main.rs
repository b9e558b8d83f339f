//! Does the binary keep its word? Real processes that are killed, stopped, damaged and started
//! again, seen from outside only.

#![cfg(test)]

#[path = "../harness/harness.rs"]
mod harness;

mod away;
mod backup;
mod crash;
mod damage;
mod disk;
mod endurance;
mod failure;
mod form;
mod grpc;
mod identity;
mod listeners;
mod membership;
mod past;
mod patterns;
mod poll;
mod process;
mod read;
mod settings;
mod upgrade;
mod vote;
