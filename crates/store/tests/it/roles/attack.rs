//! Somebody has the password of a role, and tries to destroy or rewrite what is kept.
//!
//! What is tried on tables, columns and functions comes from the catalogue, so that a new one is tried, too, and a table that
//! nobody has decided about fails the test.

mod tries;

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::{Client, error::SqlState};
use utxoiq_store::db::roles;

use self::tries::{
    ALLOWED, DECIDED, ON_A_TABLE, REFUSED, REFUSED_TO_SERVING, Rows, WITHOUT_EFFECT,
};
use super::{fort::Fort, grants};
use crate::support::PASSWORD;

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
