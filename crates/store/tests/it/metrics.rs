//! Metrics against a real database.

mod aggregate;
mod cold;
mod days;
mod guards;
mod intake;
mod read;
mod rollup;

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_postgres::Client;
use utxoiq_store::{
    Store,
    metrics::{Accept, Batch, NewSample, Outcome, Recorded, SeriesName, micros},
};

use crate::support::TestDb;

pub use crate::feedback::number;
pub use read::{first, render};
pub use rollup::roll;

/// A moment to count from: a Tuesday, 12:00.
pub fn noon() -> DateTime<Utc> {
    "2026-03-10T12:00:00Z".parse().unwrap()
}

/// So many seconds after it, in microseconds.
pub fn at(seconds: i64) -> i64 {
    micros(noon() + TimeDelta::seconds(seconds))
}

pub async fn store() -> (TestDb, Store) {
    let db = TestDb::new().await;
    let store = db.store().await;
    (db, store)
}

/// A series of the service `api`, told apart by a host.
pub fn series(metric_type: &str, host: &str) -> SeriesName {
    SeriesName {
        service_name: "api".into(),
        metric_type: metric_type.into(),
        unit: "ms".into(),
        labels: BTreeMap::from([("host".to_owned(), host.to_owned())]),
    }
}

/// Samples of one series.
pub fn batch(name: &SeriesName, samples: impl IntoIterator<Item = (i64, f64)>) -> Batch {
    let mut batch = Batch::default();
    let series = batch.series(name.clone());
    for (at, value) in samples {
        batch.push(NewSample {
            series,
            at: Some(at),
            value,
            metadata: None,
        });
    }
    batch
}

/// Records a batch at noon.
pub async fn record(store: &Store, batch: Batch) -> Recorded {
    store
        .metrics()
        .record(batch, Accept::Partial, None, noon())
        .await
        .unwrap()
}

/// Records a batch, all of which must be stored.
pub async fn store_all(store: &Store, batch: Batch) {
    let recorded = record(store, batch).await;
    let stored = |sample: &utxoiq_store::metrics::RecordedSample| sample.outcome == Outcome::Stored;
    assert!(
        recorded.samples.iter().all(stored),
        "{:?}",
        recorded.tally()
    );
}

/// What is stored: series, time and value, in order.
pub async fn rows(client: &Client) -> Vec<(i32, i64, f64)> {
    let sql = "select series_id, sampled_at, value from system_metrics order by 1, 2";
    let rows = client.query(sql, &[]).await.unwrap();
    let at = |row: &tokio_postgres::Row| row.get::<_, DateTime<Utc>>(1);
    rows.iter()
        .map(|row| (row.get(0), micros(at(row)), row.get(2)))
        .collect()
}
