//! Whether an object store can be used: an object is written, read back and removed, below a folder of its own.

use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{connect, key::Key, remote::Remote};
use crate::{
    clock::uuid_at,
    config::ObjectStoreSettings,
    error::{Error, Result},
};

/// An object that is there for a moment: `probes/<id, 32 digits>`. Neither archives nor backups lie there.
#[derive(Debug, Clone, Copy)]
struct ProbeKey(Uuid);

impl Key for ProbeKey {}

impl std::fmt::Display for ProbeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "probes/{}", self.0.simple())
    }
}

/// Writes, reads, compares and removes a small object in the store of the settings; gives how long that took, and `None` where
/// they name no store. What was written is removed as far as the store lets it be, also where something fails.
///
/// # Errors
///
/// What the store refused; `cold_object_damaged` where it gave other bytes back, `cold_object_remains` where it has the object
/// after its deletion.
pub async fn probe(settings: &ObjectStoreSettings, now: DateTime<Utc>) -> Result<Option<Duration>> {
    let Some(url) = &settings.url else {
        return Ok(None);
    };
    let connected = connect::connect(settings, url)?;
    let timeout = Duration::from_secs(settings.timeout_seconds);
    let remote = Remote::new(connected.store, connected.prefix, timeout);
    let key = ProbeKey(uuid_at(now));
    let started = Instant::now();
    let tried = there_and_back(&remote, key).await;
    let removed = remote.delete(key).await;
    tried?;
    removed?;
    if remote.size(key).await?.is_some() {
        return Err(Error::unavailable(
            "cold_object_remains",
            format!(
                "{section} still has {key} after its deletion: look for a hold, or for versions, on the bucket",
                section = settings.section
            ),
        ));
    }
    Ok(Some(started.elapsed()))
}

async fn there_and_back(remote: &Remote, key: ProbeKey) -> Result<()> {
    let bytes = Bytes::from(key.to_string());
    remote.put(key, bytes.clone()).await?;
    let back = remote.get_small(key, 1_000).await?;
    if back == bytes {
        return Ok(());
    }
    Err(Error::unavailable(
        "cold_object_damaged",
        "the object store gave other bytes back than were written: look at what stands between it and this machine",
    ))
}
