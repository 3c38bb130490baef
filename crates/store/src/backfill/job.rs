//! What callers give and get.

use std::{fmt, str::FromStr, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use uuid::Uuid;

use super::BlockRange;
use crate::error::{Error, Result};

/// Where a job stands. `Completed` and `Cancelled` are final; a failed job can be resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Status {
    /// Being worked on, or waiting for a worker.
    Running,
    /// Held by an operator or by its worker; what is finished stays finished.
    Paused,
    /// Every block of its range is in the ledger.
    Completed,
    /// Ended with an error.
    Failed,
    /// Given up by an operator.
    Cancelled,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 5] = [
        Self::Running,
        Self::Paused,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Its name in the database and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Its name for the clients that know four statuses: cancelled shows as failed.
    pub fn shown(self) -> &'static str {
        match self {
            Self::Cancelled => Self::Failed.as_str(),
            other => other.as_str(),
        }
    }

    /// Whether nothing can change it any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled)
    }

    /// Whether work on the job may be recorded.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Status {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| {
                Error::field(
                    "status",
                    "must be running, paused, completed, failed or cancelled",
                )
            })
    }
}

/// A job as it stands, the finished blocks of present claims included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: Uuid,
    /// What kind of work it is; active jobs of one type never overlap.
    pub job_type: String,
    /// The blocks it is to cover.
    pub blocks: BlockRange,
    /// Where it stands.
    pub status: Status,
    /// How many blocks are finished.
    pub covered_blocks: i64,
    /// The lowest block that is missing; the last block where none is.
    pub current_block: i64,
    /// The share of finished blocks, 0 to 100, rounded down to two places.
    pub progress_percentage: f64,
    /// When it will be done at the rate of its present attempt; only for a running job with finished blocks.
    pub estimated_completion: Option<DateTime<Utc>>,
    /// The error a failed job ended with.
    pub error_message: Option<String>,
    /// When it was started first.
    pub started_at: DateTime<Utc>,
    /// When it was completed.
    pub completed_at: Option<DateTime<Utc>>,
    /// When it was completed, failed or cancelled.
    pub ended_at: Option<DateTime<Utc>>,
    /// Who started it.
    pub created_by: Option<String>,
    /// The attempt it is in, from 1.
    pub attempt: i32,
    /// The id that the reporter script chose for it.
    pub external_id: Option<String>,
    /// Who paused it: `operator` or `worker`.
    pub paused_by: Option<String>,
    /// The last sign of life of any worker.
    pub heard_at: DateTime<Utc>,
}

impl Job {
    pub(super) fn from_row(row: &Row) -> Result<Self> {
        let status: &str = row.try_get("status")?;
        Ok(Self {
            id: row.try_get("id")?,
            job_type: row.try_get("job_type")?,
            blocks: BlockRange {
                start: row.try_get("start_block")?,
                end: row.try_get::<_, i64>("end_block")? + 1,
            },
            status: status
                .parse()
                .map_err(|_| Error::internal(format!("a job has the unknown status {status}")))?,
            covered_blocks: row.try_get("covered_blocks")?,
            current_block: row.try_get("current_block")?,
            progress_percentage: row.try_get("progress_percentage")?,
            estimated_completion: row.try_get("estimated_completion")?,
            error_message: row.try_get("error_message")?,
            started_at: row.try_get("started_at")?,
            completed_at: row.try_get("completed_at")?,
            ended_at: row.try_get("ended_at")?,
            created_by: row.try_get("created_by")?,
            attempt: row.try_get("attempt")?,
            external_id: row.try_get("external_id")?,
            paused_by: row.try_get("paused_by")?,
            heard_at: row.try_get("heard_at")?,
        })
    }
}

/// A job to start.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// What kind of work it is, 1 to 50 characters.
    pub job_type: String,
    /// The blocks to cover.
    pub blocks: BlockRange,
    /// Who starts it, at most 100 characters.
    pub created_by: Option<String>,
}

/// Which jobs to list, newest start first.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// Only jobs of this status as clients see it: `failed` includes cancelled ones.
    pub status: Option<Status>,
    /// Only jobs of this type.
    pub job_type: Option<String>,
    /// How many at most.
    pub limit: i64,
    /// How many to skip.
    pub offset: i64,
}

/// A missing range, and who is at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The missing blocks.
    pub blocks: BlockRange,
    /// The worker that has claimed them; `None` where they are free.
    pub claimed_by: Option<String>,
    /// When that worker's lease ends unless it is heard of.
    pub lease_expires_at: Option<DateTime<Utc>>,
}

/// One attempt of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its number, from 1.
    pub attempt: i32,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// Finished blocks when it began.
    pub covered_blocks: i64,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// How it ended: `completed`, `failed` or `cancelled`.
    pub outcome: Option<String>,
    /// The error it ended with.
    pub error_message: Option<String>,
}

/// The error of one chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkError {
    /// The attempt it happened in.
    pub attempt: i32,
    /// The blocks; `None` where the worker did not say.
    pub blocks: Option<BlockRange>,
    /// The worker.
    pub worker: String,
    /// Which try of the chunk it was, from 1.
    pub attempted: i32,
    /// What went wrong.
    pub message: String,
    /// When.
    pub occurred_at: DateTime<Utc>,
}

/// The hash of a finished block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The block's height.
    pub block: i64,
    /// Its hash.
    pub block_hash: String,
    /// When it was recorded.
    pub recorded_at: DateTime<Utc>,
}

/// A job with all that is known of it.
#[derive(Debug, Clone)]
pub struct Details {
    /// The job.
    pub job: Job,
    /// The finished ranges, lowest first.
    pub covered: Vec<BlockRange>,
    /// The missing ranges, lowest first, cut where claims begin and end.
    pub missing: Vec<Gap>,
    /// All attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// The newest chunk errors, newest first.
    pub errors: Vec<ChunkError>,
    /// The highest checkpoints, highest first.
    pub checkpoints: Vec<Checkpoint>,
}

/// A claimed sub-range. The epoch fences: a write that names an older one changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its id.
    pub id: Uuid,
    /// The job.
    pub job_id: Uuid,
    /// Its epoch, to be sent with every write.
    pub epoch: i64,
    /// The claimed blocks.
    pub blocks: BlockRange,
    /// When the lease ends unless the worker is heard of before.
    pub lease_expires_at: DateTime<Utc>,
}

/// What a worker sends with every write: which claim, and its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimKey {
    /// The job.
    pub job_id: Uuid,
    /// The claim.
    pub claim_id: Uuid,
    /// The epoch that came with the claim.
    pub epoch: i64,
}

impl Claim {
    /// What to send with every write.
    pub fn key(&self) -> ClaimKey {
        ClaimKey {
            job_id: self.job_id,
            claim_id: self.id,
            epoch: self.epoch,
        }
    }
}

/// The answer to a request for work.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The job as it stands.
    pub job: Job,
    /// A free sub-range; `None` where there is none now.
    pub claim: Option<Claim>,
    /// How long until asking again may give one: until the first lease now held ends. `None` where no lease holds
    /// anything back.
    pub retry_after: Option<Duration>,
    /// How long a lease lasts without a heartbeat.
    pub lease: Duration,
}

/// The answer to every write of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The job's status now: a worker stops taking new work unless it is `Running`.
    pub status: Status,
    /// When the lease ends unless the worker is heard of before.
    pub lease_expires_at: DateTime<Utc>,
    /// Whether the claim's blocks are all finished; such a claim is closed.
    pub finished: bool,
}
