//! How long writes wait, as a client at another node sees it, when the leader is stopped by plan
//! and when it is killed; and that who returns deposes nobody.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::Deserialize;

use crate::cluster::{Cluster, Kind};
use crate::control;
use crate::http;
use crate::measure::median;
use crate::options::Options;
use crate::report::{self, Table, at_most};
use crate::wait;

const NODES: usize = 3;
/// Writes before the leader goes, and after they go on again.
const AROUND: Duration = Duration::from_millis(700);
const PATIENCE: Duration = Duration::from_secs(30);

/// How the leader goes.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    runs: usize,
    is_planned: bool,
    /// Ceilings in milliseconds.
    median: f64,
    max: Option<f64>,
}

/// Prints one row for each way.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let ways = [
        Way { name: "SIGTERM", runs: 20, is_planned: true, median: 100.0, max: None },
        Way { name: "kill -9", runs: 50, is_planned: false, median: 2000.0, max: Some(4000.0) },
    ];
    let mut table = Table::new(&["the leader gets", "runs", "median ms", "max ms", "deposed"]);
    let mut cluster = Cluster::form(Kind::Quorate, NODES, options)?;
    for way in ways {
        report::progress(&format!("handover, {} times {}", way.runs, way.name));
        let mut gaps = Vec::new();
        let mut deposed = 0;
        for _ in 0..way.runs {
            let (gap, was_deposed) = once(&mut cluster, way)?;
            gaps.push(gap.as_secs_f64() * 1000.0);
            deposed += u32::from(was_deposed);
        }
        let longest = gaps.iter().copied().fold(0.0, f64::max);
        table.row(vec![
            way.name.to_owned(),
            way.runs.to_string(),
            at_most(median(gaps.into_iter()), 0, Some(way.median)),
            at_most(longest, 0, way.max),
            format!("{deposed} leaders by who returned"),
        ]);
    }
    table.print(
        "handover: longest time between two acknowledged writes of a client at another node",
    );
    Ok(())
}

#[derive(Deserialize)]
struct Standing {
    term: u64,
    role: String,
}

/// Term and whether it leads, as a node says.
fn standing(address: SocketAddr) -> anyhow::Result<(u64, bool)> {
    let request = http::get(address, "/nacos/v1/ns/raft/state");
    let (status, text) = control::exchange(address, &request, Duration::from_secs(2))?;
    ensure!(status == 200, "state answered {status}");
    let Standing { term, role } = serde_json::from_str(&text)?;
    Ok((term, role == "LEADER"))
}

fn leader(cluster: &Cluster) -> anyhow::Result<usize> {
    wait::until("one leader", PATIENCE, || {
        let mut found = None;
        let mut terms = Vec::new();
        for node in 0..NODES {
            let Ok((term, leads)) = standing(cluster.address(node)?) else { return Ok(None) };
            terms.push(term);
            if leads {
                found = Some(node);
            }
        }
        terms.dedup();
        Ok(found.filter(|_| terms.len() == 1))
    })
}

/// One loss of the leader: the gap, and whether its return cost the new one its place.
fn once(cluster: &mut Cluster, way: Way) -> anyhow::Result<(Duration, bool)> {
    let leader = leader(cluster)?;
    let client = cluster.address((leader + 1) % NODES)?;
    let stop = AtomicBool::new(false);
    let gap = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(client, &stop));
        std::thread::sleep(AROUND);
        let gone = cluster.end(leader, way.is_planned);
        let resumed = wait::until("an acknowledged write", PATIENCE, || {
            Ok(control::publish(client, "resumed", "x").then_some(()))
        });
        std::thread::sleep(AROUND);
        stop.store(true, Ordering::Relaxed);
        let gap = writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?;
        gone.and(resumed).map(|()| gap)
    })?;
    let (term, _) = standing(client)?;
    cluster.start_again(leader)?;
    cluster.await_writes()?;
    std::thread::sleep(AROUND);
    let (after, _) = standing(client)?;
    Ok((gap, after != term))
}

/// Writes one after the other; the longest time between two that were acknowledged.
fn write(client: SocketAddr, stop: &AtomicBool) -> Duration {
    let (mut last, mut longest) = (None::<Instant>, Duration::ZERO);
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        if control::publish(client, "handover", &number.to_string()) {
            let now = Instant::now();
            longest = longest.max(last.map_or(Duration::ZERO, |last| now - last));
            last = Some(now);
        }
    }
    longest
}
