//! Which days a read is about.

use tokio_postgres::Client;
use utxoiq_store::metrics::queries;

use super::{at, batch, first, newest, selector, series, store_all};
use crate::support::TestDb;

/// The partitions that a plan names.
async fn planned(client: &Client, sql: &str, types: &str, values: &str) -> Vec<String> {
    let begin =
        format!("set plan_cache_mode = force_custom_plan; prepare asked ({types}) as {sql}");
    client.batch_execute(&begin).await.unwrap();
    let explain = format!("explain (costs off) execute asked ({values})");
    let lines = client.simple_query(&explain).await.unwrap();
    client.batch_execute("deallocate asked").await.unwrap();
    let mut names: Vec<String> = lines
        .iter()
        .filter_map(|line| match line {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
        .flat_map(|line| {
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .filter_map(|word| {
            word.find("system_metrics_2")
                .map(|at| word[at..at + 23].to_owned())
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

#[tokio::test]
async fn a_read_of_a_day_plans_locks_and_waits_for_that_day_only() {
    let db = TestDb::new().await;
    let store = db.store().await;
    for day in 0..4 {
        store_all(
            &store,
            batch(&series("cpu", "a"), [(at(-day * 86_400), day as f64)]),
        )
        .await;
    }
    let client = db.admin().await;
    let day = "'2026-03-10', '2026-03-11'";
    let of_series = format!("'{{1}}', {day}, '2026-03-11', 1, 10, 10, 0");
    let of_series = planned(
        &client,
        queries::NEWEST_OF_SERIES.sql,
        "int4[], timestamptz, timestamptz, timestamptz, int4, int8, int8, int8",
        &of_series,
    )
    .await;
    assert_eq!(of_series, ["system_metrics_20260310"]);
    let of_slice = format!("{day}, '2026-03-11', 1, true, 'api', null, null, '{{}}', 10, 0");
    let of_slice = planned(
        &client,
        queries::NEWEST_OF_SLICE.sql,
        "timestamptz, timestamptz, timestamptz, int4, bool, text, text, text, jsonb, int8, int8",
        &of_slice,
    )
    .await;
    assert_eq!(of_slice, ["system_metrics_20260310"]);

    client
        .batch_execute("begin; lock table only system_metrics_20260308 in access exclusive mode")
        .await
        .unwrap();
    let reading = async {
        for (service, kind) in [
            (Some("api"), Some("cpu")),
            (Some("api"), None),
            (None, None),
        ] {
            let mut selector = selector(service, kind, None);
            selector.from = at(-12 * 3_600);
            for round in 0..3 {
                assert_eq!(
                    newest(&store, &selector, first(10)).await.count,
                    1,
                    "{round}"
                );
            }
            if service.is_some() {
                let mut read = store.metrics().samples(&selector, None).await.unwrap();
                assert_eq!(read.next().await.unwrap().unwrap().samples.len(), 1);
                assert_eq!(read.next().await.unwrap(), None);
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(4), reading)
        .await
        .expect("waited for a partition of another day");
}
