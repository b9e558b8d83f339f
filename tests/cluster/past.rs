//! History, releases and namespaces on three nodes: the same everywhere, through kills, a snapshot
//! and a lost copy of the store.

use serde_json::{Value, json};

use crate::away::outrun;
use crate::harness::{Cluster, Key, Options, READY, cluster_status, wait_until};

/// The history of a key at one node, newest first: number, letter, revision's text.
async fn history(all: &Cluster, at: usize, key: &Key) -> Vec<Value> {
    let path = format!(
        "/nacos/v3/admin/cs/history/list?dataId={}&groupName={}&pageSize=500",
        key.data_id, key.group
    );
    let answer = all.client(at).get_path(&path).await.unwrap();
    let body: Value = serde_json::from_str(answer.text()).unwrap();
    body["data"]["pageItems"].as_array().expect("a page").clone()
}

async fn until_own_level(all: &Cluster) {
    wait_until("the feature level of this release", READY, async || {
        (cluster_status(all.client(0)).await["featureLevel"] == 3).then_some(())
    })
    .await;
}

#[tokio::test]
async fn history_is_the_same_everywhere_and_survives() {
    let mut all = Cluster::start_with(3, &Options::small_log()).await;
    until_own_level(&all).await;
    let key = Key::new("past");
    for (at, content) in [(0, "one"), (1, "two"), (2, "three")] {
        all.client(at).publish(&key, content).await.acknowledged();
    }
    all.client(1).remove(&key).await.acknowledged();
    all.agree().await;
    let want = history(&all, 0, &key).await;
    let letters: Vec<_> = want.iter().map(|it| it["opType"].as_str().unwrap()).collect();
    assert_eq!(letters, ["D", "U", "U", "I"]);

    all.kill_all();
    all.start_all();
    all.ready().await;
    all.agree().await;
    for at in 0..3 {
        assert_eq!(history(&all, at, &key).await, want, "node {at} after a kill of all");
    }
    // By a snapshot, and from nothing but snapshot and log.
    let away = all.followers().await[0];
    let left_at = all.client(away).state().await.unwrap().applied_index.unwrap();
    all.node(away).kill();
    outrun(all.client((away + 1) % 3), left_at, 0).await;
    all.node(away).start();
    all.ready().await;
    all.agree().await;
    assert_eq!(history(&all, away, &key).await, want, "after a snapshot");
    all.node(away).kill();
    std::fs::remove_dir_all(all.nodes()[away].data().join("sled")).unwrap();
    all.node(away).start();
    all.ready().await;
    all.agree().await;
    assert_eq!(history(&all, away, &key).await, want, "without its copy of the store");
}

#[tokio::test]
async fn a_change_of_several_keys_is_undone_at_another_node() {
    let all = Cluster::start(3).await;
    until_own_level(&all).await;
    let (old, new) = (Key::new("old"), Key::new("new"));
    all.client(0).publish(&old, "before").await.acknowledged();
    let part = |key: &Key, content: &str| json!({"publish": {"dataId": key.data_id, "group": key.group, "content": content}});
    let body = json!({"changes": [part(&old, "after"), part(&new, "made")]}).to_string();
    let made = all.client(1).post_json("/quorate/v1/changes", &body).await.unwrap();
    assert_eq!(made.status, 200, "{made:?}");
    let revision = serde_json::from_str::<Value>(made.text()).unwrap()["revision"].clone();
    assert_eq!(all.client(1).read(&new).await.as_deref(), Some("made"));
    all.agree().await;
    let body = json!({"revision": revision}).to_string();
    let undone = all.client(2).post_json("/quorate/v1/changes/rollback", &body).await.unwrap();
    assert_eq!(undone.status, 200, "{undone:?}");
    all.agree().await;
    for at in 0..3 {
        assert_eq!(all.client(at).read(&old).await.as_deref(), Some("before"));
        assert_eq!(all.client(at).read(&new).await, None);
    }
    // Somebody wrote since: not a second time.
    let again = all.client(2).post_json("/quorate/v1/changes/rollback", &body).await.unwrap();
    assert_eq!(again.status, 409, "{again:?}");
}
