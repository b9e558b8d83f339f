//! The load generator: clients in a closed loop, or fed with arrivals at a fixed rate.
//!
//! Each thread runs its clients on a runtime of its own, so that nothing moves between cores. In
//! the open loop a latency counts from the moment the request was due, not from when a client was
//! free to send it: a server that stalls is charged for everything that queued up meanwhile.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::measure::{Spent, Window, histogram, micros};

const WARM_UP: u8 = 0;
const RECORD: u8 = 1;
const STOP: u8 = 2;
/// How long requests may still be on their way after the window.
const GRACE: Duration = Duration::from_secs(10);
/// Arrivals that may wait for one client; more are dropped and counted as errors.
const BACKLOG: usize = 4096;

/// Sends one request after the other.
pub(crate) trait Client: Send + 'static {
    /// One operation, from sending to a checked answer.
    fn call(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Connects the clients of one thread.
pub(crate) trait Fleet: Sync {
    type Client: Client;

    /// A client for each index; tasks that drive shared connections go into `drivers`.
    fn connect(
        &self,
        indices: &[usize],
        drivers: &mut JoinSet<()>,
    ) -> impl Future<Output = anyhow::Result<Vec<Self::Client>>>;
}

/// Keys in an order of their own for each client, and stamps that no other client uses.
pub(crate) struct Pick {
    state: u64,
    stamp: u64,
    keys: u64,
}

impl Pick {
    pub(crate) fn new(client: usize, keys: u64) -> Self {
        let client = client as u64 + 1;
        let since_epoch = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        // Stamps have sixteen digits: four for the client, the others for time and count, so that
        // no window repeats the values of an earlier one.
        let stamp = client * 1_000_000_000_000 + since_epoch.as_secs() % 10_000 * 100_000_000;
        Self { state: client.wrapping_mul(0x9E37_79B9_7F4A_7C15), stamp, keys: keys.max(1) }
    }

    /// A key below the number of keys, and a stamp.
    pub(crate) fn next(&mut self) -> (u64, u64) {
        // xorshift64: cheap, and good enough to spread keys.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.stamp += 1;
        (self.state % self.keys, self.stamp)
    }
}

/// How much load, and for how long.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) clients: usize,
    pub(crate) threads: usize,
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
    /// Arrivals a second; `None` is a closed loop.
    pub(crate) rate: Option<u32>,
}

/// When a request was due, and whether it counts.
#[derive(Clone, Copy)]
struct Arrival {
    due: Instant,
    counts: bool,
}

struct Tally {
    phase: Arc<AtomicU8>,
    latencies: Mutex<Histogram<u64>>,
    errors: AtomicU64,
}

impl Tally {
    fn note(&self, outcome: &anyhow::Result<()>, latency: Duration) {
        if outcome.is_ok() {
            // Within bounds by construction; two minutes would have tripped everything else.
            self.latencies.lock().saturating_record(micros(latency));
        } else {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Connects all clients, loads for the warm-up and the window, and returns what was measured.
/// `spent` reads the servers' counters; it is called at both ends of the window.
pub(crate) fn run<F: Fleet>(
    plan: &Plan,
    fleet: &F,
    spent: impl Fn() -> anyhow::Result<Spent>,
) -> anyhow::Result<Window> {
    let threads = plan.threads.clamp(1, plan.clients.max(1));
    let phase = Arc::new(AtomicU8::new(WARM_UP));
    let gate = Barrier::new(threads + 1);
    let mut feeds = Vec::new();
    let mut queues = Vec::new();
    for _ in 0..threads {
        let indices: Vec<usize> = (queues.len()..plan.clients).step_by(threads).collect();
        let mut queue = Vec::new();
        for _ in plan.rate.iter().flat_map(|_| &indices) {
            let (feed, arrivals) = mpsc::channel(BACKLOG);
            feeds.push(feed);
            queue.push(arrivals);
        }
        queues.push((indices, queue));
    }
    std::thread::scope(|scope| {
        let mut workers = Vec::new();
        for (indices, queue) in queues {
            let tally = Arc::new(Tally {
                phase: Arc::clone(&phase),
                latencies: Mutex::new(histogram()?),
                errors: AtomicU64::new(0),
            });
            let gate = &gate;
            let kept = Arc::clone(&tally);
            workers.push((kept, scope.spawn(move || work(fleet, &indices, queue, &tally, gate))));
        }
        gate.wait();
        let timed = time(plan, &phase, feeds, spent);
        // Also when reading the counters failed: the threads must end.
        phase.store(STOP, Ordering::Relaxed);
        let mut latencies = histogram()?;
        let mut errors = 0;
        for (tally, worker) in workers {
            worker.join().map_err(|_| anyhow::anyhow!("a load thread panicked"))??;
            latencies.add(&*tally.latencies.lock())?;
            errors += tally.errors.load(Ordering::Relaxed);
        }
        let (elapsed, spent, dropped) = timed?;
        Ok(Window { elapsed, latencies, errors: errors + dropped, spent })
    })
}

/// Moves through the phases; returns the window's length, what it cost and the arrivals dropped.
fn time(
    plan: &Plan,
    phase: &AtomicU8,
    feeds: Vec<mpsc::Sender<Arrival>>,
    spent: impl Fn() -> anyhow::Result<Spent>,
) -> anyhow::Result<(Duration, Spent, u64)> {
    pace(plan, &feeds, plan.warm_up, false);
    let before = spent()?;
    phase.store(RECORD, Ordering::Relaxed);
    let begun = Instant::now();
    let dropped = pace(plan, &feeds, plan.window, true);
    phase.store(STOP, Ordering::Relaxed);
    let elapsed = begun.elapsed();
    drop(feeds);
    let after = spent()?;
    let fsyncs = after.fsyncs.zip(before.fsyncs).map(|(after, before)| after - before);
    let cpu = after.cpu.saturating_sub(before.cpu);
    Ok((elapsed, Spent { cpu, fsyncs, rss_bytes: after.rss_bytes }, dropped))
}

/// Lets `length` pass, sending arrivals round robin when there is a rate; returns how many found
/// the queue of their client full.
fn pace(plan: &Plan, feeds: &[mpsc::Sender<Arrival>], length: Duration, counts: bool) -> u64 {
    let begun = Instant::now();
    let Some(rate) = plan.rate.filter(|rate| *rate > 0 && !feeds.is_empty()) else {
        std::thread::sleep(length);
        return 0;
    };
    let mut dropped = 0;
    for (count, feed) in (0_u32..).zip(feeds.iter().cycle()) {
        let due = begun + Duration::from_secs_f64(f64::from(count) / f64::from(rate));
        if due >= begun + length {
            break;
        }
        // The system's own timer is exact to some 50 µs, tokio's to a millisecond.
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if feed.try_send(Arrival { due, counts }).is_err() {
            dropped += 1;
        }
    }
    dropped
}

/// One thread: connects its clients, waits for the others, runs until the phase says stop.
fn work<F: Fleet>(
    fleet: &F,
    indices: &[usize],
    queue: Vec<mpsc::Receiver<Arrival>>,
    tally: &Arc<Tally>,
    gate: &Barrier,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let mut drivers = JoinSet::new();
    let connected = runtime
        .as_ref()
        .map(|runtime| runtime.block_on(async { fleet.connect(indices, &mut drivers).await }));
    // Whatever happened: the others wait for this thread.
    gate.wait();
    let clients = connected.ok().context("no runtime")?.context("connecting the clients")?;
    let runtime = runtime?;
    runtime.block_on(async {
        let mut loops = JoinSet::new();
        let mut queue = queue.into_iter();
        for client in clients {
            let tally = Arc::clone(tally);
            match queue.next() {
                Some(arrivals) => loops.spawn(open_loop(client, arrivals, tally)),
                None => loops.spawn(closed_loop(client, tally)),
            };
        }
        while tally.phase.load(Ordering::Relaxed) != STOP && !loops.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let drained = async { while loops.join_next().await.is_some() {} };
        let in_time = tokio::time::timeout(GRACE, drained).await.is_ok();
        if !in_time {
            // What never came back counts.
            tally.errors.fetch_add(loops.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    })
}

async fn closed_loop(mut client: impl Client, tally: Arc<Tally>) {
    while tally.phase.load(Ordering::Relaxed) != STOP {
        let begun = Instant::now();
        let outcome = client.call().await;
        if tally.phase.load(Ordering::Relaxed) == RECORD {
            tally.note(&outcome, begun.elapsed());
        }
        rest_after_error(&outcome).await;
    }
}

async fn open_loop(
    mut client: impl Client,
    mut arrivals: mpsc::Receiver<Arrival>,
    tally: Arc<Tally>,
) {
    while let Some(arrival) = arrivals.recv().await {
        let outcome = client.call().await;
        if arrival.counts {
            tally.note(&outcome, arrival.due.elapsed());
        }
        rest_after_error(&outcome).await;
    }
}

/// A server that refuses at once must not be asked in a tight loop.
async fn rest_after_error(outcome: &anyhow::Result<()>) {
    if outcome.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
