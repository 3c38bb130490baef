//! What the stores have, beside what the history says.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::TryStreamExt as _;
use serde::Serialize;
use uuid::Uuid;

use super::{Backup, Backups, State, manifest::Manifest, queries};
use crate::{
    clock::to_micros,
    cold::{BackupKey, Bucket},
    db,
    error::{Error, Result},
};

/// How long what a run left behind is looked for: a writer that hangs may still finish.
const SLOW_WRITERS: TimeDelta = TimeDelta::days(7);

/// What is wrong with an object of a backup that should be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The dump is not in the store.
    DumpMissing,
    /// The manifest is not in the store.
    ManifestMissing,
    /// The dump has another size.
    Resized,
    /// The dump was written after it was read back.
    Rewritten,
    /// The dump is not in the second store, although it was copied.
    CopyMissing,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Backups that are not as they should be.
    pub faults: BTreeMap<Uuid, BTreeSet<Fault>>,
    /// Backups with a manifest that the history does not know: [`Backups::adopt`] takes them in.
    pub unknown: Vec<BackupKey>,
}

impl Inventory {
    /// Of what was found, what an earlier inventory had found, too.
    #[must_use]
    pub fn and_before(&self, before: &Self) -> Self {
        let faults = self.faults.iter().filter_map(|(id, now)| {
            let both: BTreeSet<Fault> = now & before.faults.get(id)?;
            (!both.is_empty()).then_some((*id, both))
        });
        Self {
            faults: faults.collect(),
            unknown: self.unknown.clone(),
        }
    }
}

impl Backups<'_> {
    /// Compares what the stores list with the history, without reading any object: one request for a thousand of them.
    pub async fn inventory(&self) -> Result<Inventory> {
        let (first, second) = self.stores()?;
        let known = self.known().await?;
        let listed = listed(first).await?;
        let mut inventory = Inventory::default();
        for backup in known.values().filter(|backup| is_kept(backup)) {
            let faults = faults(backup, &listed);
            if !faults.is_empty() {
                inventory.faults.insert(backup.id, faults);
            }
        }
        inventory.unknown = listed
            .keys()
            .filter(|key| key.is_manifest && !known.contains_key(&key.id))
            .map(|key| key.object())
            .collect();
        if let Some(second) = second {
            let listed = self::listed(second).await?;
            for backup in known.values() {
                let size = listed.get(&backup.key).map(|(size, _)| *size);
                let is_there = size == Some(backup.stored_bytes)
                    && listed.contains_key(&backup.key.manifest());
                if is_kept(backup) && backup.copied_at.is_some() && !is_there {
                    let faults = inventory.faults.entry(backup.id).or_default();
                    faults.insert(Fault::CopyMissing);
                }
            }
        }
        Ok(inventory)
    }

    /// All runs that the history has, by their ids.
    async fn known(&self) -> Result<BTreeMap<Uuid, Backup>> {
        let all = self.list(true, i64::MAX, 0).await?;
        Ok(all.into_iter().map(|backup| (backup.id, backup)).collect())
    }

    /// Takes backups into the history that it does not know: after a restore, those that were made later. They have to be
    /// verified next. Gives their ids.
    pub async fn adopt(&self, actor: &str) -> Result<Vec<Uuid>> {
        let (first, _) = self.stores()?;
        let mut adopted = Vec::new();
        for key in self.inventory().await?.unknown {
            if self.adopt_one(first, key, actor).await? {
                adopted.push(key.id);
            }
        }
        Ok(adopted)
    }

    async fn adopt_one(&self, bucket: &Bucket, key: BackupKey, actor: &str) -> Result<bool> {
        let (manifest, sha256) = Manifest::get(bucket, key).await?;
        let dump = bucket.head(manifest.key()).await?;
        if dump.is_none_or(|(size, _)| size != manifest.dump.stored_bytes) {
            // Written late, by a process that was given up, whose dump was removed by then.
            tracing::warn!(%key, "a manifest lies in the store without its dump: it is no backup, and can be removed by hand");
            return Ok(false);
        }
        let figure = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let tables = i32::try_from(manifest.tables.len()).unwrap_or(i32::MAX);
        let connection = self.pool.get().await?;
        let params: db::Params<'_> = &[
            &manifest.backup_id,
            &manifest.started_at,
            &actor,
            &manifest.stored_at,
            &manifest.object,
            &figure(manifest.dump.plain_bytes),
            &figure(manifest.dump.stored_bytes),
            &manifest.rows(),
            &tables,
            &manifest.dump.stored_sha256,
            &sha256,
            &manifest.source.schema_version,
        ];
        let row = db::query_opt(&connection, &queries::ADOPT, params).await?;
        Ok(row.is_some())
    }

    /// Looks after what runs that ended without a backup have left in the stores: what is complete becomes a backup after all, and
    /// the rest is removed. Gives how many there were of each.
    ///
    /// A run is complete when its manifest is there: its process ended between that and the history. And a backup's own row, in
    /// the database that was restored from it, says that it is still running.
    pub async fn settle(&self, now: DateTime<Utc>) -> Result<(usize, usize)> {
        let connection = self.pool.get().await?;
        db::query(&connection, &queries::ABANDON, &[&now]).await?;
        let since = now - SLOW_WRITERS;
        let rows = db::query(&connection, &queries::LEFTOVERS, &[&since]).await?;
        drop(connection);
        let (first, _) = self.stores()?;
        let (mut adopted, mut removed) = (0, 0);
        for row in &rows {
            let left = Backup::from_row(row)?;
            let settled = async {
                if self.clear(left.key, first, is_missing).await? {
                    return Ok((0, 1));
                }
                let is_new = self.adopt_one(first, left.key, &left.started_by).await?;
                Ok::<_, Error>((usize::from(is_new), 0))
            };
            match settled.await {
                Ok((one, other)) => {
                    adopted += one;
                    removed += other;
                }
                // One that cannot be looked after now is looked for again tomorrow, and keeps the others from nothing.
                Err(error) => {
                    tracing::warn!(key = %left.key, error = %error.report(), "what a run has left behind could not be settled");
                }
            }
        }
        Ok((adopted, removed))
    }

    /// Removes what a run has stored, unless it is whole; says whether it is gone. `is_none` says by which error of reading its
    /// manifest there is none.
    pub(super) async fn clear(
        &self,
        key: BackupKey,
        bucket: &Bucket,
        is_none: fn(&Error) -> bool,
    ) -> Result<bool> {
        let read = async || Manifest::get(bucket, key).await.map(|_| ());
        let mut found = read().await;
        if found.as_ref().is_err_and(is_none) {
            // Once more: a fault of a moment must not cost a backup.
            found = read().await;
        }
        match found {
            Ok(()) => Ok(false),
            Err(error) if is_none(&error) => {
                bucket.remove(key).await?;
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether there is no manifest. One of another's that cannot be understood may be a newer version's, and stays.
fn is_missing(error: &Error) -> bool {
    error.code() == "cold_object_missing"
}

/// The same of a run of one's own, which has written none that cannot be understood.
pub(super) fn is_missing_or_broken(error: &Error) -> bool {
    is_missing(error) || matches!(error.code(), "backup_damaged" | "cold_object_damaged")
}

/// Whether it should be in the store as it was written. One that was found damaged before it was ever right is known to be not.
fn is_kept(backup: &Backup) -> bool {
    match backup.state {
        State::Stored => backup.damaged_at.is_none(),
        state => state == State::Verified,
    }
}

/// What is wrong with a backup in the first store.
fn faults(backup: &Backup, listed: &BTreeMap<BackupKey, (u64, DateTime<Utc>)>) -> BTreeSet<Fault> {
    let mut faults = BTreeSet::new();
    match listed.get(&backup.key) {
        None => {
            faults.insert(Fault::DumpMissing);
        }
        Some((size, modified_at)) => {
            if *size != backup.stored_bytes {
                faults.insert(Fault::Resized);
            }
            let is_same = |seen| is_same_time(seen, *modified_at);
            if backup.modified_at.is_some_and(|seen| !is_same(seen)) {
                faults.insert(Fault::Rewritten);
            }
        }
    }
    if !listed.contains_key(&backup.key.manifest()) {
        faults.insert(Fault::ManifestMissing);
    }
    faults
}

/// Whether two times of one store are the same: some tell a whole second of an object, and less of it in a listing.
fn is_same_time(one: DateTime<Utc>, other: DateTime<Utc>) -> bool {
    let is_whole = |time: DateTime<Utc>| time.timestamp_subsec_nanos() == 0;
    one == other || ((is_whole(one) || is_whole(other)) && one.timestamp() == other.timestamp())
}

async fn listed(bucket: &Bucket) -> Result<BTreeMap<BackupKey, (u64, DateTime<Utc>)>> {
    let mut found = BTreeMap::new();
    let mut listing = bucket.list();
    while let Some(object) = listing.try_next().await? {
        if let Some(key) = BackupKey::parse(&object.path) {
            found.insert(key, (object.size, to_micros(object.last_modified)));
        }
    }
    Ok(found)
}
