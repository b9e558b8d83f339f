//! Clients that write and read at the nodes and note what they were promised.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use quorate_core::command::{
    Cause, Command, Describe, ExpectedMd5, Outcome as Applied, Presence, Publish, Remove, Reply,
    Writer,
};
use quorate_core::content::{ContentType, Md5};
use quorate_core::kind::config::ConfigDatum;
use quorate_core::time::Revision;
use quorate_raft::error::ProposeError;
use tokio::time::{Instant, sleep, timeout_at};

use crate::history::{Action, Outcome, content};
use crate::invariant::own_writes;
use crate::random::Random;
use crate::trace::trace;
use crate::world::{Running, World};

/// A client waits so much longer than the deadline it gave: the node may be paused.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a node's store has of a key, and at which revision.
pub(crate) type Seen = (Option<ConfigDatum>, Revision);

/// Writes until the safety phase is over.
pub(crate) async fn write(world: Arc<World>, client: usize) {
    let mut random = world.random(&format!("writer {client}"));
    let mut home = random.below(world.nodes());
    while !world.is_over.load(Ordering::Relaxed) {
        sleep(random.millis(world.plan.think.0..world.plan.think.1)).await;
        if random.per_mille(100) || !world.is_up(home) {
            home = random.below(world.nodes());
        }
        let Some(running) = world.running(home) else { continue };
        let key = random.below(world.keys.len());
        let action = draw(&world, &running, key, &mut random);
        let limit = random.millis(300..4000);
        attempt(&world, client, home, running, key, action, limit).await;
    }
}

fn draw(world: &World, running: &Running, key: usize, random: &mut Random) -> Action {
    let value = world.history.lock().fresh();
    match random.below(20) {
        0..3 => Action::Remove,
        3..9 => {
            let (datum, _) = running.node.store().config(&world.keys[key]);
            let stored = datum.and_then(|datum| world.history.lock().see(key, &datum.content()));
            // Now and then one that is surely another.
            let expected = stored.filter(|_| !random.per_mille(200)).unwrap_or(1);
            Action::CompareAndSet { expected, value }
        }
        _ => Action::Publish(value),
    }
}

fn command(world: &World, key: usize, action: Action) -> Command {
    let key = world.keys[key].clone();
    let writer = Writer::default();
    let Some(value) = action.value() else { return Command::Remove(Remove::new(key, writer)) };
    let content = Bytes::from(content(value));
    let expected = match action {
        Action::CompareAndSet { expected, .. } => {
            let text = crate::history::content(expected);
            Some(ExpectedMd5::Digest(Md5::of(text.as_bytes())))
        }
        Action::Publish(_) | Action::Remove | Action::Read => None,
    };
    Command::Publish(Publish {
        key,
        md5: Md5::of(&content),
        content,
        content_type: ContentType::parse_or_text("text"),
        describe: Describe::default(),
        writer,
        expected,
        presence: Presence::Any,
        cause: Cause::Publish,
    })
}

/// One write at one node. Gives whether it was acknowledged.
pub(crate) async fn attempt(
    world: &Arc<World>,
    client: usize,
    home: usize,
    running: Running,
    key: usize,
    action: Action,
    limit: Duration,
) -> Outcome {
    let operation = world.history.lock().invoke(client, key, action);
    trace!(world, "c{client} op {operation} at n{home} key{key} {action:?} within {limit:?}");
    let command = command(world, key, action);
    let deadline = Instant::now() + limit;
    let group_key = world.keys[key].clone();
    let node = running.node.clone();
    let task = async move {
        let result = node.propose(command, deadline).await;
        // What this node has at the moment of the answer.
        (result, node.store().config(&group_key), node.store().fingerprint())
    };
    drop(running);
    let mut task = world.host(home).run(task).expect("a simulated host");
    let ended = timeout_at(deadline + PATIENCE, &mut task).await;
    let outcome = match ended {
        Ok(Ok((result, seen, mark))) => {
            world.observe(home, mark);
            judge(world, key, home, action, &result, &seen)
        }
        // The node was killed.
        Ok(Err(_)) => Outcome::Unknown,
        Err(_) => {
            task.abort();
            Outcome::Unknown
        }
    };
    trace!(world, "c{client} op {operation} ended: {outcome:?}");
    world.history.lock().complete(operation, outcome);
    outcome
}

fn judge(
    world: &World,
    key: usize,
    home: usize,
    action: Action,
    result: &Result<Reply, ProposeError>,
    seen: &Seen,
) -> Outcome {
    match result {
        Ok(Reply { revision, outcome, .. }) => {
            let (revision, outcome) = (*revision, *outcome);
            own_writes::check(world, home, key, action, revision, outcome, seen);
            match outcome {
                Applied::Done => Outcome::Done(revision),
                Applied::CasMismatch => Outcome::Mismatch(revision),
                Applied::Absent => Outcome::Absent(revision),
                Applied::Superseded => Outcome::Unknown,
                Applied::Exists | Applied::TooManyReleases | Applied::InUse => {
                    unreachable!("nobody asks for that here")
                }
            }
        }
        Err(ProposeError::NoLeader | ProposeError::Overloaded { .. } | ProposeError::DiskFull) => {
            Outcome::Refused
        }
        Err(
            ProposeError::NoMajority { .. }
            | ProposeError::OutcomeUnknown { .. }
            | ProposeError::Stopped,
        ) => Outcome::Unknown,
    }
}

/// Reads until the safety phase is over.
pub(crate) async fn read(world: Arc<World>, client: usize) {
    let mut random = world.random(&format!("reader {client}"));
    // What this client saw at a node, by node, incarnation and key: never older later.
    let mut newest: BTreeMap<(usize, u64, usize), Revision> = BTreeMap::new();
    while !world.is_over.load(Ordering::Relaxed) {
        sleep(random.millis(world.plan.think.0..world.plan.think.1)).await;
        let home = random.below(world.nodes());
        let Some(running) = world.running(home) else { continue };
        let key = random.below(world.keys.len());
        match random.below(10) {
            0..6 => {
                let limit = random.millis(300..3000);
                linearizable(&world, client, home, running, key, limit).await;
            }
            6..8 => at_revision(&world, home, running, &mut random).await,
            _ => {
                let place = (home, running.incarnation, key);
                let group_key = world.keys[key].clone();
                let task = async move { running.node.store().config(&group_key) };
                let task = world.host(home).run(task).expect("a simulated host");
                let Ok((datum, at)) = task.await else { continue };
                let before = newest.insert(place, at).unwrap_or_default();
                if before > at {
                    world.broken(format!("n{home} was at revision {before}, then at {at}"));
                }
                if let Some(datum) = datum {
                    world.history.lock().see(key, &datum.content());
                }
            }
        }
    }
}

/// One linearizable read at one node.
pub(crate) async fn linearizable(
    world: &Arc<World>,
    client: usize,
    home: usize,
    running: Running,
    key: usize,
    limit: Duration,
) -> bool {
    let operation = world.history.lock().invoke(client, key, Action::Read);
    trace!(world, "c{client} op {operation} at n{home} key{key} read within {limit:?}");
    let deadline = Instant::now() + limit;
    let group_key = world.keys[key].clone();
    let task = async move {
        running.node.read_barrier(deadline).await.ok()?;
        Some(running.node.store().config(&group_key))
    };
    let mut task = world.host(home).run(task).expect("a simulated host");
    let ended = timeout_at(deadline + PATIENCE, &mut task).await;
    let Ok(Ok(Some((datum, at)))) = ended else {
        task.abort();
        trace!(world, "c{client} op {operation} read nothing");
        return false;
    };
    let value = datum.map(|datum| (world.history.lock().see(key, &datum.content()), datum));
    if let Some((None, datum)) = &value {
        world.broken(format!("n{home} has a content nobody wrote: {:?}", datum.content()));
    }
    let value = value.and_then(|(value, _)| value);
    trace!(world, "c{client} op {operation} read {value:?} at revision {at}");
    world.history.lock().complete(operation, Outcome::Value(value));
    true
}

/// A read of what was acknowledged last, anywhere, with its revision as the least one.
async fn at_revision(world: &Arc<World>, home: usize, running: Running, random: &mut Random) {
    let Some(write) = world.history.lock().last_acknowledged().copied() else { return };
    let Outcome::Done(revision) = write.outcome else { return };
    let deadline = Instant::now() + random.millis(100..2000);
    let group_key = world.keys[write.key].clone();
    let task = async move {
        running.node.wait_revision(revision, deadline).await.ok()?;
        Some(running.node.store().config(&group_key))
    };
    let mut task = world.host(home).run(task).expect("a simulated host");
    match timeout_at(deadline + PATIENCE, &mut task).await {
        Ok(Ok(Some(seen))) => {
            own_writes::check(world, home, write.key, write.action, revision, Applied::Done, &seen);
        }
        Ok(_) => {}
        Err(_) => task.abort(),
    }
}
