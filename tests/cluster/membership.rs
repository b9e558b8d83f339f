//! Changes of the members, by themselves and by an operator.

use std::time::Duration;

use crate::harness::{
    Cluster, Key, Options, READY, Writers, cluster, cluster_status, quorate, wait_until,
};

async fn until_voters(all: &Cluster, at: usize, count: usize) {
    wait_until(&format!("{count} voters"), READY, async || {
        let status = cluster_status(all.client(at)).await;
        let members = status["members"].as_array()?;
        let voters = members.iter().filter(|it| it["isVoter"] == true).count();
        (voters == count && members.len() == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn from_one_to_three_to_five_to_three_under_load() {
    let mut all = Cluster::alone(&Options::small_log()).await;
    let writers = Writers::start(&all.clients(), 4);
    writers.progress(200, READY).await;
    for count in [2, 3, 4, 5] {
        let at = all.grow(&Options::small_log());
        all.node(at).start();
        until_voters(&all, 0, count).await;
        writers.progress(100, READY).await;
    }
    // The leader is among those that go, and not the node that is written to.
    let going = [2, 4];
    let leader = all.nodes()[4].peer();
    cluster(all.client(0), &["transfer-leader", &leader]).await.done();
    for at in going {
        let peer = all.nodes()[at].peer();
        let done = cluster(all.client(0), &["remove", &peer]).await.done();
        assert!(done.contains("removed"), "{done}");
        writers.progress(100, READY).await;
    }
    until_voters(&all, 0, 3).await;
    let history = writers.stop().await;
    assert_eq!((history.refused, history.unknown), (0, 0), "writes failed");
    // Who was removed ends and says why.
    for at in going {
        assert!(!all.node(at).exit(READY).await.success());
        assert!(all.nodes()[at].log().contains("was removed from this cluster"));
    }
    all.agree().await;
    for at in (0..5).filter(|at| !going.contains(at)) {
        history.check(all.client(at)).await;
    }
}

#[tokio::test]
async fn an_operator_adds_shows_checks_and_removes() {
    let mut all = Cluster::start(3).await;
    let asked = all.followers().await[0];
    // A node that was told of nobody.
    let at = all.grow(&Options::default());
    all.node(at).set_flag("--peers", "127.0.0.1:1");
    all.node(at).start();
    all.nodes()[at].answering().await;
    let peer = all.nodes()[at].peer();
    let done = cluster(all.client(asked), &["add", &peer, "--learner"]).await.done();
    assert!(done.contains("as a learner"), "{done}");
    let shown = cluster(all.client(asked), &["status"]).await.done();
    assert!(shown.contains("stays a learner, as it was added"), "{shown}");
    wait_until("healthy", READY, async || {
        let checked = cluster(all.client(asked), &["check"]).await;
        (checked.success && checked.out.contains("healthy: all members")).then_some(())
    })
    .await;
    let again = cluster(all.client(asked), &["add", &peer, "--learner"]).await.done();
    assert!(again.contains("a member already"), "{again}");
    let done = cluster(all.client(asked), &["remove", &peer]).await.done();
    assert!(done.contains("removed"), "{done}");
    let twice = cluster(all.client(asked), &["remove", &peer]).await.refused();
    assert!(twice.contains("is no member"), "{twice}");
    let twice = cluster(all.client(asked), &["remove", "--if-present", &peer]).await.done();
    assert!(twice.contains("nothing"), "{twice}");
    let nobody = cluster(all.client(asked), &["add", "127.0.0.1:1"]).await.refused();
    assert!(nobody.contains("no node answers at 127.0.0.1:1"), "{nobody}");
}

#[tokio::test]
async fn an_operator_hands_leadership_over_and_takes_snapshots() {
    let all = Cluster::start(3).await;
    let leader = all.leader().await;
    let next = (leader + 1) % 3;
    let peer = all.nodes()[next].peer();
    let done = cluster(all.client((leader + 2) % 3), &["transfer-leader", &peer]).await.done();
    assert!(done.contains("leads now"), "{done}");
    assert_eq!(all.leader().await, next);
    let idle = cluster(all.client(leader), &["transfer-leader", "--from-self"]).await.done();
    assert!(idle.contains("nothing"), "{idle}");
    cluster(all.client(next), &["transfer-leader", "--from-self"]).await.done();
    assert_ne!(all.leader().await, next);
    let done = cluster(all.client(0), &["snapshot"]).await.done();
    assert!(done.starts_with("snapshot at index "), "{done}");
    let state = all.client(0).state().await.unwrap();
    assert!(done.contains(&state.snapshot_index.unwrap().to_string()), "{done} {state:?}");
}

#[tokio::test]
async fn removing_a_member_whose_loss_would_break_the_quorum_is_refused() {
    let mut all = Cluster::start(3).await;
    let leader = all.leader().await;
    let (dead, other) = ((leader + 1) % 3, (leader + 2) % 3);
    all.node(dead).kill();
    let peer = all.nodes()[other].peer();
    wait_until("a refusal", READY, async || {
        let refused = cluster(all.client(leader), &["remove", &peer]).await;
        refused.err.contains("only 1 answer").then_some(())
    })
    .await;
    let peer = all.nodes()[dead].peer();
    cluster(all.client(other), &["remove", &peer]).await.done();
    let peer = all.nodes()[other].peer();
    cluster(all.client(leader), &["remove", &peer]).await.done();
    let last = all.nodes()[leader].peer();
    let refused = cluster(all.client(leader), &["remove", &last]).await.refused();
    assert!(refused.contains("the last voter cannot be removed"), "{refused}");
    all.client(leader).publish(&Key::new("alone"), "now").await.acknowledged();
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused() {
    let all = Cluster::start(3).await;
    let other = Cluster::alone(&Options::default()).await;
    let peer = other.nodes()[0].peer();
    let refused = cluster(all.client(0), &["add", &peer]).await.refused();
    assert!(refused.contains("belongs to another cluster"), "{refused}");
    assert!(refused.contains("move its data directory away"), "{refused}");
}

#[tokio::test]
async fn concurrent_changes_are_made_one_after_the_other() {
    let mut all = Cluster::start(3).await;
    let new: Vec<usize> = (0..2).map(|_| all.grow(&Options::default())).collect();
    for at in &new {
        all.node(*at).set_flag("--peers", "127.0.0.1:1");
        all.node(*at).start();
        all.nodes()[*at].answering().await;
    }
    let peers: Vec<_> = new.iter().map(|at| all.nodes()[*at].peer()).collect();
    let words = [["add", &peers[0]], ["add", &peers[1]]];
    let (one, other) =
        tokio::join!(cluster(all.client(1), &words[0]), cluster(all.client(2), &words[1]),);
    one.done();
    other.done();
    until_voters(&all, 0, 5).await;
    all.ready().await;
    all.agree().await;
}

#[tokio::test]
async fn administration_is_for_this_machine_and_for_who_has_the_secret() {
    let all = Cluster::alone(&Options::default()).await;
    let forwarded = all.client(0).get_with("/quorate/v1/cluster", &[("X-Real-IP", "10.0.0.9")]);
    let refused = forwarded.await.unwrap();
    assert_eq!(refused.status, 403, "{refused:?}");
    let missing = quorate(&["cluster", "--server", "http://127.0.0.1:1", "status"]).await;
    assert!(missing.refused().contains("127.0.0.1:1"));
}

#[tokio::test]
async fn the_references_raft_operations_do_what_they_say() {
    let all = Cluster::start(3).await;
    let leader = all.leader().await;
    let next = (leader + 1) % 3;
    let peer = all.nodes()[next].peer();
    let ask = async |version: &str, command: &str, value: &str| {
        let body = format!("{{\"command\":\"{command}\",\"value\":\"{value}\"}}");
        let path = format!("/nacos/{version}/core/ops/raft");
        let answer = all.client(leader).post_json(&path, &body).await.unwrap();
        (answer.status, answer.text().to_owned())
    };
    let success = (200, "{\"code\":200,\"message\":null,\"data\":null}".to_owned());
    assert_eq!(ask("v1", "transferLeader", &peer).await, success);
    assert_eq!(all.leader().await, next);
    let me = all.nodes()[leader].peer();
    assert_eq!(ask("v2", "doSnapshot", &me).await, success);
    let (status, text) = ask("v2", "resetRaftCluster", "x").await;
    assert_eq!(status, 200);
    assert!(text.contains("Not support command : resetRaftCluster"), "{text}");
    assert_eq!(ask("v2", "removePeer", "10.0.0.1:1").await, success);
    let (status, text) = ask("v3/admin", "removePeer", &me).await;
    assert_eq!(
        (status, text.as_str()),
        (200, "{\"code\":0,\"message\":\"success\",\"data\":null}")
    );
    until_voters(&all, next, 2).await;
    tokio::time::timeout(Duration::from_secs(1), all.client(next).state()).await.unwrap().unwrap();
}
