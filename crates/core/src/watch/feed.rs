//! Which keys were written, for those who watch patterns instead of keys.
//!
//! Off, it costs one load a change. On, it keeps each changed key once until somebody takes them;
//! beyond a bound it forgets the keys and says that any may have changed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::key::GroupKey;

/// Keys that are kept until they are taken.
const KEPT_KEYS: usize = 65_536;

/// What was written since the last look.
#[derive(Debug, PartialEq, Eq)]
pub enum Fed {
    /// These keys.
    Keys(BTreeSet<GroupKey>),
    /// Any key: the whole state was replaced, or more were written than are kept.
    Any,
}

/// See the module.
#[derive(Debug, Default)]
pub struct KeyFeed {
    is_on: AtomicBool,
    /// The keys; `None` when any may have changed.
    written: Mutex<Option<BTreeSet<GroupKey>>>,
    news: Notify,
}

impl KeyFeed {
    /// Notes keys from now on. Look at the state after this, not before.
    pub fn switch_on(&self) {
        if !self.is_on.swap(true, Ordering::SeqCst) {
            *self.written.lock() = Some(BTreeSet::new());
        }
    }

    /// Notes no more, and forgets.
    pub fn switch_off(&self) {
        self.is_on.store(false, Ordering::SeqCst);
        *self.written.lock() = Some(BTreeSet::new());
    }

    /// A key was written; its new state is readable.
    pub(super) fn note(&self, key: &GroupKey) {
        if !self.is_on.load(Ordering::SeqCst) {
            return;
        }
        let mut written = self.written.lock();
        if let Some(keys) = written.as_mut() {
            keys.insert(key.clone());
            if keys.len() > KEPT_KEYS {
                *written = None;
            }
        }
        drop(written);
        self.news.notify_one();
    }

    /// The whole state was replaced.
    pub(super) fn note_any(&self) {
        if self.is_on.load(Ordering::SeqCst) {
            *self.written.lock() = None;
            self.news.notify_one();
        }
    }

    /// Waits until something was written, and takes it. For one caller.
    pub async fn next(&self) -> Fed {
        loop {
            self.news.notified().await;
            match self.written.lock().replace(BTreeSet::new()) {
                None => return Fed::Any,
                Some(keys) if !keys.is_empty() => return Fed::Keys(keys),
                Some(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{DataId, Group, NamespaceId};

    fn key(number: usize) -> GroupKey {
        let data_id = DataId::parse(&format!("d{number}")).expect("valid");
        GroupKey::new(&NamespaceId::public(), &Group::parse("G").expect("valid"), &data_id)
    }

    #[tokio::test]
    async fn keys_are_kept_once_up_to_the_bound() {
        let feed = KeyFeed::default();
        feed.note(&key(0));
        feed.switch_on();
        feed.note(&key(1));
        feed.note(&key(1));
        assert_eq!(feed.next().await, Fed::Keys(BTreeSet::from([key(1)])));
        (0..=KEPT_KEYS).for_each(|number| feed.note(&key(number)));
        assert_eq!(feed.next().await, Fed::Any);
        feed.note_any();
        assert_eq!(feed.next().await, Fed::Any);
    }
}
