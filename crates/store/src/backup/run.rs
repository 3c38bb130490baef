//! Making a backup: dump, manifest, read back, second copy.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::TryStreamExt as _;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{
    Backup, Backups, Progress, State,
    connection::Target,
    dump::{self, Dumped, dump},
    fingerprint::fingerprints,
    inventory::is_missing_or_broken,
    keys,
    manifest::{Dump, Manifest, Previous},
    queries,
    snapshot::Exported,
    tools::Tools,
};
use crate::{
    clock::{to_micros, uuid_at},
    cold::{BackupKey, Bucket, Part},
    db,
    error::{Error, Result},
};

/// How long a failed run tries to remove what it has stored.
const CLEAR_WITHIN: Duration = Duration::from_secs(30);

impl Backups<'_> {
    /// Makes a backup of the present, reads it back, and copies it to the second store; for a slot of the schedule, or because
    /// somebody (`actor`) asked for it.
    ///
    /// Of a slot that has a stored backup already, because an earlier run came that far, only what is left is done.
    ///
    /// # Errors
    ///
    /// `backup_not_configured`; `backup_running` while another one is made; `backup_lost` where that took this one for dead; and
    /// whatever went wrong, which is recorded, too. What was stored until then is removed.
    pub async fn make(
        &self,
        slot_at: Option<DateTime<Utc>>,
        actor: &str,
        now: DateTime<Utc>,
        progress: &Progress,
    ) -> Result<Backup> {
        let (first, _) = self.stores()?;
        self.check_places().await?;
        let id = if let Some(id) = self.stored_for(slot_at).await? {
            id
        } else {
            let key = self.begin(slot_at, actor, now).await?;
            if let Err(error) = self.alive(key.id, self.dump(key, progress)).await {
                self.give_up(key, first, &error).await;
                return Err(error);
            }
            key.id
        };
        let looked_after = async {
            let done = async {
                self.verify(id, progress).await?;
                self.copy(id, progress).await
            };
            let done = done.await;
            if let Err(error) = &done {
                self.note(id, error).await;
            }
            done
        };
        self.alive(id, looked_after).await?;
        self.get(id)
            .await?
            .ok_or_else(|| Error::internal("a backup that was made is not there"))
    }

    /// Does some of a run's work, giving signs of life meanwhile; ends when the run is over for others.
    async fn alive(&self, id: Uuid, work: impl Future<Output = Result<()>>) -> Result<()> {
        tokio::select! {
            done = work => done,
            lost = self.keep_lease(id) => Err(lost),
        }
    }

    async fn stored_for(&self, slot_at: Option<DateTime<Utc>>) -> Result<Option<Uuid>> {
        let Some(slot_at) = slot_at else {
            return Ok(None);
        };
        let connection = self.pool.get().await?;
        let row = db::query_opt(&connection, &queries::STORED_FOR, &[&slot_at]).await?;
        Ok(row.map(|row| row.try_get("id")).transpose()?)
    }

    async fn begin(
        &self,
        slot_at: Option<DateTime<Utc>>,
        actor: &str,
        now: DateTime<Utc>,
    ) -> Result<BackupKey> {
        let key = BackupKey::dump(now, uuid_at(now));
        let at = self.clock.now();
        let connection = self.pool.get().await?;
        let lost = db::query(&connection, &queries::ABANDON, &[&at]).await?;
        for row in lost {
            let id: Uuid = row.try_get("id")?;
            tracing::warn!(%id, "a backup was given up: its process was not heard of any more");
        }
        let lease = at + self.lease();
        let object = key.to_string();
        let params: db::Params<'_> = &[&key.id, &slot_at, &now, &actor, &lease, &object];
        let begun = db::query_opt(&connection, &queries::BEGIN, params).await?;
        begun.map(|_| key).ok_or_else(|| {
            Error::conflict(
                "backup_running",
                "another backup is being made; `backup list` shows since when",
            )
        })
    }

    pub(super) fn lease(&self) -> TimeDelta {
        TimeDelta::seconds(i64::from(self.config.backup.lease_seconds))
    }

    /// Renews the lease of a run for as long as it is polled; ends when the run is over for others.
    async fn keep_lease(&self, id: Uuid) -> Error {
        let pause = Duration::from_secs(u64::from(self.config.backup.lease_seconds)) / 4;
        let mut heard_at = self.clock.now();
        loop {
            tokio::time::sleep(pause).await;
            let now = self.clock.now();
            let until = now + self.lease();
            let renewed = async {
                let connection = self.pool.get().await?;
                db::query_opt(&connection, &queries::RENEW, &[&id, &until]).await
            };
            match renewed.await {
                Ok(Some(_)) => heard_at = now,
                Ok(None) => {
                    return Error::conflict(
                        "backup_lost",
                        "this backup was taken for dead: its process gave no sign of life; another one is made",
                    );
                }
                // What is dumped is of the same database: where that is gone for good, pg_dump says so.
                Err(error) if now - heard_at < self.lease() => {
                    tracing::warn!(error = %error.report(), "a backup could not give its sign of life; it is tried again");
                }
                Err(error) => return error,
            }
        }
    }

    /// Dumps and fingerprints one moment, and writes the manifest last.
    async fn dump(&self, key: BackupKey, progress: &Progress) -> Result<()> {
        let (first, _) = self.stores()?;
        let settings = &self.config.backup;
        let target = self.source()?;
        let recipients = keys::recipients(settings)?;
        progress.begin("waiting for a snapshot", 0);
        let exported = Exported::open(&target).await.map_err(of_the_source)?;
        let major = u32::try_from(exported.source.server_version_num / 10_000).unwrap_or_default();
        let tool = self.tools().for_dump(major).await?;
        progress.begin("dumping", 0);
        let plan = dump::Plan {
            tool: &tool.path,
            target: &target,
            snapshot: &exported.name,
            recipients,
            level: settings.compression_level,
            stall: Duration::from_secs(settings.stall_seconds),
        };
        let (dumped, tables) = tokio::try_join!(
            dump(first, key, plan, progress),
            fingerprints(
                &target,
                Some(&exported.name),
                &exported.tables,
                settings.jobs,
                progress
            ),
        )?;
        let mut manifest = self.describe(key, &exported, dumped, &tool.version.to_string());
        manifest.tables = tables;
        manifest.previous = self.previous().await?;
        let manifest = manifest.sealed();
        exported.close().await;
        let sha256 = manifest.put(first).await?;
        self.record_stored(&manifest, &sha256).await
    }

    fn describe(
        &self,
        key: BackupKey,
        exported: &Exported,
        dumped: Dumped,
        tool: &str,
    ) -> Manifest {
        let settings = &self.config.backup;
        let recipients = [&settings.recovery_recipient, &settings.drill_recipient];
        Manifest {
            version: 0,
            backup_id: key.id,
            object: key.to_string(),
            started_at: key.started_at,
            stored_at: self.clock.now(),
            source: exported.source.clone(),
            dump: Dump {
                tool: format!("pg_dump {tool}"),
                format: Manifest::FORMAT.to_owned(),
                recipients: recipients.into_iter().flatten().cloned().collect(),
                plain_bytes: dumped.plain_bytes,
                plain_sha256: dumped.plain_sha256,
                stored_bytes: dumped.stored_bytes,
                stored_sha256: dumped.stored_sha256,
            },
            tables: BTreeMap::new(),
            sequences: exported.sequences.clone(),
            catalogue: exported.catalogue.clone(),
            archives: exported.archives.clone(),
            audit_head: exported.audit_head.clone(),
            previous: None,
            program: String::new(),
            seal: String::new(),
        }
    }

    async fn previous(&self) -> Result<Option<Previous>> {
        let connection = self.pool.get().await?;
        let row = db::query_opt(&connection, &queries::NEWEST_MANIFEST, &[]).await?;
        row.map(|row| {
            Ok(Previous {
                backup_id: row.try_get("id")?,
                manifest_sha256: row.try_get("manifest_sha256")?,
            })
        })
        .transpose()
    }

    async fn record_stored(&self, manifest: &Manifest, sha256: &str) -> Result<()> {
        let figure = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let tables = i32::try_from(manifest.tables.len()).unwrap_or(i32::MAX);
        let connection = self.pool.get().await?;
        let stored = db::query_opt(
            &connection,
            &queries::STORED,
            &[
                &manifest.backup_id,
                &self.clock.now(),
                &figure(manifest.dump.plain_bytes),
                &figure(manifest.dump.stored_bytes),
                &manifest.rows(),
                &tables,
                &manifest.dump.stored_sha256,
                &sha256,
                &manifest.source.schema_version,
            ],
        )
        .await?;
        stored.map(|_| ()).ok_or_else(|| {
            Error::conflict(
                "backup_lost",
                "this backup was taken for dead before it was recorded; another one is made",
            )
        })
    }

    /// Records a failure and removes what was stored. Neither hides the failure itself.
    async fn give_up(&self, key: BackupKey, bucket: &Bucket, error: &Error) {
        let text = format!("{}: {}", error.code(), error.message());
        let recorded = async {
            let connection = self.pool.get().await?;
            let params: db::Params<'_> = &[&key.id, &self.clock.now(), &text];
            db::execute(&connection, &queries::FAILED, params).await
        };
        if let Err(error) = recorded.await {
            tracing::warn!(id = %key.id, error = %error.report(), "that a backup failed could not be recorded");
        }
        // A store that hangs is not waited for long: what is left is looked for after the next backup.
        match tokio::time::timeout(CLEAR_WITHIN, self.clear(key, bucket, is_missing_or_broken))
            .await
        {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%key, error = %error.report(), "what a failed backup has stored could not be removed");
            }
            Err(_) => {
                tracing::warn!(%key, "what a failed backup has stored could not be removed: the object store does not answer");
            }
        }
    }

    /// Keeps why a stored backup was not read back, or not copied, so that it is told at once.
    async fn note(&self, id: Uuid, error: &Error) {
        let text = format!("{}: {}", error.code(), error.message());
        let noted = async {
            let connection = self.pool.get().await?;
            db::execute(&connection, &queries::NOTE, &[&id, &text]).await
        };
        if let Err(error) = noted.await {
            tracing::warn!(%id, error = %error.report(), "that a backup was not read back or copied could not be recorded");
        }
    }

    /// Reads a stored backup back, all of it, and compares its hash.
    ///
    /// # Errors
    ///
    /// `backup_differs`, which is recorded, where the store has something else; `cold_object_missing` where it has nothing.
    pub async fn verify(&self, id: Uuid, progress: &Progress) -> Result<()> {
        let (first, _) = self.stores()?;
        let backup = self.stored(id).await?;
        progress.begin("reading back", backup.stored_bytes);
        let seen = self.seen(first, &backup).await;
        let connection = self.pool.get().await?;
        match seen {
            Ok(modified_at) => {
                let params: db::Params<'_> = &[&id, &self.clock.now(), &modified_at];
                db::execute(&connection, &queries::VERIFIED, params).await?;
                Ok(())
            }
            // A store that does not answer has lost nothing yet.
            Err(error) if !tells_of_damage(&error) => Err(error),
            Err(error) => {
                let text = format!("{}: {}", error.code(), error.message());
                let params: db::Params<'_> = &[&id, &self.clock.now(), &text];
                db::execute(&connection, &queries::DAMAGED, params).await?;
                Err(error)
            }
        }
    }

    /// Compares all that a store has of a backup with what was recorded; gives when the object was written.
    async fn seen(&self, bucket: &Bucket, backup: &Backup) -> Result<DateTime<Utc>> {
        // Asked before it is read: what is written meanwhile has a later time, and is noticed by it.
        let head = bucket.head(backup.key).await?;
        let (size, modified_at) = head.ok_or_else(|| missing(backup.key))?;
        if size != backup.stored_bytes {
            return Err(differs(backup.key));
        }
        let (_, found) = Manifest::get(bucket, backup.key).await?;
        if Some(&found) != backup.manifest_sha256.as_ref() {
            return Err(differs(backup.key.manifest()));
        }
        let found = bucket.hash(backup.key, backup.stored_bytes).await?;
        if Some(&found) != backup.sha256.as_ref() {
            return Err(differs(backup.key));
        }
        Ok(to_micros(modified_at))
    }

    /// Copies a verified backup to the second store, where there is one, and reads it back there.
    pub async fn copy(&self, id: Uuid, progress: &Progress) -> Result<()> {
        let (first, Some(second)) = self.stores()? else {
            return Ok(());
        };
        let backup = self.stored(id).await?;
        let there = second.head(backup.key).await?;
        if backup.copied_at.is_some() && there.is_some_and(|(size, _)| size == backup.stored_bytes)
        {
            return Ok(());
        }
        progress.begin("copying", backup.stored_bytes);
        copy_object(first, second, &backup, progress).await?;
        let (manifest, _) = Manifest::get(first, backup.key).await?;
        manifest.put(second).await?;
        self.seen(second, &backup).await?;
        let connection = self.pool.get().await?;
        db::execute(&connection, &queries::COPIED, &[&id, &self.clock.now()]).await?;
        Ok(())
    }

    pub(super) async fn stored(&self, id: Uuid) -> Result<Backup> {
        let backup = self.get(id).await?.ok_or_else(|| {
            Error::not_found(
                "backup_not_found",
                format!("there is no backup {id}; `backup list` shows them"),
            )
        })?;
        if !matches!(backup.state, State::Stored | State::Verified) {
            return Err(Error::conflict(
                "backup_not_stored",
                format!(
                    "the backup {id} is {}: there is nothing to read",
                    backup.state
                ),
            ));
        }
        Ok(backup)
    }

    /// The connection that is backed up with.
    fn source(&self) -> Result<Target> {
        let url = self.config.database.backup_url.as_ref().ok_or_else(|| {
            Error::conflict(
                "backup_not_configured",
                "this process cannot back up: set database.backup_url to a connection of the role utxoiq_backup",
            )
        })?;
        Target::parse(url, "database.backup_url")
    }

    /// The tools that are installed here.
    pub(super) fn tools(&self) -> Tools {
        Tools::new(self.config.backup.tools_dir.as_ref().map(PathBuf::from))
    }
}

/// The same with the name of the setting that it is about.
fn of_the_source(error: Error) -> Error {
    if error.code() != "database_unavailable" {
        return error;
    }
    let text = error
        .message()
        .replace("database.url", "database.backup_url");
    Error::unavailable("database_unavailable", text).with_source(error)
}

async fn copy_object(
    from: &Bucket,
    to: &Bucket,
    backup: &Backup,
    progress: &Progress,
) -> Result<()> {
    let (sender, parts) = mpsc::channel(1);
    let reading = async move {
        let mut pieces = from.read(backup.key, backup.stored_bytes);
        // One behind: the last one has to be told from the others.
        let mut held = None;
        while let Some(piece) = pieces.try_next().await? {
            progress.add(piece.len() as u64);
            if let Some(held) = held.replace(piece)
                && sender.send(Part::More(held)).await.is_err()
            {
                return Ok(());
            }
        }
        let _ = sender.send(Part::Last(held.unwrap_or_default())).await;
        Ok::<_, Error>(())
    };
    let (read, uploaded) = tokio::join!(reading, to.upload(backup.key, parts));
    read?;
    if uploaded? {
        Ok(())
    } else {
        Err(Error::internal("a backup was not copied to its end"))
    }
}

fn differs(key: BackupKey) -> Error {
    Error::unavailable(
        "backup_differs",
        format!(
            "{key}, read back from the object store, is not what was written: make another backup, and look at the bucket's log"
        ),
    )
}

fn missing(key: BackupKey) -> Error {
    Error::not_found(
        "cold_object_missing",
        format!("{key} is not in the object store"),
    )
}

/// Whether an error says that the store has something else, or nothing; others say nothing about what it has.
pub(super) fn tells_of_damage(error: &Error) -> bool {
    matches!(
        error.code(),
        "backup_differs" | "backup_damaged" | "cold_object_missing" | "cold_object_damaged"
    )
}
