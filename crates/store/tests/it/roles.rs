//! The roles: who may what, and that making them is repeatable.

use utxoiq_store::db::roles;

use crate::support::TestDb;

#[tokio::test(flavor = "multi_thread")]
async fn making_the_roles_again_and_many_at_once_changes_nothing_and_fails_never() {
    let dbs = [
        TestDb::empty().await,
        TestDb::empty().await,
        TestDb::empty().await,
    ];
    let mut runs = Vec::new();
    for round in 0..12 {
        let url = dbs[round % dbs.len()].admin_url();
        runs.push(tokio::spawn(async move { roles::init(&url).await }));
    }
    for run in runs {
        run.await.unwrap().unwrap();
    }
}
