//! Starting jobs, and making them active again.

use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use uuid::Uuid;

use super::{
    Backfill, BlockRange, Gap, Job, NewJob, Status, get_in_tx, lock, not_found, queries,
    retry_deadlock,
};
use crate::{
    clock, db,
    error::{Error, Result},
};

/// The answer to [`Backfill::open`].
#[derive(Debug, Clone)]
pub struct Opened {
    /// The job.
    pub job: Job,
    /// Whether it was started by this call.
    pub is_new: bool,
}

impl Backfill<'_> {
    /// Starts a job (C1.1). Fails as `overlap` when an active job of its type has blocks in common with it.
    pub async fn start(&self, new: &NewJob, now: DateTime<Utc>) -> Result<Job> {
        let _noting = self.noting(None);
        retry_deadlock(|| self.start_as(new, None, now)).await
    }

    pub(super) async fn start_as(
        &self,
        new: &NewJob,
        external_id: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Job> {
        let mut client = self.pool.get().await?;
        let tx = client.transaction().await?;
        db::query(&tx, &queries::LOCK_TYPE, &[&new.job_type]).await?;
        let job = insert_in_tx(&tx, new, external_id, now).await?;
        tx.commit().await?;
        Ok(job)
    }

    /// What a worker that is started again wants: the newest job of exactly this type and range, made to run again
    /// when it failed, or a new one when there is none. Several workers at once get the same job. A completed,
    /// cancelled or paused one is answered as it is; `again` starts a new one in place of a completed or cancelled one.
    pub async fn open(&self, new: &NewJob, again: bool, now: DateTime<Utc>) -> Result<Opened> {
        let mut noting = self.noting(None);
        let opened = retry_deadlock(|| self.open_once(new, again, now)).await?;
        noting.is_of(opened.job.id);
        Ok(opened)
    }

    async fn open_once(&self, new: &NewJob, again: bool, now: DateTime<Utc>) -> Result<Opened> {
        let mut client = self.pool.get().await?;
        let tx = client.transaction().await?;
        db::query(&tx, &queries::LOCK_TYPE, &[&new.job_type]).await?;
        let params: db::Params<'_> = &[&new.job_type, &new.blocks.start, &new.blocks.last()];
        let newest = db::query_opt(&tx, &queries::NEWEST_OF_RANGE, params).await?;
        let newest = newest.as_ref().map(Job::from_row).transpose()?;
        let opened = match newest {
            Some(job) if job.status == Status::Failed => Opened {
                job: resume_in_tx(&tx, job.id, now).await?,
                is_new: false,
            },
            Some(job) if !(again && job.status.is_final()) => Opened { job, is_new: false },
            _ => Opened {
                job: insert_in_tx(&tx, new, None, now).await?,
                is_new: true,
            },
        };
        tx.commit().await?;
        Ok(opened)
    }

    /// Makes a paused or failed job run again, a failed one as a new attempt, and answers exactly what is missing. A
    /// running job is answered as it is. Fails as `job_final` for a completed or cancelled one.
    pub async fn resume(&self, id: Uuid, now: DateTime<Utc>) -> Result<(Job, Vec<Gap>)> {
        let _noting = self.noting(Some(id));
        let job = retry_deadlock(|| self.resume_once(id, now)).await?;
        Ok((job, self.gaps(id, now).await?))
    }

    async fn resume_once(&self, id: Uuid, now: DateTime<Utc>) -> Result<Job> {
        let mut client = self.pool.get().await?;
        let tx = client.transaction().await?;
        // The type's lock comes before the row's, as everywhere; a job's type never changes.
        let row = db::query_opt(&tx, &queries::JOB_TYPE, &[&id])
            .await?
            .ok_or_else(|| not_found(id))?;
        db::query(
            &tx,
            &queries::LOCK_TYPE,
            &[&row.try_get::<_, String>("job_type")?],
        )
        .await?;
        let job = resume_in_tx(&tx, id, now).await?;
        tx.commit().await?;
        Ok(job)
    }
}

/// Inserts a job. Its type must be locked.
async fn insert_in_tx(
    tx: &Transaction<'_>,
    new: &NewJob,
    external_id: Option<&str>,
    now: DateTime<Utc>,
) -> Result<Job> {
    refuse_overlap(tx, &new.job_type, new.blocks, None).await?;
    let id = clock::uuid_at(now);
    let params: db::Params<'_> = &[
        &id,
        &new.job_type,
        &new.blocks.start,
        &new.blocks.last(),
        &external_id,
        &new.created_by,
        &now,
    ];
    db::execute(tx, &queries::INSERT, params)
        .await
        .map_err(overlap_constraint)?;
    get_in_tx(tx, id).await
}

/// Makes a job run again. Its type must be locked.
pub(super) async fn resume_in_tx(
    tx: &Transaction<'_>,
    id: Uuid,
    now: DateTime<Utc>,
) -> Result<Job> {
    let job = lock(tx, id).await?;
    match job.status {
        Status::Running => {}
        Status::Paused => {
            db::execute(tx, &queries::UNPAUSE, &[&id, &now]).await?;
        }
        Status::Failed => {
            refuse_overlap(tx, &job.job_type, job.blocks, Some(id)).await?;
            db::execute(tx, &queries::NEW_ATTEMPT, &[&id, &now])
                .await
                .map_err(overlap_constraint)?;
        }
        Status::Completed | Status::Cancelled => return Err(job.refuse()),
    }
    get_in_tx(tx, id).await
}

async fn refuse_overlap(
    tx: &Transaction<'_>,
    job_type: &str,
    blocks: BlockRange,
    own: Option<Uuid>,
) -> Result<()> {
    let params: db::Params<'_> = &[&job_type, &blocks.start, &blocks.last(), &own];
    let Some(row) = db::query_opt(tx, &queries::OVERLAPPING, params).await? else {
        return Ok(());
    };
    let (id, first, last): (Uuid, i64, i64) = (
        row.try_get("id")?,
        row.try_get("start_block")?,
        row.try_get("end_block")?,
    );
    Err(overlap(&format!(
        "blocks {blocks} overlap the active {job_type} job {id} ({first}-{last}); wait for it, cancel it, or choose other blocks"
    )))
}

fn overlap(message: &str) -> Error {
    Error::conflict("overlap", message.to_owned())
}

/// The exclusion constraint's own word, for writers that the type's lock did not keep apart.
fn overlap_constraint(error: Error) -> Error {
    match error.constraint() {
        Some("backfill_jobs_no_overlap") => overlap(
            "an active job of this type has some of these blocks; wait for it, cancel it, or choose other blocks",
        ),
        Some("backfill_jobs_external_id_key") => Error::conflict(
            "job_exists",
            "a job with this id was started at the same moment; send the request again",
        ),
        _ => error,
    }
}
