//! Without Redis the database answers, and nobody notices (C4.5).

use std::time::{Duration, Instant};

use tokio::time::sleep;
use utxoiq_store_testkit::{Mode, proxy::Ending, urls};
use uuid::Uuid;

use super::{
    INSIGHTS, SERVERS,
    checker::Verdict,
    faults::{Fault, Step},
    has_redis,
    history::{Purpose, Stats, Time},
    sql,
    storm::{Load, Storm},
    world::{Base, Kind, World},
};

/// Redis must be in use again so soon after it is back.
const BACK: Duration = Duration::from_secs(5);
/// Two answers that came so soon show that the machine has time.
const QUICK: Duration = Duration::from_millis(25);
const PATIENCE: Duration = Duration::from_mins(1);
/// What a Redis that is broken may cost a request.
const COST: Duration = Duration::from_millis(50);
/// How many may be slower than the slowest that the database alone took, plus what a broken Redis may cost: a machine
/// that tests share is not quiet.
const SLOW_SHARE: f64 = 0.03;

/// Longer than changes take to be heard of: until then, what is read of a new insight is not put into Redis.
const HEARD: Duration = Duration::from_millis(150);
/// Until what a server has read lies in Redis.
const FILLED: Duration = Duration::from_millis(20);

/// Waits until each server has had another hit in Redis; how long that took.
///
/// Hits of the load alone come about once a second, by chance: each try makes sure that there is one to be had. The limit
/// holds for undisturbed time, in which both Redis and the server answer the harness quickly: on a machine that is busy
/// with other tests Redis is, to a server that waits 50 ms, away.
async fn back_in_use(world: &World, after: &str) -> Duration {
    let started = Instant::now();
    let owner = world.owner().await;
    let mut waited = Duration::ZERO;
    for server in 0..SERVERS {
        let before = redis_hits(world, server).await;
        loop {
            let asked = Instant::now();
            world.redis.ask(&["PING"]).await;
            world.alive(server).await;
            let is_quick = asked.elapsed() < QUICK;
            offer(world, &owner, server).await;
            if redis_hits(world, server).await > before {
                break;
            }
            waited = if is_quick {
                waited + asked.elapsed()
            } else {
                Duration::ZERO
            };
            assert!(
                waited < BACK && started.elapsed() < PATIENCE,
                "Redis is not used again by server {server} {:?} after {after}\n{}",
                started.elapsed(),
                world.servers[server].output()
            );
        }
    }
    started.elapsed()
}

/// Lets a server read what another one has just read: an insight that nobody else asks for.
async fn offer(world: &World, owner: &tokio_postgres::Client, server: usize) {
    let insight = format!("offer-{}", Uuid::new_v4());
    owner
        .execute(sql::RATE, &[&insight, &"somebody", &5_i16])
        .await
        .unwrap();
    sleep(HEARD).await;
    for reader in [(server + 1) % SERVERS, server] {
        let read = world.stats(reader, &insight, None).await;
        assert_eq!(read, Ok(Stats([0, 0, 0, 0, 1])), "server {reader}");
        sleep(FILLED).await;
    }
}

async fn redis_hits(world: &World, server: usize) -> f64 {
    let hits = world.hits(server, "redis").await;
    hits.unwrap_or_else(|| panic!("/metrics has no hits of feedback_stats in the layer redis"))
}

/// Cuts every server off from Redis; reads during the returned span are the database's alone.
async fn without_redis(world: &World) -> (Time, Time) {
    for server in &world.servers {
        server.redis_link.set(Mode::Refuse).await;
        server.redis_link.cut(Ending::Close).await;
    }
    // Until every server has noticed, and what it keeps in the process is not all it serves.
    sleep(Duration::from_millis(300)).await;
    let from = world.recorder.now();
    sleep(Duration::from_millis(1_200)).await;
    let to = world.recorder.now();
    for server in &world.servers {
        server.redis_link.set(Mode::Pass).await;
    }
    (from, to)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_stopped_started_frozen_and_filled_with_garbage_under_load_costs_no_request() {
    if !has_redis() {
        return;
    }
    let seed = urls::seed();
    let base = Base::start().await;
    let world = World::start(&base, Kind::Product, SERVERS, INSIGHTS).await;
    let mut storm = Storm::start(&world, seed, Load::default()).await;
    let alone = without_redis(&world).await;
    let mut report = vec![("Redis came", back_in_use(&world, "it came").await)];
    for _ in 0..urls::scale(1, 20) {
        for (what, fault, lasts) in [
            ("it was started again", Fault::RedisKilled, 800),
            ("it went on", Fault::RedisFrozen, 1_200),
            ("it held garbage", Fault::RedisGarbage, 600),
        ] {
            storm.step(&Step::new(fault, lasts, 0)).await;
            report.push((what, back_in_use(&world, what).await));
        }
    }
    let outcome = storm.end().await;
    let reads = |within: &dyn Fn(Time) -> bool| {
        let reads = outcome.history.calls.iter();
        let mut durations: Vec<Duration> = reads
            .filter(|call| matches!(call.purpose, Purpose::Read { .. }) && within(call.start))
            .map(|call| call.end.saturating_sub(call.start))
            .collect();
        durations.sort_unstable();
        Verdict {
            durations,
            ..Verdict::default()
        }
    };
    let database = reads(&|start| alone.0 <= start && start < alone.1);
    let broken = reads(&|start| start >= alone.1);
    let bound = database.quantile(1.0) + COST;
    let slow = broken.slower_than(bound);
    println!(
        "  in use again after {report:?}\n  the database alone took {:?} (median), {:?} (longest) in {} reads; \
         {slow} of {} took longer than that plus {COST:?}",
        database.quantile(0.5),
        database.quantile(1.0),
        database.durations.len(),
        broken.durations.len(),
    );
    outcome.must_be_right(seed, 500, 20);
    assert!(
        slow as f64 <= broken.durations.len() as f64 * SLOW_SHARE,
        "seed {seed}: {slow} of {} reads took longer than {bound:?}",
        broken.durations.len()
    );
}
