//! One node: a child process with a directory and addresses that outlive its restarts.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::client::Client;
use super::wait::{READY, wait_until};

/// The binary under test.
pub(crate) const QUORATE: &str = env!("CARGO_BIN_EXE_quorate");

const LOG_LINES_SHOWN: usize = 80;

/// Flags beyond addresses and data directory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    flags: Vec<String>,
}

impl Options {
    #[must_use]
    pub(crate) fn with(mut self, flag: &str, value: impl Into<String>) -> Self {
        self.flags.extend([flag.to_owned(), value.into()]);
        self
    }

    /// A flag without a value, or with one behind `=`.
    #[must_use]
    pub(crate) fn switch(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// Snapshots after a few hundred KiB, and a log that keeps little behind them.
    #[must_use]
    pub(crate) fn small_log() -> Self {
        Self::default()
            .with("--snapshot-every-bytes", "262144")
            .with("--log-keep-bytes", "131072")
            .with("--segment-bytes", "262144")
    }
}

/// Sends a signal to running nodes, to all of them at one moment.
pub(crate) fn signal<'a>(name: &str, nodes: impl IntoIterator<Item = &'a Node>) {
    let mut kill = Command::new("kill");
    kill.arg(format!("-{name}"));
    for node in nodes {
        kill.arg(node.child.as_ref().expect("a running node").id().to_string());
    }
    assert!(kill.status().expect("kill runs").success(), "{kill:?}");
}

/// A node, running or not.
#[derive(Debug)]
pub(crate) struct Node {
    root: TempDir,
    binary: PathBuf,
    /// What runs the binary, if not the system alone.
    wrapper: Vec<String>,
    crash_at: Option<String>,
    flags: Vec<String>,
    peer: SocketAddr,
    grpc: SocketAddr,
    client: Client,
    child: Option<Child>,
}

impl Node {
    /// A node that has not started yet. Without peers it founds a cluster of one.
    pub(crate) fn new(
        [peer, http, grpc]: [SocketAddr; 3],
        peers: &[SocketAddr],
        options: &Options,
    ) -> Self {
        let root = tempfile::Builder::new()
            .prefix("node-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .expect("a directory for the node");
        let mut flags = vec![
            "--peer-listen".to_owned(),
            peer.to_string(),
            "--http-listen".to_owned(),
            http.to_string(),
            "--grpc-listen".to_owned(),
            grpc.to_string(),
        ];
        if !peers.is_empty() {
            let peers: Vec<String> = peers.iter().map(ToString::to_string).collect();
            flags.extend(["--peers".to_owned(), peers.join(",")]);
        }
        flags.extend(options.flags.iter().cloned());
        let binary = PathBuf::from(QUORATE);
        let client = Client::new(http);
        Self {
            root,
            binary,
            wrapper: Vec::new(),
            crash_at: None,
            flags,
            peer,
            grpc,
            client,
            child: None,
        }
    }

    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    /// Its address as the cluster names it.
    pub(crate) fn peer(&self) -> String {
        self.peer.to_string()
    }

    /// Where it speaks gRPC.
    pub(crate) const fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    pub(crate) const fn peer_address(&self) -> SocketAddr {
        self.peer
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// What all its processes so far have printed.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub(crate) const fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Sets a flag of the starts to come, in place of what it was.
    pub(crate) fn set_flag(&mut self, flag: &str, value: &str) {
        if let Some(at) = self.flags.iter().position(|known| known == flag) {
            self.flags.splice(at..at + 2, [flag.to_owned(), value.to_owned()]);
        } else {
            self.flags.extend([flag.to_owned(), value.to_owned()]);
        }
    }

    /// Another binary than the one under test for the starts to come.
    pub(crate) fn set_binary(&mut self, path: &str) {
        self.binary = PathBuf::from(path);
    }

    /// The binary under test again.
    pub(crate) fn set_new_binary(&mut self) {
        self.set_binary(QUORATE);
    }

    /// A command whose arguments the binary and its own become, for the starts to come. It must
    /// become the binary, not run it beside itself.
    pub(crate) fn set_wrapper(&mut self, wrapper: Vec<String>) {
        self.wrapper = wrapper;
    }

    /// Where the starts to come crash (`quorate_core::crash`).
    pub(crate) fn crash_at(&mut self, point: Option<&str>) {
        self.crash_at = point.map(str::to_owned);
    }

    /// Starts a process on whatever the data directory holds.
    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "started twice");
        // What an earlier process wrote there must not be taken for this one's.
        drop(fs::remove_file(self.data().join("ports.json")));
        let mut log = self.open_log();
        writeln!(log, "---- start {}", self.flags.join(" ")).expect("a log line");
        let mut command = match self.wrapper.split_first() {
            None => Command::new(&self.binary),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.binary);
                command
            }
        };
        let child = command
            .envs(self.crash_at.as_ref().map(|point| ("QUORATE_CRASH_AT", point)))
            .arg("serve")
            .arg("--data-dir")
            .arg(self.data())
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        self.child = Some(child);
    }

    /// Until it knows a leader and has caught up.
    pub(crate) async fn ready(&self) {
        wait_until("readiness", READY, async || {
            self.assert_alive();
            self.client.is_ready().await.then_some(())
        })
        .await;
    }

    /// Until its HTTP listener answers; it may know no leader.
    pub(crate) async fn answering(&self) {
        wait_until("an answer over HTTP", READY, async || {
            self.assert_alive();
            self.client.state().await.ok().map(drop)
        })
        .await;
    }

    /// SIGKILL; it is gone when this returns.
    pub(crate) fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        drop(child.kill());
        drop(child.wait());
        self.client.forget_connections();
    }

    /// Sends a signal by its short name: `STOP`, `CONT`, `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        signal(name, [self]);
    }

    /// Waits for the process to end by itself.
    pub(crate) async fn exit(&mut self, deadline: Duration) -> ExitStatus {
        let mut child = self.child.take().expect("a running node");
        let ended = wait_until("the end of the process", deadline, || {
            std::future::ready(child.try_wait().expect("a child of this process"))
        });
        let status = ended.await;
        self.client.forget_connections();
        status
    }

    /// SIGTERM, and the promised end: code 0 within 10 s.
    pub(crate) async fn stop(&mut self) {
        self.signal("TERM");
        let status = self.exit(Duration::from_secs(10)).await;
        assert!(status.success(), "SIGTERM ended with {status}");
    }

    /// Other addresses for the starts to come.
    pub(crate) fn move_to(&mut self, [peer, http, grpc]: [SocketAddr; 3]) {
        self.set_flag("--peer-listen", &peer.to_string());
        self.set_flag("--http-listen", &http.to_string());
        self.set_flag("--grpc-listen", &grpc.to_string());
        self.peer = peer;
        self.grpc = grpc;
        self.client = Client::new(http);
    }

    /// A copy of everything it has on disk, to be put back with [`Node::restore`].
    pub(crate) fn copy(&self, name: &str) -> PathBuf {
        let copy = self.root.path().join(name);
        let copied = Command::new("cp").arg("-a").arg(self.data()).arg(&copy).status();
        assert!(copied.expect("cp runs").success());
        copy
    }

    /// Puts a copy in the place of what it has on disk.
    pub(crate) fn restore(&mut self, copy: &Path) {
        self.wipe();
        fs::rename(copy, self.data()).expect("a rename");
    }

    /// Takes everything it had on disk away.
    pub(crate) fn wipe(&mut self) {
        assert!(self.child.is_none(), "wiped while it runs");
        fs::remove_dir_all(self.data()).expect("its data directory");
    }

    fn assert_alive(&self) {
        // A child that has ended is a zombie until it is waited for.
        let pid = self.child.as_ref().expect("a running node").id();
        let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = status.rsplit_once(") ").map_or("gone", |(_, rest)| rest);
        assert!(!state.starts_with(['Z', 'X', 'g']), "the node ended:\n{}", self.log_end());
    }

    fn log_path(&self) -> PathBuf {
        self.root.path().join("log")
    }

    fn open_log(&self) -> File {
        OpenOptions::new().create(true).append(true).open(self.log_path()).expect("a log file")
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            self.root.disable_cleanup(true);
            let path: &Path = self.root.path();
            println!("---- {} in {}:\n{}", self.peer, path.display(), self.log_end());
        }
    }
}
