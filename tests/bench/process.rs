//! A server process: how it is started, what it has used so far, and its end.
//!
//! Figures come from `/proc`, so this runs on Linux only.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Resource, Rlimit, Signal};

/// All that is needed to start a server, also a second time over the same data.
#[derive(Clone)]
pub(crate) struct Launch {
    pub(crate) program: OsString,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Standard output and error of the server.
    pub(crate) log: PathBuf,
}

impl Launch {
    fn log_file(&self) -> anyhow::Result<File> {
        let mut how = OpenOptions::new();
        how.create(true).append(true).open(&self.log).context("log file of a server")
    }
}

/// A running server; it is killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// When exec was asked for.
    pub(crate) started: Instant,
}

impl Server {
    /// Starts the server and returns at once.
    pub(crate) fn spawn(launch: &Launch) -> anyhow::Result<Self> {
        let log = launch.log_file()?;
        let mut command = Command::new(&launch.program);
        command
            .args(&launch.arguments)
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let started = Instant::now();
        let child = command
            .spawn()
            .with_context(|| format!("starting {}", launch.program.to_string_lossy()))?;
        Ok(Self { child, started })
    }

    /// The exit status, when the server has ended by itself.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// User and system time of all threads so far, in steps of one clock tick.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The command name may hold spaces: the fields proper begin after its closing bracket.
        let (_, fields) = stat.rsplit_once(')').context("malformed stat")?;
        let mut ticks = 0;
        for field in fields.split_whitespace().skip(11).take(2) {
            ticks += field.parse::<u64>()?;
        }
        let nanos_per_tick = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
        Ok(Duration::from_nanos(ticks * nanos_per_tick))
    }

    /// Resident memory in bytes.
    pub(crate) fn rss(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next()).context("no VmRSS")?;
        Ok(kib.parse::<u64>()? * 1024)
    }

    /// Ends the server without a warning, as a power cut would.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks the server to end and waits for it.
    pub(crate) fn terminate(mut self) -> anyhow::Result<()> {
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, Signal::TERM)?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if self.ended()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("a server outlived SIGTERM by 20 s")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when the process has been waited for already.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

/// Lifts the soft limit of open files to the hard one, for this process and those it starts.
pub(crate) fn raise_open_files() -> anyhow::Result<usize> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(Resource::Nofile, raised).context("raising the open-file limit")?;
    Ok(limit.maximum.map_or(1 << 20, |most| usize::try_from(most).unwrap_or(usize::MAX)))
}
