//! gRPC: reads and publishes, what a listener costs, how fast a change reaches many, and what their
//! health checks cost. Beside r-nacos, which speaks the same.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use self::client::Caller;
use crate::cluster::{Cluster, Kind};
use crate::control;
use crate::fleet::Work;
use crate::http;
use crate::load::{self, Client, Fleet, Pick, Plan};
use crate::measure::{Window, median, micros};
use crate::options::Options;
use crate::publish::{add_rows, by_turns, form};
use crate::report::{self, LOAD_HEADER, Table, at_most};
use crate::{get, wait};

mod client;

/// Bytes of a value.
const SIZE: usize = 128;
const CLIENTS: [usize; 3] = [16, 64, 256];
const KINDS: [Kind; 2] = [Kind::Quorate, Kind::Rnacos];
const GET_FLOOR: f64 = 1.5;
const PUBLISH_FLOOR: f64 = 2.0;

/// Listeners of one key in the fan-out, and publishes to it.
const HEARERS: usize = 1000;
const PUBLISHES: u64 = 3;
const TIME_CEILING: f64 = 0.5;
const CPU_CEILING: f64 = 0.4;

const RSS_CEILING_KB: f64 = 20.0;
/// Cores that 10 000 connections may cost.
const IDLE_CEILING: f64 = 0.1;
const CHECK_EVERY: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);
/// Connections that one thread opens at a time.
const CONNECTING: usize = 32;

/// Measures all of it, system by system.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut clusters = form(&KINDS, 3, options);
    for cluster in &clusters {
        get::fill(cluster, 0..options.keys, SIZE)?;
    }
    let mut table = Table::new(&LOAD_HEADER);
    for (name, work, floor) in
        [("get", Work::Get(SIZE), GET_FLOOR), ("publish", Work::Publish(SIZE), PUBLISH_FLOOR)]
    {
        for clients in CLIENTS {
            let name = format!("{name}, {clients} clients");
            report::progress(&format!("gRPC {name}"));
            let measure = |cluster: &Cluster| measure(cluster, work, clients, options);
            let medians = by_turns(&mut clusters, options, measure);
            add_rows(&mut table, &name, None, &medians, |kind| {
                (kind == Kind::Rnacos).then_some(floor)
            });
        }
    }
    table.print("gRPC: 128 B; gets from one node of three, publishes over all of them");
    fan_out_table(&clusters, options)?;
    drop(clusters);
    listeners_table(options)
}

struct Calls {
    nodes: Vec<SocketAddr>,
    keys: u64,
    work: Work,
}

struct Calling {
    caller: Caller,
    pick: Pick,
    work: Work,
}

impl Fleet for Calls {
    type Client = Calling;

    async fn connect(
        &self,
        indices: &[usize],
        _drivers: &mut JoinSet<()>,
    ) -> anyhow::Result<Vec<Calling>> {
        let mut clients = Vec::new();
        for index in indices {
            let node = index % self.nodes.len().max(1);
            let caller = Caller::set_up(*self.nodes.get(node).context("no node")?).await?;
            let pick = Pick::new(*index, self.keys);
            clients.push(Calling { caller, pick, work: self.work });
        }
        Ok(clients)
    }
}

impl Client for Calling {
    async fn call(&mut self) -> anyhow::Result<()> {
        let (key, stamp) = self.pick.next();
        let key = http::data_id(key);
        match self.work {
            Work::Publish(size) => self.caller.publish(&key, &format!("{stamp:0size$}")).await,
            Work::Get(size) => self.caller.get(&key, size).await,
        }
    }
}

fn measure(
    cluster: &Cluster,
    work: Work,
    clients: usize,
    options: &Options,
) -> anyhow::Result<Window> {
    let plan = Plan {
        clients,
        threads: options.threads,
        warm_up: options.warm_up(),
        window: options.window(),
        rate: None,
    };
    let count = if matches!(work, Work::Get(_)) { 1 } else { cluster.addresses.len() };
    let nodes = (0..count).map(|at| cluster.grpc_address(at)).collect::<anyhow::Result<_>>()?;
    load::run(&plan, &Calls { nodes, keys: options.keys, work }, || cluster.spent())
}

/// Connections that listen, on threads of their own, until this is dropped.
struct Listeners {
    told: Arc<Told>,
    stop: tokio_util::sync::CancellationToken,
    threads: Vec<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Told {
    ready: AtomicU64,
    pushes: AtomicU64,
    failed: AtomicU64,
    last: Mutex<Option<Instant>>,
}

/// What listeners listen to.
#[derive(Clone, Copy)]
enum To {
    /// A key of its own for each.
    Own,
    /// The same for all.
    Shared,
}

impl To {
    fn key(self, index: usize) -> String {
        match self {
            Self::Own => format!("absent-{index:07}"),
            Self::Shared => "heard-by-all".to_owned(),
        }
    }
}

impl Listeners {
    /// Opens so many, and waits until all listen. Each checks its health now and then.
    fn open(address: SocketAddr, count: usize, to: To, threads: usize) -> anyhow::Result<Self> {
        let (told, stop) = (Arc::new(Told::default()), tokio_util::sync::CancellationToken::new());
        let mut running = Vec::new();
        for thread in 0..threads.max(1) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let indices: Vec<usize> = (thread..count).step_by(threads.max(1)).collect();
            let (told, stop) = (Arc::clone(&told), stop.clone());
            running.push(std::thread::spawn(move || {
                let all = listen_all(address, &indices, to, &told);
                let _ended = runtime.block_on(stop.run_until_cancelled(all));
            }));
        }
        let listeners = Self { told, stop, threads: running };
        wait::until("all to listen", PATIENCE, || {
            ensure!(listeners.failed() == 0, "{} connections failed", listeners.failed());
            let ready = listeners.told.ready.load(Ordering::Acquire);
            Ok((ready >= count as u64).then_some(()))
        })?;
        Ok(listeners)
    }

    fn failed(&self) -> u64 {
        self.told.failed.load(Ordering::Acquire)
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.stop.cancel();
        for thread in self.threads.drain(..) {
            // A panic there has been printed; the counts then never fit and end the measurement.
            drop(thread.join());
        }
    }
}

async fn listen_all(address: SocketAddr, indices: &[usize], to: To, told: &Arc<Told>) {
    let opening = Arc::new(tokio::sync::Semaphore::new(CONNECTING));
    let mut all = JoinSet::new();
    for index in indices {
        let (told, key, opening) = (Arc::clone(told), to.key(*index), Arc::clone(&opening));
        all.spawn(async move {
            if listen(address, &key, &told, &opening).await.is_err() {
                told.failed.fetch_add(1, Ordering::AcqRel);
            }
        });
    }
    while all.join_next().await.is_some() {}
}

async fn listen(
    address: SocketAddr,
    key: &str,
    told: &Told,
    opening: &tokio::sync::Semaphore,
) -> anyhow::Result<()> {
    let mut caller = {
        let _turn = opening.acquire().await?;
        let mut caller = Caller::set_up(address).await?;
        caller.listen(key).await?;
        caller
    };
    told.ready.fetch_add(1, Ordering::AcqRel);
    let mut checks = tokio::time::interval(CHECK_EVERY);
    checks.tick().await;
    loop {
        tokio::select! {
            _ = checks.tick() => caller.check_health().await?,
            push = caller.next_push() => {
                if push? {
                    *told.last.lock() = Some(Instant::now());
                    told.pushes.fetch_add(1, Ordering::AcqRel);
                }
            }
        }
    }
}

fn fan_out_table(clusters: &[Cluster], options: &Options) -> anyhow::Result<()> {
    let mut medians: Vec<(Kind, f64, f64)> = Vec::new();
    for cluster in clusters {
        report::progress(&format!("a change to {HEARERS} listeners of {}", cluster.kind.name()));
        match fan_out(cluster, options) {
            Ok((times, cpus)) => {
                medians.push((cluster.kind, median(times.into_iter()), median(cpus.into_iter())));
            }
            Err(why) => report::skip(cluster.kind, &why),
        }
    }
    let theirs = medians.iter().find(|(kind, ..)| *kind == Kind::Rnacos).copied();
    let mut table = Table::new(&["system", "listeners", "last push ms", "CPU ms", "time", "CPU"]);
    for (kind, time, cpu) in &medians {
        let part = |own: f64, of: fn((Kind, f64, f64)) -> f64, ceiling| match theirs {
            Some(theirs) if *kind == Kind::Quorate => at_most(own / of(theirs), 2, Some(ceiling)),
            _ => String::new(),
        };
        table.row(vec![
            kind.name().to_owned(),
            HEARERS.to_string(),
            format!("{time:.1}"),
            format!("{cpu:.1}"),
            part(*time, |(_, time, _)| time, TIME_CEILING),
            part(*cpu, |(.., cpu)| cpu, CPU_CEILING),
        ]);
    }
    table.print(
        "gRPC: one publish, all listeners of one key on the node that took it; parts of r-nacos's",
    );
    Ok(())
}

/// Milliseconds until the last push, and of CPU, for each publish.
fn fan_out(cluster: &Cluster, options: &Options) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let (address, server) = (cluster.address(0)?, cluster.server(0)?);
    let listeners =
        Listeners::open(cluster.grpc_address(0)?, HEARERS, To::Shared, options.threads)?;
    let (mut times, mut cpus) = (Vec::new(), Vec::new());
    for round in 1..=PUBLISHES * options.rounds as u64 {
        // What the round before left to do is not to be counted here.
        std::thread::sleep(Duration::from_millis(500));
        let before = server.cpu()?;
        let begun = Instant::now();
        ensure!(
            control::publish(address, &To::Shared.key(0), &format!("content-{round}")),
            "the publish was not acknowledged"
        );
        wait::until("the last push", PATIENCE, || {
            ensure!(listeners.failed() == 0, "{} connections failed", listeners.failed());
            let pushes = listeners.told.pushes.load(Ordering::Acquire);
            Ok((pushes >= round * HEARERS as u64).then_some(()))
        })?;
        let last = (*listeners.told.last.lock()).context("a push")?;
        times.push(micros(last.duration_since(begun)) as f64 / 1000.0);
        cpus.push((server.cpu()? - before).as_secs_f64() * 1000.0);
    }
    Ok((times, cpus))
}

fn listeners_table(options: &Options) -> anyhow::Result<()> {
    let mut table =
        Table::new(&["system", "listeners", "RSS before MiB", "RSS MiB", "kB each", "cores"]);
    for kind in KINDS.into_iter().filter(|kind| options.wants(*kind)) {
        let cluster = Cluster::form(kind, 3, options);
        match cluster.and_then(|cluster| hold(&cluster, options)) {
            Ok(row) => table.row(row),
            Err(why) => report::skip(kind, &why),
        }
    }
    table.print(
        "gRPC: listeners on one node of three, own connection and key, a health check every 5 s",
    );
    Ok(())
}

fn hold(cluster: &Cluster, options: &Options) -> anyhow::Result<Vec<String>> {
    let count = options.waiters;
    report::progress(&format!("{count} gRPC listeners of {}", cluster.kind.name()));
    let server = cluster.server(0)?;
    let before = server.rss()?;
    let listeners = Listeners::open(cluster.grpc_address(0)?, count, To::Own, options.threads)?;
    // Each has checked its health once when this begins.
    std::thread::sleep(CHECK_EVERY);
    let (cpu, begun) = (server.cpu()?, Instant::now());
    std::thread::sleep(options.idle());
    let cores = (server.cpu()? - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
    let held = server.rss()?;
    ensure!(listeners.failed() == 0, "{} connections failed", listeners.failed());
    let ours = cluster.kind == Kind::Quorate;
    let each = held.saturating_sub(before) as f64 / count as f64 / 1000.0;
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    let ceiling = IDLE_CEILING * count as f64 / 10_000.0;
    Ok(vec![
        cluster.kind.name().to_owned(),
        count.to_string(),
        mib(before),
        mib(held),
        at_most(each, 1, ours.then_some(RSS_CEILING_KB)),
        at_most(cores, 3, ours.then_some(ceiling)),
    ])
}
