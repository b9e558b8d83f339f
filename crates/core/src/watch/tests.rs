//! The watch index and its announcing against a naive model, one promise a test.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::Waker;

use proptest::prelude::*;

use super::*;
use crate::key::{DataId, Group, NamespaceId};
use crate::kind::gray::Standing;

fn key(number: usize) -> GroupKey {
    let data_id = DataId::parse(&format!("d{number}")).expect("valid");
    GroupKey::new(&NamespaceId::public(), &Group::parse("G").expect("valid"), &data_id)
}

fn md5(text: &str) -> Md5 {
    Md5::of(text.as_bytes())
}

fn waiter(number: u32) -> WaiterId {
    WaiterId::new(number).expect("not the last")
}

#[test]
fn claims_match_what_they_say() {
    let hello = md5("hello");
    let text = hello.to_string();
    for (sent, none, same, other) in [
        ("", true, false, false),
        (text.as_str(), false, true, false),
        (&text.to_uppercase(), false, false, false),
        ("null", false, false, false),
    ] {
        let claim = ClientMd5::parse(sent);
        assert_eq!(
            (none, same, other),
            (claim.matches(None), claim.matches(Some(hello)), claim.matches(Some(md5("x")))),
            "{sent}"
        );
    }
}

#[test]
fn waiter_numbers_come_back() {
    for number in [0, 1, u32::MAX - 1] {
        assert_eq!(waiter(number).number(), number);
    }
    assert_eq!(WaiterId::new(u32::MAX), None);
}

#[test]
fn a_form_of_answer_is_made_once() {
    let change = Change::new(key(1), Standing::default(), Instant::now());
    let made = |slot, text: &'static str| change.rendered(slot, |_| text.into());
    assert_eq!((made(0, "a"), made(0, "b"), made(3, "c")), ("a".into(), "a".into(), "c".into()));
    assert_eq!((made(4, "d"), made(4, "e")), ("d".into(), "e".into()));
}

/// Records whom it was told to wake. Numbers from 1000 on stand for another kind of waiter.
#[derive(Default)]
struct Recorder(Mutex<Vec<(u32, u8)>>);

impl Waiters for Recorder {
    fn wake(
        &self,
        waiter: WaiterId,
        _: &Arc<Change>,
        (tag, _): (u8, ClientMd5),
        _: &mut Vec<Waker>,
    ) -> bool {
        self.0.lock().expect("no panic").push((waiter.number(), tag));
        waiter.number() < 1000
    }
}

/// Announces all that is queued now.
fn announce(queue: &AnnounceQueue, store: impl Fn(&GroupKey) -> Option<Md5>) -> Vec<(u32, u8)> {
    let told = Recorder::default();
    let mut run = std::pin::pin!(queue.run(|key| Standing::formal(store(key)), &told));
    let mut context = std::task::Context::from_waker(Waker::noop());
    while queue.queued() > 0 || queue.index.shards.iter().any(|shard| shard.lock().fanning_out()) {
        assert!(run.as_mut().poll(&mut context).is_pending());
    }
    let mut told = std::mem::take(&mut *told.0.lock().expect("no panic"));
    told.sort_unstable();
    told
}

fn index_and_queue() -> (Arc<WatchIndex>, AnnounceQueue) {
    let index = Arc::new(WatchIndex::new());
    (Arc::clone(&index), AnnounceQueue::new(index))
}

#[test]
fn only_those_who_differ_are_told() {
    let (index, queue) = index_and_queue();
    let now = Instant::now();
    let (old, new) = (ClientMd5::Digest(md5("old")), ClientMd5::Digest(md5("new")));
    let claims = [old, new, ClientMd5::Empty, ClientMd5::Other, old];
    let ids: Vec<_> = (0_u8..)
        .zip(claims)
        .map(|(n, claim)| index.listen(key(1), claim, n + 10, waiter(n.into())).expect("room"))
        .collect();
    let other_key = index.listen(key(2), old, 0, waiter(9)).expect("room");
    queue.queue(&key(1), now);
    assert_eq!(announce(&queue, |_| Some(md5("new"))), [(0, 10), (2, 12), (3, 13), (4, 14)]);
    queue.queue(&key(1), now);
    // Those who were told claim nothing since, whatever there is now.
    assert_eq!(announce(&queue, |_| None), [(0, 10), (1, 11), (2, 12), (3, 13), (4, 14)]);
    queue.queue(&key(3), now);
    assert_eq!((queue.queued(), announce(&queue, |_| None).len()), (0, 0));
    assert_eq!((index.watched_keys(), index.listeners()), (2, 6));
    assert_eq!((queue.announced(), queue.woken()), (2, 9));
    ids.into_iter().for_each(|id| index.unlisten(id));
    index.unlisten(other_key);
    assert_eq!((index.watched_keys(), index.listeners()), (0, 0));
}

#[test]
fn the_queue_holds_each_watched_key_once() {
    let (index, queue) = index_and_queue();
    let now = Instant::now();
    let mut ids: Vec<_> = (0..100)
        .map(|n| index.listen(key(n), ClientMd5::Empty, 0, waiter(0)).expect("room"))
        .collect();
    for round in 0..1_000 {
        (0..200).for_each(|n| queue.queue(&key((n + round) % 200), now));
    }
    assert_eq!(queue.queued(), 100);
    // A key that nobody watches any more leaves the queue, and comes back unmarked.
    index.unlisten(ids.pop().expect("100 of them"));
    assert_eq!(queue.queued(), 99);
    ids.push(index.listen(key(99), ClientMd5::Empty, 0, waiter(0)).expect("room"));
    assert_eq!(queue.queued(), 99);
    assert_eq!(announce(&queue, |_| Some(md5("x"))).len(), 99);
    assert_eq!((queue.queued(), queue.announced()), (0, 99));
}

#[test]
fn there_and_back_again_tells_nobody() {
    let (index, queue) = index_and_queue();
    let claim = ClientMd5::Digest(md5("A"));
    let _id = index.listen(key(1), claim, 0, waiter(1)).expect("room");
    for _ in ["B", "A"] {
        queue.queue(&key(1), Instant::now());
    }
    assert_eq!(announce(&queue, |_| Some(md5("A"))), []);
    assert_eq!((queue.announced(), queue.woken()), (1, 0));
}

#[test]
fn a_change_right_after_the_lookup_is_announced_again() {
    let (index, queue) = index_and_queue();
    let claim = ClientMd5::Digest(md5("A"));
    let _id = index.listen(key(1), claim, 0, waiter(1)).expect("room");
    queue.queue(&key(1), Instant::now());
    let looks = Mutex::new(0);
    let told = announce(&queue, |of| {
        let mut looks = looks.lock().expect("no panic");
        *looks += 1;
        if *looks == 1 {
            queue.queue(of, Instant::now());
            return Some(md5("A"));
        }
        Some(md5("B"))
    });
    assert_eq!((told, queue.announced()), (vec![(1, 0)], 2));
}

#[test]
fn a_new_state_queues_what_differs() {
    let (index, queue) = index_and_queue();
    for n in 0..1_000 {
        let number = u32::try_from(n).expect("small");
        index.listen(key(n), ClientMd5::Empty, 0, waiter(number % 900)).expect("room");
    }
    let differs = |of: &GroupKey| of.data_id().ends_with('7');
    queue.queue_watched(Instant::now(), differs);
    assert_eq!(queue.queued(), 100);
    let told = announce(&queue, |of| differs(of).then(|| md5("new")));
    assert_eq!((told.len(), queue.queued()), (100, 0));
}

#[test]
fn a_change_between_the_steps_of_a_fan_out_is_seen() {
    // The store turns to what the later half of the waiters has, while they are visited.
    let (index, queue) = index_and_queue();
    for number in 0..2_000 {
        let claim = ClientMd5::Digest(md5(if number < 1_000 { "last" } else { "first" }));
        index.listen(key(1), claim, 0, waiter(number)).expect("room");
    }
    queue.queue(&key(1), Instant::now());
    let looks = Mutex::new(0);
    let told = announce(&queue, |_| {
        let mut looks = looks.lock().expect("no panic");
        *looks += 1;
        Some(md5(if *looks <= 4 { "new" } else { "last" }))
    });
    // Newest first: four steps of "first" against "new", the rest of them and all of "last"
    // against "last".
    assert_eq!(told.len(), 1_000);
    assert!((1_000..2_000).all(|number| told.contains(&(number, 0))));
}

#[test]
fn listeners_may_leave_and_come_during_a_fan_out() {
    let mut shard = Shard::new();
    let state = Hashing::seeded();
    let listen = |shard: &mut Shard, number| {
        let claim = (ClientMd5::Empty, 0);
        shard.listen(&state, state.hash_one(key(1)), key(1), claim, waiter(number)).expect("room")
    };
    let ids: Vec<u32> = (0..10).map(|number| listen(&mut shard, number)).collect();
    let mut told = Vec::new();
    shard.start_fan_out(state.hash_one(key(1)), &key(1));
    assert!(shard.fan_out(&Standing::formal(Some(md5("x"))), 3, |waiter, _, _| {
        told.push(waiter.number());
        false
    }));
    // Next would be 6: it and its follower leave, and somebody new comes, maybe on their place.
    shard.unlisten(&state, ids[6]);
    shard.unlisten(&state, ids[5]);
    shard.unlisten(&state, ids[9]);
    listen(&mut shard, 77);
    assert!(!shard.fan_out(&Standing::formal(Some(md5("x"))), 100, |waiter, _, _| {
        told.push(waiter.number());
        false
    }));
    assert_eq!(told, [9, 8, 7, 4, 3, 2, 1, 0]);
}

#[test]
fn who_was_woken_claims_nothing_until_it_claims_again() {
    let mut shard = Shard::new();
    let state = Hashing::seeded();
    let hash = state.hash_one(key(1));
    let old = ClientMd5::Digest(md5("old"));
    let id = shard.listen(&state, hash, key(1), (old, 7), waiter(1)).expect("room");
    let announce = |shard: &mut Shard, content: &str, is_woken| {
        let mut told = Vec::new();
        shard.start_fan_out(hash, &key(1));
        shard.fan_out(&Standing::formal(Some(md5(content))), 9, |_, tag, claim| {
            told.push((tag, claim));
            is_woken
        });
        told
    };
    assert_eq!(announce(&mut shard, "old", true), []);
    assert_eq!(announce(&mut shard, "new", false), [(7, old)]);
    assert_eq!(announce(&mut shard, "new", true), [(7, old)]);
    // Back to what it claimed: it may have read what was in between.
    assert_eq!(announce(&mut shard, "old", true), [(7, ClientMd5::Other)]);
    shard.claim(id, old, 8);
    assert_eq!(announce(&mut shard, "old", true), []);
    assert_eq!(announce(&mut shard, "new", true), [(8, old)]);
}

#[derive(Debug, Clone)]
enum Step {
    Listen { key: usize, claim: u8, waiter: u32 },
    Unlisten(usize),
    Change { key: usize, to: u8 },
    Announce,
}

fn step(keys: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..keys, 0_u8..4, 0_u32..50)
            .prop_map(|(key, claim, waiter)| Step::Listen { key, claim, waiter }),
        3 => any::<usize>().prop_map(Step::Unlisten),
        2 => (0..keys, 0_u8..3).prop_map(|(key, to)| Step::Change { key, to }),
        1 => Just(Step::Announce),
    ]
}

/// 0: none, then digests; a claim of 3 equals nothing.
fn state_of(number: u8) -> Option<Md5> {
    (number > 0).then(|| md5(&number.to_string()))
}

fn claim_of(number: u8) -> ClientMd5 {
    match number {
        3 => ClientMd5::Other,
        number => state_of(number).map_or(ClientMd5::Empty, ClientMd5::Digest),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Against a plain list of (key, claim, waiter) and a set of changed keys.
    #[test]
    fn index_and_queue_act_like_a_list(steps in prop::collection::vec(step(12), 1..300)) {
        let (index, queue) = index_and_queue();
        let mut ids = Vec::new();
        // Whose claim is `CLAIMS_NOTHING` was told, and has made no claim since.
        const CLAIMS_NOTHING: u8 = u8::MAX;
        let mut model: Vec<(usize, u8, u32, u8)> = Vec::new();
        let mut store = [0_u8; 12];
        let mut dirty = std::collections::BTreeSet::new();
        for step in steps.into_iter().chain([Step::Announce]) {
            match step {
                Step::Listen { key: k, claim, waiter: w } => {
                    ids.push(index.listen(key(k), claim_of(claim), claim, waiter(w)).expect("room"));
                    model.push((k, claim, w, claim));
                }
                Step::Unlisten(n) if !model.is_empty() => {
                    let n = n % model.len();
                    index.unlisten(ids.swap_remove(n));
                    let (k, ..) = model.swap_remove(n);
                    if !model.iter().any(|(other, ..)| *other == k) {
                        dirty.remove(&k);
                    }
                }
                Step::Unlisten(_) => {}
                Step::Change { key: k, to } => {
                    store[k] = to;
                    queue.queue(&key(k), Instant::now());
                    if model.iter().any(|(other, ..)| *other == k) {
                        dirty.insert(k);
                    }
                }
                Step::Announce => {
                    prop_assert_eq!(queue.queued(), dirty.len());
                    let told = announce(&queue, |of| {
                        (0..12).find(|n| key(*n) == *of).and_then(|n| state_of(store[n]))
                    });
                    let mut want: Vec<(u32, u8)> = model
                        .iter_mut()
                        .filter(|(k, .., claim)| dirty.contains(k) && *claim != store[*k])
                        .map(|(_, tag, w, claim)| {
                            *claim = CLAIMS_NOTHING;
                            (*w, *tag)
                        })
                        .collect();
                    want.sort_unstable();
                    prop_assert_eq!(told, want);
                    dirty.clear();
                }
            }
            let keys: std::collections::BTreeSet<usize> = model.iter().map(|(k, ..)| *k).collect();
            prop_assert_eq!(index.watched_keys(), keys.len());
            prop_assert_eq!(index.listeners(), model.len());
        }
    }

    /// One shard with many keys, so that chains form and the table is rebuilt both ways.
    #[test]
    fn a_crowded_shard_finds_its_keys(
        steps in prop::collection::vec((any::<u16>(), 0_u32..400), 1..3_000),
    ) {
        let mut shard = Shard::new();
        let state = Hashing::seeded();
        let mut model: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        // Rather filling in the first half, rather emptying in the second.
        let half = steps.len() / 2;
        for (at, (dice, k)) in steps.into_iter().enumerate() {
            let filling = dice % 10 < if at < half { 8 } else { 2 };
            let hash = state.hash_one(key(k as usize));
            if filling {
                let claim = (ClientMd5::Empty, 0);
                let id = shard.listen(&state, hash, key(k as usize), claim, waiter(k)).expect("room");
                model.entry(k).or_default().push(id);
            } else if let Some((k, mut ids)) = model.pop_first() {
                shard.unlisten(&state, ids.swap_remove(dice as usize % ids.len()));
                if !ids.is_empty() {
                    model.insert(k, ids);
                }
            }
        }
        prop_assert_eq!(shard.watched_keys(), model.len());
        prop_assert!(shard.buckets() <= 8.max(4 * model.len()));
        prop_assert_eq!(shard.listeners(), model.values().map(Vec::len).sum::<usize>());
        for k in 0..400 {
            let mut found = 0;
            shard.start_fan_out(state.hash_one(key(k as usize)), &key(k as usize));
            shard.fan_out(&Standing::formal(Some(md5("x"))), usize::MAX, |waiter, _, _| {
                found += usize::from(waiter.number() == k);
                false
            });
            prop_assert_eq!(found, model.get(&k).map_or(0, Vec::len));
        }
    }
}
