//! Rows of every dataset, and stores of several kinds.

use std::sync::Arc;

use chrono::NaiveDate;
use object_store::{ObjectStore, memory::InMemory};
use tempfile::TempDir;
use tokio_postgres::Client;
use utxoiq_store::{
    cold::{ColdStore, Column, ColumnKind, Dataset, ObjectKey, SeriesNames},
    db::Copied,
};
use uuid::Uuid;

/// A store in memory, with a cache of its own.
pub struct Cold {
    pub store: ColdStore,
    pub inner: Arc<dyn ObjectStore>,
    pub folder: TempDir,
}

impl Cold {
    pub fn new() -> Self {
        Self::over(Arc::new(InMemory::new()))
    }

    pub fn over(inner: Arc<dyn ObjectStore>) -> Self {
        let folder = TempDir::new().unwrap();
        let cache = folder.path().join("cache");
        let store = ColdStore::over(Arc::clone(&inner), "archive", &cache, 1 << 30).unwrap();
        Self {
            store,
            inner,
            folder,
        }
    }
}

/// A key of its own.
pub fn key(dataset: Dataset) -> ObjectKey {
    let day = NaiveDate::from_ymd_opt(2026, 8, 1).unwrap();
    ObjectKey::archive(dataset, day, 0, Uuid::new_v4())
}

pub fn sql_type(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Int4 => "int4",
        ColumnKind::Int8 => "int8",
        ColumnKind::Float8 => "float8",
        ColumnKind::Time => "timestamptz",
        ColumnKind::Text => "text",
        ColumnKind::Uuid => "uuid",
    }
}

/// Makes a table with the columns of a dataset.
pub async fn make_table(client: &Client, dataset: Dataset) {
    let column = |column: &Column| {
        let null = if column.is_nullable { "" } else { " not null" };
        format!("{} {}{null}", column.name, sql_type(column.kind))
    };
    let columns: Vec<String> = dataset.columns().iter().map(column).collect();
    let sql = format!(
        "create temp table {dataset} ({}); set timezone to 'UTC'",
        columns.join(", ")
    );
    client.batch_execute(&sql).await.unwrap();
}

/// The columns by which a dataset is ordered.
pub fn order(dataset: Dataset) -> &'static str {
    match dataset {
        Dataset::Metrics => "series_id, sampled_at",
        _ => "id",
    }
}

fn columns(dataset: Dataset) -> String {
    let names: Vec<&str> = dataset.columns().iter().map(|column| column.name).collect();
    names.join(", ")
}

/// Begins to copy the table of a dataset out.
pub async fn copy(client: &Client, dataset: Dataset) -> Copied {
    let sql = format!(
        "copy (select {} from {dataset} order by {}) to stdout (format binary)",
        columns(dataset),
        order(dataset)
    );
    Copied::over(client.copy_out(&sql).await.unwrap())
}

/// The content digest as the database computes it.
pub async fn digest(client: &Client, dataset: Dataset) -> String {
    let group = match dataset {
        Dataset::Metrics => "series_id, date_trunc('hour', sampled_at, 'UTC')",
        _ => "id",
    };
    let sql = format!(
        "select encode(sha256(coalesce(string_agg(digest, '' order by {by}), '')), 'hex') from (
             select {selected}, sha256(string_agg(record_send(row({columns})), '' order by {order})) as digest
             from {dataset} group by {group}) as groups",
        by = if dataset == Dataset::Metrics { "series_id, hour" } else { "id" },
        selected = if dataset == Dataset::Metrics {
            "series_id, date_trunc('hour', sampled_at, 'UTC') as hour"
        } else {
            "id"
        },
        columns = columns(dataset),
        order = order(dataset),
    );
    client.query_one(&sql, &[]).await.unwrap().get(0)
}

/// Names for the series of the tests.
pub fn names(series: impl IntoIterator<Item = i32>) -> SeriesNames {
    let mut names = SeriesNames::new();
    for id in series {
        let labels = format!("{{\"number\": \"{id}\"}}");
        names.insert(id, "räume", format!("type_{}", id % 3), "ms", labels);
    }
    names
}

/// Rows of an object that takes several parts: more than what one request uploads, and hardly compressible.
pub async fn fill_large(client: &Client) {
    make_table(client, Dataset::FeedbackHistory).await;
    let sql = "insert into feedback_history
        select n, 'insight', 'user', 'comment', null,
               (select string_agg(md5((n * 100 + k)::text), '') from generate_series(1, 64) k), null, null,
               timestamptz '2026-08-01 00:00:00Z' + n * interval '1 second'
        from generate_series(1, 9000) n";
    client.batch_execute(sql).await.unwrap();
}

/// A table of feedback's history with some rows.
pub async fn fill_small(client: &Client) {
    make_table(client, Dataset::FeedbackHistory).await;
    let sql = "insert into feedback_history
        select n, 'insight ' || n % 7, 'user ' || n, 'rating', n % 5 + 1, null, null, null,
               timestamptz '2026-08-01 00:00:00Z' + n * interval '1 second'
        from generate_series(1, 500) n";
    client.batch_execute(sql).await.unwrap();
}

/// A table of samples: so many series with a sample each second, values that walk about with two decimals, some metadata.
pub async fn fill_samples(client: &Client, series: i32, seconds: i32) {
    make_table(client, Dataset::Metrics).await;
    let sql = "insert into metrics
        select s, timestamptz '2026-08-01 00:00:00Z' + n * interval '1 second',
               round((50 + 20 * sin(n / 500.0 + s) + (n * 7919 + s) % 100 / 50.0)::numeric, 2)::float8,
               case when (n + s) % 1000 = 0 then '{\"n\": ' || n || '}' end
        from generate_series(1, $1::int) s, generate_series(0, $2::int - 1) n";
    client.execute(sql, &[&series, &seconds]).await.unwrap();
}
