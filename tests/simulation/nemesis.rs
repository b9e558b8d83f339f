//! Faults, as the plan draws them: each is put in, lasts for a while and is taken out again.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate_raft::log::LogError;
use quorate_raft::start::StartError;
use tokio::time::{sleep, timeout};

use crate::disk::{Loss, flip};
use crate::network::Link;
use crate::plan::Fault;
use crate::random::Random;
use crate::trace::trace;
use crate::world::{World, chain};

/// Faults at one time.
const AT_ONCE: usize = 3;
/// Longest that a planned stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Puts faults in until the safety phase is over, then waits for the last of them.
pub(crate) async fn run(world: Arc<World>) {
    let mut random = world.random("nemesis");
    let mut active: Vec<tokio::task::JoinHandle<()>> = Vec::new();
    let mut count = 0;
    while !world.is_over.load(Ordering::Relaxed) {
        sleep(random.millis(world.plan.fault_pause.0..world.plan.fault_pause.1)).await;
        active.retain(|fault| !fault.is_finished());
        if active.len() >= AT_ONCE || world.is_over.load(Ordering::Relaxed) {
            continue;
        }
        count += 1;
        let fault = *random.pick(&world.plan.faults);
        let chance = world.random(&format!("fault {count}"));
        active.push(world.spawn(put(Arc::clone(&world), fault, chance)));
    }
    for fault in active {
        if let Err(error) = fault.await {
            world.broken(format!("a fault could not be taken out: {error}"));
        }
    }
}

/// Takes out everything and starts every node.
pub(crate) async fn heal(world: &Arc<World>) {
    trace!(world, "all faults stop");
    for index in 0..world.nodes() {
        world.station(index).set_paused(false);
        world.station(index).disk.lock().faults = Default::default();
    }
    world.network.change(|_| false, |_, _, link| *link = Link::default());
    for index in 0..world.nodes() {
        world.restart(index).await;
    }
}

async fn put(world: Arc<World>, fault: Fault, mut random: Random) {
    let random = &mut random;
    let index = random.below(world.nodes());
    let lasts = random.millis(300..6000);
    trace!(world, "fault {fault:?} n{index} {lasts:?}");
    match fault {
        Fault::Partition => partition(&world, random, lasts).await,
        Fault::OneWay => {
            let (to, is_deaf) = (random.below(world.nodes()), random.per_mille(500));
            let is_all = random.per_mille(500);
            let cut = |one: usize, other: usize| {
                let (one, other) = if is_deaf { (other, one) } else { (one, other) };
                one == index && (is_all || other == to) && one != other
            };
            block(&world, cut, lasts).await;
        }
        Fault::Slow => {
            let most = random.within(30..400);
            links(&world, lasts, |link| link.millis = (5, most)).await;
        }
        Fault::Lossy => {
            let lost = random.within(20..300);
            links(&world, lasts, |link| link.lost = lost).await;
        }
        Fault::Doubled => {
            let doubled = random.within(50..500);
            links(&world, lasts * 2, |link| link.doubled = doubled).await;
        }
        Fault::Reset => world.network.reset(index, random.below(world.nodes())),
        Fault::Crash => crash(&world, index, random).await,
        Fault::PowerLoss => power_loss(&world, random).await,
        Fault::Stop => stop(&world, index, random).await,
        Fault::Pause => {
            world.station(index).set_paused(true);
            world.refresh();
            sleep(lasts).await;
            world.station(index).set_paused(false);
            world.refresh();
        }
        Fault::ClockJump => {
            let by = i64::try_from(random.within(1000..86_400_000)).unwrap_or_default();
            world.jump_clock(index, if random.per_mille(500) { by } else { -by });
        }
        Fault::DiskFull | Fault::DiskNearlyFull => {
            let is_nearly = fault == Fault::DiskNearlyFull;
            let set = |on: bool| {
                let mut disk = world.station(index).disk.lock();
                if is_nearly { disk.faults.is_nearly_full = on } else { disk.faults.is_full = on }
            };
            set(true);
            sleep(lasts).await;
            set(false);
        }
        Fault::SyncFails => {
            world.allow_failure(index, true);
            world.station(index).disk.lock().faults.sync_fails = true;
            sleep(lasts).await;
            world.station(index).disk.lock().faults.sync_fails = false;
        }
        Fault::SlowDisk => {
            let most = random.within(50..600);
            world.station(index).disk.lock().faults.sync_millis = Some((20, most));
            sleep(lasts).await;
            world.station(index).disk.lock().faults.sync_millis = None;
        }
        Fault::BitFlip => bit_flip(&world, index, random).await,
    }
    trace!(world, "fault {fault:?} n{index} is over");
}

async fn partition(world: &Arc<World>, random: &mut Random, lasts: Duration) {
    let sides: Vec<bool> = (0..world.nodes()).map(|_| random.per_mille(500)).collect();
    trace!(world, "sides {sides:?}");
    block(world, |one, other| sides[one] != sides[other], lasts).await;
}

/// Blocks directions for a while. Faults that overlap end together with the last.
async fn block(world: &Arc<World>, cut: impl Fn(usize, usize) -> bool, lasts: Duration) {
    let set = |by: i32| {
        world.network.change(
            |index| world.station(index).is_paused(),
            |from, to, link| {
                if cut(from, to) {
                    link.blocks = (link.blocks + by).max(0);
                }
            },
        );
    };
    set(1);
    sleep(lasts).await;
    set(-1);
}

/// Makes all links worse for a while.
async fn links(world: &Arc<World>, lasts: Duration, worsen: impl Fn(&mut Link)) {
    world.network.change(|index| world.station(index).is_paused(), |_, _, link| worsen(link));
    sleep(lasts).await;
    world.network.change(
        |index| world.station(index).is_paused(),
        |_, _, link| *link = Link { blocks: link.blocks, ..Link::default() },
    );
}

fn loss(random: &mut Random) -> Loss {
    *random.pick(&[Loss::All, Loss::Torn, Loss::Torn, Loss::Nothing])
}

async fn crash(world: &Arc<World>, index: usize, random: &mut Random) {
    let loss = loss(random);
    if !world.is_up(index) {
        return;
    }
    world.crash(index, loss).await;
    sleep(random.millis(20..4000)).await;
    world.restart(index).await;
}

/// All nodes, or all but one, lose their power within a moment and come back one by one.
async fn power_loss(world: &Arc<World>, random: &mut Random) {
    let spared = random.per_mille(300).then(|| random.below(world.nodes()));
    let victims: Vec<usize> = (0..world.nodes()).filter(|index| Some(*index) != spared).collect();
    let loss = loss(random);
    for index in &victims {
        if world.is_up(*index) {
            world.crash(*index, loss).await;
        }
        if random.per_mille(300) {
            sleep(random.millis(1..30)).await;
        }
    }
    for index in victims {
        sleep(random.millis(20..1500)).await;
        world.restart(index).await;
    }
}

async fn stop(world: &Arc<World>, index: usize, random: &mut Random) {
    let Some(running) = world.running(index) else { return };
    let node = running.node.clone();
    drop(running);
    let task = async move {
        node.hand_over().await;
        node.stop().await;
    };
    let stopped = world.host(index).run(task).expect("a simulated host");
    world.stopping(index);
    let stopped = timeout(STOP_LIMIT, stopped).await;
    if stopped.is_err() && world.is_up(index) {
        trace!(world, "n{index} did not stop in time");
    }
    if world.is_up(index) {
        world.crash(index, loss(random)).await;
    }
    sleep(random.millis(20..2000)).await;
    world.restart(index).await;
}

/// Turns a bit of a log whose node is down. It was durable, so the node must refuse to start; then
/// the bit is put back, as if from a copy.
async fn bit_flip(world: &Arc<World>, index: usize, random: &mut Random) {
    let provable = world.station(index).disk.lock().provable(random);
    let Some((file, at)) = provable.filter(|_| world.is_up(index)) else { return };
    world.crash(index, Loss::Nothing).await;
    let inode = file.metadata().map(|it| it.ino()).unwrap_or_default();
    if !world.has_log_file(index, inode) {
        world.restart(index).await;
        return;
    }
    let bit = u32::try_from(random.below(8)).unwrap_or_default();
    flip(&file, at, bit).expect("turn a bit");
    trace!(world, "n{index} has a turned bit at {at}");
    match world.start(index).await {
        Err(Some(StartError::Log(LogError::Corrupt { .. }))) => {}
        Err(Some(error)) => world.broken(format!("n{index} on a damaged log: {}", chain(&error))),
        Err(None) => {}
        Ok(()) => {
            world.broken(format!("n{index} starts on a damaged log (byte {at})"));
            world.crash(index, Loss::Nothing).await;
        }
    }
    flip(&file, at, bit).expect("turn the bit back");
    sleep(random.millis(20..2000)).await;
    world.restart(index).await;
}
