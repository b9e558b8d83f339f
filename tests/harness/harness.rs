//! Real nodes for tests: each is a child process of the built binary, on a loopback address and
//! in a directory of its own, and dies with the test.
//!
//! A test target takes it in with `#[path = "../harness/harness.rs"] mod harness;`. When a test
//! fails, the end of each node's log is printed and its directory is kept.

#![allow(dead_code, unused_imports, reason = "each target uses its own part of the harness")]

#[path = "address.rs"]
mod address;
#[path = "client.rs"]
mod client;
#[path = "cluster.rs"]
mod cluster;
#[path = "command.rs"]
mod command;
#[path = "connection.rs"]
mod connection;
#[path = "grpc.rs"]
mod grpc;
#[path = "node.rs"]
mod node;
#[path = "seed.rs"]
mod seed;
#[path = "state.rs"]
mod state;
#[path = "wait.rs"]
mod wait;
#[path = "writers.rs"]
mod writers;

pub(crate) use address::free_addresses;
pub(crate) use client::{Answer, Client, Key, Outcome, Probe, Read};
pub(crate) use cluster::Cluster;
pub(crate) use command::{Printed, cluster, cluster_status, quorate};
pub(crate) use grpc::{GrpcClient, Told, payload};
pub(crate) use node::{Node, Options, QUORATE, signal};
pub(crate) use seed::Seed;
pub(crate) use state::{PeerState, RaftState, Role};
pub(crate) use wait::{READY, stays, wait_until, within};
pub(crate) use writers::{History, Writers};
