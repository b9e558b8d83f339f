//! Round trips, and every way to damage a file.

use std::fs;

use bytes::Bytes;
use proptest::prelude::*;

use super::{DumpError, END_MAGIC, finish_rename, fuzz_block, head, read, verify, write};
use crate::store::State;
use crate::store::disk::sample::{assert_same, command, fed, noise, publish};

fn dumped(state: &State) -> Vec<u8> {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("a.snap");
    write(state, 7, &path, |_| Ok(())).unwrap();
    fs::read(path).unwrap()
}

/// What reading and verifying these bytes as a file says.
fn reading(bytes: &[u8]) -> Result<State, DumpError> {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("a.snap");
    fs::write(&path, bytes).unwrap();
    let read = read(&path);
    assert_eq!(read.is_ok(), verify(&path).is_ok());
    fuzz_block(bytes);
    read.map(|(state, _)| state)
}

fn small() -> State {
    fed(vec![publish(1, Bytes::from_static(b"some content")), publish(2, noise(1, 90))])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn what_was_written_is_read(commands in prop::collection::vec(command(), 0..60)) {
        let state = fed(commands);
        let home = tempfile::tempdir().unwrap();
        let (tmp, path) = (home.path().join("a.tmp"), home.path().join("a.snap"));
        let info = write(&state, u64::MAX, &tmp, |_| Ok(())).unwrap();
        finish_rename(&tmp, &path).unwrap();
        let (got, got_info) = read(&path).unwrap();
        assert_same(&got, &state);
        prop_assert_eq!(&got_info, &info);
        prop_assert_eq!(&verify(&path).unwrap(), &info);
        prop_assert_eq!(&head(&path).unwrap(), &info.head);
        prop_assert_eq!(info.bytes, fs::metadata(&path).unwrap().len());
        prop_assert_eq!(info.rows, state.rows().count() as u64);
        prop_assert_eq!((info.head.cluster_id, info.head.applied),
                        (u64::MAX, state.header().applied));
        prop_assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz_block(&bytes);
        fuzz_block(&[b"QRTSNAP1\x01\0\0\0".as_slice(), &bytes].concat());
        prop_assert!(reading(&bytes).is_err());
    }
}

#[test]
fn every_flipped_byte_is_refused() {
    let bytes = dumped(&small());
    assert_same(&reading(&bytes).unwrap(), &small());
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            match reading(&damaged) {
                Err(DumpError::Corrupt { .. }) => {}
                Err(DumpError::NewerFormat { .. }) if (8..12).contains(&at) => {}
                other => panic!("byte {at} flipped by {flip:#x}: {other:?}"),
            }
        }
    }
}

#[test]
fn every_other_length_is_refused() {
    let bytes = dumped(&small());
    for length in 0..bytes.len() {
        let read = reading(&bytes[..length]);
        assert!(matches!(read, Err(DumpError::Corrupt { .. })), "{length}: {read:?}");
    }
    for more in [&b"\0"[..], &END_MAGIC, &bytes] {
        let read = reading(&[&bytes, more].concat());
        assert!(matches!(read, Err(DumpError::Corrupt { .. })), "{read:?}");
    }
}

#[test]
fn a_newer_version_is_named() {
    let mut bytes = dumped(&small());
    bytes[8] = 2;
    let error = reading(&bytes).unwrap_err();
    assert!(matches!(error, DumpError::NewerFormat { version: 2 }), "{error:?}");
    assert!(error.to_string().contains("newer"), "{error}");
}

#[test]
fn blocks_of_two_files_do_not_mix() {
    // Same lengths, every block valid: only the hash of the file tells.
    let state =
        |seed: u64| fed((0..4).map(|n| publish(n, noise(seed + u64::from(n), 900_000))).collect());
    let (one, two) = (dumped(&state(1)), dumped(&state(9)));
    assert_eq!(one.len(), two.len());
    let length = |bytes: &[u8], at: usize| {
        9 + usize::try_from(u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())).unwrap()
    };
    let first = 12 + length(&one, 12);
    let second = first + length(&one, first);
    let mixed = [&one[..second], &two[second..]].concat();
    assert!(matches!(reading(&mixed), Err(DumpError::Corrupt { .. })));
}

#[test]
fn rows_run_over_blocks_and_the_writer_is_paced() {
    let mut commands: Vec<_> =
        (0..4).map(|number| publish(number, noise(number.into(), 3_333_333))).collect();
    commands.push(publish(5, Bytes::from(vec![b'x'; 10 * 1024 * 1024])));
    let state = fed(commands);
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("a.snap");
    let mut paced = Vec::new();
    let info = write(&state, 1, &path, |bytes| {
        paced.push(bytes);
        Ok(())
    })
    .unwrap();
    assert_same(&read(&path).unwrap().0, &state);
    // The noise as it is, the rest compressed, in steps of a mebibyte.
    assert!((13_300_000..13_500_000).contains(&info.bytes), "{}", info.bytes);
    assert!(paced.len() >= 12, "{paced:?}");
    assert!(paced.iter().all(|bytes| (1 << 20..=2 << 20).contains(bytes)), "{paced:?}");
}

#[test]
fn a_file_that_cannot_be_written_is_an_error() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("absent").join("a.snap");
    for error in [
        write(&small(), 1, &path, |_| Ok(())).unwrap_err(),
        read(&path).unwrap_err(),
        finish_rename(&path, &home.path().join("b")).unwrap_err(),
    ] {
        assert!(matches!(error, DumpError::Io { .. }), "{error:?}");
        assert!(std::error::Error::source(&error).is_some());
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("a.snap");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    assert!(matches!(write(&small(), 1, &path, |_| Ok(())), Err(DumpError::Io { .. })));
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}
