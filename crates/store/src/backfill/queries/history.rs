//! The SQL of what is known of a job beside its row: its ledger, attempts, errors and checkpoints.

use tokio_postgres::types::Type;

use crate::db::Statement;

/// A job's ledger, with the finished blocks of present claims: the finished ranges' bounds.
pub const COVERED: Statement = Statement {
    name: "backfill.covered",
    sql: concat!(
        "select array(select lower(r) from unnest(whole.covered) r order by 1) as starts,
                array(select upper(r) from unnest(whole.covered) r order by 1) as ends
         from backfill_jobs j",
        live!(),
        "cross join lateral (select j.covered + coalesce(live.done, '{}') as covered) whole
         where j.id = $1"
    ),
    params: &[Type::UUID],
    columns: &[("starts", Type::INT8_ARRAY), ("ends", Type::INT8_ARRAY)],
};

/// A job's missing ranges, cut where claims begin and end, with who holds them. One row a range.
pub const GAPS: Statement = Statement {
    name: "backfill.gaps",
    sql: concat!(
        "select lower(r) as start_block, upper(r) as end_block, part.worker, part.lease_expires_at
         from backfill_jobs j",
        live!(),
        "cross join lateral (
             select int8multirange(int8range(j.start_block, j.end_block, '[]')) - j.covered - coalesce(live.done, '{}')
                    as blocks) missing
         cross join lateral (
             select missing.blocks * int8multirange(c.blocks) as blocks, c.worker, c.lease_expires_at
             from backfill_claims c where c.job_id = j.id and c.lease_expires_at > $2
             union all
             select missing.blocks - coalesce((select range_agg(c.blocks) from backfill_claims c
                                               where c.job_id = j.id and c.lease_expires_at > $2), '{}'), null, null) part
         cross join lateral unnest(part.blocks) r
         where j.id = $1
         order by lower(r)"
    ),
    params: &[Type::UUID, Type::TIMESTAMPTZ],
    columns: &[
        ("start_block", Type::INT8),
        ("end_block", Type::INT8),
        ("worker", Type::TEXT),
        ("lease_expires_at", Type::TIMESTAMPTZ),
    ],
};

/// A job's attempts.
pub const ATTEMPTS: Statement = Statement {
    name: "backfill.attempts",
    sql: "select attempt, started_at, covered_blocks, ended_at, outcome, error_message
          from backfill_attempts where job_id = $1 order by attempt",
    params: &[Type::UUID],
    columns: &[
        ("attempt", Type::INT4),
        ("started_at", Type::TIMESTAMPTZ),
        ("covered_blocks", Type::INT8),
        ("ended_at", Type::TIMESTAMPTZ),
        ("outcome", Type::TEXT),
        ("error_message", Type::TEXT),
    ],
};

/// One chunk error; the oldest beyond the limit go.
pub const INSERT_ERROR: Statement = Statement {
    name: "backfill.insert_error",
    sql: "with cut as (
              delete from backfill_errors where job_id = $1 and id <= (
                  select id from backfill_errors where job_id = $1 order by id desc offset $9 - 1 limit 1))
          insert into backfill_errors (job_id, attempt, blocks, worker, try, message, occurred_at)
          values ($1, $2, case when $3 is not null then int8range($3, $4) end, $5, $6, $7, $8)",
    params: &[
        Type::UUID,
        Type::INT4,
        Type::INT8,
        Type::INT8,
        Type::TEXT,
        Type::INT4,
        Type::TEXT,
        Type::TIMESTAMPTZ,
        Type::INT8,
    ],
    columns: &[],
};

/// A job's newest chunk errors.
pub const ERRORS: Statement = Statement {
    name: "backfill.errors",
    sql: "select attempt, lower(blocks) as start_block, upper(blocks) as end_block, worker, try, message, occurred_at
          from backfill_errors where job_id = $1 order by id desc limit 100",
    params: &[Type::UUID],
    columns: &[
        ("attempt", Type::INT4),
        ("start_block", Type::INT8),
        ("end_block", Type::INT8),
        ("worker", Type::TEXT),
        ("try", Type::INT4),
        ("message", Type::TEXT),
        ("occurred_at", Type::TIMESTAMPTZ),
    ],
};

/// A job's highest checkpoints.
pub const CHECKPOINTS: Statement = Statement {
    name: "backfill.checkpoints",
    sql: "select block, block_hash, recorded_at from backfill_checkpoints
          where job_id = $1 order by block desc limit 100",
    params: &[Type::UUID],
    columns: &[
        ("block", Type::INT8),
        ("block_hash", Type::TEXT),
        ("recorded_at", Type::TIMESTAMPTZ),
    ],
};

/// The checkpoint at a block.
pub const CHECKPOINT_AT: Statement = Statement {
    name: "backfill.checkpoint_at",
    sql: "select block, block_hash, recorded_at from backfill_checkpoints where job_id = $1 and block = $2",
    params: &[Type::UUID, Type::INT8],
    columns: &[
        ("block", Type::INT8),
        ("block_hash", Type::TEXT),
        ("recorded_at", Type::TIMESTAMPTZ),
    ],
};

/// The highest checkpoint below a block.
pub const CHECKPOINT_BELOW: Statement = Statement {
    name: "backfill.checkpoint_below",
    sql: "select block, block_hash, recorded_at from backfill_checkpoints
          where job_id = $1 and block < $2 order by block desc limit 1",
    params: &[Type::UUID, Type::INT8],
    columns: &[
        ("block", Type::INT8),
        ("block_hash", Type::TEXT),
        ("recorded_at", Type::TIMESTAMPTZ),
    ],
};

/// A new checkpoint; the lowest beyond the limit go.
pub const INSERT_CHECKPOINT: Statement = Statement {
    name: "backfill.insert_checkpoint",
    sql: "with cut as (
              delete from backfill_checkpoints where job_id = $1 and block <= (
                  select block from backfill_checkpoints where job_id = $1 order by block desc offset $5 - 1 limit 1))
          insert into backfill_checkpoints (job_id, block, block_hash, recorded_at) values ($1, $2, $3, $4)",
    params: &[Type::UUID, Type::INT8, Type::TEXT, Type::TIMESTAMPTZ, Type::INT8],
    columns: &[],
};

/// Takes a block and everything above it out of a job's ledger, with its checkpoints. The job's row must be locked.
pub const REWIND: Statement = Statement {
    name: "backfill.rewind",
    sql: "with gone as (delete from backfill_checkpoints where job_id = $1 and block >= $2)
          update backfill_jobs j
          set covered = j.covered - int8multirange(int8range($2, null)),
              attempt_covered_blocks = least(j.attempt_covered_blocks,
                  backfill_block_count(j.covered - int8multirange(int8range($2, null))))
          where j.id = $1",
    params: &[Type::UUID, Type::INT8],
    columns: &[],
};
