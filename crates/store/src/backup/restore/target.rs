//! The database that is restored into: what it must be like, and what is done to it before and after.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::try_join_all;
use tokio_postgres::error::SqlState;

use crate::{
    backup::{
        Manifest,
        connection::Target,
        queries::{source, target},
        snapshot,
    },
    db::{Dedicated, roles},
    error::{Error, Result},
};

/// How often the place is tried for, and how long after each other.
const LOCK_ATTEMPTS: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// A database that is being restored into. Nobody else restores into it as long as this is there.
pub(super) struct Ready {
    connection: Dedicated,
    /// The major version of its server.
    pub major: u32,
    extensions: Vec<String>,
}

impl Ready {
    /// Looks at the database. Changes nothing.
    ///
    /// # Errors
    ///
    /// `restore_running`, `restore_target_not_empty`, `restore_target_too_old`, `restore_roles_missing`.
    pub async fn check(at: &Target, manifest: &Manifest) -> Result<Self> {
        let connection = at.open("utxoiq-store restore watch").await?;
        connection.batch_execute(source::SETTINGS).await?;
        lock(&connection).await?;
        let all: Vec<&str> = [roles::OWNER, roles::AUDIT]
            .into_iter()
            .chain(roles::LOGIN)
            .collect();
        let owners = vec![roles::OWNER, roles::AUDIT];
        let row = connection
            .query_one(target::READY.sql, &[&all, &owners])
            .await?;
        let ready = Self {
            connection,
            major: major(row.try_get("server_version_num")?),
            extensions: row.try_get("extensions")?,
        };
        refuse(row.try_get("found")?)?;
        let source = major(manifest.source.server_version_num);
        if ready.major < source {
            return Err(Error::conflict(
                "restore_target_too_old",
                format!(
                    "the backup is of PostgreSQL {source}, and the server to restore on is of version {}: restore on a newer one",
                    ready.major
                ),
            ));
        }
        let missing: Option<String> = row.try_get("missing_roles")?;
        if missing.is_some() || !row.try_get::<_, bool>("may_act")? {
            let what = missing.map_or_else(
                || {
                    "whoever restores cannot act as the owners of the tables there (connect as utxoiq_drill)"
                        .to_owned()
                },
                |roles| format!("the server to restore on has no roles {roles}"),
            );
            return Err(Error::conflict(
                "restore_roles_missing",
                format!(
                    "{what}: run `utxoiq-store init` with database.admin_url on that database first"
                ),
            ));
        }
        Ok(ready)
    }

    /// Makes the extensions that the backup needs, as they belonged before: to the owner of all tables.
    ///
    /// Looks once more whether the database is empty: unpacking took its time.
    pub async fn prepare(&self, manifest: &Manifest) -> Result<()> {
        self.refuse_what_is_there().await?;
        let missing = manifest
            .source
            .extensions
            .iter()
            .filter(|name| !self.extensions.contains(name));
        for name in missing {
            let sql = target::create_extension(name, roles::OWNER);
            self.connection.batch_execute(&sql).await.map_err(|error| {
                Error::conflict(
                    "restore_extension_refused",
                    format!(
                        "the extension {name} could not be made in the database to restore into: an administrator must run `create extension {name}` there first"
                    ),
                )
                .with_source(error)
            })?;
        }
        Ok(())
    }

    async fn refuse_what_is_there(&self) -> Result<()> {
        let none: Vec<&str> = Vec::new();
        let row = self
            .connection
            .query_one(target::READY.sql, &[&none, &none])
            .await?;
        refuse(row.try_get("found")?)
    }

    /// Whether pg_restore's sessions there execute something, and how far they are.
    pub async fn moves(&self, application: &str) -> Result<(bool, i64)> {
        let row = self
            .connection
            .query_one(target::MOVES.sql, &[&application])
            .await?;
        Ok((row.try_get("is_busy")?, row.try_get("done")?))
    }

    /// Lets go of the database.
    pub async fn close(self) {
        self.connection.close().await;
    }
}

/// Takes the place of the one restore of this database. The session of one that has just ended may be there for a moment longer.
async fn lock(connection: &Dedicated) -> Result<()> {
    for _ in 0..LOCK_ATTEMPTS {
        let locked = connection.query_one(target::LOCK.sql, &[]).await?;
        if locked.try_get::<_, bool>("locked")? {
            return Ok(());
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
    Err(Error::conflict(
        "restore_running",
        "another restore goes on in this database",
    ))
}

fn refuse(found: Option<String>) -> Result<()> {
    found.map_or(Ok(()), |found| {
        Err(Error::conflict(
            "restore_target_not_empty",
            format!(
                "the database to restore into is not empty: it has {found}; name an empty one, nothing is ever overwritten"
            ),
        ))
    })
}

/// 15 of 150008.
fn major(version: i32) -> u32 {
    u32::try_from(version / 10_000).unwrap_or_default()
}

/// Vacuums and analyses every table, over so many connections.
pub(super) async fn vacuum(at: &Target, connections: usize) -> Result<()> {
    let connection = at.open("utxoiq-store restore").await?;
    connection.batch_execute(source::SETTINGS).await?;
    let tables = snapshot::tables(&connection).await?;
    connection.close().await;
    let waiting = Mutex::new(tables.iter().rev().collect::<Vec<_>>());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let workers = (0..connections.min(tables.len())).map(|_| async {
        let connection = at.open("utxoiq-store restore").await?;
        connection.batch_execute(source::SETTINGS).await?;
        while let Some(table) = next() {
            let sql = target::vacuum(&table.name);
            connection.batch_execute(&sql).await?;
        }
        connection.close().await;
        Ok::<_, Error>(())
    });
    try_join_all(workers).await?;
    Ok(())
}

/// Whether the server refused because of who asked, or has not got what was asked for.
pub(in crate::backup) fn is_refusal(error: &tokio_postgres::Error) -> bool {
    matches!(
        error.code(),
        Some(
            &(SqlState::INSUFFICIENT_PRIVILEGE
                | SqlState::FEATURE_NOT_SUPPORTED
                | SqlState::UNDEFINED_FILE
                | SqlState::UNDEFINED_FUNCTION)
        )
    )
}
