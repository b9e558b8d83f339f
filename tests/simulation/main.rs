//! The nodes of a cluster in one process and one thread, under a simulated network, disk and
//! clock, where one seed decides everything (README.md beside this file).
//!
//! `QUORATE_SIM_SEEDS=1..1001` runs other seeds than the fixed ones, `QUORATE_SIM_SEED=7` runs one
//! and prints the end of its trace; `QUORATE_SIM_TRACE=file` keeps all of it.

#![cfg(test)]

mod client;
mod disk;
mod gate;
mod history;
mod invariant;
mod listener;
mod nemesis;
mod network;
mod plan;
mod random;
mod run;
mod station;
mod stream;
mod trace;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use run::Report;

/// Seeds that every run of the tests goes through.
const FIXED: std::ops::Range<u64> = 1..201;
/// Failures after which no more seeds are run.
const FAILURES_KEPT: usize = 3;

#[test]
fn promises_hold_under_every_seed() {
    run::note_panics();
    let (seeds, is_one) = match (variable("QUORATE_SIM_SEED"), variable("QUORATE_SIM_SEEDS")) {
        (Some(one), _) => {
            let seed: u64 = one.parse().expect("QUORATE_SIM_SEED is a number");
            (seed..seed + 1, true)
        }
        (None, Some(range)) => {
            let (from, to) = range.split_once("..").expect("QUORATE_SIM_SEEDS is FROM..TO");
            let number = |text: &str| text.parse().expect("a seed is a number");
            (number(from)..number(to), false)
        }
        (None, None) => (FIXED, false),
    };
    let begin = Instant::now();
    let reports = run_all(seeds);
    let simulated: Duration = reports.iter().map(|report| report.simulated).sum();
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    println!(
        "{} seeds, {:.2} simulated hours in {:.0} s: {} operations, {} acknowledged writes, {} \
         replica states compared, {} lines of trace",
        reports.len(),
        simulated.as_secs_f64() / 3600.0,
        begin.elapsed().as_secs_f64(),
        sum(|it| it.operations as u64),
        sum(|it| it.acknowledged as u64),
        sum(|it| it.compared),
        sum(|it| it.hash.1),
    );
    let failed: Vec<_> = reports.iter().filter(|report| report.failure.is_some()).collect();
    for report in &failed {
        println!(
            "seed {} failed, trace {:016x}:\n{}\n{}\nagain: QUORATE_SIM_SEED={} cargo test -p \
             quorate-server --test simulation promises",
            report.seed,
            report.hash.0,
            report.tail,
            report.failure.as_deref().unwrap_or_default(),
            report.seed,
        );
    }
    if is_one {
        for report in &reports {
            println!("{}\nseed {} trace {:016x}", report.tail, report.seed, report.hash.0);
        }
    }
    let numbers: Vec<_> = failed.iter().map(|report| report.seed).collect();
    assert!(failed.is_empty(), "broken promises under seeds {numbers:?}");
    // A simulation in which nothing happens proves nothing.
    let busy = reports.iter().filter(|report| report.acknowledged >= 20).count();
    assert!(busy * 10 >= reports.len() * 9, "only {busy} runs were busy");
}

/// On as many threads as there are processors; each world has one for itself.
fn run_all(seeds: std::ops::Range<u64>) -> Vec<Report> {
    let next = AtomicU64::new(seeds.start);
    let reports: Mutex<Vec<Report>> = Mutex::default();
    let failures =
        || reports.lock().expect("no panic").iter().filter(|it| it.failure.is_some()).count();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || failures() >= FAILURES_KEPT {
                        return;
                    }
                    let report = run::run(seed);
                    if let Some(failure) = &report.failure {
                        let line = failure.lines().next().unwrap_or_default();
                        println!("seed {seed}: {line}");
                    }
                    reports.lock().expect("no panic").push(report);
                }
            });
        }
    });
    let mut reports = reports.into_inner().expect("no panic");
    reports.sort_by_key(|report| report.seed);
    reports
}

#[test]
fn a_seed_replays_to_the_same_trace() {
    for seed in [3, 7, 11, 19] {
        let (one, other) = (run::run(seed), run::run(seed));
        assert!(one.hash.1 > 500, "seed {seed} leaves a trace of {} lines", one.hash.1);
        assert_eq!(one.hash, other.hash, "seed {seed} took two ways");
    }
    assert_ne!(run::run(3).hash, run::run(4).hash);
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
