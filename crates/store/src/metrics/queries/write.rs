//! The SQL that stores samples. What follows from them is done by triggers; see migration 0007.

use chrono::NaiveDate;
use tokio_postgres::types::Type;

use crate::db::Statement;

/// Begins a transaction that stores samples. The table of series stays what it is until the end: whoever replaces it waits,
/// so that what was compared with it holds.
pub const BEGIN: &str = "begin; lock table metric_series in access share mode";

/// The same where what is already there is looked for: its partitions are chosen when it is planned.
pub const BEGIN_CAREFUL: &str = "begin; lock table metric_series in access share mode;
                                 set local plan_cache_mode = force_custom_plan";

/// Copies samples into the partition of their day: series_id, sampled_at, value, metadata. COPY takes no parameters, and a
/// day is digits only.
pub fn copy_into(day: NaiveDate) -> String {
    format!(
        "copy system_metrics_{} (series_id, sampled_at, value, metadata) from stdin (format binary)",
        day.format("%Y%m%d")
    )
}

/// Stores samples that are not there; gives back those that it stored.
pub const INSERT: Statement = Statement {
    name: "metrics.insert",
    sql: "insert into system_metrics (series_id, sampled_at, value, metadata)
          select series_id, sampled_at, value, metadata
          from unnest($1::integer[], $2::timestamptz[], $3::double precision[], $4::jsonb[])
               as n (series_id, sampled_at, value, metadata)
          order by (sampled_at at time zone 'UTC')::date, series_id, sampled_at
          on conflict (series_id, sampled_at) do nothing
          returning series_id, sampled_at",
    params: &[
        Type::INT4_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::FLOAT8_ARRAY,
        Type::JSONB_ARRAY,
    ],
    columns: &[("series_id", Type::INT4), ("sampled_at", Type::TIMESTAMPTZ)],
};

/// What is stored at these places, all of them from `$3` up to and including `$4`.
pub const FIND_STORED: Statement = Statement {
    name: "metrics.find_stored",
    sql: "select m.series_id, m.sampled_at, m.value
          from unnest($1::integer[], $2::timestamptz[]) as n (series_id, sampled_at)
          join system_metrics m on m.series_id = n.series_id and m.sampled_at = n.sampled_at
          where m.sampled_at between $3 and $4",
    params: &[
        Type::INT4_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
    ],
    columns: &[
        ("series_id", Type::INT4),
        ("sampled_at", Type::TIMESTAMPTZ),
        ("value", Type::FLOAT8),
    ],
};

/// A request that was kept.
pub const FIND_REQUEST: Statement = Statement {
    name: "metrics.find_request",
    sql: "select digest, times from metric_requests where caller = $1 and key = $2",
    params: &[Type::TEXT, Type::TEXT],
    columns: &[("digest", Type::BYTEA), ("times", Type::TIMESTAMPTZ_ARRAY)],
};

/// Keeps a request, unless its key is kept already.
pub const KEEP_REQUEST: Statement = Statement {
    name: "metrics.keep_request",
    sql: "insert into metric_requests (caller, key, digest, times, created_at) values ($1, $2, $3, $4, $5)
          on conflict (caller, key) do nothing",
    params: &[
        Type::TEXT,
        Type::TEXT,
        Type::BYTEA,
        Type::TIMESTAMPTZ_ARRAY,
        Type::TIMESTAMPTZ,
    ],
    columns: &[],
};

/// The transaction that this is.
pub const TRANSACTION: Statement = Statement {
    name: "metrics.transaction",
    sql: "select pg_current_xact_id()::text as transaction",
    params: &[],
    columns: &[("transaction", Type::TEXT)],
};
