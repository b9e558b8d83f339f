//! What is measured, for how long and against whom.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::cluster::Kind;

/// One group of figures.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Writes spread over all three nodes.
    Publish,
    /// Reads from one node.
    Get,
    /// Held long polls, and one publish that answers many of them.
    Poll,
    /// Reads, publishes and listeners over gRPC.
    Grpc,
    /// Time from exec to the first correct read, and the memory after it.
    Start,
    /// Publishes while snapshots of a large state are built.
    Snapshot,
    /// The gap in writes when the leader is stopped and when it is killed.
    Handover,
    /// All of these, one after the other.
    All,
    /// Serves the echo baseline; the benchmark starts itself like this.
    #[value(hide = true)]
    Echo,
}

/// Load against Quorate and its baselines, by turns, medians over the rounds.
#[derive(Parser)]
#[command(name = "bench")]
pub(crate) struct Options {
    /// What to measure; `all` when cargo bench names none.
    #[arg(value_enum)]
    scenario: Option<Scenario>,
    /// Passed by cargo bench.
    #[arg(long, hide = true)]
    bench: bool,
    /// Length of one measured window, in seconds.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Load before each window that is not counted, in seconds.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Windows for each system and load; the median is printed.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
    /// Systems to measure; absent: each that is found.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) systems: Vec<Kind>,
    /// Threads of the load generator.
    #[arg(long, default_value_t = 2)]
    pub(crate) threads: usize,
    /// Connections of the closed-loop publishes.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256])]
    pub(crate) clients: Vec<usize>,
    /// Bytes of a published value.
    #[arg(long, value_delimiter = ',', default_values_t = [128, 4096])]
    pub(crate) sizes: Vec<usize>,
    /// Different keys that are written and read.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) keys: u64,
    /// Arrivals a second of the open-loop publishes (64 connections); 0 leaves them out.
    #[arg(long, default_value_t = 1000)]
    pub(crate) publish_rate: u32,
    /// Arrivals a second of the open-loop gets (64 connections); 0 leaves them out.
    #[arg(long, default_value_t = 5000)]
    pub(crate) get_rate: u32,
    /// Held polls; absent: the limit of open files less 2000.
    #[arg(long)]
    pub(crate) polls: Option<usize>,
    /// Waiters for one key in the fan-out.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) waiters: usize,
    /// How long the held polls are watched while nothing happens, in seconds.
    #[arg(long, default_value_t = 10.0)]
    idle_seconds: f64,
    /// Configs of the large start.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) configs: u64,
    /// Mebibytes of configurations that are snapshotted.
    #[arg(long, default_value_t = 1024)]
    pub(crate) state_mib: u64,
    /// Mebibytes that are written before that, over and over.
    #[arg(long, default_value_t = 2560)]
    pub(crate) written_mib: u64,
    /// Where the data directories go; a tmpfs would make every fsync free.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Keep the data directories and logs of the servers.
    #[arg(long)]
    pub(crate) keep: bool,
}

impl Options {
    /// The scenario to run; `None` when a test run built this target without wanting figures.
    pub(crate) fn scenario_to_run(&self) -> Option<Scenario> {
        self.scenario.or(self.bench.then_some(Scenario::All))
    }

    pub(crate) fn window(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.max(0.1))
    }

    pub(crate) fn warm_up(&self) -> Duration {
        Duration::from_secs_f64(self.warm_up.max(0.0))
    }

    pub(crate) fn idle(&self) -> Duration {
        Duration::from_secs_f64(self.idle_seconds.max(0.1))
    }

    /// Whether this system was asked for; absence of its binary is found out later.
    pub(crate) fn wants(&self, kind: Kind) -> bool {
        self.systems.is_empty() || self.systems.contains(&kind)
    }
}
