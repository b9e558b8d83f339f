//! Old versions of configurations: listed, shown. They are put back by `changes`.

use std::sync::Arc;

use quorate_core::key::GroupKey;
use quorate_core::kind::history::{History, Kept, Operation};
use quorate_core::store::State;
use quorate_raft::node::Node;

use super::Page;

/// Records of one configuration, newest first.
pub(crate) fn list(node: &Node, key: &GroupKey, number: usize, size: usize) -> Page<Arc<History>> {
    let state = node.store().freeze();
    let all: Vec<_> = state.history_of(key).cloned().collect();
    Page::of(all, number, size)
}

/// One record.
pub(crate) fn record(node: &Node, id: u64) -> Option<Arc<History>> {
    node.store().freeze().history(id).cloned()
}

/// The newest record of the formal content that keeps what was there before (config.md §6.1).
pub(crate) fn previous(node: &Node, key: &GroupKey) -> Option<Arc<History>> {
    let state = node.store().freeze();
    let was = |record: &&Arc<History>| {
        record.operation != Operation::Insert && matches!(record.kept, Kept::Formal(_))
    };
    state.history_of(key).find(was).cloned()
}

/// What an update made of the content that a record keeps: what the next newer record of the same
/// release kept, else what is there now.
pub(crate) fn made(node: &Node, record: &History) -> Option<Kept> {
    let state = node.store().freeze();
    let same = |other: &&Arc<History>| {
        other.id > record.id && other.kept.gray_name() == record.kept.gray_name()
    };
    // The oldest of those that are newer.
    let newer = state.history_of(&record.key).rev().find(same).map(|it| it.kept.clone());
    newer.or_else(|| live(&state, record))
}

fn live(state: &State, record: &History) -> Option<Kept> {
    match record.kept.gray_name() {
        None => state.config(&record.key).cloned().map(Kept::Formal),
        Some(name) => {
            let gray = state.releases(&record.key).and_then(|held| held.named(name));
            gray.cloned().map(Kept::Gray)
        }
    }
}
