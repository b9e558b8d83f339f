//! Long polls: what ends one, what it frees, and that no change between registering and comparing
//! is missed. The index itself is tested in `watch/tests.rs`.
//!
//! Where a test starts paused, `sleep` moves the test's clock, in order, and takes no time.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::*;
use crate::key::{DataId, Group, NamespaceId};
use crate::kind::gray::Standing;
use crate::watch::AnnounceQueue;

fn key(number: usize) -> GroupKey {
    let data_id = DataId::parse(&format!("d{number}")).expect("valid");
    GroupKey::new(&NamespaceId::public(), &Group::parse("G").expect("valid"), &data_id)
}

fn md5(number: u64) -> Md5 {
    let mut digest = [7; 16];
    digest[..8].copy_from_slice(&number.to_le_bytes());
    Md5(digest)
}

fn polled(number: usize, md5: ClientMd5) -> PolledKey {
    PolledKey { key: key(number), md5, tag: 0 }
}

fn claims(number: usize, claim: u64) -> Vec<PolledKey> {
    vec![polled(number, ClientMd5::Digest(md5(claim)))]
}

/// A service, its queue, and a store of some keys that are all at version 0.
struct Node {
    polls: Arc<PollService>,
    queue: Arc<AnnounceQueue>,
    index: Arc<WatchIndex>,
    versions: BTreeMap<GroupKey, AtomicU64>,
}

impl Node {
    fn new(keys: usize) -> Arc<Self> {
        Self::with(keys, Capacity { polls: usize::MAX, keys: usize::MAX })
    }

    fn with(keys: usize, capacity: Capacity) -> Arc<Self> {
        let index = Arc::new(WatchIndex::new());
        Arc::new(Self {
            polls: PollService::new(Arc::clone(&index), capacity, Instant::now()),
            queue: Arc::new(AnnounceQueue::new(Arc::clone(&index))),
            index,
            versions: (0..keys).map(|number| (key(number), AtomicU64::new(0))).collect(),
        })
    }

    fn version(&self, number: usize) -> u64 {
        self.versions[&key(number)].load(Ordering::SeqCst)
    }

    fn lookup(&self, key: &GroupKey) -> Option<Md5> {
        self.versions.get(key).map(|version| md5(version.load(Ordering::SeqCst)))
    }

    fn publish(&self, number: usize, version: u64) {
        self.versions[&key(number)].store(version, Ordering::SeqCst);
        self.queue.queue(&key(number), Instant::now());
    }

    /// Announcer and sweeper, on tasks that end with the set.
    fn drive(self: &Arc<Self>, tasks: &mut JoinSet<()>) {
        let node = Arc::clone(self);
        tasks.spawn(async move {
            node.queue.run(|key| Standing::formal(node.lookup(key)), &*node.polls).await
        });
        let node = Arc::clone(self);
        tasks.spawn(async move { node.polls.run_deadlines().await });
    }

    fn assert_empty(&self) {
        assert_eq!((self.polls.held(), self.polls.named_keys()), (0, 0));
        assert_eq!((self.index.watched_keys(), self.index.listeners()), (0, 0));
        for slots in &self.polls.shards {
            let slots = slots.lock();
            assert_eq!((slots.count(), slots.first_tick()), ((0, 0), None));
        }
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[tokio::test(start_paused = true)]
async fn a_change_ends_the_wait_with_key_and_tag() {
    let node = Node::new(2);
    let mut tasks = JoinSet::new();
    node.drive(&mut tasks);
    let keys = vec![
        polled(0, ClientMd5::Digest(md5(0))),
        PolledKey { tag: 3, ..polled(1, ClientMd5::Digest(md5(0))) },
    ];
    let poll = node.polls.open(keys, Labels::default()).expect("room");
    assert_eq!(poll.changed(|key| node.lookup(key)), Vec::<usize>::new());
    assert_eq!(poll.changed(|_| None), [0, 1]);
    let published = Instant::now();
    let wait = poll.wait(published + seconds(30));
    let publish = async {
        sleep(seconds(3)).await;
        node.publish(1, 8);
    };
    let (end, ()) = tokio::join!(wait, publish);
    let PollEnd::Changed { change, tag } = end else { panic!("{end:?}") };
    assert_eq!((&change.key, change.standing.formal, tag), (&key(1), Some(md5(8)), 3));
    assert_eq!(change.at, published + seconds(3));
    node.assert_empty();
}

#[tokio::test(start_paused = true)]
async fn a_change_before_the_wait_is_not_lost() {
    let node = Node::new(1);
    let mut tasks = JoinSet::new();
    node.drive(&mut tasks);
    let poll = node.polls.open(claims(0, 0), Labels::default()).expect("room");
    node.publish(0, 1);
    while node.queue.woken() == 0 {
        tokio::task::yield_now().await;
    }
    let end = poll.wait(Instant::now() + seconds(30)).await;
    assert!(matches!(end, PollEnd::Changed { .. }), "{end:?}");
    node.assert_empty();
}

#[tokio::test(start_paused = true)]
async fn deadlines_are_never_early_and_at_most_a_tick_late() {
    let node = Node::new(1);
    let mut tasks = JoinSet::new();
    node.drive(&mut tasks);
    let mut waits = JoinSet::new();
    // Not in order, so that later polls have earlier deadlines; 0 keys are held as well.
    for number in 0_u64..500 {
        let asked = Duration::from_millis((number * 7_919) % 40_000);
        let node = Arc::clone(&node);
        waits.spawn(async move {
            sleep(Duration::from_millis(number * 13)).await;
            let keys = if number % 2 == 0 { claims(0, 0) } else { Vec::new() };
            let start = Instant::now();
            let end =
                node.polls.open(keys, Labels::default()).expect("room").wait(start + asked).await;
            assert!(matches!(end, PollEnd::TimedOut), "{end:?}");
            let took = start.elapsed();
            assert!(took >= asked && took <= asked + TICK + Duration::from_millis(2), "{took:?}");
        });
    }
    waits.join_all().await;
    node.assert_empty();
}

#[tokio::test(start_paused = true)]
async fn same_content_and_other_keys_wake_nobody() {
    let node = Node::new(2);
    let mut tasks = JoinSet::new();
    node.drive(&mut tasks);
    let poll = node.polls.open(claims(0, 0), Labels::default()).expect("room");
    let noise = async {
        for _ in 0..50 {
            sleep(Duration::from_millis(150)).await;
            node.publish(0, 0);
            node.publish(1, 5);
            // There and back before the announcer runs.
            node.publish(0, 1);
            node.publish(0, 0);
        }
    };
    let (end, ()) = tokio::join!(poll.wait(Instant::now() + seconds(10)), noise);
    assert!(matches!(end, PollEnd::TimedOut), "{end:?}");
    assert_eq!((node.queue.announced(), node.queue.woken()), (50, 0));
}

#[tokio::test(start_paused = true)]
async fn dropping_frees_all_at_any_moment() {
    let node = Node::new(20);
    for keys in [0, 1, 2, 20] {
        let open = || {
            let keys = (0..keys).map(|number| polled(number, ClientMd5::Other)).collect();
            node.polls.open(keys, Labels::default()).expect("room")
        };
        drop(open());
        drop(open().wait(Instant::now() + seconds(5)));
        let polls: Vec<Poll> = (0..40).map(|_| open()).collect();
        assert_eq!((node.polls.held(), node.polls.named_keys()), (40, 40 * keys));
        assert_eq!((node.index.watched_keys(), node.index.listeners()), (keys, 40 * keys));
        let mut waits: Vec<_> = polls
            .into_iter()
            .map(|poll| Box::pin(poll.wait(Instant::now() + seconds(5))))
            .collect();
        for wait in &mut waits {
            let polled = std::future::poll_fn(|context| {
                Progress::Ready(wait.as_mut().poll(context).is_ready())
            });
            assert!(!polled.await);
        }
        let armed: usize = node.polls.shards.iter().map(|slots| slots.lock().count().1).sum();
        assert_eq!(armed, 40);
        // From the middle first.
        while !waits.is_empty() {
            drop(waits.swap_remove(waits.len() / 2));
        }
        node.assert_empty();
    }
}

#[tokio::test(start_paused = true)]
async fn timers_of_answered_polls_are_gone() {
    let node = Node::new(1);
    let mut tasks = JoinSet::new();
    node.drive(&mut tasks);
    for version in 1..2_000 {
        let poll = node.polls.open(claims(0, version - 1), Labels::default()).expect("room");
        let wait = poll.wait(Instant::now() + seconds(60 + version % 30));
        node.publish(0, version);
        assert!(matches!(wait.await, PollEnd::Changed { .. }));
        let armed: usize = node.polls.shards.iter().map(|slots| slots.lock().count().1).sum();
        assert_eq!(armed, 0);
    }
    node.assert_empty();
}

#[tokio::test(start_paused = true)]
async fn closing_ends_every_poll_and_the_driving_futures() {
    let node = Node::new(10);
    let mut tasks = JoinSet::new();
    node.drive(&mut tasks);
    let mut waits = JoinSet::new();
    for number in 0..1_000 {
        let poll = node.polls.open(claims(number % 10, 0), Labels::default()).expect("room");
        waits.spawn(poll.wait(Instant::now() + seconds(30)));
    }
    let not_waiting_yet = node.polls.open(claims(0, 0), Labels::default()).expect("room");
    tokio::task::yield_now().await;
    node.polls.close();
    node.queue.close();
    waits.spawn(not_waiting_yet.wait(Instant::now() + seconds(30)));
    for end in waits.join_all().await {
        assert!(matches!(end, PollEnd::Closed), "{end:?}");
    }
    assert_eq!(node.polls.open(claims(0, 0), Labels::default()).err(), Some(PollRefused::Closed));
    tasks.join_all().await;
    node.assert_empty();
}

/// Counts how often it was woken.
#[derive(Default)]
struct Alarm(AtomicUsize);

impl std::task::Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn the_first_end_counts_and_wakes_who_looked_last() {
    let changed = || {
        let change = Change::new(key(0), Standing::default(), Instant::now());
        Outcome::Changed(Arc::new(change), 5)
    };
    let ends: [fn() -> Outcome; 2] = [|| Outcome::TimedOut, || Outcome::Closed];
    for later in ends {
        for (first, second) in [(changed(), later()), (later(), changed())] {
            let mut slots = Slots::new(10);
            let id = slots.open(Labels::default()).expect("room");
            slots.arm(id, 7);
            let (moved_from, waiting) = (Arc::new(Alarm::default()), Arc::new(Alarm::default()));
            for alarm in [&moved_from, &waiting] {
                let waker = Waker::from(Arc::clone(alarm));
                assert!(slots.poll(id, &Context::from_waker(&waker)).0.is_none());
            }
            let (want, mut wakers) = (format!("{first:?}"), Vec::new());
            assert!(slots.end(id, first, &mut wakers));
            assert!(!slots.end(id, second, &mut wakers));
            slots.close(&mut wakers);
            assert!(!slots.expire(9, 10, &mut wakers));
            wakers.into_iter().for_each(Waker::wake);
            let woken = |alarm: &Alarm| alarm.0.load(Ordering::SeqCst);
            assert_eq!((woken(&moved_from), woken(&waiting), slots.count()), (0, 1, (1, 0)));
            let end = slots.poll(id, &Context::from_waker(Waker::noop())).0;
            assert_eq!(format!("{:?}", end.expect("ended")), want);
        }
    }
}

#[test]
fn capacity_is_refused_and_comes_back() {
    let node = Node::with(1, Capacity { polls: 3, keys: 10 });
    let open = |count: usize| {
        let keys = (0..count).map(|number| polled(number, ClientMd5::Empty)).collect();
        node.polls.open(keys, Labels::default())
    };
    let first = open(4).expect("room");
    let second = open(6).expect("room");
    assert_eq!(open(1).err(), Some(PollRefused::Keys { limit: 10 }));
    let third = open(0).expect("room");
    assert_eq!(open(0).err(), Some(PollRefused::Polls { limit: 3 }));
    assert_eq!((node.polls.held(), node.index.listeners()), (3, 10));
    drop((first, third));
    assert_eq!(open(5).err(), Some(PollRefused::Keys { limit: 10 }));
    drop(open(4).expect("room"));
    drop(second);
    node.assert_empty();
}

#[tokio::test(start_paused = true)]
async fn all_waiters_of_one_key_are_woken_once_and_share_the_answer() {
    let node = Node::new(1);
    let mut waits = JoinSet::new();
    let made = Arc::new(AtomicUsize::new(0));
    for _ in 0..10_000 {
        let poll = node.polls.open(claims(0, 0), Labels::default()).expect("room");
        let made = Arc::clone(&made);
        waits.spawn(async move {
            let end = poll.wait(Instant::now() + seconds(30)).await;
            let PollEnd::Changed { change, .. } = end else { panic!("{end:?}") };
            let body = change.rendered(0, |_| {
                made.fetch_add(1, Ordering::SeqCst);
                "body".into()
            });
            assert_eq!(body, "body");
        });
    }
    let bystander = node.polls.open(claims(0, 1), Labels::default()).expect("room");
    let mut tasks = JoinSet::new();
    node.drive(&mut tasks);
    node.publish(0, 1);
    waits.join_all().await;
    assert_eq!((node.queue.woken(), made.load(Ordering::SeqCst)), (10_000, 1));
    assert_eq!(node.index.listeners(), 1);
    let end = bystander.wait(Instant::now() + seconds(1)).await;
    assert!(matches!(end, PollEnd::TimedOut), "{end:?}");
    node.assert_empty();
}

#[tokio::test(start_paused = true)]
async fn a_change_right_after_the_comparison_ends_the_wait() {
    let node = Node::new(1);
    let mut tasks = JoinSet::new();
    node.drive(&mut tasks);
    let poll = node.polls.open(claims(0, 0), Labels::default()).expect("room");
    let changed = poll.changed(|key| {
        let seen = node.lookup(key);
        node.publish(0, 1);
        seen
    });
    assert_eq!(changed, Vec::<usize>::new());
    let end = poll.wait(Instant::now() + seconds(30)).await;
    assert!(matches!(end, PollEnd::Changed { .. }), "{end:?}");
}

/// Pollers follow a key through its versions. Each version is published as soon as all pollers of
/// the key set out with the one before, so it races with their registering and comparing; a poll
/// that misses it waits in vain.
#[test]
fn no_change_falls_between_register_and_compare() {
    const LAST: u64 = 700;
    const POLLERS: u64 = 4;
    let runtime =
        Builder::new_multi_thread().worker_threads(3).enable_time().build().expect("runs");
    let node = Node::new(4);
    let set_out: Arc<[AtomicU64; 4]> = Arc::default();
    let answers = runtime.block_on(async {
        let mut tasks = JoinSet::new();
        node.drive(&mut tasks);
        let mut pollers = JoinSet::new();
        for number in 0..4 * POLLERS {
            let mine = usize::try_from(number % 4).expect("small");
            let (node, set_out) = (Arc::clone(&node), Arc::clone(&set_out));
            pollers.spawn(async move {
                let mut answers = 0_u64;
                for claim in 0..LAST {
                    set_out[mine].fetch_add(1, Ordering::SeqCst);
                    let poll =
                        node.polls.open(claims(mine, claim), Labels::default()).expect("room");
                    let changed = poll.changed(|key| {
                        let seen = node.lookup(key);
                        // Let the publisher in between looking and waiting.
                        std::thread::yield_now();
                        seen
                    });
                    if !changed.is_empty() {
                        continue;
                    }
                    match poll.wait(Instant::now() + seconds(20)).await {
                        PollEnd::Changed { change, .. } => {
                            assert_eq!(change.standing.formal, Some(md5(claim + 1)));
                        }
                        end @ (PollEnd::TimedOut | PollEnd::Closed) => {
                            panic!("{end:?} at {claim}, store at {}", node.version(mine))
                        }
                    }
                    answers += 1;
                }
                answers
            });
        }
        let publisher = Arc::clone(&node);
        let publishing = tokio::task::spawn_blocking(move || {
            let mut next = [0; 4];
            while next != [LAST; 4] {
                for (number, version) in next.iter_mut().enumerate() {
                    let waiting = set_out[number].load(Ordering::SeqCst);
                    if *version < LAST && waiting >= POLLERS * (*version + 1) {
                        *version += 1;
                        publisher.publish(number, *version);
                    }
                }
                if publisher.polls.closed.load(Ordering::SeqCst) {
                    return;
                }
                std::thread::yield_now();
            }
        });
        let mut answers = 0;
        while let Some(done) = pollers.join_next().await {
            answers += done.inspect_err(|_| node.polls.close()).expect("no poll missed a change");
        }
        publishing.await.expect("no panic");
        node.polls.close();
        node.queue.close();
        tasks.join_all().await;
        answers
    });
    assert!(answers > 0, "nobody ever waited");
    node.assert_empty();
}

/// Short deadlines, changes and disconnects at the same time from several threads.
#[test]
fn racing_ends_answer_once_and_leave_nothing() {
    let runtime =
        Builder::new_multi_thread().worker_threads(3).enable_time().build().expect("runs");
    let node = Node::new(3);
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        node.drive(&mut tasks);
        let mut polls = JoinSet::new();
        for number in 0_u64..2_000 {
            let node = Arc::clone(&node);
            polls.spawn(async move {
                let keys = (0..3).flat_map(|key| claims(key, node.version(key))).collect();
                let poll = node.polls.open(keys, Labels::default()).expect("room");
                let wait = poll.wait(Instant::now() + Duration::from_millis(number % 200));
                let patience = Duration::from_millis(number % 230);
                match tokio::time::timeout(patience, wait).await {
                    Ok(PollEnd::Changed { .. }) => 1_u64,
                    Ok(PollEnd::TimedOut) | Err(_) => 0,
                    Ok(PollEnd::Closed) => panic!("nobody closed"),
                }
            });
        }
        for version in 1..=60 {
            node.publish(usize::try_from(version).expect("small") % 3, version);
            // Over the time in which the deadlines fall: the real clock races with real threads.
            sleep(Duration::from_millis(4)).await;
        }
        let changed: u64 = polls.join_all().await.into_iter().sum();
        // Some were woken and gave up before they looked; none looked without being woken.
        assert!(changed > 0 && changed <= node.queue.woken(), "{changed}");
        node.polls.close();
        node.queue.close();
        tasks.join_all().await;
    });
    node.assert_empty();
}
