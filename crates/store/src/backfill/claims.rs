//! Workers' claims: a sub-range, an epoch, a lease.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use deadpool_postgres::Transaction;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    Backfill, BlockRange, Claim, ClaimKey, Claimed, Heard, Job, Locked, Status, Which,
    close_claims, complete_if_whole, get_in_tx, lock, queries, refused, shorten,
};
use crate::{
    clock, db,
    error::{Error, Result},
    measure::Meter,
};

impl Backfill<'_> {
    /// Claims the lowest free sub-range of a job, at most `max_blocks` long. Sub-ranges whose lease is over become free
    /// here. Without a free one, the answer says when one may become free.
    ///
    /// Fails as `not_running` or `job_final`, as `implicit_worker` while a worker that knows no lease is at the job,
    /// and as `too_many_claims`.
    pub async fn claim(
        &self,
        id: Uuid,
        worker: &str,
        max_blocks: i64,
        now: DateTime<Utc>,
    ) -> Result<Claimed> {
        let _noting = self.noting(Some(id));
        let mut client = self.pool.get().await?;
        let tx = client.transaction().await?;
        let job = lock(&tx, id).await?;
        if job.status != Status::Running {
            // A completed job has no work left: an answer, not a fault.
            if job.status == Status::Completed {
                return Ok(self.claimed(get_in_tx(&tx, id).await?, None, None));
            }
            return Err(job.refuse());
        }
        self.refuse_implicit(&job, now)?;
        close_claims(&tx, id, Which::Expired, now).await?;
        let claimed = self.claim_in_tx(&tx, id, worker, max_blocks, now).await?;
        tx.commit().await?;
        Ok(claimed)
    }

    async fn claim_in_tx(
        &self,
        tx: &Transaction<'_>,
        id: Uuid,
        worker: &str,
        max_blocks: i64,
        now: DateTime<Utc>,
    ) -> Result<Claimed> {
        let size = max_blocks.clamp(1, self.settings.max_claim_blocks);
        let row = db::query_one(tx, &queries::FREE, &[&id, &size]).await?;
        let bounds: (Option<i64>, Option<i64>) =
            (row.try_get("start_block")?, row.try_get("end_block")?);
        let held_until: Option<DateTime<Utc>> = row.try_get("held_until")?;
        let Some((start, end)) = bounds.0.zip(bounds.1) else {
            // Nothing is free. Without claims nothing is missing either, and the folds above completed the ledger.
            if held_until.is_none() {
                complete_if_whole(tx, id, now).await?;
            }
            let wait = held_until.map(|until| (until - now).to_std().unwrap_or_default());
            return Ok(self.claimed(get_in_tx(tx, id).await?, None, wait));
        };
        if row.try_get::<_, i64>("claims")? >= self.settings.max_claims_per_job {
            return Err(Error::conflict(
                "too_many_claims",
                format!(
                    "backfill job {id} has {} claims already; use fewer workers or raise backfill.max_claims_per_job",
                    self.settings.max_claims_per_job
                ),
            ));
        }
        let claim_id = clock::uuid_at(now);
        let lease_expires_at = self.lease_end(now);
        let params: db::Params<'_> = &[
            &claim_id,
            &id,
            &worker,
            &start,
            &end,
            &now,
            &lease_expires_at,
        ];
        let epoch = db::query_one(tx, &queries::INSERT_CLAIM, params)
            .await?
            .try_get("epoch")?;
        let blocks = BlockRange { start, end };
        let claim = Claim {
            id: claim_id,
            job_id: id,
            epoch,
            blocks,
            lease_expires_at,
        };
        Ok(self.claimed(get_in_tx(tx, id).await?, Some(claim), None))
    }

    /// Records finished blocks of a claim and renews its lease. Sending it again changes nothing more. When the claim's
    /// blocks are all finished it is closed, and when that makes the job's ledger whole the job is completed.
    ///
    /// Fails as `stale_lease` when the claim is not the worker's any more, and as `outside_claim`.
    pub async fn record(
        &self,
        key: ClaimKey,
        blocks: BlockRange,
        now: DateTime<Utc>,
    ) -> Result<Heard> {
        let recording = self.record_unmeasured(key, blocks, now);
        self.pool.measured(Meter::ProgressWrite, recording).await
    }

    async fn record_unmeasured(
        &self,
        key: ClaimKey,
        blocks: BlockRange,
        now: DateTime<Utc>,
    ) -> Result<Heard> {
        let _noting = self.noting(Some(key.job_id));
        let lease = self.lease_end(now);
        let client = self.pool.get().await?;
        let params: db::Params<'_> = &[
            &key.job_id,
            &key.claim_id,
            &key.epoch,
            &blocks.start,
            &blocks.end,
            &now,
            &lease,
        ];
        let row = db::query_opt(&client, &queries::RECORD, params).await?;
        drop(client);
        let Some(row) = row else {
            return Err(self.why_stale(key, Some(blocks), now).await);
        };
        self.heard(key, &row, now).await
    }

    /// Renews a claim's lease, and tells the worker how the job stands. Fails as `stale_lease`.
    pub async fn heartbeat(&self, key: ClaimKey, now: DateTime<Utc>) -> Result<Heard> {
        let _noting = self.noting(Some(key.job_id));
        let lease = self.lease_end(now);
        let client = self.pool.get().await?;
        let params: db::Params<'_> = &[&key.job_id, &key.claim_id, &key.epoch, &now, &lease];
        let row = db::query_opt(&client, &queries::HEARTBEAT, params).await?;
        drop(client);
        let Some(row) = row else {
            return Err(self.why_stale(key, None, now).await);
        };
        self.heard(key, &row, now).await
    }

    /// Gives a claim back: what it finished stays, the rest is free at once. A claim that is gone is no error.
    pub async fn release(&self, key: ClaimKey, now: DateTime<Utc>) -> Result<Job> {
        let _noting = self.noting(Some(key.job_id));
        let mut client = self.pool.get().await?;
        let tx = client.transaction().await?;
        let job = lock(&tx, key.job_id).await?;
        db::execute(
            &tx,
            &queries::CLOSE_CLAIM,
            &[&key.job_id, &key.claim_id, &key.epoch],
        )
        .await?;
        if job.status.is_active() {
            complete_if_whole(&tx, key.job_id, now).await?;
        }
        let job = get_in_tx(&tx, key.job_id).await?;
        tx.commit().await?;
        Ok(job)
    }

    /// Records the error of a chunk, in the history of the job's present attempt, and renews the lease; the chunk stays
    /// missing. Fails as `stale_lease` and as `outside_claim`.
    pub async fn record_error(
        &self,
        key: ClaimKey,
        blocks: BlockRange,
        attempted: i32,
        message: &str,
        now: DateTime<Utc>,
    ) -> Result<Heard> {
        let _noting = self.noting(Some(key.job_id));
        let mut client = self.pool.get().await?;
        let tx = client.transaction().await?;
        // The history's foreign key takes this lock too: it must come before the claim's, as everywhere.
        db::query(&tx, &queries::SHARE, &[&key.job_id]).await?;
        let params: db::Params<'_> = &[&key.job_id, &key.claim_id, &key.epoch, &now];
        let Some(row) = db::query_opt(&tx, &queries::HOLD_CLAIM, params).await? else {
            drop(tx);
            drop(client);
            return Err(self.why_stale(key, None, now).await);
        };
        if blocks.start < row.try_get::<_, i64>("start_block")?
            || blocks.end > row.try_get::<_, i64>("end_block")?
        {
            return Err(outside_claim(blocks));
        }
        let message = match shorten(message) {
            text if text.trim().is_empty() => "no message".to_owned(),
            text => text,
        };
        let params: db::Params<'_> = &[
            &key.job_id,
            &row.try_get::<_, i32>("attempt")?,
            &blocks.start,
            &blocks.end,
            &row.try_get::<_, String>("worker")?,
            &attempted.max(1),
            &message,
            &now,
            &self.settings.max_errors_per_job,
        ];
        db::execute(&tx, &queries::INSERT_ERROR, params).await?;
        tx.commit().await?;
        drop(client);
        self.heartbeat(key, now).await
    }

    fn claimed(&self, job: Job, claim: Option<Claim>, retry_after: Option<Duration>) -> Claimed {
        Claimed {
            job,
            claim,
            retry_after,
            lease: Duration::from_secs(self.settings.lease_seconds),
        }
    }

    pub(super) fn lease_end(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now + seconds(self.settings.lease_seconds)
    }

    /// A worker that knows no lease was heard of a short while ago.
    fn refuse_implicit(&self, job: &Locked, now: DateTime<Utc>) -> Result<()> {
        let silence = seconds(self.settings.silence_seconds);
        match job.implicit_heard_at {
            Some(heard) if now - heard < silence => Err(Error::conflict(
                "implicit_worker",
                format!(
                    "backfill job {} is worked on by a worker without a lease, last heard of at {heard}; wait until it is silent for {} seconds, or fail the job and resume it",
                    job.id,
                    silence.num_seconds()
                ),
            )),
            _ => Ok(()),
        }
    }

    /// What a worker is told after its write, and the folding that its write may make due.
    async fn heard(&self, key: ClaimKey, row: &Row, now: DateTime<Utc>) -> Result<Heard> {
        let finished: bool = row.try_get("finished")?;
        let lease_expires_at: DateTime<Utc> = row.try_get("lease_expires_at")?;
        let mut status: Status = row.try_get::<_, &str>("status")?.parse()?;
        if finished {
            status = self.finish(key, now).await?;
        } else if now - row.try_get::<_, DateTime<Utc>>("folded_at")? >= TimeDelta::seconds(1) {
            self.fold(key.job_id).await?;
        }
        Ok(Heard {
            status,
            lease_expires_at,
            finished,
        })
    }

    /// Closes a finished claim, and completes the job when that was the last of it.
    async fn finish(&self, key: ClaimKey, now: DateTime<Utc>) -> Result<Status> {
        let mut client = self.pool.get().await?;
        let tx = client.transaction().await?;
        let job = lock(&tx, key.job_id).await?;
        db::execute(
            &tx,
            &queries::CLOSE_CLAIM,
            &[&key.job_id, &key.claim_id, &key.epoch],
        )
        .await?;
        let completed = job.status.is_active() && complete_if_whole(&tx, key.job_id, now).await?;
        tx.commit().await?;
        Ok(if completed {
            Status::Completed
        } else {
            job.status
        })
    }

    /// Folds what all claims finished into the job's ledger, unless someone is at the job's row already.
    async fn fold(&self, id: Uuid) -> Result<()> {
        let mut client = self.pool.get().await?;
        let tx = client.transaction().await?;
        if db::query_opt(&tx, &queries::TRY_LOCK, &[&id])
            .await?
            .is_some()
        {
            db::execute(&tx, &queries::FOLD, &[&id]).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Why a write found no claim to change. Only for the message: the write changed nothing whatever is found here.
    pub(super) async fn why_stale(
        &self,
        key: ClaimKey,
        blocks: Option<BlockRange>,
        now: DateTime<Utc>,
    ) -> Error {
        match self.ask_why_stale(key, blocks, now).await {
            Ok(error) | Err(error) => error,
        }
    }

    async fn ask_why_stale(
        &self,
        key: ClaimKey,
        blocks: Option<BlockRange>,
        now: DateTime<Utc>,
    ) -> Result<Error> {
        let mut client = self.pool.get().await?;
        let tx = client.transaction().await?;
        let job = get_in_tx(&tx, key.job_id).await?;
        let params: db::Params<'_> = &[&key.job_id, &key.claim_id, &key.epoch, &now];
        let held = db::query_opt(&tx, &queries::HOLD_CLAIM, params).await?;
        tx.commit().await?;
        Ok(match (held, blocks) {
            (Some(_), Some(blocks)) => outside_claim(blocks),
            _ if job.status.is_final() => refused(key.job_id, job.status),
            _ => Error::conflict(
                "stale_lease",
                format!(
                    "claim {} with epoch {} is not held any more; claim again",
                    key.claim_id, key.epoch
                ),
            ),
        })
    }
}

pub(super) fn outside_claim(blocks: BlockRange) -> Error {
    Error::invalid(
        "outside_claim",
        format!("blocks {blocks} lie outside of the claim"),
    )
}

/// Seconds of a setting as a span, at most a hundred years.
pub(super) fn seconds(setting: u64) -> TimeDelta {
    const CENTURY: u64 = 100 * 365 * 86_400;
    i64::try_from(setting.min(CENTURY))
        .ok()
        .and_then(TimeDelta::try_seconds)
        .unwrap_or(TimeDelta::MAX)
}
