//! Rollups equal their samples.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio_postgres::Client;
use utxoiq_store::{
    Store,
    clock::SystemClock,
    config::Loader,
    db::{migrate::Migrator, roles},
    metrics::Interval,
};
use utxoiq_store_testkit::{
    PgCluster, PgOptions,
    urls::{scale, seed},
};

use super::{at, batch, noon, number, series, store, store_all};

const DAY: i64 = 86_400;

/// Rolls up all that can be; a transaction of another test may delay it.
pub async fn roll(store: &Store, now: DateTime<Utc>) {
    let rolled = "select rolled_before from metric_rollup_state";
    let target = Interval::Hour.floor(now - TimeDelta::seconds(120));
    loop {
        let step = store.metrics().roll_up(now, 1_000).await.unwrap();
        let client = store.pool().get().await.unwrap();
        let before: DateTime<Utc> = client.query_one(rolled, &[]).await.unwrap().get(0);
        if before >= target && !step.has_more {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Buckets of an interval that plain SQL over the samples counts otherwise; percentiles are compared by the verifier.
async fn differences(client: &Client, interval: Interval) -> i64 {
    let sql = format!(
        "with there as (
             select series_id, date_trunc('{0}', sampled_at at time zone 'UTC') at time zone 'UTC' as bucket, count(*),
                    sum(value), min(value), max(value), (array_agg(value order by sampled_at desc))[1] as last,
                    max(sampled_at) as last_at
             from system_metrics group by 1, 2),
         stored as (select * from metric_rollups where hours = {1}),
         state as (select rolled_before from metric_rollup_state)
         select count(*) from there t full join stored s using (series_id, bucket), state
         where bucket + interval '{1} hours' <= rolled_before
           and (t.count, t.min, t.max, t.last, t.last_at) is distinct from (s.count, s.min, s.max, s.last, s.last_at)
               or abs(t.sum - (s.sum + s.sum_low)) > 1e-9 * abs(t.sum) + 1e-9",
        interval.as_str(),
        interval.length().num_hours()
    );
    number(client, &sql).await
}

async fn assert_equal(store: &Store, client: &Client, now: DateTime<Utc>) {
    for interval in Interval::ALL {
        assert_eq!(differences(client, interval).await, 0, "{interval:?}");
    }
    let rolled: DateTime<Utc> = client
        .query_one("select rolled_before from metric_rollup_state", &[])
        .await
        .unwrap()
        .get(0);
    let days = client
        .query("select day from metric_days order by 1", &[])
        .await
        .unwrap();
    let mut verified_days = 0;
    for day in days {
        let day: NaiveDate = day.get(0);
        if day >= rolled.date_naive() {
            continue;
        }
        let verified = store.metrics().verify(day, false, now).await.unwrap();
        assert!(verified.is_verified, "{verified:?}");
        verified_days += 1;
    }
    assert!(verified_days > 0);
}

#[tokio::test]
async fn rollups_equal_samples_after_late_changed_and_deleted_ones() {
    let (db, store) = store().await;
    let admin = db.admin().await;
    let client = db.client(roles::APP).await;
    let mut random = StdRng::seed_from_u64(seed());
    let hosts = ["a", "b", "c"];
    let mut now = noon();
    for round in 0..scale(12, 120) {
        // Old and new ones, some of them twice.
        for host in hosts {
            let mut samples: Vec<(i64, f64)> = (0..60)
                .map(|_| {
                    let back = match random.random_range(0..4) {
                        0 => random.random_range(0..89 * DAY),
                        1 => random.random_range(0..3 * DAY),
                        _ => random.random_range(0..7_200),
                    };
                    let value = f64::from(random.random_range(-1_000..100_000)) / 7.0;
                    ((now - TimeDelta::seconds(back)).timestamp_micros(), value)
                })
                .collect();
            samples.extend_from_within(..10);
            let recorded = store
                .metrics()
                .record(
                    batch(&series("latency", host), samples),
                    utxoiq_store::metrics::Accept::Partial,
                    None,
                    now,
                )
                .await
                .unwrap();
            assert_eq!(recorded.tally().rejected_total(), 0);
        }
        if round % 3 == 1 {
            roll(&store, now).await;
        }
        // psql, past all of our code.
        for change in [
            "update system_metrics set value = value + 1 where ctid in (select ctid from system_metrics tablesample bernoulli (1)) and random() < 0.3",
            "delete from system_metrics where random() < 0.02",
            "insert into system_metrics (series_id, sampled_at, value) select series_id, sampled_at + interval '7 s', 5 from system_metrics where random() < 0.02 on conflict do nothing",
            "update system_metrics set sampled_at = sampled_at + interval '61 minutes' where random() < 0.01 and sampled_at < now() - interval '1 day'",
        ] {
            if random.random_range(0..2) == 0
                && let Err(error) = admin.batch_execute(change).await
            {
                // A row may meet another one at its new place, or a day that is not there.
                assert!(
                    error
                        .code()
                        .is_some_and(|code| code.code().starts_with("23")),
                    "{error:?}"
                );
            }
        }
        if round % 4 == 2 {
            roll(&store, now).await;
            assert_equal(&store, &client, now).await;
        }
        now += TimeDelta::minutes(random.random_range(1..300));
    }
    // A day is emptied, and one is truncated.
    admin.batch_execute("delete from system_metrics where sampled_at::date = '2026-03-09'; truncate system_metrics_20260310").await.unwrap();
    roll(&store, now).await;
    assert_equal(&store, &client, now).await;
    assert_eq!(
        number(&client, "select count(*) from metric_marks").await,
        0
    );
}

#[tokio::test]
async fn a_writer_that_was_open_while_its_hour_was_closed_is_not_missed() {
    let (db, store) = store().await;
    let cpu = series("cpu", "a");
    store_all(&store, batch(&cpu, [(at(0), 1.0)])).await;
    let admin = db.admin().await;
    let open = |isolation: &'static str| {
        let db = &db;
        async move {
            let client = db.admin().await;
            // Its snapshot is from before the hour is closed.
            client
                .batch_execute(&format!(
                    "begin isolation level {isolation}; select count(*) from system_metrics"
                ))
                .await
                .unwrap();
            client
        }
    };
    let (committed, repeatable) = (open("read committed").await, open("repeatable read").await);
    let insert = |seconds: i64| {
        format!(
            "insert into system_metrics (series_id, sampled_at, value) values (1, '{}', 2)",
            (noon() + TimeDelta::seconds(seconds)).to_rfc3339()
        )
    };
    committed.batch_execute(&insert(1)).await.unwrap();
    let later = noon() + TimeDelta::hours(3);
    store.metrics().roll_up(later, 10).await.unwrap();
    let rolled = "select count(*) from metric_rollups";
    assert_eq!(
        number(&admin, rolled).await,
        0,
        "a transaction is open that left no mark"
    );
    repeatable.batch_execute(&insert(2)).await.unwrap();
    committed.batch_execute("commit").await.unwrap();
    repeatable.batch_execute("commit").await.unwrap();
    roll(&store, later).await;
    let counted = "select count from metric_rollups where hours = 1";
    assert_eq!(number(&admin, counted).await, 3);

    // The same after the hour was rolled up: a mark brings it back.
    let late = open("repeatable read").await;
    late.batch_execute(&insert(3)).await.unwrap();
    roll(&store, later).await;
    assert_eq!(number(&admin, counted).await, 3);
    late.batch_execute("commit").await.unwrap();
    roll(&store, later).await;
    assert_eq!(number(&admin, counted).await, 4);
}

#[tokio::test]
async fn rollers_and_late_writers_at_once_lose_nothing() {
    let (db, store) = store().await;
    let other = db.store().await;
    let cpu = series("cpu", "a");
    store_all(&store, batch(&cpu, (1..100).map(|n| (at(-n * 1_000), 1.0)))).await;
    roll(&store, noon()).await;
    let writers = (0..4_i64).map(|writer| {
        let (store, cpu) = (
            if writer % 2 == 0 {
                store.clone()
            } else {
                other.clone()
            },
            cpu.clone(),
        );
        tokio::spawn(async move {
            for n in 0..scale(40, 400) {
                let n = i64::try_from(n).unwrap();
                let samples = (0..3).map(|k| {
                    (
                        at(-3_600 * (1 + (n + k) % 20)) + writer * 1_000 + n * 4_000 + k,
                        1.0,
                    )
                });
                store_all(&store, batch(&cpu, samples)).await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let is_over = Arc::new(AtomicBool::new(false));
    let rollers: Vec<_> = [store.clone(), other.clone(), store.clone()]
        .map(|store| {
            let is_over = Arc::clone(&is_over);
            tokio::spawn(async move {
                while !is_over.load(SeqCst) {
                    store.metrics().roll_up(noon(), 3).await.unwrap();
                    tokio::task::yield_now().await;
                }
            })
        })
        .into();
    for writer in writers {
        writer.await.unwrap();
    }
    // Not aborted: the server would go on with what they had begun, and hold the marks that the last turn is to find.
    is_over.store(true, SeqCst);
    for roller in rollers {
        roller.await.unwrap();
    }
    roll(&store, noon()).await;
    let client = db.client(roles::APP).await;
    assert_equal(&store, &client, noon()).await;
}

#[tokio::test]
async fn a_rollup_that_differs_is_found_by_name_and_repaired() {
    let (db, store) = store().await;
    let cpu = series("cpu", "a");
    store_all(
        &store,
        batch(&cpu, (0..200).map(|n| (at(-n * 1_800), n as f64))),
    )
    .await;
    roll(&store, noon()).await;
    let admin = db.admin().await;
    let day = NaiveDate::from_ymd_opt(2026, 3, 8).unwrap();
    let verify = async |repair| store.metrics().verify(day, repair, noon()).await.unwrap();
    assert!(verify(false).await.is_verified);
    for (tampering, interval) in [
        (
            "update metric_rollups set p95 = p95 * 1.001 where hours = 1 and bucket = '2026-03-08 05:00+00'",
            Interval::Hour,
        ),
        (
            "update metric_rollups set count = count + 1 where hours = 24 and bucket = '2026-03-08'",
            Interval::Day,
        ),
        (
            "delete from metric_rollups where hours = 168 and bucket = '2026-03-02'",
            Interval::Week,
        ),
        (
            "update metric_rollups set bucket = '2026-03-08 04:00:00+00', series_id = 7 where hours = 1 and bucket = '2026-03-08 05:00+00'",
            Interval::Hour,
        ),
    ] {
        assert_eq!(admin.execute(tampering, &[]).await.unwrap(), 1);
        let found = verify(false).await;
        let names_it = found.differences.iter().any(|d| d.interval == interval);
        assert!(!found.is_verified && names_it, "{found:?}");
        if tampering.contains("series_id = 7") {
            // One is missing, and one is there of a series that does not exist.
            assert_eq!(found.differing, 2);
        }
        assert!(verify(true).await.is_repaired);
        assert!(verify(false).await.is_verified);
    }
    // A late sample, and the day is to be verified again.
    let verified =
        "select count(*) from metric_days where day = '2026-03-08' and verified_at is not null";
    assert_eq!(number(&admin, verified).await, 1);
    store_all(&store, batch(&cpu, [(at(-2 * DAY) + 1, 1.0)])).await;
    assert_eq!(number(&admin, verified).await, 0);
    let waiting = verify(false).await;
    assert_eq!((waiting.waiting, waiting.is_verified), (1, false));
    assert_eq!(store.metrics().unverified_days(100).await.unwrap().len(), 4);
    let today = store
        .metrics()
        .verify(noon().date_naive(), false, noon())
        .await;
    assert_eq!(today.unwrap_err().code(), "not_rolled_up");
}

/// In a cluster where nothing else ends, a transaction above all that have ended is nowhere to be seen.
#[tokio::test]
async fn a_writer_newer_than_all_that_have_ended_is_waited_for() {
    let cluster = PgCluster::start(PgOptions::default()).await;
    let url = cluster.admin_url("postgres");
    roles::init(&url).await.unwrap();
    Migrator::embedded()
        .unwrap()
        .up(&url, &SystemClock)
        .await
        .unwrap();
    let admin = crate::support::connect(&url).await;
    admin
        .batch_execute(&format!(
            "alter role {} password 'only-for-tests'",
            roles::APP
        ))
        .await
        .unwrap();
    let app = cluster.url(roles::APP, "only-for-tests", "postgres");
    let vars = [("DATABASE_URL".to_owned(), app)];
    let config = Loader::default()
        .env(vars.into_iter())
        .unwrap()
        .finish()
        .unwrap();
    let store = Store::open(config).unwrap();
    store_all(&store, batch(&series("cpu", "a"), [(at(0), 1.0)])).await;
    let later = noon() + TimeDelta::hours(3);
    let writer = crate::support::connect(&url).await;
    writer
        .batch_execute(
            "begin; insert into system_metrics (series_id, sampled_at, value) values (1, '2026-03-10 12:00:01+00', 2)",
        )
        .await
        .unwrap();
    for _ in 0..3 {
        store.metrics().roll_up(later, 10).await.unwrap();
        assert_eq!(
            number(&admin, "select count(*) from metric_rollups").await,
            0
        );
    }
    writer.batch_execute("commit").await.unwrap();
    roll(&store, later).await;
    let counted = "select count from metric_rollups where hours = 1";
    assert_eq!(number(&admin, counted).await, 2);
}
