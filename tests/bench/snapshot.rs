//! Publishes while every node builds a snapshot of a large state, beside the same publishes
//! without; and what the data directories have grown to.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::task::JoinSet;

use crate::cluster::{Cluster, Kind};
use crate::control;
use crate::fleet::{HttpFleet, Work};
use crate::http::{self, Connection, data_id};
use crate::load::{self, Plan};
use crate::measure::{Figures, Window, median, median_figures};
use crate::options::Options;
use crate::report::{self, LOAD_HEADER, Table, at_most, load_row};

/// Bytes of one large content.
const CONTENT_BYTES: usize = 64 * 1024;
/// Connections of the open loop.
const CLIENTS: usize = 64;
/// The most that a snapshot may stretch the p99 of publishes.
const CEILING: f64 = 3.0;
/// A snapshot of some gigabytes at the paced rate.
const PATIENCE: Duration = Duration::from_secs(300);

/// Prints one table of latencies and one line about disk.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut cluster = Cluster::form(Kind::Quorate, 3, options)?;
    let count = options.state_mib * 1024 * 1024 / CONTENT_BYTES as u64;
    report::progress(&format!("writing {} MiB in {count} configs", options.state_mib));
    // Over and over, until ten times what a snapshot is taken after has been written.
    let passes = options.written_mib.div_ceil(options.state_mib.max(1)).max(1);
    for pass in 0..passes {
        fill(&cluster, count, pass)?;
    }
    let mut without = Vec::new();
    let mut during = Vec::new();
    let mut took = Vec::new();
    for _ in 0..options.rounds {
        cluster.all_alive()?;
        report::progress("publish without a snapshot");
        without.push(measure(&cluster, options)?.figures());
        report::progress("publish while all three nodes build one");
        let (figures, seconds) = while_building(&cluster, options)?;
        during.push(figures);
        took.push(seconds);
    }
    let (without, during) = (median_figures(&without), median_figures(&during));
    let mut table = Table::new(&LOAD_HEADER);
    table.row(load_row("no snapshot", Kind::Quorate, &without, String::new()));
    let ratio = at_most(during.p99_ms / without.p99_ms, 2, Some(CEILING));
    table.row(load_row("three snapshots", Kind::Quorate, &during, format!("p99 {ratio}")));
    table.print(&format!(
        "snapshot: publishes of 128 B at {}/s over a state of {} MiB; a snapshot takes {:.1} s",
        options.publish_rate,
        options.state_mib,
        median(took.into_iter())
    ));
    let mut disk = Table::new(&["node", "disk MiB", "6 x state + 512 MiB"]);
    for node in 0..3 {
        let mib = bytes_under(&cluster.data_dir(node))? as f64 / f64::from(1 << 20);
        let most = 6.0 * options.state_mib as f64 + 512.0;
        disk.row(vec![format!("{node}"), at_most(mib, 0, Some(most)), format!("{most:.0}")]);
    }
    disk.print(&format!("disk, after {} MiB of writes", passes * options.state_mib));
    Ok(())
}

fn measure(cluster: &Cluster, options: &Options) -> anyhow::Result<Window> {
    let plan = Plan {
        clients: CLIENTS,
        threads: options.threads,
        warm_up: options.warm_up(),
        window: options.window(),
        rate: Some(options.publish_rate.max(1)),
    };
    let nodes = cluster.addresses.clone();
    let fleet = HttpFleet { nodes, keys: 1000, work: Work::Publish(128) };
    load::run(&plan, &fleet, || cluster.spent())
}

/// One window with snapshots under way from its beginning to its end, and the seconds that the
/// first snapshot took.
fn while_building(cluster: &Cluster, options: &Options) -> anyhow::Result<(Figures, f64)> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let builders: Vec<_> = (0..3)
            .map(|node| {
                let (address, done) = (cluster.address(node), &done);
                scope.spawn(move || {
                    let address = address?;
                    let mut first = None;
                    while !done.load(Ordering::Relaxed) {
                        let begun = Instant::now();
                        let request = http::post(address, "/quorate/v1/cluster/snapshot", "", "");
                        let (status, text) = control::exchange(address, &request, PATIENCE)?;
                        ensure!(status == 200, "snapshot answered {status}: {text}");
                        first.get_or_insert(begun.elapsed().as_secs_f64());
                    }
                    first.context("no snapshot was built")
                })
            })
            .collect();
        let window = measure(cluster, options);
        done.store(true, Ordering::Relaxed);
        let mut seconds = Vec::new();
        for builder in builders {
            seconds.push(builder.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??);
        }
        Ok((window?.figures(), median(seconds.into_iter())))
    })
}

/// Contents that hardly compress, through 16 connections over all nodes.
fn fill(cluster: &Cluster, count: u64, pass: u64) -> anyhow::Result<()> {
    const WRITERS: usize = 16;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let node = writer % cluster.addresses.len();
            let address = cluster.address(node)?;
            writers.spawn(async move {
                let mut connection = Connection::new(address);
                for number in (writer as u64..count).step_by(WRITERS) {
                    // Keys apart from those of the load.
                    let key = data_id(1_000_000 + number);
                    let request = http::publish(address, &key, &noise(number + pass * count));
                    connection.send(&request).await?;
                    let (answer, body) = connection.receive().await?;
                    ensure!(body == b"true", "publish answered {}", answer.status);
                }
                Ok(())
            });
        }
        while let Some(writer) = writers.join_next().await {
            writer.context("a writer panicked")??;
        }
        Ok(())
    })
}

/// Letters and digits drawn by an xorshift.
fn noise(seed: u64) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut state = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut text = String::with_capacity(CONTENT_BYTES);
    while text.len() < CONTENT_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        for piece in 0..10 {
            let letter = LETTERS.get((state >> (6 * piece) & 63) as usize);
            text.push(char::from(*letter.unwrap_or(&b'x')));
        }
    }
    text.truncate(CONTENT_BYTES);
    text
}

/// As the disk counts: a preallocated file by its blocks.
fn bytes_under(dir: &Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // What is deleted meanwhile takes no space.
        let Ok(about) = entry.metadata() else { continue };
        bytes += if about.is_dir() { bytes_under(&entry.path())? } else { about.blocks() * 512 };
    }
    Ok(bytes)
}
