//! The SQL of the criteria. Each statement reads a bounded part of a table by an index of it, or the catalogue.

use tokio_postgres::types::Type;

use crate::db::Statement;

/// Every statement of the criteria.
pub const ALL: &[&Statement] = &[
    &ADD_FACTS,
    &READ_FACTS,
    &PRUNE_FACTS,
    &TASKS,
    &ROWS,
    &CATALOGUE,
    &MIGRATIONS,
    &OVERDUE,
    &ARCHIVES,
    &FAILURES,
    &UNTOLD,
    &STATES,
    &SET_STATE,
    &CHANGES,
    &PRUNE_CHANGES,
    &PROBES,
    &BEGIN_PROBE,
    &LOSE_PROBES,
    &RENEW_PROBE,
    &END_PROBE,
    &PRUNE_PROBES,
    &OVER_PROBES,
];

/// A process's own counts, as they are by now: sent again, it changes nothing.
pub(super) const ADD_FACTS: Statement = Statement {
    name: "slo.add_facts",
    sql: "insert into slo_facts as f (meter, width_seconds, bucket_at, instance, counts, worst)
          select meter, width_seconds, bucket_at, $4, counts::bigint[], worst
          from unnest($1::text[], $2::integer[], $3::timestamptz[], $5::text[], $6::bigint[])
               as measured (meter, width_seconds, bucket_at, counts, worst)
          on conflict (width_seconds, bucket_at, meter, instance) do update
              set counts = excluded.counts, worst = excluded.worst
              where (f.counts, f.worst) is distinct from (excluded.counts, excluded.worst)",
    params: &[
        Type::TEXT_ARRAY,
        Type::INT4_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::UUID,
        Type::TEXT_ARRAY,
        Type::INT8_ARRAY,
    ],
    columns: &[],
};

/// The hours of a window, and the last minutes. What is ahead of now was measured by a clock that is wrong.
pub(super) const READ_FACTS: Statement = Statement {
    name: "slo.read_facts",
    sql: "select meter, width_seconds, bucket_at, instance, counts, worst from slo_facts
          where (width_seconds = 3600 and bucket_at >= $1 and bucket_at <= $3)
             or (width_seconds = 60 and bucket_at >= $2 and bucket_at <= $3)",
    params: &[Type::TIMESTAMPTZ, Type::TIMESTAMPTZ, Type::TIMESTAMPTZ],
    columns: &[
        ("meter", Type::TEXT),
        ("width_seconds", Type::INT4),
        ("bucket_at", Type::TIMESTAMPTZ),
        ("instance", Type::UUID),
        ("counts", Type::INT8_ARRAY),
        ("worst", Type::INT8),
    ],
};

pub(super) const PRUNE_FACTS: Statement = Statement {
    name: "slo.prune_facts",
    sql: "delete from slo_facts
          where (width_seconds = 60 and bucket_at < $1) or (width_seconds = 3600 and bucket_at < $2)",
    params: &[Type::TIMESTAMPTZ, Type::TIMESTAMPTZ],
    columns: &[],
};

/// The tasks that a criterion is about, with their last slots by schedule.
pub(super) const TASKS: Statement = Statement {
    name: "slo.tasks",
    sql: "select t.task, t.cadence, t.first_seen_at, t.enabled,
                 n.slot_at, n.state, n.started_at, n.finished_at, n.error,
                 s.finished_at as succeeded_at
          from schedule_tasks t
          left join lateral (
              select slot_at, state, started_at, finished_at, error from schedule_slots
              where task = t.task and not on_demand order by slot_at desc limit 1
          ) n on true
          left join lateral (
              select finished_at from schedule_slots
              where task = t.task and state = 'succeeded' order by slot_at desc limit 1
          ) s on true
          where t.task = any ($1)",
    params: &[Type::TEXT_ARRAY],
    columns: &[
        ("task", Type::TEXT),
        ("cadence", Type::TEXT),
        ("first_seen_at", Type::TIMESTAMPTZ),
        ("enabled", Type::BOOL),
        ("slot_at", Type::TIMESTAMPTZ),
        ("state", Type::TEXT),
        ("started_at", Type::TIMESTAMPTZ),
        ("finished_at", Type::TIMESTAMPTZ),
        ("error", Type::TEXT),
        ("succeeded_at", Type::TIMESTAMPTZ),
    ],
};

/// What the slices' newest rows are like: at most 10,000 of each kind.
pub(super) const ROWS: Statement = Statement {
    name: "slo.rows",
    sql: "select j.*, c.*, f.*,
                 exists (select from system_metrics where sampled_at >= $1 and sampled_at <= $2) as has_samples,
                 (select rolled_before from metric_rollup_state) as rolled_before
          from (select count(*) as jobs, min(started_at) as jobs_from,
                       count(*) filter (where status not in ('running', 'paused', 'completed', 'failed', 'cancelled')) as without_status,
                       count(*) filter (where status = 'completed') as completed,
                       count(*) filter (where status = 'completed' and (completed_at is null or completed_at < started_at)) as without_end,
                       count(*) filter (where status = 'failed') as failed,
                       count(*) filter (where status = 'failed' and coalesce(btrim(error_message), '') = '') as without_error
                from (select status, started_at, completed_at, error_message from backfill_jobs
                      where started_at >= $1 order by started_at desc limit 10000) jobs) j,
               (select count(*) as comments, min(updated_at) as comments_from,
                       count(*) filter (where commented_at is null or coalesce(btrim(user_id), '') = '') as without_author
                from (select updated_at, commented_at, user_id from insight_feedback
                      where comment is not null and updated_at >= $1 order by updated_at desc limit 10000) comments) c,
               (select count(*) as flags, min(updated_at) as flags_from,
                       count(*) filter (where flagged_at is null
                           or flag_type not in ('inaccurate', 'misleading', 'spam', 'inappropriate', 'other')) as without_type
                from (select updated_at, flagged_at, flag_type from insight_feedback
                      where flag_type is not null and updated_at >= $1 order by updated_at desc limit 10000) flags) f",
    params: &[Type::TIMESTAMPTZ, Type::TIMESTAMPTZ],
    columns: &[
        ("jobs", Type::INT8),
        ("jobs_from", Type::TIMESTAMPTZ),
        ("without_status", Type::INT8),
        ("completed", Type::INT8),
        ("without_end", Type::INT8),
        ("failed", Type::INT8),
        ("without_error", Type::INT8),
        ("comments", Type::INT8),
        ("comments_from", Type::TIMESTAMPTZ),
        ("without_author", Type::INT8),
        ("flags", Type::INT8),
        ("flags_from", Type::TIMESTAMPTZ),
        ("without_type", Type::INT8),
        ("has_samples", Type::BOOL),
        ("rolled_before", Type::TIMESTAMPTZ),
    ],
};

/// What keeps the guarantees, by name: constraints that are validated, triggers that fire, columns that are generated or not null;
/// and how samples are divided.
pub(super) const CATALOGUE: Statement = Statement {
    name: "slo.catalogue",
    sql: "select array(select r.conname::text from pg_constraint r join pg_class c on c.oid = r.conrelid
                       where r.connamespace = 'public'::regnamespace and r.convalidated and not c.relispartition) as constraints,
                 array(select c.relname || '.' || t.tgname from pg_trigger t join pg_class c on c.oid = t.tgrelid
                       where c.relnamespace = 'public'::regnamespace and not t.tgisinternal and t.tgenabled in ('O', 'A')
                             and not c.relispartition) as triggers,
                 array(select c.relname || '.' || a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid
                       where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
                             and a.attnum > 0 and a.attgenerated = 's') as generated,
                 array(select c.relname || '.' || a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid
                       where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
                             and a.attnum > 0 and a.attnotnull and not a.attisdropped) as required,
                 array(select c.relname::text from pg_index i join pg_class c on c.oid = i.indexrelid
                       where c.relnamespace = 'public'::regnamespace and i.indisvalid and not c.relispartition) as indexes,
                 (select p.partstrat = 'r' and a.attname = 'sampled_at' from pg_partitioned_table p
                  join pg_attribute a on a.attrelid = p.partrelid and a.attnum = p.partattrs[0]
                  where p.partrelid = to_regclass('public.system_metrics') and p.partnatts = 1) as is_divided,
                 (select p.partdefid <> 0 from pg_partitioned_table p
                  where p.partrelid = to_regclass('public.system_metrics')) as has_default,
                 array(select pg_get_expr(c.relpartbound, c.oid) from pg_inherits i join pg_class c on c.oid = i.inhrelid
                       where i.inhparent = to_regclass('public.system_metrics')) as partitions",
    params: &[],
    columns: &[
        ("constraints", Type::TEXT_ARRAY),
        ("triggers", Type::TEXT_ARRAY),
        ("generated", Type::TEXT_ARRAY),
        ("required", Type::TEXT_ARRAY),
        ("indexes", Type::TEXT_ARRAY),
        ("is_divided", Type::BOOL),
        ("has_default", Type::BOOL),
        ("partitions", Type::TEXT_ARRAY),
    ],
};

/// What was applied.
pub(super) const MIGRATIONS: Statement = Statement {
    name: "slo.migrations",
    sql: "select number, name, up_checksum, applied_at, btrim(down_sql) <> '' as has_way_back from schema_migrations order by number",
    params: &[],
    columns: &[
        ("number", Type::INT4),
        ("name", Type::TEXT),
        ("up_checksum", Type::TEXT),
        ("applied_at", Type::TIMESTAMPTZ),
        ("has_way_back", Type::BOOL),
    ],
};

/// What retention should have moved or deleted by now (migration 0015).
pub(super) const OVERDUE: Statement = Statement {
    name: "slo.overdue",
    sql: "select what, due, oldest from slo_overdue($1, $2, $3, $4, $5)",
    params: &[
        Type::DATE,
        Type::DATE,
        Type::DATE,
        Type::DATE,
        Type::TIMESTAMPTZ,
    ],
    columns: &[
        ("what", Type::TEXT),
        ("due", Type::INT8),
        ("oldest", Type::DATE),
    ],
};

/// The newest archives of each dataset, at most 200 of each: whether what was done with each is in the audit log.
pub(super) const ARCHIVES: Statement = Statement {
    name: "slo.archives",
    sql: "select d.dataset, count(a.id) as looked_at, min(a.at) as from_at, max(a.archived_at) as archived_at,
                 count(*) filter (where a.deleted_unproved) as deleted_unproved,
                 count(*) filter (where a.id is not null and not exists (
                     select from audit_log l where l.subject = a.subject and l.action = 'archive'
                                                   and position(a.id::text in l.details) > 0)) as archived_unlogged,
                 count(*) filter (where a.is_deleted and not exists (
                     select from audit_log l where l.subject = a.subject and l.action in ('drop', 'delete')
                                                   and position(a.id::text in l.details) > 0)) as deleted_unlogged,
                 count(*) filter (where a.is_expired and not exists (
                     select from audit_log l where l.subject = a.subject and l.action = 'expire'
                                                   and position(a.id::text in l.details) > 0)) as expired_unlogged
          from unnest(array['metrics', 'backfill_jobs', 'feedback', 'feedback_history']) as d (dataset)
          left join lateral (
              select r.id, r.archived_at, coalesce(r.ended_at, r.archived_at, r.proved_at, r.began_at) as at,
                     r.dataset || '/' || to_char(r.day, 'YYYY-MM-DD') as subject,
                     r.archived_at is not null and r.replaces is null as is_deleted, r.state = 'expired' as is_expired,
                     r.archived_at is not null and (r.proved_at is null or r.proved_at > r.archived_at) as deleted_unproved
              from archives r where r.dataset = d.dataset and (r.proved_at is not null or r.archived_at is not null)
              order by coalesce(r.ended_at, r.archived_at, r.proved_at, r.began_at) desc limit 200
          ) a on true
          group by d.dataset",
    params: &[],
    columns: &[
        ("dataset", Type::TEXT),
        ("looked_at", Type::INT8),
        ("from_at", Type::TIMESTAMPTZ),
        ("archived_at", Type::TIMESTAMPTZ),
        ("deleted_unproved", Type::INT8),
        ("archived_unlogged", Type::INT8),
        ("deleted_unlogged", Type::INT8),
        ("expired_unlogged", Type::INT8),
    ],
};

/// The backups that failed since a time, and when an alert about each was opened, and first taken by somebody: alerts about a run are
/// named after its slot, or its id.
pub(super) const FAILURES: Statement = Statement {
    name: "slo.failures",
    sql: "select b.id, b.started_at, b.ended_at, a.opened_at, coalesce(a.is_taken, false) as is_taken
          from (select id, started_at, ended_at,
                       coalesce(to_char(slot_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI\"Z\"'), replace(id::text, '-', '')) as name
                from backups where state in ('failed', 'abandoned') and started_at >= $1 order by started_at desc limit 50) b
          left join lateral (
              select min(o.opened_at) as opened_at,
                     bool_or(exists (select from alert_deliveries d where d.alert_id = o.id and d.what = 'firing'
                                                                        and d.deliveries > 0 and d.sink <> 'log')) as is_taken
              from alerts o where o.source = 'backups' and o.opened_at >= b.started_at and o.key like '%:' || b.name
          ) a on true",
    params: &[Type::TIMESTAMPTZ],
    columns: &[
        ("id", Type::UUID),
        ("started_at", Type::TIMESTAMPTZ),
        ("ended_at", Type::TIMESTAMPTZ),
        ("opened_at", Type::TIMESTAMPTZ),
        ("is_taken", Type::BOOL),
    ],
};

/// When the backups were last looked at, and how many alerts about them that are open since before a time nobody has taken.
pub(super) const UNTOLD: Statement = Statement {
    name: "slo.untold",
    sql: "select (select observed_at from alert_sources where source = 'backups') as observed_at,
                 (select count(*) from alerts o
                  where o.source = 'backups' and o.resolved_at is null and o.opened_at < $1
                        and not exists (select from alert_deliveries d where d.alert_id = o.id and d.what = 'firing'
                                                                           and d.deliveries > 0 and d.sink <> 'log')) as untold",
    params: &[Type::TIMESTAMPTZ],
    columns: &[("observed_at", Type::TIMESTAMPTZ), ("untold", Type::INT8)],
};

pub(super) const STATES: Statement = Statement {
    name: "slo.states",
    sql: "select criterion, state, since_at from slo_states",
    params: &[],
    columns: &[
        ("criterion", Type::TEXT),
        ("state", Type::TEXT),
        ("since_at", Type::TIMESTAMPTZ),
    ],
};

/// Notes the states that are others than before. The rows lock each other out in the order of their criteria, so that of several
/// processes that see a change one notes it.
pub(super) const SET_STATE: Statement = Statement {
    name: "slo.set_state",
    sql: "with judged as (
              select criterion, state, summary from unnest($1::text[], $2::text[], $3::text[]) as j (criterion, state, summary)
              order by criterion),
          set as (
              insert into slo_states as s (criterion, state, since_at) select criterion, state, $4 from judged
              on conflict (criterion) do update set state = excluded.state, since_at = excluded.since_at
                  where s.state <> excluded.state and s.since_at <= excluded.since_at
              returning criterion)
          insert into slo_changes (criterion, state, changed_at, summary)
          select criterion, state, $4, left(summary, 2000) from judged join set using (criterion)",
    params: &[
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TIMESTAMPTZ,
    ],
    columns: &[],
};

/// The latest changes of a criterion.
pub(super) const CHANGES: Statement = Statement {
    name: "slo.changes",
    sql: "select state, changed_at, summary from slo_changes where criterion = $1 order by id desc limit 50",
    params: &[Type::TEXT],
    columns: &[
        ("state", Type::TEXT),
        ("changed_at", Type::TIMESTAMPTZ),
        ("summary", Type::TEXT),
    ],
};

pub(super) const PRUNE_CHANGES: Statement = Statement {
    name: "slo.prune_changes",
    sql: "delete from slo_changes where changed_at < $1",
    params: &[Type::TIMESTAMPTZ],
    columns: &[],
};

macro_rules! probe {
    () => {
        "id, started_at, started_by, lease_expires_at, ended_at, outcome, steps, error"
    };
}

const PROBE: &[(&str, Type)] = &[
    ("id", Type::UUID),
    ("started_at", Type::TIMESTAMPTZ),
    ("started_by", Type::TEXT),
    ("lease_expires_at", Type::TIMESTAMPTZ),
    ("ended_at", Type::TIMESTAMPTZ),
    ("outcome", Type::TEXT),
    ("steps", Type::JSONB),
    ("error", Type::TEXT),
];

/// The newest probes.
pub(super) const PROBES: Statement = Statement {
    name: "slo.probes",
    sql: concat!(
        "select ",
        probe!(),
        " from slo_probes order by started_at desc, id desc limit $1"
    ),
    params: &[Type::INT8],
    columns: PROBE,
};

/// Begins one, unless another goes on.
pub(super) const BEGIN_PROBE: Statement = Statement {
    name: "slo.begin_probe",
    sql: "insert into slo_probes (id, started_at, started_by, lease_expires_at) values ($1, $2, $3, $4)
          on conflict ((ended_at is null)) where ended_at is null do nothing returning id",
    params: &[Type::UUID, Type::TIMESTAMPTZ, Type::TEXT, Type::TIMESTAMPTZ],
    columns: &[("id", Type::UUID)],
};

/// Gives up those that are not heard of any more.
pub(super) const LOSE_PROBES: Statement = Statement {
    name: "slo.lose_probes",
    sql: "update slo_probes set ended_at = greatest($1, started_at), outcome = 'lost', error = 'its process was not heard of any more'
          where ended_at is null and lease_expires_at <= $1",
    params: &[Type::TIMESTAMPTZ],
    columns: &[],
};

pub(super) const RENEW_PROBE: Statement = Statement {
    name: "slo.renew_probe",
    sql: "update slo_probes set lease_expires_at = $2 where id = $1 and ended_at is null returning id",
    params: &[Type::UUID, Type::TIMESTAMPTZ],
    columns: &[("id", Type::UUID)],
};

pub(super) const END_PROBE: Statement = Statement {
    name: "slo.end_probe",
    sql: "update slo_probes set ended_at = greatest($2, started_at), outcome = $3, steps = $4, error = left($5, 4000)
          where id = $1 and ended_at is null returning id",
    params: &[
        Type::UUID,
        Type::TIMESTAMPTZ,
        Type::TEXT,
        Type::JSONB,
        Type::TEXT,
    ],
    columns: &[("id", Type::UUID)],
};

/// Deletes what ended before a time, but for the newest ten: they may be all there is to judge by.
pub(super) const PRUNE_PROBES: Statement = Statement {
    name: "slo.prune_probes",
    sql: "delete from slo_probes where ended_at < $1
          and id not in (select id from slo_probes order by started_at desc, id desc limit 10)",
    params: &[Type::TIMESTAMPTZ],
    columns: &[],
};

/// Which of these are over.
pub(super) const OVER_PROBES: Statement = Statement {
    name: "slo.probes_over",
    sql: "select id from slo_probes where id = any ($1) and ended_at is not null",
    params: &[Type::UUID_ARRAY],
    columns: &[("id", Type::UUID)],
};

/// The scratch databases on the server of the probes; asked there.
pub const SCRATCH: &str = "select datname::text as name from pg_database
    where datname ~ '^utxoiq_canary_[0-9a-f]{32}$' and pg_has_role(current_user, datdba, 'usage') order by name";
