//! What the store costs: applying, the copy on disk, the snapshot file, and memory per
//! configuration after a restart.
//!
//! `cargo bench -p quorate-core --bench store` prints plain lines. Bytes are growth of the
//! resident set of a process of its own that loads what another one wrote.
#![expect(clippy::print_stdout, reason = "printing figures is what a bench is for")]

use std::error::Error;
use std::path::Path;
use std::process::Command as Process;

use bytes::Bytes;
use quorate_core::command::{
    Cause, Command, Describe, Presence, Proposal, ProposalId, Publish, Writer,
};
use quorate_core::content::{ContentType, Md5};
use quorate_core::key::GroupKey;
use quorate_core::store::disk::{Batch, Disk, DiskOptions, Loaded};
use quorate_core::store::{State, Store, dump};
use quorate_core::time::{LogTime, Revision};
use tokio::runtime::Builder;
use tokio::time::Instant;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const CONFIGS: u64 = 100_000;
const CONTENT_BYTES: usize = 100;
/// Entries applied under one lock.
const GROUP: u64 = 64;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["load", dir] => load(Path::new(dir)),
        // `cargo test --all-targets` builds this and must not wait for it.
        [.., "--bench"] => measure(),
        _ => {
            println!("run by cargo bench");
            Ok(())
        }
    }
}

fn key(number: u64) -> Result<GroupKey> {
    Ok(GroupKey::from_record(&format!("public\u{2}G\u{2}application-{number:08}"))?)
}

fn publish(index: u64, number: u64) -> Result<Proposal> {
    let mut content = format!("{index:020} ").into_bytes();
    content.resize(CONTENT_BYTES, b'x');
    let publish = Publish {
        key: key(number)?,
        md5: Md5::of(&content),
        content: Bytes::from(content),
        content_type: ContentType::Text,
        describe: Describe::default(),
        writer: Writer { user: "nacos".to_owned(), ip: "10.0.0.1".to_owned() },
        expected: None,
        presence: Presence::Any,
        cause: Cause::Publish,
    };
    let id = ProposalId { origin: 1, nonce: 1, sequence: index + 1, floor: index };
    Ok(Proposal { id, time: LogTime(index), command: Command::Publish(publish) })
}

/// Applies `CONFIGS` publishes from `first` on, in an order that is not the keys', and hands
/// them to the disk, if there is one.
async fn apply(store: &Store, first: u64, disk: Option<&Disk>) -> Result<()> {
    let proposals = (first..first + CONFIGS)
        .map(|index| publish(index, index * 7919 % CONFIGS).map(|proposal| (index, proposal)))
        .collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    for group in proposals.chunks(usize::try_from(GROUP)?) {
        let mut batch = Batch { changes: Vec::new(), header: Bytes::new() };
        let mut apply = store.apply();
        for (index, proposal) in group {
            let applied = apply.proposal(Revision(index + 1), proposal);
            apply.mark(1, *index, Revision(index + 1));
            batch.changes.extend(applied.changes);
        }
        batch.changes.extend(apply.origin_changes());
        batch.header = apply.header_record();
        drop(apply);
        if let Some(disk) = disk {
            disk.submit(batch).await;
        }
    }
    let applied = begun.elapsed();
    let Some(disk) = disk else {
        println!("apply: {}", rate(applied.as_secs_f64()));
        return Ok(());
    };
    disk.sync().await?;
    let written = begun.elapsed();
    println!(
        "apply with the disk behind: {}, written after {:.2} s",
        rate(applied.as_secs_f64()),
        written.as_secs_f64()
    );
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a count of 100 000")]
fn rate(seconds: f64) -> String {
    format!("{:.0}/s ({seconds:.3} s)", CONFIGS as f64 / seconds)
}

fn measure() -> Result<()> {
    let home = tempfile::tempdir()?;
    let dir = home.path().join("sled");
    let options = DiskOptions::default();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let state = runtime.block_on(async {
        apply(&Store::default(), 0, None).await?;
        let store = Store::default();
        let disk = Disk::open(&dir, &options)?;
        for pass in 0..3 {
            apply(&store, pass * CONFIGS, Some(&disk)).await?;
        }
        let begun = Instant::now();
        disk.rebuild(store.freeze()).await;
        disk.sync().await?;
        println!("rebuild: {:.2} s", begun.elapsed().as_secs_f64());
        apply(&store, 3 * CONFIGS, Some(&disk)).await?;
        disk.close().await;
        Ok::<_, Box<dyn Error>>(store.freeze())
    })?;
    snapshot(&state, home.path())?;
    let size = std::fs::metadata(dir.join("db"))?.len();
    println!("sled's log: {} bytes per configuration", size / CONFIGS);
    let status = Process::new(std::env::current_exe()?).arg("load").arg(&dir).status()?;
    if status.success() { Ok(()) } else { Err("loading failed".into()) }
}

fn snapshot(state: &State, home: &Path) -> Result<()> {
    let path = home.join("a.snap");
    let begun = Instant::now();
    let info = dump::write(state, 1, &path, |_| Ok(()))?;
    let written = begun.elapsed().as_secs_f64();
    let (read, _) = dump::read(&path)?;
    let done = begun.elapsed().as_secs_f64();
    println!(
        "snapshot of {} bytes: written in {written:.2} s, read in {:.2} s",
        info.bytes,
        done - written
    );
    if read.hash() == state.hash() { Ok(()) } else { Err("another state was read".into()) }
}

fn load(dir: &Path) -> Result<()> {
    let before = resident()?;
    let begun = Instant::now();
    let Loaded::Good(state) = Disk::load(dir, &DiskOptions::default()) else {
        return Err("unusable".into());
    };
    let seconds = begun.elapsed().as_secs_f64();
    let loaded = resident()?;
    let disk = Disk::open(dir, &DiskOptions::default())?;
    Builder::new_current_thread().enable_all().build()?.block_on(disk.sync())?;
    let opened = resident()?;
    let key_bytes = key(0)?.as_str().len() as u64;
    let data = key_bytes + CONTENT_BYTES as u64;
    let per = |to: u64| ((to - before) / CONFIGS).saturating_sub(data);
    println!(
        "load: {seconds:.2} s; over {data} bytes of key and content: {} bytes per configuration, \
         {} with sled open again",
        per(loaded),
        per(opened)
    );
    drop(disk);
    drop(state);
    Ok(())
}

/// Resident set of this process in bytes.
fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    let kibibytes: u64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kibibytes * 1024)
}
