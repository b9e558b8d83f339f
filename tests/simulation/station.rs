//! What one node stands on: its tasks, which can be paused and killed, its disk, its chance, and
//! its way into the network. It outlives the node's crashes.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;
use quorate_raft::host::Simulation;
use tokio::task::AbortHandle;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, StdError, http};

use crate::disk::Disk;
use crate::gate::Gate;
use crate::network;
use crate::random::Random;
use crate::trace::trace;
use crate::world::World;

/// Milliseconds that a sync takes when nothing is wrong.
const SYNC_MILLIS: (u64, u64) = (1, 8);

pub(crate) struct Station {
    pub(crate) index: usize,
    world: Weak<World>,
    gate: Arc<Gate>,
    tasks: Mutex<Vec<AbortHandle>>,
    pause: Mutex<Pause>,
    random: Mutex<Random>,
    pub(crate) disk: Mutex<Disk>,
}

#[derive(Default)]
struct Pause {
    is_paused: bool,
    /// Of tasks that would run, by their number.
    wakers: BTreeMap<u64, Waker>,
}

impl fmt::Debug for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Station").field("index", &self.index).finish_non_exhaustive()
    }
}

impl Station {
    pub(crate) fn new(
        world: Weak<World>,
        gate: Arc<Gate>,
        index: usize,
        seed: u64,
        grave: &Path,
    ) -> Self {
        Self {
            index,
            world,
            gate,
            tasks: Mutex::default(),
            pause: Mutex::default(),
            random: Mutex::new(Random::new(seed, &format!("station {index}"))),
            disk: Mutex::new(Disk::new(grave.to_owned())),
        }
    }

    /// Ends all tasks of the node, wherever they are, as SIGKILL would.
    pub(crate) async fn kill(&self) {
        loop {
            let tasks = std::mem::take(&mut *self.tasks.lock());
            if tasks.is_empty() {
                return;
            }
            tasks.iter().for_each(AbortHandle::abort);
            while tasks.iter().any(|task| !task.is_finished()) {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Whether the node has no task left.
    pub(crate) fn is_idle(&self) -> bool {
        self.tasks.lock().iter().all(AbortHandle::is_finished)
    }

    /// Stops or goes on, as SIGSTOP and SIGCONT.
    pub(crate) fn set_paused(&self, is_paused: bool) {
        let wakers = {
            let mut pause = self.pause.lock();
            pause.is_paused = is_paused;
            if is_paused { BTreeMap::new() } else { std::mem::take(&mut pause.wakers) }
        };
        wakers.into_values().for_each(Waker::wake);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.pause.lock().is_paused
    }

    fn with_world(&self, tell: impl FnOnce(&World)) {
        if let Some(world) = self.world.upgrade() {
            tell(&world);
        }
    }
}

/// The last part of a path: the rest differs between runs.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Simulation for Station {
    fn started(&self, task: AbortHandle) {
        let mut tasks = self.tasks.lock();
        if tasks.len() >= 64 && tasks.len().is_power_of_two() {
            tasks.retain(|task| !task.is_finished());
        }
        tasks.push(task);
    }

    fn number(&self) -> u64 {
        self.gate.number()
    }

    fn runs(&self, task: u64, waker: &Waker) -> bool {
        let mut pause = self.pause.lock();
        if pause.is_paused {
            self.gate.forget(task);
            pause.wakers.insert(task, waker.clone());
            return false;
        }
        self.gate.admits(task, waker)
    }

    fn random(&self) -> u64 {
        self.random.lock().next()
    }

    fn call(
        &self,
        address: &str,
        request: http::Request<Body>,
    ) -> BoxFuture<http::Response<Body>, StdError> {
        match self.world.upgrade() {
            Some(world) => Box::pin(network::call(world, self.index, address.to_owned(), request)),
            None => Box::pin(async { Err(StdError::from("the world has ended")) }),
        }
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.lock().write_at(file, bytes, offset)
    }

    fn sync_delay(&self) -> Duration {
        let (least, most) = self.disk.lock().faults.sync_millis.unwrap_or(SYNC_MILLIS);
        self.random.lock().millis(least..most)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let synced = self.disk.lock().sync(file);
        if let Err(error) = &synced {
            self.with_world(|world| trace!(world, "n{} sync: {error}", self.index));
        }
        synced
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.lock().sync_dir(dir)
    }

    fn created(&self, path: &Path) {
        self.disk.lock().created(path);
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.with_world(|world| trace!(world, "n{} begins {}", self.index, name(to)));
        self.disk.lock().rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.with_world(|world| trace!(world, "n{} removes {}", self.index, name(path)));
        self.disk.lock().remove(path)
    }
}
