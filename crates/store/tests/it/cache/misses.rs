//! What a miss costs: one query for many, and nothing that could fill the cache with what is old.

use std::time::Duration;

use futures_util::future::join_all;

use super::probe::{World, key};

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_misses_at_once_on_one_key_are_one_query() {
    let world = World::new().await;
    let process = world.process().await;
    process.warm_locally("b").await;
    let (before, joined) = (process.loads(), process.figures().joined);
    let held_back = process.gate.write().await;
    let reads = (0..1_000).map(|_| process.read("a"));
    let (found, ()) = tokio::join!(join_all(reads), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(held_back);
    });
    assert_eq!(found, vec![Some(1); 1_000]);
    assert_eq!(process.loads(), before + 1);
    assert_eq!(process.figures().joined, joined + 999);
}

#[tokio::test(flavor = "multi_thread")]
async fn misses_on_different_keys_share_queries() {
    let world = World::new().await;
    world
        .sql("insert into probe select 'k' || g, g from generate_series(1, 300) g")
        .await;
    let process = world.process_alone().await;
    let held_back = process.gate.write().await;
    let ids: Vec<String> = (1..=300).map(|n| format!("k{n}")).collect();
    let reads = ids.iter().map(|id| process.read(id));
    let (found, ()) = tokio::join!(join_all(reads), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(held_back);
    });
    assert_eq!(found, (1..=300).map(Some).collect::<Vec<_>>());
    // Two lanes begin with what is there first; the rest is one query.
    assert!(process.loads() <= 4, "{} queries", process.loads());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_leaves_the_others_their_answer() {
    let world = World::new().await;
    let process = world.process_alone().await;
    process.warm_locally("b").await;
    let before = process.loads();
    let held_back = process.gate.write().await;
    let space = process.space.clone();
    let first = tokio::spawn(async move { space.get(&key("a"), None).await.map(|_| ()) });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (second, ()) = tokio::join!(process.read("a"), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        first.abort();
        drop(held_back);
    });
    assert_eq!((second, process.loads()), (Some(1), before + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_before_a_change_fills_neither_layer() {
    let world = World::new().await;
    let (slow, other) = (world.process().await, world.process().await);
    slow.warm("a").await;
    world.set("a", 2).await;
    other.sees_within_a_second("a", Some(2)).await;
    slow.sees_within_a_second("a", Some(2)).await;
    // From here on nothing of the key is in Redis.
    slow.space.wrote(&key("a"));
    world.set("a", 3).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let refused = slow.figures().fills_refused;

    let held_back = slow.gate.write().await;
    let space = slow.space.clone();
    let reading = tokio::spawn(async move { space.get(&key("a"), None).await.unwrap().value });
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.set("a", 4).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(held_back);
    // It began before the change: it may see what was there then.
    assert_eq!(reading.await.unwrap(), Some(3));
    assert!(
        slow.space.peek(&key("a")).is_none(),
        "the old value was kept here"
    );
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(slow.figures().fills_refused, refused + 1);
    assert_eq!(other.read("a").await, Some(4));
    assert_eq!(slow.read("a").await, Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_joins_a_read_that_began_before_a_change() {
    let world = World::new().await;
    let process = world.process_alone().await;
    process.warm_locally("b").await;
    let held_back = process.gate.write().await;
    let space = process.space.clone();
    let early = tokio::spawn(async move { space.get(&key("a"), None).await.unwrap().value });
    tokio::time::sleep(Duration::from_millis(20)).await;
    world.set("a", 2).await;
    process.space.wrote(&key("a"));
    let (late, ()) = tokio::join!(process.read("a"), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(held_back);
    });
    assert_eq!((early.await.unwrap(), late), (Some(1), Some(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_load_is_told_to_all_and_kept_by_nobody() {
    let world = World::new().await;
    let process = world.process_alone().await;
    world.sql("alter table probe rename to hidden").await;
    let a = key("a");
    let errors = join_all((0..20).map(|_| process.space.get(&a, None))).await;
    for error in errors {
        assert_eq!(error.unwrap_err().code(), "schema_mismatch");
    }
    world.sql("alter table hidden rename to probe").await;
    assert_eq!(process.read("a").await, Some(1));
}
