//! One shard of the watch index: a chained hash table from key to the list of its listeners.
//!
//! Layout, chosen for bytes and for few cache misses on the way from a key to its first listener:
//! bucket (4 bytes) → [`Entry`] (24 bytes, one for each watched key) → [`Listener`] (32 bytes, one
//! for each key of each waiter). Listeners of one key form a list linked both ways, so that one of
//! 10 000 leaves in O(1) without touching anything outside this shard.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, RandomState};

use tokio::time::Instant;

use super::slab::{NIL, Slab, slot_bytes};
use super::{ClientMd5, WaiterId};
use crate::content::Md5;
use crate::key::GroupKey;
use crate::kind::gray::Standing;

/// Bits of an entry's id; the last id means "none".
const ENTRY_BITS: u32 = 20;
const NO_ENTRY: u32 = (1 << ENTRY_BITS) - 1;
/// Bits of a listener's id inside its shard; the byte above names the shard.
pub(super) const LISTENER_BITS: u32 = 24;
const LEAST_BUCKETS: usize = 8;
/// Room for marks that a shard keeps after an announcement.
const KEPT_MARKS: usize = 32;

/// How keys are hashed: a hasher to start from.
#[derive(Debug, Clone)]
pub(super) struct Hashing(DefaultHasher);

impl Hashing {
    /// Another one in each process.
    pub(super) fn seeded() -> Self {
        Self(RandomState::new().build_hasher())
    }

    /// Always the same one.
    pub(super) fn unseeded() -> Self {
        Self(DefaultHasher::new())
    }
}

impl BuildHasher for Hashing {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        self.0.clone()
    }
}

const _: () = assert!(slot_bytes::<Entry>() == 24 && slot_bytes::<Listener>() == 32);

/// A watched key.
#[derive(Debug)]
struct Entry {
    key: GroupKey,
    /// First listener; never [`NIL`], for an entry leaves with its last listener.
    head: u32,
    /// High 12 bits: part of the key's hash, so that a neighbour in the chain is told apart
    /// without reading its text. Low 20 bits: the next entry of the bucket.
    link: u32,
}

impl Entry {
    const fn next(&self) -> u32 {
        self.link & NO_ENTRY
    }

    fn set_next(&mut self, next: u32) {
        self.link = (self.link & !NO_ENTRY) | next;
    }
}

/// What a client claims about one key.
#[derive(Debug)]
struct Listener {
    digest: [u8; 16],
    waiter: WaiterId,
    /// Neighbours among the listeners of the key, [`NIL`] at the ends.
    before: u32,
    after: u32,
    /// Entry (20 bits), tag (8 bits), kind of claim (2 bits).
    packed: u32,
}

const KIND_EMPTY: u32 = 0;
const KIND_DIGEST: u32 = 1;
const KIND_OTHER: u32 = 2;

impl Listener {
    fn new(entry: u32, after: u32, md5: ClientMd5, tag: u8, waiter: WaiterId) -> Self {
        let mut made = Self { digest: [0; 16], waiter, before: NIL, after, packed: entry };
        made.claim(md5, tag);
        made
    }

    fn claim(&mut self, md5: ClientMd5, tag: u8) {
        let (kind, digest) = match md5 {
            ClientMd5::Empty => (KIND_EMPTY, [0; 16]),
            ClientMd5::Digest(Md5(digest)) => (KIND_DIGEST, digest),
            ClientMd5::Other => (KIND_OTHER, [0; 16]),
        };
        self.digest = digest;
        self.packed = self.entry() | (u32::from(tag) << ENTRY_BITS) | (kind << (ENTRY_BITS + 8));
    }

    const fn entry(&self) -> u32 {
        self.packed & NO_ENTRY
    }

    fn tag(&self) -> u8 {
        ((self.packed >> ENTRY_BITS) & 0xff).try_into().unwrap_or_default()
    }

    fn md5(&self) -> ClientMd5 {
        match self.packed >> (ENTRY_BITS + 8) {
            KIND_EMPTY => ClientMd5::Empty,
            KIND_DIGEST => ClientMd5::Digest(Md5(self.digest)),
            _ => ClientMd5::Other,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shard {
    /// First entry of each chain; the length is a power of two, or 0 before the first key.
    buckets: Vec<u32>,
    entries: Slab<Entry>,
    listeners: Slab<Listener>,
    /// The entries whose key changed and was not announced yet, each with the time of its first
    /// such change. An entry that leaves takes its mark along.
    dirty: HashMap<u32, Instant, BuildHasherDefault<DefaultHasher>>,
    /// The next listener of the fan-out under way; moved on when that listener leaves.
    cursor: u32,
}

impl Shard {
    pub(super) fn new() -> Self {
        Self {
            buckets: Vec::new(),
            entries: Slab::new(NO_ENTRY),
            listeners: Slab::new((1 << LISTENER_BITS) - 1),
            dirty: HashMap::default(),
            cursor: NIL,
        }
    }

    pub(super) const fn watched_keys(&self) -> usize {
        self.entries.len()
    }

    pub(super) const fn listeners(&self) -> usize {
        self.listeners.len()
    }

    pub(super) fn dirty(&self) -> usize {
        self.dirty.len()
    }

    /// Adds a listener; `None` when the shard is full.
    pub(super) fn listen(
        &mut self,
        state: &Hashing,
        hash: u64,
        key: GroupKey,
        (md5, tag): (ClientMd5, u8),
        waiter: WaiterId,
    ) -> Option<u32> {
        let found = self.find(hash, &key);
        let (entry, head) = match found {
            Some(entry) => (entry, self.entries.get(entry)?.head),
            None => (self.add_entry(state, hash, key)?, NIL),
        };
        let Some(id) = self.listeners.insert(Listener::new(entry, head, md5, tag, waiter)) else {
            if found.is_none() {
                self.remove_entry(state, entry);
            }
            return None;
        };
        if let Some(second) = self.listeners.get_mut(head) {
            second.before = id;
        }
        if let Some(entry) = self.entries.get_mut(entry) {
            entry.head = id;
        }
        Some(id)
    }

    /// Another claim of a listener.
    pub(super) fn claim(&mut self, id: u32, md5: ClientMd5, tag: u8) {
        if let Some(listener) = self.listeners.get_mut(id) {
            listener.claim(md5, tag);
        }
    }

    /// Removes a listener, and its key's entry when it was the last.
    pub(super) fn unlisten(&mut self, state: &Hashing, id: u32) {
        let Some(gone) = self.listeners.remove(id) else { return };
        if self.cursor == id {
            self.cursor = gone.after;
        }
        if let Some(after) = self.listeners.get_mut(gone.after) {
            after.before = gone.before;
        }
        if let Some(before) = self.listeners.get_mut(gone.before) {
            before.after = gone.after;
        } else if gone.after == NIL {
            self.remove_entry(state, gone.entry());
        } else if let Some(entry) = self.entries.get_mut(gone.entry()) {
            entry.head = gone.after;
        }
    }

    /// Notes that a key changed. True when this made the mark: the key is watched and had none.
    pub(super) fn mark_dirty(&mut self, hash: u64, key: &GroupKey, at: Instant) -> bool {
        let Some(entry) = self.find(hash, key) else { return false };
        let before = self.dirty.len();
        self.dirty.entry(entry).or_insert(at);
        self.dirty.len() > before
    }

    /// Hands out the marked keys and takes their marks away.
    pub(super) fn take_dirty(&mut self, into: &mut Vec<(GroupKey, Instant)>) {
        for (id, at) in self.dirty.drain() {
            if let Some(entry) = self.entries.get(id) {
                into.push((entry.key.clone(), at));
            }
        }
        self.dirty.shrink_to(KEPT_MARKS);
    }

    /// Puts the cursor on the first listener of a key.
    pub(super) fn start_fan_out(&mut self, hash: u64, key: &GroupKey) {
        let entry = self.find(hash, key).and_then(|entry| self.entries.get(entry));
        self.cursor = entry.map_or(NIL, |entry| entry.head);
    }

    /// Moves the cursor over up to `limit` listeners and calls `wake` for those whose claim is
    /// not `server`; for all of them, with their claims, where releases decide who has what. One
    /// that `wake` woke has no claim any more: nobody knows what its client has until it says it
    /// again. True when there are more.
    pub(super) fn fan_out(
        &mut self,
        server: &Standing,
        limit: usize,
        mut wake: impl FnMut(WaiterId, u8, ClientMd5) -> bool,
    ) -> bool {
        let formal = server.formal;
        let is_gray = server.releases.is_some();
        for _ in 0..limit {
            let Some(listener) = self.listeners.get_mut(self.cursor) else { break };
            self.cursor = listener.after;
            let claim = listener.md5();
            let may_differ = is_gray || !claim.matches(formal);
            if may_differ && wake(listener.waiter, listener.tag(), claim) {
                listener.claim(ClientMd5::Other, listener.tag());
            }
        }
        self.cursor != NIL
    }

    /// The listeners of a key, with what each claims.
    pub(super) fn listeners_of(
        &self,
        hash: u64,
        key: &GroupKey,
        visit: &mut dyn FnMut(WaiterId, ClientMd5),
    ) {
        let entry = self.find(hash, key).and_then(|entry| self.entries.get(entry));
        let mut at = entry.map_or(NIL, |entry| entry.head);
        while let Some(listener) = self.listeners.get(at) {
            visit(listener.waiter, listener.md5());
            at = listener.after;
        }
    }

    /// All listeners of all keys.
    pub(super) fn all_listeners(&self, visit: &mut dyn FnMut(&GroupKey, WaiterId, ClientMd5)) {
        for (_, listener) in self.listeners.iter() {
            if let Some(entry) = self.entries.get(listener.entry()) {
                visit(&entry.key, listener.waiter, listener.md5());
            }
        }
    }

    #[cfg(test)]
    pub(super) const fn buckets(&self) -> usize {
        self.buckets.len()
    }

    #[cfg(test)]
    pub(super) const fn fanning_out(&self) -> bool {
        self.cursor != NIL
    }

    /// How many steps [`Shard::keys`] takes.
    pub(super) const fn key_steps(&self) -> usize {
        self.entries.chunks()
    }

    /// The watched keys of one step, some hundreds.
    pub(super) fn keys(&self, step: usize, into: &mut Vec<GroupKey>) {
        into.extend(self.entries.chunk(step).map(|(_, entry)| entry.key.clone()));
    }

    fn bucket(&self, hash: u64) -> usize {
        // The low 12 bits tell neighbours apart and the high 8 choose the shard.
        let mask = self.buckets.len().wrapping_sub(1);
        usize::try_from((hash >> 12) & 0xfff_ffff).unwrap_or_default() & mask
    }

    fn find(&self, hash: u64, key: &GroupKey) -> Option<u32> {
        let mut at = *self.buckets.get(self.bucket(hash))?;
        while let Some(entry) = self.entries.get(at) {
            if entry.link >> ENTRY_BITS == mark(hash) && entry.key == *key {
                return Some(at);
            }
            at = entry.next();
        }
        None
    }

    fn add_entry(&mut self, state: &Hashing, hash: u64, key: GroupKey) -> Option<u32> {
        if self.entries.len() >= 2 * self.buckets.len() {
            self.rebuild(state, (2 * self.buckets.len()).max(LEAST_BUCKETS));
        }
        let link = (mark(hash) << ENTRY_BITS) | NO_ENTRY;
        let id = self.entries.insert(Entry { key, head: NIL, link })?;
        self.chain(hash, id);
        Some(id)
    }

    /// Puts an entry at the front of its bucket's chain.
    fn chain(&mut self, hash: u64, id: u32) {
        let bucket = self.bucket(hash);
        let (Some(first), Some(entry)) = (self.buckets.get_mut(bucket), self.entries.get_mut(id))
        else {
            return;
        };
        entry.set_next(*first);
        *first = id;
    }

    fn remove_entry(&mut self, state: &Hashing, id: u32) {
        let Some(gone) = self.entries.remove(id) else { return };
        if !self.dirty.is_empty() {
            self.dirty.remove(&id);
        }
        let bucket = self.bucket(state.hash_one(&gone.key));
        let Some(first) = self.buckets.get_mut(bucket) else { return };
        if *first == id {
            *first = gone.next();
        } else {
            let mut at = *first;
            while let Some(entry) = self.entries.get_mut(at) {
                if entry.next() == id {
                    entry.set_next(gone.next());
                    break;
                }
                at = entry.next();
            }
        }
        let buckets = self.buckets.len();
        if buckets > LEAST_BUCKETS && self.entries.len() < buckets / 4 {
            self.rebuild(state, buckets / 2);
        }
    }

    fn rebuild(&mut self, state: &Hashing, buckets: usize) {
        self.buckets = vec![NO_ENTRY; buckets];
        let mut hashed = Vec::new();
        for step in 0..self.key_steps() {
            let entries = self.entries.chunk(step);
            hashed.extend(entries.map(|(id, entry)| (state.hash_one(&entry.key), id)));
            for (hash, id) in hashed.drain(..) {
                self.chain(hash, id);
            }
        }
    }
}

/// The part of a hash that an entry keeps: its low 12 bits.
const fn mark(hash: u64) -> u32 {
    (hash & 0xfff) as u32
}
