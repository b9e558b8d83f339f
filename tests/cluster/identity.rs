//! Identity apart from address: nodes that move, copies of data directories, lost disks.

use std::time::Duration;

use crate::harness::{
    Cluster, Key, Options, READY, cluster, cluster_status, free_addresses, quorate, stays,
    wait_until,
};

/// Long enough for a replacement that should not be to happen.
const WATCHED: Duration = Duration::from_secs(4);

fn quick_replace() -> Options {
    Options::default().with("--auto-replace-after", "2s")
}

/// Ids of the members with their peer addresses and whether they vote, as node `at` has them.
async fn members(all: &Cluster, at: usize) -> Vec<(String, String, bool)> {
    let status = cluster_status(all.client(at)).await;
    let members = status["members"].as_array().expect("members").iter();
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    members.map(|it| (text(&it["id"]), text(&it["peer"]), it["isVoter"] == true)).collect()
}

async fn until_own_level(all: &Cluster) {
    wait_until("the feature level of this release", READY, async || {
        let status = cluster_status(all.client(0)).await;
        (status["featureLevel"] == 3).then_some(())
    })
    .await;
}

#[tokio::test]
async fn each_node_moves_to_other_addresses_and_is_found() {
    let mut all = Cluster::start(3).await;
    let key = Key::new("moved");
    for at in 0..3 {
        let id = all.client(at).state().await.unwrap().node_id;
        all.node(at).stop().await;
        let own = free_addresses(3).try_into().unwrap();
        all.node(at).move_to(own);
        all.node(at).start();
        all.ready().await;
        let other = (at + 1) % 3;
        all.client(other).publish(&key, &format!("moved {at}")).await.acknowledged();
        let peer = all.nodes()[at].peer();
        for seen_by in 0..3 {
            wait_until("the new address in the members", READY, async || {
                let members = members(&all, seen_by).await;
                members.contains(&(id.clone(), peer.clone(), true)).then_some(())
            })
            .await;
        }
        all.client(at).publish(&key, &format!("from {at}")).await.acknowledged();
    }
    assert_eq!(members(&all, 0).await.len(), 3);
    all.agree().await;
}

#[tokio::test]
async fn all_nodes_move_at_once_and_find_each_other_by_the_configured_names() {
    let mut all = Cluster::start(3).await;
    let key = Key::new("kept");
    all.client(0).publish(&key, "kept").await.acknowledged();
    all.kill_all();
    let addresses = free_addresses(9);
    let peers: Vec<_> = addresses[..3].iter().map(ToString::to_string).collect();
    for at in 0..3 {
        all.node(at).move_to([addresses[at], addresses[3 + at], addresses[6 + at]]);
        all.node(at).set_flag("--peers", &peers.join(","));
    }
    all.start_all();
    all.ready().await;
    wait_until("the new addresses in the members", READY, async || {
        let mut found: Vec<_> = members(&all, 1).await.into_iter().map(|it| it.1).collect();
        found.sort();
        let mut wanted = peers.clone();
        wanted.sort();
        (found == wanted).then_some(())
    })
    .await;
    all.client(2).publish(&key, "written").await.acknowledged();
    assert_eq!(all.client(2).read(&key).await.as_deref(), Some("written"));
}

#[tokio::test]
async fn a_lost_disk_is_replaced_and_the_old_id_never_comes_back() {
    let mut all = Cluster::start_with(3, &quick_replace()).await;
    until_own_level(&all).await;
    let lost = all.followers().await[0];
    let other = (lost + 1) % 3;
    let key = Key::new("survivor");
    all.client(other).publish(&key, "before").await.acknowledged();
    let old = all.client(lost).state().await.unwrap().node_id;
    all.node(lost).kill();
    let copy = all.nodes()[lost].copy("old");
    all.node(lost).wipe();
    all.node(lost).start();
    let peer = all.nodes()[lost].peer();
    wait_until("the empty node in the place of the lost one", READY, async || {
        let members = members(&all, other).await;
        let is_new = |it: &&(String, String, bool)| it.1 == peer && it.0 != old && it.2;
        (members.len() == 3 && members.iter().find(is_new).is_some()).then_some(())
    })
    .await;
    all.ready().await;
    all.agree().await;
    assert_eq!(all.client(lost).read(&key).await.as_deref(), Some("before"));

    // The disk is found again: it is of no use any more, and says so.
    all.node(lost).kill();
    all.node(lost).restore(&copy);
    all.node(lost).start();
    let status = all.node(lost).exit(READY).await;
    assert!(!status.success());
    let log = all.nodes()[lost].log();
    assert!(log.contains(&format!("node {old} was removed from this cluster")), "{log}");
    all.client(other).publish(&key, "after").await.acknowledged();
}

#[tokio::test]
async fn without_auto_replace_a_lost_disk_waits_for_the_operator() {
    let options = quick_replace().switch("--auto-replace=false");
    let mut all = Cluster::start_with(3, &options).await;
    let lost = all.followers().await[0];
    let other = all.leader().await;
    let old = all.client(lost).state().await.unwrap().node_id;
    all.node(lost).kill();
    all.node(lost).wipe();
    all.node(lost).start();
    let command = wait_until("a command in the status", READY, async || {
        let shown = cluster(all.client(other), &["status"]).await.done();
        let (_, command) = shown.split_once("quorate cluster ")?;
        Some(command.trim().to_owned())
    })
    .await;
    stays("no replacement", WATCHED, async || {
        members(&all, other).await.iter().filter(|it| it.2).count() == 3
    })
    .await;
    assert!(members(&all, other).await.iter().any(|it| it.0 == old));
    let words: Vec<_> = command.split(' ').collect();
    let done = cluster(all.client(other), &words).await.done();
    assert!(done.contains("replaced"), "{done}");
    all.ready().await;
    let after = members(&all, other).await;
    assert!(after.len() == 3 && after.iter().all(|it| it.2 && it.0 != old), "{after:?}");
    all.agree().await;
}

#[tokio::test]
async fn two_lost_disks_are_never_replaced_by_themselves() {
    let mut all = Cluster::start_with(5, &quick_replace()).await;
    let leader = all.leader().await;
    let lost = [(leader + 1) % 5, (leader + 2) % 5];
    let before = members(&all, leader).await;
    for at in lost {
        all.node(at).kill();
        all.node(at).wipe();
        all.node(at).start();
    }
    wait_until("both as learners", READY, async || {
        (members(&all, leader).await.len() == 7).then_some(())
    })
    .await;
    stays("the voters that there were", WATCHED, async || {
        let now = members(&all, leader).await;
        before.iter().all(|it| now.contains(it))
    })
    .await;
    all.client(leader).publish(&Key::new("still"), "writes").await.acknowledged();
}

#[tokio::test]
async fn a_copy_of_a_data_directory_is_refused_while_the_original_runs() {
    let mut all = Cluster::start(3).await;
    let original = all.followers().await[0];
    // A copy that was taken while nothing wrote is as good as the original.
    all.node(original).stop().await;
    let copy = all.nodes()[original].copy("copy");
    all.node(original).start();
    all.ready().await;
    let [peer, http, grpc]: [_; 3] = free_addresses(3).try_into().unwrap();
    let flags = [
        "serve",
        "--data-dir",
        copy.to_str().unwrap(),
        "--peer-listen",
        &peer.to_string(),
        "--http-listen",
        &http.to_string(),
        "--grpc-listen",
        &grpc.to_string(),
    ];
    let refused = quorate(&flags).await.refused();
    assert!(refused.contains("its data directory was copied"), "{refused}");
    all.ready().await;
    all.client(original).publish(&Key::new("goes"), "on").await.acknowledged();
}

#[tokio::test]
async fn an_old_copy_of_a_data_directory_is_refused() {
    let mut all = Cluster::start(3).await;
    let at = all.followers().await[0];
    all.node(at).stop().await;
    let copy = all.nodes()[at].copy("copy");
    all.node(at).start();
    all.ready().await;
    all.client(at).publish(&Key::new("since"), "then").await.acknowledged();
    all.agree().await;
    // It was started twice since the copy was taken.
    all.node(at).stop().await;
    all.node(at).start();
    all.ready().await;
    all.node(at).stop().await;
    all.node(at).restore(&copy);
    all.node(at).start();
    assert!(!all.node(at).exit(READY).await.success());
    let log = all.nodes()[at].log();
    assert!(log.contains("is an old copy"), "{log}");
}

#[tokio::test]
async fn an_old_copy_with_more_starts_is_known_by_its_log() {
    let mut all = Cluster::start(3).await;
    let at = all.followers().await[0];
    let leader = all.leader().await;
    all.node(at).stop().await;
    let copy = all.nodes()[at].copy("copy");
    all.node(at).start();
    all.ready().await;
    all.client(at).publish(&Key::new("since"), "then").await.acknowledged();
    all.agree().await;
    all.node(at).stop().await;
    // As if the copy had been started often elsewhere.
    let identity = copy.join("node.json");
    let text = std::fs::read_to_string(&identity).unwrap();
    let (before, _) = text.split_once("\"starts\"").unwrap();
    std::fs::write(&identity, format!("{before}\"starts\": 100\n}}")).unwrap();
    all.node(at).restore(&copy);
    all.node(at).start();
    assert!(!all.node(at).exit(READY).await.success());
    let log = all.nodes()[at].log();
    assert!(log.contains("but it has confirmed index"), "{log}");
    assert_eq!(all.leader().await, leader);
}
