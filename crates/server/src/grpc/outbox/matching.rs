//! What one connection is still to be told of one pattern: first the difference between what it
//! knows and what matches, in batches, then what enters and leaves. One push at a time is under
//! way, so a slow reader has a key waiting once, however often it is written.

use std::collections::{BTreeSet, VecDeque};

use quorate_core::key::GroupKey;
use tokio::time::Instant;

use super::{MAX_TRIES, NOTICE_LIMIT, RETRY_STEP};
use crate::grpc::wire::Object;

/// Keys of one pattern that are told (`nacos.config.fuzzy.watch.max.pattern.match.config.count`).
pub(crate) const MATCHES: usize = 500;
/// Keys in one batch (`nacos.config.push.batchSize`).
const BATCH: usize = 20;
/// Written keys that may wait one by one; when there are more all is compared anew.
const MAX_WRITTEN: usize = 4 * MATCHES;

/// A key, and whether it is gone.
type Told = (GroupKey, bool);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Push {
    Batch {
        keys: Vec<Told>,
        total: usize,
        current: usize,
    },
    /// All batches of the first round are acknowledged.
    Finished,
    Change(Told),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The push under way is to be sent, or there is none.
    Ready,
    Sent {
        id: u64,
        at: Instant,
    },
    /// Not acknowledged: to be sent again.
    Waiting {
        until: Instant,
    },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Matching {
    /// What the client knows of: what it said it does, and what it acknowledged.
    told: BTreeSet<GroupKey>,
    is_first: bool,
    batches: VecDeque<Push>,
    /// Keys that were written since, and are to be compared with `told`.
    written: BTreeSet<GroupKey>,
    under_way: Option<Push>,
    stage: Stage,
    tries: u32,
}

impl Matching {
    /// For a client that knows these keys.
    pub(crate) const fn new(told: BTreeSet<GroupKey>, is_first: bool) -> Self {
        Self {
            told,
            is_first,
            batches: VecDeque::new(),
            written: BTreeSet::new(),
            under_way: None,
            stage: Stage::Ready,
            tries: 0,
        }
    }

    /// Puts the difference to what matches into batches.
    pub(crate) fn compare(&mut self, matches: &BTreeSet<GroupKey>) {
        let mut all: Vec<Told> =
            matches.difference(&self.told).map(|key| (key.clone(), false)).collect();
        if matches.len() < MATCHES {
            all.extend(self.told.difference(matches).map(|key| (key.clone(), true)));
        }
        let total = all.len().div_ceil(BATCH);
        let numbered = (1..).zip(all.chunks(BATCH));
        self.batches = numbered
            .map(|(current, keys)| Push::Batch { keys: keys.to_vec(), total, current })
            .collect();
        if self.is_first {
            self.batches.push_back(Push::Finished);
        }
    }

    /// What the client will know of when all that waits and is under way is told.
    fn expected(&self) -> BTreeSet<GroupKey> {
        let mut expected = self.told.clone();
        for push in self.under_way.iter().chain(&self.batches) {
            note(&mut expected, push.keys());
        }
        expected
    }

    /// The keys of which the client hears now, whatever it said it knows.
    pub(crate) fn under_way(&self) -> impl Iterator<Item = &GroupKey> {
        let sent = self.under_way.as_ref().filter(|_| self.sent().is_some());
        let keys = sent.map_or(&[][..], Push::keys);
        keys.iter().filter(|(_, is_gone)| !is_gone).map(|(key, _)| key)
    }

    /// A key that matches was written or removed; false when so many wait that all is to be
    /// compared anew ([`Self::written_any`]).
    pub(crate) fn written(&mut self, key: &GroupKey) -> bool {
        self.written.insert(key.clone());
        self.written.len() <= MAX_WRITTEN
    }

    /// Any key may have been written: these match now.
    pub(crate) fn written_any(&mut self, matches: &BTreeSet<GroupKey>) {
        self.written = matches.symmetric_difference(&self.expected()).cloned().collect();
    }

    /// The next push, if one is to be sent: its type and its fields.
    pub(crate) fn next(
        &mut self,
        pattern: &str,
        now: Instant,
        exists: &dyn Fn(&GroupKey) -> bool,
        id: &mut dyn FnMut() -> u64,
    ) -> Option<(u64, &'static str, Object)> {
        if self.stage != Stage::Ready {
            return None;
        }
        if self.under_way.is_none() {
            self.under_way = self.batches.pop_front().or_else(|| self.next_change(exists));
        }
        let push = self.under_way.as_ref()?;
        let id = id();
        self.stage = Stage::Sent { id, at: now };
        Some((id, push.kind(), push.fields(id, pattern, self.is_first)))
    }

    fn next_change(&mut self, exists: &dyn Fn(&GroupKey) -> bool) -> Option<Push> {
        while let Some(key) = self.written.pop_first() {
            match (exists(&key), self.told.contains(&key)) {
                (true, false) if self.told.len() < MATCHES => {
                    return Some(Push::Change((key, false)));
                }
                (false, true) => return Some(Push::Change((key, true))),
                (true, false | true) | (false, false) => {}
            }
        }
        None
    }

    /// The client acknowledged the push under way, or refused it. True when there is more.
    pub(crate) fn acknowledged(&mut self, is_success: bool, now: Instant) -> bool {
        if !is_success {
            self.lost(now);
            return false;
        }
        (self.stage, self.tries) = (Stage::Ready, 0);
        if let Some(push) = self.under_way.take() {
            note(&mut self.told, push.keys());
        }
        true
    }

    fn lost(&mut self, now: Instant) {
        self.tries += 1;
        self.stage = Stage::Waiting { until: now + RETRY_STEP * self.tries };
    }

    /// Looks at the clock. The number of a push that was not acknowledged in time, and whether
    /// something is to be sent again.
    pub(crate) fn look(&mut self, now: Instant) -> (Option<u64>, bool) {
        match self.stage {
            Stage::Sent { id, at } if now >= at + NOTICE_LIMIT => {
                self.lost(now);
                (Some(id), false)
            }
            Stage::Waiting { until } if now >= until => {
                self.stage = Stage::Ready;
                (None, true)
            }
            Stage::Ready | Stage::Sent { .. } | Stage::Waiting { .. } => (None, false),
        }
    }

    /// Whether it was tried often enough.
    pub(crate) const fn is_hopeless(&self) -> bool {
        self.tries >= MAX_TRIES
    }

    /// The number of the push under way.
    pub(crate) const fn sent(&self) -> Option<u64> {
        match self.stage {
            Stage::Sent { id, .. } => Some(id),
            Stage::Ready | Stage::Waiting { .. } => None,
        }
    }
}

/// Notes among the keys that a client knows of what it was told.
fn note(known: &mut BTreeSet<GroupKey>, told: &[Told]) {
    for (key, is_gone) in told {
        if *is_gone {
            known.remove(key);
        } else {
            known.insert(key.clone());
        }
    }
}

impl Push {
    fn keys(&self) -> &[Told] {
        match self {
            Self::Batch { keys, .. } => keys,
            Self::Change(told) => std::slice::from_ref(told),
            Self::Finished => &[],
        }
    }

    const fn kind(&self) -> &'static str {
        match self {
            Self::Batch { .. } | Self::Finished => "ConfigFuzzyWatchSyncRequest",
            Self::Change(_) => "ConfigFuzzyWatchChangeNotifyRequest",
        }
    }

    fn fields(&self, id: u64, pattern: &str, is_first: bool) -> Object {
        let object = Object::request(Some(id));
        let (contexts, total, current) = match self {
            Self::Change((key, is_gone)) => {
                let change = if *is_gone { "DELETE_CONFIG" } else { "CONFIG_CHANGED" };
                let object = object.text("groupKey", &key.to_string());
                return object.text("changeType", change).text("module", "config");
            }
            Self::Finished => (&[][..], 0, 0),
            Self::Batch { keys, total, current } => (keys.as_slice(), *total, *current),
        };
        let round = match self {
            Self::Finished => "FINISH_FUZZY_WATCH_INIT_NOTIFY",
            Self::Batch { .. } | Self::Change(_) if is_first => "FUZZY_WATCH_INIT_NOTIFY",
            Self::Batch { .. } | Self::Change(_) => "FUZZY_WATCH_DIFF_SYNC_NOTIFY",
        };
        let contexts = contexts.iter().map(|(key, is_gone)| {
            let change = if *is_gone { "DELETE_CONFIG" } else { "ADD_CONFIG" };
            Object::new().text("groupKey", &key.to_string()).text("changedType", change)
        });
        let number = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        object
            .text("groupKeyPattern", pattern)
            .list("contexts", contexts)
            .text("syncType", round)
            .number("totalBatch", number(total))
            .number("currentBatch", number(current))
            .text("module", "config")
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use quorate_core::key::{DataId, Group, NamespaceId};

    use super::*;

    fn key(number: usize) -> GroupKey {
        let data_id = DataId::parse(&format!("d{number:03}")).unwrap();
        GroupKey::new(&NamespaceId::public(), &Group::parse("G").unwrap(), &data_id)
    }

    fn keys(numbers: std::ops::Range<usize>) -> BTreeSet<GroupKey> {
        numbers.map(key).collect()
    }

    /// The text of the next push, after it was acknowledged.
    fn told(matching: &mut Matching, there: &BTreeSet<GroupKey>) -> Option<String> {
        let now = Instant::now();
        let (_, kind, object) = matching.next("p", now, &|key| there.contains(key), &mut || 7)?;
        assert_eq!(matching.next("p", now, &|_| true, &mut || 8).map(|it| it.0), None);
        assert!(matching.acknowledged(true, now));
        let text = String::from_utf8(object.finish().to_vec()).unwrap();
        Some(format!("{kind} {text}"))
    }

    #[test]
    fn the_difference_comes_in_batches_and_then_the_changes() {
        let mut there = keys(1..41);
        let mut matching = Matching::new(keys(0..2), true);
        matching.compare(&there);
        let first = told(&mut matching, &there).unwrap();
        let start = "ConfigFuzzyWatchSyncRequest {\"headers\":{},\"requestId\":\"7\",\
            \"groupKeyPattern\":\"p\",\"contexts\":[{\"groupKey\":\"d002+G+public\",\
            \"changedType\":\"ADD_CONFIG\"},";
        assert!(first.starts_with(start), "{first}");
        let end = "\"syncType\":\"FUZZY_WATCH_INIT_NOTIFY\",\"totalBatch\":2,\
            \"currentBatch\":1,\"module\":\"config\"}";
        assert!(first.ends_with(end), "{first}");
        let second = told(&mut matching, &there).unwrap();
        assert!(
            second.contains("{\"groupKey\":\"d000+G+public\",\"changedType\":\"DELETE_CONFIG\"}")
        );
        let finish = told(&mut matching, &there).unwrap();
        assert!(finish.contains(
            "\"contexts\":[],\"syncType\":\"FINISH_FUZZY_WATCH_INIT_NOTIFY\",\"totalBatch\":0"
        ));
        assert_eq!(told(&mut matching, &there), None);
        // Known ones are not told again; one that left and came is not told either.
        there.remove(&key(5));
        there.insert(key(50));
        for number in [1, 5, 50, 51] {
            assert!(matching.written(&key(number)));
        }
        let left = told(&mut matching, &there).unwrap();
        assert!(left.ends_with(
            "\"groupKey\":\"d005+G+public\",\"changeType\":\"DELETE_CONFIG\",\"module\":\"config\"}"
        ));
        assert!(
            told(&mut matching, &there)
                .unwrap()
                .contains("d050+G+public\",\"changeType\":\"CONFIG_CHANGED")
        );
        assert_eq!(told(&mut matching, &there), None);
        matching.written_any(&keys(1..40));
        let mut count = 0;
        while told(&mut matching, &keys(1..40)).is_some() {
            count += 1;
        }
        assert_eq!(count, 3, "5 came, 40 and 50 left");
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again_and_too_much_is_refused() {
        let mut matching = Matching::new(BTreeSet::new(), false);
        matching.compare(&keys(0..1));
        let mut now = Instant::now();
        let ids = Cell::new(0);
        let mut sent = 0;
        while !matching.is_hopeless() {
            let mut id = || ids.replace(ids.get() + 1);
            sent += usize::from(matching.next("p", now, &|_| true, &mut id).is_some());
            now += Duration::from_secs(1);
            matching.look(now);
        }
        assert_eq!(sent, 50);
        assert!((0..MAX_WRITTEN).all(|number| matching.written(&key(number))));
        assert!(!matching.written(&key(MAX_WRITTEN)));
    }

    #[test]
    fn what_is_under_way_counts_when_all_is_compared_anew() {
        let mut matching = Matching::new(BTreeSet::new(), false);
        matching.compare(&keys(0..30));
        let now = Instant::now();
        assert!(matching.next("p", now, &|_| true, &mut || 1).is_some());
        assert_eq!(matching.under_way().count(), 20);
        // All is gone but one, of which it was never told.
        let there = keys(40..41);
        matching.written_any(&there);
        assert!(matching.acknowledged(true, now));
        let mut said = Vec::new();
        while let Some(text) = told(&mut matching, &there) {
            said.push(text);
        }
        let count = |what: &str| said.iter().filter(|text| text.contains(what)).count();
        // The second batch, thirty that are gone, one that came.
        assert_eq!((said.len(), count("DELETE_CONFIG"), count("CONFIG_CHANGED")), (32, 30, 1));
        assert_eq!(matching.told, there);
    }

    #[test]
    fn as_many_are_told_as_may_be() {
        let all = keys(0..MATCHES + 1);
        let mut matching = Matching::new(keys(0..MATCHES), false);
        assert!(matching.written(&key(MATCHES)));
        assert_eq!(told(&mut matching, &all), None, "one too many");
        let fewer: BTreeSet<_> = all.iter().skip(1).cloned().collect();
        assert!(matching.written(&key(0)) && matching.written(&key(MATCHES)));
        assert!(told(&mut matching, &fewer).unwrap().contains("DELETE_CONFIG"));
        assert!(told(&mut matching, &fewer).unwrap().contains("CONFIG_CHANGED"));
    }
}
