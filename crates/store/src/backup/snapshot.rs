//! A moment of the database that several sessions see: pg_dump, and those that compute fingerprints.
//!
//! ```text
//! exporter                                     others
//! list the tables
//! begin; LOCK every table, ACCESS SHARE        a TRUNCATE or DROP from here on waits
//! export the snapshot; list the tables again
//!   another list: begin anew                   a table made in between is seen here
//! pg_dump and the fingerprints import it
//! ```
//!
//! Locks first: a TRUNCATE that commits between the export and the locks of pg_dump would be missing from the one and be in the
//! other (it is not versioned). The locks are the weakest there are, are waited for briefly only, so that nobody queues behind
//! this, and are held to the end.

use std::{collections::BTreeMap, time::Duration};

use rand::RngExt as _;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::{
    connection::Target,
    manifest::{ArchiveNeeded, Source},
    queries::source,
};
use crate::{
    audit::hex,
    cold::AuditHead,
    db::{Dedicated, migrate},
    error::{Error, Result},
};

/// How often all locks are tried for, 200 ms each.
const ATTEMPTS: u32 = 100;

/// A table with rows of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    /// Schema and name, quoted.
    pub name: String,
    pub bytes: i64,
}

/// A snapshot that can be imported as long as this is there.
pub(super) struct Exported {
    connection: Dedicated,
    pub name: String,
    pub tables: Vec<Table>,
    pub sequences: BTreeMap<String, i64>,
    pub catalogue: Vec<String>,
    pub source: Source,
    pub archives: Vec<ArchiveNeeded>,
    pub audit_head: Option<AuditHead>,
}

impl Exported {
    /// Locks, exports, and reads what the manifest says of the database.
    pub async fn open(target: &Target) -> Result<Self> {
        let connection = target.open("utxoiq-store backup snapshot").await?;
        connection.batch_execute(source::SETTINGS).await?;
        refuse_what_is_not_backed_up(&connection).await?;
        let (name, tables) = export(&connection).await?;
        Ok(Self {
            name,
            tables,
            sequences: sequences(&connection).await?,
            catalogue: catalogue(&connection).await?,
            archives: archives(&connection).await?,
            audit_head: audit_head(&connection).await?,
            source: facts(&connection).await?,
            connection,
        })
    }

    /// Lets go of the snapshot and of the locks.
    pub async fn close(self) {
        self.connection.close().await;
    }
}

async fn refuse_what_is_not_backed_up(connection: &Dedicated) -> Result<()> {
    let row = connection.query_one(source::NOT_BACKED_UP.sql, &[]).await?;
    let large_objects: i64 = row.try_get("large_objects")?;
    let row_security: Option<String> = row.try_get("row_security")?;
    // Everybody may make one: refusing them would let whoever has any password stop all backups.
    if large_objects > 0 {
        tracing::warn!(
            large_objects,
            "the database has large objects, which are in no backup: this product makes none; remove them with lo_unlink, or move them elsewhere"
        );
    }
    if let Some(tables) = row_security {
        let what = format!(
            "row security hides rows of {tables} from the backup: this product uses none; disable it there"
        );
        return Err(Error::conflict("backup_incomplete", what));
    }
    Ok(())
}

/// Begins the transaction that stays open, and gives the snapshot's name and the tables in it.
async fn export(connection: &Dedicated) -> Result<(String, Vec<Table>)> {
    for _ in 0..ATTEMPTS {
        let listed = tables(connection).await?;
        connection.batch_execute(source::BEGIN).await?;
        let locked = lock(connection, &listed).await;
        match locked {
            Ok(()) => {
                let row = connection.query_one(source::EXPORT.sql, &[]).await?;
                let mut seen = tables(connection).await?;
                let mut locked = listed;
                if names(&mut seen) == names(&mut locked) {
                    return Ok((row.try_get("snapshot")?, tables(connection).await?));
                }
            }
            Err(error) if is_worth_another_try(&error) => {}
            Err(error) => return Err(error.into()),
        }
        connection.batch_execute("rollback").await?;
        let pause = rand::rng().random_range(20..200);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    Err(Error::unavailable(
        "database_busy",
        "somebody holds a table exclusively for long (a migration, a VACUUM FULL?); the backup is tried again",
    ))
}

fn names(tables: &mut [Table]) -> Vec<&str> {
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    tables.iter().map(|table| table.name.as_str()).collect()
}

async fn lock(connection: &Dedicated, tables: &[Table]) -> Result<(), tokio_postgres::Error> {
    if tables.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let sql = format!(
        "set local lock_timeout = '200ms'; {}; set local lock_timeout = 0",
        source::lock(&names)
    );
    connection.batch_execute(&sql).await
}

/// A lock that was not to be had, or a table that was dropped meanwhile.
fn is_worth_another_try(error: &tokio_postgres::Error) -> bool {
    matches!(
        error.code(),
        Some(
            &SqlState::LOCK_NOT_AVAILABLE
                | &SqlState::UNDEFINED_TABLE
                | &SqlState::T_R_DEADLOCK_DETECTED
        )
    )
}

/// The tables with rows of their own, the largest first.
pub(super) async fn tables(connection: &Dedicated) -> Result<Vec<Table>> {
    let rows = connection.query(source::TABLES.sql, &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(Table {
                name: row.try_get("name")?,
                bytes: row.try_get("bytes")?,
            })
        })
        .collect()
}

async fn sequences(connection: &Dedicated) -> Result<BTreeMap<String, i64>> {
    let rows = connection.query(source::SEQUENCES.sql, &[]).await?;
    rows.iter()
        .map(|row| Ok((row.try_get("name")?, row.try_get("last_value")?)))
        .collect()
}

/// Every line of the catalogue, sorted.
pub(super) async fn catalogue(connection: &Dedicated) -> Result<Vec<String>> {
    let rows = connection.query(&migrate::whole_catalogue(), &[]).await?;
    let mut lines = rows
        .iter()
        .map(|row| Ok(row.try_get::<_, String>(0)?.replace('\n', " ")))
        .collect::<Result<Vec<String>>>()?;
    lines.sort_unstable();
    Ok(lines)
}

async fn archives(connection: &Dedicated) -> Result<Vec<ArchiveNeeded>> {
    let rows = connection.query(source::ARCHIVES.sql, &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(ArchiveNeeded {
                id: row.try_get::<_, Uuid>("id")?,
                object: row.try_get("object_key")?,
                bytes: row.try_get("bytes")?,
                sha256: row.try_get("sha256")?,
            })
        })
        .collect()
}

/// What is told of the database.
pub(super) async fn facts(connection: &Dedicated) -> Result<Source> {
    let row = connection.query_one(source::FACTS.sql, &[]).await?;
    Ok(Source {
        database: row.try_get("database")?,
        server_version: row.try_get("server_version")?,
        server_version_num: row.try_get("server_version_num")?,
        schema_version: row.try_get("schema_version")?,
        extensions: row.try_get("extensions")?,
    })
}

/// The head of the audit log; `None` where nothing is in it.
pub(super) async fn audit_head(connection: &Dedicated) -> Result<Option<AuditHead>> {
    let row = connection.query_one(source::FACTS.sql, &[]).await?;
    let sequence: Option<i64> = row.try_get("audit_sequence")?;
    let hash: Option<Vec<u8>> = row.try_get("audit_hash")?;
    Ok(sequence
        .zip(hash)
        .filter(|(sequence, _)| *sequence > 0)
        .map(|(sequence, hash)| AuditHead {
            sequence,
            hash: hex(&hash),
        }))
}
