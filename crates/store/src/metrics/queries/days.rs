//! The SQL of days.

use tokio_postgres::types::Type;

use crate::db::Statement;

/// Makes the partition of a day, at a time; see the function in migration 0007.
pub const MAKE_DAY: Statement = Statement {
    name: "metrics.make_day",
    sql: "select metric_make_day($1, $2) as made",
    params: &[Type::DATE, Type::TIMESTAMPTZ],
    columns: &[("made", Type::BOOL)],
};
