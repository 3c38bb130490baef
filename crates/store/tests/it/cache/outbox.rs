//! The outbox is emptied, and whoever may have missed something begins anew.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use utxoiq_store::{
    clock::{Clock as _, SystemClock},
    db::Pool,
};

use super::probe::World;

async fn rows(world: &World) -> i64 {
    let sql = "select count(*) from cache_outbox";
    world
        .db
        .admin()
        .await
        .query_one(sql, &[])
        .await
        .unwrap()
        .get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_visible_for_long_enough_is_deleted() {
    let world = World::new().await;
    let process = world.process_alone().await;
    let pool = Pool::open(&world.db.settings().database).unwrap();
    let now = SystemClock.now();
    let empty = async |later: i64| {
        let at: chrono::DateTime<Utc> = now + TimeDelta::seconds(later);
        process.cache.empty_outbox(&pool, at).await.unwrap()
    };
    // The table's two first rows.
    assert_eq!((empty(0).await, rows(&world).await), (0, 2));
    let mut admin = world.db.admin().await;
    let tx = admin.transaction().await.unwrap();
    tx.batch_execute("update probe set n = 9 where id = 'b'")
        .await
        .unwrap();
    world.set("a", 2).await;
    assert_eq!(empty(60).await, 0, "nothing is two minutes old");
    assert_eq!(
        empty(121).await,
        2,
        "the first two go; the third was not there when the mark was set"
    );
    tx.commit().await.unwrap();
    assert_eq!(
        empty(242).await,
        1,
        "the row that was visible at 121 s goes, and not the one that was open then"
    );
    assert_eq!(rows(&world).await, 1);
    assert_eq!((empty(363).await, rows(&world).await), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_may_have_missed_a_change_lets_go_of_everything() {
    let world = World::new().await;
    let process = world.process().await;
    process.warm("a").await;
    let before = process.figures().generations;
    // As if it had been silent while rows came and went.
    world
        .sql(
            "begin; update probe set n = 2 where id = 'a'; delete from cache_outbox; commit;
               update cache_outbox_horizon set deleted_snapshot = pg_current_snapshot()::text",
        )
        .await;
    // The snapshot in the statement above is ahead of what the process had seen.
    process.sees_within_a_second("a", Some(2)).await;
    assert!(
        process.figures().generations > before,
        "{:?}",
        process.figures()
    );
    process.warm("a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_changes_than_can_be_told_one_by_one_let_go_of_everything() {
    let world = World::new().await;
    let process = world.process().await;
    process.warm("a").await;
    world.sql("insert into probe select 'k' || g, g from generate_series(1, 60000) g; update probe set n = 5").await;
    process.sees_within_a_second("a", Some(5)).await;
    process.sees_within_a_second("k77", Some(5)).await;
    process.warm("a").await;
    world
        .sql("update probe set n = 6 where id like 'k1%'")
        .await;
    process.sees_within_a_second("k177", Some(6)).await;
    assert_eq!(process.read("a").await, Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restored_database_brings_of_another_clusters_outbox_is_passed_over_and_deleted() {
    let world = World::new().await;
    let process = world.process().await;
    process.warm("a").await;
    let before = process.figures();
    world
        .sql(
            "insert into cache_outbox (kind, key, x, written_at)
             select 'probe', 'a', '999999999'::xid8, clock_timestamp() from generate_series(1, 5);
             update cache_outbox_horizon set deleted_snapshot = '999999999:999999999:'",
        )
        .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let after = process.figures();
    assert_eq!(after.invalidations, before.invalidations);
    assert_eq!(after.generations, before.generations);
    world.set("a", 2).await;
    process.sees_within_a_second("a", Some(2)).await;
    let pool = Pool::open(&world.db.settings().database).unwrap();
    let gone = process.cache.empty_outbox(&pool, SystemClock.now()).await;
    assert!(gone.unwrap() >= 5);
    process.warm("a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_number_that_is_given_twice_is_heard_of_twice() {
    let world = World::new().await;
    let process = world.process().await;
    process.warm("a").await;
    // What a crash can do to a transaction that left no trace: its number comes again, and every snapshot takes it for seen.
    world.sql("alter table probe disable trigger all; update probe set n = 3 where id = 'a';
               insert into cache_outbox (kind, key, x, written_at) values ('probe', 'a', '700', clock_timestamp())").await;
    process.sees_within_a_second("a", Some(3)).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
}
