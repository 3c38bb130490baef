//! While days move.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tempfile::TempDir;
use utxoiq_store::{
    Kind, Store,
    metrics::{
        Interval,
        read::{
            Selector,
            page::{SamplesPage, SamplesStart},
        },
    },
    worker,
};

use super::{DAYS, Numbers, first, ranges, seed, selector, stream};
use crate::{
    metrics::read::{render, text},
    retention::{House, after, day, start},
};

/// All pages of a selector, as one text; between two pages, retention runs on the next day.
async fn pages(
    store: &Store,
    selector: &Selector,
    limit: i64,
    mut between: Option<(&House, &mut u64)>,
) -> String {
    let (mut all, mut start) = (String::new(), SamplesStart::Offset(0));
    loop {
        let page = SamplesPage { limit, start };
        let page = store.metrics().newest(selector, page, None, &render).await;
        let page = page.unwrap();
        all.push_str(&text(&page));
        match page.next {
            Some(next) => start = SamplesStart::After(next),
            None => return all,
        }
        if let Some((house, today)) = &mut between {
            **today += 1;
            house.run_on(after(first(), **today)).await;
        }
    }
}

#[tokio::test]
async fn a_walk_from_page_to_page_gives_each_sample_once_while_days_are_archived() {
    let house = House::on("2026-01-01").await;
    seed(&house, &mut Numbers(5)).await;
    let whole = ranges()[0];
    for (service, limit) in [(Some("api"), 60), (None, 130)] {
        let selector = selector(service, None, None, whole);
        let before = pages(&house.store, &selector, 10_000, None).await;
        assert!(before.len() > 1_000);
        let mut today = 90;
        let walked = pages(&house.store, &selector, limit, Some((&house, &mut today)));
        assert_eq!(walked.await, before);
        assert!(today > 92);
    }
    assert_eq!(house.number("select count(*) from system_metrics").await, 0);
}

/// Each reads in its way, again and again, and compares.
async fn read_on(store: Store, which: usize, is_over: Arc<AtomicBool>, reads: Arc<AtomicU64>) {
    let whole = ranges()[0];
    let selector = match which {
        0 | 2 => selector(Some("api"), Some("latency"), None, whole),
        _ => selector(None, None, None, whole),
    };
    let ragged = Selector {
        from: ranges()[2].0,
        to: ranges()[2].1,
        ..selector.clone()
    };
    let mut before = None;
    while !is_over.load(SeqCst) {
        let given = match which {
            0 | 1 => pages(&store, &selector, 10_000, None).await,
            2 => stream(&store, &selector).await,
            _ => {
                let now = start(after(first(), 200));
                let metrics = store.metrics();
                let given = metrics.aggregate(&ragged, Interval::Day, None, now).await;
                format!("{:?}", given.unwrap())
            }
        };
        assert_eq!(
            before.get_or_insert(given.clone()),
            &given,
            "reader {which}"
        );
        reads.fetch_add(1, SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_miss_no_sample_and_read_none_twice_while_day_after_day_is_archived() {
    let house = House::on("2026-01-01").await;
    seed(&house, &mut Numbers(6)).await;
    // Between the detachment and its commit there is time to read.
    house
        .admin
        .batch_execute(
            "create function dawdle() returns trigger language plpgsql as $$ begin
                 if new.state = 'detached' then perform pg_sleep(0.2); end if;
                 return new;
             end $$;
             create trigger dawdle before update on archives for each row execute function dawdle()",
        )
        .await
        .unwrap();
    let (is_over, reads) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let readers: Vec<_> = (0..4)
        .map(|which| {
            let store = house.another();
            tokio::spawn(read_on(
                store,
                which,
                Arc::clone(&is_over),
                Arc::clone(&reads),
            ))
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    for today in 91..91 + DAYS {
        house.run_on(after(first(), today)).await;
    }
    // Long reads may have been in the way.
    for _ in 0..20 {
        if house.number("select count(*) from system_metrics").await == 0 {
            break;
        }
        house.run_on(after(first(), 91 + DAYS)).await;
    }
    is_over.store(true, SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
    assert_eq!(house.number("select count(*) from system_metrics").await, 0);
    assert!(reads.load(SeqCst) > 20, "{reads:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_on_other_days_waits_long_while_days_are_archived() {
    let house = House::on("2026-01-01").await;
    seed(&house, &mut Numbers(7)).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let client = house.db.admin().await;
    let stop = Arc::clone(&is_over);
    let watching = tokio::spawn(async move {
        let sql = "select count(*) from system_metrics where sampled_at >= '2026-01-06Z' and sampled_at < '2026-01-06 01:00Z'";
        let mut longest = Duration::ZERO;
        while !stop.load(SeqCst) {
            let began = Instant::now();
            client.query_one(sql, &[]).await.unwrap();
            longest = longest.max(began.elapsed());
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        longest
    });
    let (reading, reads) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let reader = tokio::spawn(read_on(house.another(), 1, Arc::clone(&reading), reads));
    for today in 91..90 + DAYS {
        house.run_on(after(first(), today)).await;
    }
    reading.store(true, SeqCst);
    is_over.store(true, SeqCst);
    let longest = watching.await.unwrap();
    reader.await.unwrap();
    assert!(longest < Duration::from_millis(500), "{longest:?}");
}

/// What cannot be read, with its code; what can, with its length.
async fn outcome(store: &Store, selector: &Selector) -> Vec<Result<usize, &'static str>> {
    let metrics = store.metrics();
    let page = SamplesPage {
        limit: 10_000,
        start: SamplesStart::Offset(0),
    };
    let now = start(after(first(), 200));
    let told = |error: utxoiq_store::Error| {
        assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
        error.code()
    };
    let paged = metrics.newest(selector, page, None, &render).await;
    let summed = metrics.aggregate(selector, Interval::Hour, None, now).await;
    let streamed = async {
        let mut read = metrics.samples(selector, None).await?;
        let mut count = 0;
        while let Some(part) = read.next().await? {
            count += part.samples.len();
        }
        Ok(count)
    };
    vec![
        paged.map(|page| page.count).map_err(told),
        summed.map(|summed| summed.buckets.len()).map_err(told),
        streamed.await.map_err(told),
    ]
}

#[tokio::test]
async fn what_is_in_the_database_is_read_while_archives_cannot_be() {
    let house = House::on("2026-01-01").await;
    let first = day("2026-01-01");
    let times = |day: u64| {
        let at = move |n: i64| start(after(first, day)) + chrono::TimeDelta::minutes(7 * n);
        (0..100).map(at).collect::<Vec<_>>()
    };
    house.samples("a", &times(0)).await;
    house.samples("a", &times(1)).await;
    house.roll_up_to(after(first, 4)).await;
    house.run_on(after(first, 91)).await;
    let range = |from: u64, to: u64| {
        let at = |day: u64, second: i64| {
            let at = start(after(first, day)) + chrono::TimeDelta::seconds(second);
            utxoiq_store::metrics::micros(at)
        };
        selector(
            Some("api"),
            Some("latency"),
            None,
            (at(from, 100), at(to, 70_000)),
        )
    };
    let (cold, hot) = (range(0, 0), range(1, 1));
    let fine = outcome(&house.another(), &hot).await;
    assert!(
        fine.iter()
            .all(|outcome| outcome.is_ok_and(|count| count > 10))
    );
    assert!(
        outcome(&house.another(), &cold)
            .await
            .iter()
            .all(Result::is_ok)
    );

    let empty = TempDir::new().unwrap();
    let own = TempDir::new().unwrap();
    let folder = format!("file://{}", empty.path().display());
    let lost = [
        ("UTXOIQ_STORE_COLD__URL", folder.as_str()),
        (
            "UTXOIQ_STORE_COLD__CACHE_DIR",
            own.path().join("c").to_str().unwrap(),
        ),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let lost: Vec<_> = lost
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let none = house.db.settings();
    let stores = [
        (house.another_with(&lost), "cold_object_missing"),
        (Store::open(none).unwrap(), "no_cold_store"),
    ];
    for (store, code) in stores {
        // Together, so that they share loads of cached hours.
        let (of_cold, of_hot) = tokio::join!(outcome(&store, &cold), outcome(&store, &hot));
        assert_eq!(of_cold, vec![Err(code); 3]);
        assert_eq!(of_hot, fine, "{code}");
    }
    // What has expired is nowhere, and asked of nobody; copies of it go, too, and no others.
    let copies = own.path().join("kept");
    let keeping = [("UTXOIQ_STORE_COLD__CACHE_DIR", copies.to_str().unwrap())];
    let keeping = house.another_with(&keeping);
    assert!(outcome(&keeping, &cold).await.iter().all(Result::is_ok));
    let count = || std::fs::read_dir(&copies).unwrap().count();
    assert_eq!(worker::copies::purge(&keeping).await.unwrap(), 0);
    assert_eq!(count(), 1);
    house.run_on(after(first, 456)).await;
    assert_eq!(worker::copies::purge(&keeping).await.unwrap(), 1);
    assert_eq!(count(), 0);
    let gone = outcome(&house.another_with(&lost), &cold).await;
    assert_eq!(gone, vec![Ok(0); 3]);
}
