//! A place for backups: whole objects, in and out as streams of bytes, and no more than that.

use std::{fmt, ops::Range, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use object_store::{ObjectStore, gcp::GcpCredentialProvider};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

pub use super::upload::Part;
use super::{BackupKey, Listed, connect, digest::hex, local, remote::Remote, upload::upload};
use crate::{
    config::ObjectStoreSettings,
    error::{Error, Result},
};

/// How much one request reads.
const BYTES_A_REQUEST: u64 = 8 * 1024 * 1024;

/// How many requests read ahead.
const AHEAD: usize = 2;

/// An object store of backups. Clones share the client.
#[derive(Clone)]
pub struct Bucket {
    remote: Remote,
    /// The folder, where the store is one.
    folder: Option<Arc<PathBuf>>,
    provider: Provider,
}

/// Who keeps the objects, with what is needed to ask where.
#[derive(Clone)]
pub enum Provider {
    /// A folder of this machine.
    Folder,
    /// Cloud Storage.
    CloudStorage {
        /// The bucket's name.
        bucket: String,
        /// Where it is spoken to, where that is not Google's own address.
        base: Option<String>,
        /// What it is spoken to with.
        credentials: GcpCredentialProvider,
    },
    /// S3, or something that speaks like it.
    S3 {
        /// The bucket's region, where its provider is sure to check it.
        region: Option<String>,
    },
    /// A client of a test's.
    Other,
}

impl Bucket {
    /// The store of the settings; `None` where they name none. Asks it nothing yet.
    pub fn open(settings: &ObjectStoreSettings) -> Result<Option<Self>> {
        let Some(url) = &settings.url else {
            return Ok(None);
        };
        let connected = connect::connect(settings, url)?;
        let timeout = Duration::from_secs(settings.timeout_seconds);
        let folder = local::folder_of(url).map(Arc::new);
        let name = url::Url::parse(url)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned))
            .unwrap_or_default();
        let provider = match connected.credentials {
            _ if folder.is_some() => Provider::Folder,
            Some(credentials) => Provider::CloudStorage {
                bucket: name,
                base: settings.endpoint.clone(),
                credentials,
            },
            None => Provider::S3 {
                // Only Amazon itself checks that it is the bucket's.
                region: settings
                    .region
                    .clone()
                    .filter(|_| settings.endpoint.is_none()),
            },
        };
        Ok(Some(Self {
            remote: Remote::new(connected.store, connected.prefix, timeout),
            folder,
            provider,
        }))
    }

    /// Over any object store, for tests: below a prefix, with a time limit for each request.
    pub fn over(store: Arc<dyn ObjectStore>, prefix: &str, timeout: Duration) -> Self {
        Self {
            remote: Remote::new(store, prefix.into(), timeout),
            folder: None,
            provider: Provider::Other,
        }
    }

    /// Who keeps the objects.
    pub const fn provider(&self) -> &Provider {
        &self.provider
    }

    /// How long a request may take.
    pub const fn timeout(&self) -> Duration {
        self.remote.timeout
    }

    /// Stores an object from its parts. `false` where their maker has gone before the last one, and nothing was stored.
    ///
    /// What is under way is given up where this fails, or its caller goes away.
    pub async fn upload(&self, key: BackupKey, parts: mpsc::Receiver<Part>) -> Result<bool> {
        upload(&self.remote, key, parts).await
    }

    /// Stores a small object in one request.
    pub async fn put(&self, key: BackupKey, bytes: Bytes) -> Result<()> {
        self.remote.put(key, bytes).await
    }

    /// A whole object of at most so many bytes; `cold_object_missing` where there is none.
    pub async fn get_small(&self, key: BackupKey, most: u64) -> Result<Bytes> {
        self.remote.get_small(key, most).await
    }

    /// An object's size, and when it was written by the store's clock; `None` where there is none.
    pub async fn head(&self, key: BackupKey) -> Result<Option<(u64, DateTime<Utc>)>> {
        self.remote.head(key).await
    }

    /// All that lies among the backups, page by page, also what is none of ours.
    pub fn list(&self) -> BoxStream<'static, Result<Listed>> {
        self.remote.list_folder(BackupKey::FOLDER)
    }

    /// The bytes of an object that has so many, piece by piece: `cold_object_damaged` where it has more or fewer.
    pub fn read(&self, key: BackupKey, bytes: u64) -> BoxStream<'static, Result<Bytes>> {
        let starts = (0..bytes).step_by(usize::try_from(BYTES_A_REQUEST).unwrap_or(1));
        let remote = self.remote.clone();
        stream::iter(starts)
            .map(move |start| {
                let range = start..bytes.min(start + BYTES_A_REQUEST);
                piece(remote.clone(), key, range, bytes)
            })
            .buffered(AHEAD)
            .boxed()
    }

    /// Reads a whole object back and gives its SHA-256.
    pub async fn hash(&self, key: BackupKey, bytes: u64) -> Result<String> {
        let mut pieces = self.read(key, bytes);
        let mut hash = Sha256::new();
        while let Some(piece) = pieces.try_next().await? {
            hash = super::fetched::blocking(move || {
                hash.update(&piece);
                Ok(hash)
            })
            .await?;
        }
        Ok(hex(&hash.finalize()))
    }

    /// Removes a dump and its manifest, and asks whether they are gone. What is not there is removed.
    ///
    /// # Errors
    ///
    /// `cold_object_remains` where the store still has one of them, whatever it said.
    pub async fn remove(&self, key: BackupKey) -> Result<()> {
        // The manifest first: what has one counts as a backup.
        for key in [key.manifest(), key.object()] {
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
}

async fn piece(remote: Remote, key: BackupKey, range: Range<u64>, bytes: u64) -> Result<Bytes> {
    let wanted = range.end - range.start;
    let (piece, size) = remote.get_range(key, range).await?;
    if size != bytes || u64::try_from(piece.len()) != Ok(wanted) {
        return Err(Error::unavailable(
            "cold_object_damaged",
            format!(
                "{key} has {size} bytes in the object store instead of {bytes}; look at the bucket's log"
            ),
        ));
    }
    Ok(piece)
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket")
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}
