//! When all faults have stopped, the nodes agree again within a bounded time: one leader, equal
//! state, and a write works at every one of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::client;
use crate::history::{Action, Outcome};
use crate::trace::trace;
use crate::world::World;

/// How long agreement may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// How long one write or read may take then.
const OPERATION_LIMIT: Duration = Duration::from_secs(5);

/// Waits until all nodes are ready, know one leader and have applied the same.
pub(crate) async fn agreement(world: &Arc<World>) -> bool {
    let begin = Instant::now();
    let mut state = String::new();
    while begin.elapsed() < LIMIT {
        sleep(Duration::from_millis(100)).await;
        let mut leaders = BTreeSet::new();
        let mut revisions = BTreeSet::new();
        let mut are_ready = true;
        state.clear();
        for index in 0..world.nodes() {
            let Some(running) = world.running(index) else {
                are_ready = false;
                continue;
            };
            let status = running.node.status();
            world.observe(index, status.fingerprint);
            are_ready &= status.is_ready;
            leaders.insert(status.leader);
            revisions.insert(status.fingerprint.revision);
            state += &format!(
                "n{index} {:?} term {} leader {:x} revision {} ready {}; ",
                status.role,
                status.term,
                status.leader.unwrap_or_default(),
                status.fingerprint.revision,
                status.is_ready
            );
        }
        if are_ready && leaders.len() == 1 && revisions.len() == 1 && !leaders.contains(&None) {
            trace!(world, "agreed after {:?}: {state}", begin.elapsed());
            return true;
        }
    }
    world.broken(format!("no agreement within {LIMIT:?}: {state}"));
    false
}

/// Writes at every node and reads every key at every node.
pub(crate) async fn service(world: &Arc<World>) {
    for index in 0..world.nodes() {
        let Some(running) = world.running(index) else { continue };
        let value = world.history.lock().fresh();
        let key = index % world.keys.len();
        let action = Action::Publish(value);
        let ended =
            client::attempt(world, 1000, index, running, key, action, OPERATION_LIMIT).await;
        if !matches!(ended, Outcome::Done(_)) {
            world.broken(format!("a write at n{index} ended with {ended:?} after all faults"));
        }
    }
    for index in 0..world.nodes() {
        for key in 0..world.keys.len() {
            let Some(running) = world.running(index) else { continue };
            if !client::linearizable(world, 1001, index, running, key, OPERATION_LIMIT).await {
                world.broken(format!("a read at n{index} failed after all faults"));
            }
        }
    }
}
