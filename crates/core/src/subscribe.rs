//! Connections that listen until they end, beside polls that listen once.
//!
//! A subscriber registers in the [`WatchIndex`](crate::watch::WatchIndex) under a number that it
//! gets here; the announcer finds it by that number. The highest bit of a waiter's number tells
//! subscribers from polls.

use std::sync::Arc;
use std::task::Waker;

use parking_lot::RwLock;

use crate::content::Md5;
use crate::key::GroupKey;
use crate::kind::gray::Labels;
use crate::poll::PollService;
use crate::watch::{Change, ClientMd5, WaiterId, Waiters};

const SUBSCRIBER: u32 = 1 << 31;

/// Who is told of changes for as long as it is registered.
pub trait Subscriber: Send + Sync {
    /// What a client with these labels sees of a key is not what it claimed.
    /// Called under a shard's lock: it must not touch the index, and gives its waker instead of
    /// using it. `tag` is what it registered with.
    fn changed(&self, change: &Arc<Change>, tag: u8) -> Option<Waker>;

    /// Whether its client has taken all that it was to be told of a key. Called under a shard's
    /// lock, as [`Self::changed`].
    fn has_heard(&self, key: &GroupKey) -> bool;

    /// By which gray releases are chosen for it.
    fn labels(&self) -> &Labels;
}

/// The subscribers of a node by number.
#[derive(Default)]
pub struct Subscribers {
    table: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    slots: Vec<Option<Arc<dyn Subscriber>>>,
    free: Vec<u32>,
}

impl std::fmt::Debug for Subscribers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscribers").field("count", &self.count()).finish()
    }
}

impl Subscribers {
    /// Gives a subscriber a number; `None` when two thousand million have one.
    pub fn enter(&self, subscriber: Arc<dyn Subscriber>) -> Option<WaiterId> {
        let mut table = self.table.write();
        let number = match table.free.pop() {
            Some(number) => number,
            None => {
                let number = u32::try_from(table.slots.len()).ok()?;
                table.slots.push(None);
                number
            }
        };
        // The largest number with the bit stands for nobody.
        let id = WaiterId::new(number | SUBSCRIBER).filter(|_| number < SUBSCRIBER - 1)?;
        *table.slots.get_mut(number as usize)? = Some(subscriber);
        Some(id)
    }

    /// Takes the number back. Its registrations in the index must have been ended before.
    pub fn leave(&self, id: WaiterId) {
        let number = id.number() & !SUBSCRIBER;
        let mut table = self.table.write();
        let left = table.slots.get_mut(number as usize).and_then(Option::take);
        if left.is_some() {
            table.free.push(number);
        }
        drop(table);
    }

    /// Looks at a subscriber, if it is there.
    fn with<T>(&self, id: WaiterId, look: impl FnOnce(&dyn Subscriber) -> T) -> Option<T> {
        let table = self.table.read();
        let slot = table.slots.get((id.number() & !SUBSCRIBER) as usize)?;
        slot.as_deref().map(look)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        let table = self.table.read();
        table.slots.len() - table.free.len()
    }

    /// Everybody who is there now.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<dyn Subscriber>> {
        self.table.read().slots.iter().flatten().cloned().collect()
    }
}

/// Both kinds of waiters, for the announcer.
#[derive(Debug)]
pub struct AllWaiters<'a> {
    /// Polls.
    pub polls: &'a PollService,
    /// Subscribers.
    pub subscribers: &'a Subscribers,
}

impl AllWaiters<'_> {
    /// Reads the labels of a waiter's client, under the waiter's lock; `None` when it has left.
    pub fn with_labels<T>(&self, waiter: WaiterId, read: impl FnOnce(&Labels) -> T) -> Option<T> {
        if waiter.number() & SUBSCRIBER == 0 {
            return self.polls.with_labels(waiter, read);
        }
        self.subscribers.with(waiter, |subscriber| read(subscriber.labels()))
    }

    /// Whether the client of a waiter, which claims this, is up to date with a server that has
    /// `server`: it says so, or it was told of a change and has taken that in.
    #[must_use]
    pub fn is_current(
        &self,
        waiter: WaiterId,
        key: &GroupKey,
        claim: ClientMd5,
        server: Option<Md5>,
    ) -> bool {
        let has_heard = |subscriber: &dyn Subscriber| subscriber.has_heard(key);
        claim.matches(server)
            || (claim == ClientMd5::Other
                && waiter.number() & SUBSCRIBER != 0
                && self.subscribers.with(waiter, has_heard) == Some(true))
    }
}

impl Waiters for AllWaiters<'_> {
    fn wake(
        &self,
        waiter: WaiterId,
        change: &Arc<Change>,
        registered: (u8, ClientMd5),
        wakers: &mut Vec<Waker>,
    ) -> bool {
        if waiter.number() & SUBSCRIBER == 0 {
            return self.polls.wake(waiter, change, registered, wakers);
        }
        let (tag, claim) = registered;
        let told = self.subscribers.with(waiter, |subscriber| {
            let is_concerned = change.concerns(subscriber.labels(), claim);
            is_concerned.then(|| subscriber.changed(change, tag))
        });
        let Some(Some(waker)) = told else { return false };
        wakers.extend(waker);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::Instant;

    use super::*;
    use crate::key::{DataId, Group, GroupKey, NamespaceId};
    use crate::kind::gray::Standing;
    use crate::poll::Capacity;
    use crate::watch::WatchIndex;

    #[derive(Default)]
    struct Counting(AtomicU32, Labels);

    impl Subscriber for Counting {
        fn changed(&self, _: &Arc<Change>, tag: u8) -> Option<Waker> {
            self.0.fetch_add(u32::from(tag), Ordering::SeqCst);
            None
        }

        fn has_heard(&self, _: &GroupKey) -> bool {
            self.0.load(Ordering::SeqCst) == 0
        }

        fn labels(&self) -> &Labels {
            &self.1
        }
    }

    #[test]
    fn numbers_are_used_again_and_lead_to_their_owner() {
        let subscribers = Subscribers::default();
        let (one, other) = (Arc::new(Counting::default()), Arc::new(Counting::default()));
        let id = subscribers.enter(Arc::<Counting>::clone(&one)).unwrap();
        subscribers.leave(id);
        subscribers.leave(id);
        let again = subscribers.enter(Arc::<Counting>::clone(&other)).unwrap();
        let second = subscribers.enter(Arc::<Counting>::clone(&one)).unwrap();
        assert_eq!((id, subscribers.count()), (again, 2));
        assert_ne!(again, second);

        let index = Arc::new(WatchIndex::new());
        let capacity = Capacity { polls: 1, keys: 1 };
        let polls = PollService::new(Arc::clone(&index), capacity, Instant::now());
        let waiters = AllWaiters { polls: &polls, subscribers: &subscribers };
        let key = GroupKey::new(
            &NamespaceId::public(),
            &Group::parse("G").unwrap(),
            &DataId::parse("d").unwrap(),
        );
        let listener = index.listen(key.clone(), ClientMd5::Empty, 7, again).unwrap();
        let mut seen = Vec::new();
        index.listeners_of(&key, &mut |waiter, claim| {
            seen.push((waiters.with_labels(waiter, Labels::clone), claim));
        });
        let labels = other.labels().clone();
        assert_eq!(seen, [(Some(labels.clone()), ClientMd5::Empty)]);
        // What it claims, or what it was told and took in.
        let server = Some(Md5([1; 16]));
        for (claim, server, want) in [
            (ClientMd5::Empty, None, true),
            (ClientMd5::Empty, server, false),
            (ClientMd5::Other, server, true),
        ] {
            assert_eq!(waiters.is_current(again, &key, claim, server), want, "{claim:?}");
        }
        let mut all = Vec::new();
        index.all_listeners(&mut |key, waiter, _| {
            all.push((key.clone(), waiters.with_labels(waiter, Labels::clone)));
        });
        assert_eq!(all, [(key.clone(), Some(labels))]);
        let change = Arc::new(Change::new(key, Standing::default(), Instant::now()));
        let other_md5 = ClientMd5::Other;
        assert!(!waiters.wake(again, &change, (7, ClientMd5::Empty), &mut Vec::new()));
        assert!(waiters.wake(again, &change, (7, other_md5), &mut Vec::new()));
        assert_eq!((other.0.load(Ordering::SeqCst), one.0.load(Ordering::SeqCst)), (7, 0));
        index.unlisten(listener);
        subscribers.leave(again);
        assert!(!waiters.wake(again, &change, (7, other_md5), &mut Vec::new()));
    }
}
