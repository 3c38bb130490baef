//! Redis away, hung, without memory, or with a memory that is not ours.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use utxoiq_store::{cache::CacheState, clock::SystemClock};
use utxoiq_store_testkit::{FaultProxy, Mode, RedisServer};

use super::{Process, hours};

/// What a request may lose to Redis, and what a busy machine adds.
const PATIENCE: Duration = Duration::from_millis(50 + 100);

async fn two(redis: &str) -> (Process, Process) {
    let one = Process::start(redis, "100/h", SystemClock).await;
    let other = Process::start(redis, "100/h", hours(5)).await;
    (one, other)
}

/// Asks both until neither admits anything, and tells how many they did.
async fn drain(one: &Process, other: &Process) -> usize {
    let mut admitted = 0;
    for _ in 0..150 {
        admitted += one.take_many("caller", 1).await + other.take_many("caller", 1).await;
    }
    admitted
}

/// Waits until a process that admitted nothing yet sees that so many count in Redis.
async fn redis_counts(redis: &RedisServer, expected: u64) {
    let mut seen = 0;
    for _ in 0..100 {
        let key = redis.keys().await.pop();
        if let Some(key) = key {
            let key = String::from_utf8(key).unwrap();
            let ends = [
                redis.ask(&["LINDEX", &key, "0"]).await.bytes(),
                redis.ask(&["LINDEX", &key, "-1"]).await.bytes(),
            ];
            let field = |text: &[u8], place: usize| -> u64 {
                let text = String::from_utf8_lossy(text).into_owned();
                text.split(' ').nth(place).unwrap().parse().unwrap()
            };
            seen = field(&ends[1], 3) - field(&ends[0], 2);
            if seen == expected {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{seen} count in Redis, not {expected}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_dies_costs_nobody_time_and_gives_nobody_a_new_quota() {
    let redis = RedisServer::start().await;
    let (one, other) = two(&redis.url()).await;
    assert_eq!(
        one.take_many("caller", 20).await + other.take_many("caller", 20).await,
        40
    );
    // So that the first one has heard of all.
    assert!(one.take("caller").await.is_admitted);
    redis.kill9().await;
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut alone = [0, 0];
    for _ in 0..120 {
        for (process, count) in [&one, &other].into_iter().zip(&mut alone) {
            let asked = Instant::now();
            *count += usize::from(process.take("caller").await.is_admitted);
            slowest = slowest.max(asked.elapsed());
        }
    }
    assert!(slowest < PATIENCE && began.elapsed() < Duration::from_secs(1));
    // Each has what was left when it last heard: 41 were used, of which the other one knew 40.
    assert_eq!(alone, [59, 60]);
    assert_eq!(one.limiter.figures().without_redis, 120);
    // It comes back without a memory: all is told, and the limit is one again.
    redis.start_again().await;
    redis_counts(&redis, 41 + 59 + 60).await;
    assert_eq!(drain(&one, &other).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_costs_fifty_milliseconds_once() {
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::start_for_port(redis.port()).await;
    let process = Process::start(&redis.url_through(proxy.addr()), "1000/h", SystemClock).await;
    process.take_many("caller", 10).await;
    proxy.set(Mode::Silent).await;
    let process = Arc::new(process);
    let ask = async |process: Arc<Process>| {
        let asked = Instant::now();
        assert!(process.take("caller").await.is_admitted);
        asked.elapsed()
    };
    let waiting: Vec<_> = (0..32)
        .map(|_| tokio::spawn(ask(Arc::clone(&process))))
        .collect();
    for task in waiting {
        let took = task.await.unwrap();
        assert!(took < PATIENCE, "{took:?}");
    }
    let began = Instant::now();
    assert_eq!(process.take_many("caller", 100).await, 100);
    assert!(
        began.elapsed() < Duration::from_millis(100),
        "{:?}",
        began.elapsed()
    );
    // Silence was delivered late: what was under way may count twice, and nothing is lost.
    proxy.set(Mode::Pass).await;
    process.is(CacheState::Up).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let left = process.take("caller").await.remaining;
    assert!((1_000 - 143 - 32..=1_000 - 143).contains(&left), "{left}");
}

#[tokio::test]
async fn a_redis_that_forgets_is_told_again() {
    let redis = RedisServer::start().await;
    let (one, other) = two(&redis.url()).await;
    let mut admitted = one.take_many("caller", 30).await + other.take_many("caller", 30).await;
    // Evicted, or removed by someone; the connection stays.
    redis.flush().await;
    admitted += drain(&one, &other).await;
    assert_eq!(admitted, 100);
    // With another program's values in its place, too.
    redis.fill_with_garbage(1).await;
    let third = Process::start(&redis.url(), "100/h", SystemClock).await;
    let fresh = third.take_many("caller", 1).await;
    assert_eq!(fresh, 1, "who never heard of the caller admits it");
    assert_eq!(drain(&one, &other).await, 0);
}

#[tokio::test]
async fn a_redis_that_refuses_the_script_is_done_without() {
    let redis = RedisServer::start().await;
    let (one, other) = two(&redis.url()).await;
    assert_eq!(one.take_many("caller", 10).await, 10);
    redis.ask(&["SCRIPT", "FLUSH"]).await;
    assert_eq!(other.take("caller").await.remaining, 89);
    assert_eq!(other.limiter.figures().without_redis, 0);
    // No memory: refused, and an answer. What is admitted meanwhile is told later.
    redis.shrink().await;
    assert_eq!(one.take_many("caller", 10).await, 10);
    assert_eq!(one.limiter.figures().without_redis, 10);
    redis.grow().await;
    // Should it have evicted what it had, the first question finds that out, and the second one tells.
    assert_eq!(one.take_many("caller", 2).await, 2);
    assert_eq!(other.take_many("caller", 2).await, 2);
    redis_counts(&redis, 10 + 1 + 10 + 2 + 2).await;
    // It became a replica, which takes no writes.
    redis.ask(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let asked = Instant::now();
    assert_eq!(one.take_many("caller", 5).await, 5);
    assert!(asked.elapsed() < Duration::from_secs(1));
    assert_eq!(one.limiter.figures().without_redis, 15);
}
