//! Real clients from their registries against three nodes of which one is killed in the middle, all
//! with the same cases; at the end a table of clients and cases. And an application.
//!
//! Where an interpreter or the registry is missing, SKIP is printed with the reason; what a
//! client does against the cluster is never skipped.

#![cfg(test)]

#[path = "../harness/harness.rs"]
mod harness;
mod matrix;
mod spring;

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

/// Runs a client's command with the addresses of so many nodes. It prints a line for each case,
/// wants a node killed when it prints KILL, and goes on when it reads a line.
async fn drive(client: &'static str, mut command: Command, nodes: usize) {
    let mut cluster = Cluster::start(nodes).await;
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    // Clients keep caches and logs below these.
    command.env("HOME", home.path()).current_dir(home.path());
    for node in cluster.clients() {
        command.arg(node.address().to_string());
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
                println!("{client}: {line}");
                said.push(line);
            }
        }
        child.wait().await.expect("a child")
    };
    let ended = tokio::time::timeout(2 * RUN, talk).await;
    matrix::enter(client, &said, nodes > 1);
    let status = ended.unwrap_or_else(|_| panic!("{client}: not done in time: {said:#?}"));
    assert!(status.success(), "{client}: {status}: {said:#?}");
    if nodes > 1 {
        cluster.node(0).start();
        cluster.ready().await;
    }
    cluster.agree().await;
}

/// What has to be there before a client can run, or why it cannot be had.
type Installed = Result<Command, String>;

/// A client against three nodes of which one is killed, and, in `at_one_node`, against one.
async fn check(client: &'static str, installed: Installed, nodes: usize) {
    match installed {
        Ok(command) => drive(client, command, nodes).await,
        Err(why) => {
            println!("SKIP {client}: {why}");
            matrix::skip(client, &why);
        }
    }
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

async fn python(version: &str) -> Installed {
    let package = format!("nacos-sdk-python=={version}");
    let script = if version == "1.0.0" { "python_client.py" } else { "python3_client.py" };
    let python = install_python(&format!("python-{version}"), &[&package]).await?;
    let mut command = Command::new(python);
    // Its modules are beside it, and nothing is written there.
    command.arg(sources().join(script)).env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}

/// Compiles a program by Maven, and gives its class path.
async fn compile(name: &str, program: &str, defines: &[String]) -> Result<String, String> {
    let directory = installed(name);
    let copy = [sources().join(program), directory.clone()];
    run(Command::new("cp").arg("-rT").args(copy), INSTALL).await?;
    let mut maven = Command::new("mvn");
    maven.args(["--quiet", "--batch-mode"]).args(defines);
    maven.args(["compile", "dependency:build-classpath", "-Dmdep.outputFile=classpath"]);
    run(maven.current_dir(&directory), INSTALL).await?;
    let libraries = fs::read_to_string(directory.join("classpath")).map_err(|e| e.to_string())?;
    Ok(format!("{}:{libraries}", directory.join("target/classes").display()))
}

/// A Java that keeps what it keeps at home in its working directory.
fn java(class_path: &str) -> Command {
    let mut command = Command::new("java");
    // Its home is that of the user's entry, whatever the environment says.
    command.args(["-Duser.home=.", "-Xmx256m", "-cp", class_path]);
    command
}

async fn java_client(version: &str) -> Installed {
    let define = format!("-Dnacos.version={version}");
    let class_path = compile(&format!("java-{version}"), "java", &[define]).await?;
    let mut command = java(&class_path);
    command.arg("ConfigClient");
    Ok(command)
}

async fn go() -> Installed {
    let directory = installed("go");
    for name in ["go.mod", "go.sum", "main.go"] {
        let from = sources().join("go").join(name);
        fs::copy(from, directory.join(name)).map_err(|error| error.to_string())?;
    }
    let mut build = Command::new("go");
    run(build.args(["build", "-o", "client", "."]).current_dir(&directory), INSTALL).await?;
    Ok(Command::new(directory.join("client")))
}

async fn rust() -> Installed {
    let directory = installed("rust");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked"]).current_dir(sources().join("rust"));
    build.arg("--target-dir").arg(&directory);
    // What this test's own build was told is not meant for that one.
    build.env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("RUSTFLAGS");
    run(&mut build, INSTALL).await?;
    Ok(Command::new(directory.join("debug/rust-client")))
}

async fn node() -> Installed {
    let directory = installed("node");
    // Modules are looked for beside the script that asks for them.
    for name in ["package.json", "node_client.mjs"] {
        fs::copy(sources().join(name), directory.join(name)).map_err(|error| error.to_string())?;
    }
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--prefer-offline"]).current_dir(&directory);
    run(&mut npm, INSTALL).await?;
    let mut command = Command::new("node");
    // The client's processes find each other over a local port; it is not 7777 here.
    let free = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    command.arg(directory.join("node_client.mjs")).env("NODE_CLUSTER_CLIENT_PORT", port);
    Ok(command)
}

#[tokio::test]
async fn the_java_client_1() {
    check("Java nacos-client 1.4.8", java_client("1.4.8").await, 3).await;
}

#[tokio::test]
async fn the_java_client_2() {
    check("Java nacos-client 2.5.1", java_client("2.5.1").await, 3).await;
}

#[tokio::test]
async fn the_java_client_3() {
    check("Java nacos-client 3.2.1-2026.03.30", java_client("3.2.1-2026.03.30").await, 3).await;
}

#[tokio::test]
async fn the_python_client_1() {
    check("Python nacos-sdk-python 1.0.0", python("1.0.0").await, 3).await;
}

#[tokio::test]
async fn the_python_client_2() {
    check("Python nacos-sdk-python 2.0.11", python("2.0.11").await, 3).await;
}

#[tokio::test]
async fn the_python_client_3() {
    check("Python nacos-sdk-python 3.2.0", python("3.2.0").await, 3).await;
}

#[tokio::test]
async fn the_go_client() {
    check("Go nacos-sdk-go/v2 2.3.2", go().await, 3).await;
}

#[tokio::test]
async fn the_rust_client() {
    check("Rust nacos-sdk 0.8.3", rust().await, 3).await;
}

#[tokio::test]
async fn the_node_client() {
    check("Node nacos 2.6.3", node().await, 3).await;
}

/// Not in the ordinary run: it takes as long again.
#[tokio::test]
#[ignore = "as long as all the others: cargo test --test interop -- --ignored"]
async fn all_clients_at_one_node() {
    check("Java nacos-client 1.4.8", java_client("1.4.8").await, 1).await;
    check("Java nacos-client 2.5.1", java_client("2.5.1").await, 1).await;
    check("Java nacos-client 3.2.1-2026.03.30", java_client("3.2.1-2026.03.30").await, 1).await;
    check("Python nacos-sdk-python 1.0.0", python("1.0.0").await, 1).await;
    check("Python nacos-sdk-python 2.0.11", python("2.0.11").await, 1).await;
    check("Python nacos-sdk-python 3.2.0", python("3.2.0").await, 1).await;
    check("Go nacos-sdk-go/v2 2.3.2", go().await, 1).await;
    check("Rust nacos-sdk 0.8.3", rust().await, 1).await;
    check("Node nacos 2.6.3", node().await, 1).await;
}
