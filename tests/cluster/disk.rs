//! Disks that are full, slow or broken. Full ones are small file systems, which only root can
//! mount; slow and broken ones are a library between the node and the system's fsync, which a C
//! compiler makes. Where there is neither, SKIP is printed.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::harness::{Cluster, Key, Options, Probe, READY, Read, Writers, stays, wait_until};
use crate::poll::{answer, hold};

/// A file system of its own in the place of a node's data directory.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(data: PathBuf) -> Option<Self> {
        fs::create_dir_all(&data).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=32m", "tmpfs"]).arg(&data);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then_some(Self(data))
    }

    /// Takes all the space that is left, in pieces that get smaller.
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.ballast()).unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            let block = vec![0x5a; size];
            while file.write_all(&block).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

/// Three nodes on small disks.
async fn on_small_disks() -> Option<(Vec<SmallDisk>, Cluster)> {
    let mut all = Cluster::prepare(3, &Options::small_log()).await;
    let mut disks = Vec::new();
    for node in all.nodes() {
        let Some(disk) = SmallDisk::mount(node.data()) else {
            println!("SKIP full disks: no small file system can be mounted here");
            return None;
        };
        disks.push(disk);
    }
    all.start_all();
    all.ready().await;
    Some((disks, all))
}

#[tokio::test]
async fn all_disks_full_refuses_writes_and_nothing_else() {
    let Some((disks, all)) = on_small_disks().await else { return };
    let key = Key::new("kept");
    all.client(0).publish(&key, "before").await.acknowledged();
    all.agree().await;
    let mut held = hold(all.client(1), &[Probe::of(&key, "before")]).await;
    // What is preallocated can still be written; the last of it comes to an end.
    let filler = "x".repeat(64 * 1024);
    let refused = wait_until("a refused write", READY * 2, async || {
        disks.iter().for_each(SmallDisk::fill);
        let answer = all.client(0).try_publish(&Key::new("filler"), &filler).await.unwrap();
        (answer.status != 200).then_some(answer)
    })
    .await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.header("Retry-After"), Some("1"));
    wait_until("the refusal that names the disk", READY * 2, async || {
        disks.iter().for_each(SmallDisk::fill);
        let answer = all.client(0).try_publish(&Key::new("filler"), &filler).await.unwrap();
        assert_ne!(answer.status, 200, "{answer:?}");
        answer.text().starts_with("caused: disk full, data not published").then_some(())
    })
    .await;
    for client in all.clients() {
        assert_eq!(client.read(&key).await.as_deref(), Some("before"));
    }
    assert!(!held[0].is_finished(), "nothing has changed");

    disks.iter().for_each(SmallDisk::free);
    wait_until("an acknowledged write", READY, async || {
        all.client(0).publish(&key, "after").await.is_acknowledged().then_some(())
    })
    .await;
    assert_eq!(answer(held.remove(0)).await, key.changed());
    all.agree().await;
    for node in all.nodes() {
        assert_eq!(node.log().matches("---- start").count(), 1, "a node was started again");
    }
    drop((all, disks));
}

#[tokio::test]
async fn one_full_disk_stops_nobody() {
    let Some((disks, all)) = on_small_disks().await else { return };
    for at in [all.followers().await[0], all.leader().await] {
        disks[at].fill();
        let others: Vec<_> =
            (0..3).filter(|it| *it != at).map(|it| all.client(it).clone()).collect();
        let writers = Writers::start(&others, 4);
        writers.progress(300, READY * 2).await;
        disks[at].free();
        all.ready().await;
        let history = writers.stop().await;
        all.agree().await;
        for client in all.clients() {
            history.check(&client).await;
        }
    }
    drop((all, disks));
}

/// Stands before the system's fsync: the file that `QUORATE_FSYNC` names has the milliseconds that
/// each takes, or the word EIO.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
static int fault(void) {
  char text[16] = "";
  const char *path = getenv("QUORATE_FSYNC");
  FILE *file = path ? fopen(path, "r") : 0;
  if (!file) return 0;
  if (!fgets(text, sizeof text, file)) text[0] = 0;
  fclose(file);
  if (!strncmp(text, "EIO", 3)) { errno = EIO; return -1; }
  usleep(atoi(text) * 1000);
  return 0;
}
int fdatasync(int fd) { return fault() ? -1 : (int)syscall(SYS_fdatasync, fd); }
int fsync(int fd) { return fault() ? -1 : (int)syscall(SYS_fsync, fd); }
"#;

/// Starts the nodes with the library; gives the file by which each node's fsync is told what to do.
async fn with_shim(dir: &Path) -> Option<(Vec<PathBuf>, Cluster)> {
    let (source, library) = (dir.join("shim.c"), dir.join("shim.so"));
    fs::write(&source, SHIM).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
    if !cc.status().is_ok_and(|status| status.success()) {
        println!("SKIP slow and broken disks: no C compiler");
        return None;
    }
    let mut all = Cluster::prepare(3, &Options::default()).await;
    let told: Vec<_> = (0..3).map(|at| dir.join(format!("fsync-{at}"))).collect();
    for (at, told) in told.iter().enumerate() {
        let preload = format!("LD_PRELOAD={}", library.display());
        let told = format!("QUORATE_FSYNC={}", told.display());
        all.node(at).set_wrapper(vec!["env".to_owned(), preload, told]);
    }
    all.start_all();
    all.ready().await;
    Some((told, all))
}

#[tokio::test]
async fn a_slow_disk_costs_the_others_no_election() {
    let dir = tempfile::tempdir().unwrap();
    let Some((told, all)) = with_shim(dir.path()).await else { return };
    let slow = all.followers().await[0];
    let others: Vec<_> = (0..3).filter(|it| *it != slow).collect();
    let term = all.client(others[0]).state().await.unwrap().term;
    fs::write(&told[slow], "500").unwrap();
    let clients: Vec<_> = others.iter().map(|at| all.client(*at).clone()).collect();
    let writers = Writers::start(&clients, 4);
    stays("the term", Duration::from_secs(8), async || {
        all.client(others[0]).state().await.is_ok_and(|state| state.term == term)
    })
    .await;
    let written = writers.acknowledged();
    let history = writers.stop().await;
    assert_eq!((history.refused, history.unknown), (0, 0));
    assert!(written > 200, "{written} writes: held up by the slow one");
    fs::remove_file(&told[slow]).unwrap();
    all.agree().await;
    history.check(all.client(slow)).await;
}

#[tokio::test]
async fn a_failed_fsync_ends_the_node_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let Some((told, mut all)) = with_shim(dir.path()).await else { return };
    let broken = all.leader().await;
    let writers = Writers::start(&all.clients(), 4);
    writers.progress(50, READY).await;
    fs::write(&told[broken], "EIO").unwrap();
    assert!(!all.node(broken).exit(READY).await.success());
    assert!(all.nodes()[broken].log().contains("fsync"), "{}", all.nodes()[broken].log());
    writers.progress(50, READY).await;
    fs::remove_file(&told[broken]).unwrap();
    all.node(broken).start();
    all.ready().await;
    let history = writers.stop().await;
    all.agree().await;
    for client in all.clients() {
        history.check(&client).await;
    }
    let state = all.client(broken).get(&Key::new("none"), Read::Linearizable).await.unwrap();
    assert_eq!(state.status, 404);
}
