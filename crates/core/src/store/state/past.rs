//! The history records by id and by configuration.

use std::collections::VecDeque;
use std::sync::Arc;

use imbl::OrdMap;

use crate::key::GroupKey;
use crate::kind::history::{History, MAX_VERSIONS};

/// See the module. A clone is O(1) and independent.
#[derive(Debug, Clone, Default)]
pub(super) struct Past {
    by_id: OrdMap<u64, Arc<History>>,
    /// Ids, oldest first.
    by_key: OrdMap<GroupKey, Arc<VecDeque<u64>>>,
    last: u64,
    /// Weight of all records.
    bytes: u64,
}

impl Past {
    /// Id of the newest record that ever was.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    pub(super) const fn set_last(&mut self, last: u64) {
        self.last = last;
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn get(&self, id: u64) -> Option<&Arc<History>> {
        self.by_id.get(&id)
    }

    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = &Arc<History>> {
        self.by_id.values()
    }

    /// Newest first.
    pub(super) fn of<'a>(
        &'a self,
        key: &GroupKey,
    ) -> impl DoubleEndedIterator<Item = &'a Arc<History>> + use<'a> {
        let ids = self.by_key.get(key).into_iter().flat_map(|ids| ids.iter().rev());
        ids.filter_map(|id| self.by_id.get(id))
    }

    /// The configurations that have records.
    pub(super) fn keys(&self) -> impl Iterator<Item = &GroupKey> {
        self.by_key.keys()
    }

    /// How many records the configuration has.
    pub(super) fn count_of(&self, key: &GroupKey) -> usize {
        self.by_key.get(key).map_or(0, |ids| ids.len())
    }

    /// Ids of a configuration's records, oldest first.
    pub(super) fn ids_of<'a>(&'a self, key: &GroupKey) -> impl Iterator<Item = u64> + use<'a> {
        self.by_key.get(key).into_iter().flat_map(|ids| ids.iter().copied())
    }

    /// Weight of all records.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds the newest record; its id is [`Self::last`] + 1.
    pub(super) fn add(&mut self, record: Arc<History>) {
        self.last = record.id;
        self.bytes += record.weight();
        let ids = Arc::make_mut(self.by_key.entry(record.key.clone()).or_default());
        ids.push_back(record.id);
        self.by_id.insert(record.id, record);
    }

    /// Takes one record out that must give way, as long as there are too many: of this
    /// configuration, whose newest record was just added, or of all.
    pub(super) fn give_way(&mut self, key: &GroupKey, most_bytes: u64) -> Option<Arc<History>> {
        let of_key = self.by_key.get(key).filter(|ids| ids.len() > MAX_VERSIONS);
        let oldest = of_key.and_then(|ids| ids.front().copied());
        let oldest = oldest.or_else(|| {
            // The newest one stays, however large.
            let is_too_much = self.bytes > most_bytes && self.by_id.len() > 1;
            self.by_id.keys().next().copied().filter(|_| is_too_much)
        });
        self.remove(oldest?)
    }

    /// Adds a record that was kept, in any order.
    pub(super) fn read_back(&mut self, mut record: History) {
        // One text for all records of a configuration.
        if let Some((held, _)) = self.by_key.get_key_value(&record.key) {
            record.key = held.clone();
        }
        let ids = Arc::make_mut(self.by_key.entry(record.key.clone()).or_default());
        let place = ids.partition_point(|id| *id < record.id);
        ids.insert(place, record.id);
        self.bytes += record.weight();
        self.by_id.insert(record.id, Arc::new(record));
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Arc<History>> {
        let record = self.by_id.remove(&id)?;
        self.bytes -= record.weight();
        if let Some(ids) = self.by_key.get_mut(&record.key) {
            let ids = Arc::make_mut(ids);
            if let Ok(place) = ids.binary_search(&id) {
                ids.remove(place);
            }
            if ids.is_empty() {
                self.by_key.remove(&record.key);
            }
        }
        Some(record)
    }
}
