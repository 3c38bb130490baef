//! What workers with a lease send and are told.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utxoiq_store::{
    backfill::{self, BlockRange, CheckpointOutcome, Claimed, Heard, Status},
    error::{Error, Result},
};
use uuid::Uuid;

use super::JobState;

/// A claim in a path.
#[derive(Debug, IntoParams)]
#[allow(dead_code)]
pub struct ClaimPath {
    /// The job's id.
    job_id: Uuid,
    /// The claim's id.
    claim_id: Uuid,
}

/// A request for work.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ClaimBackfill)]
pub struct ClaimRequest {
    /// The worker's name, as others see it.
    #[schema(min_length = 1, max_length = 200)]
    pub worker: String,
    /// How many blocks at most.
    #[schema(minimum = 1, maximum = 9_223_372_036_854_775_807_i64)]
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
    #[schema(minimum = 0, maximum = 9_223_372_036_854_775_807_i64)]
    pub epoch: i64,
}

/// Finished blocks.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecordBackfill)]
pub struct Record {
    /// The epoch that came with the claim.
    #[schema(minimum = 0, maximum = 9_223_372_036_854_775_807_i64)]
    pub epoch: i64,
    /// The first finished block.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_990_i64)]
    pub start_block: i64,
    /// The last finished block, included.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_990_i64)]
    pub end_block: i64,
}

/// The error of a chunk.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecordBackfillError)]
pub struct RecordError {
    /// The epoch that came with the claim.
    #[schema(minimum = 0, maximum = 9_223_372_036_854_775_807_i64)]
    pub epoch: i64,
    /// The first block of the chunk.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_990_i64)]
    pub start_block: i64,
    /// The last block of the chunk, included.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_990_i64)]
    pub end_block: i64,
    /// Which try it was, from 1.
    #[schema(minimum = 1, maximum = 2_147_483_647)]
    pub attempted: i32,
    /// What went wrong; the first 4,000 characters are kept.
    #[schema(max_length = 100_000)]
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
    #[schema(minimum = 0, maximum = 9_223_372_036_854_775_807_i64)]
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
