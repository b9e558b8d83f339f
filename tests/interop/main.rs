//! Real clients from their registries against three nodes: publish, get, listen, remove.
//!
//! Where an interpreter or the registry is missing, SKIP is printed with the reason; what a
//! client does against the cluster is never skipped.

#![cfg(test)]

#[path = "../harness/harness.rs"]
mod harness;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use tokio::process::Command;

use harness::Cluster;

/// For fetching a client and what it depends on.
const INSTALL: Duration = Duration::from_secs(240);
/// For a whole script: each of its own waits is shorter.
const RUN: Duration = Duration::from_secs(120);

/// Runs a command to its end. The error tells why it is no success.
async fn run(command: &mut Command, patience: Duration) -> Result<Output, String> {
    let name = format!("{:?}", command.as_std());
    let output = tokio::time::timeout(patience, command.kill_on_drop(true).output())
        .await
        .map_err(|_| format!("{name}: not done within {patience:?}"))?
        .map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!("{name}: {}\n{}", output.status, String::from_utf8_lossy(&said)))
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/interop")
}

/// Kept between runs, so that a client is fetched once.
fn installed(client: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop").join(client);
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// Gives a client's command the addresses of three nodes; it must succeed.
async fn check(mut command: Command) {
    let cluster = Cluster::start(3).await;
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    // Both clients keep caches and logs below these.
    command.env("HOME", home.path()).current_dir(home.path());
    for client in cluster.clients() {
        command.arg(client.address().to_string());
    }
    match run(&mut command, RUN).await {
        Ok(output) => print!("{}", String::from_utf8_lossy(&output.stdout)),
        Err(why) => panic!("{why}"),
    }
    cluster.agree().await;
}

async fn install_python() -> Result<PathBuf, String> {
    let directory = installed("python");
    let python = directory.join("bin/python");
    run(Command::new("python3").args(["-m", "venv"]).arg(&directory), INSTALL).await?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    run(pip.arg(sources().join("requirements.txt")), INSTALL).await?;
    Ok(python)
}

#[tokio::test]
async fn the_python_client() {
    match install_python().await {
        Ok(python) => {
            let mut command = Command::new(python);
            command.arg(sources().join("python_client.py"));
            check(command).await;
        }
        Err(why) => println!("SKIP the_python_client: {why}"),
    }
}

async fn install_node() -> Result<PathBuf, String> {
    let directory = installed("node");
    // Modules are looked for beside the script that asks for them.
    for name in ["package.json", "node_client.mjs"] {
        fs::copy(sources().join(name), directory.join(name)).map_err(|error| error.to_string())?;
    }
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--prefer-offline"]).current_dir(&directory);
    run(&mut npm, INSTALL).await?;
    Ok(directory.join("node_client.mjs"))
}

#[tokio::test]
async fn the_node_client() {
    match install_node().await {
        Ok(script) => {
            let mut command = Command::new("node");
            // The client's processes find each other over a local port; it is not 7777 here.
            let free = TcpListener::bind("0.0.0.0:0").unwrap();
            let port = free.local_addr().unwrap().port().to_string();
            drop(free);
            command.arg(script).env("NODE_CLUSTER_CLIENT_PORT", port);
            check(command).await;
        }
        Err(why) => println!("SKIP the_node_client: {why}"),
    }
}
