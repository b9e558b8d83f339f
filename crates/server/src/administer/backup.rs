//! `quorate backup`, `quorate restore` and `quorate check`: the state of a cluster as a file, and
//! data directories that no node uses.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

use super::client::Server;
use super::{good, show};

/// Bytes asked for at once.
const PART_BYTES: u64 = 4 << 20;

/// What to do with files.
#[derive(Debug, Clone)]
pub(crate) enum FileTask {
    /// Fetch a backup from a running node.
    Backup { server: String, secret_file: Option<String>, out: PathBuf },
    /// Make a data directory of a backup.
    Restore { from: PathBuf, data_dir: PathBuf },
    /// Look a data directory over.
    Check { data_dir: PathBuf },
}

impl FileTask {
    /// Does it, prints what was done, and makes that an exit code.
    pub(crate) fn run(&self) -> ExitCode {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let done = runtime.map_err(|error| error.to_string()).and_then(|runtime| match self {
            Self::Backup { server, secret_file, out } => runtime
                .block_on(backup(server, secret_file.as_deref(), out))
                .map(|text| (text, true)),
            Self::Restore { from, data_dir } => {
                runtime.block_on(restore(from, data_dir)).map(|text| (text, true))
            }
            Self::Check { data_dir } => check(data_dir),
        });
        match done {
            Ok((text, healthy)) => {
                show::print(&text);
                if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            }
            Err(why) => {
                show::complain(&why);
                ExitCode::FAILURE
            }
        }
    }
}

fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn backup(server: &str, secret_file: Option<&str>, out: &Path) -> Result<String, String> {
    let server = Server::new(server, secret_file)?;
    let begun = good(&server.post("/quorate/v1/backup", &Value::Null).await?)?;
    let name = begun["name"].as_str().unwrap_or_default();
    let size = begun["sizeBytes"].as_u64().unwrap_or_default();
    let said = |error: std::io::Error| format!("{}: {error}", out.display());
    let mut beside = out.as_os_str().to_owned();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    let mut file = File::create(&beside).map_err(said)?;
    let mut offset = 0;
    while offset < size {
        let path = format!("/quorate/v1/backup?name={name}&offset={offset}&length={PART_BYTES}");
        let part = server.get(&path).await?;
        if part.status != 200 {
            good(&part)?;
        }
        if part.body.is_empty() {
            return Err(format!("the backup ends at byte {offset} of {size}"));
        }
        file.write_all(&part.body).map_err(said)?;
        offset += part.body.len() as u64;
    }
    file.sync_all().map_err(said)?;
    drop(file);
    let path = beside.clone();
    let state = tokio::task::spawn_blocking(move || quorate_raft::restore::read(&path))
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| format!("what came does not verify: {error}"))?;
    std::fs::rename(&beside, out).map_err(said)?;
    Ok(format!(
        "{}: revision {}, {} configurations, {size} bytes, state hash {}\n",
        out.display(),
        state.header().revision.0,
        state.config_count(),
        hex(&state.hash()),
    ))
}

async fn restore(from: &Path, data_dir: &Path) -> Result<String, String> {
    let restored = quorate_raft::restore::restore(from, data_dir).await;
    let restored = restored.map_err(|error| chain(&error))?;
    Ok(format!(
        "{}: node {:016x} of the new cluster {:016x}, revision {}, {} configurations, state hash \
         {}\nstart it with `quorate serve --data-dir {0}`; empty nodes whose peers name it join it\n",
        data_dir.display(),
        restored.node_id,
        restored.cluster_id,
        restored.revision,
        restored.configs,
        hex(&restored.state_hash),
    ))
}

fn check(data_dir: &Path) -> Result<(String, bool), String> {
    let findings = quorate_raft::verify::verify(data_dir).map_err(|error| error.to_string())?;
    let mut text = String::new();
    for (head, lines) in
        [("good ", &findings.good), ("heals", &findings.heals), ("WRONG", &findings.wrong)]
    {
        for line in lines {
            text.push_str(&format!("{head}  {line}\n"));
        }
    }
    Ok((text, findings.wrong.is_empty()))
}

/// An error and what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
