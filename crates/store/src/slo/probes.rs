//! What was tried in a scratch database, and when.
//!
//! A probe is a run with a lease, one at a time: [`crate::worker`] makes it, since it takes a whole store. What it tried is a list of
//! [`Step`]s, each of one criterion. Its id is in the name of its scratch database, so that what a killed one left is known.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use super::queries;
use crate::{
    clock::uuid_at,
    db::{self, Connection, Pool},
    error::{Error, Result},
};

/// How long a probe may give no sign of life: it takes seconds.
const LEASE: TimeDelta = TimeDelta::minutes(3);

/// For how long probes are kept.
const KEEP: TimeDelta = TimeDelta::days(31);

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The criterion that it is about.
    pub criterion: String,
    /// What was tried, in a few words.
    pub step: String,
    /// Whether it did what it should.
    pub ok: bool,
    /// What was seen.
    pub message: String,
    /// How long it took.
    pub took_milliseconds: u64,
}

/// A time that capabilities were tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// Its id.
    pub id: Uuid,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// Who asked for it.
    pub started_by: String,
    /// Until when it counts as running.
    pub lease_expires_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// `ok`, `failed` or `lost`; `None` while it runs.
    pub outcome: Option<String>,
    /// What was tried.
    pub steps: Vec<Step>,
    /// Why it could not go on.
    pub error: Option<String>,
}

impl Probe {
    fn from_row(row: &Row) -> Result<Self> {
        let steps: Option<Value> = row.try_get("steps")?;
        let steps = steps.map(serde_json::from_value).transpose();
        Ok(Self {
            id: row.try_get("id")?,
            started_at: row.try_get("started_at")?,
            started_by: row.try_get("started_by")?,
            lease_expires_at: row.try_get("lease_expires_at")?,
            ended_at: row.try_get("ended_at")?,
            outcome: row.try_get("outcome")?,
            steps: steps
                .map_err(|error| {
                    Error::internal("the steps of a probe are none").with_source(error)
                })?
                .unwrap_or_default(),
            error: row.try_get("error")?,
        })
    }

    /// The newest ones, the newest first.
    pub async fn newest(connection: &Connection, limit: i64) -> Result<Vec<Self>> {
        let rows = db::query(connection, &queries::PROBES, &[&limit]).await?;
        rows.iter().map(Self::from_row).collect()
    }
}

/// Begins a probe; fails with `probe_running` where another goes on.
pub async fn begin(pool: &Pool, by: &str, now: DateTime<Utc>) -> Result<Uuid> {
    let connection = pool.get().await?;
    db::execute(&connection, &queries::LOSE_PROBES, &[&now]).await?;
    let (id, lease) = (uuid_at(now), now + LEASE);
    let begun = db::query_opt(
        &connection,
        &queries::BEGIN_PROBE,
        &[&id, &now, &by, &lease],
    )
    .await?;
    begun.map(|_| id).ok_or_else(|| {
        Error::conflict(
            "probe_running",
            "the criteria are being tried already; look at the outcome in a minute",
        )
    })
}

/// Says that a probe goes on; fails with `probe_lost` where it was given up.
pub async fn renew(pool: &Pool, id: Uuid, now: DateTime<Utc>) -> Result<()> {
    let connection = pool.get().await?;
    let lease = now + LEASE;
    let renewed = db::query_opt(&connection, &queries::RENEW_PROBE, &[&id, &lease]).await?;
    renewed.map(|_| ()).ok_or_else(lost)
}

/// Ends a probe with what it tried, and why it could not go on.
pub async fn end(
    pool: &Pool,
    id: Uuid,
    steps: &[Step],
    error: Option<&str>,
    now: DateTime<Utc>,
) -> Result<()> {
    let is_ok = error.is_none() && steps.iter().all(|step| step.ok);
    let outcome = if is_ok { "ok" } else { "failed" };
    let steps = serde_json::to_value(steps)
        .map_err(|error| Error::internal("steps are no JSON").with_source(error))?;
    let connection = pool.get().await?;
    let params: db::Params<'_> = &[&id, &now, &outcome, &steps, &error];
    let ended = db::query_opt(&connection, &queries::END_PROBE, params).await?;
    ended.map(|_| ()).ok_or_else(lost)
}

/// Which of these are over: what they left may be removed.
pub async fn over(pool: &Pool, ids: &[Uuid]) -> Result<Vec<Uuid>> {
    let connection = pool.get().await?;
    let rows = db::query(&connection, &queries::OVER_PROBES, &[&ids]).await?;
    rows.iter().map(|row| Ok(row.try_get("id")?)).collect()
}

/// Deletes old ones; gives how many.
pub async fn prune(pool: &Pool, now: DateTime<Utc>) -> Result<u64> {
    let connection = pool.get().await?;
    db::execute(&connection, &queries::PRUNE_PROBES, &[&(now - KEEP)]).await
}

fn lost() -> Error {
    Error::conflict(
        "probe_lost",
        "this probe was taken for dead: its process gave no sign of life",
    )
}
