//! The SQL of `demo`. Rows come as JSON: columns that the database computes are left to it.

use tokio_postgres::types::Type;
use utxoiq_store::db::Statement;

/// Which tables have rows that are not there in a fresh store, and what the last mark of a `demo` says.
pub const WHAT_IS_THERE: Statement = Statement {
    name: "demo.what_is_there",
    sql: "select (select details::jsonb ->> 'state' from audit_log where action = 'demo' order by sequence desc limit 1) as marked,
                 array(select name from (values
                     ('backfill_jobs', exists (select from backfill_jobs)),
                     ('insight_feedback', exists (select from insight_feedback)),
                     ('feedback_history', exists (select from feedback_history)),
                     ('feedback_retired', exists (select from feedback_retired)),
                     ('metric_series', exists (select from metric_series)),
                     ('archives', exists (select from archives)),
                     -- An interrupted one may have come no further.
                     ('audit_log', exists (select from audit_log where action = 'demo'))) as t (name, has_rows)
                 where has_rows) as tables",
    params: &[],
    columns: &[("marked", Type::TEXT), ("tables", Type::TEXT_ARRAY)],
};

pub const INSERT_FEEDBACK: Statement = Statement {
    name: "demo.insert_feedback",
    sql: "insert into insight_feedback (insight_id, user_id, rating, rated_at, comment, commented_at, flag_type, flag_reason,
                                        flagged_at, created_at, updated_at)
          select insight_id, user_id, rating, rated_at, comment, commented_at, flag_type, flag_reason, flagged_at, created_at, updated_at
          from jsonb_populate_recordset(null::insight_feedback, $1)",
    params: &[Type::JSONB],
    columns: &[],
};

/// Ratings that were given again: another rating, or none.
pub const RATE_AGAIN: Statement = Statement {
    name: "demo.rate_again",
    sql: "update insight_feedback f
          set rating = n.rating, rated_at = n.rated_at, updated_at = n.updated_at
          from jsonb_populate_recordset(null::insight_feedback, $1) n
          where f.insight_id = n.insight_id and f.user_id = n.user_id and f.updated_at < n.updated_at",
    params: &[Type::JSONB],
    columns: &[],
};

/// Flags that were taken back.
pub const UNFLAG: Statement = Statement {
    name: "demo.unflag",
    sql: "update insight_feedback f set flag_type = null, flag_reason = null, flagged_at = null, updated_at = n.updated_at
          from jsonb_populate_recordset(null::insight_feedback, $1) n
          where f.insight_id = n.insight_id and f.user_id = n.user_id and f.updated_at < n.updated_at and f.flag_type is not null",
    params: &[Type::JSONB],
    columns: &[],
};

pub const INSERT_JOBS: Statement = Statement {
    name: "demo.insert_jobs",
    sql: "insert into backfill_jobs (id, job_type, start_block, end_block, status, covered, attempt, attempt_started_at,
                                     attempt_covered_blocks, claim_epoch, external_id, created_by, error_message, paused_by,
                                     started_at, progressed_at, heard_at, ended_at)
          select id, job_type, start_block, end_block, status, covered, attempt, attempt_started_at, attempt_covered_blocks,
                 claim_epoch, external_id, created_by, error_message, paused_by, started_at, progressed_at, heard_at, ended_at
          from jsonb_populate_recordset(null::backfill_jobs, $1)",
    params: &[Type::JSONB],
    columns: &[],
};

pub const INSERT_ATTEMPTS: Statement = Statement {
    name: "demo.insert_attempts",
    sql: "insert into backfill_attempts (job_id, attempt, started_at, covered_blocks, ended_at, outcome, error_message)
          select job_id, attempt, started_at, covered_blocks, ended_at, outcome, error_message
          from jsonb_populate_recordset(null::backfill_attempts, $1)",
    params: &[Type::JSONB],
    columns: &[],
};

pub const INSERT_CLAIMS: Statement = Statement {
    name: "demo.insert_claims",
    sql: "insert into backfill_claims (id, job_id, attempt, epoch, worker, blocks, done, claimed_at, progressed_at, heartbeat_at,
                                       lease_expires_at)
          select id, job_id, attempt, epoch, worker, blocks, done, claimed_at, progressed_at, heartbeat_at, lease_expires_at
          from jsonb_populate_recordset(null::backfill_claims, $1)",
    params: &[Type::JSONB],
    columns: &[],
};

pub const INSERT_ERRORS: Statement = Statement {
    name: "demo.insert_errors",
    sql: "insert into backfill_errors (job_id, attempt, blocks, worker, try, message, occurred_at)
          select job_id, attempt, blocks, worker, try, message, occurred_at
          from jsonb_populate_recordset(null::backfill_errors, $1)",
    params: &[Type::JSONB],
    columns: &[],
};

pub const INSERT_CHECKPOINTS: Statement = Statement {
    name: "demo.insert_checkpoints",
    sql: "insert into backfill_checkpoints (job_id, block, block_hash, recorded_at)
          select job_id, block, block_hash, recorded_at from jsonb_populate_recordset(null::backfill_checkpoints, $1)",
    params: &[Type::JSONB],
    columns: &[],
};

pub const INSERT_SERVICES: Statement = Statement {
    name: "demo.insert_services",
    sql: "insert into metric_services (service_name, created_at) select unnest($1::text[]), $2",
    params: &[Type::TEXT_ARRAY, Type::TIMESTAMPTZ],
    columns: &[],
};

pub const INSERT_SERIES: Statement = Statement {
    name: "demo.insert_series",
    sql: "insert into metric_series (service_name, metric_type, unit, labels, created_at) values ($1, $2, $3, $4, $5) returning id",
    params: &[
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::JSONB,
        Type::TIMESTAMPTZ,
    ],
    columns: &[("id", Type::INT4)],
};

pub const MAKE_DAY: Statement = Statement {
    name: "demo.make_day",
    sql: "select metric_make_day($1, $2) as made",
    params: &[Type::DATE, Type::TIMESTAMPTZ],
    columns: &[("made", Type::BOOL)],
};

/// Whether every hour before a time is rolled up, and none waits to be rolled up again.
pub const IS_ROLLED: Statement = Statement {
    name: "demo.is_rolled",
    sql: "select rolled_before >= $1 and not exists (select from metric_marks) as is_rolled from metric_rollup_state",
    params: &[Type::TIMESTAMPTZ],
    columns: &[("is_rolled", Type::BOOL)],
};

pub const INSERT_SLOTS: Statement = Statement {
    name: "demo.insert_slots",
    sql: "insert into schedule_slots (task, slot_at, on_demand, state, epoch, runner, attempts, missed, started_at, heartbeat_at,
                                      finished_at, outcome, error)
          select task, slot_at, on_demand, state, epoch, runner, attempts, missed, started_at, heartbeat_at, finished_at, outcome, error
          from jsonb_populate_recordset(null::schedule_slots, $1)
          on conflict (task, slot_at) where not on_demand do nothing",
    params: &[Type::JSONB],
    columns: &[],
};

pub const INSERT_BACKUPS: Statement = Statement {
    name: "demo.insert_backups",
    sql: "insert into backups (id, slot_at, started_at, started_by, lease_expires_at, state, object_key, plain_bytes, stored_bytes,
                               row_count, table_count, sha256, manifest_sha256, schema_version, stored_at, ended_at)
          select id, slot_at, started_at, started_by, lease_expires_at, 'stored', object_key, plain_bytes, stored_bytes,
                 row_count, table_count, sha256, manifest_sha256, schema_version, stored_at, ended_at
          from jsonb_populate_recordset(null::backups, $1)",
    params: &[Type::JSONB],
    columns: &[],
};

/// What was read back, and went when its time was over.
pub const PRUNE_BACKUPS: Statement = Statement {
    name: "demo.prune_backups",
    sql: "update backups b set state = 'pruned', verified_at = n.verified_at, copied_at = n.copied_at, pruned_at = n.pruned_at
          from jsonb_populate_recordset(null::backups, $1) n where n.id = b.id",
    params: &[Type::JSONB],
    columns: &[],
};

/// A run that ended without a backup.
pub const BEGIN_BACKUP: Statement = Statement {
    name: "demo.begin_backup",
    sql: "insert into backups (id, slot_at, started_at, started_by, lease_expires_at, state, object_key)
          values ($1, $2, $3, 'schedule: make_backup', $4, 'running', $5)",
    params: &[
        Type::UUID,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::TEXT,
    ],
    columns: &[],
};

pub const FAIL_BACKUP: Statement = Statement {
    name: "demo.fail_backup",
    sql: "update backups set state = 'failed', ended_at = $2, error = $3 where id = $1",
    params: &[Type::UUID, Type::TIMESTAMPTZ, Type::TEXT],
    columns: &[],
};

pub const BEGIN_PROOF: Statement = Statement {
    name: "demo.begin_proof",
    sql:
        "insert into backup_proofs (id, backup_id, started_at, started_by, lease_expires_at, target)
          values ($1, $2, $3, 'schedule: prove_backup', $4, $5)",
    params: &[
        Type::UUID,
        Type::UUID,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::TEXT,
    ],
    columns: &[],
};

pub const END_PROOF: Statement = Statement {
    name: "demo.end_proof",
    sql: "update backup_proofs set ended_at = $2, outcome = 'proved', restore_milliseconds = $3, compare_milliseconds = $4 where id = $1",
    params: &[Type::UUID, Type::TIMESTAMPTZ, Type::INT8, Type::INT8],
    columns: &[],
};
