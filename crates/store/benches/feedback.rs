//! Ratings through the store and by pgbench, on many insights and on one, and statistics read from the database (C2.1, C2.4).
//!
//! `./dev bench` starts a throw-away PostgreSQL with production's durability for it. What it prints is for people to
//! judge: nothing is asserted.

#![allow(
    clippy::print_stdout,
    reason = "what was measured is printed: that is what it is for"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement that cannot go on fails"
)]
#![allow(
    dead_code,
    reason = "what is shared with the measurements of backfill jobs is not all used here"
)]

#[path = "../tests/it/support.rs"]
mod database;
#[path = "support/measure.rs"]
mod measure;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use database::TestDb;
use tokio_postgres::{Client, types::Type};
use utxoiq_store::{
    Store,
    db::Statement,
    feedback::{load_stats, queries},
};

use measure::{
    Options,
    driver::{Sample, drive},
    fixture::session_settings,
    pgbench::{Pgbench, Script},
    report::{Comparison, Criterion, compare, print_table},
};

/// A rating is stored within 2 s.
const C2_1: Criterion = Criterion {
    name: "C2.1",
    limit: Duration::from_secs(2),
};

/// Feedback statistics of an insight within 100 ms.
const C2_4: Criterion = Criterion {
    name: "C2.4",
    limit: Duration::from_millis(100),
};

/// One rating, as a service without shared commits writes it. The triggers are the same.
const UPSERT: Statement = Statement {
    name: "bench.upsert",
    sql: "insert into insight_feedback as f (insight_id, user_id, rating, rated_at, created_at, updated_at)
          values ($1, $2, $3, $4, $4, $4)
          on conflict (insight_id, user_id) do update set
              rating = excluded.rating,
              rated_at = greatest(excluded.updated_at, f.updated_at + interval '1 microsecond'),
              updated_at = greatest(excluded.updated_at, f.updated_at + interval '1 microsecond')
          returning id, insight_id, user_id, rating, comment, flag_type, flag_reason, created_at, updated_at",
    params: &[Type::TEXT, Type::TEXT, Type::INT2, Type::TIMESTAMPTZ],
    columns: &[],
};

/// The same with one counter row for each insight, into tables without triggers, in one statement.
const COUNTER: Statement = Statement {
    name: "bench.counter",
    sql: "with written as (
              insert into bench_feedback as f (id, insight_id, user_id, rating, rated_at, created_at, updated_at)
              values (gen_random_uuid(), $1, $2, $3, $4, $4, $4)
              on conflict (insight_id, user_id) do update set
                  rating = excluded.rating,
                  rated_at = greatest(excluded.updated_at, f.updated_at + interval '1 microsecond'),
                  updated_at = greatest(excluded.updated_at, f.updated_at + interval '1 microsecond')
              returning insight_id)
          update bench_counters c set n = n + 1 from written where c.insight_id = written.insight_id",
    params: &[Type::TEXT, Type::TEXT, Type::INT2, Type::TIMESTAMPTZ],
    columns: &[],
};

const COUNTER_TABLES: &str = "
create table bench_feedback (like insight_feedback including all);
create table bench_counters (insight_id text primary key, n bigint not null) with (fillfactor = 50);
insert into bench_counters values ('hot', 0);
grant all on bench_feedback, bench_counters to public";

/// Every side begins with empty tables, so that no round pays for the one before.
const RESET: &str = "
truncate insight_feedback, feedback_history, feedback_day_deltas, feedback_days, feedback_overall_days, cache_outbox;
truncate bench_feedback;
update bench_counters set n = 0;
vacuum analyze;
checkpoint";

/// $1 ratings of one insight. Counting them as one statement would be the least: they come from a million.
const FILL: &str = "
insert into insight_feedback (insight_id, user_id, rating, rated_at, created_at, updated_at)
select 'hot', 'user ' || n, 1 + n % 5, $2, $2, $2 from generate_series(1, $1::bigint) n";

#[tokio::main]
async fn main() {
    let options = Options::from_args();
    let bench = Bench::new(&options).await;
    options.announce("pgbench");
    let comparisons = [
        bench
            .writes(&options, "ratings, each of another insight", "i", &UPSERT)
            .await,
        bench
            .writes(&options, "ratings of one insight", "", &UPSERT)
            .await,
        bench
            .writes(
                &options,
                "the same, pgbench with a counter row",
                "",
                &COUNTER,
            )
            .await,
        bench.cold_reads(&options).await,
    ];
    bench.cold_reads_under_writes(&options).await;
    print_table("pgbench", comparisons);
}

struct Bench {
    database: TestDb,
    admin: Client,
    store: &'static Store,
    pgbench: Pgbench,
}

impl Bench {
    async fn new(options: &Options) -> Self {
        let database = TestDb::new().await;
        let admin = database.admin().await;
        run(&admin, COUNTER_TABLES).await;
        // Connections for pgbench's share of the work and no more: a server has 20.
        let clients = options.clients.to_string();
        let config = database.settings_with(&[
            ("UTXOIQ_STORE_DATABASE__POOL_MIN", &clients),
            ("UTXOIQ_STORE_DATABASE__POOL_MAX", &clients),
        ]);
        let store: &'static Store = Box::leak(Box::new(Store::open(config).unwrap()));
        let pgbench = Pgbench {
            url: database.app_url(),
            options: session_settings(store).await,
        };
        Self {
            database,
            admin,
            store,
            pgbench,
        }
    }

    /// Ratings by users that never come twice, of insights that never come twice (those with a prefix) or of one.
    async fn writes(
        &self,
        options: &Options,
        title: &'static str,
        prefix: &'static str,
        theirs: &Statement,
    ) -> Option<Comparison> {
        let store = self.store;
        let insight = if prefix.is_empty() {
            "'hot'"
        } else {
            "'i' || :n"
        };
        let set = "\\set n random(1, 1000000000000000)\n\\set rating random(1, 5)";
        let parameters = [insight, "'user ' || :n", ":rating", ":now"];
        let script = Script::new(theirs, set, &parameters).define("now", store.now().to_rfc3339());
        let ours = async || {
            run(&self.admin, RESET).await;
            let before = store.feedback_writer().snapshot();
            let sample = drive(options, move |_, turn| async move {
                let n = rand::random_range(1..=1_000_000_000_000_000_u64);
                let insight = if prefix.is_empty() {
                    "hot".to_owned()
                } else {
                    format!("{prefix}{n}")
                };
                let rating = i16::try_from(1 + turn % 5).unwrap();
                let (user, now) = (format!("user {n}"), store.now());
                let rated = store
                    .feedback()
                    .rate(&insight, &user, rating, None, now)
                    .await;
                assert_eq!(rated.unwrap().entry.rating, Some(rating));
            })
            .await;
            let after = store.feedback_writer().snapshot();
            let (writes, commits) = (
                after.writes_total - before.writes_total,
                after.commits_total - before.commits_total,
            );
            print!(" {:.1} a commit", writes as f64 / commits as f64);
            sample
        };
        let theirs = async || {
            run(&self.admin, RESET).await;
            // Theirs are folded as ours are. The last fold is waited for: the tables are about to be emptied.
            let done = Arc::new(AtomicBool::new(false));
            let folding = Arc::clone(&done);
            let folds = tokio::spawn(async move {
                while !folding.load(Relaxed) {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    store.feedback().fold().await.unwrap();
                }
            });
            let sample = self.pgbench.run(options, &script).await;
            done.store(true, Relaxed);
            folds.await.unwrap();
            sample
        };
        compare(options, title, C2_1, ours, theirs).await
    }

    async fn fill(&self, options: &Options) {
        run(&self.admin, RESET).await;
        let now = self.store.now();
        self.admin
            .execute(FILL, &[&options.rows, &now])
            .await
            .unwrap();
        run(&self.admin, "vacuum analyze; checkpoint").await;
    }

    async fn cold_reads(&self, options: &Options) -> Option<Comparison> {
        let store = self.store;
        let script = Script::new(&queries::READ_STATS, "", &["array['hot']"]);
        let filled = tokio::sync::OnceCell::new();
        let fill = || filled.get_or_init(|| self.fill(options));
        let ours = async || {
            fill().await;
            drive(options, move |_, _| async move {
                let loaded = load_stats(store.pool(), &["hot".to_owned()]).await.unwrap();
                assert!(loaded.stats[0].live.total_ratings() > 0);
            })
            .await
        };
        let theirs = async || {
            fill().await;
            self.pgbench.run(options, &script).await
        };
        compare(
            options,
            "cold statistics, a million ratings",
            C2_4,
            ours,
            theirs,
        )
        .await
    }

    /// One reader of a hot insight while all clients rate it, and a snapshot is held as a backup holds one.
    async fn cold_reads_under_writes(&self, options: &Options) {
        const TITLE: &str = "cold statistics while the insight is rated";
        if options
            .only
            .as_ref()
            .is_some_and(|only| !TITLE.contains(only.as_str()))
        {
            return;
        }
        let length = options.measured * 10;
        for held in [false, true] {
            self.fill(options).await;
            let snapshot = self.database.admin().await;
            if held {
                run(
                    &snapshot,
                    "begin isolation level repeatable read read only; select 1",
                )
                .await;
            }
            let stop = Arc::new(AtomicBool::new(false));
            let writers = tokio::spawn(self.rate_until(options, Arc::clone(&stop)));
            let begun = Instant::now();
            let (mut first, mut last) = (Sample::latencies(), Sample::latencies());
            while begun.elapsed() < length {
                let read = Instant::now();
                load_stats(self.store.pool(), &["hot".to_owned()])
                    .await
                    .unwrap();
                let took = u64::try_from(read.elapsed().as_micros()).unwrap();
                let half = if begun.elapsed() < length / 2 {
                    &mut first
                } else {
                    &mut last
                };
                half.saturating_record(took);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            stop.store(true, Relaxed);
            let written: i64 = writers.await.unwrap();
            let millis = |half: &hdrhistogram::Histogram<u64>, quantile| {
                half.value_at_quantile(quantile) as f64 / 1e3
            };
            println!(
                "{TITLE} {} times a second, {}: p50 {:.2} and p99 {:.2} ms in the first half of {} s, {:.2} and {:.2} ms in the second (goal p99 < 10 ms)",
                written / i64::try_from(length.as_secs()).unwrap(),
                if held {
                    "a snapshot held"
                } else {
                    "no snapshot held"
                },
                millis(&first, 0.5),
                millis(&first, 0.99),
                length.as_secs(),
                millis(&last, 0.5),
                millis(&last, 0.99),
            );
            let drift = self.store.feedback().drift(1).await.unwrap();
            assert!(drift.is_empty(), "{drift:?}");
        }
    }

    fn rate_until(
        &self,
        options: &Options,
        stop: Arc<AtomicBool>,
    ) -> impl Future<Output = i64> + use<> {
        let (store, clients) = (self.store, options.clients);
        async move {
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..clients {
                let stop = Arc::clone(&stop);
                tasks.spawn(async move {
                    let mut written = 0;
                    while !stop.load(Relaxed) {
                        let user = format!("user {}", rand::random::<u64>());
                        store
                            .feedback()
                            .rate("hot", &user, 5, None, store.now())
                            .await
                            .unwrap();
                        written += 1;
                    }
                    written
                });
            }
            tasks.join_all().await.into_iter().sum()
        }
    }
}

/// Statements one by one: some of them work in no transaction.
async fn run(client: &Client, statements: &str) {
    for statement in statements.split(';') {
        client.batch_execute(statement).await.unwrap();
    }
}
