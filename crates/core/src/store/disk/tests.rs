//! What was written comes back, whatever happens to the disk, and what is no store of this release
//! is noticed. Killed processes and damaged directories: [`damage`].

mod damage;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::sample::{Feed, assert_same, command, key, noise, publish, remove};
use super::tree::{Tree, guarded};
use super::{Disk, DiskError, DiskOptions, Loaded, folder, scan};
use crate::command::Command;
use crate::store::State;

fn options() -> DiskOptions {
    DiskOptions { linger: Duration::from_millis(2), ..DiskOptions::default() }
}

fn load(dir: &Path) -> State {
    match Disk::load(dir, &options()) {
        Loaded::Good(state) => state,
        other @ (Loaded::Empty | Loaded::Unusable { .. }) => panic!("{other:?}"),
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            // A running sled may have just removed it.
            drop(fs::copy(entry.path(), target));
        }
    }
}

/// Keys in the tree, and whether sled made files outside of its log.
fn raw(dir: &Path) -> (usize, usize) {
    let db = sled::open(dir).unwrap();
    let blobs = fs::read_dir(dir.join("blobs")).unwrap().count();
    (db.len(), blobs)
}

async fn written(dir: &Path, commands: Vec<Command>) -> Feed {
    let disk = Disk::open(dir, &options()).unwrap();
    let mut feed = Feed::default();
    for command in commands {
        disk.submit(feed.step(command)).await;
    }
    disk.close().await;
    feed
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn what_was_written_comes_back(
        first in prop::collection::vec(command(), 0..40),
        second in prop::collection::vec(command(), 1..20),
    ) {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("sled");
        run(async {
            let feed = written(&dir, first.clone()).await;
            assert_same(&load(&dir), &feed.state());
            let disk = Disk::open(&dir, &options()).unwrap();
            let mut feed = Feed::from(feed.state());
            for command in second {
                disk.submit(feed.step(command)).await;
            }
            let applied = feed.state().header().applied.map(|(_, index)| index);
            assert_eq!(disk.sync().await, Ok(applied));
            assert_eq!((disk.written(), disk.is_suspended()), (applied, false));
            assert_eq!(disk.lag(), super::Lag::default());
            drop(disk);
            assert_same(&load(&dir), &feed.state());
        });
    }
}

#[test]
fn a_directory_that_is_not_there_is_empty() {
    let home = tempfile::tempdir().unwrap();
    assert!(matches!(Disk::load(&home.path().join("sled"), &options()), Loaded::Empty));
}

#[tokio::test]
async fn large_rows_are_cut_and_their_chunks_go_with_them() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("sled");
    let mut commands: Vec<_> =
        (0..8).map(|number| publish(number, noise(number.into(), 700_000))).collect();
    let feed = written(&dir, commands.clone()).await;
    assert_same(&load(&dir), &feed.state());
    let (keys, blobs) = raw(&dir);
    // Eight configurations of an entry and 114 chunks, three origins, header and format.
    assert_eq!((keys, blobs), (8 * 115 + 3 + 2, 0));

    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("sled");
    commands.extend([publish(0, noise(1, 20)), publish(1, noise(2, 50_000)), remove(2)]);
    let feed = written(&dir, commands).await;
    assert_same(&load(&dir), &feed.state());
    let (keys, _) = raw(&dir);
    assert_eq!(keys, 5 * 115 + 1 + 10 + 3 + 2);
}

#[test]
fn a_scan_goes_on_where_a_slice_ended() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("sled");
    let feed = run(async { written(&dir, (0..60).map(nth).collect()).await });
    // Within chunks, between them, and after each key.
    for slice in [1, 5_000, 6_144, 40_000] {
        assert_same(&scan::read_sliced(&dir, &options(), slice).unwrap(), &feed.state());
    }
}

/// The history that [`killed_child`] writes: what index `index` did.
fn nth(index: u64) -> Command {
    let number = u32::try_from(index * 7 % 50).unwrap();
    match index % 11 {
        0 => remove(number),
        1 => publish(number, noise(index, 30_000)),
        _ => publish(number, noise(index, usize::try_from(index % 300).unwrap())),
    }
}

#[tokio::test]
async fn a_fault_suspends_until_a_rebuild() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("sled");
    // sled's log cannot be opened.
    fs::create_dir_all(dir.join("db")).unwrap();
    let disk = Disk::open(&dir, &options()).unwrap();
    let mut feed = Feed::default();
    for number in 0..9000 {
        disk.submit(feed.step(publish(number % 50, noise(1, 10)))).await;
    }
    assert_eq!(disk.sync().await, Err(DiskError::Suspended));
    assert!(disk.is_suspended());
    assert_eq!((disk.lag(), disk.written()), (super::Lag::default(), None));

    disk.rebuild(feed.state()).await;
    disk.submit(feed.step(publish(51, noise(2, 10)))).await;
    assert_eq!(disk.sync().await, Ok(Some(9000)));
    assert!(!disk.is_suspended());
    disk.close().await;
    assert_same(&load(&dir), &feed.state());
}

#[tokio::test]
async fn a_full_disk_suspends_and_space_ends_it() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("sled");
    let disk = Disk::open(&dir, &options()).unwrap();
    let mut feed = Feed::default();
    disk.submit(feed.step(nth(0))).await;
    assert_eq!(disk.sync().await, Ok(Some(0)));
    disk.shared.full.store(true, Ordering::Release);
    for index in 1..200 {
        disk.submit(feed.step(nth(index))).await;
    }
    assert_eq!(disk.sync().await, Err(DiskError::Suspended));
    disk.rebuild(feed.state()).await;
    disk.shared.full.store(false, Ordering::Release);
    disk.submit(feed.step(nth(200))).await;
    assert_eq!(disk.sync().await, Ok(Some(200)));
    drop(disk);
    assert_same(&load(&dir), &feed.state());
}

#[test]
fn sled_on_a_full_disk_is_a_fault_and_no_hang() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("sled");
    fs::create_dir_all(&dir).unwrap();
    std::os::unix::fs::symlink("/dev/full", dir.join("db")).unwrap();
    let result = guarded(|| {
        let mut tree = Tree::create(&dir, &options())?;
        let mut batch = sled::Batch::default();
        for number in 0..200 {
            tree.stage(&mut batch, &super::rows::config_key(&key(number)), &noise(1, 10_000))?;
        }
        tree.commit_staged(batch)?;
        tree.sync(&dir)
    });
    let fault = result.unwrap_err();
    assert!(fault.to_string().contains("No space left"), "{fault}");
}

#[tokio::test]
async fn a_rebuild_replaces_all() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("sled");
    written(&dir, (0..100).map(nth).collect()).await;
    let mut feed = Feed::default();
    for number in 0..3000 {
        feed.step(publish(number, noise(number.into(), 800)));
    }
    let disk = Disk::open(&dir, &options()).unwrap();
    disk.rebuild(feed.state()).await;
    for number in 0..500 {
        disk.submit(feed.step(publish(number * 7, Bytes::from_static(b"later")))).await;
        disk.submit(feed.step(remove(number * 7 + 1))).await;
    }
    disk.close().await;
    let loaded = load(&dir);
    assert_same(&loaded, &feed.state());
    assert!(loaded.config(&key(1)).is_none());
    let names: Vec<_> =
        fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["sled"]);
}

#[tokio::test]
async fn the_queue_is_bounded_by_count_and_by_bytes() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("sled");
    let small = DiskOptions { queue_batches: 4, queue_bytes: 5_000, merge_keys: 2, ..options() };
    let disk = Disk::open(&dir, &small).unwrap();
    let mut feed = Feed::default();
    for number in 0..100 {
        // Every tenth is larger than the whole queue.
        let length = if number % 10 == 0 { 20_000 } else { 700 };
        disk.submit(feed.step(publish(number, noise(number.into(), length)))).await;
        let lag = disk.lag();
        assert!(lag.batches <= 4, "{lag:?}");
        assert!(lag.bytes < 26_000, "{lag:?}");
    }
    disk.close().await;
    disk.submit(feed.step(publish(1, Bytes::new()))).await;
    assert_eq!(disk.sync().await, Err(DiskError::Closed));
    assert_eq!(load(&dir).header().applied, Some((1, 99)));
}

#[test]
fn interrupted_swaps_are_finished() {
    // Which directories a crash left, and which one is loaded.
    for (left, want) in [
        (&["", ".new"][..], ""),
        (&["", ".new", ".old"], ""),
        (&["", ".old"], ""),
        (&[".new", ".old"], ".new"),
        (&[".old"], ".old"),
    ] {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("sled");
        for name in left {
            let path = folder::sibling(&dir, name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("name"), name).unwrap();
        }
        folder::finish_swap(&dir).unwrap();
        assert_eq!(fs::read_to_string(dir.join("name")).unwrap(), want, "{left:?}");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "{left:?}");
    }
}

#[test]
fn the_newest_two_bad_copies_are_kept() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("sled");
    for round in 1..=12 {
        fs::create_dir(&dir).unwrap();
        let target = Disk::set_aside(&dir).unwrap();
        assert_eq!(target, home.path().join(format!("sled.bad.{round}")));
    }
    let mut names: Vec<_> =
        fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["sled.bad.11", "sled.bad.12"]);
}

#[test]
fn openings_that_die_make_it_unusable() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("sled");
    run(async { written(&dir, (0..10).map(nth).collect()).await });
    for _ in 0..3 {
        assert!(folder::begin_opening(&dir).unwrap());
    }
    assert!(matches!(Disk::load(&dir, &options()), Loaded::Unusable { .. }));
    Disk::set_aside(&dir).unwrap();
    assert!(matches!(Disk::load(&dir, &options()), Loaded::Empty));
}

#[test]
fn a_half_written_sled_snapshot_does_no_harm() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("sled");
    run(async { written(&dir, (0..10).map(nth).collect()).await });
    fs::write(dir.join("snap.FFFFFFFFFFFFFFFF.generating"), b"cut").unwrap();
    load(&dir);
}

#[test]
fn a_newer_format_is_unusable() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("sled");
    run(async { written(&dir, (0..10).map(nth).collect()).await });
    let db = sled::open(&dir).unwrap();
    db.insert(b"f", &2_u32.to_be_bytes()).unwrap();
    drop(db);
    assert!(matches!(Disk::load(&dir, &options()), Loaded::Unusable { .. }));
}

#[test]
fn rows_of_another_time_are_noticed() {
    // Behind the header's back: what sled itself would hold for undamaged.
    type Edit = fn(&sled::Db);
    let edits: [Edit; 5] = [
        |db| drop(db.remove([b"o".as_slice(), &1_u64.to_be_bytes()].concat()).unwrap()),
        |db| drop(db.remove(super::rows::config_key(&key(14))).unwrap()),
        |db| drop(db.insert(b"c\0", b"").unwrap()),
        |db| drop(db.insert(b"z", b"").unwrap()),
        |db| drop(db.remove(b"h").unwrap()),
    ];
    for (number, edit) in edits.iter().enumerate() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("sled");
        run(async { written(&dir, (0..10).map(nth).collect()).await });
        let db = sled::open(&dir).unwrap();
        edit(&db);
        drop(db);
        assert!(matches!(Disk::load(&dir, &options()), Loaded::Unusable { .. }), "{number}");
    }
}
