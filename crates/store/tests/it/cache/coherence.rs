//! No read is older than a second, and the writer sees its own write at once.

use std::time::Duration;

use super::probe::{World, key};

#[tokio::test(flavor = "multi_thread")]
async fn a_write_by_psql_is_seen_in_every_process_within_a_second() {
    let world = World::new().await;
    let processes = [
        world.process().await,
        world.process().await,
        world.process_alone().await,
    ];
    for process in &processes {
        process.warm_locally("a").await;
    }
    for n in 2..8 {
        world.set("a", n).await;
        for process in &processes {
            process.sees_within_a_second("a", Some(n)).await;
            process.warm_locally("a").await;
        }
    }
    let admin = world.db.admin().await;
    admin
        .batch_execute("delete from probe where id = 'a'")
        .await
        .unwrap();
    for process in &processes {
        process.sees_within_a_second("a", None).await;
        process.warm_locally("a").await;
        process.warm_locally("b").await;
    }
    admin.batch_execute("truncate probe").await.unwrap();
    for process in &processes {
        process.sees_within_a_second("b", None).await;
    }
    assert!(processes[0].figures().invalidations >= 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_committed_yet_is_neither_seen_nor_missed_later() {
    let world = World::new().await;
    let process = world.process().await;
    let mut admin = world.db.admin().await;
    let tx = admin.transaction().await.unwrap();
    tx.batch_execute("update probe set n = 2 where id = 'a'")
        .await
        .unwrap();
    process.warm("a").await;
    // Later transactions come and go, and are heard of, while the first stays open.
    for n in 2..5 {
        world.set("b", n).await;
        process.sees_within_a_second("b", Some(n)).await;
    }
    process.warm_locally("a").await;
    assert_eq!(process.read("a").await, Some(1));
    tx.commit().await.unwrap();
    process.sees_within_a_second("a", Some(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_that_wrote_sees_its_write_at_once() {
    let world = World::new().await;
    let process = world.process().await;
    process.warm("a").await;
    for n in 2..200 {
        world.set("a", n).await;
        process.space.wrote(&key("a"));
        assert_eq!(process.read("a").await, Some(n));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_shows_a_write_that_the_reader_names() {
    let world = World::new().await;
    let process = world.process().await;
    process.warm("a").await;
    let mut refused = 0;
    for n in 2..60 {
        let written = world.set("a", n).await;
        let before = process.figures().stale_refused;
        let read = process.space.get(&key("a"), Some(written)).await.unwrap();
        assert_eq!(read.value, Some(n));
        refused += process.figures().stale_refused - before;
        // A transaction that is not there, or not yet, hides nothing.
        let future = utxoiq_store::db::TransactionId(u64::MAX);
        let read = process.space.get(&key("a"), Some(future)).await.unwrap();
        assert_eq!(read.value, Some(n));
    }
    assert!(refused > 0, "no read ever met an old value");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_died_between_its_commit_and_the_invalidation_leaves_nothing_old_behind() {
    let world = World::new().await;
    let first = world.process().await;
    first.warm("a").await;
    drop(first);
    // Written while nobody listens.
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.set("a", 2).await;
    let second = world.process().await;
    for _ in 0..100 {
        assert_eq!(second.read("a").await, Some(2));
        second.space.wrote(&key("other"));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_comes_later_finds_what_did_not_change() {
    let world = World::new().await;
    let first = world.process().await;
    first.warm("b").await;
    drop(first);
    world.set("a", 2).await;
    let second = world.process().await;
    second.warm_locally("a").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(second.read("b").await, Some(1));
    assert_eq!(second.figures().hits_redis, 1, "{:?}", second.figures());
}

#[tokio::test(flavor = "multi_thread")]
async fn values_live_an_hour_in_redis_less_up_to_a_tenth() {
    let world = World::new().await;
    let process = world.process().await;
    process.warm("a").await;
    let client = redis::Client::open(world.redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*:v:feedback_stats:*")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(keys.len(), 1, "{keys:?}");
    let ttl: i64 = redis::cmd("PTTL")
        .arg(&keys[0])
        .query_async(&mut connection)
        .await
        .unwrap();
    assert!((3_200_000..=3_600_000).contains(&ttl), "{ttl} ms");
}
