//! What an earlier release left, and a cluster that is half of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{
    Cluster, Key, Options, READY, Writers, cluster, cluster_status, quorate, wait_until,
};

/// Names the binary of an earlier release (`tests/upgrade/run` builds one).
const OLD_BINARY: &str = "QUORATE_OLD_BIN";

fn fixtures() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/data");
    let mut all: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    assert!(!all.is_empty());
    all
}

/// What tests/fixtures/make.sh wrote.
fn expected(number: usize) -> String {
    match number {
        3 => "changed".to_owned(),
        _ => format!("value {number} {}", "x".repeat(number * 40 + 1)),
    }
}

#[tokio::test]
async fn data_directories_of_earlier_releases_are_read() {
    for archive in fixtures() {
        let mut all = Cluster::prepare_alone(&Options::small_log()).await;
        let data = all.nodes()[0].data();
        std::fs::create_dir_all(&data).unwrap();
        let mut unpack = Command::new("tar");
        unpack.args(["--strip-components=1", "-xzf"]).arg(&archive).arg("-C").arg(&data);
        assert!(unpack.status().expect("tar runs").success(), "{unpack:?}");
        quorate(&["check", data.to_str().unwrap()]).await.done();
        // Twice: the second start reads what the first one wrote beside it.
        for _ in 0..2 {
            all.start_all();
            all.ready().await;
            for number in 0..60 {
                let key = Key { data_id: format!("key-{number}"), group: "old".to_owned() };
                let content = (number != 7).then(|| expected(number));
                assert_eq!(all.client(0).read(&key).await, content, "{archive:?} {number}");
            }
            let path = "/nacos/v1/cs/configs?dataId=unicode&group=old&tenant=space";
            let answer = all.client(0).get_path(path).await.unwrap();
            assert_eq!(answer.content(), Some("配置 ✓"));
            assert_eq!(answer.header("Config-Type"), Some("properties"));
            all.client(0).publish(&Key::new("new"), "written since").await.acknowledged();
            all.node(0).kill();
        }
    }
}

async fn feature_level(all: &Cluster, at: usize) -> Option<u64> {
    cluster_status(all.client(at)).await["featureLevel"].as_u64()
}

#[tokio::test]
async fn a_cluster_is_upgraded_node_by_node_under_load() {
    let Ok(old) = std::env::var(OLD_BINARY) else {
        println!(
            "SKIP rolling upgrade: {OLD_BINARY} names no binary (tests/upgrade/run builds one)"
        );
        return;
    };
    let mut all = Cluster::prepare(3, &Options::small_log()).await;
    for at in 0..3 {
        all.node(at).set_binary(&old);
    }
    all.start_all();
    all.ready().await;
    let writers = Writers::start(&all.clients(), 4);
    writers.progress(200, READY).await;
    // Whoever leads goes first: a new node follows an old leader, then leads old ones itself.
    let mut old: Vec<usize> = (0..3).collect();
    while !old.is_empty() {
        let leader = all.leader().await;
        let at = old.iter().position(|at| *at == leader).unwrap_or(0);
        let at = old.remove(at);
        all.node(at).stop().await;
        all.node(at).set_new_binary();
        all.node(at).start();
        all.ready().await;
        writers.progress(200, READY).await;
        if !old.is_empty() {
            assert_eq!(feature_level(&all, at).await, Some(1));
        }
        if old.contains(&all.leader().await) {
            let refused = cluster(all.client(at), &["transfer-leader"]).await.refused();
            assert!(refused.contains("of release 0.1: upgrade it first"), "{refused}");
        }
    }
    wait_until("the feature level of all", READY, async || {
        (feature_level(&all, 0).await >= Some(2)).then_some(())
    })
    .await;
    let history = writers.stop().await;
    all.agree().await;
    for at in 0..3 {
        history.check(all.client(at)).await;
    }
}
