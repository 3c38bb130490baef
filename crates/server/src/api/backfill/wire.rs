//! The shapes of backfill calls. Block bounds are inclusive here, half-open in the library.

mod details;
mod requests;
mod worker;

pub use details::*;
pub use requests::*;
pub use worker::*;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utxoiq_store::{
    backfill::{self, BlockRange},
    error::{Error, Result},
};
use uuid::Uuid;

/// A backfill job, as the contract's clients know it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = BackfillJob)]
pub struct Job {
    /// Its id.
    pub id: Uuid,
    /// What kind of work it is.
    pub job_type: String,
    /// The first block.
    pub start_block: i64,
    /// The last block, included.
    pub end_block: i64,
    /// The lowest block that is missing; the last block where none is.
    pub current_block: i64,
    /// `running`, `paused`, `completed` or `failed`; a cancelled job shows as `failed`.
    pub status: String,
    /// The share of finished blocks, 0 to 100, rounded down to two places.
    pub progress_percentage: f64,
    /// When it will be done at the rate of its present attempt.
    pub estimated_completion: Option<DateTime<Utc>>,
    /// The error a failed job ended with.
    pub error_message: Option<String>,
    /// When it was started first.
    pub started_at: DateTime<Utc>,
    /// When it was completed.
    pub completed_at: Option<DateTime<Utc>>,
    /// Who started it.
    pub created_by: Option<String>,
}

impl From<&backfill::Job> for Job {
    fn from(job: &backfill::Job) -> Self {
        Self {
            id: job.id,
            job_type: job.job_type.clone(),
            start_block: job.blocks.start,
            end_block: job.blocks.last(),
            current_block: job.current_block,
            status: job.status.shown().to_owned(),
            progress_percentage: job.progress_percentage,
            estimated_completion: job.estimated_completion,
            error_message: job.error_message.clone(),
            started_at: job.started_at,
            completed_at: job.completed_at,
            created_by: job.created_by.clone(),
        }
    }
}

/// A backfill job with what the contract's clients do not know.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = BackfillJobState)]
pub struct JobState {
    /// What all clients see.
    #[serde(flatten)]
    pub job: Job,
    /// `running`, `paused`, `completed`, `failed` or `cancelled`.
    pub state: String,
    /// The attempt it is in, from 1.
    pub attempt: i32,
    /// How many blocks are finished.
    pub covered_blocks: i64,
    /// How many blocks it has.
    pub total_blocks: i64,
    /// The id that the reporter script chose for it.
    pub external_id: Option<String>,
    /// Who paused it: `operator` or `worker`.
    pub paused_by: Option<String>,
    /// The last sign of life of any worker.
    pub heard_at: DateTime<Utc>,
    /// When it was completed, failed or cancelled.
    pub ended_at: Option<DateTime<Utc>>,
}

impl From<&backfill::Job> for JobState {
    fn from(job: &backfill::Job) -> Self {
        Self {
            job: job.into(),
            state: job.status.to_string(),
            attempt: job.attempt,
            covered_blocks: job.covered_blocks,
            total_blocks: job.blocks.count(),
            external_id: job.external_id.clone(),
            paused_by: job.paused_by.clone(),
            heard_at: job.heard_at,
            ended_at: job.ended_at,
        }
    }
}

impl TryFrom<JobState> for backfill::Job {
    type Error = Error;

    fn try_from(state: JobState) -> Result<Self> {
        let job = state.job;
        Ok(Self {
            id: job.id,
            job_type: job.job_type,
            blocks: BlockRange::inclusive(job.start_block, job.end_block)?,
            status: state.state.parse()?,
            covered_blocks: state.covered_blocks,
            current_block: job.current_block,
            progress_percentage: job.progress_percentage,
            estimated_completion: job.estimated_completion,
            error_message: job.error_message,
            started_at: job.started_at,
            completed_at: job.completed_at,
            ended_at: state.ended_at,
            created_by: job.created_by,
            attempt: state.attempt,
            external_id: state.external_id,
            paused_by: state.paused_by,
            heard_at: state.heard_at,
        })
    }
}
