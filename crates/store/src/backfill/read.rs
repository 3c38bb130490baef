//! Reading jobs.

use chrono::{DateTime, Utc};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    Attempt, Backfill, BlockRange, Checkpoint, ChunkError, Details, Gap, Job, JobFilter, Status,
    not_found, queries,
};
use crate::{db, error::Result, measure::Meter};

impl Backfill<'_> {
    /// One job as it stands.
    pub async fn get(&self, id: Uuid) -> Result<Option<Job>> {
        let client = self.pool.get().await?;
        let row = db::query_opt(&client, &queries::GET, &[&id]).await?;
        row.as_ref().map(Job::from_row).transpose()
    }

    /// One job by the id its reporter chose.
    pub async fn get_external(&self, external_id: &str) -> Result<Option<Job>> {
        let client = self.pool.get().await?;
        let row = db::query_opt(&client, &queries::GET_EXTERNAL, &[&external_id]).await?;
        row.as_ref().map(Job::from_row).transpose()
    }

    /// Jobs, newest start first.
    pub async fn list(&self, filter: &JobFilter) -> Result<Vec<Job>> {
        let listing = self.list_unmeasured(filter);
        self.pool.measured(Meter::JobRead, listing).await
    }

    async fn list_unmeasured(&self, filter: &JobFilter) -> Result<Vec<Job>> {
        let (limit, offset) = (&filter.limit, &filter.offset);
        let status = filter.status.map(Status::shown);
        let rows = match (&filter.job_type, &status) {
            (None, None) => self.reads.query(&queries::LIST, &[limit, offset]).await?,
            (None, Some(status)) => {
                self.reads
                    .query(&queries::LIST_BY_STATUS, &[limit, offset, status])
                    .await?
            }
            (Some(kind), None) => {
                self.reads
                    .query(&queries::LIST_BY_TYPE, &[limit, offset, kind])
                    .await?
            }
            (Some(kind), Some(status)) => {
                self.reads
                    .query(
                        &queries::LIST_BY_TYPE_AND_STATUS,
                        &[limit, offset, kind, status],
                    )
                    .await?
            }
        };
        rows.iter().map(Job::from_row).collect()
    }

    /// The missing ranges of a job, lowest first, cut where claims begin and end.
    pub async fn gaps(&self, id: Uuid, now: DateTime<Utc>) -> Result<Vec<Gap>> {
        let client = self.pool.get().await?;
        let rows = db::query(&client, &queries::GAPS, &[&id, &now]).await?;
        if rows.is_empty()
            && db::query_opt(&client, &queries::JOB_TYPE, &[&id])
                .await?
                .is_none()
        {
            return Err(not_found(id));
        }
        rows.iter().map(gap).collect()
    }

    /// A job with its ledger, attempts, errors and checkpoints.
    pub async fn details(&self, id: Uuid, now: DateTime<Utc>) -> Result<Option<Details>> {
        self.reads
            .run(|pool| {
                let there = Self { pool, ..*self };
                Box::pin(async move { there.details_there(id, now).await })
            })
            .await
    }

    async fn details_there(&self, id: Uuid, now: DateTime<Utc>) -> Result<Option<Details>> {
        let mut client = self.pool.get().await?;
        // One snapshot, so that what is covered and what is missing add up.
        let tx = client
            .build_transaction()
            .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await?;
        let Some(row) = db::query_opt(&tx, &queries::GET, &[&id]).await? else {
            return Ok(None);
        };
        let job = Job::from_row(&row)?;
        let covered = db::query_one(&tx, &queries::COVERED, &[&id]).await?;
        let covered = BlockRange::zip(
            &covered.try_get::<_, Vec<i64>>("starts")?,
            &covered.try_get::<_, Vec<i64>>("ends")?,
        );
        let missing = db::query(&tx, &queries::GAPS, &[&id, &now]).await?;
        let attempts = db::query(&tx, &queries::ATTEMPTS, &[&id]).await?;
        let errors = db::query(&tx, &queries::ERRORS, &[&id]).await?;
        let checkpoints = db::query(&tx, &queries::CHECKPOINTS, &[&id]).await?;
        tx.commit().await?;
        Ok(Some(Details {
            job,
            covered,
            missing: missing.iter().map(gap).collect::<Result<_>>()?,
            attempts: attempts.iter().map(attempt).collect::<Result<_>>()?,
            errors: errors.iter().map(chunk_error).collect::<Result<_>>()?,
            checkpoints: checkpoints.iter().map(checkpoint).collect::<Result<_>>()?,
        }))
    }
}

fn gap(row: &Row) -> Result<Gap> {
    Ok(Gap {
        blocks: BlockRange {
            start: row.try_get("start_block")?,
            end: row.try_get("end_block")?,
        },
        claimed_by: row.try_get("worker")?,
        lease_expires_at: row.try_get("lease_expires_at")?,
    })
}

fn attempt(row: &Row) -> Result<Attempt> {
    Ok(Attempt {
        attempt: row.try_get("attempt")?,
        started_at: row.try_get("started_at")?,
        covered_blocks: row.try_get("covered_blocks")?,
        ended_at: row.try_get("ended_at")?,
        outcome: row.try_get("outcome")?,
        error_message: row.try_get("error_message")?,
    })
}

fn chunk_error(row: &Row) -> Result<ChunkError> {
    let bounds: (Option<i64>, Option<i64>) =
        (row.try_get("start_block")?, row.try_get("end_block")?);
    Ok(ChunkError {
        attempt: row.try_get("attempt")?,
        blocks: bounds
            .0
            .zip(bounds.1)
            .map(|(start, end)| BlockRange { start, end }),
        worker: row.try_get("worker")?,
        attempted: row.try_get("try")?,
        message: row.try_get("message")?,
        occurred_at: row.try_get("occurred_at")?,
    })
}

pub(super) fn checkpoint(row: &Row) -> Result<Checkpoint> {
    Ok(Checkpoint {
        block: row.try_get("block")?,
        block_hash: row.try_get("block_hash")?,
        recorded_at: row.try_get("recorded_at")?,
    })
}
