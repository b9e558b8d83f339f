//! One run: nodes, clients, faults; then peace, and the judgement.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::harness::{Client, Key, Node, Options, READY, Seed, wait_until};
use crate::history::History;
use crate::{client, faults, judge, listener, net};

pub(crate) const NODES: usize = 3;
const WRITERS: usize = 6;
const READERS: usize = 3;
const LISTENERS: usize = 12;
/// Keys that are written from the beginning to the end; the others take turns.
pub(crate) const LASTING: usize = 4;
/// Keys in use at one time.
pub(crate) const KEYS_AT_ONCE: usize = 12;
/// So that the history of one key stays short enough to be searched.
const TURN: Duration = Duration::from_secs(4);
/// The node whose disk is small, and how small it is.
pub(crate) const SMALL_DISK: usize = 2;
const SMALL_DISK_BYTES: &str = "96m";
/// The least that must go on, each second: a run in which nothing happens proves nothing.
const LEAST_WRITES: u64 = 10;
const LEAST_READS: u64 = 10;
const LEAST_NEWS: u64 = 2;

/// What all clients share.
pub(crate) struct World {
    pub(crate) clients: Vec<Client>,
    pub(crate) history: Mutex<History>,
    /// What each listener believes of each key it follows.
    pub(crate) beliefs: Mutex<BTreeMap<usize, listener::Belief>>,
    pub(crate) wrong: Mutex<Vec<String>>,
    pub(crate) is_over: AtomicBool,
    pub(crate) writes: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) unknown: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) news: AtomicU64,
    pub(crate) gap: Mutex<(Instant, Duration)>,
    begun: Instant,
}

impl World {
    /// The number of a key that is in use now.
    pub(crate) fn key(&self, seed: &mut Seed) -> usize {
        let turn = usize::try_from(self.begun.elapsed().as_secs() / TURN.as_secs()).expect("short");
        let at = seed.below(KEYS_AT_ONCE);
        if at < LASTING && seed.below(4) == 0 { at } else { KEYS_AT_ONCE * (turn + 1) + at }
    }

    pub(crate) fn keys(&self) -> usize {
        let turns =
            usize::try_from(self.begun.elapsed().as_secs() / TURN.as_secs()).expect("short");
        KEYS_AT_ONCE * (turns + 2)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    pub(crate) fn broken(&self, why: String) {
        println!("BROKEN {why}");
        self.wrong.lock().push(why);
    }

    pub(crate) fn acknowledged(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        let mut gap = self.gap.lock();
        gap.1 = gap.1.max(gap.0.elapsed());
        gap.0 = Instant::now();
    }
}

pub(crate) fn key(number: usize) -> Key {
    Key::new(format!("key-{number}"))
}

/// Runs faults for so long, then judges.
pub(crate) fn run(length: Duration) {
    net::lay(NODES);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(go(length));
}

async fn go(length: Duration) {
    let mut seed = Seed::new("chaos");
    let home = tempfile::tempdir().expect("a directory");
    let secret = home.path().join("secret");
    std::fs::write(&secret, "not for anybody but these nodes").expect("a file");
    let mut nodes = start(secret.to_str().expect("a path")).await;
    let now = Instant::now();
    let world = Arc::new(World {
        clients: nodes.iter().map(|node| node.client().clone()).collect(),
        history: Mutex::default(),
        beliefs: Mutex::default(),
        wrong: Mutex::default(),
        is_over: AtomicBool::new(false),
        writes: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        unknown: AtomicU64::new(0),
        reads: AtomicU64::new(0),
        news: AtomicU64::new(0),
        gap: Mutex::new((now, Duration::ZERO)),
        begun: now,
    });
    let mut busy = JoinSet::new();
    for number in 0..WRITERS {
        busy.spawn(client::write(Arc::clone(&world), number, seed.next()));
    }
    for number in 0..READERS {
        busy.spawn(client::read(Arc::clone(&world), WRITERS + number, seed.next()));
    }
    let mut listening = JoinSet::new();
    for number in 0..LISTENERS {
        listening.spawn(listener::listen(Arc::clone(&world), number, seed.next()));
    }
    let done = faults::run(&mut nodes, &mut seed, length).await;
    world.is_over.store(true, Ordering::Relaxed);
    busy.join_all().await;
    judge::converged(&world, &nodes).await;
    listening.abort_all();
    let lasted = world.begun.elapsed().as_secs().max(1);
    report(&world, &done, lasted);
    judge::history(&world);
    let wrong = world.wrong.lock();
    assert!(wrong.is_empty(), "{} broken promises, the first: {}", wrong.len(), wrong[0]);
    drop(nodes);
    drop(home);
}

async fn start(secret: &str) -> Vec<Node> {
    let peers: Vec<_> = (0..NODES).map(|node| net::addresses(node)[0]).collect();
    let options = Options::small_log().with("--cluster-secret-file", secret);
    let mut nodes = Vec::new();
    for number in 0..NODES {
        let mut node = Node::new(net::addresses(number), &peers, &options);
        node.set_wrapper(net::wrapper(number));
        let data = node.data();
        std::fs::create_dir_all(&data).expect("a data directory");
        if number == SMALL_DISK {
            let data = data.to_str().expect("a path");
            net::run(&format!("mount -t tmpfs -o size={SMALL_DISK_BYTES} tmpfs {data}"));
        }
        node.start();
        nodes.push(node);
    }
    for node in &nodes {
        wait_until("the cluster", READY, async || node.client().is_ready().await.then_some(()))
            .await;
    }
    nodes
}

/// Says what went on, and fails when too little did.
fn report(world: &World, done: &BTreeMap<&'static str, u32>, seconds: u64) {
    let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
    let (writes, reads, news) = (count(&world.writes), count(&world.reads), count(&world.news));
    let faults: Vec<_> = done.iter().map(|(name, times)| format!("{name} {times}")).collect();
    println!(
        "chaos: {seconds} s, {writes} writes acknowledged, {} refused, {} unknown, {reads} \
         linearizable reads, {news} changes heard; longest time without an acknowledged write \
         {:.1} s; faults: {}",
        count(&world.refused),
        count(&world.unknown),
        world.gap.lock().1.as_secs_f64(),
        faults.join(", ")
    );
    for (what, number, least) in [
        ("writes", writes, LEAST_WRITES),
        ("reads", reads, LEAST_READS),
        ("changes heard", news, LEAST_NEWS),
    ] {
        if number < least * seconds {
            world.broken(format!("only {number} {what} in {seconds} s: nothing was tested"));
        }
    }
}
