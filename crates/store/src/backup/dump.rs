//! From pg_dump into the object store, as a stream: nothing is on a disk in between, and memory is bounded whatever the size.
//!
//! ```text
//! pg_dump ──pipe──► hash ─► zstd, several threads ─► age ─► hash ─► parts ─► upload
//!  (a process)       (a thread that may block)                       (a few at once)
//! ```
//!
//! Each stage waits for the one after it. The end is passed on only where pg_dump ended well, so that a dump that broke off never
//! becomes an object: without an end nothing is completed, and the parts that were sent are given up.

use std::{
    io::{self, Write},
    path::Path,
    time::Duration,
};

use age::x25519::Recipient;
use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Child,
    sync::mpsc,
    time::timeout,
};

use super::{Progress, connection::Target};
use crate::{
    audit::hex,
    cold::{BackupKey, Bucket, Part},
    error::{Error, Result},
};

/// How much is passed on at once.
const CHUNK: usize = 512 * 1024;

/// The size of the first parts of an upload, and of those after them: a multipart upload has 10,000 at most, so that a
/// compressed dump may have 150 GB. Some five of them are in memory.
const PART: usize = 8 * 1024 * 1024;
const LATER_PART: usize = 16 * 1024 * 1024;
const FIRST_PARTS: usize = 1_000;
const MAX_PARTS: usize = 10_000;

/// The most that is kept of what a tool complains of: its end.
const COMPLAINT: usize = 8 * 1024;

/// How many threads compress, beside the one that feeds them.
const COMPRESSORS: u32 = 2;

/// What to dump, and how.
pub(super) struct Plan<'a> {
    pub tool: &'a Path,
    pub target: &'a Target,
    pub snapshot: &'a str,
    pub recipients: Vec<Recipient>,
    pub level: i32,
    /// How long pg_dump may say nothing.
    pub stall: Duration,
}

/// What was stored.
#[derive(Debug)]
pub(super) struct Dumped {
    pub plain_bytes: u64,
    pub plain_sha256: String,
    pub stored_bytes: u64,
    pub stored_sha256: String,
}

/// Dumps the snapshot into the object.
pub(super) async fn dump(
    bucket: &Bucket,
    key: BackupKey,
    plan: Plan<'_>,
    progress: &Progress,
) -> Result<Dumped> {
    let mut child = plan
        .target
        .command(plan.tool, "utxoiq-store backup")
        .await?
        .args([
            "--format=custom",
            "--compress=0",
            "--no-blobs",
            "--no-password",
            "--lock-wait-timeout=10s",
        ])
        .arg(format!("--snapshot={}", plan.snapshot))
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .map_err(|error| {
            tool_failed("pg_dump", "it could not be started", "").with_source(error)
        })?;
    let (chunks, plain) = mpsc::channel(4);
    let (parts, stored) = mpsc::channel(1);
    let (recipients, level) = (plan.recipients, plan.level);
    let encoding = tokio::task::spawn_blocking(move || encode(plain, parts, &recipients, level));
    let (read, encoded, uploaded) = tokio::join!(
        feed(&mut child, chunks, plan.stall, progress),
        encoding,
        bucket.upload(key, stored)
    );
    // Who failed made the others stop; only its own error says why.
    let is_whole = read?;
    let is_stored = uploaded?;
    let encoded = encoded.map_err(|error| {
        Error::internal("the dump was not compressed to its end").with_source(error)
    })??;
    match encoded {
        Some(dumped) if is_whole && is_stored => Ok(dumped),
        _ => Err(Error::internal("the dump was not stored to its end")),
    }
}

/// What the encoder is fed with.
enum Chunk {
    More(Bytes),
    /// pg_dump ended well.
    End,
}

/// Passes on what pg_dump writes. `false` where nobody takes it any more.
async fn feed(
    child: &mut Child,
    chunks: mpsc::Sender<Chunk>,
    stall: Duration,
    progress: &Progress,
) -> Result<bool> {
    let (Some(mut output), Some(complaints)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(Error::internal("pg_dump has no output"));
    };
    let complaint = tokio::spawn(tail(complaints));
    let stalled = || {
        let seconds = stall.as_secs();
        tool_failed(
            "pg_dump",
            &format!("it wrote nothing for {seconds} s, and was killed"),
            "",
        )
    };
    let mut chunk = BytesMut::with_capacity(CHUNK);
    loop {
        let read = timeout(stall, output.read_buf(&mut chunk))
            .await
            .map_err(|_| stalled())?
            .map_err(|error| {
                tool_failed("pg_dump", "its output broke off", "").with_source(error)
            })?;
        let is_over = read == 0;
        if chunk.len() >= CHUNK - 64 * 1024 || is_over {
            progress.add(chunk.len() as u64);
            let full = std::mem::replace(&mut chunk, BytesMut::with_capacity(CHUNK));
            if chunks.send(Chunk::More(full.freeze())).await.is_err() {
                return Ok(false);
            }
        }
        if is_over {
            break;
        }
    }
    let status = timeout(stall, child.wait())
        .await
        .map_err(|_| stalled())?
        .map_err(|error| tool_failed("pg_dump", "its end was not seen", "").with_source(error))?;
    let complaint = complaint.await.unwrap_or_default();
    if !status.success() {
        return Err(tool_failed("pg_dump", &status.to_string(), &complaint));
    }
    Ok(chunks.send(Chunk::End).await.is_ok())
}

/// The end of what a tool complained of.
pub(super) async fn tail(mut complaints: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0_u8; 4096];
    while let Ok(read) = complaints.read(&mut buffer).await {
        if read == 0 {
            break;
        }
        kept.extend_from_slice(&buffer[..read]);
        if kept.len() > COMPLAINT {
            kept.drain(..kept.len() - COMPLAINT);
        }
    }
    String::from_utf8_lossy(&kept).trim().replace('\0', "")
}

/// The error of a tool of PostgreSQL's. Its complaints name tables and roles, never a password: it reads that from its
/// environment and does not repeat it.
pub(super) fn tool_failed(tool: &str, how: &str, complaint: &str) -> Error {
    let last = complaint.lines().last().unwrap_or_default();
    let said = if last.is_empty() {
        String::new()
    } else {
        format!("; it said: {last}")
    };
    let error = Error::unavailable("backup_tool_failed", format!("{tool} failed: {how}{said}"));
    if complaint.is_empty() {
        error
    } else {
        error.with_source(complaint.to_owned())
    }
}

/// Compresses and encrypts; `None` where what it was fed with, or who took it, ended before the end. Blocks.
fn encode(
    mut plain: mpsc::Receiver<Chunk>,
    parts: mpsc::Sender<Part>,
    recipients: &[Recipient],
    level: i32,
) -> Result<Option<Dumped>> {
    let recipients = recipients.iter().map(|one| one as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(recipients)
        .map_err(|error| Error::internal("the dump cannot be encrypted").with_source(error))?;
    let mut hash = Sha256::new();
    let mut bytes = 0;
    let write = || -> io::Result<Option<Parts>> {
        let encrypted = encryptor.wrap_output(Parts::new(parts))?;
        let mut compressed = zstd::stream::write::Encoder::new(encrypted, level)?;
        compressed.include_checksum(true)?;
        compressed.multithread(COMPRESSORS)?;
        loop {
            match plain.blocking_recv() {
                None => return Ok(None),
                Some(Chunk::More(chunk)) => {
                    hash.update(&chunk);
                    bytes += chunk.len() as u64;
                    compressed.write_all(&chunk)?;
                }
                Some(Chunk::End) => return compressed.finish()?.finish().map(Some),
            }
        }
    };
    let written = match write() {
        Ok(None) => return Ok(None),
        // Nobody takes the parts any more: the upload's own error says why.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            return Err(Error::unavailable(
                "backup_too_large",
                format!(
                    "the compressed dump has more than {MAX_PARTS} parts, the most that an object store takes for one object"
                ),
            ));
        }
        Err(error) => {
            return Err(
                Error::internal("the dump was not compressed to its end").with_source(error)
            );
        }
        Ok(Some(written)) => written,
    };
    let Some((stored_bytes, stored_sha256)) = written.finish() else {
        return Ok(None);
    };
    Ok(Some(Dumped {
        plain_bytes: bytes,
        plain_sha256: hex(&hash.finalize()),
        stored_bytes,
        stored_sha256,
    }))
}

/// Gathers bytes into the parts of an upload.
struct Parts {
    sender: mpsc::Sender<Part>,
    gathered: BytesMut,
    sent: usize,
    bytes: u64,
    hash: Sha256,
}

impl Parts {
    fn new(sender: mpsc::Sender<Part>) -> Self {
        Self {
            sender,
            gathered: BytesMut::with_capacity(PART),
            sent: 0,
            bytes: 0,
            hash: Sha256::new(),
        }
    }

    fn size(&self) -> usize {
        if self.sent < FIRST_PARTS {
            PART
        } else {
            LATER_PART
        }
    }

    fn take(&mut self) -> Bytes {
        let full = std::mem::take(&mut self.gathered).freeze();
        self.hash.update(&full);
        self.bytes += full.len() as u64;
        self.sent += 1;
        full
    }

    /// Sends the last part; the size and the hash of all, or `None` where nobody takes it.
    fn finish(mut self) -> Option<(u64, String)> {
        let last = self.take();
        self.sender.blocking_send(Part::Last(last)).ok()?;
        Some((self.bytes, hex(&self.hash.finalize())))
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.size() - self.gathered.len();
        let taken = &bytes[..room.min(bytes.len())];
        self.gathered.extend_from_slice(taken);
        if self.gathered.len() == self.size() {
            if self.sent + 1 >= MAX_PARTS {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            let full = self.take();
            self.gathered.reserve(self.size());
            self.sender
                .blocking_send(Part::More(full))
                .map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
