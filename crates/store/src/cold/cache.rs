//! Verified local copies of objects.
//!
//! # What it guarantees
//!
//! * What is read has the hash that was asked for: it is hashed while it is downloaded, and a file that is found is hashed on
//!   its first use in a process. Afterwards a look at its size, its times and its place on the disk tells whether it was
//!   touched; one that was is hashed again, and one that differs is thrown away and downloaded anew.
//! * A copy appears under its name, its hash, when it is whole: a crash leaves a file with another name, which is cleared away by whoever next opens the
//!   folder: such a file is locked by who has it, and a lock ends with its process.
//! * Copies take `cold.cache_bytes` and no more, beside those that are being read; what was not read for longest goes first.
//!   Other processes may use the folder, too: a file that goes while it is read stays readable to who has it open.
//! * Copies of what tells of people lie there only while they are read.
//! * Nobody else may read the folder: it is made so, and refused where it is not.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::digest::hex;
use crate::error::{Error, Result};

/// The end of the names of files that are not whole, or belong to one reader.
const PASSING: &str = ".part";

/// The folder.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    most_bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    files: HashMap<String, Known>,
    turn: u64,
}

/// What this process knows of a file.
#[derive(Debug, Default)]
struct Known {
    /// How it looked when it was hashed.
    stamp: Option<Stamp>,
    readers: usize,
    used: u64,
    metadata: Option<ArrowReaderMetadata>,
    flight: Arc<tokio::sync::Mutex<()>>,
}

/// What changes about a file when its contents do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    place: (u64, u64),
}

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let meta = file.metadata()?;
        Ok(Self {
            size: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
            place: (meta.dev(), meta.ino()),
        })
    }
}

/// An open file of the cache, which stays until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    cache: Arc<Cache>,
    /// The hash of a file that stays in the cache; none of one that goes with its reader.
    sha256: Option<String>,
    pub path: PathBuf,
    pub file: File,
}

impl Drop for Held {
    fn drop(&mut self) {
        match &self.sha256 {
            Some(sha256) => {
                if let Some(known) = self.cache.lock().files.get_mut(sha256) {
                    known.readers = known.readers.saturating_sub(1);
                }
            }
            None => {
                let _ = fs::remove_file(&self.path);
            }
        }
    }
}

impl Cache {
    /// Opens the folder, and makes it where it is not there.
    pub fn open(folder: &Path, most_bytes: u64) -> Result<Self> {
        make_private(folder).map_err(|error| {
            Error::unavailable(
                "cold_cache_unavailable",
                "the folder for copies of archives cannot be used: it must be a folder of this user that nobody else may read; see cold.cache_dir",
            )
            .with_source(error)
        })?;
        clear_away(folder);
        Ok(Self {
            folder: folder.to_owned(),
            most_bytes,
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, sha256: &str) -> PathBuf {
        self.folder.join(format!("{sha256}.parquet"))
    }

    /// The lock under which one object is looked for, or downloaded.
    pub fn flight(&self, sha256: &str) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(
            &self
                .lock()
                .files
                .entry(sha256.to_owned())
                .or_default()
                .flight,
        )
    }

    /// The copy of an object, if there is one that is right. Blocks.
    pub fn find(self: &Arc<Self>, sha256: &str, bytes: u64) -> Result<Option<Held>> {
        let path = self.path(sha256);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(error)),
        };
        let stamp = Stamp::of(&file).map_err(unusable)?;
        let is_known = self
            .lock()
            .files
            .get(sha256)
            .is_some_and(|known| known.stamp == Some(stamp));
        if !is_known {
            let is_right = stamp.size == bytes && hash(&file).map_err(unusable)? == sha256;
            // It may have been changed while it was hashed.
            if !is_right || Stamp::of(&file).map_err(unusable)? != stamp {
                tracing::warn!(
                    file = %path.display(),
                    "the copy of an archive in the cache was damaged; it is read from the object store again"
                );
                self.forget(sha256);
                return Ok(None);
            }
        }
        self.register(sha256, stamp);
        Ok(Some(Held {
            cache: Arc::clone(self),
            sha256: Some(sha256.to_owned()),
            path,
            file,
        }))
    }

    /// Counts one more reader of a file that looks so.
    fn register(&self, sha256: &str, stamp: Stamp) {
        let mut state = self.lock();
        state.turn += 1;
        let turn = state.turn;
        let known = state.files.entry(sha256.to_owned()).or_default();
        if known.stamp != Some(stamp) {
            known.metadata = None;
        }
        known.stamp = Some(stamp);
        known.readers += 1;
        known.used = turn;
    }

    /// A file to download into. It goes when it is dropped, unless it is [`keep`](Self::keep)ed. Blocks.
    pub fn begin(self: &Arc<Self>) -> Result<Held> {
        let path = self
            .folder
            .join(format!("{}{PASSING}", Uuid::new_v4().simple()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(unusable)?;
        file.lock().map_err(unusable)?;
        Ok(Held {
            cache: Arc::clone(self),
            sha256: None,
            path,
            file,
        })
    }

    /// Gives a whole file, whose hash was checked, its name, and makes room for it. Blocks.
    pub fn keep(self: &Arc<Self>, mut held: Held, sha256: &str) -> Result<Held> {
        let path = self.path(sha256);
        fs::rename(&held.path, &path).map_err(unusable)?;
        held.path = path;
        let stamp = Stamp::of(&held.file).map_err(unusable)?;
        self.register(sha256, stamp);
        held.sha256 = Some(sha256.to_owned());
        self.make_room();
        Ok(held)
    }

    /// Throws a copy away. Who reads it goes on.
    pub fn forget(&self, sha256: &str) {
        let _ = fs::remove_file(self.path(sha256));
        let mut state = self.lock();
        if let Some(known) = state.files.get_mut(sha256) {
            (known.stamp, known.metadata) = (None, None);
        }
    }

    /// Throws away the copies of all objects but those with these hashes; gives how many. Blocks.
    pub fn purge(&self, active: &HashSet<String>) -> Result<usize> {
        let mut purged = 0;
        for entry in fs::read_dir(&self.folder).map_err(unusable)?.flatten() {
            let path = entry.path();
            let is_copy = path.extension().is_some_and(|kind| kind == "parquet");
            if let Some(sha256) = name(&path).filter(|name| is_copy && !active.contains(*name)) {
                self.forget(sha256);
                purged += 1;
            }
        }
        Ok(purged)
    }

    /// The parsed metadata of a file that is held.
    pub fn metadata(&self, held: &Held) -> Option<ArrowReaderMetadata> {
        let sha256 = held.sha256.as_ref()?;
        self.lock().files.get(sha256)?.metadata.clone()
    }

    /// Keeps the parsed metadata of a file that is held.
    pub fn keep_metadata(&self, held: &Held, metadata: &ArrowReaderMetadata) {
        let Some(sha256) = &held.sha256 else { return };
        if let Some(known) = self.lock().files.get_mut(sha256) {
            known.metadata = Some(metadata.clone());
        }
    }

    /// Removes what was not read for longest until the rest has room.
    fn make_room(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        let mut files: Vec<(PathBuf, fs::Metadata)> = entries
            .flatten()
            .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
            .filter(|(path, meta)| meta.is_file() && !is_passing(path))
            .collect();
        let mut state = self.lock();
        // First those that this process has not read, the oldest first.
        files.sort_by_cached_key(|(path, meta)| {
            let used = name(path)
                .and_then(|name| state.files.get(name))
                .map(|known| known.used);
            (used, meta.mtime(), path.clone())
        });
        let mut bytes: u64 = files.iter().map(|(_, meta)| meta.len()).sum();
        for (path, meta) in files {
            if bytes <= self.most_bytes {
                break;
            }
            let known = name(&path).and_then(|name| state.files.get_mut(name));
            if known.as_ref().is_some_and(|known| known.readers > 0) {
                continue;
            }
            if fs::remove_file(&path).is_ok() {
                bytes -= meta.len();
                if let Some(known) = known {
                    (known.stamp, known.metadata) = (None, None);
                }
            }
        }
        state
            .files
            .retain(|_, known| known.stamp.is_some() || Arc::strong_count(&known.flight) > 1);
    }
}

fn is_passing(path: &Path) -> bool {
    path.to_string_lossy().ends_with(PASSING)
}

/// Removes the files that processes have left which ended: nobody holds their locks.
fn clear_away(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if is_passing(&path) && File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(&path);
        }
    }
}

/// The hash in the name of a file.
fn name(path: &Path) -> Option<&str> {
    path.file_stem()?.to_str()
}

/// Makes the folder, or sees that it is this user's alone: whoever else may write there could give us anything to read between
/// two looks at it, and what lies there tells of people.
fn make_private(folder: &Path) -> io::Result<()> {
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let meta = fs::symlink_metadata(folder)?;
    // Nothing for the group or others: the six lowest bits.
    let is_ours = meta.uid() == rustix::process::getuid().as_raw();
    if meta.is_dir() && is_ours && meta.mode().trailing_zeros() >= 6 {
        Ok(())
    } else {
        Err(io::Error::from(io::ErrorKind::PermissionDenied))
    }
}

fn hash(file: &File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut reader = ReadAt { file, at: 0 };
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}

/// Reads a file from a place of its own: readers of one open file do not disturb each other.
pub(super) struct ReadAt<F> {
    pub file: F,
    pub at: u64,
}

impl<F: std::ops::Deref<Target = File>> io::Read for ReadAt<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += u64::try_from(read).unwrap_or_default();
        Ok(read)
    }
}

pub(super) fn unusable(error: io::Error) -> Error {
    Error::unavailable(
        "cold_cache_unavailable",
        "the folder for copies of archives does not work: look for room on its disk; see cold.cache_dir",
    )
    .with_source(error)
}
