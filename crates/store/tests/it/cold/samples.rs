//! Samples out of an archive, beside a plain look at all of them.

use futures_util::StreamExt as _;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use utxoiq_store::cold::{ColdSample, Dataset, Fetched, SampleRange};

use super::support::{Cold, copy, fill_samples, key, names};
use crate::support::TestDb;

async fn read(fetched: &Fetched, range: SampleRange) -> Vec<ColdSample> {
    let mut samples = fetched.samples(range).await.unwrap();
    let mut all = Vec::new();
    while let Some(some) = samples.next().await.unwrap() {
        assert!(!some.is_empty());
        all.extend(some);
    }
    all
}

#[tokio::test]
async fn any_range_of_any_series_is_what_a_plain_look_at_all_samples_gives() {
    let db = TestDb::empty().await;
    let client = db.admin().await;
    // Two row groups and a bit, series that begin and end in the middle of pages.
    fill_samples(&client, 17, 18_001).await;
    client
        .batch_execute("delete from metrics where series_id % 10 = 3 or (series_id = 5 and sampled_at > '2026-08-01 00:10Z')")
        .await
        .unwrap();
    let rows = client
        .query(
            "select series_id, (extract(epoch from sampled_at) * 1000000)::int8, value, metadata from metrics order by 1, 2",
            &[],
        )
        .await
        .unwrap();
    let all: Vec<ColdSample> = rows
        .iter()
        .map(|row| ColdSample {
            series_id: row.get(0),
            at: row.get(1),
            value: row.get(2),
            metadata: row.get::<_, Option<String>>(3).map(Into::into),
        })
        .collect();
    let cold = Cold::new();
    let key = key(Dataset::Metrics);
    let copied = copy(&client, Dataset::Metrics).await;
    let written = cold
        .store
        .write(key, copied, Some(&names(1..18)))
        .await
        .unwrap();
    let fetched = cold.store.prove(key, &written).await.unwrap();
    let (first, last) = (all[0].at, all.last().unwrap().at);
    let everything = SampleRange {
        series: (-5..25).collect(),
        from: i64::MIN,
        to: i64::MAX,
    };
    assert_eq!(read(&fetched, everything).await, all);
    // The last sample of each page and the first of the next, each alone.
    for at in (0..all.len()).filter(|at| [0, 8_191].contains(&(at % 8_192))) {
        let sample = &all[at];
        let range = SampleRange {
            series: vec![sample.series_id],
            from: sample.at,
            to: sample.at + 1,
        };
        assert_eq!(
            read(&fetched, range.clone()).await,
            std::slice::from_ref(sample),
            "{range:?}"
        );
        assert_eq!(
            fetched.newest(range, 5).await.unwrap(),
            std::slice::from_ref(sample)
        );
    }
    let mut random = StdRng::seed_from_u64(7);
    for turn in 0..120 {
        let mut series: Vec<i32> = (0..random.random_range(0..6))
            .map(|_| random.random_range(-1..20))
            .collect();
        series.sort_unstable();
        series.dedup();
        let edge = 2_000_000;
        let mut times = [0; 2].map(|_| random.random_range(first - edge..last + edge));
        if turn % 3 == 0 {
            // On a sample, and the one after.
            times = times.map(|time: i64| time / 1_000_000 * 1_000_000);
            times[1] = times[0] + i64::from(turn) * 1_000_000;
        }
        times.sort_unstable();
        let [from, to] = times;
        let range = SampleRange { series, from, to };
        let wanted: Vec<ColdSample> = all
            .iter()
            .filter(|sample| {
                range.series.contains(&sample.series_id) && (from..to).contains(&sample.at)
            })
            .cloned()
            .collect();
        assert_eq!(read(&fetched, range.clone()).await, wanted, "{range:?}");
        for limit in [0, 1, 100, 9_000] {
            let newest = fetched.newest(range.clone(), limit).await.unwrap();
            let of_series = |id: &i32| {
                let of = wanted.iter().rev().filter(|sample| sample.series_id == *id);
                of.take(limit).cloned().collect::<Vec<_>>()
            };
            let wanted: Vec<ColdSample> = range.series.iter().flat_map(of_series).collect();
            assert_eq!(newest, wanted, "{range:?}, {limit}");
        }
    }
}

#[tokio::test]
async fn series_out_of_order_are_refused() {
    let db = TestDb::empty().await;
    let client = db.admin().await;
    fill_samples(&client, 2, 10).await;
    let cold = Cold::new();
    let key = key(Dataset::Metrics);
    let copied = copy(&client, Dataset::Metrics).await;
    // Nobody knows what the second series is called.
    let error = cold
        .store
        .write(key, copied, Some(&names(1..2)))
        .await
        .unwrap_err();
    assert!(error.message().contains("series 2"), "{error:?}");
    let sql = "copy (select series_id, sampled_at, value, metadata from metrics order by sampled_at) to stdout (format binary)";
    let rows = utxoiq_store::db::Copied::over(client.copy_out(sql).await.unwrap());
    let error = cold
        .store
        .write(key, rows, Some(&names(1..3)))
        .await
        .unwrap_err();
    assert!(error.message().contains("order"), "{error:?}");
    // What broke off left nothing.
    assert_eq!(cold.store.list().count().await, 0);
}
