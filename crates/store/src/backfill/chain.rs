//! Chain reorganisations: checkpoints carry block hashes, and another hash at the same height rewinds the job.
//!
//! A checkpoint says "block b had this hash when its range was finished". When a worker finds another hash at b, the
//! chain was replaced from somewhere at or below b, above the highest checkpoint p < b that still holds. Everything
//! above p is taken out of the ledger, and the answer names p, so that the worker can compare that one, too, and so on
//! down to the fork. Claims that reach above p are closed: a worker that still has blocks of the old chain in hand
//! records none of them.

use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use uuid::Uuid;

use super::{
    Backfill, BlockRange, Checkpoint, ClaimKey, Job, claims::outside_claim, get_in_tx, lock,
    queries, read::checkpoint,
};
use crate::{
    db,
    error::{Error, Result},
};

/// What a checkpoint led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckpointOutcome {
    /// It is recorded, or was already.
    Kept,
    /// It contradicts an earlier one: the job was rewound.
    Rewound {
        /// The first block that is missing again.
        from: i64,
        /// The highest checkpoint left, for the worker to compare with its chain; `None` when none is left.
        verify: Option<Checkpoint>,
    },
}

impl Backfill<'_> {
    /// Records the hash of a block of a claim, as its range is finished, or rewinds the job when it had another one.
    /// Fails as `stale_lease`, and as `outside_claim`.
    pub async fn checkpoint(
        &self,
        key: ClaimKey,
        block: i64,
        block_hash: &str,
        now: DateTime<Utc>,
    ) -> Result<CheckpointOutcome> {
        let _noting = self.noting(Some(key.job_id));
        let mut client = self.pool.get().await?;
        let tx = client.transaction().await?;
        let job = lock(&tx, key.job_id).await?;
        if !job.status.is_active() {
            return Err(job.refuse());
        }
        let held = db::query_opt(
            &tx,
            &queries::HOLD_CLAIM,
            &[&key.job_id, &key.claim_id, &key.epoch, &now],
        )
        .await?;
        let Some(held) = held else {
            drop(tx);
            drop(client);
            return Err(self.why_stale(key, None, now).await);
        };
        // One worker's word about blocks of another's could rewind what that one has just done.
        let claimed = held.try_get("start_block")?..held.try_get("end_block")?;
        if !claimed.contains(&block) {
            return Err(outside_claim(BlockRange {
                start: block,
                end: block + 1,
            }));
        }
        let outcome = self
            .compare(&tx, &job.blocks, key.job_id, block, block_hash, now)
            .await?;
        tx.commit().await?;
        Ok(outcome)
    }

    /// Compares the worker's chain with a job's checkpoint without claiming anything: what a worker does before it goes
    /// on with a job. A hash that differs rewinds the job.
    pub async fn verify_checkpoint(
        &self,
        id: Uuid,
        block: i64,
        block_hash: &str,
        now: DateTime<Utc>,
    ) -> Result<CheckpointOutcome> {
        let _noting = self.noting(Some(id));
        let mut client = self.pool.get().await?;
        let tx = client.transaction().await?;
        let job = lock(&tx, id).await?;
        if !job.status.is_active() {
            return Err(job.refuse());
        }
        if db::query_opt(&tx, &queries::CHECKPOINT_AT, &[&id, &block])
            .await?
            .is_none()
        {
            return Err(Error::not_found(
                "no_checkpoint",
                format!("backfill job {id} has no checkpoint at block {block}"),
            ));
        }
        let outcome = self
            .compare(&tx, &job.blocks, id, block, block_hash, now)
            .await?;
        tx.commit().await?;
        Ok(outcome)
    }

    /// Takes a block and everything above it out of an active job's ledger, whatever the checkpoints say: what was done
    /// there has to be done again.
    pub async fn rewind(&self, id: Uuid, from: i64) -> Result<Job> {
        let _noting = self.noting(Some(id));
        let mut client = self.pool.get().await?;
        let tx = client.transaction().await?;
        let job = lock(&tx, id).await?;
        if !job.status.is_active() {
            return Err(job.refuse());
        }
        if from < job.blocks.start || from > job.blocks.last() {
            return Err(outside_job(from, &job.blocks));
        }
        rewind_in_tx(&tx, id, from).await?;
        let job = get_in_tx(&tx, id).await?;
        tx.commit().await?;
        Ok(job)
    }

    async fn compare(
        &self,
        tx: &Transaction<'_>,
        blocks: &BlockRange,
        id: Uuid,
        block: i64,
        block_hash: &str,
        now: DateTime<Utc>,
    ) -> Result<CheckpointOutcome> {
        if block < blocks.start || block > blocks.last() {
            return Err(outside_job(block, blocks));
        }
        match db::query_opt(tx, &queries::CHECKPOINT_AT, &[&id, &block]).await? {
            None => {
                let params: db::Params<'_> = &[
                    &id,
                    &block,
                    &block_hash,
                    &now,
                    &self.settings.max_checkpoints_per_job,
                ];
                db::execute(tx, &queries::INSERT_CHECKPOINT, params).await?;
                Ok(CheckpointOutcome::Kept)
            }
            Some(row) if row.try_get::<_, &str>("block_hash")? == block_hash => {
                Ok(CheckpointOutcome::Kept)
            }
            Some(_) => {
                let below = db::query_opt(tx, &queries::CHECKPOINT_BELOW, &[&id, &block]).await?;
                let verify = below.as_ref().map(checkpoint).transpose()?;
                let from = verify
                    .as_ref()
                    .map_or(blocks.start, |checkpoint| checkpoint.block + 1);
                rewind_in_tx(tx, id, from).await?;
                tracing::warn!(job = %id, block, from, "the chain was reorganised: the job was rewound");
                Ok(CheckpointOutcome::Rewound { from, verify })
            }
        }
    }
}

/// The job's row must be locked.
async fn rewind_in_tx(tx: &Transaction<'_>, id: Uuid, from: i64) -> Result<()> {
    db::execute(tx, &queries::CLOSE_CLAIMS_FROM, &[&id, &from]).await?;
    db::execute(tx, &queries::REWIND, &[&id, &from]).await?;
    Ok(())
}

fn outside_job(block: i64, blocks: &BlockRange) -> Error {
    Error::invalid(
        "block_outside_job",
        format!("block {block} lies outside of the job's blocks {blocks}"),
    )
}
