//! What the database itself refuses or allows, whoever asks.

use std::time::Duration;

use chrono::TimeDelta;

use super::{at, batch, noon, number, record, rollup::roll, series, store, store_all};

fn code(outcome: Result<(), tokio_postgres::Error>) -> Option<String> {
    let error = outcome.err()?;
    error.code().map(|code| code.code().to_owned())
}

#[tokio::test]
async fn a_series_is_neither_renamed_nor_deleted() {
    let (db, store) = store().await;
    store_all(&store, batch(&series("cpu", "a"), [(at(0), 1.0)])).await;
    let admin = db.admin().await;
    for change in [
        "update metric_series set service_name = 'web'",
        "update metric_series set labels = '{}'",
        "delete from metric_series",
    ] {
        let refused = code(admin.batch_execute(change).await);
        assert_eq!(refused.as_deref(), Some("UT002"), "{change}");
    }
    admin
        .batch_execute("update metric_series set created_at = '2026-01-01'")
        .await
        .unwrap();
}

#[tokio::test]
async fn samples_are_not_truncated_by_a_transaction_that_sees_old_rollups() {
    let (db, store) = store().await;
    store_all(&store, batch(&series("cpu", "a"), [(at(0), 1.0)])).await;
    let admin = db.admin().await;
    for isolation in ["repeatable read", "serializable"] {
        for table in ["system_metrics", "system_metrics_20260310"] {
            let change = format!("begin isolation level {isolation}; truncate {table}");
            let refused = code(admin.batch_execute(&change).await);
            assert_eq!(refused.as_deref(), Some("UT003"), "{change}");
            admin.batch_execute("rollback").await.unwrap();
        }
    }
    assert_eq!(
        number(&admin, "select count(*) from system_metrics").await,
        1
    );
}

#[tokio::test]
async fn an_open_late_writer_holds_up_nobody_who_writes_into_its_day() {
    let (db, store) = store().await;
    let cpu = series("cpu", "a");
    store_all(&store, batch(&cpu, [(at(-40 * 86_400), 1.0), (at(0), 1.0)])).await;
    roll(&store, noon() + TimeDelta::hours(2)).await;
    let writer = db.admin().await;
    let late = "begin; insert into system_metrics (series_id, sampled_at, value)
                select 1, sampled_at + interval '1 s', 2 from system_metrics where sampled_at < '2026-02-01'";
    writer.batch_execute(late).await.unwrap();
    // A process that has not seen the day: it looks for its partition, and waits for nobody's row.
    let other = db.store().await;
    let both = batch(&cpu, [(at(-40 * 86_400) + 5, 1.0), (at(0) + 5, 1.0)]);
    let recorded = tokio::time::timeout(Duration::from_secs(5), record(&other, both)).await;
    assert_eq!(recorded.expect("it waits").tally().stored, 2);
    writer.batch_execute("rollback").await.unwrap();
}

#[tokio::test]
async fn truncating_all_samples_leaves_archived_days_their_rollups() {
    let (db, store) = store().await;
    let cpu = series("cpu", "a");
    store_all(&store, batch(&cpu, [(at(-2 * 86_400), 1.0), (at(0), 1.0)])).await;
    let later = noon() + TimeDelta::hours(2);
    roll(&store, later).await;
    let admin = db.admin().await;
    admin
        .batch_execute(
            "alter table system_metrics detach partition system_metrics_20260308;
             update metric_days set state = 'detached' where day = '2026-03-08';
             truncate system_metrics",
        )
        .await
        .unwrap();
    roll(&store, later).await;
    let left =
        "select count(*) from metric_rollups where hours = 1 and bucket::date = '2026-03-08'";
    assert_eq!(number(&admin, left).await, 1);
    let all = "select count(*) from metric_rollups where hours = 1";
    assert_eq!(number(&admin, all).await, 1);
}
