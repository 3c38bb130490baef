//! The SQL of backfill jobs. `j` is always a job's row, `live` its ledger with the finished blocks of present claims.

use tokio_postgres::types::Type;

use crate::db::Statement;

/// A job's columns. Where no claim is open they are what is stored; else they follow from the merged ledger.
macro_rules! job_columns {
    () => {
        "j.id, j.job_type, j.start_block, j.end_block, j.status,
         case when live.done is null then j.covered_blocks
              else backfill_block_count(j.covered + live.done) end as covered_blocks,
         case when live.done is null then j.current_block
              else backfill_current_block(j.covered + live.done, j.start_block, j.end_block) end as current_block,
         case when live.done is null then j.progress_percentage
              else backfill_percentage(j.covered + live.done, j.start_block, j.end_block) end as progress_percentage,
         case when live.done is null then j.estimated_completion
              when j.status = 'running' then backfill_estimated_completion(
                  j.covered + live.done, j.start_block, j.end_block, j.attempt_covered_blocks, j.attempt_started_at,
                  greatest(j.progressed_at, live.progressed_at)) end as estimated_completion,
         j.error_message, j.started_at, j.completed_at, j.ended_at, j.created_by, j.attempt, j.external_id,
         j.paused_by, greatest(j.heard_at, live.heartbeat_at) as heard_at"
    };
}

/// What of a job's ledger is not yet folded into its row.
macro_rules! live {
    () => {
        " cross join lateral (
             select range_agg(c.done) as done, max(c.progressed_at) as progressed_at, max(c.heartbeat_at) as heartbeat_at
             from backfill_claims c where c.job_id = j.id) live "
    };
}

/// A page of jobs: the rows are picked first, so that only theirs are merged with claims, and not those skipped over.
macro_rules! select_page {
    ($where:literal, $order:literal) => {
        concat!(
            "select ",
            job_columns!(),
            " from (select * from backfill_jobs j ",
            $where,
            " order by ",
            $order,
            "j.started_at desc, j.id desc limit $1 offset $2) j",
            live!(),
            "order by j.started_at desc, j.id desc"
        )
    };
}

macro_rules! select_jobs {
    ($($rest:literal)+) => { concat!("select ", job_columns!(), " from backfill_jobs j", live!(), $($rest),+) };
}

mod claims;
mod history;

pub use claims::*;
pub use history::*;

const JOB_COLUMNS: &[(&str, Type)] = &[
    ("id", Type::UUID),
    ("job_type", Type::TEXT),
    ("start_block", Type::INT8),
    ("end_block", Type::INT8),
    ("status", Type::TEXT),
    ("covered_blocks", Type::INT8),
    ("current_block", Type::INT8),
    ("progress_percentage", Type::FLOAT8),
    ("estimated_completion", Type::TIMESTAMPTZ),
    ("error_message", Type::TEXT),
    ("started_at", Type::TIMESTAMPTZ),
    ("completed_at", Type::TIMESTAMPTZ),
    ("ended_at", Type::TIMESTAMPTZ),
    ("created_by", Type::TEXT),
    ("attempt", Type::INT4),
    ("external_id", Type::TEXT),
    ("paused_by", Type::TEXT),
    ("heard_at", Type::TIMESTAMPTZ),
];

/// One job by id.
pub const GET: Statement = Statement {
    name: "backfill.get",
    sql: select_jobs!("where j.id = $1"),
    params: &[Type::UUID],
    columns: JOB_COLUMNS,
};

/// A job's columns and the snapshot that it was read in; without a job, only that.
const SNAPSHOT_COLUMNS: &[(&str, Type)] = &[
    ("snapshot", Type::TEXT),
    ("id", Type::UUID),
    ("job_type", Type::TEXT),
    ("start_block", Type::INT8),
    ("end_block", Type::INT8),
    ("status", Type::TEXT),
    ("covered_blocks", Type::INT8),
    ("current_block", Type::INT8),
    ("progress_percentage", Type::FLOAT8),
    ("estimated_completion", Type::TIMESTAMPTZ),
    ("error_message", Type::TEXT),
    ("started_at", Type::TIMESTAMPTZ),
    ("completed_at", Type::TIMESTAMPTZ),
    ("ended_at", Type::TIMESTAMPTZ),
    ("created_by", Type::TEXT),
    ("attempt", Type::INT4),
    ("external_id", Type::TEXT),
    ("paused_by", Type::TEXT),
    ("heard_at", Type::TIMESTAMPTZ),
];

/// Some jobs by id, one row for each id in order.
pub const GET_MANY: Statement = Statement {
    name: "backfill.get_many",
    sql: concat!(
        "select pg_current_snapshot()::text as snapshot, ",
        job_columns!(),
        " from unnest($1::uuid[]) with ordinality as asked (id, place) left join backfill_jobs j on j.id = asked.id",
        live!(),
        "order by asked.place"
    ),
    params: &[Type::UUID_ARRAY],
    columns: SNAPSHOT_COLUMNS,
};

macro_rules! select_latest {
    ($where:literal, $order:literal) => {
        concat!(
            "select s.snapshot, ",
            job_columns!(),
            " from (select pg_current_snapshot()::text as snapshot) s
              left join (select * from backfill_jobs j ",
            $where,
            " order by ",
            $order,
            "j.started_at desc, j.id desc limit $1) j on true",
            live!(),
            "order by j.started_at desc, j.id desc"
        )
    };
}

/// The newest jobs.
pub const LATEST: Statement = Statement {
    name: "backfill.latest",
    sql: select_latest!("", ""),
    params: &[Type::INT8],
    columns: SNAPSHOT_COLUMNS,
};

/// The newest jobs of a type.
pub const LATEST_OF_TYPE: Statement = Statement {
    name: "backfill.latest_of_type",
    sql: select_latest!("where j.job_type between $2 and $2", "j.job_type, "),
    params: &[Type::INT8, Type::TEXT],
    columns: SNAPSHOT_COLUMNS,
};

/// One job by the id its reporter chose.
pub const GET_EXTERNAL: Statement = Statement {
    name: "backfill.get_external",
    sql: select_jobs!("where j.external_id = $1"),
    params: &[Type::TEXT],
    columns: JOB_COLUMNS,
};

// Four statements instead of one with optional conditions: each is planned for its own index. Their plans are kept for
// all parameters, so that they must not depend on how common a type or a status is: read in order of time and filtered,
// the few running jobs among a million completed ones would take a million rows. Written as `between $3 and $3`, the
// column is no constant to the planner, so that only the index that begins with it gives the order asked for.

/// Jobs, newest start first.
pub const LIST: Statement = Statement {
    name: "backfill.list",
    sql: select_page!("", ""),
    params: &[Type::INT8, Type::INT8],
    columns: JOB_COLUMNS,
};

/// Jobs of one shown status, newest start first.
pub const LIST_BY_STATUS: Statement = Statement {
    name: "backfill.list_by_status",
    sql: select_page!("where j.shown_status between $3 and $3", "j.shown_status, "),
    params: &[Type::INT8, Type::INT8, Type::TEXT],
    columns: JOB_COLUMNS,
};

/// Jobs of one type, newest start first.
pub const LIST_BY_TYPE: Statement = Statement {
    name: "backfill.list_by_type",
    sql: select_page!("where j.job_type between $3 and $3", "j.job_type, "),
    params: &[Type::INT8, Type::INT8, Type::TEXT],
    columns: JOB_COLUMNS,
};

/// Jobs of one type and shown status, newest start first.
pub const LIST_BY_TYPE_AND_STATUS: Statement = Statement {
    name: "backfill.list_by_type_and_status",
    sql: select_page!(
        "where j.job_type = $3 and j.shown_status between $4 and $4",
        "j.shown_status, "
    ),
    params: &[Type::INT8, Type::INT8, Type::TEXT, Type::TEXT],
    columns: JOB_COLUMNS,
};

/// The newest job of exactly this type and range.
pub const NEWEST_OF_RANGE: Statement = Statement {
    name: "backfill.newest_of_range",
    sql: select_jobs!(
        "where j.job_type = $1 and j.start_block = $2 and j.end_block = $3 order by j.started_at desc, j.id desc limit 1"
    ),
    params: &[Type::TEXT, Type::INT8, Type::INT8],
    columns: JOB_COLUMNS,
};

/// Serialises everything that makes a job of one type active, for the transaction.
pub const LOCK_TYPE: Statement = Statement {
    name: "backfill.lock_type",
    sql: "select from (select pg_advisory_xact_lock(hashtextextended('backfill_jobs/' || $1, 0))) locked",
    params: &[Type::TEXT],
    columns: &[],
};

/// The active job of a type that overlaps a range, other than the one given.
pub const OVERLAPPING: Statement = Statement {
    name: "backfill.overlapping",
    sql: "select id, start_block, end_block from backfill_jobs
          where job_type = $1 and int8range(start_block, end_block, '[]') && int8range($2, $3, '[]')
            and status in ('running', 'paused') and id is distinct from $4
          limit 1",
    params: &[Type::TEXT, Type::INT8, Type::INT8, Type::UUID],
    columns: &[
        ("id", Type::UUID),
        ("start_block", Type::INT8),
        ("end_block", Type::INT8),
    ],
};

/// A new job and its first attempt.
pub const INSERT: Statement = Statement {
    name: "backfill.insert",
    sql: "with job as (
              insert into backfill_jobs (id, job_type, start_block, end_block, status, covered, attempt,
                  attempt_started_at, attempt_covered_blocks, claim_epoch, external_id, created_by, started_at,
                  progressed_at, heard_at)
              values ($1, $2, $3, $4, 'running', '{}', 1, $7, 0, 0, $5, $6, $7, $7, $7)
              returning id, attempt, started_at)
          insert into backfill_attempts (job_id, attempt, started_at, covered_blocks)
          select id, attempt, started_at, 0 from job",
    params: &[Type::UUID, Type::TEXT, Type::INT8, Type::INT8, Type::TEXT, Type::TEXT, Type::TIMESTAMPTZ],
    columns: &[],
};

/// The implicit worker's progress: commits everything below a block. One row, one round trip.
///
/// When it waits for a claim being made, the row is looked at again as it is then, but the look for claims keeps its
/// snapshot and does not see the new one. The epoch, which each claim raises, does: then nothing is changed.
///
/// Where the worker met errors before, only what lies below the first of them is committed.
pub const COMMIT_BELOW: Statement = Statement {
    name: "backfill.commit_below",
    sql: concat!(
        "with j as (
             update backfill_jobs
             set covered = covered + int8multirange(int8range(start_block, least($2, trusted_below))),
                 progressed_at = case when covered @> int8range(start_block, least($2, trusted_below)) then progressed_at
                                      else greatest(progressed_at, $3) end,
                 heard_at = greatest(heard_at, $3), implicit_heard_at = $3
             where id = $1 and status in ('running', 'paused') and $2 between start_block and end_block
               and not exists (select from backfill_claims c where c.job_id = $1 and c.lease_expires_at > $3)
               and claim_epoch = (select claim_epoch from backfill_jobs where id = $1)
             returning *)
         select ",
        job_columns!(),
        " from j",
        live!()
    ),
    params: &[Type::UUID, Type::INT8, Type::TIMESTAMPTZ],
    columns: JOB_COLUMNS,
};

/// The reporter script starts at a block: what it counts, it counts from here. Its earlier errors are forgotten if it goes
/// back to the first of them; else the holes that they left stay.
pub const REPORT_START: Statement = Statement {
    name: "backfill.report_start",
    sql: "update backfill_jobs
          set reported_covered_blocks = covered_blocks,
              trusted_below = case when coalesce($2, start_block) > trusted_below then trusted_below end
          where id = $1 and status in ('running', 'paused')",
    params: &[Type::UUID, Type::INT8],
    columns: &[],
};

/// The implicit worker met errors: from the lowest missing block on, its progress says nothing.
pub const DISTRUST: Statement = Statement {
    name: "backfill.distrust",
    sql: "update backfill_jobs set trusted_below = coalesce(trusted_below, current_block) where id = $1",
    params: &[Type::UUID],
    columns: &[],
};

/// The implicit worker's last word: commits a job whole.
pub const COMMIT_ALL: Statement = Statement {
    name: "backfill.commit_all",
    sql: "update backfill_jobs
          set covered = int8multirange(int8range(start_block, end_block, '[]')),
              progressed_at = greatest(progressed_at, $2), heard_at = greatest(heard_at, $2), implicit_heard_at = $2
          where id = $1",
    params: &[Type::UUID, Type::TIMESTAMPTZ],
    columns: &[],
};

/// Locks a job's row for the transaction.
pub const LOCK: Statement = Statement {
    name: "backfill.lock",
    sql: "select job_type, start_block, end_block, status, paused_by, implicit_heard_at, trusted_below,
                 coalesce(reported_covered_blocks, attempt_covered_blocks) as begun_with_blocks
          from backfill_jobs where id = $1 for update",
    params: &[Type::UUID],
    columns: &[
        ("job_type", Type::TEXT),
        ("start_block", Type::INT8),
        ("end_block", Type::INT8),
        ("status", Type::TEXT),
        ("paused_by", Type::TEXT),
        ("implicit_heard_at", Type::TIMESTAMPTZ),
        ("trusted_below", Type::INT8),
        ("begun_with_blocks", Type::INT8),
    ],
};

/// A job's type: what must be locked before its row is.
pub const JOB_TYPE: Statement = Statement {
    name: "backfill.job_type",
    sql: "select job_type from backfill_jobs where id = $1",
    params: &[Type::UUID],
    columns: &[("job_type", Type::TEXT)],
};

/// Completes a job whose ledger is whole. The job's row must be locked and its claims folded.
pub const COMPLETE: Statement = Statement {
    name: "backfill.complete",
    sql: "with job as (
              update backfill_jobs set status = 'completed', ended_at = $2, error_message = null, paused_by = null
              where id = $1 and status in ('running', 'paused') and covered @> int8range(start_block, end_block, '[]')
              returning id)
          update backfill_attempts a set ended_at = $2, outcome = 'completed'
          from job where a.job_id = job.id and a.ended_at is null",
    params: &[Type::UUID, Type::TIMESTAMPTZ],
    columns: &[],
};

/// Ends a job otherwise: failed with its error, or cancelled.
pub const END: Statement = Statement {
    name: "backfill.end",
    sql: "with job as (
              update backfill_jobs set status = $2, ended_at = $3, error_message = $4, paused_by = null
              where id = $1 returning id)
          update backfill_attempts a set ended_at = $3, outcome = $2, error_message = $4
          from job where a.job_id = job.id and a.ended_at is null",
    params: &[Type::UUID, Type::TEXT, Type::TIMESTAMPTZ, Type::TEXT],
    columns: &[],
};

/// Pauses a running job.
pub const PAUSE: Statement = Statement {
    name: "backfill.pause",
    sql: "update backfill_jobs set status = 'paused', paused_by = $2 where id = $1 and status = 'running'",
    params: &[Type::UUID, Type::TEXT],
    columns: &[],
};

/// Lets a paused job run again; its silence counts from now.
pub const UNPAUSE: Statement = Statement {
    name: "backfill.unpause",
    sql: "update backfill_jobs set status = 'running', paused_by = null, heard_at = greatest(heard_at, $2)
          where id = $1 and status = 'paused'",
    params: &[Type::UUID, Type::TIMESTAMPTZ],
    columns: &[],
};

/// Makes a failed job run again, as a new attempt.
pub const NEW_ATTEMPT: Statement = Statement {
    name: "backfill.new_attempt",
    sql: "with job as (
              update backfill_jobs
              set status = 'running', ended_at = null, error_message = null, attempt = attempt + 1,
                  attempt_started_at = $2, attempt_covered_blocks = covered_blocks, progressed_at = greatest(progressed_at, $2),
                  heard_at = greatest(heard_at, $2), implicit_heard_at = null
              where id = $1 and status = 'failed'
              returning id, attempt, attempt_started_at, attempt_covered_blocks)
          insert into backfill_attempts (job_id, attempt, started_at, covered_blocks)
          select id, attempt, attempt_started_at, attempt_covered_blocks from job",
    params: &[Type::UUID, Type::TIMESTAMPTZ],
    columns: &[],
};

/// Running jobs of which nothing was heard since a time.
pub const SILENT: Statement = Statement {
    name: "backfill.silent",
    sql: "select j.id from backfill_jobs j
          where j.status = 'running' and j.heard_at <= $1
            and not exists (select from backfill_claims c
                            where c.job_id = j.id and (c.lease_expires_at > $2 or c.heartbeat_at > $1))
          order by j.heard_at limit 1000",
    params: &[Type::TIMESTAMPTZ, Type::TIMESTAMPTZ],
    columns: &[("id", Type::UUID)],
};

/// Whether one job, its row locked and its claims folded, is silent since a time.
pub const IS_SILENT: Statement = Statement {
    name: "backfill.is_silent",
    sql: "select j.status = 'running' and j.heard_at <= $2
                 and not exists (select from backfill_claims c where c.job_id = j.id) as silent
          from backfill_jobs j where j.id = $1",
    params: &[Type::UUID, Type::TIMESTAMPTZ],
    columns: &[("silent", Type::BOOL)],
};

/// Every statement, for the test that prepares them against the migrated schema.
pub const ALL: &[&Statement] = &[
    &GET,
    &GET_MANY,
    &LATEST,
    &LATEST_OF_TYPE,
    &GET_EXTERNAL,
    &LIST,
    &LIST_BY_STATUS,
    &LIST_BY_TYPE,
    &LIST_BY_TYPE_AND_STATUS,
    &NEWEST_OF_RANGE,
    &LOCK_TYPE,
    &OVERLAPPING,
    &INSERT,
    &COMMIT_BELOW,
    &COMMIT_ALL,
    &LOCK,
    &JOB_TYPE,
    &TRY_LOCK,
    &SHARE,
    &REPORT_START,
    &DISTRUST,
    &FOLD,
    &CLOSE_CLAIMS,
    &CLOSE_CLAIM,
    &FREE,
    &INSERT_CLAIM,
    &RECORD,
    &HEARTBEAT,
    &HOLD_CLAIM,
    &COMPLETE,
    &END,
    &PAUSE,
    &UNPAUSE,
    &NEW_ATTEMPT,
    &SILENT,
    &IS_SILENT,
    &COVERED,
    &GAPS,
    &ATTEMPTS,
    &INSERT_ERROR,
    &ERRORS,
    &CHECKPOINTS,
    &CHECKPOINT_AT,
    &CHECKPOINT_BELOW,
    &INSERT_CHECKPOINT,
    &REWIND,
    &CLOSE_CLAIMS_FROM,
];
