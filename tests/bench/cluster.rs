//! A system under load: one to three server processes, and what they have used together.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::ValueEnum;
use tempfile::TempDir;

use crate::http::{config_path, data_id};
use crate::measure::Spent;
use crate::options::Options;
use crate::process::{Launch, Server};
use crate::{control, etcd, http, nodes, rnacos, wait};

/// A key that only the readiness checks write.
const PROBE_KEY: u64 = 99_999_999;
/// How long a system may take until all its nodes acknowledge a write.
const FORMATION: Duration = Duration::from_secs(60);

/// The systems that can be measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// What this is all about; `QUORATE_BIN` names another binary than the one built beside.
    Quorate,
    /// `etcd` on the path, or what `ETCD_BIN` names.
    Etcd,
    /// What `RNACOS_BIN` names.
    Rnacos,
    /// The bare hyper server.
    Echo,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Quorate => "quorate",
            Self::Etcd => "etcd",
            Self::Rnacos => "r-nacos",
            Self::Echo => "echo",
        }
    }

    /// The counter of fsyncs of the write-ahead log, in the metrics of each node.
    const fn fsync_metric(self) -> Option<&'static str> {
        match self {
            Self::Quorate => Some("quorate_log_fsyncs_total"),
            Self::Etcd => Some("etcd_disk_wal_fsync_duration_seconds_count"),
            Self::Rnacos | Self::Echo => None,
        }
    }
}

/// Running nodes of one system, with their data; all go away when it is dropped.
pub(crate) struct Cluster {
    pub(crate) kind: Kind,
    /// Where clients connect: HTTP, for etcd HTTP/2.
    pub(crate) addresses: Vec<SocketAddr>,
    launches: Vec<Launch>,
    servers: Vec<Server>,
    /// Removed on drop, after the servers.
    directory: TempDir,
}

impl Cluster {
    /// Starts `count` nodes over empty directories and waits until each acknowledges writes.
    pub(crate) fn form(kind: Kind, count: usize, options: &Options) -> anyhow::Result<Self> {
        let mut cluster = Self::prepare(kind, count, options)?;
        cluster.spawn_all()?;
        cluster.await_writes()?;
        Ok(cluster)
    }

    /// Chooses addresses and directories without starting anything.
    pub(crate) fn prepare(kind: Kind, count: usize, options: &Options) -> anyhow::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("quorate-bench-").disable_cleanup(options.keep);
        let directory = match &options.dir {
            Some(parent) => builder.tempdir_in(parent)?,
            None => builder.tempdir()?,
        };
        let (addresses, launches) = match kind {
            Kind::Quorate => nodes::launches(count, directory.path())?,
            Kind::Etcd => etcd::launches(count, directory.path())?,
            Kind::Rnacos => rnacos::launches(count, directory.path())?,
            Kind::Echo => (Vec::new(), vec![echo_launch(directory.path())?]),
        };
        Ok(Self { kind, addresses, launches, servers: Vec::new(), directory })
    }

    /// Starts all nodes and returns at once, but for r-nacos, whose nodes join a running first one,
    /// and for echo, which chooses its port.
    pub(crate) fn spawn_all(&mut self) -> anyhow::Result<()> {
        for (index, launch) in self.launches.iter().enumerate() {
            self.servers.push(Server::spawn(launch)?);
            if self.kind == Kind::Rnacos && self.launches.len() > 1 {
                let address = *self.addresses.get(index).context("an address for each node")?;
                wait::until("r-nacos to listen", FORMATION, || Ok(read(address, PROBE_KEY).ok()))?;
            }
        }
        if self.kind == Kind::Echo && self.addresses.is_empty() {
            let log = &self.launches.first().context("one echo server")?.log;
            let address = wait::until("the echo server's address", FORMATION, || {
                let text = std::fs::read_to_string(log)?;
                Ok(text.lines().next().and_then(|line| line.parse().ok()))
            })?;
            self.addresses.push(address);
        }
        Ok(())
    }

    /// Waits until every node acknowledges a write.
    pub(crate) fn await_writes(&mut self) -> anyhow::Result<()> {
        if self.kind == Kind::Echo {
            return Ok(());
        }
        for index in 0..self.addresses.len() {
            let address = self.address(index)?;
            wait::until("a first acknowledged write", FORMATION, || {
                self.all_alive()?;
                Ok(self.write(address, PROBE_KEY, "probe").then_some(()))
            })?;
        }
        Ok(())
    }

    /// One write on a connection of its own; whether it was acknowledged.
    pub(crate) fn write(&self, address: SocketAddr, key: u64, content: &str) -> bool {
        match self.kind {
            Kind::Etcd => etcd::put_once(address, &data_id(key), content).is_ok(),
            Kind::Quorate | Kind::Rnacos => control::publish(address, &data_id(key), content),
            Kind::Echo => true,
        }
    }

    /// One read on a connection of its own; the content, or `None` when there is none.
    pub(crate) fn read(&self, address: SocketAddr, key: u64) -> anyhow::Result<Option<String>> {
        if self.kind == Kind::Etcd {
            return etcd::get_once(address, &data_id(key));
        }
        read(address, key)
    }

    /// Ends one node: as an operator does, or as a power cut does.
    pub(crate) fn end(&mut self, node: usize, is_planned: bool) -> anyhow::Result<()> {
        ensure!(node < self.servers.len(), "no such node");
        let server = self.servers.remove(node);
        if is_planned { server.terminate() } else { server.kill() }
    }

    /// Starts the node that [`Cluster::end`] ended.
    pub(crate) fn start_again(&mut self, node: usize) -> anyhow::Result<()> {
        let launch = self.launches.get(node).context("no such node")?;
        self.servers.insert(node, Server::spawn(launch)?);
        Ok(())
    }

    /// Fails with the end of its log when a server has ended by itself.
    pub(crate) fn all_alive(&mut self) -> anyhow::Result<()> {
        for (server, launch) in self.servers.iter_mut().zip(&self.launches) {
            if let Some(status) = server.ended()? {
                let log = std::fs::read_to_string(&launch.log).unwrap_or_default();
                let mut tail: Vec<&str> = log.lines().rev().take(5).collect();
                tail.reverse();
                bail!("{} ended with {status}: {}", self.kind.name(), tail.join("\n"));
            }
        }
        Ok(())
    }

    pub(crate) fn address(&self, index: usize) -> anyhow::Result<SocketAddr> {
        self.addresses.get(index).copied().context("no such node")
    }

    /// Where clients of gRPC connect.
    pub(crate) fn grpc_address(&self, index: usize) -> anyhow::Result<SocketAddr> {
        let launch = self.launches.get(index).context("no such node")?;
        let flag = launch.arguments.iter().skip_while(|it| *it != "--grpc-listen").nth(1);
        if let Some(address) = flag.and_then(|it| it.to_str()) {
            return Ok(address.parse()?);
        }
        let port = launch.environment.iter().find(|(name, _)| *name == "RNACOS_GRPC_PORT");
        let (_, port) = port.context("this system has no gRPC")?;
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse()?)))
    }

    /// Where a node of Quorate keeps its data.
    pub(crate) fn data_dir(&self, node: usize) -> PathBuf {
        self.directory.path().join(format!("node-{node}"))
    }

    pub(crate) fn server(&self, index: usize) -> anyhow::Result<&Server> {
        self.servers.get(index).context("no such node")
    }

    /// Counters of all nodes together since they started, and their memory now.
    pub(crate) fn spent(&self) -> anyhow::Result<Spent> {
        let mut total = Spent::default();
        for server in &self.servers {
            total.cpu += server.cpu()?;
            total.rss_bytes += server.rss()?;
        }
        if let Some(name) = self.kind.fsync_metric() {
            let counts = self.addresses.iter().map(|address| control::metric(*address, name));
            total.fsyncs = counts.sum();
        }
        Ok(total)
    }

    /// Ends all nodes without a warning.
    pub(crate) fn kill_all(&mut self) -> anyhow::Result<()> {
        self.servers.drain(..).try_for_each(Server::kill)
    }

    /// Ends all nodes in order, one after the other.
    pub(crate) fn terminate_all(&mut self) -> anyhow::Result<()> {
        self.servers.drain(..).try_for_each(Server::terminate)
    }
}

fn read(address: SocketAddr, key: u64) -> anyhow::Result<Option<String>> {
    let request = http::get(address, &config_path(&data_id(key)));
    match control::exchange(address, &request, Duration::from_secs(5))? {
        (200, content) => Ok(Some(content)),
        (404, _) => Ok(None),
        (status, text) => bail!("a read was answered {status}: {text}"),
    }
}

fn echo_launch(directory: &Path) -> anyhow::Result<Launch> {
    Ok(Launch {
        program: std::env::current_exe()?.into(),
        arguments: vec!["echo".into()],
        environment: Vec::new(),
        log: directory.join("echo.log"),
    })
}

/// Ports of this address that nobody uses at the moment, no two the same.
pub(crate) fn free_ports(address: Ipv4Addr, count: usize) -> anyhow::Result<Vec<u16>> {
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(TcpListener::bind((address, 0))?);
    }
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// A loopback address of its own for each node, so that ports found free stay free: outgoing
/// connections take theirs on 127.0.0.1.
pub(crate) fn own_address(node: usize) -> Ipv4Addr {
    let [.., high, low] = std::process::id().to_be_bytes();
    let node = u8::try_from(node).unwrap_or(u8::MAX);
    Ipv4Addr::new(127, 16 + (node & 0x0f), high, low.clamp(1, 254))
}
