//! A state read back from its rows.

use bytes::Bytes;
use imbl::OrdMap;
use prost::Message;

use std::sync::Arc;

use super::{Header, State, Sum};
use crate::key::GroupKey;
use crate::kind::cluster::ClusterFacts;
use crate::kind::config::{self, ConfigDatum};
use crate::kind::gray::{self, Releases};
use crate::kind::{history, namespace, origin};
use crate::record::{RecordError, wire};
use crate::time::{LogTime, Revision};

/// A state that is being read from rows.
#[derive(Debug, Default)]
pub struct StateBuilder {
    state: State,
    configs: Vec<(GroupKey, ConfigDatum)>,
}

/// A map with well-filled nodes. Keys that come in order split each node in halves and never
/// fill them: of five neighbours three go in first, and two into the gaps.
fn packed<K: Ord + Clone, V: Clone>(entries: Vec<(K, V)>) -> OrdMap<K, V> {
    let mut map = OrdMap::new();
    let mut later = Vec::with_capacity(entries.len() / 5 * 2 + 2);
    for (number, (key, value)) in entries.into_iter().enumerate() {
        if number % 5 % 2 == 1 {
            later.push((key, value));
        } else {
            map.insert(key, value);
        }
    }
    map.extend(later);
    map
}

impl StateBuilder {
    /// Adds one row, as [`State::rows`] made it, in any order.
    ///
    /// # Errors
    /// [`RecordError`] when this release cannot read it.
    pub fn row(&mut self, bytes: Bytes) -> Result<(), RecordError> {
        let row = wire::Row::decode(bytes)?;
        match row.row.ok_or(RecordError::UnknownKind)? {
            wire::row::Row::Config(row) => {
                let (key, datum) = config::from_row(row)?;
                let digest = datum.digest(&key);
                self.state.config_hash = self.state.config_hash.wrapping_add(digest);
                self.configs.push((key, datum));
            }
            wire::row::Row::Origin(row) => {
                let (id, origin) = origin::from_row(row)?;
                self.state.origins.insert(id, Arc::new(origin));
            }
            wire::row::Row::Gray(row) => {
                let (key, gray) = gray::from_row(row)?;
                self.state.extra.add(gray.digest(&key));
                let held = self.state.grays.get(&key);
                if let Some(releases) = Releases::with(held, &Arc::new(gray)) {
                    self.state.grays.insert(key, releases);
                }
            }
            wire::row::Row::Namespace(row) => {
                let namespace = namespace::from_row(row)?;
                self.state.extra.add(namespace.digest());
                self.state.namespaces.insert(namespace.id.clone(), Arc::new(namespace));
            }
            wire::row::Row::History(row) => {
                let record = history::from_row(row)?;
                self.state.extra.add(record.digest());
                self.state.past.read_back(record);
            }
        }
        Ok(())
    }

    /// Ends with the header and compares its counts and hash.
    ///
    /// # Errors
    /// [`RecordError::Field`] when the rows are not those that the header counted.
    pub fn finish(mut self, header: &[u8]) -> Result<State, RecordError> {
        self.state.configs = packed(self.configs);
        let header = wire::StoreHeader::decode(header)?;
        self.state.header = Header {
            applied: header.has_applied.then_some((header.applied_term, header.applied_index)),
            revision: Revision(header.revision),
            time: LogTime(header.time_ms),
            membership: Bytes::copy_from_slice(&header.membership),
            cluster: ClusterFacts { feature_level: header.feature_level, retired: header.retired },
        };
        self.state.past.set_last(header.last_history);
        if self.state.configs.len() as u64 != header.config_count {
            return Err(RecordError::Field("config_count"));
        }
        if self.state.config_hash.to_be_bytes() != *header.config_hash {
            return Err(RecordError::Field("config_hash"));
        }
        let hash = match *header.extra_hash {
            [] => 0,
            _ => u128::from_be_bytes(
                (*header.extra_hash).try_into().map_err(|_| RecordError::Field("extra_hash"))?,
            ),
        };
        if self.state.extra != (Sum { count: header.extra_count, hash }) {
            return Err(RecordError::Field("extra_hash"));
        }
        Ok(self.state)
    }
}
