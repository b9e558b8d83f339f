//! Torn tails are cut, damage is refused.

use super::*;

/// A log of ten entries in one segment, closed; the last record is entry 9.
async fn ten(len: usize) -> (TempDir, PathBuf) {
    let mut log = Log::new(LogOptions { segment_bytes: 8192, ..small() }).await;
    log.store.save_vote(&Vote::new(1, 1)).await.unwrap();
    for index in 0..10 {
        log.append(vec![entry(1, index, len)]).await.unwrap();
    }
    let path = segment::list(log.dir.path()).unwrap()[0].1.clone();
    (log.close(), path)
}

/// Where the valid records end.
fn end_of(path: &Path) -> usize {
    fs::read(path).unwrap().iter().rposition(|byte| *byte != 0).unwrap() + 1
}

async fn open(dir: TempDir) -> Result<Log, LogError> {
    Log::open(dir, LogOptions { segment_bytes: 8192, ..small() }).await
}

#[tokio::test]
async fn the_last_record_torn_anywhere_is_cut() {
    let (dir, path) = ten(40).await;
    let whole = fs::read(&path).unwrap();
    let end = end_of(&path);
    let begin = end - record::HEAD_BYTES - 41;
    let mut dir = Some(dir);
    // How a torn write looks: nothing behind the cut, or only the last sectors, or other bytes.
    type Tear = fn(&mut [u8], usize);
    let tears: [Tear; 3] = [
        |record, cut| record[cut..].fill(0),
        |record, cut| record[..=cut].fill(0),
        |record, cut| record[cut] ^= 0x55,
    ];
    for tear in tears {
        for cut in 0..end - begin {
            let mut bytes = whole.clone();
            tear(&mut bytes[begin..end], cut);
            fs::write(&path, &bytes).unwrap();
            let summary = verify(dir.as_ref().unwrap().path()).unwrap();
            let mut log = open(dir.take().unwrap()).await.unwrap();
            let all = log.all().await;
            if bytes == whole {
                assert_eq!(all.len(), 10);
            } else {
                assert_eq!(all, entries(0..9, 40), "cut {cut}");
                let dirty = bytes[begin..end].iter().any(|byte| *byte != 0);
                assert_eq!(summary.torn_at, dirty.then(|| (path.clone(), begin as u64)));
                assert_eq!(end_of(&path), begin_of_zero(&whole, begin), "zeroed");
            }
            // What is written next is not followed by what was cut off.
            log.append(vec![entry(2, all.len() as u64, 3)]).await.unwrap();
            let mut log = log.reopen().await;
            assert_eq!(log.all().await.len(), all.len() + 1);
            dir = Some(log.close());
        }
    }
}

fn begin_of_zero(bytes: &[u8], begin: usize) -> usize {
    bytes[..begin].iter().rposition(|byte| *byte != 0).unwrap() + 1
}

#[tokio::test]
async fn valid_records_of_a_torn_batch_are_cut_as_well() {
    let mut log = Log::new(LogOptions { segment_bytes: 8192, ..small() }).await;
    log.append(entries(0..5, 40)).await.unwrap();
    log.append(entries(5..10, 40)).await.unwrap();
    let path = segment::list(log.dir.path()).unwrap()[0].1.clone();
    let dir = log.close();
    // Of the second batch, the middle record did not reach the disk; those behind it did.
    let end = end_of(&path);
    let middle = end - 3 * (record::HEAD_BYTES + 41);
    let mut bytes = fs::read(&path).unwrap();
    bytes[middle + 31] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let mut log = open(dir).await.unwrap();
    assert_eq!(log.all().await, entries(0..7, 40));
    // A record as long as the bad one: the stale ones would line up behind it.
    log.append(vec![entry(2, 7, 40)]).await.unwrap();
    assert_eq!(log.reopen().await.all().await.len(), 8);
}

#[tokio::test]
async fn a_flipped_byte_in_the_middle_is_refused() {
    let (dir, path) = ten(40).await;
    let whole = fs::read(&path).unwrap();
    let record = record::HEAD_BYTES + 41;
    let first = end_of(&path) - 10 * record;
    // All but the last record were durable when the last was written.
    for at in first..first + 9 * record {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        let bad = (first + (at - first) / record * record) as u64;
        match verify(dir.path()) {
            Err(LogError::Corrupt { path: named, offset, .. }) => {
                assert_eq!((named, offset), (path.clone(), bad), "byte {at}");
            }
            other => panic!("byte {at}: {other:?}"),
        }
    }
    let error = LogStore::open(dir.path(), small()).unwrap_err();
    assert!(error.to_string().contains("00000001.seg at offset"), "{error}");
    // Refused means untouched.
    assert_eq!(fs::read(&path).unwrap().len(), whole.len());
}

#[tokio::test]
async fn a_zeroed_sector_in_the_middle_is_refused() {
    let (dir, path) = ten(200).await;
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0; 512], 1024).unwrap();
    assert!(matches!(verify(dir.path()), Err(LogError::Corrupt { .. })));
}

#[tokio::test]
async fn a_flipped_byte_in_a_header_is_refused() {
    let mut log = Log::new(small()).await;
    log.append(entries(0..100, 100)).await.unwrap();
    let files = segment::list(log.dir.path()).unwrap();
    assert!(files.len() > 2);
    let dir = log.close();
    for (_, path) in files {
        let whole = fs::read(&path).unwrap();
        for at in 0..segment::HEADER_BYTES {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x80;
            fs::write(&path, &bytes).unwrap();
            match LogStore::open(dir.path(), small()) {
                Err(LogError::Corrupt { path: named, .. }) => assert_eq!(named, path),
                other => panic!("{} byte {at}: {other:?}", path.display()),
            }
        }
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(verify(dir.path()).unwrap().entries, 100);
}

#[tokio::test]
async fn any_bad_record_in_an_older_segment_is_refused() {
    let mut log = Log::new(small()).await;
    log.append(entries(0..100, 100)).await.unwrap();
    let files = segment::list(log.dir.path()).unwrap();
    let dir = log.close();
    let path = &files[files.len() - 2].1;
    let whole = fs::read(path).unwrap();
    let end = end_of(path);
    for at in (segment::HEADER_BYTES..end).step_by(13).chain([end - 1]) {
        let mut bytes = whole.clone();
        bytes[at] ^= 2;
        fs::write(path, &bytes).unwrap();
        let error = verify(dir.path()).unwrap_err();
        assert!(matches!(&error, LogError::Corrupt { path: p, .. } if p == path), "{at}: {error}");
    }
    // So is one that was cut short.
    fs::write(path, &whole[..end - 40]).unwrap();
    assert!(matches!(verify(dir.path()), Err(LogError::Corrupt { .. })));
}

#[tokio::test]
async fn a_missing_segment_is_refused() {
    let mut log = Log::new(small()).await;
    log.append(entries(0..200, 100)).await.unwrap();
    let files = segment::list(log.dir.path()).unwrap();
    let dir = log.close();
    for missing in [0, 1, files.len() - 2] {
        let path = &files[missing].1;
        let whole = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        let error = verify(dir.path()).unwrap_err();
        assert!(matches!(error, LogError::Corrupt { .. }), "{missing}: {error}");
        fs::write(path, whole).unwrap();
    }
    verify(dir.path()).unwrap();
}

#[tokio::test]
async fn a_crash_between_seal_and_next_segment_is_mended() {
    let mut log = Log::new(small()).await;
    log.append(entries(0..100, 100)).await.unwrap();
    let files = segment::list(log.dir.path()).unwrap();
    let kept = verify_without(&files[files.len() - 1].1, log.close());
    let mut log = Log::open(kept.0, small()).await.unwrap();
    assert_eq!(log.all().await.len(), kept.1);
    let next = kept.1 as u64;
    log.append(entries(next..next + 1, 100)).await.unwrap();
    let mut log = log.reopen().await;
    assert_eq!(log.all().await, entries(0..next + 1, 100));
    assert_eq!(log.segments().len(), files.len());
}

fn verify_without(path: &Path, dir: TempDir) -> (TempDir, usize) {
    fs::remove_file(path).unwrap();
    let entries = verify(dir.path()).unwrap().entries;
    (dir, entries)
}

#[tokio::test]
async fn a_newer_format_is_told_from_damage() {
    let (dir, path) = ten(1).await;
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 9;
    let crc = crc32c::crc32c(&bytes[..segment::HEADER_BYTES - 4]);
    bytes[segment::HEADER_BYTES - 4..segment::HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let error = LogStore::open(dir.path(), small()).unwrap_err();
    assert!(matches!(error, LogError::NewerFormat { version: 9, .. }), "{error}");
}

#[tokio::test]
async fn damage_found_while_reading_is_an_error() {
    let mut log = Log::new(LogOptions { cache_bytes: 0, ..small() }).await;
    log.append(entries(0..10, 100)).await.unwrap();
    let path = segment::list(log.dir.path()).unwrap()[0].1.clone();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"x", 44 + 31).unwrap();
    let error = log.reader.try_get_log_entries(0..1).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("00000001.seg at offset 44"), "{error}");
}

#[tokio::test]
async fn a_crash_before_purged_files_are_deleted_is_mended() {
    let mut log = Log::new(small()).await;
    log.store.save_vote(&Vote::new(3, 3)).await.unwrap();
    log.append(entries(0..200, 100)).await.unwrap();
    let files = segment::list(log.dir.path()).unwrap();
    let copies: Vec<_> = files.iter().map(|(_, path)| fs::read(path).unwrap()).collect();
    log.store.purge(id(1, 180)).await.unwrap();
    let dir = log.close();
    let left = segment::list(dir.path()).unwrap();
    let gone = files.len() - left.len();
    assert!(gone >= 3);
    // The oldest go first, so what a crash leaves is any newer part of them.
    for back in 1..=gone {
        for at in gone - back..gone {
            fs::write(&files[at].1, &copies[at]).unwrap();
        }
        let scratch = tempfile::tempdir().unwrap();
        for (_, path) in segment::list(dir.path()).unwrap() {
            fs::copy(&path, scratch.path().join(path.file_name().unwrap())).unwrap();
        }
        let mut log = Log::open(scratch, small()).await.unwrap();
        assert_eq!(log.all().await, entries(181..200, 100));
        assert_eq!(log.reader.read_vote().await.unwrap(), Some(Vote::new(3, 3)));
        let log = log.close();
        assert_eq!(segment::list(log.path()).unwrap().len(), left.len());
    }
}

#[tokio::test]
async fn damaged_facts_are_refused() {
    let mut log = Log::new(small()).await;
    log.store.save_vote(&Vote::new(3, 3)).await.unwrap();
    log.append(entries(0..26, 100)).await.unwrap();
    // The newest segment has nothing but its facts.
    let newest = |log: &Log| segment::list(log.dir.path()).unwrap().pop().unwrap().1;
    let first = newest(&log);
    let mut next = 26;
    while newest(&log) == first {
        log.append(entries(next..next + 1, 100)).await.unwrap();
        next += 1;
    }
    let path = newest(&log);
    let dir = log.close();
    let whole = fs::read(&path).unwrap();
    let facts = segment::HEADER_BYTES..segment::HEADER_BYTES + record::HEAD_BYTES + 1;
    for at in facts.clone() {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        bytes[facts.end..].fill(0);
        fs::write(&path, &bytes).unwrap();
        let error = verify(dir.path()).unwrap_err();
        assert!(matches!(error, LogError::Corrupt { offset: 44, .. }), "{at}: {error}");
    }
}

#[tokio::test]
async fn a_purge_that_is_not_written_deletes_nothing() {
    let mut log = Log::new(small()).await;
    log.append(entries(0..100, 100)).await.unwrap();
    let before = log.segments();
    log.store.truncate_after(None).await.unwrap();
    // Raft has asked for a purge; the log's thread has not got to it when a segment rolls.
    log.handle.shared.state.lock().purged = Some(id(1, 0));
    log.append(entries(0..100, 100)).await.unwrap();
    log.store.save_vote(&Vote::new(1, 1)).await.unwrap();
    let mut log = log.reopen().await;
    assert!(log.segments().starts_with(&before));
    assert_eq!(log.all().await, entries(0..100, 100));
}

/// Power loss: of what was written after the last fsync any sectors may be missing.
async fn lose_power(durable: u64, later: u64, len: usize, kept: Vec<bool>) {
    let mut log = Log::new(LogOptions { segment_bytes: 1 << 16, ..small() }).await;
    for index in 0..durable {
        log.append(vec![entry(1, index, len)]).await.unwrap();
    }
    let path = segment::list(log.dir.path()).unwrap()[0].1.clone();
    let before = fs::read(&path).unwrap();
    log.disk.faults.sync.store(true, Ordering::SeqCst);
    log.append(entries(durable..durable + later, len)).await.unwrap_err();
    let dir = log.close();
    let mut bytes = fs::read(&path).unwrap();
    assert_ne!(bytes, before);
    let mut kept = kept.into_iter().cycle();
    for (new, old) in bytes.chunks_mut(512).zip(before.chunks(512)) {
        if new != old && !kept.next().unwrap() {
            new.copy_from_slice(old);
        }
    }
    fs::write(&path, &bytes).unwrap();
    let mut log = Log::open(dir, small()).await.unwrap();
    let all = log.all().await;
    assert!((durable..=durable + later).contains(&(all.len() as u64)));
    assert_eq!(all, entries(0..all.len() as u64, len));
    let next = all.len() as u64;
    log.append(entries(next..next + 2, len)).await.unwrap();
    assert_eq!(log.reopen().await.all().await, entries(0..next + 2, len));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..proptest::prelude::ProptestConfig::default()
    })]

    #[test]
    fn power_loss_keeps_what_was_acknowledged(
        durable in 1_u64..6,
        later in 1_u64..20,
        len in 1_usize..900,
        kept in proptest::collection::vec(proptest::bool::ANY, 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(lose_power(durable, later, len, kept));
    }
}
