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

/// How many days there are: hot ones, those from `$1` on, those before `$2`, and those before `$1` less a day whose rollups
/// were not compared. A row a day, and a year or so of them.
pub const COUNT_DAYS: Statement = Statement {
    name: "metrics.count_days",
    sql: "select count(*) as hot,
                 count(*) filter (where day > $1) as ahead,
                 count(*) filter (where day < $2) as overdue,
                 count(*) filter (where day < $1 - 1 and verified_at is null) as unverified
          from metric_days where state = 'open'",
    params: &[Type::DATE, Type::DATE],
    columns: &[
        ("hot", Type::INT8),
        ("ahead", Type::INT8),
        ("overdue", Type::INT8),
        ("unverified", Type::INT8),
    ],
};
