//! Redis and the links to it and to the database fail in every way: reads stay right, and hardly slower.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use utxoiq_store_testkit::{
    FaultProxy,
    proxy::{Ending, Mode},
};

use super::probe::{World, key};

async fn commands(world: &World) -> MultiplexedConnection {
    let client = redis::Client::open(world.redis.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_redis_costs_one_wait_and_comes_back_within_seconds() {
    let world = World::new().await;
    world
        .sql("insert into probe select 'k' || g, g from generate_series(1, 3000) g")
        .await;
    let proxy = FaultProxy::start_for_port(world.redis.port()).await;
    let process = world.process_through(&proxy).await;
    process.warm("a").await;
    proxy.set(Mode::Silent).await;
    let mut slow = 0;
    for n in 1..=300 {
        let began = Instant::now();
        assert_eq!(process.read(&format!("k{n}")).await, Some(n));
        // The database answers in a millisecond or two; the rest of 50 is for a busy machine.
        if began.elapsed() > Duration::from_millis(45) {
            slow += 1;
        }
        assert!(
            began.elapsed() < Duration::from_millis(500),
            "{:?}",
            began.elapsed()
        );
        world.db.admin().await;
    }
    assert!(slow <= 3, "{slow} of 300 reads waited for Redis");
    proxy.set(Mode::Pass).await;
    proxy.cut(Ending::Reset).await;
    let began = Instant::now();
    let fills = process.figures().fills;
    let mut n = 300;
    while process.figures().fills == fills {
        n += 1;
        assert_eq!(process.read(&format!("k{n}")).await, Some(n));
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "Redis is not used again"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_old_is_read_after_a_link_was_cut_during_changes() {
    let world = World::new().await;
    let proxy = FaultProxy::start_for_port(world.redis.port()).await;
    let process = world.process_through(&proxy).await;
    let mut n = 1;
    for ending in [Ending::Reset, Ending::Close, Ending::Reset, Ending::Close] {
        process.warm("a").await;
        proxy.set(Mode::Refuse).await;
        proxy.cut(ending).await;
        n += 1;
        world.set("a", n).await;
        process.sees_within_a_second("a", Some(n)).await;
        proxy.set(Mode::Pass).await;
        for _ in 0..100 {
            assert_eq!(process.read("a").await, Some(n));
            // Let go of here, so that Redis is asked.
            process.space.wrote(&key("a"));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_restarts_with_old_data_shows_none_of_it() {
    let world = World::new().await;
    let process = world.process().await;
    process.warm("a").await;
    let mut redis = commands(&world).await;
    let _: () = redis::cmd("SAVE").query_async(&mut redis).await.unwrap();
    world.set("a", 2).await;
    process.sees_within_a_second("a", Some(2)).await;
    world.redis.kill9().await;
    world.redis.start_again().await;
    let mut redis = commands(&world).await;
    let old: Vec<String> = redis::cmd("KEYS")
        .arg("*:v:*")
        .query_async(&mut redis)
        .await
        .unwrap();
    assert!(
        !old.is_empty(),
        "the old data is not there: the test shows nothing"
    );
    for _ in 0..100 {
        assert_eq!(process.read("a").await, Some(2));
        process.space.wrote(&key("a"));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    process.warm("a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_in_redis_is_no_value_and_does_not_stay() {
    let world = World::new().await;
    let process = world.process().await;
    process.warm("a").await;
    let mut redis = commands(&world).await;
    for kind in ["SET", "RPUSH"] {
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg("utxoiq:*")
            .query_async(&mut redis)
            .await
            .unwrap();
        assert!(keys.len() >= 2, "{keys:?}");
        for key in &keys {
            let _: () = redis::cmd("DEL")
                .arg(key)
                .query_async(&mut redis)
                .await
                .unwrap();
            let _: () = redis::cmd(kind)
                .arg(key)
                .arg("\u{1}rubbish|1|2")
                .query_async(&mut redis)
                .await
                .unwrap();
        }
        process.space.wrote(&key("a"));
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(process.read("a").await, Some(1));
        process.warm("a").await;
    }
    // A value of another row under this row's key.
    process.warm("b").await;
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*:v:feedback_stats:b")
        .query_async(&mut redis)
        .await
        .unwrap();
    let newest = keys.last().unwrap();
    let _: () = redis::cmd("COPY")
        .arg(newest)
        .arg(newest.replace(":b", ":a"))
        .arg("REPLACE")
        .query_async(&mut redis)
        .await
        .unwrap();
    world.set("b", 7).await;
    process.sees_within_a_second("b", Some(7)).await;
    assert_eq!(process.read("a").await, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_without_memory_is_done_without() {
    let world = World::new().await;
    let process = world.process().await;
    process.warm("a").await;
    let mut redis = commands(&world).await;
    let _: () = redis::cmd("CONFIG")
        .arg("SET")
        .arg("maxmemory")
        .arg("1")
        .query_async(&mut redis)
        .await
        .unwrap();
    for n in 2..10 {
        world.set("a", n).await;
        process.sees_within_a_second("a", Some(n)).await;
    }
    let _: () = redis::cmd("CONFIG")
        .arg("SET")
        .arg("maxmemory")
        .arg("0")
        .query_async(&mut redis)
        .await
        .unwrap();
    process.warm("a").await;
    let _: () = redis::cmd("FLUSHALL")
        .query_async(&mut redis)
        .await
        .unwrap();
    world.set("a", 20).await;
    process.sees_within_a_second("a", Some(20)).await;
    process.warm("a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_became_a_replica_is_not_read() {
    let world = World::new().await;
    world
        .sql("insert into probe select 'k' || g, g from generate_series(1, 1000) g")
        .await;
    let process = world.process().await;
    process.warm("a").await;
    let mut redis = commands(&world).await;
    // Of a primary that is not there: it goes on answering reads with what it has.
    let _: () = redis::cmd("REPLICAOF")
        .arg("127.0.0.1")
        .arg("1")
        .query_async(&mut redis)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    let before = process.figures();
    for n in 1..100 {
        assert_eq!(process.read(&format!("k{n}")).await, Some(n));
        process.space.wrote(&key("other"));
        assert_eq!(process.read("a").await, Some(1));
    }
    let after = process.figures();
    assert_eq!(
        (after.hits_redis, after.fills),
        (before.hits_redis, before.fills)
    );
    let _: () = redis::cmd("REPLICAOF")
        .arg("NO")
        .arg("ONE")
        .query_async(&mut redis)
        .await
        .unwrap();
    process.warm("a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_put_back_shows_nothing_that_was_cached_after() {
    let world = World::new().await;
    let first = world.process().await;
    first.warm("a").await;
    drop(first);
    tokio::time::sleep(Duration::from_millis(200)).await;
    world.set("a", 2).await;
    // The head knows of transactions that the database has not come to yet.
    let mut redis = commands(&world).await;
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*:head")
        .query_async(&mut redis)
        .await
        .unwrap();
    let head: String = redis::cmd("GET")
        .arg(&keys[0])
        .query_async(&mut redis)
        .await
        .unwrap();
    let generation = head.split('|').next().unwrap();
    let _: () = redis::cmd("SET")
        .arg(&keys[0])
        .arg(format!("{generation}|99999999:99999999:|99999999"))
        .query_async(&mut redis)
        .await
        .unwrap();
    let second = world.process().await;
    for _ in 0..50 {
        assert_eq!(second.read("a").await, Some(2));
        second.space.wrote(&key("other"));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    second.warm("a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_lost_while_too_much_changes_loses_no_change() {
    let world = World::new().await;
    world
        .sql("insert into probe select 'k' || g, 0 from generate_series(1, 60000) g")
        .await;
    let process = world.process().await;
    let admin = world.db.admin().await;
    for n in 1..4 {
        process.warm("k7").await;
        world.sql(&format!("update probe set n = {n}")).await;
        for _ in 0..20 {
            let end = "select pg_terminate_backend(pid) from pg_stat_activity
                       where application_name = 'utxoiq-store cache' and datname = current_database()";
            admin.query(end, &[]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
        process.sees_within_a_second("k7", Some(n)).await;
        for _ in 0..30 {
            assert_eq!(process.read("k7").await, Some(n));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_hears_of_no_changes_serves_nothing_from_a_cache() {
    let world = World::new().await;
    let to_database = FaultProxy::start(database_address()).await;
    let url = through(&world, &to_database);
    let process = world
        .process_with(&[("DATABASE_URL", &url), ("REDIS_URL", &world.redis.url())])
        .await;
    process.warm("a").await;
    to_database.set(Mode::Silent).await;
    world.set("a", 2).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(process.space.peek(&key("a")).is_none());
    // The database is not there for anybody: no answer, rather than an old one.
    let answer = tokio::time::timeout(
        Duration::from_millis(500),
        process.space.get(&key("a"), None),
    )
    .await;
    assert!(answer.is_err() || answer.unwrap().is_err());
    to_database.set(Mode::Pass).await;
    to_database.cut(Ending::Reset).await;
    let began = Instant::now();
    loop {
        match process.space.get(&key("a"), None).await {
            Ok(cached) => {
                assert_eq!(cached.value, Some(2));
                break;
            }
            Err(_) => assert!(began.elapsed() < Duration::from_secs(20)),
        }
    }
    process.warm("a").await;
}

fn database_address() -> std::net::SocketAddr {
    let url = url::Url::parse(&utxoiq_store_testkit::urls::admin_url()).unwrap();
    let host = url.host_str().unwrap();
    format!("{host}:{}", url.port().unwrap()).parse().unwrap()
}

fn through(world: &World, proxy: &FaultProxy) -> String {
    let mut url = url::Url::parse(&world.db.app_url()).unwrap();
    url.set_ip_host(proxy.addr().ip()).unwrap();
    url.set_port(Some(proxy.addr().port())).unwrap();
    url.into()
}
