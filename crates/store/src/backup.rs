//! Backups (C8): made, read back, proved by a restore, kept as long as the policy says, and watched.
//!
//! # What it guarantees
//!
//! * **One moment.** The dump and the fingerprint of every table are of one [exported snapshot](snapshot): what a restore gives is
//!   compared with what was there, not with what is there by then.
//! * **Whole or not at all.** A dump that broke off never becomes an object ([`dump`]); the manifest is written last, and what has
//!   none is no backup.
//! * ***Verified* is what was read back**: every byte of the stored object, every night. ***Proved* is what was restored** and gave
//!   the same fingerprints, catalogue and migrations, with no sequence behind ([`proof`]).
//! * **The newest verified and the newest proved backup are never removed**, whatever their age ([`policy`]).
//! * **A backup that fails, or never happens, is heard of within five minutes** ([`watch`]), also without the database.
//! * **Whoever makes backups cannot read them**: they are encrypted to public keys ([`keys`]).
//! * **No password** is in an argument, a log or a manifest ([`connection`]), and memory is bounded whatever the size.
//!
//! # Why so
//!
//! It works with what Cloud SQL allows: SQL and pg_dump, no superuser, no files of the server's. The manifests in the object store
//! hold all that a restore needs, since the database that has the history is what may be lost.

mod connection;
mod drill;
mod dump;
mod facts;
mod fingerprint;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod inventory;
pub mod keys;
mod manifest;
pub mod policy;
mod progress;
mod proof;
mod prune;
pub mod queries;
pub mod region;
mod restore;
mod run;
mod snapshot;
pub mod tools;
pub mod watch;

use std::{fmt, sync::Arc};

use chrono::{DateTime, Utc};
use tokio_postgres::Row;
use uuid::Uuid;

pub use drill::{Outcome, Proof, Scratch, drop_left, left_behind};
pub use facts::History;
pub use inventory::{Fault, Inventory};
pub use keys::KeyPair;
pub use manifest::{ArchiveNeeded, Dump, Fingerprint, Manifest, Previous, Source};
pub use progress::Progress;
pub use proof::{Comparison, Difference};
pub use prune::Pruned;
pub use restore::{Restore, Restored, stored};

use crate::{
    clock::Clock,
    cold::{BackupKey, Bucket},
    config::Config,
    db::{self, Pool},
    error::{Error, Result},
};

/// The object stores of backups: the first, and a further one for second copies. Clones share the clients.
#[derive(Debug, Clone, Default)]
pub struct BackupStores {
    /// Where backups are made to.
    pub first: Option<Bucket>,
    /// Where each of them is copied to.
    pub second: Option<Bucket>,
}

impl BackupStores {
    /// The stores of the settings. Asks them nothing yet.
    ///
    /// Fails with `invalid_config`, also where what is stored there would be encrypted to keys that are none.
    pub fn open(config: &Config) -> Result<Self> {
        // Whoever only restores or proves encrypts nothing.
        if config.backup_store.url.is_some() && config.database.backup_url.is_some() {
            keys::recipients(&config.backup)?;
        }
        if let Some(identity) = &config.backup.drill_identity {
            keys::identity(identity).map_err(|_| {
                Error::invalid(
                    "invalid_config",
                    "backup.drill_identity is no secret key of age: it begins with AGE-SECRET-KEY-1",
                )
            })?;
        }
        let said = [
            ("backup_store", &config.backup_store.location),
            ("backup_copy", &config.backup_copy.location),
        ];
        for (section, location) in said {
            if let Some(location) = location {
                region::Location::parse(location).map_err(|error| {
                    Error::invalid("invalid_config", format!("{section}.location: {error}"))
                })?;
            }
        }
        Ok(Self {
            first: Bucket::open(&(&config.backup_store).into())?,
            second: Bucket::open(&(&config.backup_copy).into())?,
        })
    }
}

/// Backups, with the history in the database of the application's pool.
#[derive(Clone)]
pub struct Backups<'a> {
    pool: &'a Pool,
    stores: &'a BackupStores,
    config: &'a Config,
    clock: Arc<dyn Clock>,
}

/// Where a backup is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is being dumped.
    Running,
    /// The dump and its manifest are there.
    Stored,
    /// All of it was read back.
    Verified,
    /// It said why.
    Failed,
    /// Its process was not heard of any more.
    Abandoned,
    /// Its time was over.
    Pruned,
}

impl State {
    /// The state's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stored => "stored",
            Self::Verified => "verified",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
            Self::Pruned => "pruned",
        }
    }

    fn parse(text: &str) -> Result<Self> {
        [
            Self::Running,
            Self::Stored,
            Self::Verified,
            Self::Failed,
            Self::Abandoned,
            Self::Pruned,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| Error::internal("a backup has a state that this version does not know"))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A run, and the backup that it made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The run's id.
    pub id: Uuid,
    /// The time of the schedule that it was made for; `None` where somebody asked for it.
    pub slot_at: Option<DateTime<Utc>>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// Who asked for it.
    pub started_by: String,
    /// When it counts as dead, while it runs.
    pub lease_expires_at: DateTime<Utc>,
    /// Where it is on its way.
    pub state: State,
    /// The dump's key.
    pub key: BackupKey,
    /// The size of what pg_dump wrote, in bytes; 0 before it is stored.
    pub plain_bytes: u64,
    /// The size of the stored object, in bytes; 0 before it is stored.
    pub stored_bytes: u64,
    /// How many rows it has; 0 before it is stored.
    pub rows: i64,
    /// How many tables it has; 0 before it is stored.
    pub tables: i32,
    /// The SHA-256 of the stored object, in hexadecimal.
    pub sha256: Option<String>,
    /// The SHA-256 of the manifest's bytes, in hexadecimal.
    pub manifest_sha256: Option<String>,
    /// The last migration of the database.
    pub schema_version: Option<i32>,
    /// When dump and manifest were there.
    pub stored_at: Option<DateTime<Utc>>,
    /// When it was last read back and was right.
    pub verified_at: Option<DateTime<Utc>>,
    /// When the second copy was.
    pub copied_at: Option<DateTime<Utc>>,
    /// When its object was written, by the store's clock, as it said when it was last read back.
    pub modified_at: Option<DateTime<Utc>>,
    /// Since when the store is known to have something else, or nothing.
    pub damaged_at: Option<DateTime<Utc>>,
    /// When the run ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// When it was removed.
    pub pruned_at: Option<DateTime<Utc>>,
    /// What went wrong.
    pub error: Option<String>,
    /// When a restore of it was last compared and was equal.
    pub proved_at: Option<DateTime<Utc>>,
}

impl Backup {
    fn from_row(row: &Row) -> Result<Self> {
        let bytes = |name: &str| -> Result<u64> {
            let bytes: Option<i64> = row.try_get(name)?;
            Ok(bytes
                .and_then(|bytes| u64::try_from(bytes).ok())
                .unwrap_or(0))
        };
        let key: &str = row.try_get("object_key")?;
        Ok(Self {
            id: row.try_get("id")?,
            slot_at: row.try_get("slot_at")?,
            started_at: row.try_get("started_at")?,
            started_by: row.try_get("started_by")?,
            lease_expires_at: row.try_get("lease_expires_at")?,
            state: State::parse(row.try_get("state")?)?,
            key: BackupKey::parse(key)
                .ok_or_else(|| Error::internal("a backup's object has a key that is none"))?,
            plain_bytes: bytes("plain_bytes")?,
            stored_bytes: bytes("stored_bytes")?,
            rows: row.try_get::<_, Option<i64>>("row_count")?.unwrap_or(0),
            tables: row.try_get::<_, Option<i32>>("table_count")?.unwrap_or(0),
            sha256: row.try_get("sha256")?,
            manifest_sha256: row.try_get("manifest_sha256")?,
            schema_version: row.try_get("schema_version")?,
            stored_at: row.try_get("stored_at")?,
            verified_at: row.try_get("verified_at")?,
            copied_at: row.try_get("copied_at")?,
            modified_at: row.try_get("modified_at")?,
            damaged_at: row.try_get("damaged_at")?,
            ended_at: row.try_get("ended_at")?,
            pruned_at: row.try_get("pruned_at")?,
            error: row.try_get("error")?,
            proved_at: row.try_get("proved_at")?,
        })
    }
}

impl<'a> Backups<'a> {
    /// Backups into these stores, with their history in the pool's database.
    pub fn new(
        pool: &'a Pool,
        stores: &'a BackupStores,
        config: &'a Config,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            pool,
            stores,
            config,
            clock,
        }
    }

    /// The first store, and the second where there is one.
    ///
    /// Fails with `backup_not_configured` where there is none.
    fn stores(&self) -> Result<(&'a Bucket, Option<&'a Bucket>)> {
        let first = self.stores.first.as_ref().ok_or_else(|| {
            Error::conflict(
                "backup_not_configured",
                "there is nowhere to back up to: set backup_store.url",
            )
        })?;
        Ok((first, self.stores.second.as_ref()))
    }

    /// The newest runs, the newest first; only those that are, or may become, backups unless `all`.
    pub async fn list(&self, all: bool, limit: i64, offset: i64) -> Result<Vec<Backup>> {
        let connection = self.pool.get().await?;
        let rows = db::query(&connection, &queries::LIST, &[&all, &limit, &offset]).await?;
        rows.iter().map(Backup::from_row).collect()
    }

    /// The manifest of a backup, as the first store has it.
    pub async fn manifest(&self, backup: &Backup) -> Result<Manifest> {
        let (first, _) = self.stores()?;
        Ok(Manifest::get(first, backup.key).await?.0)
    }

    /// One run.
    pub async fn get(&self, id: Uuid) -> Result<Option<Backup>> {
        let connection = self.pool.get().await?;
        let row = db::query_opt(&connection, &queries::ONE, &[&id]).await?;
        row.as_ref().map(Backup::from_row).transpose()
    }
}

impl fmt::Debug for Backups<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backups")
            .field("stores", self.stores)
            .finish_non_exhaustive()
    }
}
