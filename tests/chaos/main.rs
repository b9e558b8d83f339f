//! The promises of the simulation over real processes: nodes in network namespaces of their own are
//! killed, stopped, cut off and filled up while clients write, read and listen (README.md beside
//! this file). `QUORATE_CHAOS_SECONDS=600` runs longer, `QUORATE_SEED=7` chooses the same faults.

#![cfg(test)]

mod client;
mod faults;
#[path = "../harness/harness.rs"]
mod harness;
#[path = "../simulation/history.rs"]
mod history;
mod judge;
#[path = "../simulation/invariant/linearizable.rs"]
mod linearizable;
mod listener;
mod net;
#[path = "../simulation/invariant/phantom.rs"]
mod phantom;
mod world;

use std::process::Command;
use std::time::Duration;

/// Set in the process that has namespaces of its own.
const INSIDE: &str = "QUORATE_CHAOS_INSIDE";

/// Runs this test once more inside fresh namespaces, which end with it and take along all that was
/// made in them.
#[test]
fn promises_hold_over_real_processes() {
    if std::env::var_os(INSIDE).is_some() {
        return world::run(seconds());
    }
    if let Some(why) = net::cannot() {
        println!("SKIP chaos: {why}");
        return;
    }
    let own = std::env::current_exe().expect("this test");
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .arg(own)
        .args(["--nocapture", "--exact", "promises_hold_over_real_processes"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare runs");
    assert!(status.success(), "the run inside ended with {status}");
}

/// How long faults go on.
fn seconds() -> Duration {
    let seconds = std::env::var("QUORATE_CHAOS_SECONDS").ok();
    Duration::from_secs(seconds.map_or(60, |text| text.parse().expect("a number of seconds")))
}
