//! What a seed decides before anything runs: how many nodes and clients, for how long, and which
//! faults how often.

use std::time::Duration;

use crate::random::Random;

/// A fault that lasts for a while or happens at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The nodes fall into two halves that do not hear each other.
    Partition,
    /// One node is heard by nobody, or hears nobody.
    OneWay,
    /// Links become slow.
    Slow,
    /// Links lose packets.
    Lossy,
    /// Calls of one message and forwarded proposals come twice.
    Doubled,
    /// All connections between two nodes break.
    Reset,
    /// A node is killed and started again.
    Crash,
    /// Several or all nodes are killed at once.
    PowerLoss,
    /// A node is stopped as an operator does it, and started again.
    Stop,
    /// A node's process is stopped and continued.
    Pause,
    /// A node's wall clock jumps.
    ClockJump,
    /// A node's disk takes no writes.
    DiskFull,
    /// A node's disk takes no new files.
    DiskNearlyFull,
    /// A node's sync returns EIO, which ends the node.
    SyncFails,
    /// A node's syncs take long.
    SlowDisk,
    /// A bit of a node's log turns while it is down: it must refuse to start.
    BitFlip,
}

const ALL: [Fault; 16] = [
    Fault::Partition,
    Fault::OneWay,
    Fault::Slow,
    Fault::Lossy,
    Fault::Doubled,
    Fault::Reset,
    Fault::Crash,
    Fault::PowerLoss,
    Fault::Stop,
    Fault::Pause,
    Fault::ClockJump,
    Fault::DiskFull,
    Fault::DiskNearlyFull,
    Fault::SyncFails,
    Fault::SlowDisk,
    Fault::BitFlip,
];

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) keys: usize,
    pub(crate) writers: usize,
    pub(crate) readers: usize,
    pub(crate) listeners: usize,
    /// How long clients write and faults happen.
    pub(crate) safety: Duration,
    /// Faults that may happen, some of them more than once in the list.
    pub(crate) faults: Vec<Fault>,
    /// Milliseconds between two faults, at least and at most.
    pub(crate) fault_pause: (u64, u64),
    /// Milliseconds between two operations of a client, at least and at most.
    pub(crate) think: (u64, u64),
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let random = &mut Random::new(seed, "plan");
        // A few kinds in each run, so that they meet each other in all combinations.
        let kinds = random.within(2..7);
        let mut faults: Vec<Fault> = (0..kinds).map(|_| *random.pick(&ALL)).collect();
        faults.push(*random.pick(&[Fault::Crash, Fault::Partition, Fault::PowerLoss]));
        let least = random.within(100..1500);
        Self {
            nodes: if random.per_mille(250) { 5 } else { 3 },
            keys: random.count(3..7),
            writers: random.count(3..6),
            readers: random.count(2..5),
            listeners: random.count(4..9),
            safety: random.millis(7_000..18_000),
            faults,
            fault_pause: (least, least + random.within(300..3000)),
            think: (5, random.within(60..250)),
        }
    }
}
