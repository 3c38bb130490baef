//! Restoring a backup into an empty database, and proving that it is there.
//!
//! # What it guarantees
//!
//! * **Nothing is overwritten.** A database that has anything in it is refused, whoever asks.
//! * **A damaged backup touches nothing.** All of it was read, decrypted, unpacked and compared before the database is changed.
//! * **What is called equal is equal**: every row, sequence, owner and grant was compared ([`proof`](super::proof)).
//! * **It needs no other database.** The object store, a key and an empty database with the roles in it are enough.
//! * **Nothing is left of the dump** on this machine's disk, however the process ends.

mod pour;
mod spool;
mod target;

use std::{
    env,
    path::PathBuf,
    time::{Duration, Instant},
};

use age::x25519::Identity;
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;
use serde_json::json;

pub(super) use self::target::is_refusal;
use self::{pour::pour, spool::spool, target::Ready};
use super::{
    Manifest, Progress,
    connection::Target,
    keys,
    proof::{self, Comparison},
    tools::Tools,
};
use crate::{
    audit::{self, Action, Entry},
    cold::{BackupKey, Bucket, ColdStore},
    config::{BackupSettings, Secret},
    error::{Error, Result},
};

/// What is restored, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Restore<'a> {
    /// Where the backup lies.
    pub bucket: &'a Bucket,
    /// Its dump's key.
    pub key: BackupKey,
    /// The SHA-256 that its manifest must have, in hexadecimal, where that is known from elsewhere.
    pub manifest_sha256: Option<&'a str>,
    /// The secret key that opens it.
    pub identity: &'a Secret,
    /// How it is restored.
    pub settings: &'a BackupSettings,
    /// Where its archives are looked for.
    pub cold: Option<&'a ColdStore>,
}

/// A restored database, and what came of comparing it.
#[derive(Debug, Clone)]
pub struct Restored {
    /// What was restored.
    pub manifest: Manifest,
    /// From reading the manifest to the end of pg_restore.
    pub restore_milliseconds: i64,
    /// Whether it is equal to what was backed up.
    pub comparison: Comparison,
}

impl Restore<'_> {
    /// Restores into the empty database of `url`, on which `init` was run; proves it; and, where it is equal, makes it fit for use
    /// and notes it in its audit log.
    ///
    /// Where it is not equal, it is left as it is, to be looked at.
    ///
    /// # Errors
    ///
    /// `cold_object_missing`, `backup_damaged`, `backup_differs`, `wrong_key`: before the database is touched.
    /// `restore_target_not_empty`, `restore_target_too_old`, `restore_roles_missing`, `restore_running`,
    /// `restore_extension_refused`, `scratch_full`, `backup_tool_missing`, `backup_tool_failed`.
    pub async fn into_database(
        &self,
        url: &Secret,
        actor: &str,
        now: DateTime<Utc>,
        progress: &Progress,
    ) -> Result<Restored> {
        let at = Target::parse(url, "the address to restore into")?;
        let restored = self.run(&at, progress).await?;
        if restored.comparison.is_equal() {
            progress.begin("vacuuming", 0);
            target::vacuum(&at, self.settings.jobs).await?;
            note(&at, &restored, actor, now).await?;
        }
        Ok(restored)
    }

    /// Compares the database of `url`, which was restored before, with the backup. Changes nothing; what was written there since is
    /// a difference.
    pub async fn compare(&self, url: &Secret, progress: &Progress) -> Result<Comparison> {
        let at = Target::parse(url, "the address to compare")?;
        let manifest = self.manifest(progress).await?;
        proof::compare(&at, &manifest, self.settings.jobs, self.cold, progress).await
    }

    async fn manifest(&self, progress: &Progress) -> Result<Manifest> {
        progress.begin("reading the manifest", 0);
        let (manifest, sha256) = Manifest::get(self.bucket, self.key).await?;
        if self.manifest_sha256.is_some_and(|known| known != sha256) {
            return Err(Error::unavailable(
                "backup_differs",
                format!(
                    "{} is not the manifest that was written there: look at the bucket's log, and take another backup",
                    self.key.manifest()
                ),
            ));
        }
        Ok(manifest)
    }

    /// Restores and proves.
    pub(super) async fn run(&self, at: &Target, progress: &Progress) -> Result<Restored> {
        let began = Instant::now();
        let manifest = self.manifest(progress).await?;
        let identity = keys::identity(self.identity)?;
        let ready = Ready::check(at, &manifest).await?;
        let restored = self.fill(at, &ready, &manifest, &identity, progress).await;
        let restore_milliseconds = proof::milliseconds(began);
        let compared = match restored {
            Ok(()) => proof::compare(at, &manifest, self.settings.jobs, self.cold, progress).await,
            Err(error) => Err(error),
        };
        // In any case: whoever tries again must not find this one's lock.
        ready.close().await;
        Ok(Restored {
            comparison: compared?,
            manifest,
            restore_milliseconds,
        })
    }

    /// Unpacks the dump and restores it.
    async fn fill(
        &self,
        at: &Target,
        ready: &Ready,
        manifest: &Manifest,
        identity: &Identity,
        progress: &Progress,
    ) -> Result<()> {
        let folder = self.folder();
        let tools = Tools::new(self.settings.tools_dir.as_ref().map(PathBuf::from));
        let tool = tools.for_restore(dumped_by(manifest)?, ready.major).await?;
        let dump = spool(self.bucket, manifest, identity, &folder, progress).await?;
        ready.prepare(manifest).await?;
        let plan = pour::Plan {
            tool: &tool.path,
            at,
            ready,
            folder: &folder,
            jobs: self.settings.jobs,
            stall: Duration::from_secs(self.settings.stall_seconds),
        };
        pour(&plan, &dump, progress).await
    }

    fn folder(&self) -> PathBuf {
        self.settings
            .scratch_dir
            .as_ref()
            .map_or_else(env::temp_dir, PathBuf::from)
    }
}

/// The major version of the pg_dump that made it.
fn dumped_by(manifest: &Manifest) -> Result<u32> {
    let version = manifest.dump.tool.trim_start_matches("pg_dump ");
    let digits = version
        .split(|c: char| !c.is_ascii_digit())
        .next()
        .unwrap_or_default();
    digits.parse().map_err(|_| {
        Error::unavailable(
            "backup_damaged",
            "the manifest does not tell which pg_dump made the backup",
        )
    })
}

/// Notes in the restored database's own log that it was restored. The first commit that waits for the disk, and with it for all
/// that pg_restore wrote.
async fn note(at: &Target, restored: &Restored, actor: &str, now: DateTime<Utc>) -> Result<()> {
    let manifest = &restored.manifest;
    let details = json!({
        "backup_id": manifest.backup_id,
        "backup_started_at": manifest.started_at,
        "stored_sha256": manifest.dump.stored_sha256,
        "tables": restored.comparison.tables,
        "rows": restored.comparison.rows,
        "restore_milliseconds": restored.restore_milliseconds,
    });
    let entry = Entry::new(
        now,
        actor,
        Action::BackupRestore,
        manifest.object.clone(),
        details,
    );
    let connection = at.open("utxoiq-store restore").await?;
    audit::append_over(&connection, &entry).await?;
    connection.close().await;
    Ok(())
}

/// The backups that have a manifest in a store, by their dumps' keys, the newest first.
pub async fn stored(bucket: &Bucket) -> Result<Vec<BackupKey>> {
    let mut listed = bucket.list();
    let mut keys = Vec::new();
    while let Some(object) = listed.try_next().await? {
        keys.extend(
            BackupKey::parse(&object.path)
                .filter(|key| key.is_manifest)
                .map(BackupKey::object),
        );
    }
    keys.sort_by_key(|key| std::cmp::Reverse((key.started_at, key.id)));
    Ok(keys)
}
