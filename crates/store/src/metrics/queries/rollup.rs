//! The SQL of rollups: closing hours, finding what is to be rolled up again, reading and writing rollups.

use chrono::{DateTime, Utc};
use tokio_postgres::types::Type;

use crate::db::Statement;

/// How far rollups are made. Locked, so that one at a time makes them; no row while another one does.
pub const LOCK_STATE: Statement = Statement {
    name: "metrics.lock_rollup_state",
    sql: "select rolled_before, closing_before,
                 system_identifier = (select system_identifier from pg_control_system()) as is_ours,
                 pg_snapshot_xmin(pg_current_snapshot()) > closing_x as are_ended,
                 (select min(day) from metric_days where state = 'open') as first_day
          from metric_rollup_state for update of metric_rollup_state skip locked",
    params: &[],
    columns: &[
        ("rolled_before", Type::TIMESTAMPTZ),
        ("closing_before", Type::TIMESTAMPTZ),
        ("is_ours", Type::BOOL),
        ("are_ended", Type::BOOL),
        ("first_day", Type::DATE),
    ],
};

/// From now on writes into hours before this one (in hours since the epoch) leave marks. Never goes back; to be done while
/// the state is locked.
pub const CLOSE_HOURS: Statement = Statement {
    name: "metrics.close_hours",
    sql: "select setval('metric_closing_hour', greatest($1, (select last_value from metric_closing_hour))) as hour",
    params: &[Type::INT8],
    columns: &[("hour", Type::INT8)],
};

/// What is closed, by the transaction before this one: whoever may have read the sequence before it was set has a lower
/// number than this one.
pub const NOTE_CLOSED: Statement = Statement {
    name: "metrics.note_closed",
    sql: "update metric_rollup_state
          set closing_before = $1, closing_x = pg_current_xact_id(),
              system_identifier = (select system_identifier from pg_control_system())
          where closing_before < $1
             or closing_before = $1 and system_identifier <> (select system_identifier from pg_control_system())",
    params: &[Type::TIMESTAMPTZ],
    columns: &[],
};

/// Rollups are made before this time.
pub const NOTE_ROLLED: Statement = Statement {
    name: "metrics.note_rolled",
    sql: "update metric_rollup_state set rolled_before = $1",
    params: &[Type::TIMESTAMPTZ],
    columns: &[],
};

/// Takes up to `$2` marks of hours before `$1`, those of one bucket together. Only of days whose samples are there.
pub const TAKE_MARKS: Statement = Statement {
    name: "metrics.take_marks",
    sql: "delete from metric_marks where ctid = any (array(
              select ctid from metric_marks m
              where hour < $1
                and exists (select from metric_days d where d.day = (m.hour at time zone 'UTC')::date and d.state = 'open')
              order by series_id, hour limit $2))
          returning series_id, hour",
    params: &[Type::TIMESTAMPTZ, Type::INT8],
    columns: &[("series_id", Type::INT4), ("hour", Type::TIMESTAMPTZ)],
};

/// Asks for hours to be rolled up again.
pub const MARK: Statement = Statement {
    name: "metrics.mark",
    sql: "insert into metric_marks (series_id, hour)
          select series_id, hour from unnest($1::integer[], $2::timestamptz[]) as n (series_id, hour)",
    params: &[Type::INT4_ARRAY, Type::TIMESTAMPTZ_ARRAY],
    columns: &[],
};

/// The columns of a rollup, in the order in which they are read and written.
macro_rules! rollup_columns {
    () => {
        "series_id, hours, bucket, count, sum, sum_low, min, min_at, max, max_at, last, last_at, p50, p95, p99, sketch"
    };
}

const ROLLUP_COLUMNS: &[(&str, Type)] = &[
    ("series_id", Type::INT4),
    ("hours", Type::INT2),
    ("bucket", Type::TIMESTAMPTZ),
    ("count", Type::INT8),
    ("sum", Type::FLOAT8),
    ("sum_low", Type::FLOAT8),
    ("min", Type::FLOAT8),
    ("min_at", Type::TIMESTAMPTZ),
    ("max", Type::FLOAT8),
    ("max_at", Type::TIMESTAMPTZ),
    ("last", Type::FLOAT8),
    ("last_at", Type::TIMESTAMPTZ),
    ("p50", Type::FLOAT8),
    ("p95", Type::FLOAT8),
    ("p99", Type::FLOAT8),
    ("sketch", Type::BYTEA),
];

/// Writes rollups.
pub const WRITE_ROLLUPS: Statement = Statement {
    name: "metrics.write_rollups",
    sql: concat!(
        "insert into metric_rollups as r (",
        rollup_columns!(),
        ") select * from unnest($1::integer[], $2::smallint[], $3::timestamptz[], $4::bigint[], $5::double precision[],
              $6::double precision[], $7::double precision[], $8::timestamptz[], $9::double precision[], $10::timestamptz[],
              $11::double precision[], $12::timestamptz[], $13::double precision[], $14::double precision[],
              $15::double precision[], $16::bytea[])
          on conflict (series_id, hours, bucket) do update set
              count = excluded.count, sum = excluded.sum, sum_low = excluded.sum_low, min = excluded.min,
              min_at = excluded.min_at, max = excluded.max, max_at = excluded.max_at, last = excluded.last,
              last_at = excluded.last_at, p50 = excluded.p50, p95 = excluded.p95, p99 = excluded.p99,
              sketch = excluded.sketch"
    ),
    params: &[
        Type::INT4_ARRAY,
        Type::INT2_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::INT8_ARRAY,
        Type::FLOAT8_ARRAY,
        Type::FLOAT8_ARRAY,
        Type::FLOAT8_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::FLOAT8_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::FLOAT8_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::FLOAT8_ARRAY,
        Type::FLOAT8_ARRAY,
        Type::FLOAT8_ARRAY,
        Type::BYTEA_ARRAY,
    ],
    columns: &[],
};

/// Removes rollups of buckets (series, lengths in hours, starts) that have no samples any more.
pub const REMOVE_ROLLUPS: Statement = Statement {
    name: "metrics.remove_rollups",
    sql: "delete from metric_rollups r
          using unnest($1::integer[], $2::smallint[], $3::timestamptz[]) as n (series_id, hours, bucket)
          where r.series_id = n.series_id and r.hours = n.hours and r.bucket = n.bucket",
    params: &[Type::INT4_ARRAY, Type::INT2_ARRAY, Type::TIMESTAMPTZ_ARRAY],
    columns: &[],
};

/// The rollups of one length of series in ranges of time, in their order.
pub const READ_ROLLUPS: Statement = Statement {
    name: "metrics.read_rollups",
    sql: concat!(
        "select ",
        rollup_columns!(),
        " from unnest($1::integer[], $3::timestamptz[], $4::timestamptz[]) with ordinality as n (id, since, until, ord)
          cross join lateral (
              select * from metric_rollups r
              where r.series_id = n.id and r.hours = $2 and r.bucket >= n.since and r.bucket < n.until
              order by r.bucket) r
          order by ord, bucket"
    ),
    params: &[
        Type::INT4_ARRAY,
        Type::INT2,
        Type::TIMESTAMPTZ_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
    ],
    columns: ROLLUP_COLUMNS,
};

/// All rollups of the days and weeks that a time lies in or of its hours, for series from `$1` and up to `$2`: of the
/// lengths `$3`, from `$4` and before `$5`, in order.
pub const READ_ALL_ROLLUPS: Statement = Statement {
    name: "metrics.read_all_rollups",
    sql: concat!(
        "select ",
        rollup_columns!(),
        " from metric_rollups
          where series_id between $1 and $2 and hours = any ($3) and bucket >= $4 and bucket < $5
          order by series_id, hours, bucket"
    ),
    params: &[
        Type::INT4,
        Type::INT4,
        Type::INT2_ARRAY,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
    ],
    columns: ROLLUP_COLUMNS,
};

/// The series that have rollups of a length in a range, in pieces: at most `$4` after `$5`.
pub const SERIES_WITH_ROLLUPS: Statement = Statement {
    name: "metrics.series_with_rollups",
    sql: "select distinct series_id from metric_rollups
          where hours = $1 and bucket >= $2 and bucket < $3 and series_id > $5
          order by series_id limit $4",
    params: &[
        Type::INT2,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::INT8,
        Type::INT4,
    ],
    columns: &[("series_id", Type::INT4)],
};

/// COPY of the samples of a range and of series from one number up to another, in the order of series and times. All
/// values are numbers.
pub fn copy_range(from: DateTime<Utc>, to: DateTime<Utc>, (first, last): (i32, i32)) -> String {
    format!(
        "copy (select series_id, sampled_at, value from system_metrics
               where sampled_at >= '{}' and sampled_at < '{}' and series_id between {first} and {last}
               order by series_id, sampled_at) to stdout (format binary)",
        from.to_rfc3339(),
        to.to_rfc3339()
    )
}

/// A series, and a range of time in it.
pub type Part = (i32, DateTime<Utc>, DateTime<Utc>);

/// COPY of the samples of parts of series, each with the part's place, from 0.
pub fn copy_parts(parts: &[Part]) -> String {
    let list = |each: fn(&Part) -> String| parts.iter().map(each).collect::<Vec<_>>().join(",");
    let first = parts.iter().map(|part| part.1).min().unwrap_or_default();
    let last = parts.iter().map(|part| part.2).max().unwrap_or_default();
    format!(
        "copy (select (ord - 1)::int4, sampled_at, value
               from unnest('{{{}}}'::int4[], '{{{}}}'::timestamptz[], '{{{}}}'::timestamptz[])
                    with ordinality as n (id, since, until, ord)
               cross join lateral (
                   select sampled_at, value from system_metrics m
                   where m.series_id = n.id and m.sampled_at >= n.since and m.sampled_at < n.until
                     and m.sampled_at >= '{}' and m.sampled_at < '{}'
                   order by sampled_at) m) to stdout (format binary)",
        list(|part| part.0.to_string()),
        list(|part| format!("\"{}\"", part.1.to_rfc3339())),
        list(|part| format!("\"{}\"", part.2.to_rfc3339())),
        first.to_rfc3339(),
        last.to_rfc3339(),
    )
}

/// How far rollups are made; nothing is locked.
pub const READ_STATE: Statement = Statement {
    name: "metrics.read_rollup_state",
    sql: "select rolled_before from metric_rollup_state",
    params: &[],
    columns: &[("rolled_before", Type::TIMESTAMPTZ)],
};

/// Begins the verification of a day (`$2` names it): late writers that have not ended are waited for, and later ones end it.
pub const BEGIN_VERIFYING: Statement = Statement {
    name: "metrics.begin_verifying",
    sql: "update metric_days set verifying = $2 where day = $1 and state = 'open'",
    params: &[Type::DATE, Type::UUID],
    columns: &[],
};

/// The day is verified, unless it was written into meanwhile.
pub const END_VERIFYING: Statement = Statement {
    name: "metrics.end_verifying",
    sql: "update metric_days set verifying = null, verified_at = $3 where day = $1 and verifying = $2",
    params: &[Type::DATE, Type::UUID, Type::TIMESTAMPTZ],
    columns: &[],
};

/// The marks of a range.
pub const READ_ALL_MARKS: Statement = Statement {
    name: "metrics.read_all_marks",
    sql: "select distinct series_id, hour from metric_marks where hour >= $1 and hour < $2",
    params: &[Type::TIMESTAMPTZ, Type::TIMESTAMPTZ],
    columns: &[("series_id", Type::INT4), ("hour", Type::TIMESTAMPTZ)],
};

/// The marks of series in a range.
pub const READ_MARKS: Statement = Statement {
    name: "metrics.read_marks",
    sql: "select distinct series_id, hour from metric_marks where series_id = any ($1) and hour >= $2 and hour < $3",
    params: &[Type::INT4_ARRAY, Type::TIMESTAMPTZ, Type::TIMESTAMPTZ],
    columns: &[("series_id", Type::INT4), ("hour", Type::TIMESTAMPTZ)],
};

/// The greatest number of a series.
pub const LAST_SERIES: Statement = Statement {
    name: "metrics.last_series",
    sql: "select coalesce(max(id), 0) as id from metric_series",
    params: &[],
    columns: &[("id", Type::INT4)],
};

/// Days that are rolled up and not verified, the oldest first: at most `$2` that end by `$1`.
pub const UNVERIFIED_DAYS: Statement = Statement {
    name: "metrics.unverified_days",
    sql: "select day from metric_days where state = 'open' and verified_at is null and day < $1 order by day limit $2",
    params: &[Type::DATE, Type::INT8],
    columns: &[("day", Type::DATE)],
};

/// Forgets requests from before a time.
pub const PRUNE_REQUESTS: Statement = Statement {
    name: "metrics.prune_requests",
    sql: "delete from metric_requests where created_at < $1",
    params: &[Type::TIMESTAMPTZ],
    columns: &[],
};

/// The figures of one series, without its sketches: of one length, from `$3` and before `$4`.
pub const READ_FIGURES: Statement = Statement {
    name: "metrics.read_figures",
    sql: "select bucket, count, sum + sum_low as sum, min, max, last, p50, p95, p99
          from metric_rollups
          where series_id = $1 and hours = $2 and bucket >= $3 and bucket < $4
          order by bucket",
    params: &[Type::INT4, Type::INT2, Type::TIMESTAMPTZ, Type::TIMESTAMPTZ],
    columns: &[
        ("bucket", Type::TIMESTAMPTZ),
        ("count", Type::INT8),
        ("sum", Type::FLOAT8),
        ("min", Type::FLOAT8),
        ("max", Type::FLOAT8),
        ("last", Type::FLOAT8),
        ("p50", Type::FLOAT8),
        ("p95", Type::FLOAT8),
        ("p99", Type::FLOAT8),
    ],
};

/// One statistic (`$4`: p50, p95, p99, avg, max) of each hour of series, from `$2` and before `$3`.
pub const READ_STATISTIC: Statement = Statement {
    name: "metrics.read_statistic",
    sql: "select series_id, bucket, count,
                 case $4 when 'p50' then p50 when 'p99' then p99 when 'avg' then (sum + sum_low) / count
                         when 'max' then max else p95 end as value
          from metric_rollups
          where series_id = any ($1) and hours = 1 and bucket >= $2 and bucket < $3
          order by series_id, bucket",
    params: &[
        Type::INT4_ARRAY,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::TEXT,
    ],
    columns: &[
        ("series_id", Type::INT4),
        ("bucket", Type::TIMESTAMPTZ),
        ("count", Type::INT8),
        ("value", Type::FLOAT8),
    ],
};

/// The series with the greatest figure (`$5`: avg, max, p95, sum, count) in the hours from `$3` and before `$4`, of a
/// service and a type where these are given. A p95 is the greatest of an hour.
pub const TOP: Statement = Statement {
    name: "metrics.top",
    sql: "select s.id, s.service_name, s.metric_type, s.unit, s.labels, t.count, t.sum, t.avg, t.min, t.max, t.p95
          from (select series_id, sum(count)::bigint as count, sum(sum + sum_low) as sum,
                       sum(sum + sum_low) / sum(count)::float8 as avg, min(min) as min, max(max) as max, max(p95) as p95
                from metric_rollups
                where hours = 1 and bucket >= $3 and bucket < $4
                group by series_id) t
          join metric_series s on s.id = t.series_id
          where ($1::text is null or s.service_name = $1) and ($2::text is null or s.metric_type = $2)
          order by case $5 when 'max' then t.max when 'p95' then t.p95 when 'sum' then t.sum
                           when 'count' then t.count::float8 else t.avg end desc, s.id
          limit $6",
    params: &[
        Type::TEXT,
        Type::TEXT,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::TEXT,
        Type::INT8,
    ],
    columns: &[
        ("id", Type::INT4),
        ("service_name", Type::TEXT),
        ("metric_type", Type::TEXT),
        ("unit", Type::TEXT),
        ("labels", Type::JSONB),
        ("count", Type::INT8),
        ("sum", Type::FLOAT8),
        ("avg", Type::FLOAT8),
        ("min", Type::FLOAT8),
        ("max", Type::FLOAT8),
        ("p95", Type::FLOAT8),
    ],
};

/// The extremes and the last sample of each hour of a series, from `$2` and before `$3`.
pub const READ_EXTREMES: Statement = Statement {
    name: "metrics.read_extremes",
    sql: "select bucket, min, min_at, max, max_at, last, last_at
          from metric_rollups
          where series_id = $1 and hours = 1 and bucket >= $2 and bucket < $3
          order by bucket",
    params: &[Type::INT4, Type::TIMESTAMPTZ, Type::TIMESTAMPTZ],
    columns: &[
        ("bucket", Type::TIMESTAMPTZ),
        ("min", Type::FLOAT8),
        ("min_at", Type::TIMESTAMPTZ),
        ("max", Type::FLOAT8),
        ("max_at", Type::TIMESTAMPTZ),
        ("last", Type::FLOAT8),
        ("last_at", Type::TIMESTAMPTZ),
    ],
};
