//! Who waits for which key, and how a change reaches exactly those.
//!
//! [`WatchIndex`] maps a group key to its listeners, sharded by hash. A waiter (a held poll; later
//! also a gRPC connection) listens to any number of keys, at O(1) and at most 64 bytes for each; a
//! change costs O(listeners of that key). An entry lives as long as its last listener.
//!
//! [`AnnounceQueue`] stands between apply and the waiters: apply only marks the changed keys that
//! somebody watches, and one announcer task compares and wakes beside it.
//!
//! Nothing is missed because of one order on each side. A waiter *listens, then compares* its
//! claims with the store; apply *makes the new state readable, then queues* the key. So either the
//! comparison sees the new state or the announcer finds the listener.
//!
//! A waiter that was woken and listens on has no claim until it makes one again
//! ([`WatchIndex::claim`]): not every client says at once what it has read, and what it claimed
//! before may come back.
//!
//! Locks: a shard's lock is taken before a waiter's own (see [`Waiters`]), never the other way
//! round, and never held while a lookup in the store or a waker runs.

mod announce;
mod feed;
mod shard;
mod slab;
#[cfg(test)]
mod tests;

use std::hash::BuildHasher;
use std::num::NonZeroU32;

use parking_lot::Mutex;
use tokio::time::Instant;

pub(crate) use self::announce::yield_now;
pub use self::announce::{AnnounceQueue, Change, Waiters};
pub use self::feed::{Fed, KeyFeed};
use self::shard::{Hashing, LISTENER_BITS, Shard};
pub(crate) use self::slab::{NIL, Slab, slot_bytes};
use crate::content::Md5;
use crate::key::GroupKey;

/// Shards of the index. Many, so that rebuilding the table of one stays short.
const SHARDS: usize = 256;

/// Elements that a buffer may keep after use; beyond, its memory goes back.
const KEPT: usize = 1024;

/// The md5 that a client sent for a key: what it believes the server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientMd5 {
    /// The empty text: the client has no such config.
    Empty,
    /// A digest.
    Digest(Md5),
    /// A text that is no lower-case digest and so equals nothing the server has.
    Other,
}

impl ClientMd5 {
    /// Reads the text of a request.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text.is_empty() {
            Self::Empty
        } else {
            Md5::parse(text).map_or(Self::Other, Self::Digest)
        }
    }

    /// Whether the client is up to date with a server that has this.
    #[must_use]
    pub fn matches(self, server: Option<Md5>) -> bool {
        match self {
            Self::Empty => server.is_none(),
            Self::Digest(md5) => server == Some(md5),
            Self::Other => false,
        }
    }
}

/// Names a waiter in the index. What the number means is the affair of who gave it
/// ([`Waiters`]): one bit of it can tell polls from another kind of waiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaiterId(NonZeroU32);

impl WaiterId {
    /// A waiter of this number; `None` for `u32::MAX`.
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        number.checked_add(1).and_then(NonZeroU32::new).map(Self)
    }

    /// The number again.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0.get() - 1
    }
}

/// One registration of a waiter under a key; whoever gets it gives it back to
/// [`WatchIndex::unlisten`], once.
#[derive(Debug, PartialEq, Eq)]
pub struct ListenerId(u32);

/// Group key → listeners. See the module.
#[derive(Debug)]
pub struct WatchIndex {
    /// Seeded, for clients choose the keys.
    state: Hashing,
    shards: Box<[Mutex<Shard>]>,
}

impl Default for WatchIndex {
    fn default() -> Self {
        Self::new()
    }
}

impl WatchIndex {
    /// An empty index.
    #[must_use]
    pub fn new() -> Self {
        Self::hashing(Hashing::seeded())
    }

    /// An empty index that announces keys in the same order in each run, for simulations.
    #[must_use]
    pub fn unseeded() -> Self {
        Self::hashing(Hashing::unseeded())
    }

    fn hashing(state: Hashing) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard::new())).collect();
        Self { state, shards }
    }

    /// Registers a waiter under a key, with what its client has and a tag that comes back when
    /// it is woken. Compare with the store after this, not before. `None` when the index is full
    /// (16 million listeners or a million keys in one of 256 shards).
    pub fn listen(
        &self,
        key: GroupKey,
        md5: ClientMd5,
        tag: u8,
        waiter: WaiterId,
    ) -> Option<ListenerId> {
        let (hash, number) = self.place(&key);
        let mut shard = self.shard(number).lock();
        let id = shard.listen(&self.state, hash, key, (md5, tag), waiter)?;
        Some(ListenerId((number << LISTENER_BITS) | id))
    }

    /// The waiter says again what its client has. Compare with the store after this.
    pub fn claim(&self, id: &ListenerId, md5: ClientMd5, tag: u8) {
        let mut shard = self.shard(id.0 >> LISTENER_BITS).lock();
        shard.claim(id.0 & ((1 << LISTENER_BITS) - 1), md5, tag);
    }

    /// Ends a registration.
    #[expect(clippy::needless_pass_by_value, reason = "the id is used up")]
    pub fn unlisten(&self, id: ListenerId) {
        let mut shard = self.shard(id.0 >> LISTENER_BITS).lock();
        shard.unlisten(&self.state, id.0 & ((1 << LISTENER_BITS) - 1));
    }

    /// How many keys somebody listens to. Visits every shard: for metrics and tests.
    #[must_use]
    pub fn watched_keys(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().watched_keys()).sum()
    }

    /// How many registrations there are, keys × waiters. Visits every shard.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().listeners()).sum()
    }

    /// The listeners of a key, with what each claims to have: O(listeners of the key), under the
    /// lock of its shard. `visit` may take a waiter's lock and nothing else.
    pub fn listeners_of(&self, key: &GroupKey, visit: &mut dyn FnMut(WaiterId, ClientMd5)) {
        let (hash, number) = self.place(key);
        self.shard(number).lock().listeners_of(hash, key, visit);
    }

    /// All listeners of all keys, shard by shard: for administrators. As [`Self::listeners_of`].
    pub fn all_listeners(&self, visit: &mut dyn FnMut(&GroupKey, WaiterId, ClientMd5)) {
        self.shards.iter().for_each(|shard| shard.lock().all_listeners(visit));
    }

    /// How many keys wait to be announced. Visits every shard.
    fn dirty(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().dirty()).sum()
    }

    /// Marks a key as changed; the number of its shard when the mark is new.
    fn mark_dirty(&self, key: &GroupKey, at: Instant) -> Option<u32> {
        let (hash, number) = self.place(key);
        self.shard(number).lock().mark_dirty(hash, key, at).then_some(number)
    }

    /// Puts the fan-out of a key's shard on its first listener; one fan-out at a time.
    fn start_fan_out(&self, key: &GroupKey) -> u32 {
        let (hash, number) = self.place(key);
        self.shard(number).lock().start_fan_out(hash, key);
        number
    }

    /// Hash of a key and the number of its shard.
    fn place(&self, key: &GroupKey) -> (u64, u32) {
        let hash = self.state.hash_one(key);
        let [number, ..] = hash.to_be_bytes();
        (hash, u32::from(number))
    }

    fn shard(&self, number: u32) -> &Mutex<Shard> {
        self.shards.get(number as usize % SHARDS).expect("a number below SHARDS is in range")
    }
}
