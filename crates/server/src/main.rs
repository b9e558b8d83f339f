//! The binary `quorate`: flags → configuration → run.

mod administer;
mod archive;
mod ask;
mod cli;
mod client_log;
mod clock;
mod config;
mod failure;
mod grpc;
mod health;
mod http;
mod metrics;
mod operations;
mod parameters;
mod run;
mod sockets;
mod switches;
mod telemetry;

use std::io::Write;
use std::process::ExitCode;

use crate::cli::Invocation;
use crate::config::Config;

/// Held polls cost less with it than with the system's allocator (docs/decisions).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match cli::invocation() {
        Invocation::Health(question) => question.run(),
        Invocation::Cluster(administration) => administration.run(),
        Invocation::Files(task) => task.run(),
        Invocation::Serve(settings) => match Config::from_settings(settings) {
            Ok(config) => serve(config),
            Err(mistakes) => complain(&format!("settings are wrong:\n{mistakes}")),
        },
    }
}

fn serve(config: Config) -> ExitCode {
    if let Err(error) = telemetry::install(&config) {
        return complain(&format!("{error:#}"));
    }
    let served = tokio::runtime::Builder::new_multi_thread()
        .thread_name("edge")
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            let served = runtime.block_on(run::run(config));
            // Nothing that is left may keep the process: everything was waited for by name.
            runtime.shutdown_background();
            served
        });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "quorate ends");
            complain(&format!("{error:#}"))
        }
    }
}

fn complain(text: &str) -> ExitCode {
    // With stderr closed there is nobody to tell; the exit code still does.
    drop(writeln!(std::io::stderr().lock(), "quorate: {text}"));
    ExitCode::FAILURE
}
