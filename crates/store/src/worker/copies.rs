//! Copies of archives on this machine that must not stay.

use std::{collections::HashSet, time::Duration};

use crate::{Result, Store, db, metrics::queries};

/// How often a process looks.
pub const EVERY: Duration = Duration::from_hours(1);

/// Throws away the copies, in this machine's cache, of archives that are none any more: what has expired, or was restored, is
/// not to be found here either. Gives how many.
pub async fn purge(store: &Store) -> Result<usize> {
    let Some(cold) = store.cold() else {
        return Ok(0);
    };
    let connection = store.pool().get().await?;
    let rows = db::query(&connection, &queries::ACTIVE_ARCHIVES, &[]).await?;
    drop(connection);
    let active = rows
        .iter()
        .map(|row| Ok(row.try_get("sha256")?))
        .collect::<Result<HashSet<String>>>()?;
    cold.purge_cached(active).await
}

/// Does so at once and then every hour, for as long as it is polled. What failed is tried again then.
pub async fn purge_forever(store: Store) {
    loop {
        match purge(&store).await {
            Ok(0) => {}
            Ok(copies) => tracing::info!(copies, "copies of archives that have ended were removed"),
            Err(error) => {
                tracing::warn!(error = %error.report(), "copies of archives could not be looked through");
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}
