//! A node that was away for longer than the log keeps: it gets a snapshot.

use crate::damage::files_under;
use crate::harness::{Client, Cluster, Key, Options, Probe, READY, RaftState, wait_until};
use crate::poll::{answer, hold};

/// More than sockets and HTTP/2 windows hold for a process that reads nothing.
const BUFFERED_BYTES: usize = 24 * 1024 * 1024;

/// Publishes at least so many bytes, and until a snapshot lies, and the log is purged, beyond
/// this index at that node.
pub(crate) async fn outrun(client: &Client, index: u64, bytes: usize) -> RaftState {
    let filler = "f".repeat(16 * 1024);
    let mut written = 0;
    loop {
        for number in 0..16 {
            let key = Key::new(format!("filler-{number}"));
            client.publish(&key, &format!("{written} {filler}")).await.acknowledged();
            written += filler.len();
        }
        let state = client.state().await.unwrap();
        let purged = state.snapshot_index > Some(index) && state.purged_index > Some(index);
        if purged && written >= bytes {
            return state;
        }
        let bound = bytes + 16 * 1024 * 1024;
        assert!(written < bound, "{written} bytes and nothing purged beyond {index}: {state:#?}");
    }
}

async fn applied(client: &Client) -> u64 {
    client.state().await.unwrap().applied_index.expect("something is applied")
}

#[tokio::test]
async fn a_killed_node_catches_up_by_a_snapshot() {
    let mut cluster = Cluster::start_with(3, &Options::small_log()).await;
    let removed = Key::new("removed");
    cluster.client(0).publish(&removed, "x").await.acknowledged();
    cluster.agree().await;
    let leader = cluster.leader().await;
    let away = cluster.followers().await[0];
    let left_at = applied(cluster.client(away)).await;
    cluster.node(away).kill();
    cluster.client(leader).remove(&removed).await.acknowledged();
    let outrun = outrun(cluster.client(leader), left_at, 0).await;

    cluster.node(away).start();
    cluster.ready().await;
    let state = cluster.agree().await;
    let own = cluster.client(away).state().await.unwrap();
    assert!(own.snapshot_index >= outrun.purged_index, "{own:#?}");
    assert_eq!(own.config_count, state.config_count);
    assert_eq!(cluster.client(away).read(&removed).await, None);
    // What it got is on its disk too.
    cluster.node(away).kill();
    cluster.node(away).start();
    cluster.ready().await;
    cluster.agree().await;
}

#[tokio::test]
async fn polls_held_through_a_snapshot_hear_of_what_changed() {
    let cluster = Cluster::start_with(3, &Options::small_log()).await;
    let [changed, removed, born, same] =
        ["changed", "removed", "born", "same"].map(|name| Key::new(name.to_owned()));
    for key in [&changed, &removed, &same] {
        cluster.client(0).publish(key, "1").await.acknowledged();
    }
    cluster.agree().await;
    let leader = cluster.leader().await;
    let paused = cluster.followers().await[0];
    let client = cluster.client(paused);
    let left_at = applied(client).await;
    let mut held = hold(
        client,
        &[
            Probe::of(&changed, "1"),
            Probe::of(&removed, "1"),
            Probe::absent(&born),
            Probe::of(&same, "1"),
        ],
    )
    .await;

    cluster.nodes()[paused].signal("STOP");
    // What was sent to it meanwhile waits in sockets' buffers and will reach it as log entries;
    // once they are full only a snapshot can tell it of what follows.
    outrun(cluster.client(leader), left_at, BUFFERED_BYTES).await;
    cluster.client(leader).publish(&changed, "2").await.acknowledged();
    cluster.client(leader).remove(&removed).await.acknowledged();
    cluster.client(leader).publish(&born, "1").await.acknowledged();
    cluster.client(leader).publish(&same, "2").await.acknowledged();
    cluster.client(leader).publish(&same, "1").await.acknowledged();
    let index = applied(cluster.client(leader)).await;
    let outrun = outrun(cluster.client(leader), index, 0).await;
    cluster.nodes()[paused].signal("CONT");

    wait_until("the snapshot on the node that was away", READY, async || {
        let state = client.state().await.ok()?;
        (state.snapshot_index >= outrun.purged_index).then_some(())
    })
    .await;
    let still_held = held.pop().expect("four polls");
    for (poll, key) in held.into_iter().zip([&changed, &removed, &born]) {
        assert_eq!(answer(poll).await, key.changed());
    }
    assert_eq!(client.read(&changed).await.as_deref(), Some("2"));
    assert_eq!(client.read(&removed).await, None);
    cluster.agree().await;
    // It was written twice meanwhile and is again what its listener has.
    assert!(!still_held.is_finished(), "woken though its content is the same");
    cluster.client(paused).publish(&same, "3").await.acknowledged();
    assert_eq!(answer(still_held).await, same.changed());
}

#[tokio::test]
async fn the_log_does_not_grow_without_bound() {
    let cluster = Cluster::start_with(3, &Options::small_log()).await;
    let leader = cluster.leader().await;
    let mut purged = 0;
    for _ in 0..4 {
        let state = outrun(cluster.client(leader), purged, 0).await;
        purged = state.purged_index.expect("purged");
    }
    cluster.agree().await;
    for node in cluster.nodes() {
        // Purging follows the snapshot, which is built beside apply.
        wait_until("a bounded log", READY, async || {
            let segments = files_under(&node.data().join("raft"));
            let bytes: u64 =
                segments.iter().map(|path| path.metadata().map_or(0, |m| m.len())).sum();
            (bytes <= 4 * 1024 * 1024).then_some(())
        })
        .await;
        let snapshots = files_under(&node.data().join("snapshot"));
        let whole = snapshots.iter().filter(|path| path.extension().is_some_and(|e| e == "snap"));
        assert!(whole.count() <= 2, "{snapshots:?}");
    }
}
