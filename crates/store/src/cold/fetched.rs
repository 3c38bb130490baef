//! Objects on this machine: downloaded, hashed and opened.

use std::{fmt, fs::File, io::Write as _, os::unix::fs::FileExt as _, path::Path, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _};
use parquet::{
    arrow::arrow_reader::{
        ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
    },
    errors::ParquetError,
    file::{
        metadata::PageIndexPolicy,
        reader::{ChunkReader, Length},
    },
};
use sha2::{Digest as _, Sha256};

use super::{
    ColdStore, Dataset, ObjectKey,
    cache::{Held, ReadAt, unusable},
    columns::stored_schema,
    digest::hex,
};
use crate::error::{Error, Result};

/// How much is asked for at once: a request that fails costs no more than this.
const BYTES_A_REQUEST: u64 = 8 * 1024 * 1024;

/// An object that was stored, and what was recorded of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject {
    /// Where it lies, and what it holds.
    pub key: ObjectKey,
    /// Its size.
    pub bytes: u64,
    /// The SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
}

/// A verified copy of an object on this machine. It stays readable as long as this does; clones share it.
#[derive(Clone)]
pub struct Fetched {
    held: Arc<Held>,
    bytes: u64,
    key: ObjectKey,
    metadata: ArrowReaderMetadata,
}

impl ColdStore {
    /// A verified copy of an object: the one in the cache, or one that is downloaded now. Several who want it at once share one
    /// download.
    ///
    /// # Errors
    ///
    /// `cold_object_missing` where it is not there, `cold_object_damaged` where its bytes are not those that were recorded.
    pub async fn fetch(&self, object: &StoredObject) -> Result<Fetched> {
        let is_hash = object.sha256.len() == 64 && object.sha256.bytes().all(is_digit);
        if !is_hash {
            // It becomes the name of a file.
            return Err(Error::internal(
                "what was recorded of an archive is no hash",
            ));
        }
        if !object.key.about().dataset.is_kept_in_cache() {
            let held = self.download(object).await?;
            return self.open_copy(held, object).await;
        }
        let flight = self.cache.flight(&object.sha256);
        let _first = flight.lock().await;
        let (cache, wanted) = (Arc::clone(&self.cache), object.clone());
        let found = blocking(move || cache.find(&wanted.sha256, wanted.bytes)).await?;
        let held = match found {
            Some(held) => held,
            None => self.keep(self.download(object).await?, object).await?,
        };
        self.open_copy(held, object).await
    }

    /// As [`fetch`](Self::fetch), and from the store itself, whatever is in the cache.
    pub(super) async fn fetch_anew(&self, object: &StoredObject) -> Result<Fetched> {
        let mut held = self.download(object).await?;
        if object.key.about().dataset.is_kept_in_cache() {
            held = self.keep(held, object).await?;
        }
        self.open_copy(held, object).await
    }

    async fn keep(&self, held: Held, object: &StoredObject) -> Result<Held> {
        let (cache, sha256) = (Arc::clone(&self.cache), object.sha256.clone());
        blocking(move || cache.keep(held, &sha256)).await
    }

    async fn open_copy(&self, held: Held, object: &StoredObject) -> Result<Fetched> {
        let (cache, object) = (Arc::clone(&self.cache), object.clone());
        blocking(move || {
            let known = cache.metadata(&held);
            let held = Arc::new(held);
            let metadata = match known {
                Some(metadata) => metadata,
                None => read_metadata(&held, &object)?,
            };
            cache.keep_metadata(&held, &metadata);
            Ok(Fetched {
                held,
                bytes: object.bytes,
                key: object.key,
                metadata,
            })
        })
        .await
    }

    /// Downloads an object into a file of its own, and compares size and hash.
    async fn download(&self, object: &StoredObject) -> Result<Held> {
        let cache = Arc::clone(&self.cache);
        let mut held = blocking(move || cache.begin()).await?;
        let mut hash = Sha256::new();
        let starts = (0..object.bytes).step_by(usize::try_from(BYTES_A_REQUEST).unwrap_or(1));
        // One request goes on while what the last one brought is written.
        let mut pieces = futures_util::stream::iter(starts)
            .map(|start| self.piece(object, start))
            .buffered(2);
        while let Some(piece) = pieces.try_next().await? {
            (held, hash) = blocking(move || {
                hash.update(&piece);
                held.file.write_all(&piece).map_err(unusable)?;
                Ok((held, hash))
            })
            .await?;
        }
        drop(pieces);
        let sha256 = hex(&hash.finalize());
        if sha256 == object.sha256 {
            Ok(held)
        } else {
            let wanted = &object.sha256;
            Err(damaged(
                object.key,
                &format!("its hash is {sha256} instead of {wanted}"),
            ))
        }
    }

    async fn piece(&self, object: &StoredObject, start: u64) -> Result<Bytes> {
        let end = object.bytes.min(start + BYTES_A_REQUEST);
        let (piece, size) = self.remote.get_range(object.key, start..end).await?;
        let length = u64::try_from(piece.len()).unwrap_or_default();
        if size != object.bytes {
            let wanted = object.bytes;
            return Err(damaged(
                object.key,
                &format!("it has {size} bytes instead of {wanted}"),
            ));
        }
        if length != end - start {
            return Err(damaged(object.key, "parts of it are missing"));
        }
        Ok(piece)
    }
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// The error of an object whose bytes are not those that were recorded.
pub(super) fn damaged(key: ObjectKey, how: &str) -> Error {
    Error::unavailable(
        "cold_object_damaged",
        format!(
            "{key} in the object store is not what was stored: {how}; look at the bucket's log, and for another version of the object"
        ),
    )
}

fn read_metadata(held: &Arc<Held>, object: &StoredObject) -> Result<ArrowReaderMetadata> {
    let options = ArrowReaderOptions::new()
        .with_page_index_policy(PageIndexPolicy::Required)
        .with_schema(Arc::new(stored_schema(object.key.about().dataset)));
    let file = LocalFile {
        held: Arc::clone(held),
        bytes: object.bytes,
    };
    ArrowReaderMetadata::load(&file, options)
        .map_err(|error| damaged(object.key, "it cannot be read").with_source(error))
}

/// Work that blocks, off the threads that serve.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::internal("work on an archive broke off").with_source(error))?
}

impl Fetched {
    /// Of which rows.
    pub fn dataset(&self) -> Dataset {
        self.key.about().dataset
    }

    /// The object it is a copy of.
    pub fn key(&self) -> ObjectKey {
        self.key
    }

    /// How many rows it has.
    pub fn row_count(&self) -> u64 {
        let rows = self.metadata.metadata().file_metadata().num_rows();
        u64::try_from(rows).unwrap_or_default()
    }

    /// The file, for another program to read while this is kept.
    pub fn path(&self) -> &Path {
        &self.held.path
    }

    pub(super) fn metadata(&self) -> &ArrowReaderMetadata {
        &self.metadata
    }

    /// A reader of its rows.
    pub(super) fn reader(&self) -> ParquetRecordBatchReaderBuilder<LocalFile> {
        let file = LocalFile {
            held: Arc::clone(&self.held),
            bytes: self.bytes,
        };
        ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
    }

    /// The error of a file that cannot be decoded, although its hash was right.
    pub(super) fn undecodable(
        &self,
        error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        damaged(self.key, "it cannot be read").with_source(error)
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl Fetched {
    /// Bytes as a copy of an object, whatever they are.
    pub(super) fn of_bytes(
        cache: &Arc<super::cache::Cache>,
        key: ObjectKey,
        bytes: &[u8],
    ) -> Result<Self> {
        let mut held = cache.begin()?;
        held.file.write_all(bytes).map_err(unusable)?;
        let object = StoredObject {
            key,
            bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            sha256: String::new(),
        };
        let held = Arc::new(held);
        let metadata = read_metadata(&held, &object)?;
        Ok(Self {
            held,
            bytes: object.bytes,
            key,
            metadata,
        })
    }
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetched")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// The open file, for the decoder; it can be read at several places at once.
pub(super) struct LocalFile {
    held: Arc<Held>,
    bytes: u64,
}

impl std::ops::Deref for HeldFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0.file
    }
}

/// The same for one reader.
pub(super) struct HeldFile(Arc<Held>);

impl Length for LocalFile {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for LocalFile {
    type T = ReadAt<HeldFile>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(ReadAt {
            file: HeldFile(Arc::clone(&self.held)),
            at: start,
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        // What a damaged file says of its own pages: room is made only for what can be there.
        let rest = self.bytes.saturating_sub(start);
        if u64::try_from(length).is_ok_and(|length| length > rest) {
            return Err(ParquetError::EOF(format!(
                "{length} bytes at {start} of {}",
                self.bytes
            )));
        }
        let mut bytes = BytesMut::zeroed(length);
        self.held
            .file
            .read_exact_at(&mut bytes, start)
            .map_err(|error| ParquetError::External(error.into()))?;
        Ok(bytes.freeze())
    }
}
