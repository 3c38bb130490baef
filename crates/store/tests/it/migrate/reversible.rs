//! Each embedded migration goes up, down and up again with rows in the tables, and nothing tells the difference.
//!
//! `rows/NNNN.sql` has the rows for the tables that migration NNNN makes.

use std::{collections::BTreeMap, fs, path::Path};

use tokio_postgres::Client;
use utxoiq_store::{
    clock::SystemClock,
    db::migrate::{DownOptions, Migration, Migrator, catalogue},
};

use super::Folder;
use crate::support::TestDb;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
const ROWS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/rows");

/// The first migrations only.
fn up_to(folder: &Folder, migrations: &[Migration]) -> Migrator {
    for migration in migrations {
        for script in [&migration.up, &migration.down] {
            fs::write(folder.path().join(&script.file), &script.sql).unwrap();
        }
    }
    folder.migrator()
}

/// Every table's rows as text, in an order of their own.
async fn content(client: &Client) -> BTreeMap<String, Vec<String>> {
    let tables = "select format('%I.%I', schemaname, tablename) from pg_tables
                  where schemaname = 'public' and tablename <> 'schema_migrations'";
    let mut content = BTreeMap::new();
    for row in client.query(tables, &[]).await.unwrap() {
        let table: String = row.get(0);
        let sql = format!("select t::text from {table} t order by t::text collate \"C\"");
        let rows = client.query(&sql, &[]).await.unwrap();
        content.insert(table, rows.iter().map(|row| row.get(0)).collect());
    }
    content
}

/// The catalogue without extensions: a down file leaves them, because others may use them.
async fn schema(url: &str) -> Vec<String> {
    let lines = catalogue(url).await.unwrap();
    lines
        .into_iter()
        .filter(|line| !line.starts_with("extension "))
        .collect()
}

/// Inserts a migration's rows; fails where it made a table that has none afterwards.
async fn insert_rows(client: &Client, migration: &Migration) {
    let path = Path::new(ROWS).join(format!("{:04}.sql", migration.number));
    if let Ok(sql) = fs::read_to_string(&path) {
        client.batch_execute(&sql).await.unwrap();
    }
    for (table, rows) in content(client).await {
        assert!(
            !rows.is_empty(),
            "{table} is empty after {}: insert a believable row for it in tests/it/rows/{:04}.sql",
            migration.label(),
            migration.number
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_migration_goes_up_down_and_up_with_rows_and_leaves_catalogue_and_content_as_they_were()
 {
    let all = Migrator::from_dir(Path::new(FOLDER)).unwrap();
    let db = TestDb::empty().await;
    let (url, admin) = (db.admin_url(), db.admin().await);
    let folder = Folder::new();
    for (done, migration) in all.migrations().iter().enumerate() {
        let label = migration.label();
        let (schema_before, content_before) = (schema(&url).await, content(&admin).await);
        let migrator = up_to(&folder, &all.migrations()[..=done]);
        migrator.up(&url, &SystemClock).await.unwrap();
        insert_rows(&admin, migration).await;
        let (schema_after, content_after) = (schema(&url).await, content(&admin).await);

        let options = DownOptions {
            allow_data_loss: true,
        };
        let rolled_back = migrator.down(&url, options).await.unwrap().unwrap();
        assert_eq!(
            schema(&url).await,
            schema_before,
            "{label}: down does not undo up"
        );
        assert_eq!(rolled_back.drift, [], "{label}");
        assert_eq!(
            content(&admin).await,
            content_before,
            "{label}: down changes other tables"
        );

        migrator.up(&url, &SystemClock).await.unwrap();
        insert_rows(&admin, migration).await;
        assert_eq!(
            schema(&url).await,
            schema_after,
            "{label}: up again makes another schema"
        );
        assert_eq!(
            content(&admin).await,
            content_after,
            "{label}: up again makes other rows"
        );
        assert!(migrator.status(&url).await.unwrap().is_clean(), "{label}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_migrations_go_down_to_nothing_and_up_again() {
    let all = Migrator::from_dir(Path::new(FOLDER)).unwrap();
    let db = TestDb::new().await;
    let (url, admin) = (db.admin_url(), db.admin().await);
    let migrated = schema(&url).await;
    for migration in all.migrations() {
        let path = Path::new(ROWS).join(format!("{:04}.sql", migration.number));
        if let Ok(sql) = fs::read_to_string(&path) {
            admin.batch_execute(&sql).await.unwrap();
        }
    }
    let options = DownOptions {
        allow_data_loss: true,
    };
    while all.down(&url, options).await.unwrap().is_some() {}
    assert_eq!(schema(&url).await, Vec::<String>::new());
    assert_eq!(
        all.up(&url, &SystemClock).await.unwrap().len(),
        all.migrations().len()
    );
    assert_eq!(schema(&url).await, migrated);
}
