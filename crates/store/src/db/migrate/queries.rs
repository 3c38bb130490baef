//! The migrator's SQL.

use tokio_postgres::types::Type;

use crate::db::Statement;

/// The key of the advisory lock that a migrator holds; the same in every database, where it locks only that one.
pub(super) const LOCK_KEY: i64 = 0x7574_786f_6971_6d67;

pub(super) const TRY_LOCK: &str = "select pg_try_advisory_lock($1)";

/// The migrator's own table. It is made here and not by a migration, because the first migration is recorded in it.
pub(super) const CREATE_TABLE: &str = "
create table if not exists public.schema_migrations (
    number                integer primary key,
    name                  text        not null,
    up_checksum           text        not null,
    down_checksum         text        not null,
    down_sql              text        not null,
    backward_compatible   boolean     not null,
    catalogue             text        not null,
    applied_at            timestamptz not null,
    applied_by            text        not null,
    duration_milliseconds bigint      not null,
    constraint schema_migrations_number_positive check (number > 0),
    constraint schema_migrations_duration_not_negative check (duration_milliseconds >= 0)
)";

/// Who may read it: the application to judge the schema, backup and retention to record its version.
pub(super) const GRANT_TABLE: &str = "
grant select on public.schema_migrations to utxoiq_app, utxoiq_retention, utxoiq_backup";

pub(super) const TABLE_EXISTS: &str = "select to_regclass('public.schema_migrations') is not null";

pub(super) const HISTORY: &str = "
select number, name, up_checksum, down_checksum, backward_compatible, applied_at, applied_by, duration_milliseconds
from public.schema_migrations order by number";

pub(super) const RECORD: &str = "
insert into public.schema_migrations
    (number, name, up_checksum, down_checksum, down_sql, backward_compatible, catalogue, applied_at, applied_by,
     duration_milliseconds)
values ($1, $2, $3, $4, $5, $6, $7, $8, session_user, $9)";

/// The newest migration, with the catalogue recorded by the one before it.
pub(super) const NEWEST: &str = "
select newest.number, newest.name, newest.down_sql, newest.catalogue, previous.catalogue as catalogue_before
from public.schema_migrations newest
    left join public.schema_migrations previous on previous.number = newest.number - 1
order by newest.number desc
limit 1";

pub(super) const NEWEST_CATALOGUE: &str = "
select catalogue from public.schema_migrations order by number desc limit 1";

pub(super) const FORGET: &str = "delete from public.schema_migrations where number = $1";

/// Every table that holds rows of its own, and partitioned ones, a row a column; names are quoted where they must be.
pub(super) const TABLES_AND_COLUMNS: &str = "
select c.oid, format('%I.%I', n.nspname, c.relname) as name,
       (select inhparent from pg_inherits where inhrelid = c.oid limit 1) as parent,
       c.relfilenode as filenode, pg_stat_get_xact_tuples_deleted(c.oid) as deleted,
       a.attnum as number, quote_ident(a.attname) as column, format_type(a.atttypid, a.atttypmod) as type
from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relkind in ('r', 'p') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
  and c.oid <> 'public.schema_migrations'::regclass";

/// Whether an index of that name is there and not valid.
pub(super) const INDEX_IS_INVALID: &str = "
select exists (
    select from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'public' and c.relname = $1::text and not i.indisvalid
)";

/// Up to three others that hold locks on tables of this database, those with the oldest transaction first, as text.
/// What a role may not know of others is left out.
pub(super) const HOLDERS: &str = "
select format('process %s', pid)
       || coalesce(', ' || nullif(application_name, ''), '')
       || coalesce(format(', open for %s s', extract(epoch from clock_timestamp() - xact_start)::bigint), '')
from (
    select distinct l.pid
    from pg_locks l join pg_database d on d.oid = l.database
    where d.datname = current_database() and l.locktype = 'relation' and l.granted
      and l.pid <> pg_backend_pid() and l.relation >= 16384
) as holders
left join pg_stat_activity using (pid)
order by xact_start nulls last
limit 3";

/// What a process must know before it serves.
pub static SCHEMA_VERSION: Statement = Statement {
    name: "migrate.schema_version",
    sql: "select number, name, up_checksum, backward_compatible from schema_migrations order by number",
    params: &[],
    columns: &[
        ("number", Type::INT4),
        ("name", Type::TEXT),
        ("up_checksum", Type::TEXT),
        ("backward_compatible", Type::BOOL),
    ],
};

/// Every statement of this module that a running service uses.
pub static STATEMENTS: &[&Statement] = &[&SCHEMA_VERSION];
