//! Bytes into the store, part by part.
//!
//! What fits into one part is one request. More is a multipart upload, of which nothing is visible before its end; one that
//! fails, or whose caller goes away, is given up at once, so that no parts are left that nobody sees and somebody pays for.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use object_store::MultipartUpload;
use tokio::sync::mpsc;

use super::{key::Key, remote::Remote};
use crate::error::{Error, Result};

/// How many parts are under way at once, beside the one that is being made.
const AT_ONCE: usize = 2;

/// How long a failure waits until what was sent is given up; that goes on after it.
const ABORT_WITHIN: Duration = Duration::from_secs(10);

/// How long before it is tried again to give up what was sent.
const ABORT_PAUSES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(15),
    Duration::from_mins(1),
];

/// Some bytes of an object.
pub enum Part {
    /// More follow.
    More(Bytes),
    /// These are the last. A channel that just ends means that whoever makes the object has failed.
    Last(Bytes),
}

/// Uploads an object. `false` where its maker has gone before the end, and nothing was stored: its own error says why.
pub(super) async fn upload(
    remote: &Remote,
    key: impl Key,
    mut parts: mpsc::Receiver<Part>,
) -> Result<bool> {
    match parts.recv().await {
        None => Ok(false),
        Some(Part::Last(bytes)) => remote.put(key, bytes).await.map(|()| true),
        Some(Part::More(first)) => {
            let mut upload = begin(remote.clone(), key).await?;
            let done = send(&mut upload, first, &mut parts).await;
            if matches!(done, Ok(true)) {
                upload.upload = None;
            } else {
                upload.abort().await;
            }
            done
        }
    }
}

/// Begins an upload on a task of its own: where the caller goes away before the store has answered, the answer is still waited
/// for, and what it began is given up.
async fn begin<K: Key>(remote: Remote, key: K) -> Result<GivenUp<K>> {
    let begun = tokio::spawn(async move {
        let upload = remote.begin_multipart(key).await?;
        Ok(GivenUp {
            remote,
            key,
            upload: Some(upload),
        })
    });
    begun
        .await
        .map_err(|error| Error::internal("an upload was not begun").with_source(error))?
}

async fn send(
    upload: &mut GivenUp<impl Key>,
    first: Bytes,
    parts: &mut mpsc::Receiver<Part>,
) -> Result<bool> {
    let remote = upload.remote.clone();
    let key = upload.key;
    let mut under_way = FuturesUnordered::new();
    let mut next = Part::More(first);
    loop {
        let (bytes, is_last) = match next {
            Part::More(bytes) => (bytes, false),
            Part::Last(bytes) => (bytes, true),
        };
        if !bytes.is_empty() {
            let part = upload.get()?.put_part(bytes.into());
            under_way.push(remote.timed("object.put_part", key, part));
        }
        if is_last {
            break;
        }
        // Parts under way go on while the next one is made.
        next = loop {
            tokio::select! {
                Some(sent) = under_way.next() => sent?,
                part = parts.recv(), if under_way.len() <= AT_ONCE => match part {
                    Some(part) => break part,
                    None => return Ok(false),
                },
            }
        };
    }
    while let Some(sent) = under_way.next().await {
        sent?;
    }
    remote
        .timed("object.complete_multipart", key, upload.get()?.complete())
        .await?;
    Ok(true)
}

/// An upload that is given up unless it was completed.
struct GivenUp<K: Key> {
    remote: Remote,
    key: K,
    upload: Option<Box<dyn MultipartUpload>>,
}

impl<K: Key> GivenUp<K> {
    fn get(&mut self) -> Result<&mut dyn MultipartUpload> {
        match &mut self.upload {
            Some(upload) => Ok(upload.as_mut()),
            None => Err(Error::internal("an upload that is over goes on")),
        }
    }

    /// Gives it up. A store that hangs is not waited for: why it failed has to be told now.
    async fn abort(&mut self) {
        if let Some(upload) = self.upload.take() {
            let aborting = tokio::spawn(abort(self.remote.clone(), self.key, upload));
            let _ = tokio::time::timeout(ABORT_WITHIN, aborting).await;
        }
    }
}

async fn abort(remote: Remote, key: impl Key, mut upload: Box<dyn MultipartUpload>) {
    let mut pauses = ABORT_PAUSES.iter();
    // What made the upload fail makes this fail, too, as long as it lasts.
    while let Err(error) = remote
        .timed("object.abort_multipart", key, upload.abort())
        .await
    {
        let Some(pause) = pauses.next() else {
            tracing::warn!(
                key = %key,
                error = %error.report(),
                "parts of an upload that failed may be left in the object store"
            );
            return;
        };
        tokio::time::sleep(*pause).await;
    }
}

impl<K: Key> Drop for GivenUp<K> {
    fn drop(&mut self) {
        let (Some(upload), Ok(runtime)) =
            (self.upload.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        runtime.spawn(abort(self.remote.clone(), self.key, upload));
    }
}
