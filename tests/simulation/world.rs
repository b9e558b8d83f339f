//! The world of one seed: nodes, network, clocks, and everything that is known of them.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use quorate_core::key::{DataId, Group, GroupKey, NamespaceId};
use quorate_core::poll::Capacity;
use quorate_raft::host::{Host, Simulation};
use quorate_raft::node::Node;
use quorate_raft::start::{NodeConfig, PeerCalls, StartError, WallClock};
use quorate_raft::trim::HistoryBounds;
use quorate_raft::types::Member;
use tempfile::TempDir;

use crate::disk::Loss;
use crate::gate::Gate;
use crate::history::History;
use crate::invariant::held::Held;
use crate::invariant::replicas::Replicas;
use crate::network::Network;
use crate::plan::Plan;
use crate::random::Random;
use crate::station::Station;
use crate::trace::{Trace, trace};

/// 2026-01-01: where every wall clock starts.
const EPOCH_MS: u64 = 1_767_225_600_000;
/// Small, so that segments roll and snapshots are taken and sent many times in a run.
const SEGMENT_BYTES: u32 = 16 << 10;
const SNAPSHOT_EVERY_BYTES: u64 = 12 << 10;
const LOG_KEEP_BYTES: u64 = 6 << 10;

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) plan: Plan,
    pub(crate) trace: Trace,
    pub(crate) network: Network,
    pub(crate) keys: Vec<GroupKey>,
    pub(crate) history: Mutex<History>,
    pub(crate) replicas: Mutex<Replicas>,
    pub(crate) held: Mutex<Held>,
    /// The safety phase has ended: clients and faults stop.
    pub(crate) is_over: AtomicBool,
    slots: Vec<Slot>,
    gate: Arc<Gate>,
    failure: Mutex<Option<String>>,
    _dir: TempDir,
}

struct Slot {
    data_dir: PathBuf,
    station: Arc<Station>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: Option<Running>,
    /// Of the next start or the present one.
    incarnation: u64,
    clock_offset_ms: i64,
    /// The node may end by itself: a fault was put into its disk.
    may_fail: bool,
    is_stopping: bool,
}

#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) node: Node,
    pub(crate) incarnation: u64,
    calls: PeerCalls,
}

impl World {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let plan = Plan::new(seed);
        let dir = tempfile::tempdir().expect("a directory");
        let keys = (0..plan.keys).map(key).collect();
        let gate = Gate::open();
        Arc::new_cyclic(|world: &Weak<Self>| {
            let slots = (0..plan.nodes)
                .map(|index| {
                    let grave = dir.path().join(format!("grave{index}"));
                    let gate = Arc::clone(&gate);
                    let station = Station::new(world.clone(), gate, index, seed, &grave);
                    Slot {
                        data_dir: dir.path().join(format!("n{index}")),
                        station: Arc::new(station),
                        state: Mutex::default(),
                    }
                })
                .collect();
            Self {
                seed,
                trace: Trace::new(),
                network: Network::new(plan.nodes, seed),
                keys,
                history: Mutex::default(),
                replicas: Mutex::default(),
                held: Mutex::default(),
                is_over: AtomicBool::new(false),
                slots,
                gate,
                failure: Mutex::new(None),
                _dir: dir,
                plan,
            }
        })
    }

    pub(crate) fn nodes(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn random(&self, part: &str) -> Random {
        Random::new(self.seed, part)
    }

    /// Runs beside the nodes, as part of none of them.
    pub(crate) fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.gate.spawn(task)
    }

    /// Notes the first broken promise.
    pub(crate) fn broken(&self, what: String) {
        trace!(self, "BROKEN {what}");
        self.failure.lock().get_or_insert(what);
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    pub(crate) fn station(&self, index: usize) -> &Arc<Station> {
        &self.slots[index].station
    }

    pub(crate) fn host(&self, index: usize) -> Host {
        let station: Arc<dyn Simulation> = Arc::clone(&self.slots[index].station) as _;
        Host::simulated(station)
    }

    pub(crate) fn index_of(&self, address: &str) -> Option<usize> {
        (0..self.nodes()).find(|index| address == self::address(*index))
    }

    /// The node, if it is up.
    pub(crate) fn running(&self, index: usize) -> Option<Running> {
        self.slots[index].state.lock().running.clone()
    }

    pub(crate) fn calls(&self, index: usize) -> Option<PeerCalls> {
        self.slots[index].state.lock().running.as_ref().map(|running| running.calls.clone())
    }

    pub(crate) fn is_up(&self, index: usize) -> bool {
        self.slots[index].state.lock().running.is_some()
    }

    pub(crate) fn jump_clock(&self, index: usize, by_ms: i64) {
        self.slots[index].state.lock().clock_offset_ms += by_ms;
    }

    /// Lets a node end by itself without that being a failure.
    pub(crate) fn allow_failure(&self, index: usize, may_fail: bool) {
        self.slots[index].state.lock().may_fail = may_fail;
    }

    fn now_ms(&self, index: usize) -> u64 {
        let offset = self.slots[index].state.lock().clock_offset_ms;
        let elapsed = u64::try_from(self.trace.elapsed().as_millis()).unwrap_or_default();
        (EPOCH_MS + elapsed).saturating_add_signed(offset)
    }

    fn config(self: &Arc<Self>, index: usize) -> NodeConfig {
        let world = Arc::downgrade(self);
        let now = move || world.upgrade().map_or(EPOCH_MS, |world| world.now_ms(index));
        NodeConfig {
            data_dir: self.slots[index].data_dir.clone(),
            me: Member { peer: address(index), ..Member::default() },
            peers: (0..self.nodes()).map(address).collect(),
            join_only: false,
            auto_replace: false,
            auto_replace_after: Duration::from_secs(30),
            history: HistoryBounds::default(),
            secret: Some("secret".to_owned()),
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(400),
            election_max: Duration::from_millis(800),
            snapshot_every_bytes: SNAPSHOT_EVERY_BYTES,
            snapshot_every: Duration::from_secs(3600),
            log_keep_bytes: LOG_KEEP_BYTES,
            segment_bytes: SEGMENT_BYTES,
            capacity: Capacity { polls: 1000, keys: 10_000 },
            now_ms: WallClock::new(now),
            host: self.host(index),
        }
    }

    /// Starts a node that is down.
    pub(crate) async fn start(self: &Arc<Self>, index: usize) -> Result<(), Option<StartError>> {
        assert!(!self.is_up(index) && self.station(index).is_idle(), "n{index} is up already");
        let incarnation = {
            let mut state = self.slots[index].state.lock();
            state.incarnation += 1;
            (state.may_fail, state.is_stopping) = (false, false);
            state.incarnation
        };
        trace!(self, "n{index} starts ({incarnation})");
        let starting = Node::start_simulated(self.config(index));
        let starting = self.host(index).run(starting).expect("a simulated host");
        let node = match starting.await {
            Ok(Ok(node)) => node,
            Ok(Err(error)) => {
                trace!(self, "n{index} did not start");
                self.station(index).kill().await;
                return Err(Some(error));
            }
            // Killed while it started.
            Err(_) => return Err(None),
        };
        let calls = node.peer_calls();
        let mark = node.store().fingerprint();
        self.observe(index, mark);
        trace!(self, "n{index} is up at revision {}", mark.revision);
        let running = Running { node: node.clone(), incarnation, calls };
        self.slots[index].state.lock().running = Some(running);
        let world = Arc::downgrade(self);
        let watch = async move {
            let why = node.failed().await;
            if let Some(world) = world.upgrade() {
                world.ended(index, &why);
            }
        };
        drop(self.host(index).run(watch));
        Ok(())
    }

    /// A node has ended by itself: allowed only after a fault of its disk.
    fn ended(self: &Arc<Self>, index: usize, why: &str) {
        let (is_stopping, may_fail) = {
            let state = self.slots[index].state.lock();
            (state.is_stopping, state.may_fail)
        };
        trace!(self, "n{index} ended, stopping: {is_stopping}");
        if is_stopping {
            return;
        }
        if !may_fail {
            self.broken(format!("n{index} ended by itself: {why}"));
        }
        let world = Arc::clone(self);
        self.spawn(async move {
            // What runs is the process that exits.
            world.crash(index, Loss::Torn).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            world.restart(index).await;
        });
    }

    /// Kills a node. Gives whether it was up.
    pub(crate) async fn crash(self: &Arc<Self>, index: usize, loss: Loss) -> bool {
        let was_up = self.slots[index].state.lock().running.take().is_some();
        let station = self.station(index);
        station.set_paused(false);
        self.refresh();
        station.kill().await;
        let mut random =
            Random::new(self.seed, &format!("crash {index} {:?}", self.trace.elapsed()));
        let (sectors, names) = station.disk.lock().crash(loss, &mut random);
        trace!(self, "n{index} crashed: {loss:?} lost {sectors} sectors, {names} names");
        was_up
    }

    /// Starts a node again after a crash; a full disk is waited for.
    pub(crate) async fn restart(self: &Arc<Self>, index: usize) {
        for _ in 0..200 {
            if self.is_up(index) || !self.station(index).is_idle() {
                return;
            }
            match self.start(index).await {
                Ok(()) => return,
                Err(None) => return,
                Err(Some(error)) => {
                    let why = chain(&error);
                    let is_fault = why.contains("injected") || why.contains("no storage space");
                    if !is_fault {
                        self.broken(format!("n{index} does not start: {why}"));
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
            }
        }
    }

    /// Tells the network who is paused.
    pub(crate) fn refresh(&self) {
        self.network.change(|index| self.station(index).is_paused(), |_, _, _| {});
    }

    /// The node is told to stop: that it ends is no failure.
    pub(crate) fn stopping(&self, index: usize) {
        self.slots[index].state.lock().is_stopping = true;
    }

    /// Whether a file is part of the node's log.
    pub(crate) fn has_log_file(&self, index: usize, inode: u64) -> bool {
        let files = std::fs::read_dir(self.slots[index].data_dir.join("raft"));
        let inodes = files.into_iter().flatten().flatten().filter_map(|it| it.metadata().ok());
        inodes.into_iter().any(|it| it.ino() == inode)
    }

    /// Notes the state of a replica.
    pub(crate) fn observe(&self, index: usize, mark: quorate_core::store::Fingerprint) {
        let odd = self.replicas.lock().observe(index, mark);
        if let Some(odd) = odd {
            self.broken(odd);
        }
    }
}

pub(crate) fn address(index: usize) -> String {
    format!("n{index}:7848")
}

fn key(index: usize) -> GroupKey {
    let data_id = DataId::parse(&format!("key{index}")).expect("a data id");
    GroupKey::new(&NamespaceId::public(), &Group::parse("g").expect("a group"), &data_id)
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
