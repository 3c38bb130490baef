//! The object store behind one prefix: every request with a time limit, and every error with what to do about it.

use std::{fmt, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream::BoxStream};
use object_store::{
    GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt as _, path::Path,
};

use super::{
    ObjectKey,
    key::{Key, below},
};
use crate::{
    error::{Error, Result},
    trace,
};

/// The store.
#[derive(Clone)]
pub(super) struct Remote {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    pub timeout: Duration,
}

/// An object as the store lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its path below the store's prefix.
    pub path: String,
    /// Its key; `None` for what is none of ours.
    pub key: Option<ObjectKey>,
    /// Its size, in bytes.
    pub size: u64,
    /// When it was written, by the store's clock.
    pub last_modified: DateTime<Utc>,
}

impl Remote {
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path, timeout: Duration) -> Self {
        Self {
            store,
            prefix,
            timeout,
        }
    }

    /// A request, bounded in time. The client's own limits end it first; a store that answers in drops is ended here.
    pub async fn timed<T>(
        &self,
        operation: &'static str,
        key: impl Key,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T> {
        let answering = async {
            match tokio::time::timeout(self.timeout, request).await {
                Ok(answer) => answer.map_err(|error| self.error(key, error)),
                Err(_) => Err(self.silent()),
            }
        };
        trace::within(trace::object(operation), answering).await
    }

    fn path(&self, key: impl Key) -> Path {
        below(key, &self.prefix)
    }

    pub async fn put(&self, key: impl Key, bytes: Bytes) -> Result<()> {
        let path = self.path(key);
        self.timed("object.put", key, self.store.put(&path, bytes.into()))
            .await?;
        Ok(())
    }

    pub async fn begin_multipart(&self, key: impl Key) -> Result<Box<dyn MultipartUpload>> {
        self.timed(
            "object.begin_multipart",
            key,
            self.store.put_multipart(&self.path(key)),
        )
        .await
    }

    /// Some bytes of an object, and the size of all of it. `None` where the range begins behind its end.
    pub async fn get_range(&self, key: impl Key, range: Range<u64>) -> Result<(Bytes, u64)> {
        let path = self.path(key);
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        self.timed("object.get_range", key, async {
            let answer = self.store.get_opts(&path, options).await?;
            let size = answer.meta.size;
            Ok((answer.bytes().await?, size))
        })
        .await
    }

    /// A whole object of at most so many bytes.
    pub async fn get_small(&self, key: impl Key, most: u64) -> Result<Bytes> {
        let path = self.path(key);
        let (size, bytes) = self
            .timed("object.get", key, async {
                let answer = self.store.get_opts(&path, GetOptions::default()).await?;
                let size = answer.meta.size;
                if size > most {
                    return Ok((size, Bytes::new()));
                }
                Ok((size, answer.bytes().await?))
            })
            .await?;
        if size > most {
            return Err(Error::unavailable(
                "cold_object_damaged",
                format!("{key} has {size} bytes, which is more than it can have"),
            ));
        }
        Ok(bytes)
    }

    /// The size of an object; `None` where there is none.
    pub async fn size(&self, key: impl Key) -> Result<Option<u64>> {
        Ok(self.head(key).await?.map(|(size, _)| size))
    }

    /// The size of an object, and when it was written; `None` where there is none.
    pub async fn head(&self, key: impl Key) -> Result<Option<(u64, DateTime<Utc>)>> {
        let path = self.path(key);
        self.timed("object.head", key, async {
            match self.store.head(&path).await {
                Ok(meta) => Ok(Some((meta.size, meta.last_modified))),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Deletes an object; one that is not there is deleted.
    pub async fn delete(&self, key: impl Key) -> Result<()> {
        let path = self.path(key);
        self.timed("object.delete", key, async {
            match self.store.delete(&path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// All that lies below the prefix. Each page of the listing has the time limit.
    pub fn list(&self) -> BoxStream<'static, Result<Listed>> {
        self.list_below(&self.prefix.clone())
    }

    /// The same of one folder of it.
    pub fn list_folder(&self, folder: &str) -> BoxStream<'static, Result<Listed>> {
        self.list_below(&self.prefix.clone().join(folder))
    }

    fn list_below(&self, prefix: &Path) -> BoxStream<'static, Result<Listed>> {
        let prefix = (!prefix.as_ref().is_empty()).then(|| prefix.clone());
        let listing = self.store.list(prefix.as_ref());
        let this = self.clone();
        futures_util::stream::unfold(Some(listing), move |listing| {
            let this = this.clone();
            async move {
                let mut listing = listing?;
                let next = tokio::time::timeout(this.timeout, listing.next()).await;
                match next {
                    Err(_) => Some((Err(this.silent()), None)),
                    Ok(None) => None,
                    Ok(Some(Err(error))) => {
                        Some((Err(this.error_about("the listing", error)), None))
                    }
                    Ok(Some(Ok(meta))) => Some((Ok(this.listed(&meta)), Some(listing))),
                }
            }
        })
        .boxed()
    }

    fn listed(&self, meta: &object_store::ObjectMeta) -> Listed {
        let path = match meta.location.prefix_match(&self.prefix) {
            Some(parts) => parts
                .map(|part| part.as_ref().to_owned())
                .collect::<Vec<_>>()
                .join("/"),
            None => meta.location.to_string(),
        };
        Listed {
            key: ObjectKey::parse(&path),
            path,
            size: meta.size,
            last_modified: meta.last_modified,
        }
    }

    fn silent(&self) -> Error {
        let seconds = self.timeout.as_secs();
        Error::unavailable(
            "cold_store_unavailable",
            format!(
                "the object store did not answer within {seconds} s; send the request again later"
            ),
        )
    }

    fn error(&self, key: impl Key, error: object_store::Error) -> Error {
        self.error_about(&key.to_string(), error)
    }

    #[allow(clippy::unused_self, reason = "reads as what it is about")]
    fn error_about(&self, what: &str, error: object_store::Error) -> Error {
        use object_store::Error as E;
        let made = match &error {
            E::NotFound { .. } => Error::not_found(
                "cold_object_missing",
                format!("{what} is not in the object store"),
            ),
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => Error::unavailable(
                "cold_store_refused",
                "the object store refuses this program: check the credentials and their rights on the bucket",
            ),
            _ => Error::unavailable(
                "cold_store_unavailable",
                "the object store does not answer as it should; send the request again later",
            ),
        };
        made.with_source(error)
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the store's own: it holds credentials.
        f.debug_struct("Remote")
            .field("prefix", &self.prefix.as_ref())
            .finish_non_exhaustive()
    }
}
