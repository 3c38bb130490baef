//! A stored dump, read back, checked and unpacked onto this machine's disk.
//!
//! ```text
//! object store ──pieces──► hash ─► age ─► zstd ──plain──► hash ─► a file without a name
//!                          (a thread that may block)       (another one)
//! ```
//!
//! pg_restore needs a file to go through in several jobs, and nothing may be left of it: it has no name from the beginning, so
//! that the system gives its space back when the last process that has it open is gone, however it went.
//!
//! All of it is compared with the manifest, before it was wrapped and after: who gets the file has what pg_dump wrote.

use std::{
    fs::File,
    io::{self, Read, Write as _},
    path::Path,
};

use age::x25519::Identity;
use bytes::{Buf as _, Bytes};
use futures_util::TryStreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::{sync::mpsc, task::spawn_blocking};

use crate::{
    audit::hex,
    backup::{Manifest, Progress, keys},
    cold::Bucket,
    error::{Error, Result},
};

/// How much is passed on at once.
const CHUNK: usize = 512 * 1024;

/// What is left free on the disk beside the dump.
const MARGIN: u64 = 64 * 1024 * 1024;

/// The dump that a manifest tells of, as pg_dump wrote it.
///
/// # Errors
///
/// `backup_differs` where the store has other bytes; `wrong_key`; `backup_damaged` where the bytes are right and hold something
/// else; `scratch_full`.
pub(super) async fn spool(
    bucket: &Bucket,
    manifest: &Manifest,
    identity: &Identity,
    folder: &Path,
    progress: &Progress,
) -> Result<File> {
    let dump = &manifest.dump;
    progress.begin("unpacking", dump.plain_bytes);
    check_room(folder, dump.plain_bytes)?;
    check_size(bucket, manifest).await?;
    let file = nameless(folder)?;
    let (stored, pieces) = mpsc::channel(1);
    let (chunks, plain) = mpsc::channel(4);
    let (identity, most) = (identity.clone(), dump.plain_bytes);
    let unpacking = spawn_blocking(move || unpack(pieces, &chunks, &identity));
    let keeping = spawn_blocking(move || keep(plain, file, most));
    let reading = async {
        let mut read = bucket.read(manifest.key(), dump.stored_bytes);
        while let Some(piece) = read.try_next().await? {
            let share = piece.len() as u64;
            if stored.send(piece).await.is_err() {
                break;
            }
            // What unpacks to so much, about.
            progress.add(share.saturating_mul(dump.plain_bytes) / dump.stored_bytes.max(1));
        }
        drop(stored);
        Ok::<_, Error>(())
    };
    let (read, unpacked, kept) = tokio::join!(reading, unpacking, keeping);
    read?;
    let ended =
        |error| Error::internal("the backup was not unpacked to its end").with_source(error);
    let (file, bytes, sha256) = kept
        .map_err(ended)?
        .map_err(|error| not_kept(folder, dump.plain_bytes, error))?;
    let unpacked = unpacked.map_err(ended)?;
    if unpacked.sha256 != dump.stored_sha256 {
        return Err(differs(manifest));
    }
    unpacked.outcome?;
    if bytes != dump.plain_bytes || sha256 != dump.plain_sha256 {
        return Err(damaged(None));
    }
    Ok(file)
}

/// Before it is read: an object store knows no pieces of what has none.
async fn check_size(bucket: &Bucket, manifest: &Manifest) -> Result<()> {
    match bucket.head(manifest.key()).await? {
        Some((size, _)) if size == manifest.dump.stored_bytes => Ok(()),
        Some(_) => Err(differs(manifest)),
        None => Err(Error::not_found(
            "cold_object_missing",
            format!("{} is not in the object store", manifest.object),
        )),
    }
}

fn differs(manifest: &Manifest) -> Error {
    Error::unavailable(
        "backup_differs",
        format!(
            "{} is not what was written there: restore another backup, or from the second copy, and look at the bucket's log",
            manifest.object
        ),
    )
}

fn check_room(folder: &Path, needed: u64) -> Result<()> {
    let disk = rustix::fs::statvfs(folder).map_err(|error| {
        Error::invalid(
            "invalid_config",
            "backup.scratch_dir is no folder that can be written to",
        )
        .with_source(error)
    })?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < needed.saturating_add(MARGIN) {
        return Err(full(needed, Some(free)));
    }
    Ok(())
}

fn full(needed: u64, free: Option<u64>) -> Error {
    let free = free.map_or_else(String::new, |free| format!(", {free} are free"));
    Error::unavailable(
        "scratch_full",
        format!(
            "the disk of backup.scratch_dir has no room for the dump: it has {needed} bytes{free}; make room, or set another folder"
        ),
    )
}

/// A file without a name.
pub(super) fn nameless(folder: &Path) -> Result<File> {
    tempfile::tempfile_in(folder).map_err(|error| {
        Error::unavailable(
            "scratch_unusable",
            "no file could be made in backup.scratch_dir",
        )
        .with_source(error)
    })
}

fn not_kept(folder: &Path, needed: u64, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            let free = rustix::fs::statvfs(folder)
                .map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize))
                .ok();
            full(needed, free)
        }
        io::ErrorKind::InvalidData => damaged(Some(error)),
        _ => Error::unavailable(
            "scratch_unusable",
            "the dump could not be written to backup.scratch_dir",
        )
        .with_source(error),
    }
}

fn damaged(error: Option<io::Error>) -> Error {
    let damaged = Error::unavailable(
        "backup_damaged",
        "the stored bytes are those that were written, and do not hold the dump that the manifest tells of: restore another backup",
    );
    match error {
        Some(error) => damaged.with_source(error),
        None => damaged,
    }
}

/// What came of the stored bytes.
struct Unpacked {
    /// Of all stored bytes.
    sha256: String,
    outcome: Result<()>,
}

/// Decrypts and decompresses. Takes all pieces in any case: whether they are the right ones says more than why they could not be
/// unpacked. Blocks.
fn unpack(
    pieces: mpsc::Receiver<Bytes>,
    chunks: &mpsc::Sender<Bytes>,
    identity: &Identity,
) -> Unpacked {
    let mut pieces = Pieces {
        coming: pieces,
        current: Bytes::new(),
        hash: Sha256::new(),
    };
    let outcome = (|| {
        let opened = keys::decrypt(&mut pieces, identity)?;
        let mut plain =
            zstd::stream::read::Decoder::new(opened).map_err(|error| damaged(Some(error)))?;
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            let read = plain
                .by_ref()
                .take(CHUNK as u64)
                .read_to_end(&mut chunk)
                .map_err(|error| damaged(Some(error)))?;
            // Whoever keeps them says itself why it does not any more.
            if read == 0 || chunks.blocking_send(chunk.into()).is_err() {
                return Ok(());
            }
        }
    })();
    while !chunks.is_closed() && pieces.next().is_some() {}
    Unpacked {
        sha256: hex(&pieces.hash.finalize()),
        outcome,
    }
}

/// Writes what it is given, and gives the file, how many bytes it has, and their hash. Blocks.
fn keep(
    mut plain: mpsc::Receiver<Bytes>,
    mut file: File,
    most: u64,
) -> io::Result<(File, u64, String)> {
    let mut hash = Sha256::new();
    let mut bytes = 0;
    while let Some(chunk) = plain.blocking_recv() {
        bytes += chunk.len() as u64;
        if bytes > most {
            return Err(io::ErrorKind::InvalidData.into());
        }
        hash.update(&chunk);
        file.write_all(&chunk)?;
    }
    file.flush()?;
    Ok((file, bytes, hex(&hash.finalize())))
}

/// The pieces as one stream, hashed as they come.
struct Pieces {
    coming: mpsc::Receiver<Bytes>,
    current: Bytes,
    hash: Sha256,
}

impl Pieces {
    /// The next piece becomes the current one.
    fn next(&mut self) -> Option<()> {
        self.current = self.coming.blocking_recv()?;
        self.hash.update(&self.current);
        Some(())
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            if self.next().is_none() {
                return Ok(0);
            }
        }
        let read = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..read]);
        Ok(read)
    }
}
