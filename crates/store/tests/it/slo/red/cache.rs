//! The cache.

use std::time::Duration;

use chrono::TimeDelta;
use utxoiq_store::{Store, slo::State};
use utxoiq_store_testkit::{
    RedisServer,
    proxy::{Ending, FaultProxy, Mode},
};

use super::world::*;

/// A world with a Redis behind a proxy, in use.
async fn with_redis() -> (World, RedisServer, FaultProxy) {
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::start_for_port(redis.port()).await;
    let url = redis.url_through(proxy.addr());
    let world = World::with(&[("REDIS_URL", &url)]).await;
    world.store.cache().start();
    let mut tries = 0;
    while world
        .store
        .cache()
        .figures()
        .iter()
        .map(|one| one.fills)
        .sum::<u64>()
        == 0
    {
        let insight = format!("warm-{tries}");
        world
            .store
            .feedback()
            .rate(&insight, "u", 5, None, noon())
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        world
            .store
            .feedback()
            .stats_seen(&insight, None)
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        tries += 1;
        assert!(tries < 60, "Redis was never used");
    }
    // What was read before it was in use is not what is asked.
    world
        .store
        .slo()
        .keep(noon() - TimeDelta::days(3))
        .await
        .unwrap();
    (world, redis, proxy)
}

async fn read_statistics(store: &Store, insights: &[&str]) {
    for insight in insights {
        let _ = store.feedback().stats_seen(insight, None).await;
    }
}

pub async fn redis_not_asked() -> Seen {
    let (world, _redis, proxy) = with_redis().await;
    let mut round = 0;
    let before = loop {
        for name in ["a", "b", "c"] {
            read_statistics(&world.store, &[&format!("{name}-{round}")]).await;
        }
        let before = world.judged("C4.1").await;
        if world.is_settled(&before, round) {
            break before;
        }
        round += 1;
    };
    proxy.set(Mode::Refuse).await;
    proxy.cut(Ending::Close).await;
    read_statistics(&world.store, &["d"]).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    read_statistics(&world.store, &["e", "f", "g"]).await;
    (before, world.judged("C4.1").await)
}

pub async fn every_read_another_insight() -> Seen {
    let world = World::new().await;
    world.store.cache().start();
    let feedback = world.store.feedback();
    for _ in 0..2_000 {
        feedback.stats_seen("one", None).await.unwrap();
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    let before = world.judged("C4.2").await;
    world.clock.advance(TimeDelta::minutes(30));
    for number in 0..150 {
        feedback
            .stats_seen(&format!("insight-{number}"), None)
            .await
            .unwrap();
    }
    (before, world.judged("C4.2").await)
}

/// Waits until a change was heard of.
async fn heard(store: &Store, more_than: u64) {
    let invalidations = || {
        store
            .cache()
            .figures()
            .iter()
            .map(|one| one.invalidations)
            .sum::<u64>()
    };
    for _ in 0..200 {
        if invalidations() > more_than {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("no change was heard of");
}

pub async fn late_news() -> Seen {
    let world = World::new().await;
    world.store.cache().start();
    tokio::time::sleep(Duration::from_millis(500)).await;
    world
        .store
        .feedback()
        .rate("i", "u", 5, None, noon())
        .await
        .unwrap();
    heard(&world.store, 0).await;
    let before = world.judged("C4.3").await;
    world.clock.advance(TimeDelta::minutes(30));
    let known = world
        .store
        .cache()
        .figures()
        .iter()
        .map(|one| one.invalidations)
        .sum();
    // A change that was written two seconds ago and is seen only now.
    world
        .sql("insert into cache_outbox (kind, key, x, written_at)
              values ('feedback_stats', 'i', pg_current_xact_id(), clock_timestamp() - interval '2 s')")
        .await;
    heard(&world.store, known).await;
    (before, world.judged("C4.3").await)
}

pub async fn values_for_ever() -> Seen {
    let (world, redis, _proxy) = with_redis().await;
    let before = world.judged("C4.4").await;
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*:v:*")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert!(!keys.is_empty());
    for key in keys {
        let _: i64 = redis::cmd("PERSIST")
            .arg(key)
            .query_async(&mut connection)
            .await
            .unwrap();
    }
    let mut after = world.judged("C4.4").await;
    for _ in 0..40 {
        if after.state == State::Missed {
            break;
        }
        // The link to Redis was lost for a moment.
        tokio::time::sleep(Duration::from_millis(250)).await;
        after = world.judged("C4.4").await;
    }
    (before, after)
}

pub async fn no_answer_without_redis() -> Seen {
    let (world, _redis, proxy) = with_redis().await;
    proxy.set(Mode::Refuse).await;
    proxy.cut(Ending::Close).await;
    read_statistics(&world.store, &["d"]).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    read_statistics(&world.store, &["e", "f", "g"]).await;
    let before = world.judged("C4.5").await;
    world.sql("drop function feedback_read_stats cascade").await;
    read_statistics(&world.store, &["h"]).await;
    (before, world.judged("C4.5").await)
}
