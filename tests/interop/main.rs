//! Real clients from their registries against three nodes: publish, get, listen, remove; those that
//! ask for it lose a node in the middle.
//!
//! Where an interpreter or the registry is missing, SKIP is printed with the reason; what a
//! client does against the cluster is never skipped.

#![cfg(test)]

#[path = "../harness/harness.rs"]
mod harness;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
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

/// As [`check`], for a client that prints a line for each case, wants a node killed when it prints
/// KILL, and goes on when it reads a line.
async fn check_with_a_kill(name: &str, mut command: Command) {
    let mut cluster = Cluster::start(3).await;
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    command.env("HOME", home.path()).current_dir(home.path());
    for client in cluster.clients() {
        command.arg(client.address().to_string());
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().expect("the client starts");
    let mut input = child.stdin.take().expect("piped");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut said = Vec::new();
    let talk = async {
        while let Some(line) = lines.next_line().await.expect("text") {
            if line == "KILL" {
                cluster.node(0).kill();
                input.write_all(b"\n").await.expect("a client that reads");
            } else {
                println!("{name}: {line}");
                said.push(line);
            }
        }
        child.wait().await.expect("a child")
    };
    let ended = tokio::time::timeout(2 * RUN, talk).await;
    let status = ended.unwrap_or_else(|_| panic!("{name}: not done in time: {said:#?}"));
    assert!(status.success(), "{name}: {status}: {said:#?}");
    cluster.node(0).start();
    cluster.ready().await;
    cluster.agree().await;
}

/// A virtual environment of its own, with these packages.
async fn install_python(name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let directory = installed(name);
    let python = directory.join("bin/python");
    run(Command::new("python3").args(["-m", "venv"]).arg(&directory), INSTALL).await?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    run(pip.args(packages), INSTALL).await?;
    Ok(python)
}

/// Clients that speak gRPC.
async fn check_python(version: &str) {
    let package = format!("nacos-sdk-python=={version}");
    match install_python(&format!("python-{version}"), &[&package]).await {
        Ok(python) => {
            let mut command = Command::new(python);
            command.arg(sources().join("python3_client.py"));
            check_with_a_kill(&package, command).await;
        }
        Err(why) => println!("SKIP {package}: {why}"),
    }
}

#[tokio::test]
async fn the_python_client_2() {
    check_python("2.0.11").await;
}

#[tokio::test]
async fn the_python_client_3() {
    check_python("3.2.0").await;
}

/// Compiles the program against one version of the client, and gives its class path.
async fn install_java(version: &str) -> Result<String, String> {
    let directory = installed(&format!("java-{version}"));
    let copy = [sources().join("java"), directory.clone()];
    run(Command::new("cp").arg("-rT").args(copy), INSTALL).await?;
    let mut maven = Command::new("mvn");
    maven.args(["--quiet", "--batch-mode", &format!("-Dnacos.version={version}")]);
    maven.args(["compile", "dependency:build-classpath", "-Dmdep.outputFile=classpath"]);
    run(maven.current_dir(&directory), INSTALL).await?;
    let libraries = fs::read_to_string(directory.join("classpath")).map_err(|e| e.to_string())?;
    Ok(format!("{}:{libraries}", directory.join("target/classes").display()))
}

async fn check_java(version: &str) {
    match install_java(version).await {
        Ok(class_path) => {
            let mut command = Command::new("java");
            // Its caches are below the home that Java takes from the user's entry.
            let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            command.arg(format!("-Duser.home={}", home.path().display()));
            command.args(["-Xmx256m", "-cp", &class_path, "ConfigClient"]);
            check_with_a_kill(&format!("nacos-client {version}"), command).await;
        }
        Err(why) => println!("SKIP nacos-client {version}: {why}"),
    }
}

#[tokio::test]
async fn the_java_client_1() {
    check_java("1.4.7").await;
}

#[tokio::test]
async fn the_java_client_2() {
    check_java("2.5.1").await;
}

#[tokio::test]
async fn the_java_client_3() {
    check_java("3.1.0").await;
}

#[tokio::test]
async fn the_python_client() {
    let requirements = sources().join("requirements.txt");
    let requirements = ["--requirement", requirements.to_str().expect("a path")];
    match install_python("python", &requirements).await {
        Ok(python) => {
            let mut command = Command::new(python);
            command.arg(sources().join("python_client.py"));
            check(command).await;
        }
        Err(why) => println!("SKIP the_python_client: {why}"),
    }
}

async fn install_go() -> Result<PathBuf, String> {
    let directory = installed("go");
    for name in ["go.mod", "go.sum", "main.go"] {
        let from = sources().join("go").join(name);
        fs::copy(from, directory.join(name)).map_err(|error| error.to_string())?;
    }
    let mut build = Command::new("go");
    run(build.args(["build", "-o", "client", "."]).current_dir(&directory), INSTALL).await?;
    Ok(directory.join("client"))
}

#[tokio::test]
async fn the_go_client() {
    match install_go().await {
        Ok(client) => check_with_a_kill("nacos-sdk-go", Command::new(client)).await,
        Err(why) => println!("SKIP the_go_client: {why}"),
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
