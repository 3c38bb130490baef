//! Written, proved and read back.

use tokio_postgres::Client;
use utxoiq_store::cold::{ColumnKind, Dataset, Value};

use super::support::{Cold, copy, digest, key, make_table, names};
use crate::support::TestDb;

/// One of the texts of the rows.
const LEFT_OUT: &str = "line\nline\ttab";

/// Rows with everything that is easily lost on the way: nulls, signs, extremes, microseconds, times before 1970 and 2000, and
/// what people write.
async fn fill(client: &Client, dataset: Dataset, rows: i64) {
    let expression = |name: &str, kind: ColumnKind, is_nullable: bool| {
        let value = match (name, kind) {
            ("series_id", _) => "(n / 7000)::int4 - 1".to_owned(),
            ("id", ColumnKind::Int8) => "n - 3".to_owned(),
            ("sampled_at", _) => "timestamptz '1969-12-31 23:00:00.000001Z' + n * interval '0.999999 seconds'".to_owned(),
            (_, ColumnKind::Int4) => "(array[-2147483648, 2147483647, 0, 5])[1 + n % 4]".to_owned(),
            (_, ColumnKind::Int8) => "(array[-9223372036854775808, 9223372036854775807, 0, n])[1 + n % 4]".to_owned(),
            (_, ColumnKind::Float8) => "(array['-0.0', '1e300', '-1e300', '0.1', '4.9e-324', '0.0'])[1 + n % 6]::float8".to_owned(),
            (_, ColumnKind::Time) => "(array['1969-07-20 20:17:40.000001Z', '2026-08-01 12:00:00.999999Z', '0001-01-01 00:00:00Z', '9999-12-31 23:59:59.999999Z'])[1 + n % 4]::timestamptz".to_owned(),
            (_, ColumnKind::Text) => format!("(array['', 'größer 😀 \"x\" \\ ', repeat('long {name} ', 200), n::text, E'line\\nline\\ttab', '{{\"a\": [1, null]}}'])[1 + n % 6]"),
            (_, ColumnKind::Uuid) => "md5(n::text)::uuid".to_owned(),
        };
        if is_nullable {
            format!("case when n % 3 = 0 then null else {value} end")
        } else {
            value
        }
    };
    let columns = dataset.columns().iter();
    let columns: Vec<String> = columns
        .map(|column| expression(column.name, column.kind, column.is_nullable))
        .collect();
    let sql = format!(
        "insert into {dataset} select {} from generate_series(0::bigint, $1::bigint - 1) n",
        columns.join(", ")
    );
    client.execute(&sql, &[&rows]).await.unwrap();
}

#[tokio::test]
async fn every_dataset_is_written_proved_and_read_back_equal() {
    let db = TestDb::empty().await;
    let client = db.admin().await;
    for dataset in Dataset::ALL {
        make_table(&client, dataset).await;
        for rows in [0, 1, 30_000_i64] {
            client
                .batch_execute(&format!("truncate {dataset}"))
                .await
                .unwrap();
            fill(&client, dataset, rows).await;
            let cold = Cold::new();
            let key = key(dataset);
            let names = names(-1..10);
            let copied = copy(&client, dataset).await;
            let written = cold.store.write(key, copied, Some(&names)).await.unwrap();
            assert_eq!(written.rows, u64::try_from(rows).unwrap(), "{dataset}");
            assert_eq!(written.content, digest(&client, dataset).await, "{dataset}");
            let fetched = cold.store.prove(key, &written).await.unwrap();
            assert_eq!(fetched.row_count(), written.rows);
            // Into the database again, and compared there.
            let sql = format!(
                "create temp table restored (like {dataset} including all); copy restored from stdin (format binary)"
            );
            let (create, copy_in) = sql.split_once(';').unwrap();
            client.batch_execute(create).await.unwrap();
            let sink = client.copy_in(copy_in).await.unwrap();
            let mut sink = std::pin::pin!(sink);
            let mut bytes = fetched.copy_in().unwrap();
            while let Some(bytes) = bytes.next().await.unwrap() {
                futures_util::SinkExt::send(&mut sink, bytes).await.unwrap();
            }
            assert_eq!(sink.finish().await.unwrap(), written.rows);
            client
                .batch_execute(&format!("truncate {dataset}; insert into {dataset} select * from restored; drop table restored"))
                .await
                .unwrap();
            assert_eq!(written.content, digest(&client, dataset).await, "{dataset}");
        }
    }
}

#[tokio::test]
async fn a_rewritten_archive_lacks_what_was_left_out_and_nothing_else() {
    let db = TestDb::empty().await;
    let client = db.admin().await;
    for dataset in [Dataset::FeedbackHistory, Dataset::Metrics] {
        make_table(&client, dataset).await;
        fill(&client, dataset, 20_000).await;
        let cold = Cold::new();
        let (from, to) = (key(dataset), key(dataset));
        let names = names(-1..10);
        let copied = copy(&client, dataset).await;
        let written = cold.store.write(from, copied, Some(&names)).await.unwrap();
        let fetched = cold.store.prove(from, &written).await.unwrap();
        let column = if dataset == Dataset::Metrics {
            "metadata"
        } else {
            "user_id"
        };
        let rewritten = cold
            .store
            .rewrite(&fetched, to, move |row| {
                row.get(column)
                    .is_some_and(|value| value != Value::Text(LEFT_OUT))
            })
            .await
            .unwrap();
        let sql = format!("delete from {dataset} where {column} = $1");
        let deleted = client.execute(&sql, &[&LEFT_OUT]).await.unwrap();
        assert!(deleted > 0);
        assert_eq!(rewritten.rows, written.rows - deleted);
        assert_eq!(rewritten.content, digest(&client, dataset).await);
        let again = cold.store.prove(to, &rewritten).await.unwrap();
        if dataset == Dataset::Metrics {
            let found = again.names().await.unwrap();
            assert_eq!(found.get(1), names.get(1));
        }
        let mut batches = again.rows().unwrap();
        let mut rows = 0;
        while let Some(batch) = batches.next().await.unwrap() {
            assert!(batch.iter().all(|row| row[column] != LEFT_OUT));
            rows += batch.len();
        }
        assert_eq!(u64::try_from(rows).unwrap(), rewritten.rows);
    }
}
