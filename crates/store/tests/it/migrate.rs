//! Migrations (C5.1–C5.5): applied once and in order, refused when changed, shown as they are.

mod concurrent;
mod down;
mod reversible;

use std::{fs, path::Path};

use chrono::{DateTime, Utc};
use tempfile::TempDir;
use tokio_postgres::Client;
use utxoiq_store::{
    Kind,
    clock::{FixedClock, SystemClock},
    db::migrate::{Migrator, SchemaState, new_pair},
};

use crate::support::TestDb;

/// A folder of migrations that a test writes.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A folder with some migrations: (name, up, down), numbered in order.
    pub fn with(migrations: &[(&str, &str, &str)]) -> Self {
        let folder = Self::new();
        for (number, (name, up, down)) in (1..).zip(migrations) {
            folder.put(number, name, up, down);
        }
        folder
    }

    pub fn put(&self, number: i32, name: &str, up: &str, down: &str) {
        let path = |way: &str| self.0.path().join(format!("{number:04}_{name}.{way}.sql"));
        fs::write(path("up"), up).unwrap();
        fs::write(path("down"), down).unwrap();
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn migrator(&self) -> Migrator {
        Migrator::from_dir(self.path()).unwrap()
    }
}

/// How many advisory locks anybody holds in the client's database.
pub async fn advisory_locks(client: &Client) -> i64 {
    let sql = "select count(*) from pg_locks l join pg_database d on d.oid = l.database
               where l.locktype = 'advisory' and d.datname = current_database()";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// The numbers in `schema_migrations`.
pub async fn applied(client: &Client) -> Vec<i32> {
    let rows = client
        .query("select number from schema_migrations order by number", &[])
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// One value as text; `None` for null or no row.
pub async fn value(client: &Client, sql: &str) -> Option<String> {
    let sql = format!("select ({sql})::text");
    client.query_one(&sql, &[]).await.unwrap().get(0)
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

const JOBS: (&str, &str, &str) = (
    "create_jobs",
    "create table jobs (id int constraint jobs_pkey primary key);",
    "drop table jobs;",
);
const NOTES: (&str, &str, &str) = (
    "add_notes",
    "alter table jobs add column note text;",
    "alter table jobs drop column note;",
);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pending_is_applied_in_order_and_recorded_and_never_again() {
    let db = TestDb::empty().await;
    let folder = Folder::with(&[JOBS]);
    let clock = FixedClock::at(time("2026-01-02T03:04:05.678901Z"));
    let first = folder.migrator().up(&db.admin_url(), &clock).await.unwrap();
    assert_eq!(
        first.iter().map(|done| done.number).collect::<Vec<_>>(),
        [1]
    );
    folder.put(2, NOTES.0, NOTES.1, NOTES.2);
    clock.set(time("2026-02-02T03:04:05Z"));
    let url = db.url_of("utxoiq_migrator");
    let second = folder.migrator().up(&url, &clock).await.unwrap();
    assert_eq!(
        (second.len(), second[0].number, second[0].attempts),
        (1, 2, 1)
    );
    assert_eq!(folder.migrator().up(&url, &clock).await.unwrap(), []);

    let status = folder.migrator().status(&db.admin_url()).await.unwrap();
    assert!(status.is_clean(), "{status:?}");
    let recorded: Vec<_> = status
        .applied
        .iter()
        .map(|r| (r.label(), r.applied_at, r.applied_by.as_str()))
        .collect();
    assert_eq!(
        recorded,
        [
            (
                "0001_create_jobs".to_owned(),
                time("2026-01-02T03:04:05.678901Z"),
                "postgres"
            ),
            (
                "0002_add_notes".to_owned(),
                time("2026-02-02T03:04:05Z"),
                "utxoiq_migrator"
            ),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_object_belongs_to_the_role_that_nobody_logs_in_as() {
    let db = TestDb::empty().await;
    let folder = Folder::with(&[(
        "create_all",
        "create table t (id int); create function f() returns int language sql as $$ select 1 $$;
         create view v as select 1 as one; create sequence s; create domain d as int; create extension if not exists btree_gist;",
        "drop domain d; drop sequence s; drop view v; drop function f(); drop table t;",
    )]);
    folder
        .migrator()
        .up(&db.url_of("utxoiq_migrator"), &SystemClock)
        .await
        .unwrap();
    let admin = db.admin().await;
    let others = "select string_agg(name, ', ') from (
            select relname::text as name, relowner as owner from pg_class where relnamespace = 'public'::regnamespace
            union all select proname, proowner from pg_proc where proname = 'f'
            union all select typname, typowner from pg_type where typname = 'd'
        ) as objects where owner <> 'utxoiq_owner'::regrole";
    assert_eq!(value(&admin, others).await, None);
    // The application may read the record and not write it.
    let app = db.client("utxoiq_app").await;
    assert_eq!(applied(&app).await, [1]);
    assert!(
        app.execute("delete from schema_migrations", &[])
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_migration_says_where_and_why_and_leaves_nothing_behind() {
    let db = TestDb::empty().await;
    let admin = db.admin().await;
    let broken = "-- first\ncreate table kept_not (id int);\n\ninsert into kept_not\n  values (1),\n  ('x');\nselect 1;";
    let folder = Folder::with(&[
        JOBS,
        ("add_broken", broken, "drop table kept_not;"),
        ("add_later", "select 1;", "select 1;"),
    ]);
    let refused = folder
        .migrator()
        .up(&db.admin_url(), &SystemClock)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "migration_failed");
    let message = refused.to_string();
    for part in [
        "0002_add_broken.up.sql",
        "statement 2",
        "line 6",
        "invalid input syntax for type integer: \"x\"",
    ] {
        assert!(message.contains(part), "{part} is not in {message}");
    }
    assert_eq!(applied(&admin).await, [1]);
    assert_eq!(value(&admin, "select to_regclass('kept_not')").await, None);
    assert_eq!(advisory_locks(&admin).await, 0);
    folder.put(
        2,
        "add_broken",
        "create table kept (id int);",
        "drop table kept;",
    );
    assert_eq!(
        folder
            .migrator()
            .up(&db.admin_url(), &SystemClock)
            .await
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_changed_after_it_was_applied_is_refused_by_name() {
    let db = TestDb::empty().await;
    let folder = Folder::with(&[JOBS, NOTES]);
    folder
        .migrator()
        .up(&db.admin_url(), &SystemClock)
        .await
        .unwrap();
    for (up, down, named) in [
        (
            "create table jobs (id bigint);",
            JOBS.2,
            "0001_create_jobs.up.sql has changed",
        ),
        (
            JOBS.1,
            "drop table if exists jobs;",
            "0001_create_jobs.down.sql has changed",
        ),
    ] {
        folder.put(1, JOBS.0, up, down);
        let refused = folder
            .migrator()
            .up(&db.admin_url(), &SystemClock)
            .await
            .unwrap_err();
        assert_eq!(
            (refused.kind(), refused.code()),
            (Kind::Conflict, "migration_changed")
        );
        assert!(refused.to_string().contains(named), "{refused}");
        let status = folder.migrator().status(&db.admin_url()).await.unwrap();
        assert!(
            !status.is_clean() && status.changed[0].contains(named),
            "{status:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_missing_in_between_is_refused() {
    let db = TestDb::empty().await;
    let folder = Folder::with(&[JOBS, NOTES]);
    folder
        .migrator()
        .up(&db.admin_url(), &SystemClock)
        .await
        .unwrap();
    db.admin()
        .await
        .execute("delete from schema_migrations where number = 1", &[])
        .await
        .unwrap();
    let refused = folder
        .migrator()
        .up(&db.admin_url(), &SystemClock)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "migration_gap");
    assert!(
        refused
            .to_string()
            .contains("0002_add_notes but not migration 0001"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_ends_its_own_transaction_is_refused_before_anything_runs() {
    let db = TestDb::empty().await;
    let folder = Folder::with(&[
        JOBS,
        (
            "add_commit",
            "create table t (id int); commit;",
            "drop table t;",
        ),
    ]);
    let refused = folder
        .migrator()
        .up(&db.admin_url(), &SystemClock)
        .await
        .unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("0002_add_commit.up.sql:1: explicit-transaction"),
        "{refused}"
    );
    let two =
        "-- utxoiq: no-transaction\ncreate index concurrently if not exists a on t (a);\nselect 1;";
    folder.put(2, "add_commit", two, "select 1;");
    let refused = folder
        .migrator()
        .up(&db.admin_url(), &SystemClock)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("one-statement"), "{refused}");
    assert_eq!(
        value(&db.admin().await, "select to_regclass('schema_migrations')").await,
        None
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_behind_our_back_is_shown_line_by_line() {
    let db = TestDb::empty().await;
    let folder = Folder::with(&[(
        "create_all",
        "create table t (id int constraint t_pkey primary key, a int not null, b text);
         create index t_a on t (a);
         create table days (at timestamptz not null) partition by range (at);
         create function f() returns trigger language plpgsql as $$ begin return new; end $$;
         create trigger t_f before insert on t for each row execute function f();
         create view v as select id from t;
         grant select on t to utxoiq_app;",
        "drop view v; drop trigger t_f on t; drop function f(); drop table days; drop table t;",
    )]);
    let url = db.admin_url();
    folder.migrator().up(&url, &SystemClock).await.unwrap();
    let admin = db.admin().await;
    // What the service does day by day is no drift.
    admin
        .batch_execute(
            "create table days_2026_01_01 partition of days for values from ('2026-01-01') to ('2026-01-02');
             create table days_2026_01_02 (like days);",
        )
        .await
        .unwrap();
    let status = folder.migrator().status(&url).await.unwrap();
    assert!(status.is_clean(), "{:?}", status.drift);
    admin
        .batch_execute(
            "alter table t add column c int default 7; alter table t alter column a drop not null;
             drop index t_a; create index t_b on t (b); alter table t add constraint t_a_positive check (a > 0);
             create or replace function f() returns trigger language plpgsql as $$ begin return null; end $$;
             alter table t disable trigger t_f; create table stray (id int);
             revoke select on t from utxoiq_app; grant delete on t to utxoiq_app; alter view v owner to postgres",
        )
        .await
        .unwrap();
    let status = folder.migrator().status(&url).await.unwrap();
    assert!(!status.is_clean());
    let drift: Vec<String> = status.drift.iter().map(ToString::to_string).collect();
    let shown = drift.join("\n");
    for line in [
        "- column public.t.a #02 integer not null",
        "+ column public.t.a #02 integer",
        "+ column public.t.c #04 integer default 7",
        "- index on public.t CREATE INDEX t_a ON public.t USING btree (a)",
        "+ index on public.t CREATE INDEX t_b ON public.t USING btree (b)",
        "+ constraint public.t t_a_positive CHECK ((a > 0))",
        "- grant select on table public.t to utxoiq_app",
        "+ grant delete on table public.t to utxoiq_app",
        "+ table public.stray owner postgres",
        "- view public.v owner utxoiq_owner",
        "+ view public.v owner postgres",
    ] {
        assert!(
            drift.iter().any(|shown| shown == line),
            "{line} is not in\n{shown}"
        );
    }
    for part in [
        "+ function public.f() ",
        "- function public.f() ",
        "ENABLED D",
    ] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
    assert!(!shown.contains("days"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binary_serves_only_on_a_schema_it_knows_or_one_marked_compatible() {
    let db = TestDb::empty().await;
    let store = db.store().await;
    let folder = Folder::with(&[JOBS, NOTES]);
    let ours = folder.migrator();
    let url = db.admin_url();
    let state = async || ours.compatibility(store.pool()).await.unwrap();
    assert_eq!(state().await, SchemaState::Unmigrated);
    Folder::with(&[JOBS])
        .migrator()
        .up(&url, &SystemClock)
        .await
        .unwrap();
    let missing = vec!["0002_add_notes".to_owned()];
    assert_eq!(state().await, SchemaState::TooOld { missing });
    ours.up(&url, &SystemClock).await.unwrap();
    assert_eq!(state().await, SchemaState::Ready { version: 2 });

    folder.put(
        3,
        "add_more",
        "-- utxoiq: backward-compatible\nalter table jobs add column more int;",
        "alter table jobs drop column more;",
    );
    folder.migrator().up(&url, &SystemClock).await.unwrap();
    let unknown = vec!["0003_add_more".to_owned()];
    assert_eq!(
        state().await,
        SchemaState::Newer {
            version: 3,
            unknown
        }
    );
    assert!(state().await.require().is_ok());
    folder.put(
        4,
        "add_less",
        "alter table jobs drop column note;",
        "alter table jobs add column note text;",
    );
    folder.migrator().up(&url, &SystemClock).await.unwrap();
    let incompatible = vec!["0004_add_less".to_owned()];
    assert_eq!(state().await, SchemaState::TooNew { incompatible });
    let refused = state().await.require().unwrap_err();
    assert_eq!(
        (refused.kind(), refused.code()),
        (Kind::Unavailable, "schema_mismatch")
    );
    // An older binary has nothing to apply, and says what it does not know.
    assert_eq!(ours.up(&url, &SystemClock).await.unwrap(), []);
    assert_eq!(
        ours.status(&url).await.unwrap().unknown,
        ["0003_add_more", "0004_add_less"]
    );

    let other = Folder::with(&[
        JOBS,
        (
            NOTES.0,
            "alter table jobs add column note varchar;",
            NOTES.2,
        ),
    ])
    .migrator();
    let changed = vec!["0002_add_notes".to_owned()];
    assert_eq!(
        other.compatibility(store.pool()).await.unwrap(),
        SchemaState::Different { changed }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_applications_role_finds_the_embedded_schema_ready() {
    let db = TestDb::new().await;
    let store = db.store().await;
    let state = utxoiq_store::db::migrate::compatibility(store.pool())
        .await
        .unwrap();
    assert!(matches!(state, SchemaState::Ready { .. }), "{state:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drafted_pair_is_applied_and_rolled_back_as_it_is_written() {
    let db = TestDb::empty().await;
    let folder = Folder::new();
    new_pair(folder.path(), "add_nothing", time("2026-01-02T03:04:05Z")).unwrap();
    assert_eq!(
        folder
            .migrator()
            .up(&db.admin_url(), &SystemClock)
            .await
            .unwrap()
            .len(),
        1
    );
    let done = folder
        .migrator()
        .down(
            &db.admin_url(),
            utxoiq_store::db::migrate::DownOptions::default(),
        )
        .await
        .unwrap();
    assert_eq!(done.map(|done| done.number), Some(1));
}
