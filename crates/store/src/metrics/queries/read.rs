//! The SQL that reads samples. All of it runs with plans of its own for the days that it is about (see
//! [`crate::db::query_pruned`]): a plan for all days locks every partition.

use tokio_postgres::types::Type;

use crate::db::Statement;

/// The samples of hours of series (`ord` from 1), at most `$5` of each; all hours lie from `$3` and before `$4`.
pub const LOAD_HOURS: Statement = Statement {
    name: "metrics.load_hours",
    sql: "select k.ord, h.times, h.values, h.metadata, pg_current_snapshot()::text as snapshot
          from unnest($1::integer[], $2::timestamptz[]) with ordinality as k (series_id, hour, ord)
          cross join lateral (
              select array_agg(sampled_at order by sampled_at) as times,
                     array_agg(value order by sampled_at) as values,
                     case when count(metadata) > 0 then array_agg(metadata::text order by sampled_at) end as metadata
              from (select sampled_at, value, metadata from system_metrics m
                    where m.series_id = k.series_id and m.sampled_at >= k.hour and m.sampled_at < k.hour + interval '1 hour'
                      and m.sampled_at >= $3 and m.sampled_at < $4
                    order by m.sampled_at limit $5) s) h",
    params: &[
        Type::INT4_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::INT8,
    ],
    columns: &[
        ("ord", Type::INT8),
        ("times", Type::TIMESTAMPTZ_ARRAY),
        ("values", Type::FLOAT8_ARRAY),
        ("metadata", Type::TEXT_ARRAY),
        ("snapshot", Type::TEXT),
    ],
};
