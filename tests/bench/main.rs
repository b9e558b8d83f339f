//! Load against three real nodes, each figure beside a baseline measured in the same run.
//!
//! `cargo bench -p quorate-server --bench bench -- publish|get|poll|grpc|start|all` starts the servers,
//! loads them by turns and prints medians over the rounds. The baselines are a bare hyper echo
//! server (this program, started again as `echo`), etcd when it is installed and r-nacos when
//! `RNACOS_BIN` names its binary. It judges nothing: floors are printed beside the ratios, and a
//! missed one does not fail the run, for the machine may have been busy.
#![expect(clippy::print_stdout, reason = "the tables are what this program is for")]

mod cluster;
mod control;
mod echo;
mod etcd;
mod fleet;
mod get;
mod grpc;
mod handover;
mod http;
mod load;
mod measure;
mod nodes;
mod options;
mod poll;
mod process;
mod publish;
mod report;
mod rnacos;
mod snapshot;
mod start;
mod wait;
mod waiters;

use clap::Parser;
use options::{Options, Scenario};

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let Some(scenario) = options.scenario_to_run() else {
        println!(
            "nothing measured: name a scenario (publish, get, poll, grpc, start, snapshot, handover, all)"
        );
        return Ok(());
    };
    if scenario == Scenario::Echo {
        return echo::serve();
    }
    let limit = process::raise_open_files()?;
    report::machine(&options, limit);
    let all = scenario == Scenario::All;
    if all || scenario == Scenario::Publish {
        publish::run(&options)?;
    }
    if all || scenario == Scenario::Get {
        get::run(&options)?;
    }
    if all || scenario == Scenario::Poll {
        poll::run(&options, limit)?;
    }
    if all || scenario == Scenario::Grpc {
        grpc::run(&options)?;
    }
    if all || scenario == Scenario::Start {
        start::run(&options)?;
    }
    if all || scenario == Scenario::Snapshot {
        snapshot::run(&options)?;
    }
    if all || scenario == Scenario::Handover {
        handover::run(&options)?;
    }
    Ok(())
}
