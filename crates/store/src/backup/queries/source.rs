//! What is asked of a database that is backed up, and of one that was restored.

use tokio_postgres::types::Type;

use crate::db::Statement;

/// The session's settings. What a line of the catalogue looks like depends on some of them.
pub const SETTINGS: &str = "
    set statement_timeout = '1h';
    set idle_in_transaction_session_timeout = 0;
    set client_connection_check_interval = '1s';
    set timezone = 'UTC';
    set search_path = public, pg_temp;
    set standard_conforming_strings = on;
    set client_min_messages = warning";

/// Begins what sees one moment. LOCK TABLE takes no snapshot, the first query does.
pub const BEGIN: &str = "begin isolation level repeatable read read only";

/// The tables with rows of their own, the largest first: partitions, and no partitioned ones.
pub const TABLES: Statement = Statement {
    name: "backup.tables",
    sql: "select format('%I.%I', n.nspname, c.relname) as name, pg_relation_size(c.oid) as bytes
          from pg_class c join pg_namespace n on n.oid = c.relnamespace
          where c.relkind = 'r' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
            and not exists (select from pg_depend d
                            where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
          order by bytes desc, name",
    params: &[],
    columns: &[("name", Type::TEXT), ("bytes", Type::INT8)],
};

/// What a dump of tables would not have in it.
pub const NOT_BACKED_UP: Statement = Statement {
    name: "backup.not_backed_up",
    sql: "select (select count(*) from pg_largeobject_metadata) as large_objects,
                 (select string_agg(c.oid::regclass::text, ', ') from pg_class c where c.relrowsecurity) as row_security",
    params: &[],
    columns: &[("large_objects", Type::INT8), ("row_security", Type::TEXT)],
};

/// Every sequence, the last value that it gave, and the greatest value in the column that it is for.
pub const SEQUENCES: Statement = Statement {
    name: "backup.sequences",
    sql: "select format('%I.%I', n.nspname, c.relname) as name,
                 coalesce(pg_sequence_last_value(c.oid), 0) as last_value,
                 owner.attrelid::regclass::text as of_table, quote_ident(owner.attname) as of_column
          from pg_class c join pg_namespace n on n.oid = c.relnamespace
          left join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype in ('a', 'i')
                               and d.refclassid = 'pg_class'::regclass and d.refobjsubid > 0
          left join pg_attribute owner on owner.attrelid = d.refobjid and owner.attnum = d.refobjsubid
          where c.relkind = 'S' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
          order by name",
    params: &[],
    columns: &[
        ("name", Type::TEXT),
        ("last_value", Type::INT8),
        ("of_table", Type::TEXT),
        ("of_column", Type::TEXT),
    ],
};

/// What the manifest says of the database.
pub const FACTS: Statement = Statement {
    name: "backup.facts",
    sql: "select current_database()::text as database, current_setting('server_version') as server_version,
                 current_setting('server_version_num')::int4 as server_version_num,
                 (select coalesce(max(number), 0)::int4 from schema_migrations) as schema_version,
                 (select coalesce(array_agg(extname::text order by extname), '{}') from pg_extension
                  where extname <> 'plpgsql') as extensions,
                 (select sequence from audit_head) as audit_sequence, (select hash from audit_head) as audit_hash",
    params: &[],
    columns: &[
        ("database", Type::TEXT),
        ("server_version", Type::TEXT),
        ("server_version_num", Type::INT4),
        ("schema_version", Type::INT4),
        ("extensions", Type::TEXT_ARRAY),
        ("audit_sequence", Type::INT8),
        ("audit_hash", Type::BYTEA),
    ],
};

/// The archives whose objects the database counts on.
pub const ARCHIVES: Statement = Statement {
    name: "backup.archives",
    sql: "select id, object_key, bytes, encode(sha256, 'hex') as sha256 from archives
          where state in ('detached', 'archived') order by object_key",
    params: &[],
    columns: &[
        ("id", Type::UUID),
        ("object_key", Type::TEXT),
        ("bytes", Type::INT8),
        ("sha256", Type::TEXT),
    ],
};

/// Lets others see what this transaction sees.
pub const EXPORT: Statement = Statement {
    name: "backup.export_snapshot",
    sql: "select pg_export_snapshot() as snapshot",
    params: &[],
    columns: &[("snapshot", Type::TEXT)],
};

/// The SQL for the fingerprint of a table, whose name is quoted. The alias is one that no column has: a column of that name
/// would be hashed instead of the row.
pub fn fingerprint(table: &str) -> String {
    format!(
        "select count(*) as rows, coalesce(sum(hash_record_extended(the_whole_row_of_the_table, 0)), 0)::text as hash
         from only {table} as the_whole_row_of_the_table"
    )
}

/// The SQL that locks these tables, whose names are quoted, against what rewrites or drops them.
pub fn lock(tables: &[&str]) -> String {
    format!(
        "lock table only {} in access share mode",
        tables.join(", only ")
    )
}
