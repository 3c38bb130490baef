//! From what is wrong now to open alerts.

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_postgres::{Row, types::Json};
use uuid::Uuid;

use super::{Alert, Alerts, Condition, Observed, Severity, memory, queries};
use crate::{
    clock,
    db::{self, Pool},
    error::{Error, Result},
};

impl Alerts {
    /// Says what is wrong now by one source: opens an alert for what is new, brings open ones up to date, and resolves those
    /// that are no longer named. Observing the same again changes nothing, and an observation that is older than the latest
    /// of its source is none.
    pub async fn observe(
        &self,
        pool: &Pool,
        source: &str,
        conditions: &[Condition],
        now: DateTime<Utc>,
    ) -> Result<Observed> {
        self.observe_partly(pool, source, conditions, &[], now)
            .await
    }

    /// The same by somebody who cannot judge all that the source can: alerts with these keys are not resolved.
    pub async fn observe_partly(
        &self,
        pool: &Pool,
        source: &str,
        conditions: &[Condition],
        unjudged: &[&str],
        now: DateTime<Utc>,
    ) -> Result<Observed> {
        self.adopt(pool).await?;
        let conditions = memory::distinct(conditions);
        let mut connection = pool.get().await?;
        let tx = connection.transaction().await?;
        let latest = db::query_opt(&tx, &queries::OBSERVE_SOURCE, &[&source, &now]).await?;
        if latest.is_none() {
            return Ok(Observed::default());
        }
        let (opened, refused) = open(&tx, source, &conditions, now).await?;
        let keys: Vec<&str> = conditions
            .iter()
            .map(|condition| condition.key.as_str())
            .chain(unjudged.iter().copied())
            .collect();
        let resolved = db::execute(&tx, &queries::RESOLVE, &[&source, &keys, &now]).await?;
        tx.commit().await?;
        if refused > 0 {
            // What else there was to tell is told.
            return Err(Error::internal(format!(
                "{refused} conditions of {source} have keys that are open alerts of other sources: begin a source's keys with its name"
            )));
        }
        Ok(Observed {
            opened,
            resolved: usize::try_from(resolved).unwrap_or(usize::MAX),
        })
    }
}

/// Opens and updates; gives how many are new, and how many belong to others.
async fn open(
    tx: &deadpool_postgres::Transaction<'_>,
    source: &str,
    conditions: &[Condition],
    now: DateTime<Utc>,
) -> Result<(usize, usize)> {
    if conditions.is_empty() {
        return Ok((0, 0));
    }
    let ids: Vec<Uuid> = conditions.iter().map(|_| clock::uuid_at(now)).collect();
    let text = |of: fn(&Condition) -> &str| conditions.iter().map(of).collect::<Vec<&str>>();
    let labels: Vec<Json<_>> = conditions.iter().map(|one| Json(&one.labels)).collect();
    let rows = db::query(
        tx,
        &queries::OPEN,
        &[
            &ids,
            &text(|one| &one.key),
            &text(|one| one.severity.as_str()),
            &text(|one| &one.title),
            &text(|one| &one.detail),
            &text(|one| one.runbook),
            &labels,
            &source,
            &now,
        ],
    )
    .await?;
    let mut opened = 0;
    let mut escalated = Vec::new();
    for row in &rows {
        let id: Uuid = row.get("id");
        if ids.contains(&id) {
            opened += 1;
        } else if row.get::<_, Option<DateTime<Utc>>>("escalated_at") == Some(now) {
            escalated.push(id);
        }
    }
    if !escalated.is_empty() {
        db::execute(tx, &queries::TELL_AGAIN, &[&escalated, &now]).await?;
    }
    Ok((opened, conditions.len() - rows.len()))
}

impl Alert {
    pub(super) fn from_row(row: &Row) -> Result<Self> {
        let labels: Value = row.get("labels");
        Ok(Self {
            id: row.get("id"),
            key: row.get("key"),
            source: row.get("source"),
            severity: Severity::from_name(row.get("severity"))?,
            title: row.get("title"),
            detail: row.get("detail"),
            runbook: row.get("runbook"),
            labels: serde_json::from_value(labels).map_err(|error| {
                Error::internal("an alert's labels are no texts").with_source(error)
            })?,
            opened_at: row.get("opened_at"),
            seen_at: row.get("seen_at"),
            escalated_at: row.get("escalated_at"),
            resolved_at: row.get("resolved_at"),
            acknowledged_at: row.get("acknowledged_at"),
            acknowledged_by: row.get("acknowledged_by"),
            note: row.get("note"),
        })
    }
}
