//! What listening costs, without sockets: bytes per listener, and the time from a change to its
//! waiter among few and among many.
//!
//! `cargo bench -p quorate-core --bench watch` prints plain lines. Bytes are growth of the
//! resident set in a process of its own; the texts of the keys exist before and are not counted.
#![expect(clippy::print_stdout, reason = "printing figures is what a bench is for")]

use std::hint::black_box;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Waker};
use std::time::Duration;

use quorate_core::content::Md5;
use quorate_core::key::{DataId, Group, GroupKey, NamespaceId};
use quorate_core::kind::gray::{Labels, Standing};
use quorate_core::poll::{Capacity, PollEnd, PollService, PolledKey};
use quorate_core::watch::{AnnounceQueue, ClientMd5, WaiterId, WatchIndex};
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

const OLD: Md5 = Md5([1; 16]);
const NEW: Md5 = Md5([2; 16]);
const SIZES: [usize; 3] = [10, 100_000, 1_000_000];
/// Announcements measured at each size.
const ROUNDS: usize = 4_000;
/// More than the caches hold.
const FLUSH_BYTES: usize = 96 << 20;

fn main() {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("measure") => {
            let numbers: Vec<usize> = arguments.filter_map(|number| number.parse().ok()).collect();
            let [keys, polls, keys_of_each] = numbers[..] else { return };
            println!("{}", measure_bytes(keys, polls, keys_of_each));
        }
        // `cargo test --all-targets` builds this and must not wait for it.
        Some("--bench") => {
            print_bytes();
            print_with_tasks();
            print_bare();
            print_hot_key();
        }
        _ => println!("run by cargo bench"),
    }
}

fn key(number: usize) -> GroupKey {
    let data_id = DataId::parse(&format!("application-{number:09}.yaml")).expect("valid");
    let group = Group::parse("DEFAULT_GROUP").expect("valid");
    GroupKey::new(&NamespaceId::public(), &group, &data_id)
}

fn polled(key: &GroupKey) -> PolledKey {
    PolledKey { key: key.clone(), md5: ClientMd5::Digest(OLD), tag: 0 }
}

struct Node {
    index: Arc<WatchIndex>,
    queue: AnnounceQueue,
    polls: Arc<PollService>,
}

impl Node {
    fn new() -> Arc<Self> {
        let index = Arc::new(WatchIndex::new());
        let capacity = Capacity { polls: usize::MAX, keys: usize::MAX };
        Arc::new(Self {
            queue: AnnounceQueue::new(Arc::clone(&index)),
            polls: PollService::new(Arc::clone(&index), capacity, Instant::now()),
            index,
        })
    }

    fn close(&self) {
        self.queue.close();
        self.polls.close();
    }

    /// A held poll that was looked at once, so that it waits.
    fn hold(&self, keys: Vec<PolledKey>) -> Pin<Box<impl Future<Output = PollEnd> + use<>>> {
        let deadline = Instant::now() + Duration::from_secs(100_000);
        let mut wait =
            Box::pin(self.polls.open(keys, Labels::default()).expect("room").wait(deadline));
        assert!(wait.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        wait
    }
}

// Bytes

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("pages");
    pages * 4096
}

/// Growth by `polls` polls of `each` keys out of `keys`; 0 polls: listeners of the bare index.
fn measure_bytes(keys: usize, polls: usize, each: usize) -> usize {
    let keys: Vec<GroupKey> = (0..keys).map(key).collect();
    let node = Node::new();
    let before = resident_bytes();
    if polls == 0 {
        for key in &keys {
            let waiter = WaiterId::new(0).expect("a number");
            let id = node.index.listen(key.clone(), ClientMd5::Digest(OLD), 0, waiter);
            assert!(id.is_some());
        }
        return resident_bytes() - before;
    }
    let mut chosen = keys.iter().cycle();
    let held: Vec<_> =
        (0..polls).map(|_| node.hold(chosen.by_ref().take(each).map(polled).collect())).collect();
    assert_eq!((held.len(), node.index.listeners()), (polls, polls * each));
    resident_bytes() - before
}

fn measured_apart(keys: usize, polls: usize, each: usize) -> f64 {
    let mut child = Command::new(std::env::current_exe().expect("a path"));
    let numbers = [keys, polls, each].map(|number| number.to_string());
    let output = child.arg("measure").args(numbers).output().expect("runs");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number")
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn print_bytes() {
    for count in [100_000, 1_000_000] {
        let bytes = measured_apart(count, 0, 0) / count as f64;
        println!("listener in the index, {count} each of its own key: {bytes:.1} B");
        let bytes = measured_apart(count, count, 1) / count as f64;
        println!("held poll of one key with its future, {count}: {bytes:.1} B each");
    }
    let mut worst = 0.0_f64;
    for (keys, polls, each) in [
        (1_000_000, 1_000, 1_000),
        (1_000_000, 10_000, 100),
        (1_000, 1_000, 1_000),
        (10_000, 10_000, 100),
    ] {
        let base = measured_apart(keys, polls, 1);
        let further = (measured_apart(keys, polls, each) - base) / (polls * (each - 1)) as f64;
        println!("further key, {polls} polls of {each} keys out of {keys}: {further:.1} B");
        worst = worst.max(further);
    }
    println!("further key, worst: {worst:.1} B (to reach: at most 64)");
}

// Time

/// A node that holds polls of one key each, and the times measured there.
struct Held<W> {
    node: Arc<Node>,
    keys: Vec<GroupKey>,
    waits: Vec<W>,
    times: Vec<Duration>,
}

impl<W> Held<W> {
    fn new(count: usize, hold: impl Fn(&Arc<Node>, PolledKey) -> W) -> Self {
        let node = Node::new();
        // Waiters bring keys of their own, as requests do.
        let waits = (0..count).map(|number| hold(&node, polled(&key(number)))).collect();
        Self { node, keys: (0..count).map(key).collect(), waits, times: Vec::new() }
    }

    /// A key in an order that no cache foresees, read as a writer just did, with its wait.
    fn next(&mut self, round: usize) -> Option<(&Arc<Node>, &GroupKey, &mut W)> {
        let number = round * 7_368_787 % self.keys.len();
        let key = self.keys.get(number)?;
        black_box(key.as_str().bytes().map(usize::from).sum::<usize>());
        Some((&self.node, key, self.waits.get_mut(number)?))
    }
}

/// Sizes are measured in turns, so that what else the machine does meets all of them.
fn print_ratios<W>(what: &str, held: &mut [Held<W>]) {
    let times: Vec<(usize, Duration)> = held
        .iter_mut()
        .map(|held| (held.keys.len(), median(std::mem::take(&mut held.times))))
        .collect();
    let among_few = times.first().map_or(0.0, |(_, time)| time.as_secs_f64());
    for (count, time) in times {
        let ratio = time.as_secs_f64() / among_few;
        println!("{what}: {time:.2?} among {count} listeners, {ratio:.2} x");
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// From queueing to the end of the wait, all on this thread and without a scheduler.
fn print_bare() {
    let mut flush = vec![0_u64; FLUSH_BYTES / 8];
    let mut context = Context::from_waker(Waker::noop());
    let mut all = SIZES.map(|count| Held::new(count, |node, polled| node.hold(vec![polled])));
    let nodes = all.each_ref().map(|held| Arc::clone(&held.node));
    let mut announcers = nodes
        .each_ref()
        .map(|node| Box::pin(node.queue.run(|_| Standing::formal(Some(NEW)), &*node.polls)));
    for (what, rounds, cold) in [("cold", ROUNDS / 20, true), ("warm", ROUNDS, false)] {
        for round in 1..=rounds {
            for (held, announcer) in all.iter_mut().zip(&mut announcers) {
                let words = flush.iter_mut().step_by(8).take(if cold { usize::MAX } else { 0 });
                words.for_each(|word| *word = black_box(*word + 1));
                let Some((node, key, wait)) = held.next(round) else { return };
                let start = Instant::now();
                node.queue.queue(key, start);
                assert!(announcer.as_mut().poll(&mut context).is_pending());
                assert!(wait.as_mut().poll(&mut context).is_ready());
                let time = start.elapsed();
                *wait = node.hold(vec![polled(key)]);
                held.times.push(time);
            }
        }
        print_ratios(&format!("change to end of wait on one thread, caches {what}"), &mut all);
    }
}

fn spawn_poll(runtime: &Runtime, node: &Arc<Node>, polled: PolledKey, done: &Sender<Duration>) {
    let (node, done) = (Arc::clone(node), done.clone());
    runtime.spawn(async move {
        // Refused only at the end of a measurement.
        let Ok(poll) = node.polls.open(vec![polled], Labels::default()) else { return };
        let end = poll.wait(Instant::now() + Duration::from_secs(100_000)).await;
        if let PollEnd::Changed { change, .. } = end {
            done.send(change.at.elapsed()).expect("the bench waits");
        }
    });
}

fn spawn_announcer(runtime: &Runtime, node: &Arc<Node>) {
    let node = Arc::clone(node);
    runtime
        .spawn(async move { node.queue.run(|_| Standing::formal(Some(NEW)), &*node.polls).await });
}

fn wait_for_listeners(node: &Node, count: usize) {
    // Nothing is told of a registration: the index is looked at until all are there.
    let end = Instant::now() + Duration::from_secs(30);
    while node.index.listeners() < count {
        assert!(Instant::now() < end, "{count} listeners");
        std::thread::sleep(Duration::from_micros(50));
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("runs")
}

/// The way of a real change: queued by a thread of its own, announced by a task, answered by the
/// task that held the poll.
fn print_with_tasks() {
    let runtime = runtime();
    let (done, ends) = channel();
    let hold = |node: &Arc<Node>, polled| spawn_poll(&runtime, node, polled, &done);
    let mut all = SIZES.map(|count| Held::new(count, hold));
    for held in &all {
        wait_for_listeners(&held.node, held.keys.len());
        spawn_announcer(&runtime, &held.node);
    }
    for round in 1..=ROUNDS {
        for held in &mut all {
            let Some((node, key, ())) = held.next(round) else { return };
            node.queue.queue(key, Instant::now());
            let time = ends.recv().expect("woken");
            hold(node, polled(key));
            held.times.push(time);
            wait_for_listeners(&held.node, held.keys.len());
        }
    }
    print_ratios("change to end of wait, with tasks", &mut all);
    all.iter().for_each(|held| held.node.close());
}

/// Until the last waiter of one key has its end.
fn print_hot_key() {
    for count in [1_000, 10_000, 100_000] {
        let (runtime, node) = (runtime(), Node::new());
        let (done, ends) = channel();
        spawn_announcer(&runtime, &node);
        (0..count).for_each(|_| spawn_poll(&runtime, &node, polled(&key(0)), &done));
        wait_for_listeners(&node, count);
        node.queue.queue(&key(0), Instant::now());
        let last = (0..count).filter_map(|_| ends.recv().ok()).max().unwrap_or_default();
        println!("change to the last of {count} waiters of one key: {last:.2?}");
        node.close();
    }
}
