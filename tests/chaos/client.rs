//! Writers and readers: each asks one thing at a time and writes down what it was told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate_core::content::Md5;
use quorate_core::time::Revision;
use tokio::time::{sleep, timeout};

use crate::harness::{Answer, Client, Outcome as Told, Read, Seed};
use crate::history::{Action, Outcome, Value, content};
use crate::world::{NODES, World, key};

/// Past the server's deadline for a write.
const PATIENCE: Duration = Duration::from_secs(7);
/// A client that was refused asks another node after this.
const BACK_OFF: Duration = Duration::from_millis(30);
/// So that the machine is not the first thing to break.
const PAUSE: Duration = Duration::from_millis(5);

fn own(seed: u64) -> Seed {
    Seed::of(seed)
}

/// Writes until the world is over.
pub(crate) async fn write(world: Arc<World>, number: usize, seed: u64) {
    let mut seed = own(seed);
    while !world.is_over() {
        let (key, node) = (world.key(&mut seed), seed.below(NODES));
        let action = match seed.below(10) {
            0 => Action::Remove,
            1 | 2 => match last_seen(&world, key) {
                Some(expected) => {
                    let value = world.history.lock().fresh();
                    Action::CompareAndSet { expected, value }
                }
                None => Action::Publish(world.history.lock().fresh()),
            },
            _ => Action::Publish(world.history.lock().fresh()),
        };
        let operation = world.history.lock().invoke(number, key, action);
        let asked = ask(&world.clients[node], key, action);
        let outcome = timeout(PATIENCE, asked).await.unwrap_or(Outcome::Unknown);
        world.history.lock().complete(operation, outcome);
        note(&world, outcome);
        match outcome {
            Outcome::Done(revision) if action.value().is_some() => {
                own_write(&world, node, key, action, revision).await;
                sleep(PAUSE).await;
            }
            Outcome::Refused | Outcome::Unknown => sleep(BACK_OFF).await,
            Outcome::Done(_)
            | Outcome::Gone(_)
            | Outcome::Mismatch(_)
            | Outcome::Differed
            | Outcome::Absent(_)
            | Outcome::Value(_) => sleep(PAUSE).await,
        }
    }
}

fn note(world: &World, outcome: Outcome) {
    match outcome {
        Outcome::Refused => drop(world.refused.fetch_add(1, Ordering::Relaxed)),
        Outcome::Unknown => drop(world.unknown.fetch_add(1, Ordering::Relaxed)),
        Outcome::Done(_)
        | Outcome::Gone(_)
        | Outcome::Mismatch(_)
        | Outcome::Differed
        | Outcome::Absent(_)
        | Outcome::Value(_) => world.acknowledged(),
    }
}

/// What the key held when somebody last looked, to compare with: it may have changed since.
fn last_seen(world: &World, key: usize) -> Option<Value> {
    let history = world.history.lock();
    let last = history.operations.iter().rev().take(400).find(|it| {
        it.key == key && matches!(it.outcome, Outcome::Done(_) | Outcome::Value(Some(_)))
    })?;
    if let Outcome::Value(value) = last.outcome { value } else { last.action.value() }
}

async fn ask(client: &Client, number: usize, action: Action) -> Outcome {
    let key = key(number);
    match action {
        Action::Publish(value) => match client.publish(&key, &content(value)).await {
            Told::Acknowledged { revision } => Outcome::Done(Revision(revision)),
            told @ (Told::Refused(_) | Told::Unknown(_)) => failed(&told),
        },
        Action::Remove => match client.remove(&key).await {
            Told::Acknowledged { revision } => Outcome::Gone(Revision(revision)),
            told @ (Told::Refused(_) | Told::Unknown(_)) => failed(&told),
        },
        Action::CompareAndSet { expected, value } => {
            let md5 = Md5::of(content(expected).as_bytes()).to_string();
            match client.publish_cas(&key, &content(value), &md5).await {
                Ok(answer) if answer.status == 200 => Outcome::Done(Revision(answer.revision())),
                Ok(answer) if answer.status == 500 && answer.text() == "false" => Outcome::Differed,
                Ok(_) | Err(_) => Outcome::Unknown,
            }
        }
        Action::Read => match client.get(&key, Read::Linearizable).await {
            Ok(answer) if matches!(answer.status, 200 | 404) => Outcome::Value(found(&answer)),
            Ok(_) | Err(_) => Outcome::Unknown,
        },
    }
}

fn found(answer: &Answer) -> Option<Value> {
    answer.content().map(|text| crate::history::number(text).expect("a content of ours"))
}

const fn failed(told: &Told) -> Outcome {
    match told {
        Told::Refused(_) => Outcome::Refused,
        Told::Acknowledged { .. } | Told::Unknown(_) => Outcome::Unknown,
    }
}

/// Who was told `true` reads it at the node it spoke to, or what was written later.
async fn own_write(world: &World, node: usize, number: usize, action: Action, at: Revision) {
    let name = key(number);
    let asked = world.clients[node].get(&name, Read::Local);
    let Ok(Ok(answer)) = timeout(PATIENCE, asked).await else { return };
    if !matches!(answer.status, 200 | 404) {
        return;
    }
    let value = answer.content().map(str::to_owned);
    let mut history = world.history.lock();
    let value = value.and_then(|text| history.see(number, text.as_bytes()));
    let is_right = value == action.value()
        || answer.revision() > at.0
            && history.operations.iter().rev().any(|it| {
                let writes = match value {
                    Some(_) => it.action.value() == value,
                    None => it.action == Action::Remove,
                };
                let later = it.outcome.revision().is_none_or(|revision| revision > at);
                it.key == number && writes && later
            });
    drop(history);
    if !is_right {
        world.broken(format!(
            "n{node} has {value:?} at revision {} for key{number} after {action:?} at {at}",
            answer.revision()
        ));
    }
}

/// Reads until the world is over.
pub(crate) async fn read(world: Arc<World>, number: usize, seed: u64) {
    let mut seed = own(seed);
    while !world.is_over() {
        let (key, node) = (world.key(&mut seed), seed.below(NODES));
        let operation = world.history.lock().invoke(number, key, Action::Read);
        let asked = ask(&world.clients[node], key, Action::Read);
        let outcome = timeout(PATIENCE, asked).await.unwrap_or(Outcome::Unknown);
        world.history.lock().complete(operation, outcome);
        if let Outcome::Value(Some(value)) = outcome {
            world.history.lock().see(key, content(value).as_bytes());
        }
        if matches!(outcome, Outcome::Value(_)) {
            world.reads.fetch_add(1, Ordering::Relaxed);
            sleep(PAUSE).await;
        } else {
            sleep(BACK_OFF).await;
        }
    }
}
