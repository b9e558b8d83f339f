//! The process itself: its ports, its health, its end, and who it talks to.

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{
    Client, Cluster, Key, Options, Probe, QUORATE, READY, Role, free_addresses, stays, wait_until,
    within,
};
use crate::poll::{SOON, hold};

fn quorate(arguments: &[&str]) -> Output {
    Command::new(QUORATE).args(arguments).output().expect("the binary runs")
}

/// A lone voter has nobody to acknowledge it: its lease must not run out.
#[tokio::test]
async fn a_single_node_stays_ready_without_load() {
    let mut cluster = Cluster::prepare_alone(&Options::default()).await;
    cluster.node(0).start();
    cluster.node(0).ready().await;
    let client = cluster.client(0).clone();
    stays("ready", Duration::from_secs(5), async || client.is_ready().await).await;
}

/// The second process says so and leaves the directory of the first as it is.
#[tokio::test]
async fn a_second_process_on_one_directory_is_refused() {
    let mut cluster = Cluster::prepare_alone(&Options::default()).await;
    cluster.node(0).start();
    cluster.node(0).ready().await;
    let data = cluster.node(0).data();
    let identity = fs::read(data.join("node.json")).expect("an identity");
    let ip = free_addresses(1)[0].ip();
    let listen = format!("{ip}:0");
    let refused =
        quorate(&["serve", "--data-dir", data.to_str().expect("a path"), "--http-listen", &listen]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("in use by another process"), "{told}");
    assert_eq!(fs::read(data.join("node.json")).expect("an identity"), identity);
}

#[tokio::test]
async fn free_ports_are_bound_and_written_down() {
    let mut cluster = Cluster::prepare_alone(&Options::default()).await;
    let node = cluster.node(0);
    let ip = free_addresses(1)[0].ip();
    for flag in ["--http-listen", "--grpc-listen", "--peer-listen"] {
        node.set_flag(flag, &format!("{ip}:0"));
    }
    node.start();
    let path = node.data().join("ports.json");
    let ports: Value = wait_until("ports.json", READY, async || {
        // Renamed into place: it is whole as soon as it is there.
        Some(serde_json::from_slice(&fs::read(&path).ok()?).expect("JSON"))
    })
    .await;
    let port = |name: &str| u16::try_from(ports[name].as_u64().expect("a port")).unwrap();
    let [http, grpc, peer] = ["http", "grpc", "peer"].map(port);
    assert!(http != 0 && grpc != 0 && peer != 0 && http != grpc && grpc != peer, "{ports}");

    let client = Client::new((ip, http).into());
    // The file appears once HTTP answers.
    client.state().await.expect("an answer");
    wait_until("readiness", READY, async || client.is_ready().await.then_some(())).await;
    client.publish(&Key::new("port"), "0").await.acknowledged();
}

#[tokio::test]
async fn health_tells_whether_the_node_is_ready() {
    let check = |arguments: &[&str], healthy: bool| {
        let output = quorate(arguments);
        assert_eq!(output.status.success(), healthy, "{arguments:?}: {output:?}");
    };
    let mut cluster = Cluster::alone(&Options::default()).await;
    let http = cluster.client(0).address().to_string();
    check(&["health", "--http", &http], true);
    cluster.node(0).kill();
    check(&["health", "--http", &http], false);

    // It answers, but one of three knows no leader.
    let mut cluster = Cluster::prepare(3, &Options::default()).await;
    cluster.node(0).start();
    cluster.nodes()[0].answering().await;
    check(&["health", "--http", &cluster.client(0).address().to_string()], false);
}

#[tokio::test]
async fn health_finds_the_node_by_its_directory() {
    let mut cluster = Cluster::prepare_alone(&Options::default()).await;
    let node = cluster.node(0);
    // It is asked on 127.0.0.1: the directory tells ports only.
    node.set_flag("--http-listen", "127.0.0.1:0");
    let data = node.data();
    let data = data.to_str().unwrap();
    let healthy = || quorate(&["health", "--data-dir", data]).status.success();
    assert!(!healthy(), "there is no such node");
    node.start();
    wait_until("health", READY, async || healthy().then_some(())).await;
    node.kill();
    assert!(!healthy(), "it was killed");
}

#[tokio::test]
async fn sigterm_answers_held_polls_and_hands_leadership_over() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let held = hold(cluster.client(leader), &[Probe::absent(&Key::new("never"))]).await;
    let other = (leader + 1) % 3;
    cluster.node(leader).stop().await;
    for poll in held {
        let answer = within("the answer of a poll", SOON, poll).await.unwrap();
        let answer = answer.expect("answered before the process ended");
        assert_eq!((answer.status, answer.text()), (200, ""));
    }
    // No election time-out passes: the next leader was asked to take over.
    let key = Key::new("handed-over");
    cluster.client(other).publish(&key, "x").await.acknowledged();
    cluster.node(leader).start();
    cluster.ready().await;
    cluster.agree().await;
}

#[tokio::test]
async fn sigterm_ends_a_node_that_waits_for_its_peers() {
    let mut cluster = Cluster::prepare(3, &Options::default()).await;
    cluster.node(0).start();
    cluster.nodes()[0].answering().await;
    cluster.node(0).stop().await;
}

#[tokio::test]
async fn a_node_with_another_secret_is_refused() {
    let secrets = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = |name: &str, secret: &str| {
        let path = secrets.path().join(name);
        fs::write(&path, secret).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let right = file("right", "the secret of this cluster, 32 bytes or more\n");
    let wrong = file("wrong", "the secret of another one, of the same length\n");
    let options = Options::default().with("--cluster-secret-file", right.clone());
    let mut cluster = Cluster::start_with(3, &options).await;
    let key = Key::new("guarded");
    let outside = cluster.followers().await[0];
    let inside = (outside + 1) % 3;
    cluster.node(outside).kill();
    let revision = cluster.client(inside).publish(&key, "x").await.acknowledged();

    cluster.node(outside).set_flag("--cluster-secret-file", &wrong);
    cluster.node(outside).start();
    cluster.nodes()[outside].answering().await;
    wait_until("a refused call", READY, async || {
        let refused = cluster.client(inside).metric("quorate_peer_calls_refused_total").await;
        (refused.unwrap() > 0.0).then_some(())
    })
    .await;
    // Nothing that it remembers may pass for news from the cluster.
    assert!(!cluster.client(outside).is_ready().await);
    let state = cluster.client(outside).state().await.unwrap();
    assert!(state.revision < revision && state.role != Role::Leader, "{state:#?}");
    cluster.client(inside).publish(&key, "y").await.acknowledged();

    cluster.node(outside).kill();
    cluster.node(outside).set_flag("--cluster-secret-file", &right);
    cluster.node(outside).start();
    cluster.ready().await;
    cluster.agree().await;
    assert_eq!(cluster.client(outside).read(&key).await.as_deref(), Some("y"));
}

#[tokio::test]
async fn a_data_directory_has_one_process() {
    let cluster = Cluster::alone(&Options::default()).await;
    let data = cluster.nodes()[0].data();
    let started = tokio::process::Command::new(QUORATE)
        .args(["serve", "--data-dir", data.to_str().unwrap()])
        .args(["--http-listen", "127.0.0.1:0"])
        .args(["--grpc-listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"])
        .kill_on_drop(true)
        .output();
    let output = within("the end of the second process", Duration::from_secs(10), started).await;
    assert!(!output.unwrap().status.success(), "two processes on one directory");
    cluster.client(0).publish(&Key::new("still"), "mine").await.acknowledged();
}

#[test]
fn the_version_is_told() {
    let output = quorate(&["--version"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains(env!("CARGO_PKG_VERSION")), "{text}");
}
