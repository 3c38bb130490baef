//! Migrations.

use utxoiq_store::{clock::SystemClock, db::migrate::Migrator};

use crate::support::TestDb;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_applied_is_not_applied_again() {
    let db = TestDb::empty().await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("0001_create_t.up.sql"),
        "create table t (id int); create index t_id on t (id);",
    )
    .unwrap();
    std::fs::write(dir.path().join("0001_create_t.down.sql"), "drop table t;").unwrap();
    let migrator = Migrator::from_dir(dir.path()).unwrap();
    assert_eq!(
        migrator
            .up(&db.admin_url(), &SystemClock)
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        migrator.up(&db.admin_url(), &SystemClock).await.unwrap(),
        []
    );
    let db = TestDb::new().await;
    let store = db.store().await;
    let client = store.pool().get().await.unwrap();
    client
        .query("select number from schema_migrations", &[])
        .await
        .unwrap();
}
