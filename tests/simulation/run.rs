//! One run: found the cluster, let clients and faults go at it, stop the faults, check.

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::disk::Loss;
use crate::invariant::{acknowledged, converged, held, linearizable, phantom};
use crate::trace::trace;
use crate::world::World;
use crate::{client, listener, nemesis};

/// How often all nodes are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(40);
/// How long clients may take to end their last operation.
const CLIENT_LIMIT: Duration = Duration::from_secs(20);
/// How long an announcement of the last change may take.
const LAST_NEWS: Duration = Duration::from_secs(2);

thread_local! {
    /// Panics of this thread, which runs one world at a time.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// What a run showed.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) hash: (u64, u64),
    pub(crate) simulated: Duration,
    pub(crate) operations: usize,
    pub(crate) acknowledged: usize,
    pub(crate) compared: u64,
    /// The first broken promise.
    pub(crate) failure: Option<String>,
    pub(crate) tail: String,
}

/// Panics in tasks are kept by their handles, which nobody may look at: they are noted here.
pub(crate) fn note_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.with_borrow_mut(|panics| panics.push(panic.to_string()));
        before(panic);
    }));
}

/// Runs one seed on this thread.
pub(crate) fn run(seed: u64) -> Report {
    PANICS.with_borrow_mut(Vec::clear);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let world = runtime.block_on(async { World::new(seed) });
    let lived = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let world = Arc::clone(&world);
        // A task like all others, so that it has its turn.
        let lived = runtime.block_on(async { world.spawn(live(Arc::clone(&world))).await });
        lived.expect("a life without a panic");
    }));
    if lived.is_err() {
        world.broken("the simulation panicked".to_owned());
    }
    for panic in PANICS.with_borrow_mut(std::mem::take) {
        world.broken(format!("panic: {panic}"));
    }
    let simulated = runtime.block_on(async { world.trace.elapsed() });
    world.trace.write();
    let history = world.history.lock();
    let acknowledged = history.operations.iter().filter(|it| it.outcome.revision().is_some());
    let report = Report {
        seed,
        hash: world.trace.hash(),
        simulated,
        operations: history.operations.len(),
        acknowledged: acknowledged.count(),
        compared: world.replicas.lock().compared,
        failure: world.failure(),
        tail: world.trace.tail(),
    };
    drop(history);
    // Tasks first: they use the world.
    drop(runtime);
    report
}

async fn live(world: Arc<World>) {
    trace!(world, "seed {} {:?}", world.seed, world.plan);
    let starts: Vec<_> = (0..world.nodes())
        .map(|index| {
            let world = Arc::clone(&world);
            world.clone().spawn(async move { world.restart(index).await })
        })
        .collect();
    for start in starts {
        start.await.expect("a start");
    }
    if !converged::agreement(&world).await {
        return;
    }
    let look = world.spawn(look(Arc::clone(&world)));
    for number in 0..world.plan.listeners {
        drop(world.spawn(listener::listen(Arc::clone(&world), number)));
    }
    let mut clients = Vec::new();
    for number in 0..world.plan.writers {
        clients.push(world.spawn(client::write(Arc::clone(&world), number)));
    }
    for number in 0..world.plan.readers {
        clients.push(world.spawn(client::read(Arc::clone(&world), 100 + number)));
    }
    let faults = world.spawn(nemesis::run(Arc::clone(&world)));
    sleep(world.plan.safety).await;
    world.is_over.store(true, Ordering::Relaxed);
    if let Err(error) = faults.await {
        world.broken(format!("nemesis: {error}"));
    }
    for client in clients {
        match timeout(CLIENT_LIMIT, client).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => world.broken(format!("a client: {error}")),
            Err(_) => world.broken("a client did not end".to_owned()),
        }
    }
    nemesis::heal(&world).await;
    finish(&world).await;
    look.abort();
}

async fn finish(world: &Arc<World>) {
    if !converged::agreement(world).await {
        return;
    }
    converged::service(world).await;
    // Everything that was promised is on disks: the power goes everywhere, and what was not synced.
    for index in 0..world.nodes() {
        world.crash(index, Loss::All).await;
    }
    for index in 0..world.nodes() {
        world.restart(index).await;
    }
    if !converged::agreement(world).await {
        return;
    }
    sleep(LAST_NEWS).await;
    held::check_final(world);
    acknowledged::check(world);
    let history = world.history.lock();
    let mut wrong = phantom::check(&history);
    wrong.extend(linearizable::check(&history, world.keys.len()));
    drop(history);
    wrong.into_iter().for_each(|why| world.broken(why));
    trace!(world, "checked");
}

async fn look(world: Arc<World>) {
    loop {
        sleep(LOOK_EVERY).await;
        for index in 0..world.nodes() {
            if let Some(running) = world.running(index) {
                world.observe(index, running.node.store().fingerprint());
            }
        }
        held::check(&world);
    }
}
