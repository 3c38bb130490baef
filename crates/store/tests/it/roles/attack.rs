//! Somebody has the password of a role, and tries to destroy or rewrite what is kept.
//!
//! What is tried on tables, columns and functions comes from the catalogue, so that a new one is tried, too, and a table that
//! nobody has decided about fails the test.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::{Client, error::SqlState};
use utxoiq_store::db::roles;

use super::{fort::Fort, grants};
use crate::support::PASSWORD;

/// What the roles that serve and archive may do to the rows of a table.
#[derive(Clone, Copy, PartialEq)]
enum Rows {
    /// Nothing but adding: history, evidence, and what a fold or a function writes.
    Kept,
    /// Their running state is changed. What has ended is not, which a trigger sees to.
    KeptWhenEnded,
    /// They are changed and deleted: made anew from others, or of no worth when they have been used.
    Work,
}

/// Every table.
const DECIDED: &[(&str, Rows)] = &[
    ("alert_deliveries", Rows::Work),
    ("alert_sources", Rows::Work),
    ("alerts", Rows::KeptWhenEnded),
    ("archive_backfill_jobs", Rows::Kept),
    ("archive_feedback", Rows::Kept),
    ("archive_feedback_history", Rows::Kept),
    ("archives", Rows::Kept),
    ("audit_head", Rows::Kept),
    ("audit_log", Rows::Kept),
    ("backfill_attempts", Rows::KeptWhenEnded),
    ("backfill_checkpoints", Rows::Work),
    ("backfill_claims", Rows::Work),
    ("backfill_errors", Rows::Work),
    ("backfill_jobs", Rows::KeptWhenEnded),
    ("backup_proofs", Rows::KeptWhenEnded),
    ("backups", Rows::KeptWhenEnded),
    ("cache_outbox", Rows::Work),
    ("cache_outbox_horizon", Rows::Work),
    ("feedback_day_deltas", Rows::Kept),
    ("feedback_days", Rows::Kept),
    ("feedback_deltas", Rows::Kept),
    ("feedback_erasures", Rows::Kept),
    ("feedback_fold", Rows::Kept),
    ("feedback_history", Rows::Kept),
    ("feedback_overall_days", Rows::Kept),
    ("feedback_retired", Rows::Kept),
    ("feedback_stats", Rows::Kept),
    // What users gave: each change goes into the history.
    ("insight_feedback", Rows::Work),
    ("legal_holds", Rows::Kept),
    // Its verification only.
    ("metric_days", Rows::Work),
    ("metric_marks", Rows::Work),
    ("metric_requests", Rows::Work),
    ("metric_rollup_state", Rows::Work),
    ("metric_rollups", Rows::KeptWhenEnded),
    ("metric_series", Rows::Kept),
    ("metric_services", Rows::Work),
    ("retention_runs", Rows::KeptWhenEnded),
    ("schedule_slots", Rows::KeptWhenEnded),
    ("schedule_tasks", Rows::Work),
    ("schema_migrations", Rows::Kept),
    // When it was last used.
    ("service_tokens", Rows::Work),
    ("system_metrics", Rows::Kept),
    ("system_metrics_*", Rows::Kept),
];

/// On each table, and the right with which it may be done; without one: never.
const ON_A_TABLE: &[(&str, Option<&str>)] = &[
    ("drop table {}", None),
    ("truncate {}", None),
    ("truncate {} cascade", None),
    ("alter table {} add column forged integer", None),
    ("alter table {} disable trigger all", None),
    ("alter table {} owner to current_user", None),
    ("alter table {} rename to gone", None),
    ("alter table {} set schema pg_temp", None),
    ("alter table {} enable row level security", None),
    (
        "create rule forged as on insert to {} do instead nothing",
        None,
    ),
    ("create policy forged on {}", None),
    ("create index on {} ((1))", None),
    ("comment on table {} is 'forged'", None),
    ("copy {} from program 'true'", None),
    ("copy {} to '/tmp/stolen'", None),
    (
        "create trigger forged before delete on {} for each row execute function refuse_to_rewrite()",
        None,
    ),
    (
        "do $$ begin lock table {} in access exclusive mode; end $$",
        Some("delete"),
    ),
    ("delete from {}", Some("delete")),
    ("insert into {} default values", Some("insert")),
    ("select from {} for update", Some("update")),
];

/// Refused to everybody.
const REFUSED: &[&str] = &[
    "set role utxoiq_owner",
    "set role utxoiq_audit",
    "set role utxoiq_migrator",
    "set role utxoiq_drill",
    "set role postgres",
    "set session authorization utxoiq_owner",
    "set session_replication_role = replica",
    "select set_config('session_replication_role', 'replica', false)",
    "grant utxoiq_owner to current_user",
    "create role forged superuser",
    "alter role current_user superuser",
    "alter role current_user createrole",
    "alter role utxoiq_owner login",
    "alter role utxoiq_owner password 'forged'",
    "alter role utxoiq_audit set search_path = pg_temp",
    "drop role utxoiq_backup",
    "create table forged (n integer)",
    "create table public.audit_log_2 as select * from audit_log",
    "create temp table audit_head (only_one boolean, sequence bigint, hash bytea)",
    "create temp view insight_feedback as select 1",
    "create view forged as select 1",
    "create materialized view forged as select 1",
    "create sequence forged",
    "create type forged as enum ('a')",
    "create domain forged as integer",
    "create schema forged",
    "create schema authorization current_user",
    "create function public.octet_length(bytea) returns integer language sql as 'select 0'",
    "create operator public.|| (leftarg = bytea, rightarg = bytea, function = byteacat)",
    "create procedure forged() language sql as 'select 1'",
    "create function forged() returns integer language c as 'a'",
    "create extension dblink",
    "create extension pg_trgm",
    "drop extension btree_gist cascade",
    "create event trigger forged on ddl_command_start execute function refuse_to_rewrite()",
    "create publication forged for all tables",
    "create subscription forged connection 'dbname=app' publication p",
    "create foreign data wrapper forged",
    "create tablespace forged location '/tmp'",
    "create database forged",
    "create language forged handler plpgsql_call_handler",
    "drop database app",
    "alter database app set search_path = pg_temp",
    "alter database app owner to current_user",
    "alter schema public owner to current_user",
    "drop schema public cascade",
    "alter system set fsync = off",
    "alter function audit_append security invoker",
    "alter function feedback_record_inserted owner to current_user",
    "drop function audit_append",
    "drop function refuse_to_rewrite cascade",
    "create or replace function refuse_to_rewrite() returns trigger language plpgsql as 'begin return new; end'",
    "drop trigger insight_feedback_updated on insight_feedback",
    "alter table insight_feedback disable trigger insight_feedback_updated",
    "alter table system_metrics detach partition system_metrics_20250301",
    "drop table system_metrics_20250301",
    "drop view archive_feedback",
    "drop index feedback_history_pkey",
    "drop sequence metric_closing_hour",
    "alter sequence metric_closing_hour restart with 0",
    "select setval('feedback_history_id_seq', 1)",
    "select nextval('feedback_history_id_seq')",
    "reindex table feedback_history",
    "cluster feedback_history using feedback_history_pkey",
    "alter default privileges for role utxoiq_owner grant all on tables to public",
    "reassign owned by utxoiq_owner to current_user",
    "drop owned by utxoiq_owner cascade",
    "copy (select 1) to program 'true'",
    "copy (select 1) to '/tmp/stolen'",
    "select pg_read_file('postgresql.conf')",
    "select pg_ls_dir('.')",
    "select lo_import('/etc/passwd')",
    "select lo_export(1, '/tmp/stolen')",
    "select pg_reload_conf()",
    "select pg_rotate_logfile()",
    "select pg_switch_wal()",
    "select pg_create_restore_point('forged')",
    "select pg_stat_reset()",
    "select pg_promote()",
    "select pg_create_physical_replication_slot('forged')",
    "select pg_create_logical_replication_slot('forged', 'test_decoding')",
    "select pg_replication_origin_create('forged')",
    "select * from pg_authid",
    "update pg_class set relowner = 10",
    "delete from pg_trigger",
    "insert into pg_auth_members select * from pg_auth_members",
    "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'postgres' and datname = 'app'",
    "select pg_cancel_backend(pid) from pg_stat_activity where usename = 'postgres' and datname = 'app'",
];

/// Refused to the role that serves, although it has rights on these tables.
const REFUSED_TO_SERVING: &[&str] = &[
    // Feedback is not given to others, nor moved: the history would not tell.
    "update insight_feedback set user_id = 'another'",
    "update insight_feedback set insight_id = 'another'",
    "update insight_feedback set id = gen_random_uuid()",
    "update insight_feedback set created_at = '2000-01-01'",
    "insert into insight_feedback (id, insight_id, user_id, rating, created_at, updated_at)
     values ('0195a1b2-0000-7000-8000-000000000011', 'i', 'u', 1, '2025-01-01', '2025-01-01')",
    "with gone as (delete from insight_feedback returning *) select count(*) from gone",
    "merge into feedback_history h using (select 1) s on true when matched then delete",
    "merge into feedback_history h using (select 1) s on true when matched then update set comment = 'forged'",
    "insert into feedback_history (insight_id, user_id, fact, rating, occurred_at) values ('i', 'u', 'rating', 5, '2025-01-01')",
    "insert into feedback_stats (insight_id) values ('insight-2') on conflict (insight_id) do update set ratings_5 = 0",
    "update feedback_fold set stats_below = '9999999'",
    // Jobs that are over.
    "update backfill_jobs set status = 'running', ended_at = null where status = 'completed'",
    "update backfill_jobs set ended_at = '2020-01-01' where status = 'completed'",
    "update backfill_jobs set covered = '{}' where status = 'completed'",
    "update backfill_jobs set covered = '{}' where status = 'failed'",
    "update backfill_jobs set error_message = 'nothing' where status = 'failed'",
    "update backfill_jobs set status = 'running', ended_at = null, error_message = null where status = 'failed'",
    "update backfill_jobs set end_block = 5",
    "update backfill_jobs set job_type = 'another'",
    "update backfill_jobs set started_at = '2020-01-01', created_by = 'another'",
    "update backfill_attempts set outcome = 'completed', error_message = null",
    "update backfill_attempts set ended_at = null, outcome = null where ended_at is not null",
    // Backups and proofs.
    "update backups set state = 'verified', pruned_at = null where state = 'pruned'",
    "update backups set manifest_sha256 = decode(repeat('00', 32), 'hex') where state = 'verified'",
    "update backups set row_count = 0 where state = 'verified'",
    "update backups set state = 'failed', error = 'x' where state = 'verified'",
    "update backups set state = 'running', ended_at = null where state = 'verified'",
    "update backups set object_key = 'another'",
    "update backup_proofs set outcome = 'failed', error = 'x'",
    "update backup_proofs set ended_at = null, outcome = null",
    // Rollups of days whose samples are cold.
    "update metric_rollups set sum = 0 where bucket = '2024-01-01' and hours = 1",
    "update metric_rollups set sum = 0 where bucket = '2024-01-01' and hours = 24",
    "update metric_rollups set sum = 0 where bucket = '2024-01-01' and hours = 168",
    "delete from metric_rollups where bucket = '2024-01-01'",
    "delete from metric_rollups",
    "insert into metric_rollups select series_id, hours, '2024-01-01 05:00Z', count, sum, sum_low, min, min_at, max, max_at, last, last_at,
         p50, p95, p99, sketch from metric_rollups where bucket = '2024-01-01' and hours = 1",
    "update metric_rollups set bucket = '2024-01-01'",
    "update metric_days set state = 'open'",
    "update system_metrics set value = 0",
    "delete from only system_metrics_20250301",
    // Tokens.
    "insert into service_tokens select * from service_tokens",
    "update service_tokens set scopes = array['admin']",
    "update service_tokens set revoked_at = null",
    "update service_tokens set revoked_at = '2025-01-01'",
    "update service_tokens set expires_at = null",
    "update service_tokens set secret_hash = sha256('mine')",
    "delete from service_tokens",
    // Schedule and alerts.
    "update schedule_slots set outcome = '{}' where state = 'succeeded'",
    "update schedule_slots set task = 'another'",
    "delete from schedule_slots",
    "delete from schedule_tasks",
    "update schedule_tasks set enabled = false",
    "delete from alerts",
    "update alerts set detail = 'nothing' where resolved_at is not null",
    "update alerts set resolved_at = null where resolved_at is not null",
    "update alerts set opened_at = '2020-01-01'",
    "insert into archives select * from archives",
    "update archives set state = 'expired'",
    "insert into legal_holds select * from legal_holds",
    "insert into schema_migrations select * from schema_migrations",
    "select archive_delete_rows(1, null, null, null)",
    "select retention_release_hold(null, null, null, null, null)",
    "select feedback_erase_hot(null, null, null)",
];

/// Allowed, and why that does no harm to what is kept. Rolled back.
const ALLOWED: &[(&str, &str)] = &[
    (
        "update insight_feedback set comment = 'forged', rating = 1",
        "the history has what users gave",
    ),
    (
        "update insight_feedback set rating = null, rated_at = null, comment = null, commented_at = null, flag_type = null, flagged_at = null",
        "withdrawn: the history has it",
    ),
    (
        "select feedback_fold_part(null)",
        "moves deltas into counts",
    ),
    (
        "update backfill_jobs set covered = '{}' where status = 'running'",
        "a running job is its work",
    ),
    (
        "update backfill_jobs set status = 'cancelled', error_message = null where status = 'failed'",
        "as an operator may",
    ),
    (
        "update metric_rollups set sum = 0 where bucket >= '2025-01-01'",
        "of open days, made anew from samples",
    ),
    (
        "delete from metric_marks",
        "verification finds what is missing",
    ),
    (
        "select setval('metric_closing_hour', 0)",
        "verification finds what is missing",
    ),
    ("delete from cache_outbox", "what is cached has an end"),
    (
        "select token_end_expired('9999-12-31', 'thief')",
        "in the audit log; nothing is made, widened or brought back",
    ),
    (
        "update service_tokens set last_used_at = null",
        "the time of the last use is no evidence",
    ),
    (
        "delete from schedule_slots where state <> 'running'",
        "pruning; no evidence",
    ),
    (
        "delete from alerts where resolved_at is not null",
        "pruning; receivers have them",
    ),
    (
        "delete from backfill_errors",
        "the newest are kept for people to read",
    ),
    ("select lo_create(0)", "in no backup, and in nobody's way"),
    (
        "select pg_advisory_xact_lock(1)",
        "anybody may; waiting has an end",
    ),
    ("notify forged", "nobody listens: the outbox is polled"),
    ("listen forged", "nobody notifies"),
    (
        "alter role current_user set statement_timeout = 1",
        "its own settings: an administrator resets them",
    ),
    (
        "alter role current_user password 'forged'",
        "its own password: an administrator sets another",
    ),
    (
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = current_user and pid <> pg_backend_pid()",
        "sessions of its own role: they come back",
    ),
    (
        "prepare forged as delete from feedback_history",
        "refused when it is executed",
    ),
];

/// Answered with a warning, or done to nothing of ours: rights and content are compared afterwards.
const WITHOUT_EFFECT: &[&str] = &[
    "grant all on feedback_history to current_user",
    "grant select on service_tokens to utxoiq_retention",
    "revoke all on audit_log from utxoiq_backup",
    "drop owned by current_user",
    "alter default privileges grant all on tables to public",
    "vacuum full feedback_history",
    "analyze audit_log",
    "checkpoint",
    "load 'plpgsql'",
    "set row_security = off",
    "set search_path = pg_temp, public",
    "reset all",
];

struct Thief<'a> {
    fort: &'a Fort,
    role: &'static str,
    client: Client,
    may: BTreeSet<(String, String)>,
    tried: usize,
    wrong: Vec<String>,
}

impl<'a> Thief<'a> {
    async fn with(fort: &'a Fort, role: &'static str) -> Self {
        let granted = grants::granted(fort).await;
        let of_role = granted.into_iter().filter(|grant| grant.0 == role);
        Self {
            fort,
            role,
            client: fort.client(role).await,
            may: of_role.map(|(_, object, right)| (object, right)).collect(),
            tried: 0,
            wrong: Vec::new(),
        }
    }

    fn may(&self, object: &str, right: &str) -> bool {
        let of_columns = format!("{right} (");
        self.may
            .iter()
            .any(|(on, may)| on == object && (may == right || may.starts_with(&of_columns)))
    }

    async fn run(&mut self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.tried += 1;
        self.client.batch_execute(sql).await
    }

    /// Must be refused for want of a right. Not rolled back: what is done would be seen.
    async fn refused(&mut self, sql: &str) {
        match self.run(sql).await {
            Ok(()) => self.wrong.push(format!("may {sql}")),
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {}
            Err(error) => self.wrong.push(format!("{sql}: {:?}", error.as_db_error())),
        }
    }

    /// May be done, and is undone. A guard may refuse it as well, and rubbish be called that.
    async fn undone(&mut self, sql: &str) -> Result<(), tokio_postgres::Error> {
        let done = self.run(&format!("begin; {sql}")).await;
        self.client.batch_execute("rollback").await.unwrap();
        done
    }

    async fn on_each_table(&mut self) {
        let sql = "select relname::text, regexp_replace(relname, '_[0-9]{8}$', '_*'), relkind::text
                   from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v') order by 1";
        let decided: BTreeMap<&str, Rows> = DECIDED.iter().copied().collect();
        for row in self.fort.admin.query(sql, &[]).await.unwrap() {
            let (table, name, kind): (String, String, String) =
                (row.get(0), row.get(1), row.get(2));
            let object = format!("{} {name}", if kind == "v" { "view" } else { "table" });
            let Some(rows) = decided.get(name.as_str()) else {
                self.wrong
                    .push(format!("nobody has decided what may be done to {name}"));
                continue;
            };
            for right in ["update", "delete", "truncate"] {
                if *rows == Rows::Kept && self.may(&object, right) {
                    self.wrong
                        .push(format!("has the right to {right} on {name}, which is kept"));
                }
            }
            for (sql, right) in ON_A_TABLE.iter().filter(|_| kind != "v") {
                let sql = sql.replace("{}", &table);
                if right.is_some_and(|right| self.may(&object, right)) {
                    let _ = self.undone(&sql).await;
                } else {
                    self.refused(&sql).await;
                }
            }
            if kind != "v" {
                self.on_each_column(&table, &object).await;
            }
        }
    }

    async fn on_each_column(&mut self, table: &str, object: &str) {
        let sql = format!(
            "select attname::text from pg_attribute where attrelid = '{table}'::regclass and attnum > 0 and not attisdropped"
        );
        for column in self.fort.texts(&sql).await {
            let right = format!("update ({column})");
            if !self.may.contains(&(object.to_owned(), right)) {
                self.refused(&format!(
                    "update {table} set \"{column}\" = default where false"
                ))
                .await;
            }
        }
    }

    /// Calls each function with rubbish.
    async fn call_each_function(&mut self) {
        let sql = "select proname::text, format('select %s(%s)', p.oid::regproc, (select coalesce(string_agg(format(case when provariadic <> 0 and n = pronargs then 'variadic null::%s' else 'null::%s' end, t::regtype), ', ' order by n), '')
                          from unnest(proargtypes::oid[]) with ordinality as a (t, n))), proisstrict
                   from pg_proc p where pronamespace = 'public'::regnamespace
                   and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e') order by 1";
        for row in self.fort.admin.query(sql, &[]).await.unwrap() {
            let (name, call, is_strict): (String, String, bool) =
                (row.get(0), row.get(1), row.get(2));
            if self.may(&format!("function {name}"), "execute") {
                let _ = self.undone(&call).await;
            } else if is_strict {
                // Answered without a call where an argument is null.
                let sql = "select has_function_privilege($1, $2::regproc, 'execute')";
                let may = self
                    .fort
                    .admin
                    .query_one(&sql.replace("$2", &format!("'{name}'")), &[&self.role])
                    .await;
                assert!(!may.unwrap().get::<_, bool>(0), "{name}");
            } else {
                self.refused(&call).await;
            }
        }
    }

    async fn everything(&mut self) {
        let (content, rights) = (self.fort.content().await, self.fort.rights().await);
        self.on_each_table().await;
        self.call_each_function().await;
        for sql in REFUSED {
            // To read everything is to read this, too: the document says so.
            if self.role == roles::BACKUP && sql.ends_with("pg_authid") {
                continue;
            }
            self.refused(sql).await;
        }
        for sql in WITHOUT_EFFECT {
            let _ = self.run(sql).await;
        }
        self.client = self.fort.client(self.role).await;
        assert_eq!(
            self.fort.rights().await,
            rights,
            "{} changed rights",
            self.role
        );
        let changed = self.fort.content().await;
        let changed: Vec<_> = changed
            .iter()
            .filter(|(table, hash)| content.get(*table) != Some(hash))
            .collect();
        assert!(
            changed.is_empty(),
            "{} changed rows of {changed:?}",
            self.role
        );
    }

    fn found_nothing(self) {
        assert!(
            self.wrong.is_empty(),
            "{}, of {} attempts: {:#?}",
            self.role,
            self.tried,
            self.wrong
        );
        eprintln!("{}: {} attempts", self.role, self.tried);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_password_of_the_role_that_serves_history_is_neither_destroyed_nor_rewritten() {
    let fort = Fort::build().await;
    let mut thief = Thief::with(&fort, roles::APP).await;
    thief.everything().await;
    let content = fort.content().await;
    for sql in REFUSED_TO_SERVING {
        thief.refused(sql).await;
    }
    for (sql, why) in ALLOWED {
        if let Err(error) = thief.undone(sql).await {
            let what = format!("{sql} is allowed, since: {why}: {error:?}");
            thief.wrong.push(what);
        }
    }
    assert_eq!(fort.content().await, content);
    thief.found_nothing();
    let audit = fort.store();
    assert!(audit.audit().verify(&[]).await.unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_passwords_of_retention_and_of_the_backup_tables_cannot_be_touched_either() {
    let fort = Fort::build().await;
    for role in [roles::RETENTION, roles::BACKUP] {
        let mut thief = Thief::with(&fort, role).await;
        thief.everything().await;
        for sql in REFUSED_TO_SERVING
            .iter()
            .filter(|sql| !sql.starts_with("select "))
        {
            thief.refused(sql).await;
        }
        if role == roles::RETENTION {
            for sql in [
                "update retention_runs set outcome = 'success', results = '{}'",
                "update retention_runs set ended_at = null, outcome = null",
                "update retention_runs set began_by = 'another'",
                "insert into retention_runs (id, began_at, began_by, lease_expires_at) overriding system value values (1, '2026-01-01', 'x', '2026-01-01')",
            ] {
                thief.refused(sql).await;
            }
        }
        thief.found_nothing();
    }
    let store = fort.store();
    assert!(store.audit().verify(&[]).await.unwrap().is_clean());
}

/// What the role that serves can do to history is to add to it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_forged_is_added_under_its_own_name_and_nothing_before_it_changes() {
    let fort = Fort::build().await;
    let app = fort.client(roles::APP).await;
    let before = "select (select string_agg(h::text, ';' order by id) from feedback_history h where id <= 3)
                  || (select string_agg(a::text, ';' order by sequence) from audit_log a where sequence <= 2)";
    let was = fort.texts(before).await;
    app.batch_execute(
        "select audit_append('2020-01-01', 'operator', 'hold_release', 'everything', '{}');
         update insight_feedback set comment = 'forged', rating = 1, rated_at = '2000-01-01', commented_at = '2000-01-01';
         insert into insight_feedback (insight_id, user_id, rating, rated_at, created_at, updated_at)
         values ('insight-1', 'user-9', 5, '2000-01-01', '2000-01-01', '2000-01-01')",
    )
    .await
    .unwrap();
    assert_eq!(fort.texts(before).await, was);
    let roles_of_entries = "select database_role from audit_log order by sequence";
    assert_eq!(
        fort.texts(roles_of_entries).await,
        ["postgres", "postgres", "utxoiq_app"]
    );
    let added = "select count(*)::text from feedback_history where id > 3";
    assert_eq!(fort.texts(added).await, ["5"]);
    assert!(fort.store().audit().verify(&[]).await.unwrap().is_clean());
}

/// It may not make temporary tables. If somebody let it, functions would still mean the tables in public.
#[tokio::test(flavor = "multi_thread")]
async fn functions_with_their_owners_rights_do_not_look_at_what_their_caller_has_made() {
    let fort = Fort::build().await;
    let careless = format!(
        "grant temporary on database app to utxoiq_app; create schema evil authorization utxoiq_app; alter role utxoiq_app password '{PASSWORD}'"
    );
    fort.admin.batch_execute(&careless).await.unwrap();
    let app = fort.client(roles::APP).await;
    for table in [
        "audit_head",
        "audit_log",
        "feedback_deltas",
        "feedback_stats",
        "cache_outbox",
        "feedback_history",
    ] {
        for schema in ["pg_temp", "evil"] {
            let make = format!(
                "create table {schema}.{table} (like public.{table}); insert into {schema}.{table} select * from public.{table} limit 1"
            );
            app.batch_execute(&make).await.unwrap();
        }
    }
    app.batch_execute(
        "create function evil.sha256(bytea) returns bytea language sql as 'select null::bytea';
         create function evil.octet_length(bytea) returns integer language sql as 'select 0';
         set search_path = evil, pg_temp, pg_catalog, public;
         select public.audit_append('2026-01-01', 'thief', 'forge', 'everything', '{}');
         select public.feedback_fold_part(1000);
         update public.insight_feedback set rating = 2",
    )
    .await
    .unwrap();
    let counts = "select concat_ws(' ', (select count(*) from pg_temp.audit_log), (select count(*) from evil.audit_log),
                         (select sequence from pg_temp.audit_head), (select sequence from evil.audit_head),
                         (select count(*) from pg_temp.feedback_deltas), (select count(*) from evil.feedback_history))";
    let row = app.query_one(counts, &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "1 1 2 2 1 1");
    let real = "select concat_ws(' ', (select count(*) from public.audit_log), (select sequence from public.audit_head))";
    assert_eq!(fort.texts(real).await, ["3 3"]);
    assert!(fort.store().audit().verify(&[]).await.unwrap().is_clean());
}
