//! Reads from one node of three, beside the bare hyper server and r-nacos.

use anyhow::Context as _;
use tokio::task::JoinSet;

use crate::cluster::{Cluster, Kind};
use crate::echo;
use crate::fleet::{HttpFleet, Work};
use crate::http::{Connection, Template};
use crate::load::{self, Plan};
use crate::measure::{Figures, Window};
use crate::options::Options;
use crate::publish::{add_rows, by_turns, form};
use crate::report::{self, LOAD_HEADER, Table};

/// Connections of both loops.
const CLIENTS: usize = 64;
/// The least part of the echo server's rate.
const ECHO_FLOOR: f64 = 0.6;

/// Writes the keys, then reads them by turns from the first node of each system.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut clusters = form(&[Kind::Quorate, Kind::Rnacos], 3, options);
    clusters.extend(form(&[Kind::Echo], 1, options));
    for cluster in &clusters {
        if cluster.kind != Kind::Echo {
            report::progress(&format!("writing {} keys to {}", options.keys, cluster.kind.name()));
            fill(cluster, 0..options.keys, echo::BODY_BYTES)?;
        }
    }
    let mut table = Table::new(&LOAD_HEADER);
    let closed = ("64 clients".to_owned(), None);
    let open = (format!("open loop {}/s", options.get_rate), Some(options.get_rate));
    for (name, rate) in [closed, open] {
        if rate == Some(0) {
            continue;
        }
        report::progress(&format!("get, {name}"));
        let medians = by_turns(&mut clusters, options, |cluster| measure(cluster, rate, options));
        let floor = |kind| (kind == Kind::Echo && rate.is_none()).then_some(ECHO_FLOOR);
        add_rows(&mut table, &name, rate, &medians, floor);
        if rate.is_none() {
            compare_cpu(&medians);
        }
    }
    table.print("get: 128 B from one node of three; CPU and RSS of all nodes together");
    Ok(())
}

/// Server CPU must be below r-nacos's.
fn compare_cpu(medians: &[(Kind, Figures)]) {
    let of = |wanted| medians.iter().find(|(kind, _)| *kind == wanted).map(|(_, figures)| figures);
    let (Some(ours), Some(theirs)) = (of(Kind::Quorate), of(Kind::Rnacos)) else { return };
    let verdict = report::at_most(ours.cpu_per_1000, 4, Some(theirs.cpu_per_1000));
    report::progress(&format!("server CPU s per 1000 gets beside r-nacos: {verdict}"));
}

fn measure(cluster: &Cluster, rate: Option<u32>, options: &Options) -> anyhow::Result<Window> {
    let plan = Plan {
        clients: CLIENTS,
        threads: options.threads,
        warm_up: options.warm_up(),
        window: options.window(),
        rate,
    };
    let nodes = vec![cluster.address(0)?];
    let fleet = HttpFleet { nodes, keys: options.keys, work: Work::Get(echo::BODY_BYTES) };
    load::run(&plan, &fleet, || cluster.spent())
}

/// Publishes each key of the range once, through 64 connections over all nodes.
pub(crate) fn fill(
    cluster: &Cluster,
    keys: std::ops::Range<u64>,
    size: usize,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut writers = JoinSet::new();
        for writer in 0..CLIENTS as u64 {
            let node = usize::try_from(writer)? % cluster.addresses.len();
            let address = cluster.address(node)?;
            let range = keys.clone();
            writers.spawn(async move {
                let mut connection = Connection::new(address);
                let mut template = Template::publish(address, size);
                let mut key = range.start + writer;
                while key < range.end {
                    connection.send(template.fill(key, key)).await?;
                    let (answer, body) = connection.receive().await?;
                    let text = String::from_utf8_lossy(body).into_owned();
                    anyhow::ensure!(body == b"true", "publish answered {}: {text}", answer.status);
                    key += CLIENTS as u64;
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
