//! Settings: mistakes are told all at once before a socket opens, and the nearer source wins.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::harness::{Client, QUORATE, READY, free_addresses, wait_until, within};

/// Serves with these arguments, which must be refused; gives what was said.
async fn refused(arguments: &[&str]) -> String {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let data = directory.path().join("data");
    let output = Command::new(QUORATE)
        .arg("serve")
        .arg("--data-dir")
        .arg(&data)
        .args(arguments)
        .current_dir(directory.path())
        .kill_on_drop(true)
        .output();
    let output = within("the end of the process", Duration::from_secs(10), output).await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "served with {arguments:?}");
    assert!(!data.join("ports.json").exists(), "a socket was opened");
    said
}

/// All of these words must be in what is said.
async fn check(arguments: &[&str], named: &[&str]) {
    let said = refused(arguments).await;
    for name in named {
        assert!(said.contains(name), "{arguments:?}: no {name} in:\n{said}");
    }
}

#[tokio::test]
async fn every_mistake_is_told_at_once() {
    check(
        &[
            "--http-listen",
            "nonsense",
            "--peer-listen",
            "127.0.0.1:99999",
            "--cluster-secret-file",
            "no/such/file",
            "--peers",
            "127.0.0.1:1,nonsense-without-port,127.0.0.1:1",
        ],
        &["http-listen", "peer-listen", "cluster-secret-file", "peers"],
    )
    .await;
}

#[tokio::test]
async fn what_cannot_work_is_refused() {
    // The gRPC port would be 66000.
    check(&["--http-listen", "127.0.0.1:65000"], &["grpc"]).await;
    // The peer port would be -500.
    check(&["--http-listen", "127.0.0.1:500"], &["peer"]).await;
    // Beyond loopback nobody may pose as a member.
    let open = ["--http-listen", "0.0.0.0:0", "--grpc-listen", "0.0.0.0:0"];
    let peer = ["--peer-listen", "0.0.0.0:17848", "--advertise", "127.0.0.1"];
    check(&[open, peer].concat(), &["cluster-secret-file"]).await;
    // Nobody could find this one.
    check(&[&open[..], &["--peer-listen", "0.0.0.0:17848"]].concat(), &["advertise"]).await;
    // Not a member of its own cluster.
    let ports = ["--http-listen", "127.0.0.1:18848", "--peer-listen", "127.0.0.1:17848"];
    check(&[&ports[..], &["--peers", "127.0.0.1:1,127.0.0.1:2"]].concat(), &["peers"]).await;
}

#[tokio::test]
async fn a_file_with_an_unknown_setting_is_refused() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = directory.path().join("quorate.toml");
    std::fs::write(&file, "http_listen = \"127.0.0.1:0\"\nhtpp_listen = \"typo\"\n").unwrap();
    check(&["--config", file.to_str().unwrap()], &["htpp_listen"]).await;
    check(&["--config", "no/such/file.toml"], &["no/such/file.toml"]).await;
}

#[tokio::test]
async fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let addresses = free_addresses(7);
    let file = directory.path().join("quorate.toml");
    let text = format!(
        "http_listen = \"{}\"\ngrpc_listen = \"{}\"\npeer_listen = \"{}\"\n",
        addresses[0], addresses[1], addresses[2]
    );
    std::fs::write(&file, text).unwrap();
    let mut child = Command::new(QUORATE)
        .arg("serve")
        .arg("--config")
        .arg(&file)
        .arg("--data-dir")
        .arg(directory.path().join("data"))
        .args(["--http-listen", &addresses[3].to_string()])
        .env("QUORATE_HTTP_LISTEN", addresses[4].to_string())
        .env("QUORATE_GRPC_LISTEN", addresses[5].to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let client = Client::new(addresses[3]);
    wait_until("readiness", READY, async || client.is_ready().await.then_some(())).await;
    let ports = std::fs::read(directory.path().join("data/ports.json")).unwrap();
    let ports: serde_json::Value = serde_json::from_slice(&ports).unwrap();
    assert_eq!(ports["http"], addresses[3].port());
    assert_eq!(ports["grpc"], addresses[5].port());
    assert_eq!(ports["peer"], addresses[2].port());
    child.kill().await.unwrap();
}
