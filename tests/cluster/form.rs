//! How a cluster comes to be, and that it stays one.

use std::time::Duration;

use crate::harness::{Cluster, Key, Options, READY, Role, stays, wait_until};

/// Long enough for a founding that should not be to happen.
const WATCHED: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_node_without_peers_is_a_cluster_of_one() {
    let cluster = Cluster::alone(&Options::default()).await;
    let state = cluster.client(0).state().await.unwrap();
    assert_eq!(state.role, Role::Leader);
    assert_eq!(state.peers.len(), 1);
    assert!(state.cluster_id.is_some());

    let key = Key::new("alone");
    cluster.client(0).publish(&key, "here").await.acknowledged();
    assert_eq!(cluster.client(0).read(&key).await.as_deref(), Some("here"));
}

#[tokio::test]
async fn three_found_one_cluster_in_whatever_order_they_start() {
    let mut cluster = Cluster::prepare(3, &Options::default()).await;
    for at in [2, 0] {
        cluster.node(at).start();
        cluster.nodes()[at].answering().await;
    }
    // Founding needs all of them.
    stays("no cluster of two", WATCHED, async || {
        let states = cluster.states().await.expect("both answer");
        states.iter().all(|state| state.cluster_id.is_none() && state.leader.is_none())
    })
    .await;
    let refused = cluster.client(2).try_publish(&Key::new("early"), "x").await.unwrap();
    assert_eq!((refused.status, refused.text()), (503, "caused: no leader;"));

    cluster.node(1).start();
    cluster.ready().await;
    let leader = cluster.leader().await;
    let states = cluster.states().await.unwrap();
    for (at, state) in states.iter().enumerate() {
        assert_eq!(state.cluster_id, states[0].cluster_id);
        assert_eq!(state.role, if at == leader { Role::Leader } else { Role::Follower });
        assert_eq!(state.peers.len(), 3, "{state:#?}");
    }
    assert_ne!(states[0].node_id, states[1].node_id);
    for at in 0..3 {
        let leads = cluster.client(at).metric("quorate_raft_is_leader").await.unwrap();
        assert_eq!(leads > 0.5, at == leader, "node {at}, leader {leader}");
    }
}

#[tokio::test]
async fn restarted_in_another_order_they_find_each_other() {
    let mut cluster = Cluster::start(3).await;
    let key = Key::new("kept");
    cluster.client(1).publish(&key, "kept").await.acknowledged();
    let before = cluster.agree().await;
    for at in [1, 2, 0] {
        cluster.node(at).stop().await;
    }
    for at in [2, 1, 0] {
        cluster.node(at).start();
        cluster.nodes()[at].answering().await;
    }
    cluster.ready().await;
    let after = cluster.agree().await;
    assert_eq!(after.cluster_id, before.cluster_id);
    for at in 0..3 {
        assert_eq!(cluster.client(at).read(&key).await.as_deref(), Some("kept"));
    }
}

#[tokio::test]
async fn a_wiped_node_never_founds_a_second_cluster() {
    let mut cluster = Cluster::start(3).await;
    let key = Key::new("survivor");
    cluster.client(0).publish(&key, "before").await.acknowledged();
    let before = cluster.agree().await;
    let wiped = cluster.followers().await[0];
    cluster.node(wiped).kill();
    cluster.node(wiped).wipe();
    cluster.node(wiped).start();
    cluster.nodes()[wiped].answering().await;

    stays("one cluster", WATCHED, async || {
        let state = cluster.client(wiped).state().await.expect("it answers");
        state.role != Role::Leader
            && (state.cluster_id.is_none() || state.cluster_id == before.cluster_id)
    })
    .await;
    let others: Vec<usize> = (0..3).filter(|at| *at != wiped).collect();
    let revision = cluster.client(others[0]).publish(&key, "after").await.acknowledged();
    // Whatever it has become, it either has no cluster or has this one's data.
    let state = cluster.client(wiped).state().await.unwrap();
    if state.cluster_id.is_some() {
        wait_until("the wiped node to catch up", READY, async || {
            let state = cluster.client(wiped).state().await.ok()?;
            (state.revision >= revision).then_some(())
        })
        .await;
        assert_eq!(cluster.client(wiped).read(&key).await.as_deref(), Some("after"));
    }
}

#[tokio::test]
async fn two_wiped_nodes_never_found_a_second_cluster() {
    let mut cluster = Cluster::start(3).await;
    let before = cluster.agree().await;
    for at in [1, 2] {
        cluster.node(at).kill();
        cluster.node(at).wipe();
        cluster.node(at).start();
        cluster.nodes()[at].answering().await;
    }
    // The two are a majority of the list they were started with, and both are empty.
    stays("one cluster", WATCHED, async || {
        let states = cluster.states().await.expect("all answer");
        states[1..].iter().all(|state| {
            state.role != Role::Leader
                && (state.cluster_id.is_none() || state.cluster_id == before.cluster_id)
        })
    })
    .await;
    let refused = cluster.client(1).try_publish(&Key::new("second"), "x").await.unwrap();
    assert_eq!(refused.status, 503, "{refused:?}");
}
