//! Bringing archives back.

use tokio_postgres::types::Type;

use super::DONE;
use crate::db::Statement;

/// Inserts an archive's rows, compares them, and ends the archive; the hold has the id `$3`.
pub const RESTORE_ROWS: Statement = Statement {
    name: "retention.restore_rows",
    sql: "select archive_restore_rows($1, $2, $3, $4, $5, $6, $7)::text as done",
    params: &[
        Type::UUID,
        Type::JSONB,
        Type::UUID,
        Type::TIMESTAMPTZ,
        Type::TEXT,
        Type::TIMESTAMPTZ,
        Type::TEXT,
    ],
    columns: DONE,
};

/// Makes an empty table for a day of samples; gives its name.
pub const RESTORE_DAY_BEGIN: Statement = Statement {
    name: "retention.begin_restore_day",
    sql: "select archive_restore_day_begin($1) as partition",
    params: &[Type::UUID],
    columns: &[("partition", Type::TEXT)],
};

/// Fills it. COPY takes no parameters: what stands here is the name that the database gave.
pub fn copy_samples_into(partition: &str) -> String {
    format!("copy {partition} (series_id, sampled_at, value, metadata) from stdin (format binary)")
}

/// Compares that table with the archive and attaches it.
pub const RESTORE_DAY: Statement = Statement {
    name: "retention.restore_day",
    sql: "select archive_restore_day($1, $2, $3, $4, $5, $6)::text as done",
    params: &[
        Type::UUID,
        Type::UUID,
        Type::TIMESTAMPTZ,
        Type::TEXT,
        Type::TIMESTAMPTZ,
        Type::TEXT,
    ],
    columns: DONE,
};

/// Of these rows of feedback, those whose user has given feedback on the same insight again.
pub const RATED_AGAIN: Statement = Statement {
    name: "retention.rated_again",
    sql: "select g ->> 'id' as id, g ->> 'insight_id' as insight_id, f.id::text as present_id
          from jsonb_array_elements($1) g
          join archive_feedback f on f.insight_id = g ->> 'insight_id' and f.user_id = g ->> 'user_id'
          order by 1 limit 11",
    params: &[Type::JSONB],
    columns: &[
        ("id", Type::TEXT),
        ("insight_id", Type::TEXT),
        ("present_id", Type::TEXT),
    ],
};
