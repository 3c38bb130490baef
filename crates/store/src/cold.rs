//! The cold store: archives as Parquet in object storage.
//!
//! # What it guarantees
//!
//! * **What was proved is there.** [`ColdStore::write`] says what it wrote; only [`ColdStore::prove`], which reads the whole object
//!   back and compares its bytes and its rows, says that the store has it. Nothing may be deleted before. A store that reports
//!   success and stores nothing, or other bytes, is found out there.
//! * **What was removed is gone.** [`ColdStore::remove`] asks afterwards.
//! * **What is read is what was written.** [`ColdStore::fetch`] gives a copy whose hash was compared with the recorded one; nothing
//!   else is ever decoded.
//! * **Memory is bounded.** Rows are streamed both ways: a row group, a few parts of an upload and a few batches are in memory,
//!   whatever the size.
//! * **Time is bounded.** Each request has `cold.timeout_seconds` with all its retries.
//!
//! # Why so
//!
//! An object store answers for itself only, and deleting from the database cannot be undone; so the proof is made over what comes
//! back, on the side that will rely on it. The [content digest](digest) is one that the database computes, too, so that what is
//! about to be dropped is compared with what was archived without being moved. Every attempt writes a key of its own
//! ([`ObjectKey`]): no two writers meet, and an attempt that came too late changes nothing that was proved.
//!
//! Files are what any reader of Parquet takes, in folders named `day=…`, which BigQuery, DuckDB and Spark read as a column.

mod bucket;
mod cache;
mod columns;
mod connect;
mod dataset;
mod digest;
mod encode;
mod fetched;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod key;
mod local;
mod manifest;
mod names;
mod probe;
mod remote;
mod rows;
mod samples;
mod search;
mod stats;
mod upload;
mod write;

use std::{
    collections::HashSet,
    env, fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::stream::BoxStream;
use object_store::ObjectStore;

pub use bucket::{Bucket, Part, Provider};
pub use columns::Value;
pub use dataset::{Column, ColumnKind, Dataset, Values};
pub use fetched::{Fetched, StoredObject};
pub use key::{ArchiveKey, BackupKey, ObjectKey};
pub use manifest::{AuditHead, Manifest};
pub use names::SeriesNames;
pub use probe::probe;
pub use remote::Listed;
pub use rows::{Batches, CopyIn, RowView};
pub use samples::{ColdSample, SampleRange, Samples};
pub use stats::ColumnStats;
pub use write::Written;

pub use crate::tls::use_ring;

use crate::{
    config::ColdSettings,
    error::{Error, Result},
};
use cache::Cache;
use remote::Remote;

/// What writes archives, as they say themselves.
const PROGRAM: &str = concat!("utxoiq-store ", env!("CARGO_PKG_VERSION"));

/// Archives in object storage. Clones share the client and the cache.
#[derive(Clone)]
pub struct ColdStore {
    remote: Remote,
    cache: Arc<Cache>,
    /// The folder, where the store is one.
    folder: Option<Arc<PathBuf>>,
}

impl ColdStore {
    /// The store of the settings; `None` where they name none. Asks it nothing yet.
    pub fn open(settings: &ColdSettings) -> Result<Option<Self>> {
        let Some(url) = &settings.url else {
            return Ok(None);
        };
        let connected = connect::connect(&settings.into(), url)?;
        let folder = settings.cache_dir.as_ref().map_or_else(
            || {
                let user = rustix::process::getuid().as_raw();
                env::temp_dir().join(format!("utxoiq-store-cold-{user}"))
            },
            PathBuf::from,
        );
        let timeout = Duration::from_secs(settings.timeout_seconds);
        Ok(Some(Self {
            remote: Remote::new(connected.store, connected.prefix, timeout),
            cache: Arc::new(Cache::open(&folder, settings.cache_bytes)?),
            folder: local::folder_of(url).map(Arc::new),
        }))
    }

    /// A store over any object store, for tests: below a prefix, with a folder for copies.
    pub fn over(
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        cache_dir: &Path,
        cache_bytes: u64,
    ) -> Result<Self> {
        Ok(Self {
            remote: Remote::new(store, prefix.into(), Duration::from_secs(30)),
            cache: Arc::new(Cache::open(cache_dir, cache_bytes)?),
            folder: None,
        })
    }

    /// The same with another time limit for each request.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.remote.timeout = timeout;
        self
    }

    /// Removes an object and its manifest, and asks whether they are gone. What is not there is removed.
    ///
    /// # Errors
    ///
    /// `cold_object_remains` where the store still has one of them, whatever it said; `cold_store_unavailable`.
    pub async fn remove(&self, key: ObjectKey) -> Result<()> {
        // The object first: without it, the manifest still tells what there was.
        for key in [key.object(), key.manifest()] {
            if let Some(folder) = &self.folder {
                local::remove_unfinished(Arc::clone(folder), key).await?;
            }
            self.remote.delete(key).await?;
            if self.remote.size(key).await?.is_some() {
                return Err(Error::unavailable(
                    "cold_object_remains",
                    format!(
                        "the object store still has {key} after its deletion: look for a hold, or for versions, on the bucket"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Throws away the copy of an object in this machine's cache, for one that is removed.
    pub fn forget(&self, sha256: &str) {
        self.cache.forget(sha256);
    }

    /// Throws away the copies of all objects in this machine's cache but those with these hashes; gives how many. Who reads one
    /// goes on.
    pub async fn purge_cached(&self, active: HashSet<String>) -> Result<usize> {
        let cache = Arc::clone(&self.cache);
        fetched::blocking(move || cache.purge(&active)).await
    }

    /// The size of an object in the store; `None` where there is none.
    pub async fn size(&self, key: ObjectKey) -> Result<Option<u64>> {
        self.remote.size(key).await
    }

    /// All that lies in the store, page by page, also what is none of ours.
    pub fn list(&self) -> BoxStream<'static, Result<Listed>> {
        self.remote.list()
    }
}

impl fmt::Debug for ColdStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ColdStore")
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}
