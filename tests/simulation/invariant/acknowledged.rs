//! No acknowledged write is lost: in the end every key is as its last acknowledged write left it,
//! or as a later write did whose outcome nobody was told.

use std::collections::BTreeMap;

use quorate_core::time::Revision;

use crate::history::{Action, Outcome, content};
use crate::world::World;

/// Compares the end with what was acknowledged. All nodes have converged.
pub(crate) fn check(world: &World) {
    let Some(running) = world.running(0) else { return };
    let history = world.history.lock();
    let mut by_revision: BTreeMap<Revision, (usize, Action)> = BTreeMap::new();
    for operation in &history.operations {
        if let Some(revision) = operation.outcome.revision() {
            let twice = by_revision.insert(revision, (operation.key, operation.action));
            if let Some(other) = twice {
                world.broken(format!("{:?} and {other:?} share {revision}", operation.action));
            }
        }
    }
    for (key, group_key) in world.keys.iter().enumerate() {
        let written = |it: &&crate::history::Operation| {
            it.key == key && matches!(it.outcome, Outcome::Done(_))
        };
        let acknowledged = history.operations.iter().filter(written);
        let last = acknowledged.max_by_key(|it| it.outcome.revision());
        let Some(last) = last else { continue };
        let revision = last.outcome.revision().unwrap_or_default();
        let (datum, _) = running.node.store().config(group_key);
        let is_kept = match (&datum, last.action.value()) {
            (Some(datum), _) if datum.modify_revision() > revision => true,
            (Some(datum), Some(value)) => {
                datum.modify_revision() == revision && datum.content() == content(value)
            }
            (Some(_), None) => false,
            (None, None) => true,
            // Somebody's removal without an answer may have come later.
            (None, Some(_)) => history.operations.iter().any(|it| {
                it.key == key && it.action == Action::Remove && it.outcome == Outcome::Unknown
            }),
        };
        if !is_kept {
            let stored = datum.map(|datum| datum.modify_revision());
            world.broken(format!(
                "lost: {:?} of key{key} at {revision}, now {stored:?}",
                last.action
            ));
        }
    }
}
