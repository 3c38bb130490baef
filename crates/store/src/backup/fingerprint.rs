//! What the rows of a table come to: their number, and the sum of their hashes.
//!
//! # What it tells, and what not
//!
//! The hash is PostgreSQL's own of a whole row (`hash_record_extended`), the same on every machine and in every version since
//! 14; a sum does not depend on the order of the rows, so nothing is sorted. A row that was changed, lost, doubled or added
//! changes the sum but for one chance in 2^64. What the types themselves hold for equal has equal hashes: -0.0 and 0.0, 1.0 and
//! 1.00 as numeric, '1 day' and '24 hours'; what is written is normalised for that reason. Types without such a hash (json,
//! point, bit, tsvector) are refused by the migrations' lint, and a backup of a table that has one fails with its name.
//!
//! Source: `hash_record_extended` in PostgreSQL's `src/backend/utils/adt/rowtypes.c`.

use std::{collections::BTreeMap, sync::Mutex, sync::PoisonError};

use futures_util::future::try_join_all;

use super::{
    Progress, connection::Target, manifest::Fingerprint, queries::source, snapshot::Table,
};
use crate::{
    db::Dedicated,
    error::{Error, Result},
};

/// The fingerprints of these tables, computed over so many connections, in an exported snapshot or in the present.
pub(super) async fn fingerprints(
    target: &Target,
    snapshot: Option<&str>,
    tables: &[Table],
    connections: usize,
    progress: &Progress,
) -> Result<BTreeMap<String, Fingerprint>> {
    // The largest first: the last one to end is then a small one.
    let waiting = Mutex::new(tables.iter().rev().collect::<Vec<_>>());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let workers = (0..connections.min(tables.len()).max(1)).map(|_| async {
        let connection = target.open("utxoiq-store backup fingerprints").await?;
        connection.batch_execute(source::SETTINGS).await?;
        connection.batch_execute(source::BEGIN).await?;
        if let Some(snapshot) = snapshot {
            let sql = format!(
                "set transaction snapshot '{}'",
                snapshot.replace('\'', "''")
            );
            connection.batch_execute(&sql).await?;
        }
        let mut found = Vec::new();
        while let Some(table) = next() {
            found.push((table.name.clone(), of_table(&connection, table).await?));
            progress.compared();
        }
        connection.close().await;
        Ok::<_, Error>(found)
    });
    Ok(try_join_all(workers).await?.into_iter().flatten().collect())
}

async fn of_table(connection: &Dedicated, table: &Table) -> Result<Fingerprint> {
    let row = connection
        .query_one(&source::fingerprint(&table.name), &[])
        .await
        .map_err(|error| {
            let why = error.as_db_error().map_or_else(
                || "the connection was lost".to_owned(),
                |error| error.message().to_owned(),
            );
            Error::unavailable(
                "no_fingerprint",
                format!("the rows of {} could not be compared: {why}", table.name),
            )
            .with_source(error)
        })?;
    Ok(Fingerprint {
        rows: row.try_get("rows")?,
        hash: row.try_get("hash")?,
    })
}
