//! The log as a whole: openraft's own suite, durability, damage, bounds.

use std::fs;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::alias::OneshotOf;
use openraft::async_runtime::Oneshot;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use tempfile::TempDir;

use super::*;
use crate::types::{Entry, Record, TypeConfig};

mod crash;
mod model;
mod suite;

type Flushed = <OneshotOf<TypeConfig> as Oneshot>::Receiver<io::Result<()>>;

/// A log in a directory of its own.
struct Log {
    dir: TempDir,
    options: LogOptions,
    disk: Disk,
    store: LogStore,
    handle: LogHandle,
    reader: LogReader,
}

fn small() -> LogOptions {
    LogOptions { segment_bytes: 4096, cache_bytes: 2048, read_bytes: 4096, queue_bytes: 1 << 20 }
}

fn id(term: u64, index: u64) -> LogId {
    record::log_id(term, index)
}

fn entry(term: u64, index: u64, len: usize) -> Entry {
    // No zeros, so that the tests see where a record ends.
    let content: Vec<u8> = index.to_be_bytes().map(|byte| byte | 1).repeat(len.div_ceil(8));
    let content = content.into_iter().rev().take(len).collect::<Vec<_>>();
    let payload = match len {
        0 => EntryPayload::Blank,
        _ => EntryPayload::Normal(Record(Bytes::from(content))),
    };
    Entry { log_id: id(term, index), payload }
}

fn entries(range: Range<u64>, len: usize) -> Vec<Entry> {
    range.map(|index| entry(1, index, len)).collect()
}

impl Log {
    async fn new(options: LogOptions) -> Self {
        Self::open(tempfile::tempdir().unwrap(), options).await.unwrap()
    }

    async fn open(dir: TempDir, options: LogOptions) -> Result<Self, LogError> {
        let disk = Disk::default();
        let (mut store, handle) = open_on(disk.clone(), dir.path(), options.clone())?;
        let reader = store.get_log_reader().await;
        Ok(Self { dir, options, disk, store, handle, reader })
    }

    fn close(self) -> TempDir {
        self.handle.shutdown();
        self.dir
    }

    async fn reopen(self) -> Self {
        let options = self.options.clone();
        Self::open(self.close(), options).await.unwrap()
    }

    /// Appends without waiting for the disk.
    async fn submit(&mut self, entries: Vec<Entry>) -> io::Result<Flushed> {
        let (tx, rx) = OneshotOf::<TypeConfig>::channel();
        self.store.append(entries, IOFlushed::signal(tx)).await?;
        Ok(rx)
    }

    async fn append(&mut self, entries: Vec<Entry>) -> io::Result<()> {
        self.submit(entries).await?.await.unwrap()
    }

    async fn all(&mut self) -> Vec<Entry> {
        self.reader.try_get_log_entries(..).await.unwrap()
    }

    fn segments(&self) -> Vec<u64> {
        segment::list(self.dir.path()).unwrap().into_iter().map(|(sequence, _)| sequence).collect()
    }

    fn fsyncs(&self) -> u64 {
        self.handle.metrics().fsyncs.get()
    }
}

/// Looks until it is so: counters of the writer's thread tell nobody when they change.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[tokio::test]
async fn an_empty_log_has_nothing() {
    let mut log = Log::new(LogOptions::default()).await.reopen().await;
    assert_eq!(log.all().await, []);
    assert_eq!(log.handle.last_log_id(), None);
    assert_eq!(log.reader.read_vote().await.unwrap(), None);
    assert_eq!(log.store.read_committed().await.unwrap(), None);
}

#[tokio::test]
async fn everything_survives_a_restart() {
    let mut log = Log::new(small()).await;
    let vote = Vote::new(7, 0xdead_beef_0000_0001);
    log.append(entries(0..50, 100)).await.unwrap();
    log.store.save_vote(&vote).await.unwrap();
    log.store.save_committed(Some(id(1, 40))).await.unwrap();
    log.store.truncate_after(Some(id(1, 44))).await.unwrap();
    log.append(vec![entry(3, 45, 10), entry(3, 46, 0)]).await.unwrap();
    let before = log.all().await;
    let mut log = log.reopen().await;
    assert_eq!(log.all().await, before);
    assert_eq!(before.len(), 47);
    assert_eq!(before[45].log_id, id(3, 45));
    assert_eq!(log.reader.read_vote().await.unwrap(), Some(vote));
    assert_eq!(log.store.read_committed().await.unwrap(), Some(id(1, 40)));
    assert_eq!(log.handle.last_log_id(), Some(id(3, 46)));

    let dir = log.close();
    let summary = verify(dir.path()).unwrap();
    assert_eq!((summary.entries, summary.last_log_id), (47, Some(id(3, 46))));
    assert_eq!((summary.vote, summary.committed), (Some(vote), Some(id(1, 40))));
    assert_eq!(summary.torn_at, None);
}

#[tokio::test]
async fn a_truncated_log_stays_truncated() {
    let mut log = Log::new(small()).await;
    log.append(entries(0..200, 100)).await.unwrap();
    log.store.truncate_after(Some(id(1, 9))).await.unwrap();
    assert_eq!(log.all().await, entries(0..10, 100));
    let mut log = log.reopen().await;
    assert_eq!(log.all().await, entries(0..10, 100));
    log.store.truncate_after(None).await.unwrap();
    let mut log = log.reopen().await;
    assert_eq!(log.all().await, []);
    assert_eq!(log.handle.last_log_id(), None);
    log.append(entries(0..3, 5)).await.unwrap();
    assert_eq!(log.reopen().await.all().await, entries(0..3, 5));
}

#[tokio::test]
async fn segments_roll_and_purge_deletes_them() {
    let mut log = Log::new(small()).await;
    let vote = Vote::new_committed(2, 9);
    log.store.save_vote(&vote).await.unwrap();
    for index in 0..300 {
        log.append(vec![entry(1, index, 100)]).await.unwrap();
    }
    log.store.save_committed(Some(id(1, 250))).await.unwrap();
    let all = log.segments();
    assert!(all.len() > 5, "{all:?}");
    let live = log.handle.live_bytes();
    assert_eq!(live, 300 * (record::HEAD_BYTES as u64 + 101));
    assert_eq!(log.handle.bytes_between(10..20), 10 * 130);
    assert_eq!(log.handle.index_keeping(130 * 7 + 1), 293);
    assert_eq!(log.handle.index_keeping(130 * 100), 200);
    assert_eq!(log.handle.index_keeping(u64::MAX), 0);

    log.store.purge(id(1, 249)).await.unwrap();
    until("old segments go", || log.segments().len() == 2);
    assert_eq!(log.handle.live_bytes(), 50 * 130);
    let left = log.segments();
    assert_eq!(left.last(), all.last());

    let mut log = log.reopen().await;
    assert_eq!(log.segments(), left);
    assert_eq!(log.all().await, entries(250..300, 100));
    assert_eq!(log.handle.purged(), Some(id(1, 249)));
    assert_eq!(log.reader.read_vote().await.unwrap(), Some(vote));
    assert_eq!(log.store.read_committed().await.unwrap(), Some(id(1, 250)));

    // A snapshot ahead of the log.
    log.store.purge(id(5, 1000)).await.unwrap();
    assert_eq!(log.handle.last_log_id(), Some(id(5, 1000)));
    log.append(vec![entry(5, 1001, 1)]).await.unwrap();
    until("all but the newest go", || log.segments().len() == 1);
    let mut log = log.reopen().await;
    assert_eq!(log.all().await, [entry(5, 1001, 1)]);
    assert_eq!(log.handle.purged(), Some(id(5, 1000)));
    assert_eq!(log.reader.read_vote().await.unwrap(), Some(vote));
}

#[tokio::test]
async fn disk_use_is_bounded_by_purging() {
    let mut log = Log::new(small()).await;
    for index in 0..1000 {
        log.append(vec![entry(1, index, 200)]).await.unwrap();
        if index % 20 == 19 {
            log.store.purge(id(1, index - 10)).await.unwrap();
        }
    }
    log.store.save_vote(&Vote::new(1, 1)).await.unwrap();
    until("old segments go", || log.segments().len() <= 2);
    until("the gauge follows", || {
        let files = fs::read_dir(log.dir.path()).unwrap();
        let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
        log.handle.metrics().disk_bytes.get() == i64::try_from(bytes).unwrap()
    });
}

#[tokio::test]
async fn queued_appends_share_one_fsync() {
    let mut log = Log::new(LogOptions::default()).await;
    let before = log.fsyncs();
    log.store.shared.queue.hold(true);
    let mut waiting = Vec::new();
    for index in 0..500 {
        waiting.push(log.submit(vec![entry(1, index, 128)]).await.unwrap());
    }
    assert_eq!(log.all().await.len(), 500, "readable before it is durable");
    assert_eq!(log.fsyncs(), before);
    log.store.shared.queue.hold(false);
    for flushed in waiting {
        flushed.await.unwrap().unwrap();
    }
    assert_eq!(log.fsyncs(), before + 1);
    // What need not be durable asks for no fsync.
    log.store.save_committed(Some(id(1, 3))).await.unwrap();
    let written = log.handle.metrics().appended_bytes.clone();
    let total = written.get();
    log.store.truncate_after(Some(id(1, 400))).await.unwrap();
    until("it is written", || written.get() > total);
    assert_eq!(log.fsyncs(), before + 1);
}

#[tokio::test]
async fn append_waits_while_the_queue_is_full() {
    let mut log = Log::new(LogOptions { queue_bytes: 10_000, ..LogOptions::default() }).await;
    log.store.shared.queue.hold(true);
    log.submit(vec![entry(1, 0, 8000)]).await.unwrap();
    let mut second = Box::pin(log.submit(vec![entry(1, 1, 8000)]));
    let early = tokio::time::timeout(Duration::from_millis(20), &mut second).await;
    assert!(early.is_err());
    drop(second);
    // What was given up left nothing behind.
    assert_eq!(log.handle.last_log_id(), Some(id(1, 0)));
    log.store.shared.queue.hold(false);
    log.append(vec![entry(1, 1, 30_000)]).await.unwrap();
    assert_eq!(log.handle.metrics().queue_bytes.get(), 0);
}

#[tokio::test]
async fn reads_go_past_the_memory() {
    let mut log = Log::new(small()).await;
    log.append(entries(0..500, 100)).await.unwrap();
    assert!(log.handle.shared.state.lock().cache_bytes() <= 2048);
    assert_eq!(log.all().await, entries(0..500, 100));
    assert_eq!(log.reader.try_get_log_entries(17..=19).await.unwrap(), entries(17..20, 100));
    assert_eq!(log.reader.try_get_log_entries(480..900).await.unwrap(), entries(480..500, 100));
    let limited = log.reader.limited_get_log_entries(100, 400).await.unwrap();
    assert_eq!(limited, entries(100..131, 100));
    let limited = log.reader.limited_get_log_entries(485, 500).await.unwrap();
    assert_eq!(limited, entries(485..500, 100));

    use futures_util::StreamExt;
    let stream = log.reader.entries_stream(3..498).await;
    let streamed: Vec<_> = stream.map(|entry| entry.unwrap()).collect().await;
    assert_eq!(streamed, entries(3..498, 100));

    // A decoded record owns exactly its bytes.
    let EntryPayload::Normal(Record(bytes)) = limited[0].payload.clone() else { panic!() };
    drop(limited);
    assert_eq!(bytes.try_into_mut().unwrap().capacity(), 100);
}

#[tokio::test]
async fn rewritten_entries_stay_in_memory_until_they_are_written() {
    let mut log = Log::new(small()).await;
    log.append(entries(0..100, 100)).await.unwrap();
    log.store.shared.queue.hold(true);
    log.store.truncate_after(Some(id(1, 9))).await.unwrap();
    let new: Vec<_> = (10..60).map(|index| entry(2, index, 100)).collect();
    let flushed = log.submit(new.clone()).await.unwrap();
    // On disk the old ones still stand at these indexes.
    log.handle.shared.state.lock().evict(0);
    assert_eq!(log.all().await[10..], new);
    log.store.shared.queue.hold(false);
    flushed.await.unwrap().unwrap();
    log.handle.shared.state.lock().evict(0);
    assert_eq!(log.handle.shared.state.lock().cache_bytes(), 0);
    assert_eq!(log.all().await[10..], new);
}

#[tokio::test]
async fn a_limited_read_gives_at_least_one() {
    let mut log = Log::new(LogOptions { cache_bytes: 200_000, ..small() }).await;
    log.append(vec![entry(1, 0, 100_000), entry(1, 1, 100_000), entry(1, 2, 1)]).await.unwrap();
    for (start, lens) in [(0, vec![100_000]), (1, vec![100_000]), (2, vec![1])] {
        let read = log.reader.limited_get_log_entries(start, 3).await.unwrap();
        let expected: Vec<_> =
            (start..).zip(&lens).map(|(index, len)| entry(1, index, *len)).collect();
        assert!(read == expected, "from {start}: {} entries", read.len());
    }
    assert_eq!(log.reader.limited_get_log_entries(2, 2).await.unwrap(), []);
}

#[tokio::test]
async fn an_entry_may_be_larger_than_a_segment() {
    let mut log = Log::new(small()).await;
    log.append(entries(0..3, 100)).await.unwrap();
    log.append(vec![entry(1, 3, 10 << 20)]).await.unwrap();
    log.append(entries(4..60, 100)).await.unwrap();
    let before = log.all().await;
    let mut log = log.reopen().await;
    assert!(log.all().await == before);
    let limited = log.reader.limited_get_log_entries(3, 60).await.unwrap();
    assert!(limited == [entry(1, 3, 10 << 20)]);
    log.store.purge(id(1, 3)).await.unwrap();
    log.append(entries(60..61, 100)).await.unwrap();
    until("the large one goes", || log.handle.metrics().disk_bytes.get() < 1 << 20);
}

#[tokio::test]
async fn a_hole_is_refused() {
    let mut log = Log::new(small()).await;
    log.append(entries(0..3, 1)).await.unwrap();
    let error = log.append(entries(4..5, 1)).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert_eq!(log.all().await.len(), 3);
}

#[tokio::test]
async fn two_processes_do_not_share_a_log() {
    let log = Log::new(small()).await;
    let second = LogStore::open(log.dir.path(), small());
    assert!(matches!(second, Err(LogError::Locked { .. })), "{second:?}");
    assert!(matches!(verify(log.dir.path()), Err(LogError::Locked { .. })));
    // The last one to be dropped unlocks, without a shutdown.
    let Log { dir, store, handle, reader, .. } = log;
    drop(handle);
    drop(store);
    let _keeps_no_lock = reader;
    LogStore::open(dir.path(), small()).unwrap();
}

#[tokio::test]
async fn a_closed_log_refuses() {
    let mut log = Log::new(small()).await;
    log.store.shared.queue.hold(true);
    let flushed = log.submit(entries(0..3, 1)).await.unwrap();
    log.handle.shutdown();
    flushed.await.unwrap().unwrap();
    assert!(log.append(entries(3..4, 1)).await.is_err());
    assert!(log.store.save_vote(&Vote::new(1, 1)).await.is_err());
    assert!(log.store.purge(id(1, 1)).await.is_err());
    assert_eq!(log.reopen().await.all().await, entries(0..3, 1));
}

#[tokio::test]
async fn a_failed_fsync_is_final() {
    let mut log = Log::new(small()).await;
    log.append(entries(0..3, 1)).await.unwrap();
    log.store.shared.queue.hold(true);
    let first = log.submit(entries(3..4, 1)).await.unwrap();
    let second = log.submit(entries(4..5, 1)).await.unwrap();
    log.disk.faults.sync.store(true, Ordering::SeqCst);
    log.store.shared.queue.hold(false);
    assert!(first.await.unwrap().is_err());
    assert!(second.await.unwrap().is_err());
    assert!(matches!(log.handle.failure().as_deref(), Some(LogError::Io { op: "fsync", .. })));

    // The disk is well again, the log is not.
    log.disk.faults.sync.store(false, Ordering::SeqCst);
    let fsyncs = log.fsyncs();
    assert!(log.append(entries(5..6, 1)).await.is_err());
    assert!(log.store.save_vote(&Vote::new(1, 1)).await.is_err());
    assert!(log.store.save_committed(None).await.is_err());
    assert!(log.reader.try_get_log_entries(..).await.is_err());
    assert_eq!(log.fsyncs(), fsyncs);
    let mut log = log.reopen().await;
    assert_eq!(log.all().await[..3], entries(0..3, 1));
}

#[tokio::test]
async fn a_full_disk_delays_and_loses_nothing() {
    let mut log = Log::new(small()).await;
    log.append(entries(0..3, 1)).await.unwrap();
    log.disk.faults.full.store(true, Ordering::SeqCst);
    let fsyncs = log.fsyncs();
    let flushed = log.submit(entries(3..200, 100)).await.unwrap();
    until("the flag rises", || log.handle.is_full());
    assert_eq!(log.all().await.len(), 200);
    assert_eq!(log.fsyncs(), fsyncs);
    assert!(log.handle.metrics().full.get() > 0);
    log.disk.faults.full.store(false, Ordering::SeqCst);
    flushed.await.unwrap().unwrap();
    until("the flag falls", || !log.handle.is_full());
    assert_eq!(log.handle.metrics().full.get(), 0);
    let mut log = log.reopen().await;
    assert_eq!(log.all().await.len(), 200);

    // Shutting down gives up what cannot be written.
    log.disk.faults.full.store(true, Ordering::SeqCst);
    let flushed = log.submit(entries(200..201, 100)).await.unwrap();
    until("the flag rises", || log.handle.is_full());
    log.handle.shutdown();
    assert!(flushed.await.unwrap().is_err());
    assert_eq!(log.reopen().await.all().await.len(), 200);
}

#[tokio::test]
async fn metrics_are_registered() {
    let log = Log::new(small()).await;
    let mut registry = prometheus_client::registry::Registry::default();
    log.handle.metrics().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for name in [
        "quorate_log_fsync_seconds_bucket",
        "quorate_log_fsyncs_total",
        "quorate_log_appended_bytes_total",
        "quorate_log_disk_bytes",
    ] {
        assert!(text.contains(name), "{name} in {text}");
    }
}
