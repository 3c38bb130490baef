//! Looking at archives, and for a day's rows.

use tokio_postgres::types::Type;

use super::ARCHIVES;
use crate::db::Statement;

/// Archives of a dataset, of days from `$2` on and before `$3`, in a state; after the place `$5`, `$6`, `$7`, at most `$8`.
pub const LIST: Statement = Statement {
    name: "retention.list_archives",
    sql: archives!(
        "where ($1::text is null or dataset = $1) and ($2::date is null or day >= $2) and ($3::date is null or day < $3)
               and ($4::text is null or state = $4) and ($5::date is null or (day, dataset, part) > ($5, $6::text, $7::integer))
         order by day, dataset, part limit $8"
    ),
    params: &[
        Type::TEXT,
        Type::DATE,
        Type::DATE,
        Type::TEXT,
        Type::DATE,
        Type::TEXT,
        Type::INT4,
        Type::INT8,
    ],
    columns: ARCHIVES,
};

/// All archives of a day.
pub const OF_DAY: Statement = Statement {
    name: "retention.archives_of_day",
    sql: archives!("where dataset = $1 and day = $2 order by part"),
    params: &[Type::TEXT, Type::DATE],
    columns: ARCHIVES,
};

const HOT: &[(&str, Type)] = &[("rows", Type::INT8)];

/// Samples of a day in the database.
pub const HOT_SAMPLES: Statement = Statement {
    name: "retention.hot_samples",
    sql: "select count(*) as rows from system_metrics
          where sampled_at >= $1::date::timestamp at time zone 'UTC' and sampled_at < ($1::date + 1)::timestamp at time zone 'UTC'",
    params: &[Type::DATE],
    columns: HOT,
};

/// Jobs that ended on a day.
pub const HOT_JOBS: Statement = Statement {
    name: "retention.hot_jobs",
    sql: "select count(*) as rows from archive_backfill_jobs
          where ended_at >= $1::date::timestamp at time zone 'UTC' and ended_at < ($1::date + 1)::timestamp at time zone 'UTC'",
    params: &[Type::DATE],
    columns: HOT,
};

/// Feedback that was last changed on a day.
pub const HOT_FEEDBACK: Statement = Statement {
    name: "retention.hot_feedback",
    sql: "select count(*) as rows from archive_feedback
          where updated_at >= $1::date::timestamp at time zone 'UTC' and updated_at < ($1::date + 1)::timestamp at time zone 'UTC'",
    params: &[Type::DATE],
    columns: HOT,
};

/// Acts of a day.
pub const HOT_HISTORY: Statement = Statement {
    name: "retention.hot_history",
    sql: "select count(*) as rows from archive_feedback_history
          where occurred_at >= $1::date::timestamp at time zone 'UTC' and occurred_at < ($1::date + 1)::timestamp at time zone 'UTC'",
    params: &[Type::DATE],
    columns: HOT,
};

/// What the audit log says of a dataset's day, the oldest entry first, at most `$2`.
pub const PROOF: Statement = Statement {
    name: "retention.proof_of_day",
    sql: "select sequence, at, actor, action, details, hash from audit_log where subject = $1 order by sequence limit $2",
    params: &[Type::TEXT, Type::INT8],
    columns: &[
        ("sequence", Type::INT8),
        ("at", Type::TIMESTAMPTZ),
        ("actor", Type::TEXT),
        ("action", Type::TEXT),
        ("details", Type::TEXT),
        ("hash", Type::BYTEA),
    ],
};
