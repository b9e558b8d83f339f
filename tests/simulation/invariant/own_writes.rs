//! Who was told `true` never reads the old one from the node it spoke to, and a read of a least
//! revision is at least as new.

use quorate_core::command::Outcome;
use quorate_core::time::Revision;

use crate::client::Seen;
use crate::history::Action;
use crate::world::World;

/// Compares what a node has with a write that it has acknowledged, or that was acknowledged
/// elsewhere and waited for here.
pub(crate) fn check(
    world: &World,
    node: usize,
    key: usize,
    action: Action,
    revision: Revision,
    outcome: Outcome,
    (datum, at): &Seen,
) {
    if *at < revision {
        world.broken(format!("n{node} answered revision {revision} and is at {at}"));
    }
    if outcome != Outcome::Done {
        return;
    }
    let value = datum.as_ref().map(|datum| {
        let value = world.history.lock().see(key, &datum.content());
        (value, datum.modify_revision())
    });
    let is_kept = match (action.value(), value) {
        // Only a later write may have taken its place.
        (_, Some((_, modified))) if modified > revision => true,
        (Some(written), Some((value, modified))) => value == Some(written) && modified == revision,
        (Some(_), None) => *at > revision,
        (None, None) => true,
        (None, Some(_)) => false,
    };
    if !is_kept {
        world.broken(format!(
            "n{node} at revision {at} has {value:?} for key{key} after {action:?} at {revision}"
        ));
    }
}
