//! Migrations (C5.1–C5.5): a small migrator of our own.
//!
//! # What it guarantees
//!
//! * Each migration is applied once, in the order of its number, however many migrators run at once (C5.3, C5.5). One
//!   works at a time, under an advisory lock on a connection of its own that is closed afterwards: a session lock
//!   survives ROLLBACK, so a pooled connection would keep it for ever after a failure. A killed migrator's lock goes
//!   with its connection, within about a second.
//! * A migration and its record are one transaction: a failure leaves nothing. One that cannot be in a transaction (an
//!   index built CONCURRENTLY) is a single statement that can be run again; what a killed one left is removed first.
//! * No statement waits longer than 200 ms for a lock, because everybody who comes after waits behind it. The whole
//!   migration is tried again instead, until a limit.
//! * What was applied is known by checksum: a file changed afterwards, a gap or a missing half stop everything.
//! * Its down file is kept in the database, so that an older binary can roll back a newer migration (C5.4).
//! * The catalogue after each migration is kept too, so that `status` can show what changed behind our back.
//!
//! Other migrators were weighed: one leaks its lock when a step fails and skips a missing down file in silence, another
//! has no way back.

mod apply;
mod catalogue;
mod compatibility;
mod down;
mod draft;
pub mod lint;
mod loss;
pub(crate) mod queries;
mod session;
mod source;
pub mod sql;
mod status;

use std::{path::Path, time::Duration};

use chrono::{DateTime, Utc};

pub use apply::Record;
pub use catalogue::Drift;
pub use compatibility::{SchemaState, compatibility};
pub use down::{DownOptions, RolledBack};
pub use draft::new_pair;
pub use loss::Loss;
pub use queries::STATEMENTS;
pub use source::{Direction, Migration, Script, checksum};
pub use status::Status;

use crate::error::Result;

/// How long the migrator waits for others.
#[derive(Debug, Clone)]
pub struct Limits {
    /// For another migrator to finish.
    pub wait_for_other: Duration,
    /// For one lock; everybody who wants the same table waits as long.
    pub lock_timeout: Duration,
    /// How often a migration that did not get its locks is tried.
    pub attempts: u32,
    /// The longest pause between two tries; they begin at a tenth of it.
    pub longest_pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wait_for_other: Duration::from_mins(10),
            lock_timeout: Duration::from_millis(200),
            attempts: 100,
            longest_pause: Duration::from_secs(2),
        }
    }
}

/// A migration that was just applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Its number.
    pub number: i32,
    /// `verb_noun`.
    pub name: String,
    /// When, by the caller's clock.
    pub applied_at: DateTime<Utc>,
    /// How long it took, tries that did not get their locks included.
    pub duration: Duration,
    /// How often it had to be tried.
    pub attempts: u32,
}

/// A set of migrations, and how patiently they are applied.
#[derive(Debug, Clone)]
pub struct Migrator {
    migrations: Vec<Migration>,
    limits: Limits,
}

impl Migrator {
    /// The migrations that this binary carries.
    pub fn embedded() -> Result<Self> {
        Ok(Self {
            migrations: source::embedded()?,
            limits: Limits::default(),
        })
    }

    /// The migrations in a folder.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        Ok(Self {
            migrations: source::from_dir(dir)?,
            limits: Limits::default(),
        })
    }

    /// The same migrations with other limits.
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The migrations, in order.
    pub fn migrations(&self) -> &[Migration] {
        &self.migrations
    }

    /// SHA-256 over all files and the migrator's own table, in hexadecimal: equal where `up` would make the same.
    pub fn content_hash(&self) -> String {
        let mut text = format!("{}{}", queries::CREATE_TABLE, queries::GRANT_TABLE);
        for migration in &self.migrations {
            text.push_str(&format!(
                "{} {} {}\n",
                migration.label(),
                migration.up.checksum,
                migration.down.checksum
            ));
        }
        checksum(&text)
    }
}

/// The SQL for the lines of everything that a migration decides, and of partitions and the migrations' own tables too: what a
/// restored database must have, whatever made it. They depend on the session's `search_path`; the caller sorts them.
pub fn whole_catalogue() -> String {
    catalogue::whole()
}

/// The database's catalogue as sorted lines: what `status` compares. Changes nothing.
pub async fn catalogue(url: &str) -> Result<Vec<String>> {
    let session = session::Session::open_to_read(url).await?;
    let lines = catalogue::read(&session).await;
    session.close().await;
    Ok(lines?)
}
