//! Listening: what a client says it has, compared and held.

use std::sync::Arc;

use quorate_core::kind::gray::Labels;
use quorate_core::poll::{Poll, PollRefused, PollService, PolledKey};
use quorate_core::store::Store;

/// The positions of the keys that differ from what this client sees now.
pub(crate) fn compare(store: &Store, keys: &[PolledKey], labels: &Labels) -> Vec<usize> {
    let differs = |polled: &PolledKey| !polled.md5.matches(store.md5_for(&polled.key, labels));
    let numbered = keys.iter().enumerate();
    numbered.filter(|(_, polled)| differs(polled)).map(|(index, _)| index).collect()
}

/// A poll that was registered first and compared then.
pub(crate) enum Registered {
    /// Nothing differs: it can be held.
    Same(Poll),
    /// These keys differ.
    Differs(Vec<PolledKey>),
    /// Nothing differs, and this node holds as many polls as it may.
    Full,
    /// Nothing is held any more.
    Closed,
}

/// Registers, then compares: a change between the two would otherwise wake nobody.
pub(crate) fn register(
    polls: &Arc<PollService>,
    store: &Store,
    keys: Vec<PolledKey>,
    labels: &Labels,
) -> Registered {
    if polls.held() >= polls.capacity().polls {
        // What differs is answered even so; only holding is refused.
        let changed = compare(store, &keys, labels);
        return if changed.is_empty() { Registered::Full } else { differs(&keys, &changed) };
    }
    match polls.open(keys, labels.clone()) {
        Ok(poll) => {
            let changed = poll.changed(|key| store.md5_for(key, labels));
            if changed.is_empty() { Registered::Same(poll) } else { differs(poll.keys(), &changed) }
        }
        Err(PollRefused::Polls { .. } | PollRefused::Keys { .. }) => Registered::Full,
        Err(PollRefused::Closed) => Registered::Closed,
    }
}

fn differs(keys: &[PolledKey], changed: &[usize]) -> Registered {
    Registered::Differs(changed.iter().filter_map(|index| keys.get(*index)).cloned().collect())
}
