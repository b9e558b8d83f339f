//! Held long polls: what each costs while nothing happens, and how fast one publish answers all
//! the waiters of its key.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::cluster::{Cluster, Kind};
use crate::control;
use crate::http;
use crate::measure::{median, micros};
use crate::options::Options;
use crate::report::{self, Table, at_most};
use crate::wait;
use crate::waiters::{Ask, Waiters};

/// File descriptors that both sides need beside the polls.
const DESCRIPTOR_MARGIN: usize = 2000;
/// After all polls are sent, until each is surely registered.
const SETTLE: Duration = Duration::from_secs(2);
/// Publishes for one set of waiters.
const PUBLISHES: u64 = 3;
/// Polls that reached a held state must all do so within this time.
const PATIENCE: Duration = Duration::from_secs(60);

const RSS_CEILING_KIB: f64 = 10.0;
const IDLE_CEILING_CORES: f64 = 0.05;
const CPU_CEILING: f64 = 0.02;
const TIME_RATIO_CEILING: f64 = 0.5;

/// Holds polls, then fans out, for each system.
pub(crate) fn run(options: &Options, open_files: usize) -> anyhow::Result<()> {
    let most = open_files.saturating_sub(DESCRIPTOR_MARGIN);
    let polls = options.polls.unwrap_or(most).min(most);
    hold_table(polls, options)?;
    fan_out_table(options.waiters.min(most), options)
}

fn wanted(options: &Options) -> impl Iterator<Item = Kind> {
    [Kind::Quorate, Kind::Rnacos].into_iter().filter(|kind| options.wants(*kind))
}

fn hold_table(polls: usize, options: &Options) -> anyhow::Result<()> {
    let mut table = Table::new(&[
        "system",
        "polls",
        "RSS before MiB",
        "RSS held MiB",
        "KiB per poll",
        "idle cores before",
        "idle cores held",
    ]);
    for kind in wanted(options) {
        let cluster = Cluster::form(kind, 3, options);
        match cluster.and_then(|cluster| hold(&cluster, polls, options)) {
            Ok(row) => table.row(row),
            Err(why) => report::skip(kind, &why),
        }
    }
    table.print("poll: held on one node of three, own connection and key each, 120 s time-out");
    Ok(())
}

fn hold(cluster: &Cluster, polls: usize, options: &Options) -> anyhow::Result<Vec<String>> {
    report::progress(&format!("holding {polls} polls on {}", cluster.kind.name()));
    let server = cluster.server(0)?;
    let busy = |length: Duration| -> anyhow::Result<f64> {
        let before = server.cpu()?;
        let begun = Instant::now();
        std::thread::sleep(length);
        Ok((server.cpu()? - before).as_secs_f64() / begun.elapsed().as_secs_f64())
    };
    let alone = busy(options.idle().min(Duration::from_secs(5)))?;
    let before = server.rss()?;
    let ask = Ask::OwnAbsentKey(cluster.address(0)?);
    let waiters = Waiters::open(ask, polls, options.threads)?;
    waiters.arm(0, PATIENCE)?;
    std::thread::sleep(SETTLE);
    let held = server.rss()?;
    let idle = busy(options.idle())?;
    // A poll that was answered or cut off was not held: the figures would be about something else.
    let lost = waiters.answered();
    anyhow::ensure!(lost == 0 && waiters.failed() == 0, "{lost} of {polls} polls were not held");
    let ours = cluster.kind == Kind::Quorate;
    let per_poll = held.saturating_sub(before) as f64 / polls as f64 / 1024.0;
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    Ok(vec![
        cluster.kind.name().to_owned(),
        polls.to_string(),
        mib(before),
        mib(held),
        at_most(per_poll, 2, ours.then_some(RSS_CEILING_KIB)),
        format!("{alone:.3}"),
        at_most(idle, 3, ours.then_some(IDLE_CEILING_CORES)),
    ])
}

/// What one publish did to the waiters of its key.
struct FanOut {
    /// From sending the publish to its acknowledgement.
    acknowledged: Duration,
    /// From sending the publish to the last answer.
    last: Duration,
    /// CPU of the node that held the polls.
    cpu: Duration,
}

fn fan_out_table(waiters: usize, options: &Options) -> anyhow::Result<()> {
    let mut results: Vec<(Kind, Vec<FanOut>)> = Vec::new();
    let mut clusters = Vec::new();
    for kind in wanted(options) {
        match Cluster::form(kind, 3, options) {
            Ok(cluster) => {
                clusters.push(cluster);
                results.push((kind, Vec::new()));
            }
            Err(why) => report::skip(kind, &why),
        }
    }
    for round in 0..options.rounds as u64 {
        for (cluster, (_, runs)) in clusters.iter().zip(&mut results) {
            report::progress(&format!("waking {waiters} waiters on {}", cluster.kind.name()));
            match fan_out(cluster, waiters, round * (PUBLISHES + 1), options) {
                Ok(more) => runs.extend(more),
                Err(why) => report::skip(cluster.kind, &why),
            }
        }
    }
    results.retain(|(_, runs)| !runs.is_empty());
    let medians: Vec<(Kind, f64, f64, f64)> = results
        .iter()
        .map(|(kind, runs)| {
            let of = |pick: fn(&FanOut) -> Duration| {
                median(runs.iter().map(|run| micros(pick(run)) as f64 / 1000.0))
            };
            let answers = waiters as f64 / 1000.0;
            let cpu_per_1000 = of(|run| run.cpu) / 1000.0 / answers;
            (*kind, of(|run| run.acknowledged), of(|run| run.last), cpu_per_1000)
        })
        .collect();
    let theirs = medians.iter().find(|(kind, ..)| *kind == Kind::Rnacos).map(|(.., last, _)| *last);
    let mut table = Table::new(&[
        "system",
        "waiters",
        "publish acknowledged ms",
        "last answer ms",
        "CPU s/1000 answers",
        "of r-nacos's time",
    ]);
    for (kind, acknowledged, last, cpu) in &medians {
        let ours = *kind == Kind::Quorate;
        let part = theirs.filter(|_| ours).map(|theirs| last / theirs);
        table.row(vec![
            kind.name().to_owned(),
            waiters.to_string(),
            format!("{acknowledged:.2}"),
            format!("{last:.1}"),
            at_most(*cpu, 4, ours.then_some(CPU_CEILING)),
            part.map_or_else(String::new, |part| at_most(part, 2, Some(TIME_RATIO_CEILING))),
        ]);
    }
    table.print("poll: one publish, all waiters of one key on the node that took it");
    Ok(())
}

/// Opens the waiters anew and publishes a few times. Contents are numbered from `first` on, so that
/// no round repeats one.
fn fan_out(
    cluster: &Cluster,
    count: usize,
    first: u64,
    options: &Options,
) -> anyhow::Result<Vec<FanOut>> {
    let address = cluster.address(0)?;
    let server = cluster.server(0)?;
    anyhow::ensure!(
        control::publish(address, Ask::SHARED_KEY, &Ask::shared_content(first)),
        "the first content was not acknowledged"
    );
    let waiters = Waiters::open(Ask::SharedKey { address, first }, count, options.threads)?;
    let mut runs = Vec::new();
    for round in 0..PUBLISHES {
        waiters.arm(round, PATIENCE)?;
        std::thread::sleep(SETTLE);
        let expected = (round + 1) * count as u64;
        anyhow::ensure!(waiters.answered() == expected - count as u64, "polls were not held");
        let content = Ask::shared_content(first + round + 1);
        let request = http::publish(address, Ask::SHARED_KEY, &content);
        let before = server.cpu()?;
        let begun = Instant::now();
        let answer = control::exchange(address, &request, PATIENCE)?;
        let acknowledged = begun.elapsed();
        anyhow::ensure!(answer == (200, "true".to_owned()), "publish answered {}", answer.0);
        wait::until("the last answer", PATIENCE, || {
            Ok((waiters.answered() + waiters.failed() >= expected).then_some(()))
        })?;
        anyhow::ensure!(waiters.failed() == 0, "{} polls failed", waiters.failed());
        let cpu = server.cpu()? - before;
        let last = waiters.last_answer().context("an answer")?.duration_since(begun);
        runs.push(FanOut { acknowledged, last, cpu });
    }
    Ok(runs)
}
