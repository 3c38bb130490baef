//! Steering jobs: pause, cancel, fail, complete, and what to do about silence.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{
    Backfill, Job, Status, Which, close_claims, complete_if_whole, end_in_tx, get_in_tx, lock,
    queries, shorten,
};
use crate::{
    db,
    error::{Error, Result},
};

impl Backfill<'_> {
    /// Pauses a running job: workers hear it on their next heartbeat and take no new work; what they are at may still
    /// be recorded. A paused job is answered as it is.
    pub async fn pause(&self, id: Uuid) -> Result<Job> {
        let _noting = self.noting(Some(id));
        let mut client = self.pool.get().await?;
        let tx = client.transaction().await?;
        let job = lock(&tx, id).await?;
        match job.status {
            Status::Running => {
                db::execute(&tx, &queries::PAUSE, &[&id, &"operator"]).await?;
            }
            Status::Paused => {}
            _ => return Err(job.refuse()),
        }
        let job = get_in_tx(&tx, id).await?;
        tx.commit().await?;
        Ok(job)
    }

    /// Cancels a job for good: its workers are fenced out at once and hear it on their next heartbeat. A cancelled job
    /// is answered as it is.
    pub async fn cancel(&self, id: Uuid, now: DateTime<Utc>) -> Result<Job> {
        let _noting = self.noting(Some(id));
        let mut client = self.pool.get().await?;
        let tx = client.transaction().await?;
        let job = lock(&tx, id).await?;
        match job.status {
            Status::Cancelled => {}
            Status::Completed => return Err(job.refuse()),
            Status::Running | Status::Paused | Status::Failed => {
                end_in_tx(&tx, id, Status::Cancelled, None, now).await?;
            }
        }
        let job = get_in_tx(&tx, id).await?;
        tx.commit().await?;
        Ok(job)
    }

    /// Ends an active job as failed (C1.4), fencing its workers out; it can be resumed. A failed job is answered as it
    /// is.
    pub async fn fail(&self, id: Uuid, error_message: &str, now: DateTime<Utc>) -> Result<Job> {
        let _noting = self.noting(Some(id));
        let mut client = self.pool.get().await?;
        let tx = client.transaction().await?;
        let job = lock(&tx, id).await?;
        if job.status.is_final() {
            return Err(job.refuse());
        }
        if job.status != Status::Failed {
            end_in_tx(&tx, id, Status::Failed, Some(&shorten(error_message)), now).await?;
        }
        let job = get_in_tx(&tx, id).await?;
        tx.commit().await?;
        Ok(job)
    }

    /// Completes a job whose ledger is whole (C1.3); fails as `incomplete`, naming what is missing, where it is not. A
    /// completed job is answered as it is.
    pub async fn complete(&self, id: Uuid, now: DateTime<Utc>) -> Result<Job> {
        let _noting = self.noting(Some(id));
        let mut client = self.pool.get().await?;
        let tx = client.transaction().await?;
        let job = lock(&tx, id).await?;
        if !job.status.is_active() && job.status != Status::Completed {
            return Err(job.refuse());
        }
        if job.status.is_active() {
            db::execute(&tx, &queries::FOLD, &[&id]).await?;
            if !complete_if_whole(&tx, id, now).await? {
                let job = get_in_tx(&tx, id).await?;
                return Err(incomplete(&job));
            }
        }
        let job = get_in_tx(&tx, id).await?;
        tx.commit().await?;
        Ok(job)
    }

    /// Fails the running jobs of which nothing was heard for `backfill.silence_seconds`, as 'worker lost'; they can be
    /// resumed. Returns their ids.
    pub async fn fail_silent(&self, now: DateTime<Utc>) -> Result<Vec<Uuid>> {
        let silence = i64::try_from(self.settings.silence_seconds).unwrap_or(i64::MAX);
        let since =
            TimeDelta::try_seconds(silence).and_then(|silence| now.checked_sub_signed(silence));
        let Some(since) = since else {
            return Ok(Vec::new());
        };
        let candidates =
            db::query(&self.pool.get().await?, &queries::SILENT, &[&since, &now]).await?;
        let mut failed = Vec::new();
        for row in candidates {
            let id: Uuid = row.try_get("id")?;
            let _noting = self.noting(Some(id));
            if self.fail_if_silent(id, since, now).await? {
                failed.push(id);
            }
        }
        Ok(failed)
    }

    /// Whether the job was failed. Each in its own transaction: asked again under its lock, since it may have been heard of in between.
    async fn fail_if_silent(
        &self,
        id: Uuid,
        since: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        let mut client = self.pool.get().await?;
        let tx = client.transaction().await?;
        lock(&tx, id).await?;
        close_claims(&tx, id, Which::Expired, now).await?;
        let silent: bool = db::query_one(&tx, &queries::IS_SILENT, &[&id, &since])
            .await?
            .try_get("silent")?;
        // A worker may have finished the last block and died before it could say so.
        let fails = silent && !complete_if_whole(&tx, id, now).await?;
        if fails {
            let seconds = (now - since).num_seconds();
            let message = format!("worker lost: nothing was heard for {seconds} seconds");
            end_in_tx(&tx, id, Status::Failed, Some(&message), now).await?;
        }
        tx.commit().await?;
        Ok(fails)
    }
}

/// The ledger has holes.
pub(super) fn incomplete(job: &Job) -> Error {
    Error::conflict(
        "incomplete",
        format!(
            "backfill job {} has {} of {} blocks; the first missing one is {}",
            job.id,
            job.covered_blocks,
            job.blocks.count(),
            job.current_block
        ),
    )
}
