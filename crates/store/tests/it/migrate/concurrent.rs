//! Many migrators, killed migrators, and tables that others hold.

use std::time::{Duration, Instant};

use tokio_postgres::Client;
use utxoiq_store::{
    clock::SystemClock,
    db::migrate::{Limits, Migrator},
};
use utxoiq_store_testkit::Proc;

use super::{Folder, JOBS, advisory_locks, applied, value};
use crate::support::TestDb;

const INDEX: &str =
    "-- utxoiq: no-transaction\ncreate index concurrently if not exists log_n on log (n);";
const NO_INDEX: &str = "-- utxoiq: no-transaction\ndrop index concurrently if exists log_n;";

/// What a child process of these tests does: it migrates.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "other tests run it as a process of its own"]
async fn a_process_that_migrates() {
    let (Ok(url), Ok(dir)) = (std::env::var("MIGRATE_URL"), std::env::var("MIGRATE_DIR")) else {
        return;
    };
    Migrator::from_dir(dir.as_ref())
        .unwrap()
        .up(&url, &SystemClock)
        .await
        .unwrap();
}

fn migrating_process(db: &TestDb, folder: &Folder) -> Proc {
    let name = "migrate::concurrent::a_process_that_migrates";
    let dir = folder.path().to_str().unwrap().to_owned();
    Proc::spawn(
        std::env::current_exe().unwrap(),
        ["--exact", name, "--ignored", "--nocapture"],
        [("MIGRATE_URL", db.admin_url()), ("MIGRATE_DIR", dir)],
    )
}

/// Waits until a question is answered with true.
async fn until(client: &Client, what: &str, sql: &str) {
    let started = Instant::now();
    while value(client, sql).await.as_deref() != Some("true") {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{what} did not happen within 20 s"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn running(part: &str) -> String {
    format!(
        "select exists (select from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and state = 'active' and query like '%{part}%')"
    )
}

const NO_LOCKS: &str =
    "select not exists (select from pg_locks l join pg_database d on d.oid = l.database
    where l.locktype = 'advisory' and d.datname = current_database())";

#[tokio::test(flavor = "multi_thread")]
async fn twenty_migrators_at_once_one_killed_and_one_failing_apply_each_migration_once() {
    let db = TestDb::empty().await;
    let admin = db.admin().await;
    let step = |number: i32, seconds: &str| {
        format!("insert into log values ({number}); select pg_sleep({seconds});")
    };
    let good = [
        (
            "create_log",
            "create table log (n int);".to_owned(),
            "drop table log;",
        ),
        ("add_two", step(2, "0.05"), "select 1;"),
        ("add_three", step(3, "1.5"), "select 1;"),
        ("add_index", INDEX.to_owned(), NO_INDEX),
        ("add_five", step(5, "0.05"), "select 1;"),
    ];
    let (folder, failing) = (Folder::new(), Folder::new());
    for (number, (name, up, down)) in (1..).zip(&good) {
        folder.put(number, name, up, down);
        failing.put(number, name, up, down);
    }
    failing.put(
        6,
        "add_six",
        "insert into log values (6);\nselect 1 / 0;",
        "select 1;",
    );

    let killed = migrating_process(&db, &folder);
    until(&admin, "the third migration", &running("pg_sleep(1.5)")).await;
    let mut runs = Vec::new();
    for number in 0..19 {
        let migrator = if number == 7 {
            failing.migrator()
        } else {
            folder.migrator()
        };
        let url = db.admin_url();
        runs.push(tokio::spawn(async move {
            (number, migrator.up(&url, &SystemClock).await)
        }));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    killed.kill9();

    let mut by_us = 0;
    for run in runs {
        let (number, outcome) = run.await.unwrap();
        match outcome {
            Ok(done) => by_us += done.len(),
            Err(error) => {
                assert_eq!((number, error.code()), (7, "migration_failed"), "{error}");
                assert!(error.to_string().contains("division by zero"), "{error}");
            }
        }
    }
    // The killed one had applied two; of the rest each was applied by one of us, unless the failing one did it.
    assert!(by_us <= 3, "{by_us}");
    assert_eq!(applied(&admin).await, [1, 2, 3, 4, 5]);
    let log = "select string_agg(n::text, ' ' order by n) from log";
    assert_eq!(value(&admin, log).await.as_deref(), Some("2 3 5"));
    assert_eq!(advisory_locks(&admin).await, 0);
    assert!(
        folder
            .migrator()
            .status(&db.admin_url())
            .await
            .unwrap()
            .is_clean()
    );

    folder.put(6, "add_six", "insert into log values (6);", "select 1;");
    assert_eq!(
        folder
            .migrator()
            .up(&db.admin_url(), &SystemClock)
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(value(&admin, log).await.as_deref(), Some("2 3 5 6"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_built_concurrently_while_seven_others_wait_deadlocks_with_none() {
    let db = TestDb::empty().await;
    let folder = Folder::with(&[
        (
            "create_log",
            "create table log (n int); insert into log select generate_series(1, 50000);",
            "drop table log;",
        ),
        ("add_index", INDEX, NO_INDEX),
    ]);
    let runs: Vec<_> = (0..8)
        .map(|_| {
            let (migrator, url) = (folder.migrator(), db.admin_url());
            tokio::spawn(async move { migrator.up(&url, &SystemClock).await })
        })
        .collect();
    let mut tries = Vec::new();
    for run in runs {
        let outcome = tokio::time::timeout(Duration::from_secs(20), run).await;
        let done = outcome.expect("they wait for each other");
        tries.extend(done.unwrap().unwrap().iter().map(|done| done.attempts));
    }
    assert_eq!(tries, [1, 1], "a deadlock would have cost a try");
    let admin = db.admin().await;
    assert_eq!(advisory_locks(&admin).await, 0);
    let valid = "select indisvalid from pg_index where indexrelid = 'log_n'::regclass";
    assert_eq!(value(&admin, valid).await.as_deref(), Some("true"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migrator_killed_while_it_builds_an_index_leaves_an_invalid_one_that_the_next_mends() {
    let db = TestDb::empty().await;
    let (admin, holder) = (db.admin().await, db.admin().await);
    let folder = Folder::with(&[("create_log", "create table log (n int);", "drop table log;")]);
    folder
        .migrator()
        .up(&db.admin_url(), &SystemClock)
        .await
        .unwrap();
    folder.put(2, "add_index", INDEX, NO_INDEX);
    // A writer that does not end: the build waits for it.
    holder
        .batch_execute("begin; insert into log values (1)")
        .await
        .unwrap();
    let process = migrating_process(&db, &folder);
    until(&admin, "the build", &running("create index concurrently")).await;
    until(
        &admin,
        "the index",
        "select to_regclass('log_n') is not null",
    )
    .await;
    process.kill9();
    let killed_at = Instant::now();
    until(&admin, "the release of the lock", NO_LOCKS).await;
    assert!(
        killed_at.elapsed() < Duration::from_secs(15),
        "{:?}",
        killed_at.elapsed()
    );
    holder.batch_execute("commit").await.unwrap();
    let valid = "select indisvalid from pg_index where indexrelid = 'log_n'::regclass";
    assert_eq!(value(&admin, valid).await.as_deref(), Some("false"));
    assert_eq!(applied(&admin).await, [1]);

    let done = folder
        .migrator()
        .up(&db.admin_url(), &SystemClock)
        .await
        .unwrap();
    assert_eq!(done.len(), 1);
    assert_eq!(value(&admin, valid).await.as_deref(), Some("true"));
    assert!(
        folder
            .migrator()
            .status(&db.admin_url())
            .await
            .unwrap()
            .is_clean()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_was_built_before_its_record_was_written_is_recorded_by_the_next() {
    let db = TestDb::empty().await;
    let folder = Folder::with(&[
        ("create_log", "create table log (n int);", "drop table log;"),
        ("add_index", INDEX, NO_INDEX),
    ]);
    folder
        .migrator()
        .up(&db.admin_url(), &SystemClock)
        .await
        .unwrap();
    let admin = db.admin().await;
    // What a kill in between leaves.
    admin
        .execute("delete from schema_migrations where number = 2", &[])
        .await
        .unwrap();
    assert_eq!(
        folder
            .migrator()
            .up(&db.admin_url(), &SystemClock)
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(applied(&admin).await, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_cannot_be_built_leaves_none_behind() {
    let db = TestDb::empty().await;
    let unique = "-- utxoiq: no-transaction\ncreate unique index concurrently if not exists log_n on log (n);";
    let folder = Folder::with(&[
        (
            "create_log",
            "create table log (n int); insert into log values (1), (1);",
            "drop table log;",
        ),
        ("add_index", unique, NO_INDEX),
    ]);
    let refused = folder
        .migrator()
        .up(&db.admin_url(), &SystemClock)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("0002_add_index.up.sql, statement 1, line 2")
            && refused.contains("duplicated"),
        "{refused}"
    );
    let admin = db.admin().await;
    assert_eq!(value(&admin, "select to_regclass('log_n')").await, None);
    assert_eq!(advisory_locks(&admin).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migrator_whose_backend_is_terminated_leaves_nothing_and_the_next_goes_on() {
    let db = TestDb::empty().await;
    let admin = db.admin().await;
    let folder = Folder::with(&[(
        "create_log",
        "create table log (n int); select pg_sleep(30);",
        "drop table log;",
    )]);
    let (migrator, url) = (folder.migrator(), db.admin_url());
    let run = tokio::spawn(async move { migrator.up(&url, &SystemClock).await });
    until(&admin, "the migration", &running("pg_sleep(30)")).await;
    let end = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query like '%pg_sleep(30)%' and pid <> pg_backend_pid()";
    admin.batch_execute(end).await.unwrap();
    assert!(run.await.unwrap().is_err());
    assert_eq!(
        (applied(&admin).await.len(), advisory_locks(&admin).await),
        (0, 0)
    );
    folder.put(
        1,
        "create_log",
        "create table log (n int);",
        "drop table log;",
    );
    assert_eq!(
        folder
            .migrator()
            .up(&db.admin_url(), &SystemClock)
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_somebody_holds_makes_up_try_again_while_readers_hardly_wait() {
    let db = TestDb::empty().await;
    let folder = Folder::with(&[JOBS]);
    folder
        .migrator()
        .up(&db.admin_url(), &SystemClock)
        .await
        .unwrap();
    folder.put(
        2,
        "add_notes",
        "alter table jobs add column note text;",
        "alter table jobs drop column note;",
    );
    for hold in [
        "begin; select * from jobs",
        "begin; insert into jobs values (1)",
    ] {
        let holder = db.admin().await;
        holder.batch_execute(hold).await.unwrap();
        let (migrator, url) = (folder.migrator(), db.admin_url());
        let run = tokio::spawn(async move { migrator.up(&url, &SystemClock).await });
        let (reader, started) = (db.admin().await, Instant::now());
        let (mut longest, mut reads) = (Duration::ZERO, 0);
        while started.elapsed() < Duration::from_millis(2_500) {
            let asked = Instant::now();
            let read = reader.batch_execute("select * from jobs");
            let read = tokio::time::timeout(Duration::from_secs(5), read).await;
            read.expect("a reader waits behind the migrator").unwrap();
            longest = longest.max(asked.elapsed());
            reads += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(!run.is_finished());
        holder.batch_execute("rollback").await.unwrap();
        let done = run.await.unwrap().unwrap();
        eprintln!(
            "{reads} reads, the longest took {longest:?}; up took {} tries",
            done[0].attempts
        );
        assert!(done[0].attempts > 2, "{done:?}");
        // It did wait behind the migrator, and no longer than its lock_timeout and a busy machine's delay.
        assert!(
            longest > Duration::from_millis(100) && longest < Duration::from_secs(2),
            "{longest:?}"
        );
        let options = utxoiq_store::db::migrate::DownOptions::default();
        folder
            .migrator()
            .down(&db.admin_url(), options)
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_held_for_ever_ends_the_tries_and_the_holder_is_named() {
    let db = TestDb::empty().await;
    let folder = Folder::with(&[JOBS]);
    folder
        .migrator()
        .up(&db.admin_url(), &SystemClock)
        .await
        .unwrap();
    folder.put(
        2,
        "add_notes",
        "create table kept_not (id int);\nalter table jobs add column note text;",
        "select 1;",
    );
    let holder = db.admin().await;
    holder
        .batch_execute("set application_name = 'nightly report'; begin; select * from jobs")
        .await
        .unwrap();
    let limits = Limits {
        attempts: 3,
        longest_pause: Duration::from_millis(50),
        ..Limits::default()
    };
    let refused = folder
        .migrator()
        .with_limits(limits)
        .up(&db.admin_url(), &SystemClock)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "migration_blocked");
    let message = refused.to_string();
    for part in [
        "0002_add_notes.up.sql, statement 2, line 2",
        "3 tries",
        "nightly report",
    ] {
        assert!(message.contains(part), "{part} is not in {message}");
    }
    let admin = db.admin().await;
    assert_eq!(value(&admin, "select to_regclass('kept_not')").await, None);
    assert_eq!(advisory_locks(&admin).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_migrator_that_does_not_end_is_not_waited_for_for_ever() {
    let db = TestDb::empty().await;
    let folder = Folder::with(&[(
        "create_log",
        "create table log (n int); select pg_sleep(3);",
        "drop table log;",
    )]);
    let (migrator, url) = (folder.migrator(), db.admin_url());
    let run = tokio::spawn(async move { migrator.up(&url, &SystemClock).await });
    until(&db.admin().await, "the migration", &running("pg_sleep(3)")).await;
    let limits = Limits {
        wait_for_other: Duration::from_millis(300),
        ..Limits::default()
    };
    let refused = folder
        .migrator()
        .with_limits(limits)
        .up(&db.admin_url(), &SystemClock)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "migration_locked");
    assert_eq!(run.await.unwrap().unwrap().len(), 1);
}
