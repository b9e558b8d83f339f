//! A crash at each step of rolling, purging, truncating, snapshotting, installing and of the
//! store's copy (`quorate_core::crash`): nothing acknowledged is lost, and the node comes back by
//! itself. A power loss at any write is what `tests/simulation` does.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use crate::away::outrun;
use crate::harness::{Cluster, Key, Options, READY, Writers, cluster_status, quorate, wait_until};

const SIGABRT: i32 = 6;

/// Snapshots, rolls and purges after a few hundred writes.
fn tiny_log() -> Options {
    Options::default()
        .with("--snapshot-every-bytes", "32768")
        .with("--log-keep-bytes", "16384")
        .with("--segment-bytes", "65536")
}

/// Waits for the crash that was asked for, looks the directory over, and has the node back.
async fn crashed_then_back(all: &mut Cluster, at: usize) {
    let status = all.node(at).exit(READY).await;
    assert_eq!(status.signal(), Some(SIGABRT), "{status}: {}", all.nodes()[at].log());
    quorate(&["check", all.nodes()[at].data().to_str().unwrap()]).await.done();
    all.node(at).crash_at(None);
    all.node(at).start();
    all.ready().await;
}

/// The first leader crashes at this point while everyone writes.
async fn under_load(point: &str) {
    let mut all = Cluster::start_with(3, &tiny_log()).await;
    let leader = all.leader().await;
    all.node(leader).kill();
    // Not the first one: the second stands on what the first one left.
    all.node(leader).crash_at(Some(&format!("{point}:2")));
    all.node(leader).start();
    let writers = Writers::start(&all.clients(), 8);
    crashed_then_back(&mut all, leader).await;
    writers.progress(100, READY).await;
    let history = writers.stop().await;
    all.agree().await;
    for at in 0..3 {
        history.check(all.client(at)).await;
    }
}

/// A node that is sent a snapshot crashes at this point.
async fn while_installing(point: &str) {
    let mut all = Cluster::start_with(3, &tiny_log()).await;
    let away = all.followers().await[0];
    let client = all.client(away);
    let left_at =
        wait_until("an applied entry", READY, async || client.state().await.ok()?.applied_index)
            .await;
    all.node(away).kill();
    let leader = all.leader().await;
    // More than a rebuilt copy writes at once.
    let noise = |seed: usize| -> String {
        let hashes = (0..4000).map(|at| format!("{:x}", (at * 2_654_435_761 + seed) % 0xffff_ffff));
        hashes.collect()
    };
    for number in 0..80 {
        let key = Key::new(format!("large-{number}"));
        all.client(leader).publish(&key, &noise(number)).await.acknowledged();
    }
    outrun(all.client(leader), left_at, 0).await;
    all.node(away).crash_at(Some(point));
    all.node(away).start();
    crashed_then_back(&mut all, away).await;
    all.agree().await;
    for number in 0..80 {
        let key = Key::new(format!("large-{number}"));
        assert_eq!(all.client(away).read(&key).await, Some(noise(number)));
    }
    // What it holds on disk too.
    all.node(away).kill();
    all.node(away).start();
    all.ready().await;
    all.agree().await;
}

macro_rules! crashes {
    ($how:ident: $($test:ident at $point:literal),* $(,)?) => {
        $(#[tokio::test]
        async fn $test() {
            $how($point).await;
        })*
    };
}

crashes!(under_load:
    a_roll_once_the_old_segment_is_sealed at "log-roll-sealed",
    a_roll_once_the_new_segment_has_its_name at "log-roll-named",
    a_roll_once_the_name_is_durable at "log-roll-done",
    a_purge_once_it_is_recorded at "log-purge-recorded",
    a_purge_between_two_deletions at "log-purge-deleted",
    a_snapshot_once_it_is_written at "snapshot-written",
    a_snapshot_once_it_has_its_name at "snapshot-named",
    a_snapshot_once_old_ones_are_gone at "snapshot-pruned",
    a_batch_of_the_store_once_it_is_written at "store-batch-written",
);

crashes!(while_installing:
    an_install_after_one_chunk at "install-chunk-written",
    an_install_once_the_snapshot_is_verified at "install-verified",
    an_install_once_the_snapshot_has_its_name at "install-named",
    an_install_once_memory_has_it at "install-replaced",
    a_rebuilt_store_half_way at "store-rebuild-half",
    a_rebuilt_store_once_it_is_written at "store-rebuild-written",
    a_rebuilt_store_once_the_old_one_is_moved at "store-rebuild-old-moved",
    a_rebuilt_store_once_it_has_its_name at "store-rebuild-named",
);

/// Entries that a deposed leader never replicated are truncated when it returns.
#[tokio::test]
async fn a_truncation_once_it_is_written() {
    let mut all = Cluster::start_with(3, &Options::default()).await;
    all.client(0).publish(&Key::new("kept"), "1").await.acknowledged();
    let leader = all.leader().await;
    let others = all.followers().await;
    // Killed, not stopped: what was sent to a stopped node waits in its sockets.
    for at in &others {
        all.node(*at).kill();
    }
    let client = all.client(leader).clone();
    // The write waits in the leader's log for a majority that cannot come.
    let before = client.state().await.unwrap().applied_index;
    let killed = async {
        wait_until("an entry in the log", READY, async || {
            let status = cluster_status(all.client(leader)).await;
            (status["lastIndex"].as_u64() > before).then_some(())
        })
        .await;
        all.node(leader).kill();
    };
    let key = Key::new("never-acknowledged");
    let (outcome, ()) = tokio::join!(client.publish(&key, "x"), killed);
    assert!(!outcome.is_acknowledged());
    for at in &others {
        all.node(*at).start();
    }
    let number = others[0];
    wait_until("a new leader", Duration::from_secs(20), async || {
        let outcome = all.client(number).publish(&Key::new("kept"), "2").await;
        outcome.is_acknowledged().then_some(())
    })
    .await;
    all.node(leader).crash_at(Some("log-truncate-written"));
    all.node(leader).start();
    crashed_then_back(&mut all, leader).await;
    all.agree().await;
    for at in 0..3 {
        assert_eq!(all.client(at).read(&Key::new("kept")).await.as_deref(), Some("2"));
    }
}
