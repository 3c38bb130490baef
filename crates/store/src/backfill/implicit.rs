//! The contract's calls that know no lease: they write as the job's own implicit worker.

use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use uuid::Uuid;

use super::{
    Backfill, BlockRange, Job, Locked, NewJob, Status, Which, close_claims, complete_if_whole,
    control::incomplete, end_in_tx, get_in_tx, lock, not_found, queries, refused, retry_deadlock,
    shorten, start::resume_in_tx,
};
use crate::{
    db,
    error::{Error, Kind, Result},
    measure::Meter,
};

/// The type of the jobs that the reporter script starts.
pub const REPORTER_TYPE: &str = "reporter";

/// What an implicit worker says.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// The block it is at: everything below is finished. `None` where it does not say.
    pub current_block: Option<i64>,
    /// The status it wants; `None` and `Running` mean that it goes on.
    pub status: Option<Status>,
    /// Its error.
    pub error_message: Option<String>,
    /// How many errors it met (the reporter script's field). Above 0 there are holes below its block, nobody knows
    /// where: nothing is committed.
    pub error_count: i64,
    /// How many blocks it finished in this attempt (the reporter script's field).
    pub blocks_processed: Option<i64>,
}

/// How the reporter script starts a job.
#[derive(Debug, Clone)]
pub struct ReportedStart {
    /// The id it chose, 1 to 255 characters.
    pub external_id: String,
    /// The blocks to cover.
    pub blocks: BlockRange,
    /// The block it is at.
    pub current_block: Option<i64>,
    /// How many errors it met.
    pub error_count: i64,
}

impl Backfill<'_> {
    /// What the implicit worker of a job says (C1.2–C1.4). Progress at block b commits everything below b; `completed`
    /// at the last block commits all, and below it fails as `incomplete`; an earlier block than before changes nothing.
    ///
    /// Fails as `leased` while a worker with a lease is at the job, as `job_final` or `not_running` where the job has
    /// ended, and as `block_outside_job`.
    pub async fn report(&self, id: Uuid, progress: &Progress, now: DateTime<Utc>) -> Result<Job> {
        let reporting = self.report_unmeasured(id, progress, now);
        self.pool.measured(Meter::ProgressWrite, reporting).await
    }

    async fn report_unmeasured(
        &self,
        id: Uuid,
        progress: &Progress,
        now: DateTime<Utc>,
    ) -> Result<Job> {
        let _noting = self.noting(Some(id));
        let goes_on = progress
            .status
            .is_none_or(|status| status == Status::Running);
        let Some(block) = progress
            .current_block
            .filter(|_| goes_on && progress.error_count == 0)
        else {
            return self.report_change(id, progress, now).await;
        };
        let client = self.pool.get().await?;
        let row = db::query_opt(&client, &queries::COMMIT_BELOW, &[&id, &block, &now]).await?;
        drop(client);
        match row.as_ref().map(Job::from_row).transpose()? {
            // A worker that paused itself goes on by saying that it runs; an operator's pause holds.
            Some(job)
                if progress.status.is_some() && job.paused_by.as_deref() == Some("worker") =>
            {
                self.report_change(id, progress, now).await
            }
            Some(job) => Ok(job),
            // It found nothing to change: the slow way finds out why, or finds that it can by now.
            None => self.report_change(id, progress, now).await,
        }
    }

    /// Starts the reporter script's job, or resumes the one it started before with this id. Fails as `job_final` where
    /// that one has ended for good, as `other_range` where it has other blocks, and as `block_outside_job`.
    pub async fn start_reported(&self, start: &ReportedStart, now: DateTime<Utc>) -> Result<Job> {
        let _noting = self.noting(None);
        // Before anything is started or resumed: the report below comes too late to refuse it.
        check_block(&start.blocks, start.current_block)?;
        let progress = Progress {
            current_block: start.current_block,
            error_count: start.error_count,
            ..Progress::default()
        };
        let job = if let Some(job) = self.get_external(&start.external_id).await? {
            self.resume_reported(&job, start, now).await?
        } else {
            self.start_or_join(start, now).await?
        };
        let client = self.pool.get().await?;
        db::execute(
            &client,
            &queries::REPORT_START,
            &[&job.id, &start.current_block],
        )
        .await?;
        drop(client);
        self.report(job.id, &progress, now).await
    }

    /// Starts the job, unless another start with the same id does so at the same moment: a script that sends its start
    /// again because the first answer was late must not hear that its own job is in its way.
    async fn start_or_join(&self, start: &ReportedStart, now: DateTime<Utc>) -> Result<Job> {
        let new = NewJob {
            job_type: REPORTER_TYPE.to_owned(),
            blocks: start.blocks,
            created_by: None,
        };
        let id = start.external_id.as_str();
        match retry_deadlock(|| self.start_as(&new, Some(id), now)).await {
            Err(error) if error.kind() == Kind::Conflict => match self.get_external(id).await? {
                Some(job) => self.resume_reported(&job, start, now).await,
                None => Err(error),
            },
            started => started,
        }
    }

    async fn resume_reported(
        &self,
        job: &Job,
        start: &ReportedStart,
        now: DateTime<Utc>,
    ) -> Result<Job> {
        if job.blocks != start.blocks {
            return Err(Error::conflict(
                "other_range",
                format!(
                    "job {} was started with blocks {}, not {}; choose another id",
                    start.external_id, job.blocks, start.blocks
                ),
            ));
        }
        Ok(self.resume(job.id, now).await?.0)
    }

    /// What the reporter script says of its job.
    pub async fn report_external(
        &self,
        external_id: &str,
        progress: &Progress,
        now: DateTime<Utc>,
    ) -> Result<Job> {
        let job = self
            .get_external(external_id)
            .await?
            .ok_or_else(|| not_found(external_id))?;
        self.report(job.id, progress, now).await
    }

    /// Everything but plain progress: under the job's lock.
    async fn report_change(
        &self,
        id: Uuid,
        progress: &Progress,
        now: DateTime<Utc>,
    ) -> Result<Job> {
        let mut client = self.pool.get().await?;
        let tx = client.transaction().await?;
        let row = db::query_opt(&tx, &queries::JOB_TYPE, &[&id])
            .await?
            .ok_or_else(|| not_found(id))?;
        db::query(
            &tx,
            &queries::LOCK_TYPE,
            &[&row.try_get::<_, String>("job_type")?],
        )
        .await?;
        let locked = lock(&tx, id).await?;
        check_block(&locked.blocks, progress.current_block)?;
        let wanted = progress.status.unwrap_or(Status::Running);
        if !locked.status.is_active() {
            // The same last word twice: the answer to the first was lost.
            return if locked.status == wanted {
                get_in_tx(&tx, id).await
            } else {
                Err(refused(id, locked.status))
            };
        }
        close_claims(&tx, id, Which::Expired, now).await?;
        let held: Option<DateTime<Utc>> = db::query_one(&tx, &queries::FREE, &[&id, &1_i64])
            .await?
            .try_get("held_until")?;
        if held.is_some() {
            return Err(leased(id));
        }
        // The holes that errors leave are nowhere on record: committing up to the block would bury them.
        if progress.error_count > 0 {
            db::execute(&tx, &queries::DISTRUST, &[&id]).await?;
        } else if let Some(block) = progress.current_block {
            db::query_opt(&tx, &queries::COMMIT_BELOW, &[&id, &block, &now]).await?;
        }
        let refusal = change_status(&tx, &locked, wanted, progress, now).await?;
        let job = get_in_tx(&tx, id).await?;
        tx.commit().await?;
        match refusal {
            Some(error) => Err(error),
            None => Ok(job),
        }
    }
}

/// Takes a locked, active job to the status its implicit worker wants. An error is one that nothing is kept of; a
/// returned refusal goes with changes to commit.
async fn change_status(
    tx: &Transaction<'_>,
    job: &Locked,
    wanted: Status,
    progress: &Progress,
    now: DateTime<Utc>,
) -> Result<Option<Error>> {
    let id = job.id;
    match wanted {
        Status::Running => {
            if job.paused_by.as_deref() == Some("worker") {
                resume_in_tx(tx, id, now).await?;
            }
            // Alive, though nothing was committed.
            db::query_opt(tx, &queries::COMMIT_BELOW, &[&id, &job.blocks.start, &now]).await?;
        }
        Status::Paused => {
            db::execute(tx, &queries::PAUSE, &[&id, &"worker"]).await?;
        }
        Status::Failed => {
            let message = progress
                .error_message
                .as_deref()
                .map(str::trim)
                .filter(|text| !text.is_empty());
            let message = shorten(message.unwrap_or("the worker gave no reason"));
            end_in_tx(tx, id, Status::Failed, Some(&message), now).await?;
        }
        Status::Completed if progress.error_count > 0 || job.trusted_below.is_some() => {
            let refusal = holes(tx, job, progress.error_count, now).await?;
            return Ok(Some(refusal));
        }
        Status::Completed => {
            if says_all(job, progress) {
                db::execute(tx, &queries::COMMIT_ALL, &[&id, &now]).await?;
            }
            if !complete_if_whole(tx, id, now).await? {
                return Err(incomplete(&get_in_tx(tx, id).await?));
            }
        }
        Status::Cancelled => {
            return Err(Error::field(
                "status",
                "must be running, completed, failed or paused",
            ));
        }
    }
    Ok(None)
}

/// Whether a worker that says that it is done has said so of every block: by its last block, or by their number.
fn says_all(job: &Locked, progress: &Progress) -> bool {
    let blocks_left = job.blocks.count() - job.begun_with_blocks;
    match (progress.current_block, progress.blocks_processed) {
        (None, None) => false,
        (block, processed) => {
            block.is_none_or(|block| block == job.blocks.last())
                && processed.is_none_or(|processed| processed >= blocks_left)
        }
    }
}

/// Fails a job whose implicit worker finished with errors, and refuses to call it completed.
async fn holes(
    tx: &Transaction<'_>,
    job: &Locked,
    errors: i64,
    now: DateTime<Utc>,
) -> Result<Error> {
    let from = get_in_tx(tx, job.id).await?.current_block;
    let met = if errors > 0 {
        format!("{errors} errors")
    } else {
        "errors before".to_owned()
    };
    let message = format!(
        "the worker finished with {met}: some blocks are missing, and which ones it did not say; start it again at block {from}"
    );
    end_in_tx(tx, job.id, Status::Failed, Some(&message), now).await?;
    Ok(Error::conflict(
        "incomplete",
        format!(
            "backfill job {} is not completed but failed: {message}",
            job.id
        ),
    ))
}

fn check_block(blocks: &BlockRange, block: Option<i64>) -> Result<()> {
    let Some(block) = block else {
        return Ok(());
    };
    let broken = if block < blocks.start {
        "current_block cannot be less than start_block"
    } else if block > blocks.last() {
        "current_block cannot be greater than end_block"
    } else {
        return Ok(());
    };
    Err(Error::invalid(
        "block_outside_job",
        format!("{broken} ({blocks})"),
    ))
}

fn leased(id: Uuid) -> Error {
    Error::conflict(
        "leased",
        format!(
            "backfill job {id} is worked on by workers with leases; wait until they are done or cancel the job"
        ),
    )
}
