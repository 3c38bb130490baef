//! Whole series, and charts.

use std::sync::Arc;

use utxoiq_store::{
    Store,
    metrics::{
        Batch, NewSample,
        read::{Selector, page::StreamCursor, stream::SampleRead},
    },
};

use super::{Numbers, Seen, at, batch, named, plain, selector, store_all};
use crate::{metrics::number, support::TestDb};

async fn all(read: &mut SampleRead) -> Vec<Seen> {
    let mut found = Vec::new();
    while let Some(part) = read.next().await.unwrap() {
        assert!(!part.samples.is_empty());
        let samples = part.samples.into_iter();
        found.extend(samples.map(|sample| {
            let metadata = sample.2.map(Into::into);
            (sample.0, part.series.id, sample.1, metadata)
        }));
    }
    found
}

/// What a read gives: by series, then by time.
fn in_order(mut samples: Vec<Seen>) -> Vec<Seen> {
    samples.sort_by_key(|sample| (sample.1, sample.0));
    samples
}

async fn four_series(store: &Store) {
    let mut all = Batch::default();
    let mut numbers = Numbers(3);
    for (index, count) in [100_i64, 1, 40, 0].into_iter().enumerate() {
        let series = all.series(named("api", "cpu", &format!("h{index}")));
        for n in 0..count {
            all.push(NewSample {
                series,
                at: Some(at(-n * 800) - numbers.signed(100)),
                value: n as f64,
                metadata: (n % 7 == 0).then(|| r#"{"a": ["ä"]}"#.into()),
            });
        }
    }
    store_all(store, all).await;
}

#[tokio::test]
async fn a_whole_read_gives_every_sample_and_goes_on_where_it_stopped() {
    let db = TestDb::new().await;
    let store = db.store().await;
    four_series(&store).await;
    let client = db.admin().await;
    let selector = selector(Some("api"), None, None);
    let wanted = in_order(plain(&client, &selector, 100_000, 0).await);
    assert_eq!(wanted.len(), 141);
    for max in [1, 2, 40, 99, 100, 101, 140, 141, 142, 1_000] {
        let settings = db.settings_with(&[(
            "UTXOIQ_STORE_METRICS__MAX_SAMPLES_PER_READ",
            &max.to_string(),
        )]);
        let store = Store::open(settings).unwrap();
        let (mut found, mut after) = (Vec::new(), None::<StreamCursor>);
        loop {
            let mut read = store.metrics().samples(&selector, after).await.unwrap();
            let part = all(&mut read).await;
            assert!(!part.is_empty() && part.len() <= max);
            found.extend(part);
            after = read.rest().map(|rest| rest.to_string().parse().unwrap());
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, wanted, "{max} at once");
    }
    let none = Selector {
        to: selector.from,
        ..selector
    };
    let mut read = store.metrics().samples(&none, None).await.unwrap();
    assert_eq!((all(&mut read).await, read.rest()), (vec![], None));
}

#[tokio::test]
async fn a_long_series_goes_on_from_copy_to_copy() {
    let db = TestDb::new().await;
    let store = db.store().await;
    store_all(&store, batch(&named("api", "cpu", "a"), [(at(0), 0.0)])).await;
    let psql = db.admin().await;
    psql.batch_execute(
        "insert into system_metrics (series_id, sampled_at, value)
         select id, timestamptz '2026-03-10 00:00Z' + n * interval '300 milliseconds', n
         from metric_series, generate_series(1, 140000) n",
    )
    .await
    .unwrap();
    let selector = selector(Some("api"), Some("cpu"), Some("a"));
    let mut read = store.metrics().samples(&selector, None).await.unwrap();
    let found = all(&mut read).await;
    assert_eq!(found.len(), 140_001);
    assert!(found.windows(2).all(|two| two[0].0 < two[1].0));

    // A chart of it keeps what stands out, and nothing that is none of it.
    psql.execute(
        "update system_metrics set value = -5e6 where value = 70001",
        &[],
    )
    .await
    .unwrap();
    psql.execute("update system_metrics set value = 5e6 where value = 3", &[])
        .await
        .unwrap();
    let mut read = store.metrics().points(&selector, 100, None).await.unwrap();
    let chart = read.next().await.unwrap().unwrap();
    assert!(
        (20..=100).contains(&chart.points.len()),
        "{}",
        chart.points.len()
    );
    let values: Vec<f64> = chart.points.iter().map(|point| point.1).collect();
    assert!(values.contains(&5e6) && values.contains(&-5e6));
    assert!(chart.points.windows(2).all(|two| two[0].0 < two[1].0));
    assert_eq!(chart.points[0].0, found[0].0);
    assert_eq!(chart.points.last().unwrap().0, found.last().unwrap().0);
    assert_eq!((read.next().await.unwrap(), read.rest()), (None, None));
}

#[tokio::test]
async fn charts_of_many_series_stop_between_series() {
    let db = TestDb::new().await;
    four_series(&db.store().await).await;
    let selector = selector(Some("api"), None, None);
    let charts = async |max: &str| {
        let settings = db.settings_with(&[("UTXOIQ_STORE_METRICS__MAX_SAMPLES_PER_READ", max)]);
        let store = Store::open(settings).unwrap();
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let mut read = store.metrics().points(&selector, 4, after).await.unwrap();
            loop {
                match read.next().await {
                    Ok(Some(chart)) => {
                        found.push((Arc::clone(&chart.series).id, chart.points.len()));
                    }
                    Ok(None) => break,
                    Err(error) => return Err(error.code()),
                }
            }
            after = read.rest();
            if after.is_none() {
                return Ok(found);
            }
        }
    };
    let whole = charts("1000").await.unwrap();
    let counts: Vec<usize> = whole.iter().map(|chart| chart.1).collect();
    // They only fall: the first is the greatest, the last the least.
    assert_eq!(counts, [2, 1, 2]);
    // Ten times as many samples are looked at: 100, 110, and so on.
    for max in ["10", "11", "14", "15"] {
        assert_eq!(charts(max).await.as_ref(), Ok(&whole), "{max}");
    }
    assert_eq!(charts("9").await, Err("too_many_samples"));
}

#[tokio::test]
async fn a_read_that_is_given_up_leaves_nothing_behind_and_only_so_many_run_at_once() {
    let db = TestDb::new().await;
    let settings = db.settings_with(&[("UTXOIQ_STORE_METRICS__MAX_SERIES_PER_READ", "3")]);
    let store = Store::open(settings).unwrap();
    four_series(&db.store().await).await;
    let psql = db.admin().await;
    psql.batch_execute(
        "insert into system_metrics (series_id, sampled_at, value)
         select min(id), timestamptz '2026-03-10 00:00Z' + n * interval '1 second', n
         from metric_series, generate_series(1, 40000) n group by n on conflict do nothing",
    )
    .await
    .unwrap();
    let selector = selector(Some("api"), Some("cpu"), None);
    let mut reads = Vec::new();
    for _ in 0..4 {
        let mut read = store.metrics().samples(&selector, None).await.unwrap();
        assert!(read.next().await.unwrap().is_some());
        reads.push(read);
    }
    let refused = store.metrics().samples(&selector, None).await.unwrap_err();
    assert_eq!(refused.code(), "reads_busy");
    drop(reads);
    let open = "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in tr%'";
    let began = std::time::Instant::now();
    while number(&psql, open).await > 0 {
        assert!(began.elapsed().as_secs() < 5, "a transaction was left open");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let mut read = store.metrics().samples(&selector, None).await.unwrap();
    let found = all(&mut read).await;
    assert!(found.len() > 40_000);

    store_all(&store, batch(&named("api", "mem", "x"), [(at(0), 0.0)])).await;
    let wide = Selector {
        metric_type: None,
        ..selector
    };
    let refused = store.metrics().samples(&wide, None).await.unwrap_err();
    assert_eq!(refused.code(), "too_many_series_matched");
}
