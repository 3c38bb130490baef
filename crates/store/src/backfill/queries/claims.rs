//! The SQL of claims: making, renewing, folding and closing them.

use tokio_postgres::types::Type;

use crate::db::Statement;

const HEARD_COLUMNS: &[(&str, Type)] = &[
    ("finished", Type::BOOL),
    ("lease_expires_at", Type::TIMESTAMPTZ),
    ("status", Type::TEXT),
    ("folded_at", Type::TIMESTAMPTZ),
];

/// Locks a job's row unless someone else has it: that one will fold, too.
pub const TRY_LOCK: Statement = Statement {
    name: "backfill.try_lock",
    sql: "select true as locked from backfill_jobs where id = $1 and status in ('running', 'paused') for update skip locked",
    params: &[Type::UUID],
    columns: &[("locked", Type::BOOL)],
};

/// Keeps a job's row from being locked by others for the transaction, as a foreign key does.
pub const SHARE: Statement = Statement {
    name: "backfill.share",
    sql: "select id from backfill_jobs where id = $1 for key share",
    params: &[Type::UUID],
    columns: &[("id", Type::UUID)],
};

/// Folds the finished blocks of all claims into the ledger; the job's row is locked before, in a statement of its own,
/// so that this one sees every claim as it is after a rewind that it waited for.
pub const FOLD: Statement = Statement {
    name: "backfill.fold",
    sql: "update backfill_jobs j
          set covered = j.covered + live.done,
              progressed_at = greatest(j.progressed_at, live.progressed_at),
              heard_at = greatest(j.heard_at, live.heartbeat_at)
          from (select range_agg(done) as done, max(progressed_at) as progressed_at, max(heartbeat_at) as heartbeat_at
                from backfill_claims where job_id = $1) live
          where j.id = $1 and live.done is not null",
    params: &[Type::UUID],
    columns: &[],
};

/// Closes a job's claims, folding what they finished: all of them, or those whose lease is over. The job's row must be
/// locked. A claim that is gone fences its worker out.
pub const CLOSE_CLAIMS: Statement = Statement {
    name: "backfill.close_claims",
    sql: "with gone as (
              delete from backfill_claims where job_id = $1 and ($3 or lease_expires_at <= $2)
              returning done, progressed_at, heartbeat_at)
          update backfill_jobs j
          set covered = j.covered + closed.done,
              progressed_at = greatest(j.progressed_at, closed.progressed_at),
              heard_at = greatest(j.heard_at, closed.heartbeat_at)
          from (select range_agg(done) as done, max(progressed_at) as progressed_at, max(heartbeat_at) as heartbeat_at
                from gone) closed
          where j.id = $1 and closed.done is not null",
    params: &[Type::UUID, Type::TIMESTAMPTZ, Type::BOOL],
    columns: &[],
};

/// Closes one claim of a worker, folding what it finished. The job's row must be locked.
pub const CLOSE_CLAIM: Statement = Statement {
    name: "backfill.close_claim",
    sql: "with gone as (
              delete from backfill_claims where job_id = $1 and id = $2 and epoch = $3
              returning done, progressed_at, heartbeat_at)
          update backfill_jobs j
          set covered = j.covered + gone.done,
              progressed_at = greatest(j.progressed_at, gone.progressed_at),
              heard_at = greatest(j.heard_at, gone.heartbeat_at)
          from gone where j.id = $1",
    params: &[Type::UUID, Type::UUID, Type::INT8],
    columns: &[],
};

/// Closes the claims that reach to a block or above it, folding what they finished below it and above it alike: the
/// rewind that follows takes out the rest. The job's row must be locked.
pub const CLOSE_CLAIMS_FROM: Statement = Statement {
    name: "backfill.close_claims_from",
    sql: "with gone as (
              delete from backfill_claims where job_id = $1 and upper(blocks) > $2
              returning done, progressed_at, heartbeat_at)
          update backfill_jobs j
          set covered = j.covered + closed.done,
              progressed_at = greatest(j.progressed_at, closed.progressed_at),
              heard_at = greatest(j.heard_at, closed.heartbeat_at)
          from (select range_agg(done) as done, max(progressed_at) as progressed_at, max(heartbeat_at) as heartbeat_at
                from gone) closed
          where j.id = $1 and closed.done is not null",
    params: &[Type::UUID, Type::INT8],
    columns: &[],
};

/// The lowest free sub-range of a job, at most `$2` blocks, what holds others back, and how many claims there are.
pub const FREE: Statement = Statement {
    name: "backfill.free",
    sql: "select free.start_block, free.end_block, held.until as held_until, held.claims
          from backfill_jobs j
          cross join lateral (
              select range_agg(c.blocks) as blocks, min(c.lease_expires_at) as until, count(*) as claims
              from backfill_claims c where c.job_id = j.id) held
          left join lateral (
              select lower(r) as start_block, least(upper(r), lower(r) + $2) as end_block
              from unnest(int8multirange(int8range(j.start_block, j.end_block, '[]')) - j.covered
                          - coalesce(held.blocks, '{}')) r
              order by lower(r) limit 1) free on true
          where j.id = $1",
    params: &[Type::UUID, Type::INT8],
    columns: &[
        ("start_block", Type::INT8),
        ("end_block", Type::INT8),
        ("held_until", Type::TIMESTAMPTZ),
        ("claims", Type::INT8),
    ],
};

/// A new claim with the job's next epoch. The job's row must be locked.
pub const INSERT_CLAIM: Statement = Statement {
    name: "backfill.insert_claim",
    sql: "with job as (
              update backfill_jobs set claim_epoch = claim_epoch + 1, heard_at = greatest(heard_at, $6)
              where id = $2 returning attempt, claim_epoch)
          insert into backfill_claims (id, job_id, attempt, epoch, worker, blocks, done, claimed_at, heartbeat_at,
              lease_expires_at)
          select $1, $2, attempt, claim_epoch, $3, int8range($4, $5), '{}', $6, $6, $7 from job
          returning epoch",
    params: &[
        Type::UUID,
        Type::UUID,
        Type::TEXT,
        Type::INT8,
        Type::INT8,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
    ],
    columns: &[("epoch", Type::INT8)],
};

// Times only go forward, whatever the clock of the server says that the worker reached this time.

/// A worker's finished blocks. Changes nothing when the claim is gone, its epoch is another, its lease is over, or the
/// blocks lie outside of it.
pub const RECORD: Statement = Statement {
    name: "backfill.record",
    sql: "update backfill_claims c
          set done = c.done + int8multirange(int8range($4, $5)), progressed_at = greatest(c.progressed_at, $6),
              heartbeat_at = greatest(c.heartbeat_at, $6), lease_expires_at = greatest(c.lease_expires_at, $7)
          where c.id = $2 and c.job_id = $1 and c.epoch = $3 and c.lease_expires_at > $6
            and int8range($4, $5) <@ c.blocks
          returning c.done @> c.blocks as finished, c.lease_expires_at,
                    (select j.status from backfill_jobs j where j.id = c.job_id) as status,
                    (select j.heard_at from backfill_jobs j where j.id = c.job_id) as folded_at",
    params: &[
        Type::UUID,
        Type::UUID,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
    ],
    columns: HEARD_COLUMNS,
};

/// A worker's sign of life, under the same conditions.
pub const HEARTBEAT: Statement = Statement {
    name: "backfill.heartbeat",
    sql: "update backfill_claims c
          set heartbeat_at = greatest(c.heartbeat_at, $4), lease_expires_at = greatest(c.lease_expires_at, $5)
          where c.id = $2 and c.job_id = $1 and c.epoch = $3 and c.lease_expires_at > $4
          returning c.done @> c.blocks as finished, c.lease_expires_at,
                    (select j.status from backfill_jobs j where j.id = c.job_id) as status,
                    (select j.heard_at from backfill_jobs j where j.id = c.job_id) as folded_at",
    params: &[
        Type::UUID,
        Type::UUID,
        Type::INT8,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
    ],
    columns: HEARD_COLUMNS,
};

/// Whether a claim is still its worker's, locked so that it stays so for the transaction.
pub const HOLD_CLAIM: Statement = Statement {
    name: "backfill.hold_claim",
    sql: "select worker, attempt, lower(blocks) as start_block, upper(blocks) as end_block
          from backfill_claims
          where id = $2 and job_id = $1 and epoch = $3 and lease_expires_at > $4 for update",
    params: &[Type::UUID, Type::UUID, Type::INT8, Type::TIMESTAMPTZ],
    columns: &[
        ("worker", Type::TEXT),
        ("attempt", Type::INT4),
        ("start_block", Type::INT8),
        ("end_block", Type::INT8),
    ],
};
