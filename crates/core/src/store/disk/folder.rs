//! The directory around sled: swaps, damaged copies set aside, syncs, leftovers of a crash.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::crash;

/// Damaged directories that are kept for whoever wants to look at them.
const KEPT_BAD: usize = 2;
/// Openings that may die before the directory counts as unusable.
const MAX_DEATHS: usize = 3;

/// `dir` with `suffix` after its name, beside it.
pub(super) fn sibling(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_os_string();
    name.push(suffix);
    dir.with_file_name(name)
}

/// Where a rebuild writes.
pub(super) fn fresh(dir: &Path) -> PathBuf {
    sibling(dir, ".new")
}

fn retired(dir: &Path) -> PathBuf {
    sibling(dir, ".old")
}

/// Puts the complete and synced [`fresh`] directory in the place of `dir`.
pub(super) fn swap_in(dir: &Path) -> io::Result<()> {
    remove(&retired(dir))?;
    if dir.exists() {
        fs::rename(dir, retired(dir))?;
    }
    crash::point("store-rebuild-old-moved");
    fs::rename(fresh(dir), dir)?;
    crash::point("store-rebuild-named");
    sync_parent(dir)?;
    remove(&retired(dir))
}

/// Ends a swap that a crash interrupted, and drops what a rebuild left unfinished.
pub(super) fn finish_swap(dir: &Path) -> io::Result<()> {
    let retired = retired(dir);
    // The old one is moved away only when the fresh one is complete.
    if !dir.exists() && retired.exists() {
        let next = if fresh(dir).exists() { fresh(dir) } else { retired.clone() };
        fs::rename(next, dir)?;
        sync_parent(dir)?;
    }
    remove(&fresh(dir))?;
    remove(&retired)
}

/// Whether there is no such directory, or nothing in it.
pub(super) fn is_absent(dir: &Path) -> io::Result<bool> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Removes a directory and all in it, if it is there.
pub(super) fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Removes a file, if it is there.
pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Moves a damaged directory to the next free `.bad.<n>` and drops all but the newest of those.
pub(super) fn set_aside(dir: &Path) -> io::Result<PathBuf> {
    let mut bad = bad_copies(dir)?;
    let next = bad.last().map_or(1, |(number, _)| number.saturating_add(1));
    let target = sibling(dir, &format!(".bad.{next}"));
    fs::rename(dir, &target)?;
    bad.push((next, target.clone()));
    let surplus = bad.len().saturating_sub(KEPT_BAD);
    for (_, path) in bad.iter().take(surplus) {
        remove(path)?;
    }
    clear_deaths(dir)?;
    sync_parent(dir)?;
    Ok(target)
}

fn bad_copies(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let prefix = sibling(dir, ".bad.");
    let prefix = prefix.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let mut found = Vec::new();
    for entry in fs::read_dir(parent(dir))? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(&prefix));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            found.push((number, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Removes the half-written snapshots of an opening that died: sled 0.34 takes such a file for its
/// newest one and then fails for ever (raft-storage.md §4).
pub(super) fn remove_generating(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Syncs every file of a directory, the directories below it, and itself.
pub(super) fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            match File::open(&path) {
                Ok(file) => file.sync_all()?,
                // sled removes its old snapshots when it likes.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    sync_dir(dir)
}

/// Makes the creations, renames and removals in a directory durable.
pub(in crate::store) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// [`sync_dir`] of the directory that holds `path`.
pub(in crate::store) fn sync_parent(path: &Path) -> io::Result<()> {
    sync_dir(parent(path))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn deaths_file(dir: &Path) -> PathBuf {
    sibling(dir, ".opening")
}

/// Notes that an opening begins; false when too many before it never ended. A damaged directory
/// can make sled ask for more memory than there is, or loop: neither can be caught.
pub(super) fn begin_opening(dir: &Path) -> io::Result<bool> {
    let file = deaths_file(dir);
    let deaths = match fs::read(&file) {
        Ok(marks) => marks.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    if deaths >= MAX_DEATHS {
        return Ok(false);
    }
    fs::write(&file, vec![b'.'; deaths + 1])?;
    Ok(true)
}

/// Notes that the opening ended, well or badly.
pub(super) fn clear_deaths(dir: &Path) -> io::Result<()> {
    remove_file(&deaths_file(dir))
}
