//! What the cache of statistics spares the database, and how long a change lives in it (C4.2, C4.3).
//!
//! Three stores stand for three processes, on one database and one Redis. What it prints is for people to judge:
//! nothing is asserted.

#![allow(
    clippy::print_stdout,
    reason = "what was measured is printed: that is what it is for"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement that cannot go on fails"
)]

#[path = "../tests/it/support.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the tests use more of their databases"
)]
mod database;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use database::TestDb;
use hdrhistogram::Histogram;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::task::JoinSet;
use utxoiq_store::{Store, cache::Figures};
use utxoiq_store_testkit::RedisServer;

const INSIGHTS: usize = 100_000;
/// The exponent of the distribution: a few insights are read all the time, most of them seldom.
const SKEW: f64 = 0.99;
/// One of so many operations is a rating.
const WRITES: u32 = 100;
const READS_A_ROUND: u64 = 400_000;
const ROUNDS: usize = 4;
const CLIENTS: usize = 16;
const COMMITS: usize = 400;

#[tokio::main]
async fn main() {
    if !asked_for("cache") {
        return;
    }
    let db = TestDb::new().await;
    let redis = RedisServer::start().await;
    let settings = db.settings_with(&[("REDIS_URL", &redis.url())]);
    let stores: Vec<Store> = (0..3)
        .map(|_| Store::open(settings.clone()).unwrap())
        .collect();
    fill(&db).await;
    for store in &stores {
        store.cache().start();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    hit_rate(&stores).await;
    commit_to_gone(&db, &stores).await;
}

/// Whether the part of a title given on the command line is in this one.
fn asked_for(title: &str) -> bool {
    let mut args = std::env::args().skip(1);
    let mut only = None;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--bench" => {}
            name if name.starts_with("--") => {
                args.next();
            }
            _ => only = Some(arg),
        }
    }
    only.is_none_or(|only| title.contains(&only))
}

/// Every insight has been rated once.
async fn fill(db: &TestDb) {
    let sql = format!(
        "insert into insight_feedback (insight_id, user_id, rating)
         select 'insight-' || g, 'first', 1 + g % 5 from generate_series(0, {}) g;
         analyze",
        INSIGHTS - 1
    );
    db.admin().await.batch_execute(&sql).await.unwrap();
}

/// How probable each insight is, added up.
fn zipf() -> Arc<[f64]> {
    let mut total = 0.0;
    (1..=INSIGHTS)
        .map(|rank| {
            total += (rank as f64).powf(-SKEW);
            total
        })
        .collect()
}

fn draw(cumulated: &[f64], random: &mut StdRng) -> usize {
    let total = cumulated.last().unwrap();
    let at = random.random_range(0.0..*total);
    cumulated.partition_point(|sum| *sum < at)
}

fn sum(stores: &[Store], what: fn(&Figures) -> u64) -> u64 {
    stores
        .iter()
        .map(|store| what(&store.cache().figures()[0]))
        .sum()
}

async fn hit_rate(stores: &[Store]) {
    println!(
        "\nhit rate of feedback statistics (goal 0.90): {INSIGHTS} insights, Zipf({SKEW}), 1 of {WRITES} operations a rating, {} processes, {CLIENTS} clients",
        stores.len()
    );
    let cumulated = zipf();
    let user = Arc::new(AtomicU64::new(0));
    for round in 0..ROUNDS {
        let counters: [fn(&Figures) -> u64; 5] = [
            |f| f.hits_local,
            |f| f.hits_redis,
            |f| f.misses,
            |f| f.joined,
            |f| f.loads,
        ];
        let before = counters.map(|counter| sum(stores, counter));
        let began = Instant::now();
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let store = stores[client % stores.len()].clone();
            let (cumulated, user) = (Arc::clone(&cumulated), Arc::clone(&user));
            clients.spawn(async move {
                let seed = u64::try_from(round * CLIENTS + client).unwrap();
                let mut random = StdRng::seed_from_u64(seed);
                for _ in 0..READS_A_ROUND / CLIENTS as u64 {
                    let insight = format!("insight-{}", draw(&cumulated, &mut random));
                    if random.random_range(0..WRITES) == 0 {
                        let user = format!("user-{}", user.fetch_add(1, Relaxed));
                        let rating = random.random_range(1..=5);
                        let now = store.now();
                        let feedback = store.feedback();
                        feedback
                            .rate(&insight, &user, rating, None, now)
                            .await
                            .unwrap();
                    } else {
                        store.feedback().stats_seen(&insight, None).await.unwrap();
                    }
                }
            });
        }
        clients.join_all().await;
        let seconds = began.elapsed().as_secs_f64();
        let after = counters.map(|counter| sum(stores, counter));
        let [local, redis, misses, joined, loads] = std::array::from_fn(|n| after[n] - before[n]);
        // Who joined a read under way was not served from a cache.
        let all = (local + redis + misses + joined) as f64;
        println!(
            "  operations {:>7} to {:>7}: hit rate {:.3} (in the process {:.3}, in Redis {:.3}), {} misses in {loads} queries, {:.0} operations/s",
            round as u64 * READS_A_ROUND,
            (round as u64 + 1) * READS_A_ROUND,
            (local + redis) as f64 / all,
            local as f64 / all,
            redis as f64 / all,
            misses + joined,
            READS_A_ROUND as f64 / seconds,
        );
    }
}

/// From the commit of a write by psql until no process holds the old value.
async fn commit_to_gone(db: &TestDb, stores: &[Store]) {
    let admin = db.admin().await;
    let mut gone = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).unwrap();
    let mut random = StdRng::seed_from_u64(7);
    for n in 0..COMMITS {
        let insight = format!("insight-{}", n % 50);
        for store in stores {
            while store.feedback().stats_held(&insight).is_none() {
                store.feedback().stats_seen(&insight, None).await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        // At any moment between two polls.
        tokio::time::sleep(Duration::from_micros(random.random_range(0..60_000))).await;
        let sql = "update insight_feedback set rating = rating % 5 + 1 where insight_id = $1 and user_id = 'first'";
        assert_eq!(admin.execute(sql, &[&insight]).await.unwrap(), 1);
        let committed = Instant::now();
        while stores
            .iter()
            .any(|store| store.feedback().stats_held(&insight).is_some())
        {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        let micros = u64::try_from(committed.elapsed().as_micros()).unwrap();
        gone.saturating_record(micros.max(1));
    }
    let millis = |quantile| gone.value_at_quantile(quantile) as f64 / 1e3;
    println!(
        "\ncommit (psql) to gone in every process, {COMMITS} commits (goal p99 < 100 ms): p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
        millis(0.5),
        millis(0.99),
        gone.max() as f64 / 1e3
    );
}
