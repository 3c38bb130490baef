//! The SQL of days.

use tokio_postgres::types::Type;

use crate::db::Statement;

/// Makes the partition of a day, at a time; see the function in migration 0007. It waits briefly for locks.
pub const MAKE_DAY: Statement = Statement {
    name: "metrics.make_day",
    sql: "select metric_make_day($1, $2) as made from (select set_config('lock_timeout', '200ms', true)) as patience",
    params: &[Type::DATE, Type::TIMESTAMPTZ],
    columns: &[("made", Type::BOOL)],
};
