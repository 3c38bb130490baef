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

/// Whether an index of that name is there and not valid.
pub(super) const INDEX_IS_INVALID: &str = "
select exists (
    select from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'public' and c.relname = $1::text and not i.indisvalid
)";

/// Up to three open transactions of others in this database, the oldest first, as text.
pub(super) const OLDEST_TRANSACTIONS: &str = "
select format('process %s, %s, open for %s s', pid, coalesce(nullif(application_name, ''), 'unnamed'),
              extract(epoch from clock_timestamp() - xact_start)::bigint)
from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and xact_start is not null
order by xact_start
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
