//! Aggregates equal plain SQL over the samples.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio_postgres::Client;
use utxoiq_store::{
    db::roles,
    metrics::{
        Bucket, DegradationQuery, Interval, Statistic, TopBy, degradation, micros, read::Selector,
    },
};
use utxoiq_store_testkit::urls::{scale, seed};

use super::{at, batch, noon, rollup::roll, series, store, store_all};

const DAY: i64 = 86_400;

/// A range of the latencies, by an interval.
#[derive(Debug, Clone)]
struct Query {
    selector: Selector,
    interval: Interval,
}

impl Query {
    fn from(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.selector.from).unwrap()
    }

    fn to(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.selector.to).unwrap()
    }
}

fn query(host: Option<&str>, from: DateTime<Utc>, to: DateTime<Utc>, interval: Interval) -> Query {
    let host = host.map(|host| ("host".to_owned(), host.to_owned()));
    Query {
        selector: Selector {
            service_name: Some("api".into()),
            metric_type: Some("latency".into()),
            unit: None,
            labels: host.into_iter().collect(),
            from: micros(from),
            to: micros(to),
        },
        interval,
    }
}

/// The same by plain SQL: start, count, sum, min, max, last, percentiles.
async fn plain(client: &Client, query: &Query) -> Vec<(DateTime<Utc>, i64, [f64; 7])> {
    let sql = format!(
        "select date_trunc('{}', sampled_at at time zone 'UTC') at time zone 'UTC', count(*), sum(value), min(value), max(value),
                (array_agg(value order by sampled_at desc, value desc))[1],
                percentile_disc(0.5) within group (order by value), percentile_disc(0.95) within group (order by value),
                percentile_disc(0.99) within group (order by value)
         from system_metrics m join metric_series s on s.id = m.series_id
         where s.metric_type = 'latency' and sampled_at >= $1 and sampled_at < $2 and ($3::text is null or labels ->> 'host' = $3)
         group by 1 order by 1",
        query.interval.as_str()
    );
    let host = query.selector.labels.get("host");
    let rows = client
        .query(&sql, &[&query.from(), &query.to(), &host])
        .await
        .unwrap();
    rows.iter()
        .map(|row| {
            (
                row.get(0),
                row.get(1),
                [2, 3, 4, 5, 6, 7, 8].map(|column| row.get(column)),
            )
        })
        .collect()
}

fn is_near(a: f64, b: f64, share: f64) -> bool {
    (a - b).abs() <= share * b.abs() + 1e-9
}

fn assert_same(buckets: &[Bucket], plain: &[(DateTime<Utc>, i64, [f64; 7])], what: &Query) {
    let starts = |of: &[Bucket]| of.iter().map(|bucket| bucket.start).collect::<Vec<_>>();
    assert_eq!(
        starts(buckets),
        plain.iter().map(|bucket| bucket.0).collect::<Vec<_>>(),
        "{what:?}"
    );
    for (bucket, (_, count, [sum, min, max, last, p50, p95, p99])) in buckets.iter().zip(plain) {
        assert_eq!(
            bucket.count,
            u64::try_from(*count).unwrap(),
            "{what:?} {bucket:?}"
        );
        assert_eq!(
            (bucket.min, bucket.max, bucket.last),
            (*min, *max, *last),
            "{what:?}"
        );
        assert!(
            is_near(bucket.sum, *sum, 1e-12) && is_near(bucket.mean, sum / *count as f64, 1e-12),
            "{what:?}"
        );
        for (ours, exact) in [(bucket.p50, p50), (bucket.p95, p95), (bucket.p99, p99)] {
            assert!(
                is_near(ours, *exact, 0.01),
                "{ours} is not within 1 % of {exact}: {what:?}"
            );
        }
    }
}

#[tokio::test]
async fn aggregates_equal_plain_sql_whatever_is_rolled_up() {
    let (db, store) = store().await;
    let client = db.client(roles::APP).await;
    let mut random = StdRng::seed_from_u64(seed());
    let hosts = ["a", "b"];
    for round in 0..scale(4, 40) {
        let now = noon() + TimeDelta::hours(i64::try_from(round).unwrap() * 7);
        for host in hosts {
            let samples = (0..400).map(|_| {
                let back = if random.random_range(0..3) == 0 {
                    random.random_range(0..40 * DAY)
                } else {
                    random.random_range(0..30_000)
                };
                (
                    (now - TimeDelta::seconds(back)).timestamp_micros(),
                    f64::from(random.random_range(-500..100_000)) / 9.0,
                )
            });
            let samples: BTreeMap<i64, f64> = samples.collect();
            let batch = batch(&series("latency", host), samples);
            store
                .metrics()
                .record(batch, utxoiq_store::metrics::Accept::Whole, None, now)
                .await
                .unwrap();
        }
        if round > 0 {
            // All, nothing, or only what was there before the last samples came.
            roll(&store, now - TimeDelta::hours(random.random_range(0..12))).await;
        }
        for _ in 0..25 {
            let from = now - TimeDelta::seconds(random.random_range(0..45 * DAY));
            let mut range = (
                from,
                from + TimeDelta::seconds(random.random_range(0..45 * DAY)),
            );
            if random.random_range(0..3) == 0 {
                range = (Interval::Day.floor(range.0), Interval::Day.floor(range.1));
            }
            let host = [None, Some("a"), Some("b"), Some("none")][random.random_range(0..4)];
            let interval = Interval::ALL[random.random_range(0..3)];
            let query = query(host, range.0, range.1, interval);
            let aggregated = store
                .metrics()
                .aggregate(&query.selector, interval, None, now)
                .await
                .unwrap();
            assert_same(&aggregated.buckets, &plain(&client, &query).await, &query);
            for bucket in &aggregated.buckets {
                let end = bucket.start + interval.length();
                assert_eq!(
                    bucket.is_complete,
                    bucket.start >= query.from() && end <= query.to() && end <= now
                );
            }
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_in_the_next_aggregate() {
    let (_db, store) = store().await;
    let latency = series("latency", "a");
    let week = query(
        None,
        noon() - TimeDelta::days(7),
        noon() + TimeDelta::days(1),
        Interval::Day,
    );
    let mut stored = 0;
    for n in 0..30 {
        // New and late ones; every third time rollups are made meanwhile.
        store_all(
            &store,
            batch(&latency, [(at(-n), 1.0), (at(-n * 20_000 - 5) + 1, 2.0)]),
        )
        .await;
        stored += 2;
        if n % 3 == 0 {
            roll(&store, noon()).await;
        }
        let aggregated = store
            .metrics()
            .aggregate(&week.selector, week.interval, None, noon())
            .await
            .unwrap();
        let counted: u64 = aggregated.buckets.iter().map(|bucket| bucket.count).sum();
        assert_eq!(counted, stored);
        assert!(!aggregated.is_complete);
    }
}

/// A sample a minute, around 100 with a daily season; the last hour is so many times as high.
fn minutes(days: i64, shift: f64) -> Vec<(i64, f64)> {
    let mut random = StdRng::seed_from_u64(7);
    (0..days * 1_440)
        .map(|minute| {
            let season =
                100.0 + 30.0 * ((minute % 1_440) as f64 / 1_440.0 * std::f64::consts::TAU).sin();
            let noise = 1.0 + 0.05 * (random.random_range(0.0..1.0) - 0.5);
            let factor = if minute < 60 { shift } else { 1.0 };
            (at(-60 * minute - 30), season * noise * factor)
        })
        .collect()
}

#[tokio::test]
async fn a_shift_of_a_fifth_is_found_and_nothing_else_is() {
    let (_db, store) = store().await;
    store_all(&store, batch(&series("latency", "worse"), minutes(8, 1.2))).await;
    store_all(&store, batch(&series("latency", "same"), minutes(8, 1.0))).await;
    store_all(&store, batch(&series("latency", "new"), minutes(1, 1.2))).await;
    store_all(
        &store,
        batch(
            &series("latency", "silent"),
            minutes(8, 1.0).into_iter().skip(60),
        ),
    )
    .await;
    let look = DegradationQuery {
        selector: Selector {
            service_name: Some("api".into()),
            ..Selector::default()
        },
        hours: 1,
        end: noon(),
        statistic: Statistic::P95,
        settings: degradation::Settings::default(),
    };
    // Before and after the window's hour is rolled up.
    for closed in [noon(), noon() + TimeDelta::hours(1)] {
        roll(&store, closed).await;
        let found = store.metrics().degradations(&look).await.unwrap();
        assert_eq!(
            (found.judged, found.not_enough_history, found.silent),
            (2, 1, 1)
        );
        let [worse] = found.degradations.as_slice() else {
            panic!("{found:?}")
        };
        assert_eq!(worse.series.name.labels["host"], "worse");
        let change = worse.figures.change.unwrap();
        assert!((0.15..0.25).contains(&change), "{worse:?}");
    }
    let top = store
        .metrics()
        .top(TopBy::Max, Some("api"), Some("latency"), 24, 2)
        .await
        .unwrap();
    assert_eq!(top.series.len(), 2);
    assert!(top.series[0].max >= top.series[1].max);
}

#[tokio::test]
async fn a_read_that_is_given_up_leaves_no_transaction_behind() {
    let (db, store) = store().await;
    store_all(&store, batch(&series("latency", "a"), minutes(3, 1.0))).await;
    roll(&store, noon()).await;
    let month = query(
        None,
        noon() - TimeDelta::days(30),
        noon() + TimeDelta::minutes(7),
        Interval::Week,
    );
    let mut random = StdRng::seed_from_u64(seed());
    let admin = db.admin().await;
    let mut given_up = 0;
    for turn in 0..scale(150, 1_500) {
        let patience = std::time::Duration::from_micros(random.random_range(0..4_000));
        let name = series("latency", &format!("new-{turn}"));
        let reading = async {
            let samples = batch(&name, [(at(-1), 1.0)]);
            store
                .metrics()
                .record(samples, utxoiq_store::metrics::Accept::Whole, None, noon())
                .await
                .unwrap();
            store
                .metrics()
                .aggregate(&month.selector, month.interval, None, noon())
                .await
                .unwrap();
        };
        given_up += usize::from(tokio::time::timeout(patience, reading).await.is_err());
    }
    assert!(given_up > 20, "only {given_up} were given up");
    let open = "select count(*) from pg_stat_activity
                where datname = current_database() and state like 'idle in transaction%'";
    // What was sent last may be under way still; the session ends such transactions itself after ten seconds.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(super::number(&admin, open).await, 0);
}
