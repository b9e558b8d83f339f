//! From exec to the first correct read, and the memory after it: empty, with many configs, and a
//! whole cluster that was killed.

use std::time::{Duration, Instant};

use crate::cluster::{Cluster, Kind};
use crate::get::fill;
use crate::http::{self, data_id};
use crate::measure::median;
use crate::options::Options;
use crate::report::{self, Table, at_most};
use crate::wait;

/// Bytes of one content.
const CONTENT_BYTES: usize = 100;
/// How long a start may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(120);
/// After the first read, before memory is read: what a start frees has been given back by then.
const SETTLE: Duration = Duration::from_secs(3);
/// Memory of an empty node: 25 MB, and the 26 MB of openraft's statistics tables.
const EMPTY_CEILING_MB: f64 = 51.0;

/// Prints one table for single nodes and one for whole clusters.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut table = Table::new(&[
        "single node",
        "system",
        "exec to first read ms",
        "RSS MB",
        "bytes per config over key and content",
    ]);
    let mut clusters = Table::new(&[
        "system",
        "configs",
        "all nodes read ms",
        "first write ms",
        "from the reads to the write ms",
        "RSS MB of each node",
    ]);
    for kind in [Kind::Quorate, Kind::Etcd, Kind::Rnacos] {
        if !options.wants(kind) {
            continue;
        }
        if let Err(why) = singles(kind, options, &mut table) {
            report::skip(kind, &why);
            continue;
        }
        if kind != Kind::Etcd {
            match restarted_cluster(kind, options) {
                Ok(row) => clusters.row(row),
                Err(why) => report::skip(kind, &why),
            }
        }
    }
    table.print("start: medians over the rounds");
    clusters.print("start: three nodes killed at once, started again together");
    Ok(())
}

fn singles(kind: Kind, options: &Options, table: &mut Table) -> anyhow::Result<()> {
    let ours = kind == Kind::Quorate;
    let (empty_ms, empty_rss) = empty_starts(kind, options)?;
    table.row(vec![
        "empty".to_owned(),
        kind.name().to_owned(),
        at_most(empty_ms, 0, ours.then_some(300.0)),
        at_most(empty_rss / 1e6, 1, ours.then_some(EMPTY_CEILING_MB)),
        String::new(),
    ]);
    if kind == Kind::Etcd {
        // Its start says nothing about configs; the empty one is the reference.
        return Ok(());
    }
    let (full_ms, full_rss) = full_starts(kind, options)?;
    let configs = options.configs as f64;
    let content = data_id(0).len() + http::GROUP.len() + CONTENT_BYTES;
    let over = (full_rss - empty_rss) / configs - content as f64;
    table.row(vec![
        format!("{} configs", options.configs),
        kind.name().to_owned(),
        at_most(full_ms, 0, ours.then_some(3000.0)),
        format!("{:.1}", full_rss / 1e6),
        at_most(over, 0, ours.then_some(200.0)),
    ]);
    Ok(())
}

/// Median time and memory of a single node that starts over an empty directory.
fn empty_starts(kind: Kind, options: &Options) -> anyhow::Result<(f64, f64)> {
    let mut times = Vec::new();
    let mut sizes = Vec::new();
    for _ in 0..options.rounds.max(1) {
        report::progress(&format!("{}, an empty node", kind.name()));
        let mut cluster = Cluster::prepare(kind, 1, options)?;
        cluster.spawn_all()?;
        times.push(millis(first_read(&mut cluster, 0, 0, None)?));
        std::thread::sleep(SETTLE);
        sizes.push(cluster.server(0)?.rss()? as f64);
    }
    Ok((median(times.into_iter()), median(sizes.into_iter())))
}

/// Median time and memory of a single node that starts over many configs.
fn full_starts(kind: Kind, options: &Options) -> anyhow::Result<(f64, f64)> {
    report::progress(&format!("{}, publishing {} configs", kind.name(), options.configs));
    let mut cluster = Cluster::form(kind, 1, options)?;
    fill(&cluster, 0..options.configs, CONTENT_BYTES)?;
    let last = options.configs.saturating_sub(1);
    let expected = http::value(last, CONTENT_BYTES);
    let mut times = Vec::new();
    let mut sizes = Vec::new();
    for _ in 0..options.rounds.max(1) {
        report::progress(&format!("{}, a node with {} configs", kind.name(), options.configs));
        cluster.terminate_all()?;
        cluster.spawn_all()?;
        times.push(millis(first_read(&mut cluster, 0, last, Some(&expected))?));
        std::thread::sleep(SETTLE);
        sizes.push(cluster.server(0)?.rss()? as f64);
    }
    Ok((median(times.into_iter()), median(sizes.into_iter())))
}

/// Publishes, kills all three nodes at once, starts them again: times from the first exec.
fn restarted_cluster(kind: Kind, options: &Options) -> anyhow::Result<Vec<String>> {
    report::progress(&format!("{}, three nodes, {} configs", kind.name(), options.configs));
    let mut cluster = Cluster::form(kind, 3, options)?;
    fill(&cluster, 0..options.configs, CONTENT_BYTES)?;
    let last = options.configs.saturating_sub(1);
    let expected = http::value(last, CONTENT_BYTES);
    let mut reads = Vec::new();
    let mut writes = Vec::new();
    let mut sizes = Vec::new();
    for round in 0..options.rounds.max(1) {
        cluster.kill_all()?;
        let begun = Instant::now();
        cluster.spawn_all()?;
        for node in 0..cluster.addresses.len() {
            first_read(&mut cluster, node, last, Some(&expected))?;
        }
        reads.push(millis(begun.elapsed()));
        let address = cluster.address(round % cluster.addresses.len())?;
        let content = format!("after restart {round}");
        wait::until("the first write", PATIENCE, || {
            cluster.all_alive()?;
            Ok(cluster.write(address, options.configs, &content.replace(' ', "-")).then_some(()))
        })?;
        writes.push(millis(begun.elapsed()));
        std::thread::sleep(SETTLE);
        let mut each = Vec::new();
        for node in 0..cluster.addresses.len() {
            each.push(format!("{:.1}", cluster.server(node)?.rss()? as f64 / 1e6));
        }
        sizes = each;
    }
    let later = median(writes.iter().zip(&reads).map(|(write, read)| write - read));
    Ok(vec![
        kind.name().to_owned(),
        options.configs.to_string(),
        format!("{:.0}", median(reads.iter().copied())),
        format!("{:.0}", median(writes.iter().copied())),
        at_most(later, 0, (kind == Kind::Quorate).then_some(3000.0)),
        sizes.join(" "),
    ])
}

/// From exec until a node answers a read with this content, or with "no such config" for `None`.
fn first_read(
    cluster: &mut Cluster,
    node: usize,
    key: u64,
    expected: Option<&str>,
) -> anyhow::Result<Duration> {
    let address = cluster.address(node)?;
    wait::until("the first correct read", PATIENCE, || {
        cluster.all_alive()?;
        let read = cluster.read(address, key);
        Ok(read.is_ok_and(|found| found.as_deref() == expected).then_some(()))
    })?;
    Ok(cluster.server(node)?.started.elapsed())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
