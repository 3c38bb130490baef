//! The SQL of runs.

use tokio_postgres::types::Type;

use crate::db::Statement;

/// Ends runs whose lease is over at `$1`, and those whose lease ends after `$2`, which no clock that is right has given: what
/// they do from then on is refused.
pub const LOSE_RUNS: Statement = Statement {
    name: "retention.lose_runs",
    sql: "update retention_runs set ended_at = $1, outcome = 'lost' where ended_at is null and (lease_expires_at <= $1 or lease_expires_at > $2) returning id",
    params: &[Type::TIMESTAMPTZ, Type::TIMESTAMPTZ],
    columns: &[("id", Type::INT8)],
};

/// Begins a run; none where one is under way.
pub const BEGIN_RUN: Statement = Statement {
    name: "retention.begin_run",
    sql: "insert into retention_runs (began_at, began_by, lease_expires_at) values ($1, $2, $3)
          on conflict ((ended_at is null)) where ended_at is null do nothing returning id",
    params: &[Type::TIMESTAMPTZ, Type::TEXT, Type::TIMESTAMPTZ],
    columns: &[("id", Type::INT8)],
};

/// Keeps a run's lease.
pub const RENEW_RUN: Statement = Statement {
    name: "retention.renew_run",
    sql: "update retention_runs set lease_expires_at = greatest(lease_expires_at, $2) where id = $1 and ended_at is null",
    params: &[Type::INT8, Type::TIMESTAMPTZ],
    columns: &[],
};

/// Ends a run.
pub const END_RUN: Statement = Statement {
    name: "retention.end_run",
    sql: "update retention_runs set ended_at = $2, outcome = $3, results = $4 where id = $1 and ended_at is null",
    params: &[Type::INT8, Type::TIMESTAMPTZ, Type::TEXT, Type::JSONB],
    columns: &[],
};

/// The newest runs.
pub const RUNS: Statement = Statement {
    name: "retention.runs",
    sql: "select id, began_at, began_by, ended_at, outcome, results from retention_runs order by id desc limit $1",
    params: &[Type::INT8],
    columns: &[
        ("id", Type::INT8),
        ("began_at", Type::TIMESTAMPTZ),
        ("began_by", Type::TEXT),
        ("ended_at", Type::TIMESTAMPTZ),
        ("outcome", Type::TEXT),
        ("results", Type::JSONB),
    ],
};
