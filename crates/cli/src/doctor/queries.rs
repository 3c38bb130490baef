//! The SQL of `doctor`. It runs on whatever answers, so it asks for nothing that PostgreSQL 15 does not have.

/// Who one is, and how one came.
pub const SESSION: &str = "
    select session_user::text as role,
           (select rolsuper from pg_roles where rolname = session_user) as is_superuser,
           exists (select from pg_roles where rolname = $1 and pg_has_role(session_user, oid, 'member')) as has_role,
           coalesce((select ssl from pg_stat_ssl where pid = pg_backend_pid()), false) as is_encrypted,
           current_database()::text as database";

/// How the server is set up.
pub const SERVER: &str = "
    select current_setting('server_version') as version, current_setting('server_version_num')::integer as version_number,
           current_setting('fsync') as fsync, current_setting('full_page_writes') as full_page_writes,
           current_setting('synchronous_commit') as synchronous_commit, current_setting('wal_level') as wal_level,
           current_setting('max_connections')::integer as max_connections,
           current_setting('superuser_reserved_connections')::integer as reserved,
           (select count(*) from pg_stat_activity where backend_type = 'client backend')::integer as connected,
           (select pg_encoding_to_char(encoding)::text from pg_database where datname = current_database()) as encoding,
           clock_timestamp() as now";

/// The limits that a session of the pool has.
pub const LIMITS: &str = "
    select current_setting('statement_timeout') as statement_timeout, current_setting('lock_timeout') as lock_timeout,
           current_setting('idle_in_transaction_session_timeout') as idle_in_transaction, current_setting('TimeZone') as time_zone";
