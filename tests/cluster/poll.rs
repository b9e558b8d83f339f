//! Long polls: held on any node, answered by a change made at any node.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::harness::{Answer, Client, Cluster, Key, Probe, READY, Read, wait_until, within};

/// How long the polls of these tests would be held.
pub(crate) const HOLD: Duration = Duration::from_secs(120);
/// An answer in advance takes milliseconds; this is for a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// A poll under way in the background.
pub(crate) type Held = JoinHandle<anyhow::Result<Answer>>;

/// Sends the polls and waits until the node holds them all.
pub(crate) async fn hold(client: &Client, polls: &[Probe]) -> Vec<Held> {
    let before = client.held_polls().await;
    let tasks = TaskTracker::new();
    let held: Vec<Held> = polls
        .iter()
        .map(|probe| tasks.spawn(client.poll(std::slice::from_ref(probe), HOLD)))
        .collect();
    wait_until("held polls", READY, async || {
        (client.held_polls().await == before + polls.len()).then_some(())
    })
    .await;
    held
}

/// The body that a held poll is answered with.
pub(crate) async fn answer(poll: Held) -> String {
    let answer = within("the answer of a poll", SOON, poll).await.unwrap().unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.text().to_owned()
}

#[tokio::test]
async fn a_poll_on_each_node_hears_of_a_publish_at_each() {
    let cluster = Cluster::start(3).await;
    let key = Key::new("heard");
    let mut content = "first".to_owned();
    let revision = cluster.client(0).publish(&key, &content).await.acknowledged();
    for client in cluster.clients() {
        let read = Read::MinRevision(revision);
        assert_eq!(client.get(&key, read).await.unwrap().content(), Some("first"));
    }
    for publisher in 0..3 {
        let probe = [Probe::of(&key, &content)];
        let mut held = Vec::new();
        for client in cluster.clients() {
            held.extend(hold(&client, &probe).await);
        }
        content = format!("published at {publisher}");
        cluster.client(publisher).publish(&key, &content).await.acknowledged();
        for (at, poll) in held.into_iter().enumerate() {
            assert_eq!(answer(poll).await, key.changed(), "publish {publisher}, poll {at}");
            // A woken listener reads the new value.
            assert_eq!(cluster.client(at).read(&key).await, Some(content.clone()));
        }
    }
}

#[tokio::test]
async fn removing_and_creating_answer_polls_on_each_node() {
    let cluster = Cluster::start(3).await;
    let (gone, born) = (Key::new("gone"), Key::new("born"));
    cluster.client(0).publish(&gone, "x").await.acknowledged();
    cluster.agree().await;
    let mut held = Vec::new();
    for client in cluster.clients() {
        held.extend(hold(&client, &[Probe::of(&gone, "x"), Probe::absent(&born)]).await);
    }
    cluster.client(1).remove(&gone).await.acknowledged();
    cluster.client(2).publish(&born, "y").await.acknowledged();
    for (number, poll) in held.into_iter().enumerate() {
        let key = if number % 2 == 0 { &gone } else { &born };
        assert_eq!(answer(poll).await, key.changed());
    }
}

#[tokio::test]
async fn a_publish_wakes_only_the_listeners_of_its_key() {
    let cluster = Cluster::start(3).await;
    let (mine, other) = (Key::new("mine"), Key::new("other"));
    cluster.client(0).publish(&mine, "1").await.acknowledged();
    cluster.client(0).publish(&other, "1").await.acknowledged();
    cluster.agree().await;
    let mut others = Vec::new();
    let mut mines = Vec::new();
    for client in cluster.clients() {
        let mut held = hold(&client, &[Probe::of(&mine, "1"), Probe::of(&other, "1")]).await;
        others.extend(held.pop());
        mines.extend(held.pop());
    }
    cluster.client(1).publish(&mine, "2").await.acknowledged();
    for poll in mines {
        assert_eq!(answer(poll).await, mine.changed());
    }
    // The same content again is no change.
    cluster.client(1).publish(&other, "1").await.acknowledged();
    cluster.agree().await;
    for (at, poll) in others.iter().enumerate() {
        assert_eq!(cluster.client(at).held_polls().await, 1);
        assert!(!poll.is_finished(), "woken by another key");
    }
    cluster.client(2).publish(&other, "2").await.acknowledged();
    for poll in others {
        assert_eq!(answer(poll).await, other.changed());
    }
}

#[tokio::test]
async fn a_poll_with_many_keys_names_the_one_that_changed() {
    let cluster = Cluster::start(3).await;
    let follower = cluster.followers().await[0];
    let keys: Vec<Key> = (0..50).map(|number| Key::new(format!("many-{number}"))).collect();
    let probes: Vec<Probe> = keys.iter().map(Probe::absent).collect();
    let client = cluster.client(follower);
    let tasks = TaskTracker::new();
    let held = tasks.spawn(client.poll(&probes, HOLD));
    wait_until("a held poll", READY, async || (client.held_polls().await == 1).then_some(())).await;
    cluster.client((follower + 1) % 3).publish(&keys[31], "x").await.acknowledged();
    assert_eq!(answer(held).await, keys[31].changed());
    assert_eq!(client.held_polls().await, 0);
}

#[tokio::test]
async fn a_disconnect_frees_a_held_poll() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client(0);
    let held = hold(client, &[Probe::absent(&Key::new("never"))]).await;
    held.iter().for_each(JoinHandle::abort);
    wait_until("no held poll", READY, async || (client.held_polls().await == 0).then_some(()))
        .await;
}
