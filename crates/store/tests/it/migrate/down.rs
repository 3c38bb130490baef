//! Rolling back: what it would lose is found out and said, by whatever means the file loses it.

use utxoiq_store::{
    Kind,
    clock::SystemClock,
    db::migrate::{DownOptions, Loss, Migrator},
};

use super::{Folder, JOBS, NOTES, applied, value};
use crate::support::TestDb;

const CAREFUL: DownOptions = DownOptions {
    allow_data_loss: false,
};
const CARELESS: DownOptions = DownOptions {
    allow_data_loss: true,
};

/// A database with the migrations of a folder, and `rows` inserted.
async fn database(folder: &Folder, rows: &str) -> TestDb {
    let db = TestDb::empty().await;
    folder
        .migrator()
        .up(&db.admin_url(), &SystemClock)
        .await
        .unwrap();
    db.admin().await.batch_execute(rows).await.unwrap();
    db
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_migration_is_rolled_back_one_at_a_time() {
    let folder = Folder::with(&[JOBS, NOTES]);
    let db = database(&folder, "").await;
    let migrator = folder.migrator();
    for expected in [Some(2), Some(1), None] {
        let done = migrator.down(&db.admin_url(), CAREFUL).await.unwrap();
        assert_eq!(done.as_ref().map(|done| done.number), expected);
        assert!(done.is_none_or(|done| done.lost.is_empty() && done.drift.is_empty()));
    }
    assert_eq!(
        migrator
            .up(&db.admin_url(), &SystemClock)
            .await
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn it_refuses_to_lose_tables_and_columns_with_data_and_says_how_many_rows() {
    let folder = Folder::with(&[
        JOBS,
        (
            "add_data",
            "create table \"Odd name\" (id int); create table days (at int) partition by range (at);
             create table days_1 partition of days for values from (0) to (10);
             create table empty (id int);
             alter table jobs add column note text, add column unused text;",
            "alter table jobs drop column note, drop column unused; drop table empty; drop table days; drop table \"Odd name\";",
        ),
    ]);
    let rows = "insert into jobs select i, case when i % 2 = 0 then 'x' end from generate_series(1, 7) i;
                insert into \"Odd name\" select generate_series(1, 3); insert into days values (1), (2);";
    let db = database(&folder, rows).await;
    let refused = folder
        .migrator()
        .down(&db.admin_url(), CAREFUL)
        .await
        .unwrap_err();
    assert_eq!(
        (refused.kind(), refused.code()),
        (Kind::Conflict, "would_lose_data")
    );
    let message = refused.to_string();
    for part in [
        "rolling back 0002_add_data would lose",
        "table public.\"Odd name\" with 3 rows",
        "table public.days with 2 rows",
        "column public.jobs.note with 3 values",
    ] {
        assert!(message.contains(part), "{part} is not in {message}");
    }
    for part in ["empty", "unused", "days_1"] {
        assert!(!message.contains(part), "{part} is in {message}");
    }
    let admin = db.admin().await;
    assert_eq!(applied(&admin).await, [1, 2]);
    assert_eq!(
        value(&admin, "select count(*) from days").await.as_deref(),
        Some("2")
    );

    let done = folder
        .migrator()
        .down(&db.admin_url(), CARELESS)
        .await
        .unwrap()
        .unwrap();
    let mut lost: Vec<String> = done.lost.iter().map(ToString::to_string).collect();
    lost.sort();
    assert_eq!(
        lost,
        [
            "column public.jobs.note with 3 values",
            "table public.\"Odd name\" with 3 rows",
            "table public.days with 2 rows"
        ]
    );
    assert_eq!(done.drift, []);
    assert_eq!(applied(&admin).await, [1]);
    assert_eq!(
        value(&admin, "select count(*) from jobs").await.as_deref(),
        Some("7")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn it_sees_rows_deleted_truncated_and_converted_too() {
    for (up, down, lost) in [
        (
            "select 1;",
            "delete from jobs where id < 3;",
            Loss::Rows {
                table: "public.jobs".to_owned(),
                rows: 2,
            },
        ),
        (
            "select 1;",
            "truncate jobs;",
            Loss::Rows {
                table: "public.jobs".to_owned(),
                rows: 5,
            },
        ),
        (
            "alter table jobs alter column id type bigint;",
            "alter table jobs alter column id type smallint;",
            Loss::Retyped {
                table: "public.jobs".to_owned(),
                column: "id".to_owned(),
                types: ["bigint".to_owned(), "smallint".to_owned()],
                values: 5,
            },
        ),
        (
            "select 1;",
            "alter table jobs drop constraint jobs_pkey; drop table jobs; create table jobs (id int constraint jobs_pkey primary key);",
            Loss::Table {
                table: "public.jobs".to_owned(),
                rows: 5,
            },
        ),
    ] {
        let folder = Folder::with(&[JOBS, ("change_jobs", up, down)]);
        let db = database(&folder, "insert into jobs select generate_series(1, 5)").await;
        let refused = folder
            .migrator()
            .down(&db.admin_url(), CAREFUL)
            .await
            .unwrap_err();
        assert!(
            refused.to_string().contains(&lost.to_string()),
            "{down}: {refused}"
        );
        let admin = db.admin().await;
        assert_eq!(
            value(&admin, "select count(*) from jobs").await.as_deref(),
            Some("5"),
            "{down}"
        );
        let done = folder
            .migrator()
            .down(&db.admin_url(), CARELESS)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(done.lost, [lost]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_table_and_a_dropped_index_lose_nothing() {
    let index = "-- utxoiq: no-transaction\ncreate index concurrently if not exists works_id on works (id);";
    let no_index = "-- utxoiq: no-transaction\ndrop index concurrently if exists works_id;";
    let folder = Folder::with(&[
        JOBS,
        (
            "rename_jobs",
            "alter table jobs rename to works;",
            "alter table works rename to jobs;",
        ),
        ("add_index", index, no_index),
    ]);
    let db = database(&folder, "insert into works select generate_series(1, 5)").await;
    for number in [3, 2] {
        let done = folder
            .migrator()
            .down(&db.admin_url(), CAREFUL)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (done.number, done.lost.len(), done.drift.len()),
            (number, 0, 0)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_binary_rolls_a_newer_migration_back_by_what_the_database_kept() {
    let folder = Folder::with(&[JOBS, NOTES]);
    let db = database(&folder, "").await;
    let older: Migrator = Folder::with(&[JOBS]).migrator();
    let done = older.down(&db.admin_url(), CAREFUL).await.unwrap().unwrap();
    assert_eq!((done.number, done.name.as_str()), (2, "add_notes"));
    assert!(older.status(&db.admin_url()).await.unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_down_file_that_undoes_less_than_all_is_told_on() {
    let folder = Folder::with(&[
        JOBS,
        (
            "add_two",
            "create table a (id int); create table b (id int);",
            "drop table a;",
        ),
    ]);
    let db = database(&folder, "").await;
    // What somebody else did before is not this file's doing.
    let stray = "create table stray (id int)";
    db.admin().await.batch_execute(stray).await.unwrap();
    let done = folder
        .migrator()
        .down(&db.admin_url(), CAREFUL)
        .await
        .unwrap()
        .unwrap();
    let drift: Vec<String> = done.drift.iter().map(ToString::to_string).collect();
    assert!(
        !drift.iter().any(|line| line.contains("stray")),
        "{drift:?}"
    );
    assert!(
        drift.contains(&"+ table public.b owner utxoiq_owner".to_owned()),
        "{drift:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_down_changes_nothing() {
    let folder = Folder::with(&[
        JOBS,
        (
            "add_a",
            "create table a (id int);",
            "drop table a;\ndrop table nowhere;",
        ),
    ]);
    let db = database(&folder, "").await;
    let refused = folder
        .migrator()
        .down(&db.admin_url(), CARELESS)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused
            .contains("0002_add_a.down.sql, statement 2, line 2: table \"nowhere\" does not exist"),
        "{refused}"
    );
    assert_eq!(applied(&db.admin().await).await, [1, 2]);
    assert!(
        folder
            .migrator()
            .status(&db.admin_url())
            .await
            .unwrap()
            .is_clean()
    );
}
