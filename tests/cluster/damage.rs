//! Files that were torn, flipped or lost while the node was down.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Cluster, Key, Options, READY, Read, Seed};

/// Every file below a directory, in order of their paths; none when there is no such directory.
pub(crate) fn files_under(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() {
            files.extend(files_under(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// A node of its own with some datums, killed.
async fn killed_node(options: &Options, count: usize) -> (Cluster, Vec<(Key, String)>) {
    let mut cluster = Cluster::alone(options).await;
    let mut datums = Vec::new();
    for number in 0..count {
        let datum =
            (Key::new(format!("datum-{number}")), format!("needle-{number}. {number:0900}"));
        cluster.client(0).publish(&datum.0, &datum.1).await.acknowledged();
        datums.push(datum);
    }
    cluster.node(0).kill();
    (cluster, datums)
}

/// Starts it again: every datum is there, and it takes writes.
async fn starts_with(cluster: &mut Cluster, datums: &[(Key, String)]) {
    cluster.node(0).start();
    cluster.ready().await;
    for (key, content) in datums {
        assert_eq!(cluster.client(0).read(key).await.as_ref(), Some(content), "{key:?}");
    }
    let key = Key::new("afterwards");
    cluster.client(0).publish(&key, "x").await.acknowledged();
    let answer = cluster.client(0).get(&key, Read::Linearizable).await.unwrap();
    assert_eq!(answer.content(), Some("x"));
}

#[tokio::test]
async fn a_damaged_datum_store_is_built_anew() {
    let mut seed = Seed::new("damaged store");
    // With snapshots and a purged log behind it, and with neither.
    for (options, count) in [(Options::small_log(), 1200), (Options::default(), 100)] {
        let (mut cluster, datums) = killed_node(&options, count).await;
        for round in 0..3 {
            let files = files_under(&cluster.nodes()[0].data().join("sled"));
            assert!(!files.is_empty(), "no file of the datum store");
            for path in &files {
                let mut bytes = fs::read(path).unwrap();
                for _ in 0..(bytes.len() / 64).min(2000) {
                    let at = seed.below(bytes.len());
                    bytes[at] = bytes[at].wrapping_add(u8::try_from(1 + seed.below(255)).unwrap());
                }
                fs::write(path, bytes).unwrap();
            }
            println!("round {round}: damaged {files:?}");
            starts_with(&mut cluster, &datums).await;
            cluster.node(0).kill();
        }
        fs::remove_dir_all(cluster.nodes()[0].data().join("sled")).unwrap();
        starts_with(&mut cluster, &datums).await;
    }
}

#[tokio::test]
async fn a_node_of_three_with_a_damaged_store_agrees_again() {
    let mut cluster = Cluster::start(3).await;
    for number in 0..100 {
        let key = Key::new(format!("datum-{number}"));
        cluster.client(number % 3).publish(&key, &format!("{number}")).await.acknowledged();
    }
    cluster.agree().await;
    let damaged = cluster.followers().await[0];
    cluster.node(damaged).kill();
    for path in files_under(&cluster.nodes()[damaged].data().join("sled")) {
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, bytes.iter().map(|byte| !byte).collect::<Vec<u8>>()).unwrap();
    }
    cluster.node(damaged).start();
    cluster.ready().await;
    cluster.agree().await;
    for number in 0..100 {
        let key = Key::new(format!("datum-{number}"));
        assert_eq!(cluster.client(damaged).read(&key).await, Some(format!("{number}")));
    }
}

/// The newest segment with something in it, and where its last byte that is not zero lies.
fn end_of_log(data: &Path) -> (PathBuf, Vec<u8>, usize) {
    let segments = files_under(&data.join("raft"));
    let last = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0);
    segments
        .into_iter()
        .rev()
        .find_map(|path| {
            let bytes = fs::read(&path).unwrap();
            // A segment prepared for later has a header at most.
            let end = last(&bytes).filter(|end| *end > 512)?;
            Some((path, bytes, end))
        })
        .expect("a segment with records")
}

/// Where this text stands for the first time in a segment, and in which.
fn find_in_log(data: &Path, text: &str) -> (PathBuf, Vec<u8>, usize) {
    files_under(&data.join("raft"))
        .into_iter()
        .find_map(|path| {
            let bytes = fs::read(&path).unwrap();
            let at = bytes.windows(text.len()).position(|window| window == text.as_bytes())?;
            Some((path, bytes, at))
        })
        .unwrap_or_else(|| panic!("{text} is not in the log as it is"))
}

#[tokio::test]
async fn a_torn_last_record_is_cut() {
    let (mut cluster, datums) = killed_node(&Options::default(), 20).await;
    // A record whose second half never reached the disk. What was torn is the last write.
    let (path, mut bytes, at) = find_in_log(&cluster.nodes()[0].data(), "needle-19.");
    bytes[at + 40..].fill(0);
    fs::write(&path, bytes).unwrap();
    starts_with(&mut cluster, &datums[..19]).await;
    assert_eq!(cluster.client(0).read(&datums[19].0).await, None);
    // The cut holds through another start.
    cluster.node(0).kill();
    starts_with(&mut cluster, &datums[..19]).await;
}

#[tokio::test]
async fn a_record_begun_at_the_end_is_cut() {
    let (mut cluster, datums) = killed_node(&Options::default(), 20).await;
    let (path, mut bytes, end) = end_of_log(&cluster.nodes()[0].data());
    // A length and some bytes that belong to no record.
    let begun = [0x40, 0x01, 0x00, 0x00, 0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4, 5, 6, 7, 8];
    // A checksum or length may end in zeros: leave the record before whole.
    bytes[end + 16..end + 16 + begun.len()].copy_from_slice(&begun);
    fs::write(&path, bytes).unwrap();
    starts_with(&mut cluster, &datums).await;
}

#[tokio::test]
async fn a_flipped_byte_in_the_middle_of_the_log_is_refused() {
    let (mut cluster, datums) = killed_node(&Options::default(), 50).await;
    let data = cluster.nodes()[0].data();
    let (path, whole, at) = find_in_log(&data, "needle-20.");
    let mut bytes = whole.clone();
    bytes[at + 3] ^= 0x10;
    fs::write(&path, bytes).unwrap();

    cluster.node(0).start();
    let status = cluster.node(0).exit(READY).await;
    assert!(!status.success(), "it started on a damaged log");
    let log = cluster.nodes()[0].log();
    let said = log.rsplit_once("---- start").expect("a start").1;
    let name = path.file_name().unwrap().to_str().unwrap();
    let line = said.lines().find(|line| line.contains(name));
    let line = line.unwrap_or_else(|| panic!("{name} is not named in:\n{said}"));
    // The offset is where the record begins, at most its header and key before the content.
    let offsets = line.split(|c: char| !c.is_ascii_digit()).filter_map(|run| run.parse().ok());
    let near = offsets.into_iter().any(|offset: usize| offset <= at && at - offset < 1024);
    assert!(near, "no offset near {at} in: {line}");

    // Nothing was thrown away: with the byte put back it starts as before.
    fs::write(&path, whole).unwrap();
    starts_with(&mut cluster, &datums).await;
}
