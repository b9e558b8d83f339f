//! What a node stands on: tasks, threads, network, disk and chance. In production that is the
//! operating system, and a call here is one look at an option. A simulation takes its place, so
//! that one seed decides everything (docs/decisions/simulation-seams.md).
//!
//! Not here: the wall clock, which the starter of a node gives it, and tokio's timers, which a
//! simulation pauses by itself.

mod bell;
mod runtime;

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, StdError, http};

pub(crate) use bell::Bell;
pub use runtime::{Chance, Runtime};

/// What takes the place of the operating system under one node.
pub trait Simulation: fmt::Debug + Send + Sync {
    /// Numbers a task that the node is about to start.
    fn number(&self) -> u64;
    /// Told of each task that the node has started, so that a crash can end it.
    fn started(&self, task: AbortHandle);
    /// Whether it is this task's turn to run. If not, `waker` is woken when it is: the runtime's
    /// own order is not the same in each run.
    fn runs(&self, task: u64, waker: &Waker) -> bool;
    /// A random number.
    fn random(&self) -> u64;
    /// Delivers a call to the node at a peer address and brings the answer.
    fn call(
        &self,
        address: &str,
        request: http::Request<Body>,
    ) -> BoxFuture<http::Response<Body>, StdError>;
    /// Writes all of `bytes` at `offset`; not durable before [`Simulation::sync`].
    ///
    /// # Errors
    /// As the file system.
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// How long the next sync takes.
    fn sync_delay(&self) -> Duration;
    /// Makes what was written to the file durable.
    ///
    /// # Errors
    /// As the file system.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// As the file system.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// A file of this name was made; not durable before its directory is synced.
    fn created(&self, path: &Path);
    /// Renames; not durable before the directory is synced.
    ///
    /// # Errors
    /// As the file system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes; not durable before the directory is synced.
    ///
    /// # Errors
    /// As the file system.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The operating system, or what was put in its place.
#[derive(Debug, Clone, Default)]
pub struct Host(Option<Arc<dyn Simulation>>);

impl Host {
    /// A node under simulation: all of it runs on the runtime that starts it.
    #[must_use]
    pub fn simulated(simulation: Arc<dyn Simulation>) -> Self {
        Self(Some(simulation))
    }

    /// Whether a simulation is in place.
    pub(crate) const fn is_simulated(&self) -> bool {
        self.0.is_some()
    }

    /// What is in place.
    pub(crate) const fn simulation(&self) -> Option<&Arc<dyn Simulation>> {
        self.0.as_ref()
    }

    /// Runs a future as a task of this node: for what a simulation does in the node's name.
    /// `None` outside of a simulation.
    pub fn run<F>(&self, task: F) -> Option<tokio::task::JoinHandle<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0.as_ref().map(|simulation| runtime::spawn(simulation, task))
    }

    /// Starts a task that shutdown waits for.
    pub(crate) fn spawn(
        &self,
        tracker: &TaskTracker,
        runtime: &tokio::runtime::Handle,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        match &self.0 {
            None => drop(tracker.spawn_on(task, runtime)),
            Some(simulation) => drop(runtime::spawn(simulation, tracker.track_future(task))),
        }
    }

    /// Starts a thread. Whatever `body` awaits must block (see [`Bell`]), so that it ends when it
    /// is polled once. In a simulation it is a task, and there is nothing to join.
    ///
    /// # Errors
    /// No thread could be started.
    pub(crate) fn thread(
        &self,
        name: &str,
        body: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<Option<JoinHandle<()>>> {
        match &self.0 {
            None => {
                let run = || body.now_or_never().expect("a thread's waits block it");
                std::thread::Builder::new().name(name.to_owned()).spawn(run).map(Some)
            }
            Some(simulation) => {
                drop(runtime::spawn(simulation, body));
                Ok(None)
            }
        }
    }

    /// Runs what may block. In a simulation nothing else runs meanwhile.
    ///
    /// # Errors
    /// The work panicked.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        match &self.0 {
            None => tokio::task::spawn_blocking(work).await.map_err(io::Error::other),
            Some(_) => Ok(work()),
        }
    }

    /// Lets a thread of its own do nothing for a while, so that bulk work leaves the disk to others
    /// (a snapshot's pace). Simulated time does not pass in code that blocks.
    pub(crate) fn pause(&self, pause: Duration) {
        if self.0.is_none() {
            std::thread::sleep(pause);
        }
    }

    /// # Errors
    /// The system has no randomness.
    pub(crate) fn random(&self) -> io::Result<u64> {
        match &self.0 {
            None => getrandom::u64().map_err(io::Error::other),
            Some(simulation) => Ok(simulation.random()),
        }
    }

    /// # Errors
    /// The file system's.
    pub(crate) fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        match &self.0 {
            None => file.write_all_at(bytes, offset),
            Some(simulation) => simulation.write_at(file, bytes, offset),
        }
    }

    /// Waits as long as a simulated disk takes.
    pub(crate) async fn sync_delay(&self) {
        if let Some(simulation) = &self.0 {
            tokio::time::sleep(simulation.sync_delay()).await;
        }
    }

    /// # Errors
    /// The file system's.
    pub(crate) fn sync(&self, file: &File) -> io::Result<()> {
        match &self.0 {
            None => file.sync_data(),
            Some(simulation) => simulation.sync(file),
        }
    }

    /// # Errors
    /// The file system's.
    pub(crate) fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match &self.0 {
            None => File::open(dir)?.sync_all(),
            Some(simulation) => simulation.sync_dir(dir),
        }
    }

    /// To be called when a file was created.
    pub(crate) fn created(&self, path: &Path) {
        if let Some(simulation) = &self.0 {
            simulation.created(path);
        }
    }

    /// # Errors
    /// The file system's.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match &self.0 {
            None => fs::rename(from, to),
            Some(simulation) => simulation.rename(from, to),
        }
    }

    /// # Errors
    /// The file system's.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        match &self.0 {
            None => fs::remove_file(path),
            Some(simulation) => simulation.remove(path),
        }
    }
}
