//! Metrics (C3).

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Seen, Trial, expect};
use crate::{
    Store,
    metrics::{Accept, Batch, Interval, NewSample, Outcome, SeriesName, micros, read::Selector},
};

const SERVICE: &str = "probe";

pub(super) async fn try_metrics(trial: &mut Trial<'_>, store: &Store, now: DateTime<Utc>) {
    trial
        .step("C3.1", "report a metric", report(store, now))
        .await;
    trial
        .step(
            "C3.4",
            "aggregate by hour, day and week",
            aggregate(store, now),
        )
        .await;
}

fn batch(metric: &str, samples: &[(Option<DateTime<Utc>>, f64)]) -> Batch {
    let mut batch = Batch::default();
    let series = batch.series(SeriesName {
        service_name: SERVICE.to_owned(),
        metric_type: metric.to_owned(),
        unit: "ms".to_owned(),
        labels: BTreeMap::new(),
    });
    for (at, value) in samples {
        batch.push(NewSample {
            series,
            at: at.map(micros),
            value: *value,
            metadata: None,
        });
    }
    batch
}

fn selector(metric: &str, from: DateTime<Utc>, to: DateTime<Utc>) -> Selector {
    Selector {
        service_name: Some(SERVICE.to_owned()),
        metric_type: Some(metric.to_owned()),
        from: micros(from),
        to: micros(to),
        ..Selector::default()
    }
}

async fn record(store: &Store, batch: Batch, now: DateTime<Utc>) -> Seen<()> {
    let recorded = store
        .metrics()
        .record(batch, Accept::Whole, None, now)
        .await?;
    for sample in &recorded.samples {
        if !matches!(sample.outcome, Outcome::Stored) {
            return Err(format!("a sample was not stored: {:?}", sample.outcome).into());
        }
    }
    Ok(())
}

/// One with its time, and one that is given one.
async fn report(store: &Store, now: DateTime<Utc>) -> Seen<(String, ())> {
    store.metrics().make_days_ahead(now).await?;
    let its_own = now - TimeDelta::minutes(5);
    record(
        store,
        batch("reported", &[(Some(its_own), 1.0), (None, 2.0)]),
        now,
    )
    .await?;
    let connection = store.pool().get().await?;
    let sql = "select s.sampled_at, s.value from system_metrics s join metric_series n on n.id = s.series_id
               where n.metric_type = 'reported' order by s.sampled_at";
    let rows = connection.query(sql, &[]).await?;
    let stored: Vec<(DateTime<Utc>, f64)> =
        rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    expect("the number of samples in system_metrics", &stored.len(), &2)?;
    expect("the first one's time", &stored[0].0, &its_own)?;
    let given = stored[1].0 - now;
    if given.abs() > TimeDelta::minutes(1) {
        return Err(format!("the time that was given to a sample is {given} off").into());
    }
    Ok(("stored in system_metrics, each with a time".to_owned(), ()))
}

/// Two samples of an hour, one of another hour of that day, and one of the week before: read from samples, and again when they were
/// rolled up.
async fn aggregate(store: &Store, now: DateTime<Utc>) -> Seen<(String, ())> {
    let week = Interval::Week.floor(now - TimeDelta::days(7));
    let day = week + TimeDelta::days(2);
    let samples = [
        (Some(day + TimeDelta::minutes(10)), 1.0),
        (Some(day + TimeDelta::minutes(20)), 3.0),
        (Some(day + TimeDelta::hours(5)), 8.0),
        (Some(day - TimeDelta::days(7)), 100.0),
    ];
    record(store, batch("aggregated", &samples), now).await?;
    compare(store, day, week, now).await?;
    let rolled = store.metrics().roll_up(now, 1_000).await?;
    compare(store, day, week, now).await?;
    Ok((
        format!(
            "buckets by hour, day and week are right, also when {} hours are rolled up",
            rolled.hours
        ),
        (),
    ))
}

async fn compare(
    store: &Store,
    day: DateTime<Utc>,
    week: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Seen<()> {
    let week_before = week - TimeDelta::days(7);
    let wanted = [
        (
            Interval::Hour,
            vec![
                (day - TimeDelta::days(7), 1, 100.0),
                (day, 2, 4.0),
                (day + TimeDelta::hours(5), 1, 8.0),
            ],
        ),
        (
            Interval::Day,
            vec![(day - TimeDelta::days(7), 1, 100.0), (day, 3, 12.0)],
        ),
        (
            Interval::Week,
            vec![(week_before, 1, 100.0), (week, 3, 12.0)],
        ),
    ];
    for (interval, wanted) in wanted {
        let selector = selector("aggregated", week_before, week + TimeDelta::days(7));
        let found = store
            .metrics()
            .aggregate(&selector, interval, None, now)
            .await?;
        let seen: Vec<(DateTime<Utc>, u64, f64)> = found
            .buckets
            .iter()
            .map(|bucket| (bucket.start, bucket.count, bucket.sum))
            .collect();
        expect(
            &format!("what is aggregated by {}", interval.as_str()),
            &seen,
            &wanted,
        )?;
    }
    Ok(())
}
