//! Publishes spread over all three nodes, beside etcd's puts and r-nacos's publishes.

use std::time::Duration;

use crate::cluster::{Cluster, Kind};
use crate::etcd::PutFleet;
use crate::fleet::{HttpFleet, Work};
use crate::load::{self, Plan};
use crate::measure::{Figures, Window, median_figures};
use crate::options::Options;
use crate::report::{self, LOAD_HEADER, Table, load_row};

/// Connections of the open loop.
const OPEN_LOOP_CLIENTS: usize = 64;
/// Before a window, so that what the system before it still writes does not land in it.
const SETTLE: Duration = Duration::from_millis(500);

/// One line of the table for each system.
struct Load {
    size: usize,
    clients: usize,
    rate: Option<u32>,
}

impl Load {
    fn name(&self) -> String {
        match self.rate {
            None => format!("{} B, {} clients", self.size, self.clients),
            Some(rate) => format!("{} B, open loop {rate}/s", self.size),
        }
    }

    /// The ratio to reach, as the project has set it for values of 128 bytes.
    fn floor(&self, baseline: Kind) -> Option<f64> {
        let of = |etcd, rnacos| match baseline {
            Kind::Etcd => Some(etcd),
            Kind::Rnacos => Some(rnacos),
            Kind::Quorate | Kind::Echo => None,
        };
        match (self.size, self.clients, self.rate) {
            (128, 1, None) => of(0.8, 0.6),
            (128, 16, None) => of(1.2, 1.5),
            (128, 64, None) => of(1.4, 2.0),
            (128, 256, None) => of(1.4, 4.0),
            _ => None,
        }
    }
}

/// Forms every wanted system, loads them by turns, prints one table.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut clusters = form(&[Kind::Quorate, Kind::Etcd, Kind::Rnacos], 3, options);
    let mut table = Table::new(&LOAD_HEADER);
    for load in loads(options) {
        report::progress(&format!("publish, {}", load.name()));
        let medians = by_turns(&mut clusters, options, |cluster| measure(cluster, &load, options));
        add_rows(&mut table, &load.name(), load.rate, &medians, |kind| load.floor(kind));
    }
    table.print("publish: three nodes, clients spread over all of them");
    Ok(())
}

/// Measures each system once a round, one after the other, and takes the medians. A system that
/// fails a window is named and goes on without it.
pub(crate) fn by_turns(
    clusters: &mut [Cluster],
    options: &Options,
    measure: impl Fn(&Cluster) -> anyhow::Result<Window>,
) -> Vec<(Kind, Figures)> {
    let mut results: Vec<Vec<Figures>> = vec![Vec::new(); clusters.len()];
    for _ in 0..options.rounds {
        for (cluster, figures) in clusters.iter_mut().zip(&mut results) {
            std::thread::sleep(SETTLE);
            match cluster.all_alive().and_then(|()| measure(cluster)) {
                Ok(window) => figures.push(window.figures()),
                Err(why) => report::skip(cluster.kind, &why),
            }
        }
    }
    let of_each = clusters.iter().zip(&results).filter(|(_, figures)| !figures.is_empty());
    of_each.map(|(cluster, figures)| (cluster.kind, median_figures(figures))).collect()
}

/// The systems that are wanted and can be started; the others are named with the reason.
pub(crate) fn form(kinds: &[Kind], nodes: usize, options: &Options) -> Vec<Cluster> {
    let mut clusters = Vec::new();
    for kind in kinds {
        if !options.wants(*kind) {
            continue;
        }
        match Cluster::form(*kind, nodes, options) {
            Ok(cluster) => clusters.push(cluster),
            Err(why) => report::skip(*kind, &why),
        }
    }
    clusters
}

/// One row for each system, baselines with what Quorate is to them: its rate as a part of theirs,
/// or at a fixed rate its p99.
pub(crate) fn add_rows(
    table: &mut Table,
    load: &str,
    rate: Option<u32>,
    medians: &[(Kind, Figures)],
    floor: impl Fn(Kind) -> Option<f64>,
) {
    let ours = medians.iter().find(|(kind, _)| *kind == Kind::Quorate).map(|(_, own)| own);
    for (kind, figures) in medians {
        let standing = match ours.filter(|_| *kind != Kind::Quorate) {
            None => String::new(),
            Some(own) if rate.is_some() => format!("p99 {:.2}x", own.p99_ms / figures.p99_ms),
            Some(own) => report::ratio(own.rate / figures.rate, floor(*kind)),
        };
        table.row(load_row(load, *kind, figures, standing));
    }
}

fn loads(options: &Options) -> Vec<Load> {
    let mut loads = Vec::new();
    for size in &options.sizes {
        for clients in &options.clients {
            loads.push(Load { size: *size, clients: *clients, rate: None });
        }
        if options.publish_rate > 0 {
            let rate = Some(options.publish_rate);
            loads.push(Load { size: *size, clients: OPEN_LOOP_CLIENTS, rate });
        }
    }
    loads
}

fn measure(cluster: &Cluster, load: &Load, options: &Options) -> anyhow::Result<Window> {
    let plan = Plan {
        clients: load.clients,
        threads: options.threads,
        warm_up: options.warm_up(),
        window: options.window(),
        rate: load.rate,
    };
    let nodes = cluster.addresses.clone();
    let keys = options.keys;
    let spent = || cluster.spent();
    if cluster.kind == Kind::Etcd {
        return load::run(&plan, &PutFleet { members: nodes, keys, size: load.size }, spent);
    }
    load::run(&plan, &HttpFleet { nodes, keys, work: Work::Publish(load.size) }, spent)
}
