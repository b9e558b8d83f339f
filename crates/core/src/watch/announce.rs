//! From a changed key to its waiters, beside apply.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};

use bytes::Bytes;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use super::feed::KeyFeed;
use super::{ClientMd5, KEPT, SHARDS, WaiterId, WatchIndex};
use crate::key::GroupKey;
use crate::kind::gray::{Labels, Standing};

/// Listeners visited under one lock and woken before the announcer lets others run: some
/// microseconds, for those who were woken want the same lock to leave.
const STEP: usize = 64;

/// Forms of a response that a [`Change`] keeps.
const RENDERED: usize = 4;

/// What one announcement says, shared by all whom it wakes.
#[derive(Debug)]
pub struct Change {
    /// The key.
    pub key: GroupKey,
    /// What the store had when it was announced.
    pub standing: Standing,
    /// When the change was queued (of several that were announced together, the first).
    pub at: Instant,
    rendered: [OnceLock<Bytes>; RENDERED],
}

impl Change {
    /// A change to announce.
    #[must_use]
    pub fn new(key: GroupKey, standing: Standing, at: Instant) -> Self {
        Self { key, standing, at, rendered: Default::default() }
    }

    /// Whether a client with these labels that claims `md5` must be told.
    #[must_use]
    pub fn concerns(&self, labels: &Labels, md5: ClientMd5) -> bool {
        !md5.matches(self.standing.md5_for(labels))
    }

    /// The bytes of one form of answer, made once and shared: `slot` 0 to 3 means what the caller
    /// decides. From 4 on nothing is kept.
    pub fn rendered(&self, slot: usize, make: impl FnOnce(&GroupKey) -> Bytes) -> Bytes {
        match self.rendered.get(slot) {
            Some(kept) => kept.get_or_init(|| make(&self.key)).clone(),
            None => make(&self.key),
        }
    }
}

/// Those who registered in the index, as the announcer sees them.
pub trait Waiters {
    /// Tells a waiter of a change, with the tag and the claim it registered under that key; true
    /// when it was still waiting and the change concerns it ([`Change::concerns`]: only a waiter
    /// knows its labels). Called under a shard's lock: so it must not touch the index, and it adds
    /// the waker to `wakers` instead of using it.
    fn wake(
        &self,
        waiter: WaiterId,
        change: &Arc<Change>,
        registered: (u8, ClientMd5),
        wakers: &mut Vec<Waker>,
    ) -> bool;
}

/// The changed keys that are still to be announced: each watched key at most once.
#[derive(Debug)]
pub struct AnnounceQueue {
    pub(super) index: Arc<WatchIndex>,
    /// For those who watch patterns.
    feed: KeyFeed,
    /// A bit for each shard that has marked keys.
    marked: [AtomicU64; SHARDS / 64],
    /// A permit whenever a bit was set since the announcer last looked.
    news: Notify,
    closed: AtomicBool,
    /// One announcer at a time: a shard has one cursor.
    announcing: Mutex<()>,
    announced: AtomicU64,
    woken: AtomicU64,
}

impl AnnounceQueue {
    /// An empty queue over an index.
    #[must_use]
    pub fn new(index: Arc<WatchIndex>) -> Self {
        Self {
            index,
            feed: KeyFeed::default(),
            marked: Default::default(),
            news: Notify::new(),
            closed: AtomicBool::new(false),
            announcing: Mutex::new(()),
            announced: AtomicU64::new(0),
            woken: AtomicU64::new(0),
        }
    }

    /// Queues a key whose new state is readable already. Cheap: nothing when nobody watches the
    /// key or when it is queued already. `at` is the time of the change, for log lines.
    pub fn queue(&self, key: &GroupKey, at: Instant) {
        self.feed.note(key);
        self.mark(key, at);
    }

    fn mark(&self, key: &GroupKey, at: Instant) {
        let Some(shard) = self.index.mark_dirty(key, at) else { return };
        let bit = 1 << (shard % 64);
        let Some(word) = self.marked.get(shard as usize / 64) else { return };
        if word.fetch_or(bit, Ordering::SeqCst) & bit == 0 {
            self.news.notify_one();
        }
    }

    /// Queues every watched key for which `differs` is true: after the whole state was replaced.
    /// Waiters that are up to date with the store are not woken, so `|_| true` is right as well.
    pub fn queue_watched(&self, at: Instant, differs: impl Fn(&GroupKey) -> bool) {
        self.feed.note_any();
        let mut keys = Vec::new();
        for shard in &self.index.shards {
            // A key that comes while this runs is compared by its waiter with the new state.
            let steps = shard.lock().key_steps();
            for step in 0..steps {
                shard.lock().keys(step, &mut keys);
                for key in keys.drain(..).filter(&differs) {
                    self.mark(&key, at);
                }
            }
        }
    }

    /// Every key that is written, for those who watch patterns.
    #[must_use]
    pub const fn feed(&self) -> &KeyFeed {
        &self.feed
    }

    /// Announces until [`AnnounceQueue::close`]: takes the marked keys, looks up what the store
    /// has *now* and wakes the waiters that claimed something else. The others stay. A second
    /// call waits for the first to end. To stop it, close the queue: dropping the future in the
    /// middle forgets the keys it had taken.
    pub async fn run(&self, lookup: impl Fn(&GroupKey) -> Standing, waiters: &impl Waiters) {
        let _one_at_a_time = self.announcing.lock().await;
        let (mut keys, mut wakers) = (Vec::new(), Vec::new());
        while !self.closed.load(Ordering::SeqCst) {
            self.news.notified().await;
            for (word, first) in self.marked.iter().zip((0..).step_by(64)) {
                let mut bits = word.swap(0, Ordering::SeqCst);
                while bits != 0 {
                    let shard = first + bits.trailing_zeros();
                    bits &= bits - 1;
                    self.index.shard(shard).lock().take_dirty(&mut keys);
                    for (key, at) in keys.drain(..) {
                        if self.closed.load(Ordering::SeqCst) {
                            return;
                        }
                        self.announce(&key, at, &lookup, waiters, &mut wakers).await;
                    }
                    keys.shrink_to(KEPT);
                }
            }
        }
    }

    /// Ends [`AnnounceQueue::run`]; what is queued stays unannounced.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.news.notify_one();
    }

    /// How many keys are queued now: never more than are watched. Visits every shard.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.index.dirty()
    }

    /// How many keys were announced so far.
    #[must_use]
    pub fn announced(&self) -> u64 {
        self.announced.load(Ordering::Relaxed)
    }

    /// How many waiters were woken so far.
    #[must_use]
    pub fn woken(&self) -> u64 {
        self.woken.load(Ordering::Relaxed)
    }

    async fn announce(
        &self,
        key: &GroupKey,
        at: Instant,
        lookup: &impl Fn(&GroupKey) -> Standing,
        waiters: &impl Waiters,
        wakers: &mut Vec<Waker>,
    ) {
        self.announced.fetch_add(1, Ordering::Relaxed);
        let mut change: Option<Arc<Change>> = None;
        let shard = self.index.start_fan_out(key);
        loop {
            // Looked up again for each step, since the store may move on while others run.
            let standing = lookup(key);
            if change.as_ref().is_some_and(|change| change.standing != standing) {
                change = None;
            }
            let mut woken = 0;
            let more =
                self.index.shard(shard).lock().fan_out(&standing, STEP, |waiter, tag, md5| {
                    let change = change.get_or_insert_with(|| {
                        Arc::new(Change::new(key.clone(), standing.clone(), at))
                    });
                    let is_woken = waiters.wake(waiter, change, (tag, md5), wakers);
                    woken += u64::from(is_woken);
                    is_woken
                });
            self.woken.fetch_add(woken, Ordering::Relaxed);
            wakers.drain(..).for_each(Waker::wake);
            if !more {
                return;
            }
            yield_now().await;
        }
    }
}

/// Lets the executor run other tasks once.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
