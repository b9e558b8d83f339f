//! The end: all faults are over, the nodes must agree and serve, and what was promised must hold.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::{Node, RaftState, wait_until};
use crate::history::{Action, Outcome, content};
use crate::world::{World, key};
use crate::{linearizable, phantom};

/// From the end of the last fault to agreement.
const BOUND: Duration = Duration::from_secs(30);
/// From agreement to the last listener's knowing it.
const LAST_NEWS: Duration = Duration::from_secs(10);

/// Agreement and service within the bound, and every listener at the last content.
pub(crate) async fn converged(world: &World, nodes: &[Node]) {
    wait_until("all nodes ready", BOUND, async || {
        for node in nodes {
            if !node.client().is_ready().await {
                return None;
            }
        }
        Some(())
    })
    .await;
    let states = wait_until("one revision on all nodes", BOUND, async || {
        let mut states: Vec<RaftState> = Vec::new();
        for node in nodes {
            states.push(node.client().state().await.ok()?);
        }
        states.iter().all(|it| it.revision == states[0].revision).then_some(states)
    })
    .await;
    if states.iter().any(|it| it.state_hash != states[0].state_hash) {
        world.broken(format!("replicas differ: {states:#?}"));
    }
    wait_until("the last contents at all listeners", LAST_NEWS, async || {
        let beliefs = world.beliefs.lock().clone();
        for belief in beliefs.values() {
            for (number, believed) in &belief.contents {
                if world.clients[belief.node].read(&key(*number)).await != *believed {
                    return None;
                }
            }
        }
        Some(())
    })
    .await;
    let end = world.clients[0].clone();
    let mut stored = BTreeMap::new();
    for number in 0..world.keys() {
        stored.insert(number, end.read(&key(number)).await);
    }
    acknowledged(world, &stored);
}

/// No acknowledged write is lost: in the end every key is as its last acknowledged write left it,
/// or as a write did whose outcome nobody was told.
fn acknowledged(world: &World, stored: &BTreeMap<usize, Option<String>>) {
    let mut wrong = Vec::new();
    let history = world.history.lock();
    for (number, stored) in stored {
        let of_key = || history.operations.iter().filter(|it| it.key == *number);
        let written =
            of_key().filter(|it| matches!(it.outcome, Outcome::Done(_) | Outcome::Gone(_)));
        let Some(last) = written.max_by_key(|it| it.outcome.revision()) else { continue };
        let is = |action: Action| action.value().map(content) == *stored;
        let perhaps = of_key()
            .any(|it| it.outcome == Outcome::Unknown && it.action != Action::Read && is(it.action));
        if !is(last.action) && !perhaps {
            wrong.push(format!("lost: {last:?}, now {stored:?}"));
        }
    }
    drop(history);
    wrong.into_iter().for_each(|why| world.broken(why));
}

/// Registers are linearizable, and nothing was read that nobody wrote.
pub(crate) fn history(world: &World) {
    let history = world.history.lock();
    let mut wrong = phantom::check(&history);
    wrong.extend(linearizable::check(&history, world.keys()));
    drop(history);
    wrong.into_iter().for_each(|why| world.broken(why));
}
