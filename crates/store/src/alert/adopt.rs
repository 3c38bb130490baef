//! What happened without the database is written into it as soon as it is back.

use serde_json::Value;

use super::{Alerts, memory::Incident, queries};
use crate::{
    db::{self, Pool},
    error::{Error, Result},
};

impl Alerts {
    /// Writes what this process did without the database. Whoever goes on there sends nothing that was sent already.
    pub(super) async fn adopt(&self, pool: &Pool) -> Result<()> {
        let changed = self.memory().changed();
        if changed.is_empty() {
            return Ok(());
        }
        let mut connection = pool.get().await?;
        let tx = connection.transaction().await?;
        adopt_alerts(&tx, &changed).await?;
        adopt_deliveries(&tx, &changed).await?;
        tx.commit().await?;
        self.memory().adopted(&changed);
        Ok(())
    }
}

/// One column of what is written.
fn column<'a, T, R>(rows: &[&'a T], of: impl Fn(&'a T) -> R) -> Vec<R> {
    rows.iter().copied().map(of).collect()
}

async fn adopt_alerts(tx: &deadpool_postgres::Transaction<'_>, changed: &[Incident]) -> Result<()> {
    let new: Vec<_> = changed
        .iter()
        .filter(|incident| !incident.is_known)
        .map(|incident| &incident.alert)
        .collect();
    if new.is_empty() {
        return Ok(());
    }
    let labels = new
        .iter()
        .map(|alert| serde_json::to_value(&alert.labels))
        .collect::<Result<Vec<Value>, _>>()
        .map_err(|error| Error::internal("an alert's labels are no JSON").with_source(error))?;
    db::execute(
        tx,
        &queries::ADOPT_ALERTS,
        &[
            &column(&new, |alert| alert.id),
            &column(&new, |alert| &*alert.key),
            &column(&new, |alert| &*alert.source),
            &column(&new, |alert| alert.severity.as_str()),
            &column(&new, |alert| &*alert.title),
            &column(&new, |alert| &*alert.detail),
            &column(&new, |alert| &*alert.runbook),
            &labels,
            &column(&new, |alert| alert.opened_at),
            &column(&new, |alert| alert.seen_at),
            &column(&new, |alert| alert.escalated_at),
            &column(&new, |alert| alert.resolved_at),
        ],
    )
    .await?;
    Ok(())
}

async fn adopt_deliveries(
    tx: &deadpool_postgres::Transaction<'_>,
    changed: &[Incident],
) -> Result<()> {
    let pairs: Vec<_> = changed
        .iter()
        .flat_map(|incident| {
            let progress = incident.progress.iter();
            progress.map(|progress| (&incident.alert, progress))
        })
        .collect();
    let rows: Vec<_> = pairs.iter().collect();
    if rows.is_empty() {
        return Ok(());
    }
    db::execute(
        tx,
        &queries::ADOPT_DELIVERIES,
        &[
            &column(&rows, |(alert, _)| alert.id),
            &column(&rows, |(alert, _)| &*alert.key),
            &column(&rows, |(_, progress)| &*progress.sink),
            &column(&rows, |(_, progress)| progress.what.as_str()),
            &column(&rows, |(_, progress)| progress.attempts),
            &column(&rows, |(_, progress)| progress.deliveries),
            &column(&rows, |(_, progress)| progress.failures),
            &column(&rows, |(_, progress)| progress.next_at),
            &column(&rows, |(_, progress)| progress.delivered_at),
            &column(&rows, |(_, progress)| progress.last_error.as_deref()),
        ],
    )
    .await?;
    Ok(())
}
