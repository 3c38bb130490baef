//! What is asked of, and done to, a database that is restored into.

use tokio_postgres::types::Type;

use crate::db::{Statement, roles};

/// What a database that is restored into must be like: empty, new enough, with all roles, and with somebody who may act as them.
pub const READY: Statement = Statement {
    name: "backup.target",
    sql: "with objects as (
              select n.nspname, c.relname as name, 'pg_class'::regclass::oid as of, c.oid from pg_class c
              join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f', 'c')
              union all
              select n.nspname, p.proname, 'pg_proc'::regclass, p.oid from pg_proc p
              join pg_namespace n on n.oid = p.pronamespace
              union all
              select n.nspname, t.typname, 'pg_type'::regclass, t.oid from pg_type t
              join pg_namespace n on n.oid = t.typnamespace where t.typtype in ('d', 'e', 'r')
              union all
              select nspname, '', 'pg_namespace'::regclass, oid from pg_namespace where nspname <> 'public')
          select current_setting('server_version_num')::int4 as server_version_num,
                 (select string_agg(left(trim(trailing '.' from nspname || '.' || name), 100), ', ')
                  from (select o.* from objects o
                        where o.nspname !~ '^pg_' and o.nspname <> 'information_schema'
                          and not exists (select from pg_depend d
                                          where d.classid = o.of and d.objid = o.oid and d.deptype = 'e')
                        order by nspname, name limit 5) as first_five) as found,
                 (select string_agg(role, ', ') from unnest($1::text[]) as role
                  where not exists (select from pg_roles where rolname = role)) as missing_roles,
                 (select coalesce(bool_and(pg_has_role(current_user, rolname, 'usage')
                                           and has_schema_privilege(rolname, 'public', 'create')), false)
                  from pg_roles where rolname = any ($2::text[])) as may_act,
                 (select coalesce(array_agg(extname::text order by extname), '{}') from pg_extension
                  where extname <> 'plpgsql') as extensions",
    params: &[Type::TEXT_ARRAY, Type::TEXT_ARRAY],
    columns: &[
        ("server_version_num", Type::INT4),
        ("found", Type::TEXT),
        ("missing_roles", Type::TEXT),
        ("may_act", Type::BOOL),
        ("extensions", Type::TEXT_ARRAY),
    ],
};

/// Only one restore at a time goes into a database: held by a session, to its end.
pub const LOCK: Statement = Statement {
    name: "backup.lock_target",
    sql: "select pg_try_advisory_lock(6149402873025102194) as locked",
    params: &[],
    columns: &[("locked", Type::BOOL)],
};

/// Whether a restore by the sessions of this name moves: something of theirs is being executed and waits neither for a lock nor
/// for pg_restore; and how far they have copied and indexed.
pub const MOVES: Statement = Statement {
    name: "backup.target_moves",
    sql: "select exists (select from pg_stat_activity
                         where datname = current_database() and application_name = $1 and state = 'active'
                           and coalesce(wait_event_type, '') not in ('Lock', 'Client')) as is_busy,
                 (select coalesce(sum(bytes_processed), 0)::int8 from pg_stat_progress_copy
                  where datname = current_database())
               + (select coalesce(sum(blocks_done + tuples_done), 0)::int8 from pg_stat_progress_create_index
                  where datname = current_database()) as done",
    params: &[Type::TEXT],
    columns: &[("is_busy", Type::BOOL), ("done", Type::INT8)],
};

/// The valid B-tree indexes, to be checked one by one.
pub const BTREES: Statement = Statement {
    name: "backup.btrees",
    sql: "select i.indexrelid as oid, format('%I.%I', n.nspname, c.relname) as name
          from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
          join pg_am a on a.oid = c.relam
          where a.amname = 'btree' and c.relkind = 'i' and c.relpersistence <> 't' and i.indisready and i.indisvalid
            and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
          order by name",
    params: &[],
    columns: &[("oid", Type::OID), ("name", Type::TEXT)],
};

/// The settings of pg_restore's sessions. Commits need not wait for the disk: the one that ends a restore waits for all of them.
pub const OPTIONS: &str = "-c synchronous_commit=off -c maintenance_work_mem=128MB";

/// The extension that checks indexes. What it checks is rolled back with it.
pub const AMCHECK: &str = "create extension if not exists amcheck";

/// Checks an index; an error says what is wrong with it.
pub const CHECK_BTREE: &str = "select bt_index_check($1::oid::regclass)";

/// The SQL that makes an extension as the owner of all tables, whom it belongs to then.
pub fn create_extension(name: &str, owner: &str) -> String {
    format!(
        "set role {owner}; create extension if not exists {}; reset role",
        quoted(name)
    )
}

/// The SQL for the greatest value in a column; both names are quoted.
pub fn greatest(table: &str, column: &str) -> String {
    format!("select max({column})::int8 as greatest from {table}")
}

/// The SQL that makes what is read from a table cheap, and its plans good; the name is quoted.
pub fn vacuum(table: &str) -> String {
    format!("vacuum (analyze, skip_locked) {table}")
}

/// The SQL that makes a database with nothing in it, into which nobody but its maker comes.
pub fn create_database(name: &str) -> [String; 2] {
    [
        format!(
            "create database {} template template0 encoding 'UTF8'",
            quoted(name)
        ),
        format!(
            "revoke connect, temporary on database {} from public",
            quoted(name)
        ),
    ]
}

/// The SQL that takes from the other roles the right to come into a database of the drill's.
pub fn close_to_others(name: &str) -> String {
    let others: Vec<&str> = roles::LOGIN
        .into_iter()
        .filter(|role| *role != roles::DRILL)
        .collect();
    format!(
        "revoke connect on database {} from {}",
        quoted(name),
        others.join(", ")
    )
}

/// The SQL that drops a database, whoever is in it.
pub fn drop_database(name: &str) -> String {
    format!("drop database if exists {} with (force)", quoted(name))
}

/// The same where nobody is in it but the server's own workers, whom it ends and waits for.
pub fn drop_unused_database(name: &str) -> String {
    format!("drop database if exists {}", quoted(name))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
