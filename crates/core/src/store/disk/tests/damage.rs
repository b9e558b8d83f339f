//! A process that is killed, a directory that was copied while in use, bytes that were changed: what
//! is loaded after that is right, or it is unusable and says so.

use std::process::{Command as Process, Stdio};

use super::*;

const CHILD: &str = "QUORATE_TEST_DISK_CHILD";

/// Not a test: the process that [`survives_kill`] kills.
#[test]
fn killed_child() {
    let Some(dir) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let state = match Disk::load(&dir, &options()) {
        Loaded::Good(state) => state,
        Loaded::Empty => State::default(),
        Loaded::Unusable { .. } => std::process::exit(3),
    };
    run(async {
        let mut feed = Feed::from(state);
        let disk = Disk::open(&dir, &options()).unwrap();
        for index in feed.state().header().applied.map_or(0, |(_, index)| index + 1).. {
            disk.submit(feed.step(nth(index))).await;
            tokio::task::yield_now().await;
        }
    });
}

/// State that the history has after each of the first `count` commands.
fn history(count: u64) -> Vec<State> {
    let mut feed = Feed::default();
    (0..count)
        .map(|index| {
            feed.step(nth(index));
            feed.state()
        })
        .collect()
}

#[test]
fn survives_kill() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("sled");
    let mut last = 0;
    for round in 0..6_u64 {
        let mut child = Process::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::disk::tests::damage::killed_child"])
            .env(CHILD, &dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Points in time that mean nothing to the child are what this is about.
        std::thread::sleep(Duration::from_millis(150 + 67 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        match Disk::load(&dir, &options()) {
            Loaded::Good(state) => {
                let count = state.header().applied.map_or(0, |(_, index)| index + 1);
                assert!(count >= last, "{count} after {last}");
                last = count;
                let mut feed = Feed::default();
                for index in 0..count {
                    feed.step(nth(index));
                }
                assert_same(&state, &feed.state());
            }
            Loaded::Empty => assert_eq!(last, 0),
            // So slow a machine that every child was killed before it had opened anything.
            Loaded::Unusable { why } if why.contains("never ended") => {
                Disk::set_aside(&dir).unwrap();
                last = 0;
            }
            Loaded::Unusable { why } => panic!("{why}"),
        }
    }
    assert!(last > 0, "no child came to write anything");
}

#[test]
fn a_copy_of_a_running_directory_is_right_or_unusable() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("sled");
    let states = history(1500);
    run(async {
        let disk = Disk::open(&dir, &options()).unwrap();
        disk.sync().await.unwrap();
        let mut feed = Feed::default();
        for index in 0..1500 {
            disk.submit(feed.step(nth(index))).await;
            if index % 100 == 99 {
                if index % 200 == 199 {
                    disk.sync().await.unwrap();
                }
                let image = home.path().join(format!("image{index}"));
                copy(&dir, &image);
                check_damaged(&image, &states, &format!("copy at {index}"));
                fs::remove_dir_all(&image).unwrap();
            }
        }
    });
}

/// A state of the history, or none.
fn check_damaged(dir: &Path, states: &[State], what: &str) -> bool {
    match Disk::load(dir, &options()) {
        Loaded::Good(state) => {
            // A copy from before the first batch: empty, and it says so.
            let Some((_, applied)) = state.header().applied else {
                assert_eq!(state.config_count(), 0, "{what}");
                return true;
            };
            let want = &states[usize::try_from(applied).unwrap()];
            assert_eq!(state.hash(), want.hash(), "{what}");
            assert_same(&state, want);
            true
        }
        Loaded::Unusable { why } => {
            println!("{what}: {why}");
            false
        }
        Loaded::Empty => panic!("{what}: empty"),
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Damages one file of a directory, in one of several ways.
fn damage(dir: &Path, round: u64) -> String {
    let files = files(dir);
    let random = noise(round, 16);
    let number = u64::from_le_bytes(random[..8].try_into().unwrap());
    // Most of the damage where most of the bytes are.
    let file = match round % 4 {
        0 => &files[usize::try_from(round / 4).unwrap() % files.len()],
        _ => files.iter().max_by_key(|file| fs::metadata(file).unwrap().len()).unwrap(),
    };
    let mut bytes = fs::read(file).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
    let at = usize::try_from(number % used as u64).unwrap();
    let how = round / 2 % 4;
    match how {
        0 => bytes[at] ^= random[9] | 1,
        1 => bytes.truncate(at),
        2 => bytes.iter_mut().skip(at).take(4096).for_each(|byte| *byte = 0),
        _ => bytes.iter_mut().skip(at).take(512).for_each(|byte| *byte ^= random[10] | 1),
    }
    fs::write(file, bytes).unwrap();
    format!("round {round}: {} at {at}, way {how}", file.display())
}

fn damaged_rounds(rounds: std::ops::Range<u64>) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("sled");
    let states = history(900);
    run(async {
        let disk = Disk::open(&dir, &options()).unwrap();
        let mut feed = Feed::default();
        for index in 0..900 {
            disk.submit(feed.step(nth(index))).await;
            // So that versions of many times lie in the log.
            if index % 30 == 29 {
                disk.sync().await.unwrap();
            }
        }
    });
    let image = home.path().join("image");
    copy(&dir, &image);
    assert!(check_damaged(&image, &states, "undamaged"));
    let mut good = 0;
    for round in rounds.clone() {
        fs::remove_dir_all(&image).unwrap();
        copy(&dir, &image);
        let what = damage(&image, round);
        good += u64::from(check_damaged(&image, &states, &what));
    }
    println!("{good} of {rounds:?} loaded");
    // The way of a node that finds one.
    Disk::set_aside(&image).unwrap();
    assert!(matches!(Disk::load(&image, &options()), Loaded::Empty));
}

#[test]
fn damage_is_noticed() {
    damaged_rounds(0..48);
}

#[test]
#[ignore = "minutes"]
fn much_damage_is_noticed() {
    damaged_rounds(48..3000);
}
