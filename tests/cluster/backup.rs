//! Backups of a running cluster, restoring them, and looking data directories over.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::harness::{
    Cluster, Key, Options, Printed, READY, Writers, cluster_status, quorate, wait_until,
};

async fn backup(all: &Cluster, at: usize, out: &Path) -> Printed {
    let server = format!("http://{}", all.client(at).address());
    quorate(&["backup", "--server", &server, "--out", out.to_str().unwrap()]).await
}

async fn restore(from: &Path, to: &Path) -> Printed {
    let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
    quorate(&["restore", "--from", from, "--data-dir", to]).await
}

fn flip_a_byte(path: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], offset).unwrap();
}

fn only_file(dir: &Path, suffix: &str) -> PathBuf {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|it| it == suffix)).collect();
    files.sort();
    files.swap_remove(0)
}

#[tokio::test]
async fn a_backup_restored_is_the_state_at_its_revision() {
    let all = Cluster::start_with(3, &Options::small_log()).await;
    let key = |number: usize| Key::new(format!("key-{number}"));
    for number in 0..300 {
        let content = format!("{number} {}", "x".repeat(number * 20));
        all.client(number % 3).publish(&key(number), &content).await.acknowledged();
    }
    all.client(0).remove(&key(7)).await.acknowledged();
    wait_until("the feature level of this release", READY, async || {
        (cluster_status(all.client(0)).await["featureLevel"] == 3).then_some(())
    })
    .await;
    let before = all.agree().await;
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("backup");
    let said = backup(&all, 1, &file).await.done();
    assert!(said.contains(&format!("revision {},", before.revision)), "{said} {before:?}");
    assert!(said.contains(&before.state_hash), "{said} {before:?}");

    let mut new = all.beside(&Options::small_log());
    let data = new.nodes()[0].data();
    let said = restore(&file, &data).await.done();
    assert!(said.contains(&before.state_hash), "{said} {before:?}");
    let again = restore(&file, &data).await.refused();
    assert!(again.contains("is not empty"), "{again}");
    new.start_all();
    new.ready().await;
    let after = new.client(0).state().await.unwrap();
    assert_ne!(after.cluster_id, before.cluster_id);
    assert_ne!(after.node_id, before.node_id);
    assert!(after.revision >= before.revision, "{after:?} {before:?}");
    for number in 0..300 {
        let key = key(number);
        let old = all.client(0).read(&key).await;
        assert_eq!(new.client(0).read(&key).await, old, "{number}");
    }
    let revision = new.client(0).publish(&key(7), "again").await.acknowledged();
    assert!(revision > before.revision);
    // It grows like any other cluster, by snapshot, for its log begins behind the backup.
    let at = new.grow(&Options::small_log());
    new.node(at).start();
    new.ready().await;
    new.agree().await;
    assert_eq!(new.client(at).read(&key(7)).await.as_deref(), Some("again"));
}

#[tokio::test]
async fn a_backup_is_taken_while_everyone_writes() {
    let all = Cluster::start_with(3, &Options::small_log()).await;
    let writers = Writers::start(&all.clients(), 4);
    let home = tempfile::tempdir().unwrap();
    for number in 0..3 {
        writers.progress(100, READY).await;
        let key = Key::new(format!("before-{number}"));
        all.client(number).publish(&key, "acknowledged").await.acknowledged();
        // Asked of another node than the one that was written to.
        let file = home.path().join(format!("{number}"));
        backup(&all, (number + 1) % 3, &file).await.done();
        let mut new = all.beside(&Options::default());
        restore(&file, &new.nodes()[0].data()).await.done();
        new.start_all();
        new.ready().await;
        assert_eq!(new.client(0).read(&key).await.as_deref(), Some("acknowledged"));
    }
    let history = writers.stop().await;
    assert_eq!((history.refused, history.unknown), (0, 0));
}

#[tokio::test]
async fn a_damaged_backup_is_refused_and_leaves_nothing() {
    let all = Cluster::alone(&Options::default()).await;
    all.client(0).publish(&Key::new("k"), &"x".repeat(10_000)).await.acknowledged();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("backup");
    backup(&all, 0, &file).await.done();
    flip_a_byte(&file, 60);
    let data = home.path().join("data");
    let refused = restore(&file, &data).await.refused();
    assert!(refused.contains("is damaged near byte"), "{refused}");
    assert!(!data.exists());
    let missing = restore(&home.path().join("absent"), &data).await.refused();
    assert!(missing.contains("absent"), "{missing}");
}

#[tokio::test]
async fn a_data_directory_is_looked_over() {
    let mut all = Cluster::alone(&Options::small_log()).await;
    for number in 0..50 {
        let key = Key::new(format!("k{number}"));
        all.client(0).publish(&key, &"x".repeat(5000)).await.acknowledged();
    }
    let data = all.nodes()[0].data();
    let path = data.to_str().unwrap().to_owned();
    let busy = quorate(&["check", &path]).await.refused();
    assert!(busy.contains("in use by a running node"), "{busy}");
    all.node(0).stop().await;
    let said = quorate(&["check", &path]).await.done();
    for part in ["identity: node", "log: 5", "store: index"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!data.join("sled.checking").exists());
    let segment = only_file(&data.join("raft"), "seg");
    flip_a_byte(&segment, 3000);
    let found = quorate(&["check", &path]).await;
    assert!(!found.success && found.out.contains("WRONG  log:"), "{found:?}");
    assert!(found.out.contains(segment.to_str().unwrap()), "{found:?}");
    flip_a_byte(&segment, 3000);
    quorate(&["check", &path]).await.done();
    let absent = quorate(&["check", &format!("{path}/absent")]).await.refused();
    assert!(absent.contains("absent"), "{absent}");
}
