//! What a cached read shows, and when.

use std::time::{Duration, Instant};

use utxoiq_store::{Store, cache::CacheState, metrics::read::Selector};

use super::{at, batch, named, newest_after, record, selector};
use crate::support::TestDb;

/// The values that a read gives, the newest first.
async fn values(store: &Store, selector: &Selector) -> Vec<f64> {
    let seen = newest_after(store, selector, None).await;
    seen.iter().map(|sample| sample.2).collect()
}

/// Waits until a process hears of changes, so that its cache serves.
async fn listens(store: &Store) {
    store.cache().start();
    let began = Instant::now();
    while store.cache().probe() == CacheState::Down {
        assert!(began.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_write_is_read_at_once_by_its_own_process_and_by_any_that_names_it() {
    let db = TestDb::new().await;
    let (store, other) = (db.store().await, db.store().await);
    listens(&store).await;
    listens(&other).await;
    let selector = selector(Some("api"), Some("cpu"), None);
    for turn in 0..60_usize {
        // Each tenth turn a new series: its list is held by both.
        let name = named("api", "cpu", &format!("h{}", turn / 10));
        for store in [&store, &other] {
            assert_eq!(values(store, &selector).await.len(), turn);
        }
        let recorded = record(
            &store,
            batch(&name, [(at(-700 * i64::try_from(turn).unwrap()), 1.0)]),
        )
        .await;
        let own = values(&store, &selector).await;
        assert_eq!(own.len(), turn + 1, "turn {turn}: {own:?}");
        let named = newest_after(&other, &selector, recorded.transaction).await;
        assert_eq!(named.len(), turn + 1, "turn {turn}");
    }
}

#[tokio::test]
async fn what_psql_changes_is_seen_by_every_process_within_a_second() {
    let db = TestDb::new().await;
    let stores = [db.store().await, db.store().await];
    let one = selector(Some("api"), Some("cpu"), Some("a"));
    record(
        &stores[0],
        batch(
            &named("api", "cpu", "a"),
            (0..50).map(|n| (at(-n * 1_000), 1.0)),
        ),
    )
    .await;
    let psql = db.admin().await;
    let changes = [
        (
            "update system_metrics set value = 2 where sampled_at = '2026-03-10 12:00Z'",
            2.0,
            50,
        ),
        (
            "delete from system_metrics where sampled_at = '2026-03-10 12:00Z'",
            1.0,
            49,
        ),
        (
            "insert into system_metrics (series_id, sampled_at, value)
             select id, '2026-03-10 12:00:01Z', 7 from metric_series",
            7.0,
            50,
        ),
        (
            "insert into system_metrics_20260309 (series_id, sampled_at, value)
             select id, '2026-03-09 23:30:07Z', 7 from metric_series",
            7.0,
            51,
        ),
        ("truncate system_metrics_20260310", 1.0, 7),
    ];
    for (sql, newest, count) in changes {
        for store in &stores {
            values(store, &one).await;
        }
        psql.batch_execute(sql).await.unwrap();
        let began = Instant::now();
        for store in &stores {
            loop {
                let found = values(store, &one).await;
                if found.first() == Some(&newest) && found.len() == count {
                    break;
                }
                assert!(
                    began.elapsed() < Duration::from_secs(1),
                    "{sql}: {:?} and {} samples",
                    found.first(),
                    found.len()
                );
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}
