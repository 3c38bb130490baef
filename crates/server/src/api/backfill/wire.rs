//! The shapes of backfill calls. Block bounds are inclusive here, half-open in the library.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utxoiq_store::{
    backfill::{self, BlockRange, CheckpointOutcome, Claimed, Details, Heard, Status},
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

/// The job in a path.
#[derive(Debug, IntoParams)]
#[allow(dead_code)] // only its documentation is used
pub struct JobPath {
    /// The job's id, with or without dashes.
    job_id: Uuid,
}

/// The reporter script's id in a path.
#[derive(Debug, IntoParams)]
#[allow(dead_code)]
pub struct ReporterPath {
    /// The id the script chose, percent-encoded.
    #[param(min_length = 1, max_length = 255)]
    job_id: String,
}

/// A claim in a path.
#[derive(Debug, IntoParams)]
#[allow(dead_code)]
pub struct ClaimPath {
    /// The job's id.
    job_id: Uuid,
    /// The claim's id.
    claim_id: Uuid,
}

/// The job in a query.
#[derive(Debug, IntoParams)]
#[allow(dead_code)]
pub struct JobQuery {
    /// The job's id, with or without dashes.
    job_id: Uuid,
}

/// Which jobs to list.
#[derive(Debug, IntoParams)]
#[allow(dead_code)]
pub struct ListQuery {
    /// Only jobs of this status; `failed` includes cancelled ones.
    #[param(inline)]
    status: Option<ShownStatus>,
    /// Only jobs of this type.
    #[param(min_length = 1, max_length = 50)]
    job_type: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 100, default = 10)]
    limit: Option<i64>,
    /// How many to skip.
    #[param(minimum = 0, default = 0)]
    offset: Option<i64>,
}

/// A status as the contract has it.
#[derive(Debug, ToSchema)]
#[schema(as = BackfillStatus, rename_all = "lowercase")]
#[allow(dead_code)]
pub enum ShownStatus {
    /// Being worked on.
    Running,
    /// Every block is finished.
    Completed,
    /// Ended with an error.
    Failed,
    /// Held.
    Paused,
}

/// A job to start.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StartBackfill)]
pub struct Start {
    /// What kind of work it is.
    #[schema(min_length = 1, max_length = 50)]
    pub job_type: String,
    /// The first block.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_990_i64)]
    pub start_block: i64,
    /// The last block, included.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_990_i64)]
    pub end_block: i64,
    /// Who starts it.
    #[schema(min_length = 1, max_length = 100)]
    pub created_by: Option<String>,
}

/// A job to go on with, or to start.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OpenBackfill)]
pub struct Open {
    /// The job.
    #[serde(flatten)]
    pub start: Start,
    /// Start a new job where the newest of this type and range is completed or cancelled.
    pub again: Option<bool>,
}

/// The answer to opening a job.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = OpenedBackfill)]
pub struct Opened {
    /// The job.
    pub job: JobState,
    /// Whether this call started it.
    pub is_new: bool,
}

/// Progress of a worker that knows no lease.
#[derive(Debug, ToSchema)]
#[schema(as = BackfillProgress)]
#[allow(dead_code, clippy::struct_field_names)] // only its documentation is used; the names are the contract's
pub struct Progress {
    /// The block it is at: everything below is finished.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_990_i64)]
    current_block: i64,
    /// Checked and not stored: the server computes it from what is finished.
    #[schema(minimum = 0.0, maximum = 100.0)]
    progress_percentage: f64,
    /// Checked and not stored, likewise.
    estimated_completion: Option<DateTime<Utc>>,
    /// The status it wants.
    #[schema(inline)]
    status: Option<ShownStatus>,
    /// Its error.
    error_message: Option<String>,
}

/// The reporter script's start.
#[derive(Debug, ToSchema)]
#[schema(as = ReporterStart)]
#[allow(dead_code)]
pub struct ReporterStart {
    /// The id it chose.
    #[schema(min_length = 1, max_length = 255)]
    job_id: String,
    /// The first block.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_990_i64)]
    start_block: i64,
    /// The last block, included.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_990_i64)]
    end_block: i64,
    /// The block it is at.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_990_i64)]
    current_block: Option<i64>,
    /// How many errors it met.
    #[schema(minimum = 0)]
    error_count: Option<i64>,
    /// Checked and not stored: a started job is running.
    #[schema(inline)]
    status: Option<ShownStatus>,
    /// How many blocks it finished, by its own count: checked and not stored.
    #[schema(minimum = 0)]
    blocks_processed: Option<i64>,
    /// How many blocks are left, by its own count: checked and not stored.
    #[schema(minimum = 0)]
    blocks_remaining: Option<i64>,
    /// Its own percentage: checked and not stored, the server computes it from what is finished.
    #[schema(minimum = 0.0, maximum = 100.0)]
    progress_percent: Option<f64>,
    /// Its own rate: checked and not stored.
    #[schema(minimum = 0.0)]
    rate_blocks_per_sec: Option<f64>,
    /// Its own estimate: checked and not stored.
    estimated_completion: Option<DateTime<Utc>>,
    /// Its own clock: checked and not stored.
    updated_at: Option<DateTime<Utc>>,
    /// Its own clock, at its start: checked and not stored.
    started_at: Option<DateTime<Utc>>,
}

/// The reporter script's progress and its end.
#[derive(Debug, ToSchema)]
#[schema(as = ReporterProgress)]
#[allow(dead_code)]
pub struct ReporterProgress {
    /// `running`, `completed`, `failed` or `paused`.
    #[schema(inline)]
    status: Option<ShownStatus>,
    /// The block it is at: everything below is finished.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_990_i64)]
    current_block: Option<i64>,
    /// How many blocks it finished since it was started.
    #[schema(minimum = 0)]
    blocks_processed: Option<i64>,
    /// How many errors it met; above 0 the blocks below its block have holes, and are not taken as finished.
    #[schema(minimum = 0)]
    error_count: Option<i64>,
    /// Its error.
    error_message: Option<String>,
    /// How many blocks are left, by its own count: checked and not stored.
    #[schema(minimum = 0)]
    blocks_remaining: Option<i64>,
    /// Its own percentage: checked and not stored, the server computes it from what is finished.
    #[schema(minimum = 0.0, maximum = 100.0)]
    progress_percent: Option<f64>,
    /// Its own rate: checked and not stored.
    #[schema(minimum = 0.0)]
    rate_blocks_per_sec: Option<f64>,
    /// Its own estimate: checked and not stored.
    estimated_completion: Option<DateTime<Utc>>,
    /// Its own clock: checked and not stored.
    updated_at: Option<DateTime<Utc>>,
}

/// A request for work.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ClaimBackfill)]
pub struct ClaimRequest {
    /// The worker's name, as others see it.
    #[schema(min_length = 1, max_length = 200)]
    pub worker: String,
    /// How many blocks at most.
    #[schema(minimum = 1)]
    pub max_blocks: i64,
}

/// A claimed sub-range.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = BackfillClaim)]
pub struct Claim {
    /// Its id.
    pub claim_id: Uuid,
    /// To be sent with every write; a write with an older one changes nothing.
    pub epoch: i64,
    /// The first block.
    pub start_block: i64,
    /// The last block, included.
    pub end_block: i64,
    /// When the lease ends unless the worker is heard of before.
    pub lease_expires_at: DateTime<Utc>,
}

/// The answer to a request for work.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = ClaimedBackfill)]
pub struct ClaimAnswer {
    /// The job.
    pub job: JobState,
    /// A free sub-range; null where there is none now.
    pub claim: Option<Claim>,
    /// In how many seconds one may become free: when the first lease held by others ends.
    pub retry_after_seconds: Option<f64>,
    /// How long a lease lasts without a heartbeat.
    pub lease_seconds: f64,
}

impl From<&Claimed> for ClaimAnswer {
    fn from(claimed: &Claimed) -> Self {
        Self {
            job: (&claimed.job).into(),
            claim: claimed.claim.as_ref().map(|claim| Claim {
                claim_id: claim.id,
                epoch: claim.epoch,
                start_block: claim.blocks.start,
                end_block: claim.blocks.last(),
                lease_expires_at: claim.lease_expires_at,
            }),
            retry_after_seconds: claimed.retry_after.map(|wait| wait.as_secs_f64()),
            lease_seconds: claimed.lease.as_secs_f64(),
        }
    }
}

impl TryFrom<ClaimAnswer> for Claimed {
    type Error = Error;

    fn try_from(answer: ClaimAnswer) -> Result<Self> {
        let duration = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let job_id = answer.job.job.id;
        let claim = answer.claim.map(|claim| {
            Ok::<_, Error>(backfill::Claim {
                id: claim.claim_id,
                job_id,
                epoch: claim.epoch,
                blocks: BlockRange::inclusive(claim.start_block, claim.end_block)?,
                lease_expires_at: claim.lease_expires_at,
            })
        });
        Ok(Self {
            job: answer.job.try_into()?,
            claim: claim.transpose()?,
            retry_after: answer.retry_after_seconds.map(duration),
            lease: duration(answer.lease_seconds),
        })
    }
}

/// The holder of a claim.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BackfillEpoch)]
pub struct Epoch {
    /// The epoch that came with the claim.
    pub epoch: i64,
}

/// Finished blocks.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecordBackfill)]
pub struct Record {
    /// The epoch that came with the claim.
    pub epoch: i64,
    /// The first finished block.
    pub start_block: i64,
    /// The last finished block, included.
    pub end_block: i64,
}

/// The error of a chunk.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecordBackfillError)]
pub struct RecordError {
    /// The epoch that came with the claim.
    pub epoch: i64,
    /// The first block of the chunk.
    pub start_block: i64,
    /// The last block of the chunk, included.
    pub end_block: i64,
    /// Which try it was, from 1.
    #[schema(minimum = 1)]
    pub attempted: i32,
    /// What went wrong; the first 4,000 characters are kept.
    pub message: String,
}

/// What a worker is told after each write.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = BackfillHeard)]
pub struct HeardAnswer {
    /// The job's status; a worker takes no new work unless it is `running`.
    pub state: String,
    /// When the lease ends unless the worker is heard of before.
    pub lease_expires_at: DateTime<Utc>,
    /// Whether all of the claim's blocks are finished; such a claim is closed.
    pub finished: bool,
}

impl From<&Heard> for HeardAnswer {
    fn from(heard: &Heard) -> Self {
        Self {
            state: heard.status.to_string(),
            lease_expires_at: heard.lease_expires_at,
            finished: heard.finished,
        }
    }
}

impl TryFrom<HeardAnswer> for Heard {
    type Error = Error;

    fn try_from(answer: HeardAnswer) -> Result<Self> {
        let status: Status = answer.state.parse()?;
        Ok(Self {
            status,
            lease_expires_at: answer.lease_expires_at,
            finished: answer.finished,
        })
    }
}

/// A block's hash, from the holder of a claim.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BackfillCheckpointRequest)]
pub struct CheckpointRequest {
    /// The epoch that came with the claim.
    pub epoch: i64,
    /// The block's height.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_990_i64)]
    pub block: i64,
    /// Its hash.
    #[schema(min_length = 1, max_length = 128)]
    pub block_hash: String,
}

/// A block's hash to compare with a checkpoint.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VerifyBackfillCheckpoint)]
pub struct VerifyRequest {
    /// The block's height.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_990_i64)]
    pub block: i64,
    /// Its hash.
    #[schema(min_length = 1, max_length = 128)]
    pub block_hash: String,
}

/// A recorded block hash.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = BackfillCheckpoint)]
pub struct Checkpoint {
    /// The block's height.
    pub block: i64,
    /// Its hash.
    pub block_hash: String,
    /// When it was recorded.
    pub recorded_at: DateTime<Utc>,
}

impl From<&backfill::Checkpoint> for Checkpoint {
    fn from(checkpoint: &backfill::Checkpoint) -> Self {
        Self {
            block: checkpoint.block,
            block_hash: checkpoint.block_hash.clone(),
            recorded_at: checkpoint.recorded_at,
        }
    }
}

/// What a checkpoint led to.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = BackfillCheckpointAnswer)]
pub struct CheckpointAnswer {
    /// The first block that is missing again, where the hash contradicted an earlier one; else null.
    pub rewound_from: Option<i64>,
    /// After a rewind: the highest checkpoint left, to be compared with the worker's chain next.
    pub verify: Option<Checkpoint>,
}

impl From<&CheckpointOutcome> for CheckpointAnswer {
    fn from(outcome: &CheckpointOutcome) -> Self {
        match outcome {
            CheckpointOutcome::Kept => Self {
                rewound_from: None,
                verify: None,
            },
            CheckpointOutcome::Rewound { from, verify } => Self {
                rewound_from: Some(*from),
                verify: verify.as_ref().map(Into::into),
            },
        }
    }
}

impl From<CheckpointAnswer> for CheckpointOutcome {
    fn from(answer: CheckpointAnswer) -> Self {
        match answer.rewound_from {
            None => Self::Kept,
            Some(from) => Self::Rewound {
                from,
                verify: answer.verify.map(|checkpoint| backfill::Checkpoint {
                    block: checkpoint.block,
                    block_hash: checkpoint.block_hash,
                    recorded_at: checkpoint.recorded_at,
                }),
            },
        }
    }
}

/// Why a job is ended.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FailBackfill)]
pub struct Fail {
    /// The error to keep; the first 4,000 characters are.
    #[schema(min_length = 1)]
    pub error_message: String,
}

/// From where on a job is to be done again.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RewindBackfill)]
pub struct Rewind {
    /// The first block to do again.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_990_i64)]
    pub from_block: i64,
}

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
