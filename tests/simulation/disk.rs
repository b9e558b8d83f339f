//! A disk that forgets: files are real, but what was not synced is known, sector by sector and
//! name by name, and a crash takes part of it back.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::random::Random;

const SECTOR: u64 = 512;

/// What a crash does to data that was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// All of it is gone.
    All,
    /// Some sectors had reached the disk, in any order.
    Torn,
    /// All of it had reached the disk: as when only the process was killed.
    Nothing,
}

#[derive(Debug)]
enum NameChange {
    Created(PathBuf),
    Renamed { from: PathBuf, to: PathBuf },
    Removed { path: PathBuf, kept: PathBuf },
}

/// A file that is or was open.
#[derive(Debug)]
struct Known {
    inode: u64,
    file: File,
    /// The content of sectors that were written since the last sync, as it is durable.
    durable: BTreeMap<u64, Vec<u8>>,
    /// Where writes had ended at the last two syncs that made something durable.
    ends: [u64; 2],
    written_end: u64,
}

/// The disk of one node.
#[derive(Debug)]
pub(crate) struct Disk {
    /// Where removed files are kept until the removal is durable.
    grave: PathBuf,
    buried: u64,
    files: Vec<Known>,
    names: Vec<NameChange>,
    pub(crate) faults: Faults,
    pub(crate) syncs: u64,
}

/// What goes wrong while the node runs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Every write to a file returns ENOSPC.
    pub(crate) is_full: bool,
    /// Writes of new blocks return ENOSPC: those that zero a file.
    pub(crate) is_nearly_full: bool,
    /// The next sync returns EIO.
    pub(crate) sync_fails: bool,
    /// Milliseconds that a sync takes, at least and at most.
    pub(crate) sync_millis: Option<(u64, u64)>,
}

impl Disk {
    pub(crate) fn new(grave: PathBuf) -> Self {
        fs::create_dir_all(&grave).expect("a directory for removed files");
        let (files, names) = (Vec::new(), Vec::new());
        Self { grave, buried: 0, files, names, faults: Faults::default(), syncs: 0 }
    }

    fn known(&mut self, file: &File) -> io::Result<&mut Known> {
        let inode = file.metadata()?.ino();
        let at = match self.files.iter().position(|known| known.inode == inode) {
            Some(at) => at,
            None => {
                // The clone keeps the inode from being given to another file.
                let file = file.try_clone()?;
                let (durable, ends) = (BTreeMap::new(), [0; 2]);
                self.files.push(Known { inode, file, durable, ends, written_end: 0 });
                self.files.len() - 1
            }
        };
        Ok(&mut self.files[at])
    }

    pub(crate) fn write_at(&mut self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let is_new = bytes.iter().all(|byte| *byte == 0);
        if self.faults.is_full || (self.faults.is_nearly_full && is_new) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let end = offset + bytes.len() as u64;
        let known = self.known(file)?;
        for sector in offset / SECTOR..end.div_ceil(SECTOR) {
            if let Entry::Vacant(unknown) = known.durable.entry(sector) {
                unknown.insert(read_sector(file, sector)?);
            }
        }
        if !is_new {
            known.written_end = known.written_end.max(end);
        }
        file.write_all_at(bytes, offset)
    }

    pub(crate) fn sync(&mut self, file: &File) -> io::Result<()> {
        if std::mem::take(&mut self.faults.sync_fails) {
            return Err(io::Error::other("injected EIO"));
        }
        self.syncs += 1;
        let known = self.known(file)?;
        known.durable.clear();
        if known.written_end > known.ends[1] {
            known.ends = [known.ends[1], known.written_end];
        }
        Ok(())
    }

    pub(crate) fn created(&mut self, path: &Path) {
        self.names.push(NameChange::Created(path.to_owned()));
    }

    pub(crate) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        self.names.push(NameChange::Renamed { from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    pub(crate) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let kept = self.grave.join(self.buried.to_string());
        self.buried += 1;
        fs::rename(path, &kept)?;
        self.names.push(NameChange::Removed { path: path.to_owned(), kept });
        Ok(())
    }

    pub(crate) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        let is_in = |path: &PathBuf| path.parent() == Some(dir);
        for change in std::mem::take(&mut self.names) {
            match change {
                NameChange::Created(path) if is_in(&path) => {}
                NameChange::Renamed { to, .. } if is_in(&to) => {}
                NameChange::Removed { path, kept } if is_in(&path) => fs::remove_file(kept)?,
                other @ (NameChange::Created(_)
                | NameChange::Renamed { .. }
                | NameChange::Removed { .. }) => self.names.push(other),
            }
        }
        Ok(())
    }

    /// The power goes, or only the process. Gives what was lost: sectors and names.
    pub(crate) fn crash(&mut self, loss: Loss, random: &mut Random) -> (usize, usize) {
        let mut sectors = 0;
        for known in self.files.drain(..) {
            for (sector, before) in known.durable {
                let is_lost = match loss {
                    Loss::All => true,
                    Loss::Torn => random.per_mille(500),
                    Loss::Nothing => false,
                };
                if is_lost {
                    sectors += 1;
                    known.file.write_all_at(&before, sector * SECTOR).expect("restore a sector");
                }
            }
        }
        // Names become durable in their order.
        let kept = match loss {
            Loss::All => 0,
            Loss::Torn => random.below(self.names.len() + 1),
            Loss::Nothing => self.names.len(),
        };
        let lost = self.names.split_off(kept);
        let names = lost.len();
        for change in lost.into_iter().rev() {
            match change {
                NameChange::Created(path) => drop(fs::remove_file(path)),
                NameChange::Renamed { from, to } => fs::rename(to, from).expect("rename back"),
                NameChange::Removed { path, kept } => fs::rename(kept, path).expect("bring back"),
            }
        }
        self.names.clear();
        (sectors, names)
    }

    /// A place in a file whose damage must be noticed: durable, and followed by a record that was
    /// written when it was.
    pub(crate) fn provable(&self, random: &mut Random) -> Option<(File, u64)> {
        let candidates: Vec<_> = self
            .files
            .iter()
            .filter(|known| known.ends[0] > 0 && known.durable.is_empty())
            .filter(|known| known.file.metadata().is_ok_and(|it| it.nlink() > 0))
            .collect();
        let known = candidates.last()?;
        let at = random.within(0..known.ends[0]);
        Some((known.file.try_clone().ok()?, at))
    }
}

/// A sector as it is, as far as the file goes.
fn read_sector(file: &File, sector: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(SECTOR).unwrap_or(512)];
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], sector * SECTOR + read as u64)? {
            0 => break,
            more => read += more,
        }
    }
    bytes.truncate(read);
    Ok(bytes)
}

/// Turns one bit.
pub(crate) fn flip(file: &File, at: u64, bit: u32) -> io::Result<()> {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    byte[0] ^= 1 << (bit % 8);
    file.write_all_at(&byte, at)
}
