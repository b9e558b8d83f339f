//! No listener misses a change: a held poll whose claim is not what its node has ends at once, the
//! watch index holds the live listeners and nobody else, and in the end every listener has the
//! last md5.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::listener::Claims;
use crate::world::World;

/// How long an announcement may take on a node that runs.
const ANNOUNCED_WITHIN: Duration = Duration::from_millis(500);

/// A poll as its listener sees it.
#[derive(Debug)]
pub(crate) struct HeldPoll {
    pub(crate) home: usize,
    pub(crate) incarnation: u64,
    pub(crate) claims: Claims,
    /// Since when its node has something else.
    pub(crate) stale_since: Option<Instant>,
}

#[derive(Debug, Default)]
pub(crate) struct Held {
    /// By listener.
    pub(crate) polls: BTreeMap<usize, HeldPoll>,
    /// Where each listener is and what it believes.
    pub(crate) claims: BTreeMap<usize, (usize, Claims)>,
}

/// Looks at all nodes that run.
pub(crate) fn check(world: &World) {
    for index in 0..world.nodes() {
        let is_paused = world.station(index).is_paused();
        let Some(running) = world.running(index) else { continue };
        let mut held = world.held.lock();
        let mut keys = 0;
        let mut polls = 0;
        for (number, poll) in &mut held.polls {
            if poll.home != index || poll.incarnation != running.incarnation {
                continue;
            }
            polls += 1;
            keys += poll.claims.len();
            let store = running.node.store();
            let differs =
                poll.claims.iter().find(|(key, md5)| store.md5(&world.keys[*key]) != *md5);
            match differs {
                Some((key, _)) if !is_paused => {
                    let since = *poll.stale_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > ANNOUNCED_WITHIN {
                        world.broken(format!(
                            "l{number} at n{index} was not told that key{key} changed"
                        ));
                    }
                }
                Some(_) | None => poll.stale_since = None,
            }
        }
        let index_size = running.node.watch_index().listeners();
        if index_size != keys || running.node.polls().held() != polls {
            world.broken(format!(
                "n{index} has {index_size} listeners, {keys} keys are listened to"
            ));
        }
    }
}

/// In the end every listener believes what its node has.
pub(crate) fn check_final(world: &World) {
    let held = world.held.lock();
    for (number, (home, claims)) in &held.claims {
        let Some(running) = world.running(*home) else { continue };
        for (key, md5) in claims {
            if running.node.store().md5(&world.keys[*key]) != *md5 {
                world.broken(format!("l{number} at n{home} ends without the last key{key}"));
            }
        }
    }
    if held.polls.len() != world.plan.listeners {
        world.broken(format!(
            "{} of {} listeners are held",
            held.polls.len(),
            world.plan.listeners
        ));
    }
}
