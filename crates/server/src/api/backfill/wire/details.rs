//! What is missing of a job, and its history.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utxoiq_store::backfill::{self, BlockRange, Details};

use super::{Checkpoint, JobState};

/// A missing range.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = BackfillGap)]
pub struct Gap {
    /// The first missing block.
    pub start_block: i64,
    /// The last missing block, included.
    pub end_block: i64,
    /// The worker that has claimed it; null where it is free.
    pub claimed_by: Option<String>,
    /// When that worker's lease ends unless it is heard of before.
    pub lease_expires_at: Option<DateTime<Utc>>,
}

impl From<&backfill::Gap> for Gap {
    fn from(gap: &backfill::Gap) -> Self {
        Self {
            start_block: gap.blocks.start,
            end_block: gap.blocks.last(),
            claimed_by: gap.claimed_by.clone(),
            lease_expires_at: gap.lease_expires_at,
        }
    }
}

/// What is missing of a job.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = BackfillGaps)]
pub struct Gaps {
    /// The missing ranges, lowest first, cut where claims begin and end.
    pub missing: Vec<Gap>,
}

/// A job and exactly what is missing of it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = ResumedBackfill)]
pub struct Resumed {
    /// The job.
    pub job: JobState,
    /// The missing ranges, lowest first, cut where claims begin and end.
    pub missing: Vec<Gap>,
}

/// A range of finished blocks.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[schema(as = BlockRange)]
pub struct Range {
    /// The first block.
    pub start_block: i64,
    /// The last block, included.
    pub end_block: i64,
}

impl From<&BlockRange> for Range {
    fn from(blocks: &BlockRange) -> Self {
        Self {
            start_block: blocks.start,
            end_block: blocks.last(),
        }
    }
}

/// One attempt of a job.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = BackfillAttempt)]
pub struct Attempt {
    /// Its number, from 1.
    pub attempt: i32,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// Finished blocks when it began.
    pub covered_blocks: i64,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// `completed`, `failed` or `cancelled`; null while it goes on.
    pub outcome: Option<String>,
    /// The error it ended with.
    pub error_message: Option<String>,
}

/// The error of one chunk.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = BackfillChunkError)]
pub struct ChunkError {
    /// The attempt it happened in.
    pub attempt: i32,
    /// The chunk.
    pub blocks: Option<Range>,
    /// The worker.
    pub worker: String,
    /// Which try of the chunk it was, from 1.
    pub attempted: i32,
    /// What went wrong.
    pub message: String,
    /// When.
    pub occurred_at: DateTime<Utc>,
}

/// A job with its ledger and its history.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = BackfillDetails)]
pub struct DetailsAnswer {
    /// The job.
    pub job: JobState,
    /// The finished ranges, lowest first.
    pub covered: Vec<Range>,
    /// The missing ranges, lowest first, cut where claims begin and end.
    pub missing: Vec<Gap>,
    /// All attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// The newest 100 chunk errors, newest first.
    pub errors: Vec<ChunkError>,
    /// The 100 highest checkpoints, highest first.
    pub checkpoints: Vec<Checkpoint>,
}

impl From<&Details> for DetailsAnswer {
    fn from(details: &Details) -> Self {
        Self {
            job: (&details.job).into(),
            covered: details.covered.iter().map(Into::into).collect(),
            missing: details.missing.iter().map(Into::into).collect(),
            attempts: details.attempts.iter().map(Into::into).collect(),
            errors: details.errors.iter().map(Into::into).collect(),
            checkpoints: details.checkpoints.iter().map(Into::into).collect(),
        }
    }
}

impl From<&backfill::Attempt> for Attempt {
    fn from(attempt: &backfill::Attempt) -> Self {
        Self {
            attempt: attempt.attempt,
            started_at: attempt.started_at,
            covered_blocks: attempt.covered_blocks,
            ended_at: attempt.ended_at,
            outcome: attempt.outcome.clone(),
            error_message: attempt.error_message.clone(),
        }
    }
}

impl From<&backfill::ChunkError> for ChunkError {
    fn from(error: &backfill::ChunkError) -> Self {
        Self {
            attempt: error.attempt,
            blocks: error.blocks.as_ref().map(Into::into),
            worker: error.worker.clone(),
            attempted: error.attempted,
            message: error.message.clone(),
            occurred_at: error.occurred_at,
        }
    }
}
