//! What each command does to the state. A pure function: no clock, no chance, no failure; a refusal
//! is a reply.

use std::sync::Arc;

use super::{Applied, Change, State};
use crate::command::{
    Cause, ChangeEvent, ChangeItem, Command, Outcome, Publish, PublishGray, Remove, RemoveGray,
    RemoveNamespace, Reply, SetNamespace, TrimHistory, Writer,
};
use crate::key::GroupKey;
use crate::kind::cluster::ClusterFacts;
use crate::kind::config::{self, ConfigDatum};
use crate::kind::gray::{self, Releases};
use crate::kind::history::{self, History, Kept, Operation};
use crate::kind::namespace::{MAX_NAMESPACES, Namespace};
use crate::time::Revision;

/// Most records that one command may trim, whatever it says.
const MAX_TRIMMED: u32 = 10_000;

/// Who wrote, and why.
#[derive(Clone, Copy)]
struct Author<'a> {
    writer: &'a Writer,
    cause: Cause,
    revision: Revision,
}

fn refused(revision: Revision, outcome: Outcome) -> Applied {
    let reply = Reply { revision, version: 0, outcome };
    Applied { reply, ..Applied::default() }
}

impl State {
    pub(super) fn execute(&mut self, revision: Revision, command: &Command) -> Applied {
        match command {
            Command::Publish(publish) => self.publish(revision, publish),
            Command::Remove(remove) => self.remove(revision, remove),
            Command::Raise { level } => self.decide(revision, |facts| facts.raise(*level)),
            Command::Retire { nodes } => self.decide(revision, |facts| facts.retire(nodes)),
            Command::Checkpoint => self.decide(revision, |_| ()),
            Command::PublishGray(publish) => self.publish_gray(revision, publish),
            Command::RemoveGray(remove) => self.remove_gray(revision, remove),
            Command::SetNamespace(set) => self.set_namespace(revision, set),
            Command::RemoveNamespace(remove) => self.remove_namespace(revision, remove),
            Command::TrimHistory(trim) => self.trim_history(revision, *trim),
            Command::Changes(items) => self.change_all(revision, items),
        }
    }

    fn decide(&mut self, revision: Revision, decide: impl FnOnce(&mut ClusterFacts)) -> Applied {
        decide(&mut self.header.cluster);
        Applied { reply: Reply { revision, ..Reply::default() }, ..Applied::default() }
    }

    fn publish(&mut self, revision: Revision, publish: &Publish) -> Applied {
        let before = self.configs.get(&publish.key).cloned();
        let (datum, reply) = config::publish(before.as_ref(), publish, revision, self.header.time);
        let Some(datum) = datum else {
            return Applied { reply, ..Applied::default() };
        };
        let changed = before.as_ref().map(ConfigDatum::md5) != Some(datum.md5());
        self.forget_hash_of(&publish.key);
        self.config_hash = self.config_hash.wrapping_add(datum.digest(&publish.key));
        let key = self.insert(&publish.key, datum.clone());
        let md5 = Some(datum.md5());
        let mut applied = Applied { reply, ..Applied::default() };
        if changed {
            applied.events.push(ChangeEvent { key: key.clone(), md5 });
        }
        applied.changes.push(Change::Config(key.clone(), Some(datum.clone())));
        let (operation, kept) = match before {
            None => (Operation::Insert, datum),
            Some(before) => (Operation::Update, before),
        };
        let author = Author { writer: &publish.writer, cause: publish.cause, revision };
        self.remember(key, operation, Kept::Formal(kept), author, &mut applied);
        applied
    }

    /// Inserts under the key that is already there, so that its text stays shared.
    fn insert(&mut self, key: &GroupKey, datum: ConfigDatum) -> GroupKey {
        if let Some((held, _)) = self.configs.get_key_value(key) {
            let held = held.clone();
            self.configs.insert(held.clone(), datum);
            return held;
        }
        self.configs.insert(key.clone(), datum);
        key.clone()
    }

    fn remove(&mut self, revision: Revision, remove: &Remove) -> Applied {
        let before = self.configs.get(&remove.key);
        if let Some(outcome) = config::refusal(before, remove.expected, remove.presence) {
            return refused(revision, outcome);
        }
        self.forget_hash_of(&remove.key);
        let Some(datum) = self.configs.remove(&remove.key) else {
            return refused(revision, Outcome::Absent);
        };
        let mut applied = Applied {
            reply: Reply { revision, version: datum.version(), outcome: Outcome::Done },
            events: vec![ChangeEvent { key: remove.key.clone(), md5: None }],
            changes: vec![Change::Config(remove.key.clone(), None)],
        };
        let author = Author { writer: &remove.writer, cause: remove.cause, revision };
        let kept = Kept::Formal(datum);
        self.remember(remove.key.clone(), Operation::Delete, kept, author, &mut applied);
        applied
    }

    fn forget_hash_of(&mut self, key: &GroupKey) {
        if let Some(datum) = self.configs.get(key) {
            self.config_hash = self.config_hash.wrapping_sub(datum.digest(key));
        }
    }

    /// Adds a history record, from level 3 on.
    fn remember(
        &mut self,
        key: GroupKey,
        operation: Operation,
        kept: Kept,
        author: Author<'_>,
        applied: &mut Applied,
    ) {
        if self.header.cluster.feature_level < history::LEVEL {
            return;
        }
        let Author { writer, cause, revision } = author;
        let record = Arc::new(History {
            id: self.past.last() + 1,
            key,
            operation,
            kept,
            writer: writer.clone(),
            cause,
            revision,
            time: self.header.time,
        });
        self.extra.add(record.digest());
        applied.changes.push(Change::History(record.id, Some(Arc::clone(&record))));
        let key = record.key.clone();
        self.past.add(record);
        while let Some(gone) = self.past.give_way(&key, history::MAX_BYTES) {
            self.extra.subtract(gone.digest());
            applied.changes.push(Change::History(gone.id, None));
        }
    }

    fn publish_gray(&mut self, revision: Revision, publish: &PublishGray) -> Applied {
        let key = self.held_key(&publish.key);
        let releases = self.grays.get(&key).cloned();
        let (gray, reply) = gray::publish(releases.as_ref(), publish, revision, self.header.time);
        let Some(gray) = gray else {
            return Applied { reply, ..Applied::default() };
        };
        let mut applied = Applied { reply, ..Applied::default() };
        let before = releases.as_ref().and_then(|releases| releases.named(&gray.name)).cloned();
        if let Some(before) = &before {
            self.extra.subtract(before.digest(&key));
        }
        self.extra.add(gray.digest(&key));
        if let Some(releases) = Releases::with(releases.as_ref(), &gray) {
            self.grays.insert(key.clone(), releases);
        }
        let same = |before: &gray::Gray| before.md5 == gray.md5 && before.rule == gray.rule;
        if !before.as_deref().is_some_and(same) {
            self.tell_of(&key, &mut applied);
        }
        applied.changes.push(Change::Gray(key.clone(), gray.name.clone(), Some(Arc::clone(&gray))));
        let (operation, kept) = match before {
            None => (Operation::Insert, gray),
            Some(before) => (Operation::Update, before),
        };
        let author = Author { writer: &publish.writer, cause: Cause::Publish, revision };
        self.remember(key, operation, Kept::Gray(kept), author, &mut applied);
        applied
    }

    fn remove_gray(&mut self, revision: Revision, remove: &RemoveGray) -> Applied {
        let key = self.held_key(&remove.key);
        let releases = self.grays.get(&key).cloned();
        let held = releases.as_ref().and_then(|releases| releases.named(&remove.name)).cloned();
        let Some(gray) = held else { return refused(revision, Outcome::Absent) };
        self.extra.subtract(gray.digest(&key));
        match Releases::of(Releases::without(releases.as_ref(), &remove.name)) {
            Some(rest) => drop(self.grays.insert(key.clone(), rest)),
            None => drop(self.grays.remove(&key)),
        }
        let reply = Reply { revision, version: gray.version, outcome: Outcome::Done };
        let mut applied = Applied { reply, ..Applied::default() };
        self.tell_of(&key, &mut applied);
        applied.changes.push(Change::Gray(key.clone(), gray.name.clone(), None));
        let author = Author { writer: &remove.writer, cause: Cause::Publish, revision };
        self.remember(key, Operation::Delete, Kept::Gray(gray), author, &mut applied);
        applied
    }

    /// The key with the text that the configuration has, if it is there.
    fn held_key(&self, key: &GroupKey) -> GroupKey {
        self.configs.get_key_value(key).map_or_else(|| key.clone(), |(held, _)| held.clone())
    }

    /// Somebody sees something else of a key: the announcer finds out who.
    fn tell_of(&self, key: &GroupKey, applied: &mut Applied) {
        let md5 = self.config(key).map(|datum| datum.md5());
        applied.events.push(ChangeEvent { key: key.clone(), md5 });
    }

    fn set_namespace(&mut self, revision: Revision, set: &SetNamespace) -> Applied {
        let before = self.namespaces.get(&set.id).cloned();
        match (&before, set.is_new) {
            (Some(_), true) => return refused(revision, Outcome::Exists),
            (None, false) => return refused(revision, Outcome::Absent),
            (None, true) if self.namespaces.len() >= MAX_NAMESPACES => {
                return refused(revision, Outcome::InUse);
            }
            _ => {}
        }
        let namespace = Namespace::next(before.as_deref(), set, revision, self.header.time);
        if let Some(before) = before {
            self.extra.subtract(before.digest());
        }
        self.extra.add(namespace.digest());
        self.namespaces.insert(set.id.clone(), Arc::clone(&namespace));
        Applied {
            reply: Reply { revision, ..Reply::default() },
            changes: vec![Change::Namespace(set.id.clone(), Some(namespace))],
            ..Applied::default()
        }
    }

    fn remove_namespace(&mut self, revision: Revision, remove: &RemoveNamespace) -> Applied {
        let Some(namespace) = self.namespaces.get(&remove.id).cloned() else {
            return refused(revision, Outcome::Absent);
        };
        if !remove.force && self.configs_in(&remove.id).next().is_some() {
            return refused(revision, Outcome::InUse);
        }
        self.namespaces.remove(&remove.id);
        self.extra.subtract(namespace.digest());
        Applied {
            reply: Reply { revision, ..Reply::default() },
            changes: vec![Change::Namespace(remove.id.clone(), None)],
            ..Applied::default()
        }
    }

    /// Whether [`Command::TrimHistory`] would remove anything.
    #[must_use]
    pub fn would_trim(&self, trim: TrimHistory) -> bool {
        !self.to_trim(TrimHistory { limit: 1, ..trim }).is_empty()
    }

    /// Ids of the records that go.
    fn to_trim(&self, trim: TrimHistory) -> Vec<u64> {
        let limit = trim.limit.min(MAX_TRIMMED) as usize;
        let mut gone: Vec<u64> = self
            .past
            .all()
            .take_while(|record| record.time < trim.before)
            .take(limit)
            .map(|record| record.id)
            .collect();
        if trim.versions > 0 {
            let versions = trim.versions as usize;
            let room = limit.saturating_sub(gone.len());
            let first = gone.last().copied().unwrap_or_default();
            let beyond = self.past.keys().flat_map(|key| {
                let excess = self.past.count_of(key).saturating_sub(versions);
                self.past.ids_of(key).take(excess)
            });
            let beyond: Vec<u64> = beyond.filter(|id| *id > first).take(room).collect();
            gone.extend(beyond);
        }
        gone
    }

    fn trim_history(&mut self, revision: Revision, trim: TrimHistory) -> Applied {
        let mut applied = Applied::default();
        for id in self.to_trim(trim) {
            if let Some(record) = self.past.remove(id) {
                self.extra.subtract(record.digest());
                applied.changes.push(Change::History(id, None));
            }
        }
        let version = applied.changes.len() as u64;
        applied.reply = Reply { revision, version, outcome: Outcome::Done };
        applied
    }

    /// All or none: each part is judged upon the state before the first.
    fn change_all(&mut self, revision: Revision, items: &[ChangeItem]) -> Applied {
        for (number, item) in (1..).zip(items) {
            let before = self.configs.get(item.key());
            let refusal = match item {
                ChangeItem::Publish(it) => config::refusal(before, it.expected, it.presence),
                ChangeItem::Remove(it) => config::refusal(before, it.expected, it.presence),
            };
            if let Some(outcome) = refusal {
                let reply = Reply { revision, version: number, outcome };
                return Applied { reply, ..Applied::default() };
            }
        }
        let mut applied = Applied::default();
        for item in items {
            let Applied { reply: _, events, changes } = match item {
                ChangeItem::Publish(publish) => self.publish(revision, publish),
                ChangeItem::Remove(remove) => self.remove(revision, remove),
            };
            applied.events.extend(events);
            applied.changes.extend(changes);
        }
        applied.reply = Reply { revision, version: 0, outcome: Outcome::Done };
        applied
    }
}
