//! The SQL of series: finding and making them.

use tokio_postgres::types::Type;

use crate::db::Statement;

/// Which table of series this is. Numbers of series hold in it only: a restored database may give them again, also one whose
/// files were put back while its server was stopped.
pub const IDENTITY: Statement = Statement {
    name: "metrics.identity",
    sql: "select concat_ws('-', (select system_identifier from pg_control_system()),
              left(pg_walfile_name(pg_current_wal_lsn()), 8),
              (select oid from pg_database where datname = current_database()),
              pg_relation_filenode('metric_series'), pg_postmaster_start_time()) as identity",
    params: &[],
    columns: &[("identity", Type::TEXT)],
};

/// The numbers of series with these names (services, types, units, labels); `ord` counts from 1, what does not exist is
/// left out.
pub const FIND_SERIES: Statement = Statement {
    name: "metrics.find_series",
    sql: "select n.ord, s.id
          from unnest($1::text[], $2::text[], $3::text[], $4::jsonb[]) with ordinality
               as n (service_name, metric_type, unit, labels, ord)
          join metric_series s on s.service_name = n.service_name and s.metric_type = n.metric_type and s.unit = n.unit
               and s.labels_digest = md5(n.labels::text)::uuid and s.labels = n.labels",
    params: &[
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::JSONB_ARRAY,
    ],
    columns: &[("ord", Type::INT8), ("id", Type::INT4)],
};

/// Locks a service, so that one at a time makes series of it.
pub const FIND_SERVICE: Statement = Statement {
    name: "metrics.find_service",
    sql: "select service_name from metric_services where service_name = $1 for update",
    params: &[Type::TEXT],
    columns: &[("service_name", Type::TEXT)],
};

/// Makes a service, at a time, unless there are `$3` of them.
pub const MAKE_SERVICE: Statement = Statement {
    name: "metrics.make_service",
    sql: "insert into metric_services (service_name, created_at)
          select $1, $2 where (select count(*) from metric_services) < $3
          on conflict (service_name) do nothing",
    params: &[Type::TEXT, Type::TIMESTAMPTZ, Type::INT8],
    columns: &[],
};

/// Makes series of one service, whose row is locked: as many of those that do not exist as it may have in all (`$6`).
pub const MAKE_SERIES: Statement = Statement {
    name: "metrics.make_series",
    sql: "insert into metric_series (service_name, metric_type, unit, labels, created_at)
          select $1, n.metric_type, n.unit, n.labels, $5
          from unnest($2::text[], $3::text[], $4::jsonb[]) with ordinality as n (metric_type, unit, labels, ord)
          where not exists (
              select from metric_series s
              where s.service_name = $1 and s.metric_type = n.metric_type and s.unit = n.unit
                and s.labels_digest = md5(n.labels::text)::uuid)
          order by n.ord
          limit greatest(0, $6 - (select count(*) from metric_series where service_name = $1))
          on conflict on constraint metric_series_identity do nothing",
    params: &[
        Type::TEXT,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::JSONB_ARRAY,
        Type::TIMESTAMPTZ,
        Type::INT8,
    ],
    columns: &[],
};

/// What a service's many series come from: the labels with the most values, each with the type that has most of them.
pub const WORST_LABELS: Statement = Statement {
    name: "metrics.worst_labels",
    sql: "select label, count(distinct value) as value_count, mode() within group (order by metric_type) as metric_type
          from metric_series, jsonb_each_text(labels) as l (label, value)
          where service_name = $1
          group by label order by 2 desc, 1 limit 3",
    params: &[Type::TEXT],
    columns: &[
        ("label", Type::TEXT),
        ("value_count", Type::INT8),
        ("metric_type", Type::TEXT),
    ],
};

/// The series of services and types (`ord` from 1; one row without an id for a pair without series), with the snapshot.
pub const LOAD_SERIES: Statement = Statement {
    name: "metrics.load_series",
    sql: "select n.ord, s.id, s.service_name, s.metric_type, s.unit, s.labels, pg_current_snapshot()::text as snapshot
          from unnest($1::text[], $2::text[]) with ordinality as n (service_name, metric_type, ord)
          left join metric_series s on s.service_name = n.service_name and s.metric_type = n.metric_type
          order by n.ord, s.id",
    params: &[Type::TEXT_ARRAY, Type::TEXT_ARRAY],
    columns: &[
        ("ord", Type::INT8),
        ("id", Type::INT4),
        ("service_name", Type::TEXT),
        ("metric_type", Type::TEXT),
        ("unit", Type::TEXT),
        ("labels", Type::JSONB),
        ("snapshot", Type::TEXT),
    ],
};

const SERIES_COLUMNS: &[(&str, Type)] = &[
    ("id", Type::INT4),
    ("service_name", Type::TEXT),
    ("metric_type", Type::TEXT),
    ("unit", Type::TEXT),
    ("labels", Type::JSONB),
];

/// Series after `$5` with these names, where they are given (service, type, unit, labels), `$6` at most. To be planned for
/// its values, so that what is not given is no condition.
pub const MATCH_SERIES: Statement = Statement {
    name: "metrics.match_series",
    sql: "select id, service_name, metric_type, unit, labels from metric_series
          where ($1::text is null or service_name = $1) and ($2::text is null or metric_type = $2)
            and ($3::text is null or unit = $3) and labels @> $4 and id > $5
          order by id limit $6",
    params: &[
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::JSONB,
        Type::INT4,
        Type::INT8,
    ],
    columns: SERIES_COLUMNS,
};

/// Series by their numbers.
pub const SERIES_BY_ID: Statement = Statement {
    name: "metrics.series_by_id",
    sql: "select id, service_name, metric_type, unit, labels from metric_series where id = any($1)",
    params: &[Type::INT4_ARRAY],
    columns: SERIES_COLUMNS,
};

/// The services after `$1`, `$2` at most, with how many series each has.
pub const LIST_SERVICES: Statement = Statement {
    name: "metrics.list_services",
    sql: "select s.service_name, s.created_at, n.series, n.types
          from (select service_name, created_at from metric_services where service_name > $1
                order by service_name limit $2) s
          cross join lateral (
              select count(*) as series, count(distinct r.metric_type) as types
              from metric_series r where r.service_name = s.service_name) n
          order by s.service_name",
    params: &[Type::TEXT, Type::INT8],
    columns: &[
        ("service_name", Type::TEXT),
        ("created_at", Type::TIMESTAMPTZ),
        ("series", Type::INT8),
        ("types", Type::INT8),
    ],
};

/// The types of a service that have the most series.
pub const WORST_TYPES: Statement = Statement {
    name: "metrics.worst_types",
    sql: "select metric_type, count(*) as series from metric_series where service_name = $1
          group by metric_type order by 2 desc, 1 limit 3",
    params: &[Type::TEXT],
    columns: &[("metric_type", Type::TEXT), ("series", Type::INT8)],
};
