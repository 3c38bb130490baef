//! Backfill jobs: long runs over ranges of blocks that survive restarts and go on from exactly what is missing (C1).
//!
//! # What it guarantees
//!
//! * **The ledger is the truth.** A job's finished blocks are a set of ranges. `completed` is reachable only when the
//!   set is the job's whole range (a CHECK), percentage and estimate are functions of it, and `resume` answers exactly
//!   its complement.
//! * **A finished block stays finished.** The ledger only grows, except by an explicit [rewind](Backfill::rewind) after
//!   a chain reorganisation.
//! * **A stale worker changes nothing.** A worker holds a *claim* on a sub-range: a row with an epoch and a lease. Each
//!   write names both and finds no row once the claim was closed, by whomever; it also finds none when the lease is
//!   over, even where nobody has taken the range yet.
//! * **Active jobs of one type never overlap**, by an exclusion constraint.
//!
//! # Why a claim's row, and not the job's
//!
//! Parallel workers each write their own claim's row; the job's row is written when a claim is made or closed, and at
//! most once a second to fold what is finished into the ledger (C1.2 allows five). Reads merge what is not folded yet,
//! so they are exact at once.
//!
//! Folding and rewinding could undo each other:
//!
//! ```text
//! fold:    reads claim 7 (done 100..200)            writes ledger ∪ 100..200   ← the old chain is back
//! rewind:                      closes claim 7, takes 100.. out of the ledger
//! ```
//!
//! Therefore whatever closes, folds or rewinds first locks the job's row, and reads the claims in a *later* statement,
//! whose snapshot (READ COMMITTED) begins after the lock was granted. A worker's own write never takes the job's lock
//! while it holds its claim's, so the order is always job, then claim, and nothing deadlocks.
//!
//! # Workers that know no lease
//!
//! The contract's older calls write as the job's *implicit worker* ([`Backfill::report`]): progress at block b commits
//! everything below b. It is refused while a claim is alive, and a claim is refused while it is alive: which blocks such
//! a worker is at is not known.

mod blocks;
mod cached;
mod chain;
mod claims;
mod control;
mod implicit;
mod job;
pub mod queries;
mod read;
mod start;
pub mod worker;

use std::future::Future;

use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use uuid::Uuid;

pub use blocks::{BlockRange, MAX_BLOCK};
pub use cached::{JobCaches, JobKey, LATEST, LatestKey};
pub use chain::CheckpointOutcome;
pub use implicit::{Progress, ReportedStart};
pub use job::{
    Attempt, Checkpoint, ChunkError, Claim, ClaimKey, Claimed, Details, Gap, Heard, Job, JobFilter,
    NewJob, Status,
};
pub use start::Opened;

use crate::{
    config::BackfillSettings,
    db::{self, Pool, Reads},
    error::{Error, Result},
};

/// The handle: `store.backfill()`.
#[derive(Debug, Clone, Copy)]
pub struct Backfill<'a> {
    pool: &'a Pool,
    reads: &'a Reads,
    settings: &'a BackfillSettings,
    caches: &'a JobCaches,
}

impl<'a> Backfill<'a> {
    /// Backfill jobs over a pool, lists also over its replicas, with what of them is cached.
    pub fn new(
        pool: &'a Pool,
        reads: &'a Reads,
        settings: &'a BackfillSettings,
        caches: &'a JobCaches,
    ) -> Self {
        Self {
            pool,
            reads,
            settings,
            caches,
        }
    }
}

/// A job's row, locked for the transaction.
struct Locked {
    id: Uuid,
    job_type: String,
    blocks: BlockRange,
    status: Status,
    paused_by: Option<String>,
    implicit_heard_at: Option<DateTime<Utc>>,
    /// Where the implicit worker met its first error.
    trusted_below: Option<i64>,
    /// Finished blocks when the implicit worker began to count.
    begun_with_blocks: i64,
}

impl Locked {
    /// The state forbids it: says which state, and what to do.
    fn refuse(&self) -> Error {
        refused(self.id, self.status)
    }
}

fn refused(id: Uuid, status: Status) -> Error {
    match status {
        Status::Completed => Error::conflict(
            "job_final",
            format!("backfill job {id} is completed; start a new one"),
        ),
        Status::Cancelled => Error::conflict(
            "job_final",
            format!("backfill job {id} was cancelled; start a new one"),
        ),
        Status::Failed => Error::conflict(
            "not_running",
            format!("backfill job {id} has failed; resume it first"),
        ),
        Status::Paused => Error::conflict(
            "not_running",
            format!("backfill job {id} is paused; resume it first"),
        ),
        Status::Running => Error::conflict("not_paused", format!("backfill job {id} is running")),
    }
}

fn not_found(id: impl std::fmt::Display) -> Error {
    Error::not_found("job_not_found", format!("backfill job {id} not found"))
}

/// Locks a job's row for the transaction.
async fn lock(tx: &Transaction<'_>, id: Uuid) -> Result<Locked> {
    let row = db::query_opt(tx, &queries::LOCK, &[&id])
        .await?
        .ok_or_else(|| not_found(id))?;
    let status: &str = row.try_get("status")?;
    Ok(Locked {
        id,
        job_type: row.try_get("job_type")?,
        blocks: BlockRange {
            start: row.try_get("start_block")?,
            end: row.try_get::<_, i64>("end_block")? + 1,
        },
        status: status.parse()?,
        paused_by: row.try_get("paused_by")?,
        implicit_heard_at: row.try_get("implicit_heard_at")?,
        trusted_below: row.try_get("trusted_below")?,
        begun_with_blocks: row.try_get("begun_with_blocks")?,
    })
}

/// One job, inside a transaction.
async fn get_in_tx(tx: &Transaction<'_>, id: Uuid) -> Result<Job> {
    let row = db::query_opt(tx, &queries::GET, &[&id])
        .await?
        .ok_or_else(|| not_found(id))?;
    Job::from_row(&row)
}

/// Which of a job's claims to close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    Expired,
}

/// Folds and closes claims of a locked job.
async fn close_claims(
    tx: &Transaction<'_>,
    id: Uuid,
    which: Which,
    now: DateTime<Utc>,
) -> Result<()> {
    db::execute(
        tx,
        &queries::CLOSE_CLAIMS,
        &[&id, &now, &(which == Which::All)],
    )
    .await?;
    Ok(())
}

/// Ends a locked job as failed or cancelled, fencing all its workers out.
async fn end_in_tx(
    tx: &Transaction<'_>,
    id: Uuid,
    status: Status,
    error_message: Option<&str>,
    now: DateTime<Utc>,
) -> Result<()> {
    close_claims(tx, id, Which::All, now).await?;
    db::execute(
        tx,
        &queries::END,
        &[&id, &status.as_str(), &now, &error_message],
    )
    .await?;
    Ok(())
}

/// Completes a locked job if its ledger is whole, closing what claims are left (they hold nothing that is missing).
async fn complete_if_whole(tx: &Transaction<'_>, id: Uuid, now: DateTime<Utc>) -> Result<bool> {
    let completed = db::execute(tx, &queries::COMPLETE, &[&id, &now]).await? > 0;
    if completed {
        close_claims(tx, id, Which::All, now).await?;
    }
    Ok(completed)
}

/// Runs a change that makes a job active once more when it was the victim of a deadlock: the exclusion constraint's
/// own waits can deadlock with a writer that did not take the type's lock, psql for one.
async fn retry_deadlock<T, F: Future<Output = Result<T>>>(
    mut change: impl FnMut() -> F,
) -> Result<T> {
    match change().await {
        Err(error)
            if error.sql_state()
                == Some(&tokio_postgres::error::SqlState::T_R_DEADLOCK_DETECTED) =>
        {
            change().await
        }
        result => result,
    }
}

/// Cuts a message to what is kept.
fn shorten(message: &str) -> String {
    const KEPT: usize = 4_000;
    if message.chars().count() <= KEPT {
        return message.to_owned();
    }
    message.chars().take(KEPT - 1).chain(['…']).collect()
}
