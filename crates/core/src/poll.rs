//! One long poll: register, compare, wait.
//!
//! The order of use, which loses no change (see [`crate::watch`]):
//!
//! 1. [`PollService::open`] registers the keys;
//! 2. [`Poll::changed`] compares them with the store: if anything differs, answer that at once;
//! 3. [`Poll::wait`] holds until a change, the deadline or the end of the server.
//!
//! Dropping a poll, or its future, at any moment frees all it holds: that is what a disconnect
//! does. Announcer, deadline, [`PollService::close`] and drop meet at the poll's slot, whose first
//! end counts, so a poll is answered once.
//!
//! The caller drives two futures beside the polls: [`PollService::run_deadlines`] and
//! [`crate::watch::AnnounceQueue::run`], which takes the service as its [`Waiters`].

mod slots;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll as Progress, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use self::slots::{NEVER, Outcome, Slots};
use crate::content::Md5;
use crate::key::GroupKey;
use crate::kind::gray::Labels;
use crate::watch::{Change, ClientMd5, ListenerId, WaiterId, Waiters, WatchIndex, yield_now};

/// Deadlines are kept in steps of this: never early, at most this late.
const TICK: Duration = Duration::from_millis(100);

const SHARD_BITS: u32 = 4;
const SHARDS: u32 = 1 << SHARD_BITS;
/// Bits of a poll's number inside its shard. The highest bit of a waiter's number is left for
/// another kind of waiter.
const SLOT_BITS: u32 = 31 - SHARD_BITS;

/// Polls ended under one lock.
const STEP: usize = 256;

/// One key of a poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolledKey {
    /// The key.
    pub key: GroupKey,
    /// What the client has.
    pub md5: ClientMd5,
    /// Comes back with the change of this key; means what the caller decides.
    pub tag: u8,
}

/// How much a [`PollService`] accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Polls at one time.
    pub polls: usize,
    /// Keys of all polls together.
    pub keys: usize,
}

/// Why a poll was not accepted; nothing is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PollRefused {
    /// As many polls are held as this node may hold.
    #[error("{limit} long polls are held already")]
    Polls {
        /// The capacity.
        limit: usize,
    },
    /// The keys of all polls would be more than this node may hold.
    #[error("long polls name {limit} keys already")]
    Keys {
        /// The capacity.
        limit: usize,
    },
    /// The server is stopping.
    #[error("the server is stopping")]
    Closed,
}

/// How a wait ended.
#[derive(Debug, Clone)]
pub enum PollEnd {
    /// A key changed to something that the client does not have.
    Changed {
        /// The key and its new state, shared with the other waiters.
        change: Arc<Change>,
        /// The tag of the [`PolledKey`].
        tag: u8,
    },
    /// The deadline passed.
    TimedOut,
    /// The server is stopping.
    Closed,
}

/// All held polls of a node, with their deadlines and limits.
#[derive(Debug)]
pub struct PollService {
    index: Arc<WatchIndex>,
    capacity: Capacity,
    /// Tick 0.
    start: Instant,
    shards: [Mutex<Slots>; SHARDS as usize],
    next_shard: AtomicU32,
    held: AtomicUsize,
    named: AtomicUsize,
    closed: AtomicBool,
    /// The tick that [`PollService::run_deadlines`] sleeps until; [`NEVER`] while it looks.
    sleeping_until: AtomicU32,
    /// A deadline before that tick was set.
    earlier: Notify,
}

impl PollService {
    /// A service without polls. `start` is now: deadlines are counted from it.
    #[must_use]
    pub fn new(index: Arc<WatchIndex>, capacity: Capacity, start: Instant) -> Arc<Self> {
        Arc::new(Self {
            index,
            capacity,
            start,
            shards: std::array::from_fn(|_| Mutex::new(Slots::new(1 << SLOT_BITS))),
            next_shard: AtomicU32::new(0),
            held: AtomicUsize::new(0),
            named: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            sleeping_until: AtomicU32::new(NEVER),
            earlier: Notify::new(),
        })
    }

    /// Registers a poll under all its keys, which may be none, for a client with these labels.
    /// Compare after this.
    ///
    /// # Errors
    /// [`PollRefused`] when the node holds as much as it may, or is stopping.
    pub fn open(
        self: &Arc<Self>,
        keys: Vec<PolledKey>,
        labels: Labels,
    ) -> Result<Poll, PollRefused> {
        let Capacity { polls, keys: limit } = self.capacity;
        if !reserve(&self.held, 1, polls) {
            return Err(PollRefused::Polls { limit: polls });
        }
        if !reserve(&self.named, keys.len(), limit) {
            self.held.fetch_sub(1, Ordering::Relaxed);
            return Err(PollRefused::Keys { limit });
        }
        let shard = self.next_shard.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let slot = {
            let mut slots = self.shard(shard).lock();
            // Read under the lock: `close` sets it before it visits this shard.
            if self.closed.load(Ordering::SeqCst) {
                Err(PollRefused::Closed)
            } else {
                slots.open(labels).ok_or(PollRefused::Polls { limit: polls })
            }
        };
        let slot = slot.inspect_err(|_| {
            self.held.fetch_sub(1, Ordering::Relaxed);
            self.named.fetch_sub(keys.len(), Ordering::Relaxed);
        })?;
        // From here on, dropping the poll undoes everything.
        let mut poll = Poll {
            service: Arc::clone(self),
            number: (shard << SLOT_BITS) | slot,
            named: keys.len(),
            listeners: Listeners::None,
            keys,
        };
        poll.listen()?;
        Ok(poll)
    }

    /// Ends polls whose deadline has passed, until [`PollService::close`]. Sleeps while no
    /// deadline is due.
    pub async fn run_deadlines(&self) {
        let mut wakers = Vec::new();
        while !self.closed.load(Ordering::SeqCst) {
            // While this reads NEVER, every new deadline leaves a permit: none is overlooked.
            self.sleeping_until.store(NEVER, Ordering::SeqCst);
            let first = self.shards.iter().filter_map(|slots| slots.lock().first_tick()).min();
            let Some(first) = first else {
                self.earlier.notified().await;
                continue;
            };
            self.sleeping_until.store(first, Ordering::SeqCst);
            // Either way out leads to a sweep, so that a stream of new deadlines cannot put off
            // the old ones.
            drop(timeout_at(self.start + TICK * first, self.earlier.notified()).await);
            let now = Instant::now().saturating_duration_since(self.start);
            let now = u32::try_from(now.as_nanos() / TICK.as_nanos()).unwrap_or(NEVER - 1);
            for slots in &self.shards {
                while slots.lock().expire(now, STEP, &mut wakers) {
                    wakers.drain(..).for_each(Waker::wake);
                    yield_now().await;
                }
                wakers.drain(..).for_each(Waker::wake);
            }
        }
    }

    /// Ends all held polls with [`PollEnd::Closed`] and accepts no more.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let mut wakers = Vec::new();
        for slots in &self.shards {
            slots.lock().close(&mut wakers);
            wakers.drain(..).for_each(Waker::wake);
        }
        self.earlier.notify_one();
    }

    /// How many polls there are now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// How many keys they name, each poll counted for itself.
    #[must_use]
    pub fn named_keys(&self) -> usize {
        self.named.load(Ordering::Relaxed)
    }

    /// What this node may hold.
    #[must_use]
    pub const fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// Reads the labels of the client that holds this poll.
    pub(crate) fn with_labels<T>(
        &self,
        waiter: WaiterId,
        read: impl FnOnce(&Labels) -> T,
    ) -> Option<T> {
        let number = waiter.number();
        self.slots(number).lock().labels(slot(number)).map(read)
    }

    fn arm(&self, number: u32, deadline: Instant) {
        let after = deadline.saturating_duration_since(self.start);
        let tick = u32::try_from(after.as_nanos().div_ceil(TICK.as_nanos())).unwrap_or(NEVER);
        let tick = tick.min(NEVER - 1);
        self.slots(number).lock().arm(slot(number), tick);
        if tick < self.sleeping_until.load(Ordering::SeqCst) {
            self.earlier.notify_one();
        }
    }

    fn slots(&self, number: u32) -> &Mutex<Slots> {
        self.shard(number >> SLOT_BITS)
    }

    fn shard(&self, shard: u32) -> &Mutex<Slots> {
        self.shards.get((shard % SHARDS) as usize).expect("a number below SHARDS is in range")
    }
}

/// A poll's number inside its shard.
const fn slot(number: u32) -> u32 {
    number & ((1 << SLOT_BITS) - 1)
}

/// Adds to a counter unless that passes the limit.
fn reserve(counter: &AtomicUsize, more: usize, limit: usize) -> bool {
    let add = |now: usize| now.checked_add(more).filter(|sum| *sum <= limit);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
}

impl Waiters for PollService {
    fn wake(
        &self,
        waiter: WaiterId,
        change: &Arc<Change>,
        (tag, claim): (u8, ClientMd5),
        wakers: &mut Vec<Waker>,
    ) -> bool {
        let number = waiter.number();
        let mut slots = self.slots(number).lock();
        if change.standing.releases.is_some() {
            let labels = slots.labels(slot(number));
            if !labels.is_some_and(|labels| change.concerns(labels, claim)) {
                return false;
            }
        }
        slots.end(slot(number), Outcome::Changed(Arc::clone(change), tag), wakers)
    }
}

/// A registered poll. Dropping it frees everything.
#[derive(Debug)]
pub struct Poll {
    service: Arc<PollService>,
    number: u32,
    named: usize,
    listeners: Listeners,
    /// For the comparison; gone when the wait begins.
    keys: Vec<PolledKey>,
}

/// The registrations of a poll. Most polls name one key or many, few name none.
#[derive(Debug)]
enum Listeners {
    None,
    One(ListenerId),
    Many(Box<[ListenerId]>),
}

impl Poll {
    fn listen(&mut self) -> Result<(), PollRefused> {
        let mut ids = Vec::with_capacity(self.keys.len());
        let waiter = WaiterId::new(self.number);
        let mut full = false;
        for PolledKey { key, md5, tag } in &self.keys {
            let id = waiter.and_then(|it| self.service.index.listen(key.clone(), *md5, *tag, it));
            full |= id.is_none();
            ids.extend(id);
        }
        self.listeners = match ids.pop() {
            None => Listeners::None,
            Some(only) if ids.is_empty() => Listeners::One(only),
            Some(last) => {
                ids.push(last);
                Listeners::Many(ids.into_boxed_slice())
            }
        };
        if full { Err(PollRefused::Keys { limit: self.service.capacity.keys }) } else { Ok(()) }
    }

    /// The keys as given to [`PollService::open`].
    #[must_use]
    pub fn keys(&self) -> &[PolledKey] {
        &self.keys
    }

    /// Compares with what the store has now: the positions in [`Poll::keys`] of those that
    /// differ.
    pub fn changed(&self, lookup: impl Fn(&GroupKey) -> Option<Md5>) -> Vec<usize> {
        let differs = |polled: &PolledKey| !polled.md5.matches(lookup(&polled.key));
        let numbered = self.keys.iter().enumerate();
        numbered.filter(|(_, polled)| differs(polled)).map(|(index, _)| index).collect()
    }

    /// Holds until a key changes, the deadline passes (at most 100 ms late) or the service
    /// closes. An end that came between [`PollService::open`] and this is not lost. The list of
    /// keys is freed at once; all else when the future ends or is dropped.
    pub async fn wait(mut self, deadline: Instant) -> PollEnd {
        self.keys = Vec::new();
        self.service.arm(self.number, deadline);
        poll_fn(|context| self.progress(context)).await
    }

    fn progress(&self, context: &Context<'_>) -> Progress<PollEnd> {
        let (outcome, old_waker) =
            self.service.slots(self.number).lock().poll(slot(self.number), context);
        drop(old_waker);
        match outcome {
            None | Some(Outcome::Waiting) => Progress::Pending,
            Some(Outcome::Changed(change, tag)) => {
                Progress::Ready(PollEnd::Changed { change, tag })
            }
            Some(Outcome::TimedOut) => Progress::Ready(PollEnd::TimedOut),
            Some(Outcome::Closed) => Progress::Ready(PollEnd::Closed),
        }
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        // First out of the index: after that nobody can name the slot, and its number is free.
        match std::mem::replace(&mut self.listeners, Listeners::None) {
            Listeners::None => {}
            Listeners::One(id) => self.service.index.unlisten(id),
            Listeners::Many(ids) => {
                ids.into_iter().for_each(|id| self.service.index.unlisten(id));
            }
        }
        let slot = self.service.slots(self.number).lock().remove(slot(self.number));
        drop(slot);
        self.service.held.fetch_sub(1, Ordering::Relaxed);
        self.service.named.fetch_sub(self.named, Ordering::Relaxed);
    }
}
