//! The SQL that reads samples. All of it runs with plans of its own for the days that it is about (see
//! [`crate::db::query_pruned`]): a plan for all days locks every partition.

use chrono::{DateTime, Utc};
use tokio_postgres::types::Type;

use crate::db::Statement;

/// Begins a read of samples: no day is detached until it ends (see `metrics/cold.rs`).
pub const BEGIN_READ: &str = "begin read only; lock table only system_metrics in access share mode";

/// The same in a transaction that has begun.
pub const LOCK_DAYS: &str = "lock table only system_metrics in access share mode";

/// The days from `$1` and up to `$2` whose samples are in an archive, the earliest first. A day that is not open and has no
/// archive has no samples any more.
pub const READ_COLD_DAYS: Statement = Statement {
    name: "metrics.read_cold_days",
    sql: "select d.day, a.object_key, a.bytes, encode(a.sha256, 'hex') as sha256
          from metric_days d
          join archives a on a.dataset = 'metrics' and a.day = d.day and a.state in ('detached', 'archived')
          where d.state <> 'open' and d.day between $1 and $2 order by d.day",
    params: &[Type::DATE, Type::DATE],
    columns: COLD_COLUMNS,
};

const COLD_COLUMNS: &[(&str, Type)] = &[
    ("day", Type::DATE),
    ("object_key", Type::TEXT),
    ("bytes", Type::INT8),
    ("sha256", Type::TEXT),
];

/// The hashes of the archives of samples that may be read.
pub const ACTIVE_ARCHIVES: Statement = Statement {
    name: "metrics.active_archives",
    sql: "select encode(sha256, 'hex') as sha256 from archives
          where dataset = 'metrics' and state in ('proved', 'detached', 'archived')",
    params: &[],
    columns: &[("sha256", Type::TEXT)],
};

/// The days from `$1` and up to `$2` that have samples, with their archive where these are in one.
pub const READ_DAYS: Statement = Statement {
    name: "metrics.read_days",
    sql: "select d.day, a.object_key, a.bytes, encode(a.sha256, 'hex') as sha256
          from metric_days d
          left join archives a on d.state <> 'open' and a.dataset = 'metrics' and a.day = d.day
                                  and a.state in ('detached', 'archived')
          where d.day between $1 and $2 and (d.state = 'open' or a.id is not null) order by d.day",
    params: &[Type::DATE, Type::DATE],
    columns: COLD_COLUMNS,
};

/// The samples of hours of series (`ord` from 1), at most `$5` of each; all hours lie from `$3` and before `$4`. An hour
/// with more than 256 KiB of metadata is not worth keeping, and comes without.
pub const LOAD_HOURS: Statement = Statement {
    name: "metrics.load_hours",
    sql: "select k.ord, h.metadata_bytes <= 262144 as is_kept,
                 case when h.metadata_bytes <= 262144 then h.times end as times,
                 case when h.metadata_bytes <= 262144 then h.values end as values,
                 case when h.metadata_bytes <= 262144 then h.metadata end as metadata,
                 pg_current_snapshot()::text as snapshot
          from unnest($1::integer[], $2::timestamptz[]) with ordinality as k (series_id, hour, ord)
          cross join lateral (
              select array_agg(sampled_at order by sampled_at) as times, array_agg(value order by sampled_at) as values,
                     case when count(metadata) > 0 then array_agg(metadata::text order by sampled_at) end as metadata,
                     coalesce(sum(octet_length(metadata::text)), 0) as metadata_bytes
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
        ("is_kept", Type::BOOL),
        ("times", Type::TIMESTAMPTZ_ARRAY),
        ("values", Type::FLOAT8_ARRAY),
        ("metadata", Type::TEXT_ARRAY),
        ("snapshot", Type::TEXT),
    ],
};

/// What every read of single samples gives.
const SAMPLE_COLUMNS: &[(&str, Type)] = &[
    ("series_id", Type::INT4),
    ("sampled_at", Type::TIMESTAMPTZ),
    ("value", Type::FLOAT8),
    ("metadata", Type::TEXT),
];

/// The newest samples of some series from `$2` and before `$3`, after the sample at `$4` of series `$5`: `$7` of them after
/// `$8` that are skipped, `$6` being the sum. Each series' index is read backwards, and no further than that.
pub const NEWEST_OF_SERIES: Statement = Statement {
    name: "metrics.newest_of_series",
    sql: "select n.series_id, n.sampled_at, n.value, n.metadata
          from unnest($1::integer[]) as k (series_id)
          cross join lateral (
              select m.series_id, m.sampled_at, m.value, m.metadata::text as metadata
              from system_metrics m
              where m.series_id = k.series_id and m.sampled_at >= $2 and m.sampled_at < $3
                and not (m.sampled_at = $4 and m.series_id >= $5)
              order by m.sampled_at desc limit $6) n
          order by n.sampled_at desc, n.series_id desc limit $7 offset $8",
    params: &[
        Type::INT4_ARRAY,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::INT4,
        Type::INT8,
        Type::INT8,
        Type::INT8,
    ],
    columns: SAMPLE_COLUMNS,
};

/// The samples of a slice of time, and of series with these names where `$5` says so: service, type, unit, labels.
macro_rules! slice_of_samples {
    ($what:literal, $end:literal) => {
        concat!(
            "select ",
            $what,
            " from system_metrics m
              where m.sampled_at >= $1 and m.sampled_at < $2 and not (m.sampled_at = $3 and m.series_id >= $4)
                and (not $5::boolean or m.series_id in (
                    select s.id from metric_series s
                    where ($6::text is null or s.service_name = $6) and ($7::text is null or s.metric_type = $7)
                      and ($8::text is null or s.unit = $8) and s.labels @> $9)) ",
            $end
        )
    };
}

/// The newest samples of a slice of time, from `$1` and before `$2`, after the sample at `$3` of series `$4`: `$10` of them
/// after `$11` that are skipped.
pub const NEWEST_OF_SLICE: Statement = Statement {
    name: "metrics.newest_of_slice",
    sql: slice_of_samples!(
        "m.series_id, m.sampled_at, m.value, m.metadata::text as metadata",
        "order by m.sampled_at desc, m.series_id desc limit $10 offset $11"
    ),
    params: &[
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::INT4,
        Type::BOOL,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::JSONB,
        Type::INT8,
        Type::INT8,
    ],
    columns: SAMPLE_COLUMNS,
};

/// How many samples a slice of time has, as far as `$10`.
pub const COUNT_SLICE: Statement = Statement {
    name: "metrics.count_slice",
    sql: concat!(
        "select count(*) as samples from (",
        slice_of_samples!("1", "limit $10"),
        ") n"
    ),
    params: &[
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::INT4,
        Type::BOOL,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::JSONB,
        Type::INT8,
    ],
    columns: &[("samples", Type::INT8)],
};

/// The numbers of the series with these names where `$1` says so (service, type, unit, labels), in order.
pub const SERIES_IDS: Statement = Statement {
    name: "metrics.series_ids",
    sql: "select s.id from metric_series s
          where not $1::boolean
             or (($2::text is null or s.service_name = $2) and ($3::text is null or s.metric_type = $3)
                 and ($4::text is null or s.unit = $4) and s.labels @> $5)
          order by s.id",
    params: &[
        Type::BOOL,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::JSONB,
    ],
    columns: &[("id", Type::INT4)],
};

/// How many samples series have, by their days from `$2` and before `$3` that are rolled up.
pub const COUNT_BY_ROLLUPS: Statement = Statement {
    name: "metrics.count_by_rollups",
    sql: "select series_id, sum(count)::bigint as samples from metric_rollups
          where series_id = any ($1) and hours = 24 and bucket >= $2 and bucket < $3 group by series_id",
    params: &[Type::INT4_ARRAY, Type::TIMESTAMPTZ, Type::TIMESTAMPTZ],
    columns: &[("series_id", Type::INT4), ("samples", Type::INT8)],
};

/// How many samples some series have, as far as `$6`: from `$2` and before `$3`, after the sample at `$4` of series `$5`.
pub const COUNT_OF_SERIES: Statement = Statement {
    name: "metrics.count_of_series",
    sql: "select count(*) as samples from (
              select from system_metrics m
              where m.series_id = any ($1) and m.sampled_at >= $2 and m.sampled_at < $3
                and not (m.sampled_at = $4 and m.series_id >= $5)
              limit $6) n",
    params: &[
        Type::INT4_ARRAY,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::INT4,
        Type::INT8,
    ],
    columns: &[("samples", Type::INT8)],
};

/// Begins a transaction for copying out. How long one statement may take also bounds how slowly its reader may read.
pub const BEGIN_COPY: &str = "begin read only; set local statement_timeout = '60s'; lock table only system_metrics in access share mode";

/// Copies the samples of a series out, the oldest first, from a time and before another one: sampled_at, value, metadata.
/// COPY takes no parameters; what stands here is made of numbers only.
pub fn copy_series(series_id: i32, from: DateTime<Utc>, to: DateTime<Utc>, limit: i64) -> String {
    // Microseconds, as PostgreSQL keeps them: written out, a time is digits, and exact.
    let written = |at: DateTime<Utc>| at.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    format!(
        "copy (select sampled_at, value, metadata::text from system_metrics
               where series_id = {series_id} and sampled_at >= '{}' and sampled_at < '{}'
               order by sampled_at limit {limit}) to stdout (format binary)",
        written(from),
        written(to)
    )
}
